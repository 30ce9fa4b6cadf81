//! An OTLP receiver: gRPC and HTTP/protobuf on one port.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::io::Read;
use std::sync::{Arc, Mutex};
use std::thread;

use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full};
use hyper::body::{Bytes, Frame, Incoming};
use hyper::service::service_fn;
use hyper::{HeaderMap, Request, Response};
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest;
use opentelemetry_proto::tonic::collector::trace::v1::{
    ExportTraceServiceRequest, ExportTraceServiceResponse,
};
use prost::Message;

use crate::frames::Frames;
use crate::spans::{self, Span};

/// It, listening until the test process ends.
pub struct Sink {
    /// Its port.
    pub port: u16,
    received: Arc<Mutex<Received>>,
}

/// What arrived.
#[derive(Clone, Default, Debug)]
pub struct Received {
    /// Spans.
    pub spans: Vec<Span>,
    /// Export requests of metrics.
    pub metrics: Vec<ExportMetricsServiceRequest>,
    /// Export requests of traces, and the path that each was sent to.
    pub paths: Vec<String>,
    /// Headers of the last one.
    pub headers: BTreeMap<String, String>,
    /// How many were compressed.
    pub compressed: usize,
}

impl Sink {
    /// Starts it on a free port of the loopback address.
    ///
    /// # Panics
    /// When it cannot listen.
    #[must_use]
    pub fn start() -> Self {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port for the sink");
        listener.set_nonblocking(true).expect("non-blocking");
        let port = listener.local_addr().expect("its address").port();
        let received = Arc::new(Mutex::new(Received::default()));
        let shared = Arc::clone(&received);
        thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build().expect("runtime");
            runtime.block_on(serve(listener, shared));
        });
        Self { port, received }
    }

    /// What has arrived so far.
    ///
    /// # Panics
    /// When a request could not be read.
    #[must_use]
    pub fn received(&self) -> Received {
        self.received.lock().expect("the sink works").clone()
    }
}

async fn serve(listener: std::net::TcpListener, received: Arc<Mutex<Received>>) {
    let listener = tokio::net::TcpListener::from_std(listener).expect("listener");
    while let Ok((stream, _)) = listener.accept().await {
        let received = Arc::clone(&received);
        tokio::spawn(async move {
            let service = service_fn(move |request| answer(request, Arc::clone(&received)));
            let builder = auto::Builder::new(TokioExecutor::new());
            // A broken connection is the client's affair: what it sent before counts.
            drop(builder.serve_connection(TokioIo::new(stream), service).await);
        });
    }
}

type Body = UnsyncBoxBody<Bytes, Infallible>;

async fn answer(
    request: Request<Incoming>,
    received: Arc<Mutex<Received>>,
) -> Result<Response<Body>, hyper::Error> {
    let (parts, body) = request.into_parts();
    let bytes = body.collect().await?.to_bytes();
    let grpc = header(&parts.headers, "content-type").starts_with("application/grpc");
    let path = parts.uri.path().to_owned();
    let is_metrics = path.ends_with("/v1/metrics") || path.ends_with("MetricsService/Export");
    if is_metrics || path.ends_with("/v1/traces") || path.ends_with("TraceService/Export") {
        let (message, compressed) = if grpc {
            let flag = bytes.first().copied().unwrap_or(0);
            (inflate(bytes.get(5..).unwrap_or(&[]), flag == 1), flag == 1)
        } else {
            let gzip = header(&parts.headers, "content-encoding") == "gzip";
            (inflate(&bytes, gzip), gzip)
        };
        if is_metrics {
            let export = ExportMetricsServiceRequest::decode(message.as_slice()).expect("an export request");
            received.lock().expect("the sink works").metrics.push(export);
            // Both answers are empty messages.
            return Ok(if grpc { grpc_answer() } else { http_answer() });
        }
        let export = ExportTraceServiceRequest::decode(message.as_slice()).expect("an export request");
        let mut received = received.lock().expect("the sink works");
        received.spans.extend(spans::from_export(export));
        received.paths.push(path);
        received.compressed += usize::from(compressed);
        let value = |value: &hyper::header::HeaderValue| value.to_str().unwrap_or_default().to_owned();
        received.headers = parts.headers.iter().map(|(name, text)| (name.to_string(), value(text))).collect();
    }
    Ok(if grpc { grpc_answer() } else { http_answer() })
}

fn grpc_answer() -> Response<Body> {
    let message = ExportTraceServiceResponse::default().encode_to_vec();
    let mut framed = vec![0];
    framed.extend_from_slice(&(message.len() as u32).to_be_bytes());
    framed.extend_from_slice(&message);
    let mut trailers = HeaderMap::new();
    trailers.insert("grpc-status", hyper::header::HeaderValue::from_static("0"));
    let frames = [Frame::data(Bytes::from(framed)), Frame::trailers(trailers)];
    let mut response = Response::new(Frames(frames.into_iter()).boxed_unsync());
    response
        .headers_mut()
        .insert("content-type", hyper::header::HeaderValue::from_static("application/grpc"));
    response
}

fn http_answer() -> Response<Body> {
    let message = ExportTraceServiceResponse::default().encode_to_vec();
    let mut response = Response::new(Full::new(Bytes::from(message)).boxed_unsync());
    response
        .headers_mut()
        .insert("content-type", hyper::header::HeaderValue::from_static("application/x-protobuf"));
    response
}

fn header<'a>(headers: &'a HeaderMap, name: &str) -> &'a str {
    headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default()
}

fn inflate(bytes: &[u8], compressed: bool) -> Vec<u8> {
    if !compressed {
        return bytes.to_vec();
    }
    let mut plain = Vec::new();
    flate2::read::GzDecoder::new(bytes).read_to_end(&mut plain).expect("gzip");
    plain
}
