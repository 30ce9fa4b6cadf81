//! How each signal reaches an OTLP endpoint: the `OTEL_EXPORTER_OTLP_*` variables of the "OpenTelemetry Protocol Exporter"
//! specification, the batch span processor's `OTEL_BSP_*` and the periodic metric reader's `OTEL_METRIC_EXPORT_*`.

mod reading;

use std::path::PathBuf;
use std::time::Duration;

use http::uri::{PathAndQuery, Scheme};
use http::{HeaderName, HeaderValue, Uri};

use crate::telemetry::Signal;

/// Where and how one signal is sent.
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
    /// What is shown to a backend that asks who calls.
    pub client: Option<ClientIdentity>,
}

/// The client's side of mutual TLS, each in PEM format.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClientIdentity {
    /// File of the certificate and those that lead to its authority.
    pub certificate: PathBuf,
    /// File of its private key.
    pub key: PathBuf,
}

/// An absolute URL with scheme `http` or `https` and a path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endpoint(Uri);

impl Endpoint {
    /// Where a signal goes unless told otherwise.
    pub(super) fn default_of(signal: Signal, protocol: Protocol) -> Self {
        Self(match (protocol, signal) {
            (Protocol::Grpc, _) => Uri::from_static("http://localhost:4317/"),
            (_, Signal::Traces) => Uri::from_static("http://localhost:4318/v1/traces"),
            (_, Signal::Metrics) => Uri::from_static("http://localhost:4318/v1/metrics"),
        })
    }

    /// Reads a URL.
    ///
    /// - `insecure`: without a scheme, as gRPC allows it, no TLS is meant.
    /// - `base_of`: the URL is a base, to which the path of this signal is added.
    pub(super) fn parse(
        text: &str,
        protocol: Protocol,
        insecure: bool,
        base_of: Option<Signal>,
    ) -> Result<Self, &'static str> {
        let with_scheme;
        let text = match (text.contains("://"), protocol) {
            (true, _) => text,
            (false, Protocol::HttpProtobuf | Protocol::HttpJson) => return Err("the scheme is missing"),
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
        if let Some(signal) = base_of {
            let path = parts.path_and_query.as_ref().map_or("/", PathAndQuery::path);
            let path = format!("{}{}", path.trim_end_matches('/'), path_of(signal));
            parts.path_and_query = Some(path.parse().map_err(|_| "its path is no URL path")?);
        }
        Uri::from_parts(parts).map(Self).map_err(|_| "it is no URL")
    }

    /// The URL. With gRPC its path says nothing.
    #[must_use]
    pub fn uri(&self) -> &Uri {
        &self.0
    }

    /// Its port, also where the URL leaves that to the scheme.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.0.port_u16().unwrap_or(if self.is_secure() { 443 } else { 80 })
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
    /// JSON over HTTP/1.1.
    HttpJson,
}

/// Compression of request bodies.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Compression {
    /// None.
    #[default]
    None,
    /// gzip.
    Gzip,
    /// Zstandard.
    Zstd,
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
    /// Bound of sending one batch, repetitions included, once the queue fills up behind it; and of the flush at the end.
    pub timeout: Duration,
}

/// When metrics are collected and sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MetricReading {
    /// From one collection to the next.
    pub interval: Duration,
    /// Bound of sending one collection, repetitions included, once the next one waits.
    pub timeout: Duration,
}

impl Default for MetricReading {
    fn default() -> Self {
        Self { interval: Duration::from_secs(60), timeout: Duration::from_secs(30) }
    }
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

impl Protocol {
    const ALL: [Self; 3] = [Self::Grpc, Self::HttpProtobuf, Self::HttpJson];

    /// By the name that the environment has for it.
    pub(super) fn named(name: &str) -> Result<Self, &'static str> {
        let named = Self::ALL.into_iter().find(|protocol| protocol.name() == name);
        named.ok_or("write grpc, http/protobuf or http/json")
    }

    /// As the environment spells it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Grpc => "grpc",
            Self::HttpProtobuf => "http/protobuf",
            Self::HttpJson => "http/json",
        }
    }
}

impl Compression {
    const ALL: [Self; 3] = [Self::None, Self::Gzip, Self::Zstd];

    /// By the name that the environment has for it.
    pub(super) fn named(name: &str) -> Result<Self, &'static str> {
        let named = Self::ALL.into_iter().find(|compression| compression.name() == name);
        named.ok_or("write gzip, zstd or none")
    }

    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Gzip => "gzip",
            Self::Zstd => "zstd",
        }
    }
}

/// What the general endpoint is given over HTTP.
const fn path_of(signal: Signal) -> &'static str {
    match signal {
        Signal::Traces => "/v1/traces",
        Signal::Metrics => "/v1/metrics",
    }
}

#[cfg(test)]
#[path = "otlp_tests.rs"]
mod tests;
