//! The variables themselves, each signal's own before the general one.

use std::path::PathBuf;
use std::time::Duration;

use http::uri::Authority;
use http::{HeaderName, HeaderValue, Uri};

use super::{Batching, ClientIdentity, Compression, Endpoint, MetricReading, Otlp, Protocol, path_of};
use crate::config::ConfigError;
use crate::config::environment;
use crate::config::reading::{Reading, Source};
use crate::telemetry::Signal;

/// A signal's variable and the general one, in the order in which they count.
macro_rules! variables {
    ($signal:expr, $what:literal) => {
        match $signal {
            Signal::Traces => {
                [concat!("OTEL_EXPORTER_OTLP_TRACES_", $what), concat!("OTEL_EXPORTER_OTLP_", $what)]
            }
            Signal::Metrics => {
                [concat!("OTEL_EXPORTER_OTLP_METRICS_", $what), concat!("OTEL_EXPORTER_OTLP_", $what)]
            }
        }
    };
}

/// How `sonde config print` names it.
macro_rules! setting {
    ($signal:expr, $what:literal) => {
        match $signal {
            Signal::Traces => concat!("otlp.traces.", $what),
            Signal::Metrics => concat!("otlp.metrics.", $what),
        }
    };
}

impl Reading<'_> {
    pub(in crate::config) fn batching(&mut self) -> Batching {
        let Batching { delay, queue, batch, timeout } = Batching::default();
        let delay =
            self.value("batch.delay", &["OTEL_BSP_SCHEDULE_DELAY"], delay, millis, environment::duration);
        let queue = self.value(
            "batch.queue",
            &["OTEL_BSP_MAX_QUEUE_SIZE"],
            queue,
            usize::to_string,
            environment::count,
        );
        let batch = self.value(
            "batch.size",
            &["OTEL_BSP_MAX_EXPORT_BATCH_SIZE"],
            batch.min(queue),
            usize::to_string,
            |text| match environment::count(text) {
                Ok(size) if size > queue => {
                    Err("it must not exceed the queue's size, OTEL_BSP_MAX_QUEUE_SIZE")
                }
                other => other,
            },
        );
        let timeout =
            self.value("batch.timeout", &["OTEL_BSP_EXPORT_TIMEOUT"], timeout, millis, environment::timeout);
        Batching { delay, queue, batch, timeout }
    }

    pub(in crate::config) fn metric_reading(&mut self) -> MetricReading {
        let MetricReading { interval, timeout } = MetricReading::default();
        let interval =
            self.value("metrics.interval", &["OTEL_METRIC_EXPORT_INTERVAL"], interval, millis, |text| {
                match environment::duration(text)? {
                    Duration::ZERO => Err("write a positive number of milliseconds"),
                    interval => Ok(interval),
                }
            });
        let timeout = self.value(
            "metrics.timeout",
            &["OTEL_METRIC_EXPORT_TIMEOUT"],
            timeout,
            millis,
            environment::timeout,
        );
        MetricReading { interval, timeout }
    }

    /// How one signal is sent.
    ///
    /// # Errors
    /// When its endpoint is unusable.
    pub(in crate::config) fn otlp(&mut self, signal: Signal) -> Result<Otlp, ConfigError> {
        let protocol = self.value(
            setting!(signal, "protocol"),
            &variables!(signal, "PROTOCOL"),
            Protocol::default(),
            |protocol| protocol.name().to_owned(),
            Protocol::named,
        );
        let endpoint = self.endpoint(signal, protocol)?;
        let headers = self.headers(signal);
        let compression = self.value(
            setting!(signal, "compression"),
            &variables!(signal, "COMPRESSION"),
            Compression::default(),
            |compression| compression.name().to_owned(),
            Compression::named,
        );
        let timeout = self.value(
            setting!(signal, "timeout"),
            &variables!(signal, "TIMEOUT"),
            Duration::from_secs(10),
            millis,
            environment::timeout,
        );
        let certificate =
            self.file(setting!(signal, "certificate"), &variables!(signal, "CERTIFICATE"), "system");
        let client = self.client(signal);
        Ok(Otlp { endpoint, protocol, headers, compression, timeout, certificate, client })
    }

    /// One half of an identity is of no use.
    fn client(&mut self, signal: Signal) -> Option<ClientIdentity> {
        let names = (variables!(signal, "CLIENT_CERTIFICATE"), variables!(signal, "CLIENT_KEY"));
        let certificate = self.file(setting!(signal, "client_certificate"), &names.0, "none");
        let key = self.file(setting!(signal, "client_key"), &names.1, "none");
        let (alone, missing) = match (certificate, key) {
            (Some(certificate), Some(key)) => return Some(ClientIdentity { certificate, key }),
            (None, None) => return None,
            (Some(_), None) => (names.0, names.1),
            (None, Some(_)) => (names.1, names.0),
        };
        let set = self.environment.first(&alone).map_or("", |(name, _)| name);
        let [_, missing] = missing;
        self.warnings.push(format!("{set} is ignored: {missing} has to be set as well"));
        None
    }

    fn file(
        &mut self,
        setting: &'static str,
        names: &[&'static str],
        otherwise: &'static str,
    ) -> Option<PathBuf> {
        self.value(
            setting,
            names,
            None,
            |path: &Option<PathBuf>| {
                path.as_ref().map_or(otherwise.to_owned(), |path| path.display().to_string())
            },
            |text| Ok(Some(PathBuf::from(text))),
        )
    }

    /// A signal's endpoint is used as it is; the general one is a base to which HTTP adds the signal's path. A bad one is
    /// an error: to go on with the default would send the items somewhere else.
    fn endpoint(&mut self, signal: Signal, protocol: Protocol) -> Result<Endpoint, ConfigError> {
        let names @ [own, general] = variables!(signal, "ENDPOINT");
        let insecure = match self.environment.first(&variables!(signal, "INSECURE")) {
            Some((name, _)) => self.environment.boolean(name, &mut self.warnings),
            None => false,
        };
        let (endpoint, source) = match self.environment.first(&names) {
            Some((name, text)) => {
                let base_of = (name == general && protocol != Protocol::Grpc).then_some(signal);
                let endpoint = Endpoint::parse(text, protocol, insecure, base_of).map_err(|problem| {
                    let example = match protocol {
                        Protocol::Grpc => "http://localhost:4317".to_owned(),
                        _ if name == own => format!("http://localhost:4318{}", path_of(signal)),
                        _ => "http://localhost:4318".to_owned(),
                    };
                    ConfigError::Variable {
                        name: name.to_owned(),
                        value: text.to_owned(),
                        problem: problem.to_owned(),
                        hint: format!("write a URL such as {example}"),
                    }
                })?;
                (endpoint, Source::Variable(name))
            }
            None => (Endpoint::default_of(signal, protocol), Source::Default),
        };
        self.note(setting!(signal, "endpoint"), shown(endpoint.uri()), source);
        Ok(endpoint)
    }

    /// `key=value` pairs as in W3C Baggage, without metadata. A pair that cannot be a header is left out.
    fn headers(&mut self, signal: Signal) -> Vec<(HeaderName, HeaderValue)> {
        let names = variables!(signal, "HEADERS");
        let Some((name, text)) = self.environment.first(&names) else {
            self.note(setting!(signal, "headers"), String::new(), Source::Default);
            return Vec::new();
        };
        let mut headers: Vec<(HeaderName, HeaderValue)> = Vec::new();
        for (index, pair) in text.split(',').enumerate().filter(|(_, pair)| !pair.trim().is_empty()) {
            match header(pair) {
                Some(header) => headers.push(header),
                // The text itself may be a secret.
                None => self.warnings.push(format!(
                    "{name}: entry {} is ignored: write name=value, with the value percent-encoded",
                    index + 1
                )),
            }
        }
        let masked: Vec<String> = headers.iter().map(|(name, _)| format!("{name}=***")).collect();
        self.note(setting!(signal, "headers"), masked.join(","), Source::Variable(name));
        headers
    }
}

fn millis(duration: &Duration) -> String {
    format!("{} ms", duration.as_millis())
}

/// A URL without the user and password that it may hold.
fn shown(uri: &Uri) -> String {
    let text = uri.to_string();
    match uri.authority().map(Authority::as_str).and_then(|authority| authority.rsplit_once('@')) {
        Some((secret, _)) => text.replacen(secret, "***", 1),
        None => text,
    }
}

fn header(pair: &str) -> Option<(HeaderName, HeaderValue)> {
    let (name, value) = pair.split_once('=')?;
    let name = HeaderName::try_from(name.trim()).ok()?;
    let mut value = HeaderValue::from_bytes(&percent_decode(value.trim())?).ok()?;
    value.set_sensitive(true);
    Some((name, value))
}

/// `None` where a percent sign is not followed by two hexadecimal digits.
fn percent_decode(text: &str) -> Option<Vec<u8>> {
    let mut bytes = text.bytes();
    let mut decoded = Vec::with_capacity(text.len());
    while let Some(byte) = bytes.next() {
        decoded.push(match byte {
            b'%' => {
                let digit = |byte: u8| char::from(byte).to_digit(16);
                let (high, low) = (digit(bytes.next()?)?, digit(bytes.next()?)?);
                u8::try_from(high << 4 | low).ok()?
            }
            plain => plain,
        });
    }
    Some(decoded)
}
