//! An OTLP receiver: gRPC, HTTP/protobuf and HTTP/JSON on one port. Does wrong what it is told to.

use std::collections::{BTreeMap, VecDeque};
use std::convert::Infallible;
use std::io::Read;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard};
use std::task::{Context, Poll};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full};
use hyper::body::{Bytes, Frame, Incoming};
use hyper::header::{HeaderMap, HeaderValue};
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest;
use opentelemetry_proto::tonic::collector::trace::v1::{
    ExportTracePartialSuccess, ExportTraceServiceRequest, ExportTraceServiceResponse,
};
use prost::Message;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::{Notify, watch};
use tokio::task::JoinSet;

use crate::frames::Frames;
use crate::processes::PATIENCE;
use crate::spans::{self, Span};

/// It, listening until it is stopped or dropped.
pub struct Sink {
    /// Its port.
    pub port: u16,
    state: Arc<Mutex<State>>,
    stop: Option<watch::Sender<bool>>,
    thread: Option<JoinHandle<()>>,
}

/// One thing that goes wrong, with one request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fault {
    /// An HTTP status with headers; over gRPC the code that stands for it.
    Status(u16, Vec<(&'static str, &'static str)>),
    /// So many spans are not taken.
    Partial(usize),
    /// The connection is closed without an answer.
    Close,
    /// The connection is closed within the answer.
    Half,
    /// The next connection is answered with something that is no protocol.
    Garbage,
    /// An answer after this time, to a client that has gone: what was sent is not taken.
    Slow(Duration),
    /// What was sent is taken, and answered after this time.
    Late(Duration),
}

/// What arrived.
#[derive(Clone, Default, Debug)]
pub struct Received {
    /// Spans that were taken: of requests that were answered with success.
    pub spans: Vec<Span>,
    /// Spans that were rejected, by partial success.
    pub rejected: usize,
    /// Spans of requests that were refused for good.
    pub refused: usize,
    /// Export requests of metrics.
    pub metrics: Vec<ExportMetricsServiceRequest>,
    /// Export requests of traces, and the path that each was sent to.
    pub paths: Vec<String>,
    /// Headers of the last one.
    pub headers: BTreeMap<String, String>,
    /// How many were compressed.
    pub compressed: usize,
}

#[derive(Default)]
struct State {
    received: Received,
    faults: VecDeque<Fault>,
}

impl Sink {
    /// Starts it on a free port of the loopback address.
    ///
    /// # Panics
    /// When it cannot listen.
    #[must_use]
    pub fn start() -> Self {
        Self::on(0, [])
    }

    /// Starts it on a port, with faults for the first requests.
    ///
    /// # Panics
    /// When it cannot listen.
    #[must_use]
    pub fn on(port: u16, faults: impl IntoIterator<Item = Fault>) -> Self {
        let listener = std::net::TcpListener::bind(("127.0.0.1", port)).expect("a port for the sink");
        listener.set_nonblocking(true).expect("non-blocking");
        let port = listener.local_addr().expect("its address").port();
        let state = State { faults: faults.into_iter().collect(), ..State::default() };
        let state = Arc::new(Mutex::new(state));
        let shared = Arc::clone(&state);
        let (stop, stopped) = watch::channel(false);
        let thread = thread::spawn(move || {
            let runtime =
                tokio::runtime::Builder::new_current_thread().enable_all().build().expect("runtime");
            runtime.block_on(serve(listener, shared, stopped));
        });
        Self { port, state, stop: Some(stop), thread: Some(thread) }
    }

    /// What has arrived so far.
    ///
    /// # Panics
    /// When a request could not be read.
    #[must_use]
    pub fn received(&self) -> Received {
        self.lock().received.clone()
    }

    /// Waits until every fault has happened and then something was taken.
    ///
    /// # Panics
    /// When that does not happen in time.
    pub fn wait_through(&self) {
        let deadline = Instant::now() + PATIENCE;
        let through = |state: &State| state.faults.is_empty() && !state.received.spans.is_empty();
        while !through(&self.lock()) {
            let left = self.lock().faults.clone();
            assert!(Instant::now() < deadline, "faults that did not happen: {left:?}");
            thread::sleep(Duration::from_millis(5));
        }
    }

    /// Waits until so many spans have been taken.
    ///
    /// # Panics
    /// When that does not happen in time.
    pub fn wait_spans(&self, n: usize) {
        let deadline = Instant::now() + PATIENCE;
        while self.lock().received.spans.len() < n {
            let taken = self.lock().received.spans.len();
            assert!(Instant::now() < deadline, "{taken} of {n} spans came");
            thread::sleep(Duration::from_millis(5));
        }
    }

    /// Closes the port, and every connection once what it is at has been answered; gives what has arrived.
    #[must_use]
    pub fn stop(mut self) -> Received {
        self.end();
        self.received()
    }

    fn end(&mut self) {
        if let Some(stop) = self.stop.take() {
            stop.send_replace(true);
        }
        if let Some(thread) = self.thread.take() {
            thread.join().expect("the sink works");
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("the sink works")
    }
}

impl Drop for Sink {
    fn drop(&mut self) {
        if !thread::panicking() {
            self.end();
        }
    }
}

async fn serve(
    listener: std::net::TcpListener,
    state: Arc<Mutex<State>>,
    mut stopped: watch::Receiver<bool>,
) {
    let listener = tokio::net::TcpListener::from_std(listener).expect("listener");
    let mut connections = JoinSet::new();
    loop {
        let stream = tokio::select! {
            accepted = listener.accept() => accepted,
            _ = stopped.wait_for(|stop| *stop) => break,
        };
        if let Ok((stream, _)) = stream {
            connections.spawn(connection(stream, Arc::clone(&state), stopped.clone()));
        }
    }
    drop(listener);
    while connections.join_next().await.is_some() {}
}

async fn connection(mut stream: TcpStream, state: Arc<Mutex<State>>, mut stopped: watch::Receiver<bool>) {
    let garbage = {
        let faults = &mut state.lock().expect("the sink works").faults;
        faults.pop_front_if(|fault| *fault == Fault::Garbage).is_some()
    };
    if garbage {
        let mut request = [0; 64];
        drop(stream.read(&mut request).await);
        drop(stream.write_all(b"\x16\x03\x01 this is no answer\r\n\0\xff\r\n\r\n").await);
        return;
    }
    let close = Arc::new(Notify::new());
    let closing = Arc::clone(&close);
    let service = service_fn(move |request| answer(request, Arc::clone(&state), Arc::clone(&closing)));
    let builder = auto::Builder::new(TokioExecutor::new());
    let mut served = std::pin::pin!(builder.serve_connection(TokioIo::new(stream), service));
    // A broken connection is the client's affair: what it sent before counts.
    tokio::select! {
        _ = served.as_mut() => return,
        () = close.notified() => return,
        _ = stopped.wait_for(|stop| *stop) => {}
    }
    // What was taken has to be answered: the client would have it for lost.
    served.as_mut().graceful_shutdown();
    tokio::select! {
        _ = served => {}
        () = close.notified() => {}
    }
}

type Body = UnsyncBoxBody<Bytes, &'static str>;

/// How a request came and wants to be answered.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Over {
    Grpc,
    Protobuf,
    Json,
}

async fn answer(
    request: Request<Incoming>,
    state: Arc<Mutex<State>>,
    close: Arc<Notify>,
) -> Result<Response<Body>, &'static str> {
    let (parts, body) = request.into_parts();
    let bytes = body.collect().await.map_err(|_| "the request broke off")?.to_bytes();
    let kind = header(&parts.headers, "content-type");
    let over = match kind {
        "application/json" => Over::Json,
        kind if kind.starts_with("application/grpc") => Over::Grpc,
        _ => Over::Protobuf,
    };
    let path = parts.uri.path().to_owned();
    let is_metrics = path.ends_with("/v1/metrics") || path.ends_with("MetricsService/Export");
    if !is_metrics && !path.ends_with("/v1/traces") && !path.ends_with("TraceService/Export") {
        return Ok(success(over, 0));
    }
    let (message, encoding) = match over {
        Over::Grpc if bytes.first() == Some(&1) => {
            (bytes.slice(5..), header(&parts.headers, "grpc-encoding"))
        }
        Over::Grpc => (bytes.slice(5..), ""),
        _ => (bytes, header(&parts.headers, "content-encoding")),
    };
    let plain = inflate(&message, encoding);
    if is_metrics {
        let export = match over {
            Over::Json => serde_json::from_slice(&plain).expect("an export request"),
            _ => ExportMetricsServiceRequest::decode(&*plain).expect("an export request"),
        };
        state.lock().expect("the sink works").received.metrics.push(export);
        // An answer without anything to say is empty for every signal.
        return Ok(success(over, 0));
    }
    let mut sent = match over {
        Over::Json => spans::from_object(std::str::from_utf8(&plain).expect("JSON is UTF-8")),
        _ => spans::from_export(ExportTraceServiceRequest::decode(&*plain).expect("an export request")),
    };
    let fault = {
        let mut state = state.lock().expect("the sink works");
        let State { received, faults } = &mut *state;
        received.paths.push(path);
        received.compressed += usize::from(!encoding.is_empty());
        let value = |value: &HeaderValue| value.to_str().unwrap_or_default().to_owned();
        received.headers = parts.headers.iter().map(|(name, text)| (name.to_string(), value(text))).collect();
        // Garbage waits for a connection of its own.
        let fault = match faults.front() {
            Some(Fault::Garbage) => Some(Fault::Close),
            _ => faults.pop_front(),
        };
        match &fault {
            None | Some(Fault::Late(_)) => received.spans.append(&mut sent),
            Some(Fault::Partial(rejected)) => {
                let rejected = (*rejected).min(sent.len());
                received.rejected += rejected;
                received.spans.extend(sent.drain(rejected..));
            }
            // Over gRPC, exhaustion without a time after which it is over is no reason to come again.
            Some(Fault::Status(status, _)) if *status < 500 && (*status != 429 || over == Over::Grpc) => {
                received.refused += sent.len();
            }
            Some(_) => {}
        }
        fault
    };
    match fault {
        None => Ok(success(over, 0)),
        Some(Fault::Partial(rejected)) => Ok(success(over, rejected)),
        Some(Fault::Status(status, headers)) if over != Over::Grpc => {
            let mut response = Response::new(whole(Bytes::new()));
            *response.status_mut() = StatusCode::from_u16(status).expect("a status");
            for (name, value) in headers {
                response.headers_mut().insert(name, HeaderValue::from_static(value));
            }
            Ok(response)
        }
        Some(Fault::Status(status, _)) => Ok(grpc(
            match status {
                400 => "3",
                429 => "8",
                _ => "14",
            },
            None,
        )),
        Some(Fault::Half) if over != Over::Grpc => {
            let mut response = Response::new(Half(false).boxed_unsync());
            response.headers_mut().insert("content-length", HeaderValue::from_static("100"));
            Ok(response)
        }
        Some(Fault::Slow(time) | Fault::Late(time)) => {
            tokio::time::sleep(time).await;
            Ok(success(over, 0))
        }
        Some(Fault::Close | Fault::Half | Fault::Garbage) => {
            close.notify_one();
            Err("told so")
        }
    }
}

fn success(over: Over, rejected: usize) -> Response<Body> {
    let partial = (rejected > 0).then(|| ExportTracePartialSuccess {
        rejected_spans: i64::try_from(rejected).unwrap_or(i64::MAX),
        error_message: "not these".to_owned(),
    });
    let message = ExportTraceServiceResponse { partial_success: partial };
    let (kind, body) = match over {
        Over::Grpc => return grpc("0", Some(message.encode_to_vec())),
        Over::Protobuf => ("application/x-protobuf", message.encode_to_vec()),
        Over::Json if rejected > 0 => {
            let partial = format!(
                r#"{{"partialSuccess":{{"rejectedSpans":"{rejected}","errorMessage":"not these"}}}}"#
            );
            ("application/json", partial.into_bytes())
        }
        Over::Json => ("application/json", b"{}".to_vec()),
    };
    let mut response = Response::new(whole(body.into()));
    response.headers_mut().insert("content-type", HeaderValue::from_static(kind));
    response
}

fn grpc(status: &'static str, message: Option<Vec<u8>>) -> Response<Body> {
    let mut trailers = HeaderMap::new();
    trailers.insert("grpc-status", HeaderValue::from_static(status));
    let message = message.map(|message| {
        let mut framed = vec![0];
        framed.extend_from_slice(&(message.len() as u32).to_be_bytes());
        framed.extend_from_slice(&message);
        Frame::data(Bytes::from(framed))
    });
    let frames: Vec<_> = message.into_iter().chain([Frame::trailers(trailers)]).collect();
    let body = Frames(frames.into_iter()).map_err(|never: Infallible| match never {});
    let mut response = Response::new(body.boxed_unsync());
    response.headers_mut().insert("content-type", HeaderValue::from_static("application/grpc"));
    response
}

/// One byte of a body, then its end before its time.
struct Half(bool);

impl hyper::body::Body for Half {
    type Data = Bytes;
    type Error = &'static str;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, &'static str>>> {
        let first = !std::mem::replace(&mut self.0, true);
        Poll::Ready(Some(if first { Ok(Frame::data(Bytes::from_static(b"{"))) } else { Err("told so") }))
    }
}

fn whole(bytes: Bytes) -> Body {
    Full::new(bytes).map_err(|never: Infallible| match never {}).boxed_unsync()
}

fn header<'a>(headers: &'a HeaderMap, name: &str) -> &'a str {
    headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default()
}

fn inflate(bytes: &[u8], encoding: &str) -> Vec<u8> {
    match encoding {
        "" => bytes.to_vec(),
        "gzip" => {
            let mut plain = Vec::new();
            flate2::read::GzDecoder::new(bytes).read_to_end(&mut plain).expect("gzip");
            plain
        }
        "zstd" => zstd::stream::decode_all(bytes).expect("zstd"),
        other => panic!("compressed with {other}"),
    }
}
