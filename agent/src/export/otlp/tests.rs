//! The exporter against a backend that answers by a script, over both transports.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard};
use std::thread::JoinHandle;

use bytes::Bytes;
use http::{HeaderMap, Request, Response};
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt, Full, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls::ServerConfig;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpListener;
use tokio::sync::oneshot;
use tokio_rustls::TlsAcceptor;

use super::payload::Encoding;
use super::sender::Health;
use super::*;
use crate::config::{Environment, OutputsConfig, Resolved};
use crate::export::batch::pieces;
use crate::export::fixtures::{resource, span};
use crate::export::queue::Limits;
use crate::telemetry::{Counters, Delivery, Lost};

/// How the backend answers one request.
#[derive(Clone, Debug)]
enum Reply {
    Ok,
    /// Takes the spans but so many.
    Partial(u8),
    /// An HTTP status, or over gRPC the code that stands for it, with `Retry-After` or `RetryInfo` in seconds.
    Error(u16, Option<u32>),
    /// No answer: the connection or stream is closed.
    Nothing,
    /// Half an answer, then nothing more.
    Half,
}

/// Over which the exporter and the backend talk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Over {
    Grpc,
    Http,
    Json,
}

const ALL: [Over; 3] = [Over::Grpc, Over::Http, Over::Json];

impl Over {
    fn protocol(self) -> &'static str {
        match self {
            Self::Grpc => "grpc",
            Self::Http => "http/protobuf",
            Self::Json => "http/json",
        }
    }
}

#[derive(Debug, Default)]
struct Seen {
    requests: u64,
    headers: Vec<HeaderMap>,
    paths: Vec<String>,
    /// Starts of the spans that were taken: the tests number spans by them.
    taken: Vec<u64>,
    script: VecDeque<Reply>,
    /// Spans of a request at most; more are too large.
    most_spans: Option<usize>,
}

/// A backend on a port of its own, in a thread of its own. Answers by its script, and with success when that is over.
struct Backend {
    address: SocketAddr,
    seen: Arc<Mutex<Seen>>,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Backend {
    fn start(script: impl IntoIterator<Item = Reply>) -> Self {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        Self::serve(listener, script, None)
    }

    fn serve(
        listener: std::net::TcpListener,
        script: impl IntoIterator<Item = Reply>,
        tls: Option<TlsAcceptor>,
    ) -> Self {
        let address = listener.local_addr().unwrap();
        listener.set_nonblocking(true).unwrap();
        let seen = Arc::new(Mutex::new(Seen { script: script.into_iter().collect(), ..Seen::default() }));
        let (stop, stopped) = oneshot::channel();
        let seen_there = Arc::clone(&seen);
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async {
                let listener = TcpListener::from_std(listener).unwrap();
                let accept = async {
                    loop {
                        let (stream, _) = listener.accept().await.unwrap();
                        let (seen, tls) = (Arc::clone(&seen_there), tls.clone());
                        tokio::spawn(async move {
                            match tls {
                                None => serve_connection(stream, seen).await,
                                Some(tls) => {
                                    // Fails where the client does not trust the certificate.
                                    if let Ok(stream) = tls.accept(stream).await {
                                        serve_connection(stream, seen).await;
                                    }
                                }
                            }
                        });
                    }
                };
                tokio::select! { () = accept => {}, _ = stopped => {} }
            });
        });
        Self { address, seen, stop: Some(stop), thread: Some(thread) }
    }

    fn seen(&self) -> MutexGuard<'_, Seen> {
        self.seen.lock().unwrap()
    }
}

impl Drop for Backend {
    fn drop(&mut self) {
        drop(self.stop.take());
        self.thread.take().unwrap().join().unwrap();
    }
}

async fn serve_connection<S>(stream: S, seen: Arc<Mutex<Seen>>)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let service = service_fn(|request| handle(request, Arc::clone(&seen)));
    let server = hyper_util::server::conn::auto::Builder::new(TokioExecutor::new());
    // Ends in error where the script breaks the connection.
    let _ = server.serve_connection(TokioIo::new(stream), service).await;
}

type Body = BoxBody<Bytes, &'static str>;

async fn handle(request: Request<Incoming>, seen: Arc<Mutex<Seen>>) -> Result<Response<Body>, &'static str> {
    let (head, body) = request.into_parts();
    let body = body.collect().await.map_err(|_| "the request broke off")?.to_bytes();
    let kind = head.headers.get("content-type").unwrap().to_str().unwrap().to_owned();
    let (is_grpc, is_json) = (kind == "application/grpc", kind == "application/json");
    let encoding = if is_grpc { "grpc-encoding" } else { "content-encoding" };
    let message = if is_grpc { body.slice(5..) } else { body };
    let message = match head.headers.get(encoding) {
        Some(encoding) => {
            let mut plain = Vec::new();
            if encoding == "gzip" {
                let mut decoder = flate2::read::GzDecoder::new(&message[..]);
                std::io::Read::read_to_end(&mut decoder, &mut plain).unwrap();
            } else {
                assert_eq!(encoding, "zstd");
                plain = zstd::stream::decode_all(&message[..]).unwrap();
            }
            plain.into()
        }
        None => message,
    };
    let starts = encode::starts(is_json, &message);

    let reply = {
        let mut seen = seen.lock().unwrap();
        seen.requests += 1;
        if seen.most_spans.is_some_and(|most| starts.len() > most) {
            let status = if is_grpc { 11 } else { 413 };
            return Ok(if is_grpc { too_large(status) } else { http_error(status, None) });
        }
        seen.headers.push(head.headers);
        seen.paths.push(head.uri.path().to_owned());
        let reply = seen.script.pop_front().unwrap_or(Reply::Ok);
        match reply {
            Reply::Ok => seen.taken.extend(starts),
            Reply::Partial(rejected) => seen.taken.extend(starts.into_iter().skip(rejected.into())),
            _ => {}
        }
        reply
    };
    let answer = match reply {
        Reply::Ok => Bytes::new(),
        Reply::Partial(rejected) if is_json => {
            format!(r#"{{"partialSuccess":{{"rejectedSpans":"{rejected}","errorMessage":"odd"}}}}"#).into()
        }
        // ExportTraceServiceResponse { partial_success: { rejected_spans, error_message: "odd" } }
        Reply::Partial(rejected) => {
            Bytes::copy_from_slice(&[0x0a, 7, 0x08, rejected, 0x12, 3, b'o', b'd', b'd'])
        }
        Reply::Error(status, wait) => {
            return Ok(if is_grpc { grpc_error(status, wait) } else { http_error(status, wait) });
        }
        Reply::Nothing => return Err("no answer"),
        Reply::Half => {
            let frames = [Ok(Frame::data(Bytes::from_static(&[0, 0]))), Err("half an answer")];
            // The frames come one after the other, so that the first is on its way when the second breaks off.
            let frames = futures_of(frames);
            let mut response = Response::new(BodyExt::boxed(StreamBody::new(frames)));
            let kind = if is_grpc { "application/grpc" } else { "application/x-protobuf" };
            response.headers_mut().insert("content-type", kind.parse().unwrap());
            if !is_grpc {
                response.headers_mut().insert("content-length", "100".parse().unwrap());
            }
            return Ok(response);
        }
    };
    if is_grpc {
        return Ok(grpc_ok(&answer));
    }
    let mut response = Response::new(full(answer));
    response.headers_mut().insert("content-type", kind.parse().unwrap());
    Ok(response)
}

fn futures_of<T: Unpin>(
    items: impl IntoIterator<Item = T, IntoIter: Unpin>,
) -> impl tokio_stream::Stream<Item = T> {
    tokio_stream::iter(items)
}

fn full(bytes: Bytes) -> Body {
    Full::new(bytes).map_err(|never: Infallible| match never {}).boxed()
}

fn grpc(status: u16, body: Body, details: Option<Vec<u8>>) -> Response<Body> {
    let mut trailers = HeaderMap::new();
    trailers.insert("grpc-status", status.into());
    if let Some(details) = details {
        use tonic::metadata::{BinaryMetadataValue, MetadataMap};
        let mut metadata = MetadataMap::new();
        metadata.insert_bin("grpc-status-details-bin", BinaryMetadataValue::from_bytes(&details));
        trailers.extend(metadata.into_headers());
    }
    let mut response = Response::new(body.with_trailers(async { Some(Ok(trailers)) }).boxed());
    response.headers_mut().insert("content-type", "application/grpc".parse().unwrap());
    response
}

fn grpc_ok(message: &[u8]) -> Response<Body> {
    let mut framed = vec![0];
    framed.extend(u32::try_from(message.len()).unwrap().to_be_bytes());
    framed.extend(message);
    grpc(0, full(framed.into()), None)
}

fn too_large(code: u16) -> Response<Body> {
    let mut response = grpc(code, full(Bytes::new()), None);
    response.headers_mut().insert("grpc-status", code.into());
    let message = "Error, decoded message length too large: found 9 bytes, the limit is: 4 bytes";
    response.headers_mut().insert("grpc-message", message.parse().unwrap());
    response
}

fn grpc_error(http: u16, wait: Option<u32>) -> Response<Body> {
    let code = match http {
        400 => 3,
        429 => 8,
        503 => 14,
        other => panic!("{other}"),
    };
    grpc(code, full(Bytes::new()), wait.map(|wait| outcome::details(wait.into())))
}

fn http_error(status: u16, wait: Option<u32>) -> Response<Body> {
    let mut response = Response::new(full(Bytes::new()));
    *response.status_mut() = http::StatusCode::from_u16(status).unwrap();
    if let Some(wait) = wait {
        response.headers_mut().insert("retry-after", wait.into());
    }
    response
}

/// An exporter at work in a thread of its own, with waits of a millisecond.
struct Rig {
    counters: Arc<Counters>,
    queue: Arc<Queue>,
    ledger: Arc<Ledger>,
    sender: Arc<Sender>,
    thread: JoinHandle<()>,
    produced: AtomicU64,
    log: Log,
}

/// What the exporter said.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl std::io::Write for Log {
    fn write(&mut self, text: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().write(text)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

impl Log {
    fn lines(&self) -> Vec<String> {
        String::from_utf8(self.0.lock().unwrap().clone()).unwrap().lines().map(str::to_owned).collect()
    }
}

impl Rig {
    fn config(over: Over, address: SocketAddr, more: &[(&str, &str)]) -> OutputsConfig {
        let endpoint = format!("http://{address}");
        let mut variables = vec![
            ("OTEL_EXPORTER_OTLP_ENDPOINT", endpoint.as_str()),
            ("OTEL_EXPORTER_OTLP_PROTOCOL", over.protocol()),
            ("OTEL_BSP_MAX_EXPORT_BATCH_SIZE", "10"),
            ("OTEL_BSP_SCHEDULE_DELAY", "0"),
        ];
        variables.extend(more);
        let resolved = Resolved::new(&Default::default(), &Environment::of(variables)).unwrap();
        assert_eq!(resolved.warnings, Vec::<String>::new());
        resolved.outputs
    }

    fn start(over: Over, address: SocketAddr, more: &[(&str, &str)]) -> Self {
        let config = Self::config(over, address, more);
        let first = Duration::from_millis(1);
        let (otlp, batching) = (config.otlp.as_ref().unwrap(), config.batching);
        let exporter = Exporter::with_backoff(otlp, Signal::Traces, batching.timeout, first).unwrap();
        let counters = Arc::new(Counters::default());
        let queue = Arc::new(Queue::new(Limits {
            spans: config.batching.queue,
            bytes: 1 << 20,
            when_full: config.when_full,
        }));
        let ledger = Arc::new(Ledger::exporting(Arc::clone(&counters), Signal::Traces));
        let sender = Arc::clone(&exporter.sender);
        let (queue_there, ledger_there) = (Arc::clone(&queue), Arc::clone(&ledger));
        let log = Log::default();
        let log_there = log.clone();
        let thread = std::thread::spawn(move || {
            let subscriber = tracing_subscriber::fmt()
                .with_writer(move || log_there.clone())
                .with_ansi(false)
                .without_time()
                .with_target(false)
                .finish();
            tracing::subscriber::with_default(subscriber, || {
                exporter.run_spans(batching, &queue_there, &ledger_there);
            });
        });
        Self { counters, queue, ledger, sender, thread, produced: AtomicU64::new(0), log }
    }

    /// Produces spans, numbered on.
    fn produce(&self, n: u64) {
        let resource = Arc::new(resource("shop"));
        let from = self.produced.fetch_add(n, Ordering::Relaxed);
        let spans = (from..from + n).map(|at| (Arc::clone(&resource), span("GET", at, at + 1))).collect();
        for piece in pieces(spans) {
            self.queue.push(piece, &self.ledger);
        }
    }

    fn exported(&self) -> u64 {
        self.counters.delivered(Signal::Traces, Delivery::Accepted)
    }

    /// Closes, waits for the end, and returns (exported, failed, dropped), which add up to what was produced.
    fn finish(self) -> (u64, u64, u64) {
        self.queue.close(Instant::now() + Duration::from_secs(60));
        self.thread.join().unwrap();
        let exported = self.counters.delivered(Signal::Traces, Delivery::Accepted);
        let (failed, dropped) = (self.counters.lost(Lost::ExportFailed), self.counters.lost(Lost::QueueFull));
        let all: u64 =
            Delivery::ALL.map(|outcome| self.counters.delivered(Signal::Traces, outcome)).iter().sum();
        let produced = self.produced.into_inner();
        assert_eq!((exported + failed + dropped, all), (produced, produced));
        (exported, failed, dropped)
    }
}

/// Looks again and again until something is so. What the exporter does has no event to wait for.
fn until(what: impl Fn() -> bool) {
    let end = Instant::now() + Duration::from_secs(30);
    while !what() {
        assert!(Instant::now() < end, "it never came to be");
        std::thread::sleep(Duration::from_millis(1));
    }
}

fn sorted(backend: &Backend) -> Vec<u64> {
    let mut taken = backend.seen().taken.clone();
    taken.sort_unstable();
    taken
}

#[test]
fn every_span_arrives_once() {
    for over in ALL {
        let backend = Backend::start([]);
        let rig = Rig::start(over, backend.address, &[]);
        for n in [1, 99, 300] {
            rig.produce(n);
        }
        assert_eq!(rig.finish(), (400, 0, 0), "{over:?}");
        assert_eq!(sorted(&backend), (0..400).collect::<Vec<_>>());
        assert!(backend.seen().requests >= 40, "no request holds more than ten");
    }
}

#[test]
fn requests_carry_what_is_configured() {
    let all = ALL.iter().flat_map(|over| ["none", "gzip", "zstd"].map(|compression| (*over, compression)));
    for (over, compression) in all {
        let backend = Backend::start([]);
        let rig = Rig::start(
            over,
            backend.address,
            &[
                ("OTEL_EXPORTER_OTLP_HEADERS", "authorization=Bearer%20x"),
                ("OTEL_EXPORTER_OTLP_COMPRESSION", compression),
            ],
        );
        rig.produce(3);
        assert_eq!(rig.finish(), (3, 0, 0));
        let seen = backend.seen();
        let header = |name: &str| seen.headers[0].get(name).map(|value| value.to_str().unwrap());
        assert_eq!(header("authorization"), Some("Bearer x"));
        assert!(header("user-agent").unwrap().starts_with("Sonde-OTLP-Exporter-Rust/"));
        let (path, kind, encoding) = match over {
            Over::Grpc => {
                let path = "/opentelemetry.proto.collector.trace.v1.TraceService/Export";
                (path, "application/grpc", header("grpc-encoding"))
            }
            Over::Http => ("/v1/traces", "application/x-protobuf", header("content-encoding")),
            Over::Json => ("/v1/traces", "application/json", header("content-encoding")),
        };
        assert_eq!((seen.paths[0].as_str(), header("content-type")), (path, Some(kind)));
        assert_eq!(encoding, Some(compression).filter(|name| *name != "none"));
    }
}

#[test]
fn what_may_pass_is_tried_again() {
    for over in ALL {
        for reply in [
            Reply::Error(429, Some(0)),
            Reply::Error(503, Some(0)),
            Reply::Error(503, None),
            Reply::Nothing,
            Reply::Half,
        ] {
            let backend = Backend::start([reply.clone(), reply.clone(), reply.clone()]);
            let rig = Rig::start(over, backend.address, &[]);
            rig.produce(25);
            until(|| rig.exported() == 25);
            assert_eq!(rig.finish(), (25, 0, 0), "{over:?} {reply:?}");
            assert_eq!(sorted(&backend), (0..25).collect::<Vec<_>>());
            assert_eq!(backend.seen().requests, 3 + 3);
        }
    }
}

#[test]
fn what_is_refused_is_lost_at_once() {
    for over in ALL {
        let backend = Backend::start([Reply::Error(400, None)]);
        let rig = Rig::start(over, backend.address, &[]);
        rig.produce(10);
        until(|| rig.counters.lost(Lost::ExportFailed) == 10);
        rig.produce(20);
        assert_eq!(rig.finish(), (20, 10, 0), "{over:?}");
        assert_eq!(backend.seen().requests, 3);
    }
    // Exhaustion without a time after which it is over.
    let backend = Backend::start([Reply::Error(429, None)]);
    let rig = Rig::start(Over::Grpc, backend.address, &[]);
    rig.produce(10);
    assert_eq!(rig.finish(), (0, 10, 0));
}

#[test]
fn rejected_spans_are_lost_and_not_tried_again() {
    for over in ALL {
        // More rejected than sent: a backend that cannot count costs no more than what was sent.
        let backend = Backend::start([Reply::Partial(4), Reply::Partial(0), Reply::Partial(100)]);
        let rig = Rig::start(over, backend.address, &[]);
        rig.produce(10);
        until(|| rig.exported() == 6);
        rig.produce(10);
        until(|| rig.exported() == 16);
        rig.produce(10);
        assert_eq!(rig.finish(), (16, 14, 0), "{over:?}");
        assert_eq!(backend.seen().requests, 3);
    }
}

#[test]
fn what_is_too_large_goes_in_halves() {
    for over in ALL {
        let backend = Backend::start([]);
        backend.seen().most_spans = Some(3);
        let rig = Rig::start(over, backend.address, &[]);
        rig.produce(40);
        let log = rig.log.clone();
        assert_eq!(rig.finish(), (40, 0, 0), "{over:?}");
        assert_eq!(sorted(&backend), (0..40).collect::<Vec<_>>());
        // Ten: 5+5, each 2+3. Nobody has to hear of it.
        assert_eq!((backend.seen().requests, log.lines()), (4 * 7, vec![]));
    }
}

#[test]
fn a_single_span_that_is_too_large_is_lost() {
    for over in ALL {
        let backend = Backend::start([]);
        backend.seen().most_spans = Some(0);
        let rig = Rig::start(over, backend.address, &[]);
        rig.produce(10);
        let counters = Arc::clone(&rig.counters);
        assert_eq!(rig.finish(), (0, 10, 0), "{over:?}");
        assert_eq!(counters.delivered(Signal::Traces, Delivery::TooLarge), 10);
    }
}

/// What is collected at intervals: so many points, each named by a number.
struct Points(Vec<u64>);

impl Payload for Points {
    const SIGNAL: Signal = Signal::Metrics;

    fn items(&self) -> u64 {
        self.0.len() as u64
    }

    /// As spans: the backend of these tests reads nothing else.
    fn encode(&self, encoding: Encoding) -> Vec<u8> {
        let resource = Arc::new(resource("shop"));
        let items = self.0.iter().map(|at| (Arc::clone(&resource), span("GET", *at, *at)));
        Spans(pieces(items.collect())).encode(encoding)
    }

    fn split(mut self) -> Result<(Self, Self), Self> {
        match self.0.len() {
            0 | 1 => Err(self),
            n => {
                let back = self.0.split_off(n / 2);
                Ok((self, Self(back)))
            }
        }
    }
}

#[test]
fn collections_are_sent_one_after_the_other_or_counted() {
    for over in ALL {
        let backend = Backend::start([Reply::Error(503, None), Reply::Ok, Reply::Error(400, None)]);
        let config = Rig::config(over, backend.address, &[]);
        let (first, patience) = (Duration::from_millis(1), config.metric_reading.timeout);
        let otlp = config.otlp_metrics.as_ref().unwrap();
        let exporter = Exporter::with_backoff(otlp, Signal::Metrics, patience, first).unwrap();
        let counters = Arc::new(Counters::default());
        let ledger = Ledger::exporting(Arc::clone(&counters), Signal::Metrics);
        let mailbox = Mailbox::new(2);
        for batch in [vec![1], vec![2, 3], vec![4, 5, 6], vec![7; 4]] {
            mailbox.push(Points(batch), &ledger);
        }
        std::thread::scope(|scope| {
            scope.spawn(|| exporter.run_collected(&mailbox, &ledger));
            until(|| counters.delivered(Signal::Metrics, Delivery::Refused) > 0);
            mailbox.push(Points(vec![8]), &ledger);
            until(|| counters.delivered(Signal::Metrics, Delivery::Accepted) == 4);
            mailbox.close(Instant::now() + Duration::from_secs(60));
        });
        mailbox.push(Points(vec![9, 10]), &ledger);
        assert_eq!(mailbox.clear(), 0);
        let became = Delivery::ALL.map(|outcome| counters.delivered(Signal::Metrics, outcome));
        // Accepted, rejected, refused, too large, undelivered, dropped.
        assert_eq!(became, [4, 0, 4, 0, 0, 5], "{over:?}");
        assert_eq!(sorted(&backend), [4, 5, 6, 8]);
        assert!(Lost::ALL.into_iter().all(|why| counters.lost(why) == 0), "those are for spans");
        let path = match over {
            Over::Grpc => "/opentelemetry.proto.collector.metrics.v1.MetricsService/Export",
            Over::Http | Over::Json => "/v1/metrics",
        };
        assert!(backend.seen().paths.iter().all(|sent| sent == path), "{over:?}");
    }
}

#[test]
fn silence_that_the_backend_asks_for_is_kept() {
    for over in ALL {
        let backend = Backend::start([Reply::Error(503, Some(3_600))]);
        let rig = Rig::start(over, backend.address, &[]);
        rig.produce(5);
        until(|| rig.sender.lock().silent_until.is_some());
        rig.produce(5);
        // The end comes before the silence is over, and does not wait for that.
        assert_eq!(rig.finish(), (0, 10, 0), "{over:?}");
        assert_eq!(backend.seen().requests, 1);
    }
}

#[test]
fn a_backend_that_is_down_and_comes_back_gets_what_was_kept() {
    for over in ALL {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        drop(listener);
        let more = [("OTEL_BSP_MAX_QUEUE_SIZE", "100")];
        let rig = Rig::start(over, address, &more);
        rig.produce(1);
        until(|| rig.sender.lock().health == Health::Down);
        rig.produce(1_000);
        // What had been taken before stays on its way: three more batches of ten.
        assert!(rig.counters.lost(Lost::QueueFull) >= 1_000 - 100 - 30);
        let backend = Backend::serve(std::net::TcpListener::bind(address).unwrap(), [], None);
        until(|| rig.sender.lock().health == Health::Up);
        let lost_meanwhile = rig.counters.lost(Lost::QueueFull);
        until(|| rig.exported() == 1_001 - lost_meanwhile);
        rig.produce(50);
        let log = rig.log.clone();
        let (exported, failed, dropped) = rig.finish();
        // Many attempts failed; each change is said once.
        let [down, up] = &log.lines()[..] else { panic!("{:?}", log.lines()) };
        let expected =
            format!("cannot send spans to {address}: Connection refused (os error 111); trying again");
        assert!(down.contains(&expected), "{down}");
        assert!(up.ends_with(&format!("{address} takes spans again")), "{up}");
        assert_eq!((exported, failed), (1_051 - lost_meanwhile, 0), "{over:?}");
        assert_eq!(dropped, lost_meanwhile);
        let taken = sorted(&backend);
        assert_eq!(taken.len() as u64, exported);
        assert!(
            taken.contains(&0) && taken.contains(&1_050),
            "the oldest waiting ones are dropped, not what is on its way"
        );
    }
}

#[test]
fn the_end_does_not_wait_for_an_endpoint_that_was_down() {
    for over in ALL {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        drop(listener);
        // Without a limit of time, an end that waits would not come.
        let rig = Rig::start(over, address, &[("OTEL_BSP_EXPORT_TIMEOUT", "0")]);
        rig.produce(100);
        until(|| rig.sender.lock().health == Health::Down);
        assert_eq!(rig.finish(), (0, 100, 0), "{over:?}");
    }
}

fn testdata(name: &str) -> String {
    format!("{}/src/export/otlp/testdata/{name}", env!("CARGO_MANIFEST_DIR"))
}

fn secure_backend() -> Backend {
    let certificate = CertificateDer::from_pem_file(testdata("server.pem")).unwrap();
    let key = PrivateKeyDer::from_pem_file(testdata("server.key")).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder =
        ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
    let mut config = builder.with_no_client_auth().with_single_cert(vec![certificate], key).unwrap();
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    Backend::serve(listener, [], Some(TlsAcceptor::from(Arc::new(config))))
}

#[test]
fn a_backend_is_trusted_by_the_certificate_that_is_configured() {
    for over in ALL {
        let backend = secure_backend();
        let endpoint = format!("https://{}", backend.address);
        let path = testdata("ca.pem");
        let more =
            [("OTEL_EXPORTER_OTLP_ENDPOINT", endpoint.as_str()), ("OTEL_EXPORTER_OTLP_CERTIFICATE", &path)];
        let rig = Rig::start(over, backend.address, &more);
        rig.produce(25);
        assert_eq!(rig.finish(), (25, 0, 0), "{over:?}");
        assert_eq!(sorted(&backend), (0..25).collect::<Vec<_>>());
    }
}

#[test]
fn a_backend_that_is_not_trusted_gets_nothing() {
    for over in ALL {
        let backend = secure_backend();
        let endpoint = format!("https://{}", backend.address);
        let path = testdata("other-ca.pem");
        let more =
            [("OTEL_EXPORTER_OTLP_ENDPOINT", endpoint.as_str()), ("OTEL_EXPORTER_OTLP_CERTIFICATE", &path)];
        let rig = Rig::start(over, backend.address, &more);
        rig.produce(25);
        until(|| rig.sender.lock().health == Health::Down);
        assert_eq!(rig.finish(), (0, 25, 0), "{over:?}");
        assert_eq!(backend.seen().requests, 0);
    }
}

#[test]
fn a_certificate_that_cannot_be_used_is_an_error_at_the_start() {
    for over in ALL {
        for (file, problem) in [("README.md", "no certificate"), ("missing.pem", "No such file")] {
            let path = testdata(file);
            let more = [
                ("OTEL_EXPORTER_OTLP_ENDPOINT", "https://c"),
                ("OTEL_EXPORTER_OTLP_CERTIFICATE", path.as_str()),
            ];
            let config = Rig::config(over, ([127, 0, 0, 1], 1).into(), &more);
            let error = Exporter::new(config.otlp.as_ref().unwrap(), Signal::Traces, Duration::ZERO)
                .unwrap_err()
                .to_string();
            assert!(error.contains(file) && error.contains(problem), "{over:?}: {error}");
        }
    }
}
