//! One attempt to send one batch, over gRPC or HTTP.

use std::io::Write;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use flate2::{Compression as Level, write::GzEncoder};
use http::{HeaderMap, HeaderValue, Method, Request, Uri, header};
use http_body_util::{BodyExt, Full, Limited};
use hyper_rustls::{ConfigBuilderExt, HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::{Client, connect::HttpConnector};
use hyper_util::rt::{TokioExecutor, TokioTimer};
use rustls::pki_types::{CertificateDer, pem::PemObject};
use rustls::{ClientConfig, RootCertStore};
use tonic::codec::CompressionEncoding;
use tonic::metadata::MetadataMap;
use tonic::transport::{Certificate, ClientTlsConfig, Endpoint};

use super::super::OutputError;
use super::super::batch::Piece;
use super::encode;
use super::outcome::Outcome;
use crate::config::{Compression, Otlp, Protocol};

/// As the OTLP exporter specification advises: what exports, in which language, of which version.
pub(crate) const USER_AGENT: &str = concat!("Sonde-OTLP-Exporter-Rust/", env!("CARGO_PKG_VERSION"));

/// Bytes of an answer that are read. What a backend has to say is short.
const ANSWER_BYTES: usize = 64 << 10;

/// A connection that was not used for so long is closed: many servers and proxies would do it soon.
const IDLE: Duration = Duration::from_secs(60);

/// A client that connects when it first sends, and again when it has to.
#[derive(Debug)]
pub(super) enum Transport {
    Grpc(Grpc),
    Http(Http<HttpConnector>),
    Https(Http<HttpsConnector<HttpConnector>>),
}

impl Transport {
    /// Prepares a client; connects nowhere yet. Must be called within a tokio runtime.
    ///
    /// # Errors
    /// When a certificate cannot be used.
    pub(super) fn new(otlp: &Otlp) -> Result<Self, OutputError> {
        match (otlp.protocol, otlp.endpoint.is_secure()) {
            (Protocol::Grpc, _) => Grpc::new(otlp).map(Self::Grpc),
            (Protocol::HttpProtobuf, false) => Ok(Self::Http(Http::new(otlp, http_connector(otlp)))),
            (Protocol::HttpProtobuf, true) => {
                // Built for https only: the roots of trust alone take a megabyte.
                let mut connector = http_connector(otlp);
                connector.enforce_http(false);
                let connector = HttpsConnectorBuilder::new()
                    .with_tls_config(tls(otlp.certificate.as_deref())?)
                    .https_only()
                    .enable_http1()
                    .wrap_connector(connector);
                Ok(Self::Https(Http::new(otlp, connector)))
            }
        }
    }

    /// Sends spans once. Whoever calls bounds the time.
    pub(super) async fn send(&self, pieces: &[Piece]) -> Outcome {
        match self {
            Self::Grpc(grpc) => grpc.send(pieces).await,
            Self::Http(http) => http.send(pieces).await,
            Self::Https(https) => https.send(pieces).await,
        }
    }
}

#[derive(Debug)]
pub(super) struct Grpc {
    client: encode::GrpcClient,
    metadata: MetadataMap,
}

impl Grpc {
    fn new(otlp: &Otlp) -> Result<Self, OutputError> {
        let failed = |error: tonic::transport::Error| OutputError::Otlp(error.to_string());
        let mut endpoint = Endpoint::from(otlp.endpoint.uri().clone())
            .user_agent(USER_AGENT)
            .map_err(failed)?
            .connect_timeout(otlp.timeout);
        if otlp.endpoint.is_secure() {
            let roots = match &otlp.certificate {
                // Read here as well, so that a bad file is an error at the start and not one per connection.
                Some(path) => {
                    certificates(path)?;
                    let pem = std::fs::read(path).map_err(|error| bad_certificate(path, &error))?;
                    ClientTlsConfig::new().ca_certificate(Certificate::from_pem(pem))
                }
                None => ClientTlsConfig::new().with_native_roots(),
            };
            endpoint = endpoint.tls_config(roots).map_err(failed)?;
        }
        let mut client = encode::GrpcClient::new(endpoint.connect_lazy());
        if otlp.compression == Compression::Gzip {
            client = client.send_compressed(CompressionEncoding::Gzip);
        }
        let client = client.accept_compressed(CompressionEncoding::Gzip);
        let metadata = MetadataMap::from_headers(otlp.headers.iter().cloned().collect());
        Ok(Self { client, metadata })
    }

    async fn send(&self, pieces: &[Piece]) -> Outcome {
        let mut request = tonic::Request::new(encode::request(pieces));
        *request.metadata_mut() = self.metadata.clone();
        // A clone is a handle on the same connection.
        match self.client.clone().export(request).await {
            Ok(response) => Outcome::Accepted(response.into_inner().into()),
            Err(status) => Outcome::of_grpc(&status),
        }
    }
}

#[derive(Debug)]
pub(super) struct Http<C> {
    client: Client<C, Full<Bytes>>,
    uri: Uri,
    headers: HeaderMap,
    compression: Compression,
}

impl<C> Http<C>
where
    C: hyper_util::client::legacy::connect::Connect + Clone + Send + Sync + 'static,
{
    fn new(otlp: &Otlp, connector: C) -> Self {
        let client = Client::builder(TokioExecutor::new())
            .pool_timer(TokioTimer::new())
            .pool_idle_timeout(IDLE)
            .build(connector);
        let mut headers: HeaderMap = otlp.headers.iter().cloned().collect();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/x-protobuf"));
        headers.insert(header::USER_AGENT, HeaderValue::from_static(USER_AGENT));
        if otlp.compression == Compression::Gzip {
            headers.insert(header::CONTENT_ENCODING, HeaderValue::from_static("gzip"));
        }
        Self { client, uri: otlp.endpoint.uri().clone(), headers, compression: otlp.compression }
    }

    async fn send(&self, pieces: &[Piece]) -> Outcome {
        let body = encode::body(pieces);
        let body = match self.compression {
            Compression::None => body,
            Compression::Gzip => match gzip(&body) {
                Ok(body) => body,
                Err(error) => return Outcome::Refused(format!("cannot compress: {error}")),
            },
        };
        let mut request = Request::new(Full::new(Bytes::from(body)));
        *request.method_mut() = Method::POST;
        *request.uri_mut() = self.uri.clone();
        *request.headers_mut() = self.headers.clone();
        let response = match self.client.request(request).await {
            Ok(response) => response,
            Err(error) => {
                let chain =
                    std::iter::successors(Some(&error as &dyn std::error::Error), |error| error.source());
                return Outcome::unanswered(&chain.last().map_or_else(String::new, ToString::to_string));
            }
        };
        let (head, body) = response.into_parts();
        let body = match Limited::new(body, ANSWER_BYTES).collect().await {
            Ok(body) => body.to_bytes(),
            Err(error) if head.status.is_success() => return Outcome::unanswered(&error),
            Err(_) => Bytes::new(),
        };
        if head.status.is_success() {
            Outcome::Accepted(encode::answer(body))
        } else {
            Outcome::of_http(head.status, &head.headers, &body)
        }
    }
}

fn http_connector(otlp: &Otlp) -> HttpConnector {
    let mut connector = HttpConnector::new();
    connector.set_connect_timeout(Some(otlp.timeout));
    connector.set_nodelay(true);
    connector
}

fn gzip(body: &[u8]) -> std::io::Result<Vec<u8>> {
    let mut encoder = GzEncoder::new(Vec::with_capacity(body.len() / 4), Level::fast());
    encoder.write_all(body)?;
    encoder.finish()
}

fn tls(certificate: Option<&Path>) -> Result<ClientConfig, OutputError> {
    let failed = |error: &dyn std::fmt::Display| OutputError::Otlp(error.to_string());
    let builder = ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(|error| failed(&error))?;
    let builder = match certificate {
        None => builder.with_native_roots().map_err(|error| failed(&error))?,
        Some(path) => builder.with_root_certificates(certificates(path)?),
    };
    Ok(builder.with_no_client_auth())
}

/// All certificates of a PEM file, of which there must be one.
fn certificates(path: &Path) -> Result<RootCertStore, OutputError> {
    let mut roots = RootCertStore::empty();
    let certificates = CertificateDer::pem_file_iter(path).map_err(|error| bad_certificate(path, &error))?;
    for certificate in certificates {
        let certificate = certificate.map_err(|error| bad_certificate(path, &error))?;
        roots.add(certificate).map_err(|error| bad_certificate(path, &error))?;
    }
    if roots.is_empty() {
        return Err(bad_certificate(path, "it holds no certificate in PEM format"));
    }
    Ok(roots)
}

fn bad_certificate(path: &Path, problem: &(impl ToString + ?Sized)) -> OutputError {
    OutputError::Certificate { path: path.to_owned(), problem: problem.to_string() }
}
