//! OTLP over HTTP/1.1, as Protobuf or JSON.

use std::io::{self, Write};
use std::time::Duration;

use bytes::Bytes;
use flate2::{Compression as Level, write::GzEncoder};
use http::{HeaderMap, HeaderValue, Method, Request, Uri, header};
use http_body_util::{BodyExt, Full, Limited};
use hyper_util::client::legacy::{Client, connect::Connect};
use hyper_util::rt::{TokioExecutor, TokioTimer};

use super::super::outcome::Outcome;
use super::{ANSWER_BYTES, USER_AGENT};
use crate::config::{Compression, Otlp, Protocol};

/// A connection that was not used for so long is closed: many servers and proxies would do it soon.
const IDLE: Duration = Duration::from_secs(60);

#[derive(Debug)]
pub(super) struct Http<C> {
    client: Client<C, Full<Bytes>>,
    uri: Uri,
    headers: HeaderMap,
    compression: Compression,
}

impl<C> Http<C>
where
    C: Connect + Clone + Send + Sync + 'static,
{
    pub(super) fn new(otlp: &Otlp, connector: C) -> Self {
        let client = Client::builder(TokioExecutor::new())
            .pool_timer(TokioTimer::new())
            .pool_idle_timeout(IDLE)
            .build(connector);
        let mut headers: HeaderMap = otlp.headers.iter().cloned().collect();
        let mut fixed = |name, value| headers.insert(name, HeaderValue::from_static(value));
        fixed(header::USER_AGENT, USER_AGENT);
        fixed(
            header::CONTENT_TYPE,
            if otlp.protocol == Protocol::HttpJson { "application/json" } else { "application/x-protobuf" },
        );
        match otlp.compression {
            Compression::None => {}
            Compression::Gzip => drop(fixed(header::CONTENT_ENCODING, "gzip")),
            Compression::Zstd => drop(fixed(header::CONTENT_ENCODING, "zstd")),
        }
        Self { client, uri: otlp.endpoint.uri().clone(), headers, compression: otlp.compression }
    }

    pub(super) fn compressed(&self, body: Vec<u8>) -> io::Result<Vec<u8>> {
        match self.compression {
            Compression::None => Ok(body),
            Compression::Gzip => {
                let mut encoder = GzEncoder::new(Vec::with_capacity(body.len() / 4), Level::fast());
                encoder.write_all(&body)?;
                encoder.finish()
            }
            // Level 1: nearly as small as the default here, at two thirds of the time.
            Compression::Zstd => zstd::bulk::compress(&body, 1),
        }
    }

    pub(super) async fn send(&self, body: Bytes) -> Outcome {
        let mut request = Request::new(Full::new(body));
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
        Outcome::of_http(head.status, &head.headers, &body)
    }
}
