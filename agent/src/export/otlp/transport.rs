//! One attempt to send one request, over gRPC or HTTP. Knows nothing of what is in it.

mod grpc;
mod http;
pub(super) mod tls;

use std::time::Duration;

use bytes::Bytes;
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::connect::HttpConnector;

use super::super::OutputError;
use super::outcome::Outcome;
use super::payload::Encoding;
use crate::config::{Otlp, Protocol};
use crate::telemetry::Signal;

/// As the OTLP exporter specification advises: what exports, in which language, of which version.
pub(crate) const USER_AGENT: &str = concat!("Sonde-OTLP-Exporter-Rust/", env!("CARGO_PKG_VERSION"));

/// Bytes of an answer that are read. What a backend has to say is short.
const ANSWER_BYTES: usize = 64 << 10;

/// A connection that was silent for so long is asked whether the other end is still there.
const KEEP_ALIVE: Duration = Duration::from_secs(30);

/// A client that connects when it first sends, and again when it has to, each time by the name's addresses of that moment.
#[derive(Debug)]
pub(super) struct Transport {
    encoding: Encoding,
    client: Client,
}

#[derive(Debug)]
enum Client {
    Grpc(grpc::Grpc),
    Http(http::Http<HttpConnector>),
    Https(http::Http<HttpsConnector<HttpConnector>>),
}

/// A request's body, compressed where a client leaves that to others. Sent as often as it has to be.
#[derive(Debug)]
pub(super) struct Request(Bytes);

impl Transport {
    /// Prepares a client; connects nowhere yet. Must be called within a tokio runtime.
    ///
    /// # Errors
    /// When a certificate cannot be used.
    pub(super) fn new(otlp: &Otlp, signal: Signal) -> Result<Self, OutputError> {
        let encoding = match otlp.protocol {
            Protocol::Grpc | Protocol::HttpProtobuf => Encoding::Protobuf,
            Protocol::HttpJson => Encoding::Json,
        };
        let is_grpc = otlp.protocol == Protocol::Grpc;
        let plain = connector(otlp);
        let client = match (is_grpc, otlp.endpoint.is_secure()) {
            (true, false) => Client::Grpc(grpc::Grpc::new(otlp, signal, plain)?),
            (true, true) => Client::Grpc(grpc::Grpc::new(otlp, signal, secure(otlp, plain)?)?),
            (false, false) => Client::Http(http::Http::new(otlp, plain)),
            (false, true) => Client::Https(http::Http::new(otlp, secure(otlp, plain)?)),
        };
        Ok(Self { encoding, client })
    }

    /// How a body has to be written.
    pub(super) const fn encoding(&self) -> Encoding {
        self.encoding
    }

    /// Makes a request of a body.
    ///
    /// # Errors
    /// When it cannot be compressed.
    pub(super) fn request(&self, body: Vec<u8>) -> std::io::Result<Request> {
        match &self.client {
            Client::Grpc(_) => Ok(body),
            Client::Http(http) => http.compressed(body),
            Client::Https(https) => https.compressed(body),
        }
        .map(|body| Request(Bytes::from(body)))
    }

    /// Sends a request once. Whoever calls bounds the time.
    pub(super) async fn send(&self, Request(body): &Request) -> Outcome {
        let body = body.clone();
        match &self.client {
            Client::Grpc(grpc) => grpc.send(body).await,
            Client::Http(http) => http.send(body).await,
            Client::Https(https) => https.send(body).await,
        }
    }
}

fn connector(otlp: &Otlp) -> HttpConnector {
    let mut connector = HttpConnector::new();
    connector.set_connect_timeout(Some(otlp.timeout));
    connector.set_nodelay(true);
    connector.set_keepalive(Some(KEEP_ALIVE));
    // A host that is gone without a word: what was sent to it and not acknowledged ends the connection, so that the next
    // attempt asks for its address again. Else the kernel would go on for a quarter of an hour.
    connector.set_tcp_user_timeout(Some(otlp.timeout.max(Duration::from_secs(1))));
    connector
}

/// Built for https only: the roots of trust alone take a megabyte.
fn secure(otlp: &Otlp, mut plain: HttpConnector) -> Result<HttpsConnector<HttpConnector>, OutputError> {
    plain.enforce_http(false);
    let builder = HttpsConnectorBuilder::new().with_tls_config(tls::client(otlp)?).https_only();
    Ok(match otlp.protocol {
        Protocol::Grpc => builder.enable_http2().wrap_connector(plain),
        Protocol::HttpProtobuf | Protocol::HttpJson => builder.enable_http1().wrap_connector(plain),
    })
}
