//! How spans reach an OTLP endpoint: the `OTEL_EXPORTER_OTLP_*` variables of the "OpenTelemetry Protocol Exporter"
//! specification and the batch span processor's `OTEL_BSP_*`.

use std::path::PathBuf;
use std::time::Duration;

use http::uri::{Authority, PathAndQuery, Scheme};
use http::{HeaderName, HeaderValue, Uri};

use super::ConfigError;
use super::environment;
use super::reading::{Reading, Source};

/// Where and how spans are sent.
#[derive(Clone, Debug)]
pub struct Otlp {
    /// Where to.
    pub endpoint: Endpoint,
    /// Over what.
    pub protocol: Protocol,
    /// Sent with every request. Values are secrets.
    pub headers: Vec<(HeaderName, HeaderValue)>,
    /// Of request bodies.
    pub compression: Compression,
    /// Bound of one attempt to send one batch.
    pub timeout: Duration,
    /// PEM file of the certificates that are trusted in place of the system's.
    pub certificate: Option<PathBuf>,
}

/// An absolute URL with scheme `http` or `https` and a path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endpoint(Uri);

impl Endpoint {
    /// The URL. With gRPC its path says nothing.
    #[must_use]
    pub fn uri(&self) -> &Uri {
        &self.0
    }

    /// Whether it wants TLS.
    #[must_use]
    pub fn is_secure(&self) -> bool {
        self.0.scheme() == Some(&Scheme::HTTPS)
    }
}

/// OTLP transport.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Protocol {
    /// Protobuf over gRPC.
    Grpc,
    /// Protobuf over HTTP/1.1: what the specification advises as default.
    #[default]
    HttpProtobuf,
}

/// Compression of request bodies.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Compression {
    /// None.
    #[default]
    None,
    /// gzip.
    Gzip,
}

/// When spans are sent, and how many wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Batching {
    /// Longest time that a span waits for others before it is sent.
    pub delay: Duration,
    /// Spans that wait at most. At the limit the oldest are dropped and counted.
    pub queue: usize,
    /// Spans of one request at most; no more than `queue`.
    pub batch: usize,
    /// Bound of sending one batch, repetitions included, and of the flush at the end.
    pub timeout: Duration,
}

impl Default for Batching {
    fn default() -> Self {
        Self {
            delay: Duration::from_millis(5000),
            // The specification's 2,048 is meant for one process; an agent stands in for all those of its node.
            queue: 16_384,
            batch: 512,
            timeout: Duration::from_millis(30_000),
        }
    }
}

impl Reading<'_> {
    pub(super) fn batching(&mut self) -> Batching {
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

    pub(super) fn otlp(&mut self) -> Result<Otlp, ConfigError> {
        let protocol = self.value(
            "otlp.protocol",
            &["OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL"],
            Protocol::default(),
            |protocol| protocol.name().to_owned(),
            |text| match text {
                "grpc" => Ok(Protocol::Grpc),
                "http/protobuf" => Ok(Protocol::HttpProtobuf),
                _ => Err("write grpc or http/protobuf"),
            },
        );
        let endpoint = self.endpoint(protocol)?;
        let headers = self.headers();
        let compression = self.value(
            "otlp.compression",
            &["OTEL_EXPORTER_OTLP_TRACES_COMPRESSION", "OTEL_EXPORTER_OTLP_COMPRESSION"],
            Compression::default(),
            |compression| compression.name().to_owned(),
            |text| match text {
                "none" => Ok(Compression::None),
                "gzip" => Ok(Compression::Gzip),
                _ => Err("write gzip or none"),
            },
        );
        let timeout = self.value(
            "otlp.timeout",
            &["OTEL_EXPORTER_OTLP_TRACES_TIMEOUT", "OTEL_EXPORTER_OTLP_TIMEOUT"],
            Duration::from_secs(10),
            millis,
            environment::timeout,
        );
        let certificate = self.value(
            "otlp.certificate",
            &["OTEL_EXPORTER_OTLP_TRACES_CERTIFICATE", "OTEL_EXPORTER_OTLP_CERTIFICATE"],
            None,
            |path: &Option<PathBuf>| {
                path.as_ref().map_or("system".to_owned(), |path| path.display().to_string())
            },
            |text| Ok(Some(PathBuf::from(text))),
        );
        let client = ["CLIENT_CERTIFICATE", "CLIENT_KEY", "TRACES_CLIENT_CERTIFICATE", "TRACES_CLIENT_KEY"];
        for name in client.map(|name| format!("OTEL_EXPORTER_OTLP_{name}")) {
            if self.environment.text(&name).is_some() {
                self.warnings
                    .push(format!("{name} is ignored: Sonde shows no certificate of its own to backends"));
            }
        }
        Ok(Otlp { endpoint, protocol, headers, compression, timeout, certificate })
    }

    /// A signal's endpoint is used as it is; the general one is a base to which HTTP adds the signal's path. A bad one is
    /// an error: to go on with the default would send the spans somewhere else.
    fn endpoint(&mut self, protocol: Protocol) -> Result<Endpoint, ConfigError> {
        let (signal, general) = ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT");
        let insecure =
            self.environment.first(&["OTEL_EXPORTER_OTLP_TRACES_INSECURE", "OTEL_EXPORTER_OTLP_INSECURE"]);
        let insecure = match insecure {
            Some((name, _)) => self.environment.boolean(name, &mut self.warnings),
            None => false,
        };
        let (endpoint, source) = match self.environment.first(&[signal, general]) {
            Some((name, text)) => {
                let is_base = name == general && protocol == Protocol::HttpProtobuf;
                let endpoint = parse_endpoint(text, protocol, insecure, is_base).map_err(|problem| {
                    let example = match protocol {
                        Protocol::Grpc => "http://localhost:4317",
                        Protocol::HttpProtobuf if name == signal => "http://localhost:4318/v1/traces",
                        Protocol::HttpProtobuf => "http://localhost:4318",
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
            None => {
                let default = match protocol {
                    Protocol::Grpc => Uri::from_static("http://localhost:4317/"),
                    Protocol::HttpProtobuf => Uri::from_static("http://localhost:4318/v1/traces"),
                };
                (Endpoint(default), Source::Default)
            }
        };
        self.note("otlp.endpoint", shown(endpoint.uri()), source);
        Ok(endpoint)
    }

    /// `key=value` pairs as in W3C Baggage, without metadata. A pair that cannot be a header is left out.
    fn headers(&mut self) -> Vec<(HeaderName, HeaderValue)> {
        let names = ["OTEL_EXPORTER_OTLP_TRACES_HEADERS", "OTEL_EXPORTER_OTLP_HEADERS"];
        let Some((name, text)) = self.environment.first(&names) else {
            self.note("otlp.headers", String::new(), Source::Default);
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
        self.note("otlp.headers", masked.join(","), Source::Variable(name));
        headers
    }
}

impl Protocol {
    /// As the environment spells it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Grpc => "grpc",
            Self::HttpProtobuf => "http/protobuf",
        }
    }
}

impl Compression {
    const fn name(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Gzip => "gzip",
        }
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

fn parse_endpoint(
    text: &str,
    protocol: Protocol,
    insecure: bool,
    is_base: bool,
) -> Result<Endpoint, &'static str> {
    let with_scheme;
    let text = match (text.contains("://"), protocol) {
        (true, _) => text,
        (false, Protocol::HttpProtobuf) => return Err("the scheme is missing"),
        (false, Protocol::Grpc) => {
            with_scheme = format!("{}://{text}", if insecure { "http" } else { "https" });
            &with_scheme
        }
    };
    let mut parts = text.parse::<Uri>().map_err(|_| "it is no URL")?.into_parts();
    if parts.scheme != Some(Scheme::HTTP) && parts.scheme != Some(Scheme::HTTPS) {
        return Err("the scheme must be http or https");
    }
    if parts.authority.as_ref().is_none_or(|authority| authority.host().is_empty()) {
        return Err("the host is missing");
    }
    if is_base {
        let path = parts.path_and_query.as_ref().map_or("/", PathAndQuery::path);
        let path = format!("{}/v1/traces", path.trim_end_matches('/'));
        parts.path_and_query = Some(path.parse().map_err(|_| "its path is no URL path")?);
    }
    Uri::from_parts(parts).map(Endpoint).map_err(|_| "it is no URL")
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

#[cfg(test)]
#[path = "otlp_tests.rs"]
mod tests;
