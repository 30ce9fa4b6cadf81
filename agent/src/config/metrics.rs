//! How metrics are counted and told: "Environment Variable Specification", metrics SDK configuration; "OTLP metrics exporter",
//! additional configuration; and the listener for scrapers and health.

use std::net::{IpAddr, Ipv4Addr, SocketAddr, ToSocketAddrs};
use std::str::FromStr;

use super::cli::OutputArgs;
use super::outputs::OutputSpec;
use super::reading::{Reading, Source};
use crate::metrics::{Aggregation, ExemplarFilter, Stream, Temporality};

/// Where Prometheus exporters listen unless told otherwise.
const PORT: u16 = 9464;

/// Metrics as configured.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MetricsConfig {
    /// Where metrics go beside the listener; empty for nowhere.
    pub outputs: Vec<OutputSpec>,
    /// How outputs are told of histograms.
    pub stream: Stream,
    /// How they are told of counters that are read when metrics are collected.
    pub counters: Temporality,
    /// What may become an exemplar.
    pub exemplars: ExemplarFilter,
    /// Where scrapers and probes of health are answered.
    pub listen: Option<SocketAddr>,
    /// Scrapers are told of metrics.
    pub pulled: bool,
    /// Metrics derived from spans, under the names of Tempo's metrics generator.
    pub span_metrics: bool,
}

/// `OTEL_EXPORTER_OTLP_METRICS_TEMPORALITY_PREFERENCE`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Preference {
    #[default]
    Cumulative,
    Delta,
    LowMemory,
}

/// Where metrics go.
struct Chosen {
    outputs: Vec<OutputSpec>,
    /// Scrapers are to be answered.
    scraped: bool,
    /// Nowhere, and no scraper is told of any either.
    off: bool,
}

impl Reading<'_> {
    /// `outputs` are those of spans, `traces_by` who chose them.
    pub(super) fn metrics(
        &mut self,
        args: &OutputArgs,
        outputs: &[OutputSpec],
        traces_by: &Source,
    ) -> MetricsConfig {
        let preference = self.value(
            "metrics.temporality",
            &["OTEL_EXPORTER_OTLP_METRICS_TEMPORALITY_PREFERENCE"],
            Preference::default(),
            |preference| preference.name().to_owned(),
            |text| match text.to_ascii_lowercase().as_str() {
                "cumulative" => Ok(Preference::Cumulative),
                "delta" => Ok(Preference::Delta),
                "lowmemory" => Ok(Preference::LowMemory),
                _ => Err("write cumulative, delta or lowmemory"),
            },
        );
        let aggregation = self.value(
            "metrics.histogram",
            &["OTEL_EXPORTER_OTLP_METRICS_DEFAULT_HISTOGRAM_AGGREGATION"],
            Aggregation::default(),
            |aggregation| match aggregation {
                Aggregation::Explicit => "explicit_bucket_histogram".to_owned(),
                Aggregation::Exponential => "base2_exponential_bucket_histogram".to_owned(),
            },
            |text| match text.to_ascii_lowercase().as_str() {
                "explicit_bucket_histogram" => Ok(Aggregation::Explicit),
                "base2_exponential_bucket_histogram" => Ok(Aggregation::Exponential),
                _ => Err("write explicit_bucket_histogram or base2_exponential_bucket_histogram"),
            },
        );
        let exemplars = self.value(
            "metrics.exemplars",
            &["OTEL_METRICS_EXEMPLAR_FILTER"],
            ExemplarFilter::default(),
            |filter| match filter {
                ExemplarFilter::TraceBased => "trace_based".to_owned(),
                ExemplarFilter::AlwaysOn => "always_on".to_owned(),
                ExemplarFilter::AlwaysOff => "always_off".to_owned(),
            },
            |text| match text.to_ascii_lowercase().as_str() {
                "trace_based" => Ok(ExemplarFilter::TraceBased),
                "always_on" => Ok(ExemplarFilter::AlwaysOn),
                "always_off" => Ok(ExemplarFilter::AlwaysOff),
                _ => Err("write trace_based, always_on or always_off"),
            },
        );
        let span_metrics = self.value(
            "metrics.span_metrics",
            &["SONDE_METRICS_SPAN_METRICS"],
            false,
            bool::to_string,
            |text| match text {
                "true" => Ok(true),
                "false" => Ok(false),
                _ => Err("write true or false"),
            },
        );
        let Chosen { outputs, scraped, off } = self.metric_outputs(args, outputs, traces_by);
        let listen = self.listen(args, scraped);
        let temporality = match preference {
            Preference::Cumulative => Temporality::Cumulative,
            Preference::Delta | Preference::LowMemory => Temporality::Delta,
        };
        let counters = match preference {
            Preference::Delta => Temporality::Delta,
            Preference::Cumulative | Preference::LowMemory => Temporality::Cumulative,
        };
        let pulled = listen.is_some() && !off;
        MetricsConfig {
            outputs,
            stream: Stream { temporality, aggregation },
            counters,
            exemplars,
            listen,
            pulled,
            span_metrics,
        }
    }

    /// `OTEL_METRICS_EXPORTER` where no flag chose outputs; there `none` still turns metrics off. Else where spans go, or the
    /// endpoint that is there for metrics alone. And whether scrapers are to be answered.
    fn metric_outputs(&mut self, args: &OutputArgs, outputs: &[OutputSpec], traces_by: &Source) -> Chosen {
        let exporter = "OTEL_METRICS_EXPORTER";
        let (mut named, mut scraped, mut any) = (Vec::new(), false, false);
        if let Some(list) = self.environment.text(exporter).map(str::to_owned) {
            for name in list.split(',').map(str::trim).filter(|name| !name.is_empty()) {
                let output = match name {
                    "otlp" => Some(OutputSpec::Otlp),
                    "console" => Some(OutputSpec::Console),
                    "otlp/stdout" => Some(OutputSpec::Json(None)),
                    "none" => None,
                    "prometheus" => {
                        scraped = true;
                        None
                    }
                    _ => {
                        self.warnings.push(format!(
                            "{exporter}: {name} is ignored: write otlp, console, otlp/stdout, prometheus or none"
                        ));
                        continue;
                    }
                };
                any = true;
                named.extend(output);
            }
        }
        let off = any && named.is_empty() && !scraped;
        let endpoint = "OTEL_EXPORTER_OTLP_METRICS_ENDPOINT";
        let (mut outputs, source) = if any && (off || args.outputs.is_empty()) {
            (named, Source::Variable(exporter))
        } else if *traces_by == Source::Default && self.environment.text(endpoint).is_some() {
            (vec![OutputSpec::Otlp], Source::Variable(endpoint))
        } else {
            (outputs.to_vec(), traces_by.clone())
        };
        outputs.dedup();
        let shown: Vec<String> = outputs.iter().map(ToString::to_string).collect();
        self.note(
            "metrics.outputs",
            if shown.is_empty() { "none".to_owned() } else { shown.join(",") },
            source,
        );
        Chosen { outputs, scraped, off }
    }

    fn listen(&mut self, args: &OutputArgs, scraped: bool) -> Option<SocketAddr> {
        if let Some(Listen(address)) = args.listen {
            self.note("listen", address.to_string(), Source::Flag("--listen"));
            return Some(address);
        }
        let name = "SONDE_LISTEN";
        if let Some(text) = self.environment.text(name).map(str::to_owned) {
            match text.parse::<Listen>() {
                Ok(Listen(address)) => {
                    self.note("listen", address.to_string(), Source::Variable(name));
                    return Some(address);
                }
                Err(hint) => self.refuse(name, &format!("{text} does not fit"), &hint),
            }
        }
        if !scraped {
            self.note("listen", "off".to_owned(), Source::Default);
            return None;
        }
        let host = self.value(
            "listen.host",
            &["OTEL_EXPORTER_PROMETHEUS_HOST"],
            IpAddr::V4(Ipv4Addr::LOCALHOST),
            IpAddr::to_string,
            |text| {
                if text == "localhost" {
                    Ok(Ipv4Addr::LOCALHOST.into())
                } else {
                    text.parse().map_err(|_| "write an IP address or localhost")
                }
            },
        );
        let port =
            self.value("listen.port", &["OTEL_EXPORTER_PROMETHEUS_PORT"], PORT, u16::to_string, |text| {
                text.parse().map_err(|_| "write a port")
            });
        Some(SocketAddr::new(host, port))
    }
}

impl Preference {
    const fn name(self) -> &'static str {
        match self {
            Self::Cumulative => "cumulative",
            Self::Delta => "delta",
            Self::LowMemory => "lowmemory",
        }
    }
}

/// An address to listen on. A port alone means this machine only.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Listen(pub SocketAddr);

impl FromStr for Listen {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if let Ok(port) = text.strip_prefix(':').unwrap_or(text).parse::<u16>() {
            return Ok(Self(SocketAddr::from((Ipv4Addr::LOCALHOST, port))));
        }
        if let Ok(ip) = text.parse::<IpAddr>() {
            return Ok(Self(SocketAddr::new(ip, PORT)));
        }
        let named = text.strip_prefix("localhost:").and_then(|port| port.parse::<u16>().ok());
        let named = named.and_then(|port| ("localhost", port).to_socket_addrs().ok()?.next());
        text.parse()
            .ok()
            .or(named)
            .map(Self)
            .ok_or_else(|| format!("write an address and a port, such as 127.0.0.1:{PORT}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_port_alone_means_this_machine() {
        for (text, expected) in [
            ("9000", "127.0.0.1:9000"),
            (":9000", "127.0.0.1:9000"),
            ("::1", "[::1]:9464"),
            ("0.0.0.0:1", "0.0.0.0:1"),
        ] {
            assert_eq!(text.parse::<Listen>().unwrap().0.to_string(), expected);
        }
        assert!("somewhere".parse::<Listen>().unwrap_err().contains("127.0.0.1:9464"));
    }
}
