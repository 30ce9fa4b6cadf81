//! The listener: HTTP/1 with a handful of connections at once, on a thread of its own.

use std::io::Write as _;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use flate2::{Compression, write::GzEncoder};
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, header};
use http_body_util::Full;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, oneshot};

use super::exposition::Format;
use super::{protobuf, text};
use crate::metrics::ResourceMetrics;

/// Connections at once. Further ones wait in the kernel's queue.
const CONNECTIONS: usize = 16;

/// A request's head has to be there within this time, also behind an earlier request.
const HEAD: Duration = Duration::from_secs(10);

/// A connection ends after this time, whatever happens on it: scrapers come back by themselves.
const LIFETIME: Duration = Duration::from_secs(300);

/// Pages below this are not worth compressing.
const SMALL: usize = 1 << 10;

/// What can be asked for.
pub trait Pages: Send + Sync + 'static {
    /// Cumulative metrics in explicit buckets and, where `native`, the same in exponential ones. `None` where metrics are off.
    fn metrics(&self, native: bool) -> Option<(Vec<ResourceMetrics>, Vec<ResourceMetrics>)>;

    /// Whether Sonde is observing.
    fn is_ready(&self) -> bool;
}

/// Why there is no listener.
#[derive(Debug, thiserror::Error)]
#[error("cannot listen on {address}: {source}")]
pub struct ServerError {
    address: SocketAddr,
    source: std::io::Error,
}

/// The listener at work. Ends when dropped.
#[derive(Debug)]
pub struct Server {
    address: SocketAddr,
    _stop: oneshot::Sender<()>,
}

impl Server {
    /// Listens, and answers on a thread of its own.
    ///
    /// # Errors
    /// When the address cannot be bound or a thread not be started.
    pub fn start(address: SocketAddr, pages: Arc<dyn Pages>) -> Result<Self, ServerError> {
        let failed = |source| ServerError { address, source };
        let listener = std::net::TcpListener::bind(address).map_err(failed)?;
        listener.set_nonblocking(true).map_err(failed)?;
        let bound = listener.local_addr().map_err(failed)?;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(failed)?;
        let (stop, stopped) = oneshot::channel();
        std::thread::Builder::new()
            .name("sonde-web".to_owned())
            .spawn(move || {
                runtime.block_on(async {
                    tokio::select! {
                        // An error is the sender's end.
                        _ = stopped => {}
                        () = serve(listener, pages) => {}
                    }
                });
            })
            .map_err(failed)?;
        Ok(Self { address: bound, _stop: stop })
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }
}

async fn serve(listener: std::net::TcpListener, pages: Arc<dyn Pages>) {
    let listener = match TcpListener::from_std(listener) {
        Ok(listener) => listener,
        Err(error) => {
            tracing::error!("the listener for metrics and health failed: {error}");
            return;
        }
    };
    let places = Arc::new(Semaphore::new(CONNECTIONS));
    loop {
        let Ok(place) = Arc::clone(&places).acquire_owned().await else { return };
        match listener.accept().await {
            Ok((stream, _)) => {
                let pages = Arc::clone(&pages);
                tokio::spawn(async move {
                    // Whoever was cut off, or spoke no HTTP, has noticed.
                    let _ = tokio::time::timeout(LIFETIME, connection(stream, pages)).await;
                    drop(place);
                });
            }
            // Out of descriptors, or the peer was gone already: neither lasts.
            Err(_) => tokio::time::sleep(Duration::from_millis(100)).await,
        }
    }
}

async fn connection(stream: TcpStream, pages: Arc<dyn Pages>) -> Result<(), hyper::Error> {
    let service = service_fn(move |request: Request<hyper::body::Incoming>| {
        let pages = Arc::clone(&pages);
        async move {
            let (head, _) = request.into_parts();
            Ok::<_, std::convert::Infallible>(answer(&head.method, head.uri.path(), &head.headers, &*pages))
        }
    });
    hyper::server::conn::http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD)
        .max_buf_size(64 << 10)
        .serve_connection(TokioIo::new(stream), service)
        .await
}

fn answer(method: &Method, path: &str, headers: &HeaderMap, pages: &dyn Pages) -> Response<Full<Bytes>> {
    if method != Method::GET && method != Method::HEAD {
        let mut response = plain(StatusCode::METHOD_NOT_ALLOWED, "write GET\n");
        response.headers_mut().insert(header::ALLOW, HeaderValue::from_static("GET, HEAD"));
        return response;
    }
    match path {
        "/healthz" => plain(StatusCode::OK, "ok\n"),
        "/readyz" if pages.is_ready() => plain(StatusCode::OK, "observing\n"),
        "/readyz" => plain(StatusCode::SERVICE_UNAVAILABLE, "not observing\n"),
        "/metrics" => metrics(headers, pages),
        _ => plain(StatusCode::NOT_FOUND, "there are /metrics, /healthz and /readyz\n"),
    }
}

fn metrics(headers: &HeaderMap, pages: &dyn Pages) -> Response<Full<Bytes>> {
    let said =
        |name| headers.get(name).and_then(|value: &HeaderValue| value.to_str().ok()).unwrap_or_default();
    let format = Format::accepted(said(header::ACCEPT));
    let Some((explicit, exponential)) = pages.metrics(format == Format::Protobuf) else {
        return plain(StatusCode::NOT_FOUND, "metrics are turned off\n");
    };
    let body = match format {
        Format::Protobuf => protobuf::encode(&explicit, &exponential),
        Format::Text | Format::OpenMetrics => text::encode(&explicit, format).into_bytes(),
    };
    let takes_gzip = said(header::ACCEPT_ENCODING).split(',').any(|coding| {
        let (name, weight) = coding.split_once(';').unwrap_or((coding, ""));
        name.trim() == "gzip" && !matches!(weight.trim(), "q=0" | "q=0.0" | "q=0.00" | "q=0.000")
    });
    let packed = if takes_gzip && body.len() >= SMALL { gzip(&body) } else { None };
    let is_packed = packed.is_some();
    let mut response = Response::new(Full::new(Bytes::from(packed.unwrap_or(body))));
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(format.media_type()));
    headers.insert(header::VARY, HeaderValue::from_static("accept, accept-encoding"));
    if is_packed {
        headers.insert(header::CONTENT_ENCODING, HeaderValue::from_static("gzip"));
    }
    response
}

fn gzip(body: &[u8]) -> Option<Vec<u8>> {
    let mut encoder = GzEncoder::new(Vec::with_capacity(body.len() / 8), Compression::fast());
    encoder.write_all(body).ok()?;
    encoder.finish().ok()
}

fn plain(status: StatusCode, text: &'static str) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(Bytes::from_static(text.as_bytes())));
    *response.status_mut() = status;
    let kind = HeaderValue::from_static("text/plain; charset=utf-8");
    response.headers_mut().insert(header::CONTENT_TYPE, kind);
    response
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::net::TcpStream;
    use std::sync::atomic::{AtomicBool, Ordering};

    use super::super::text::tests::shop;
    use super::*;

    #[derive(Default)]
    struct Shop {
        ready: AtomicBool,
        off: bool,
    }

    impl Pages for Shop {
        fn metrics(&self, native: bool) -> Option<(Vec<ResourceMetrics>, Vec<ResourceMetrics>)> {
            (!self.off).then(|| (shop(), if native { shop() } else { Vec::new() }))
        }

        fn is_ready(&self) -> bool {
            self.ready.load(Ordering::Relaxed)
        }
    }

    fn start(shop: Shop) -> (Server, Arc<Shop>) {
        let shop = Arc::new(shop);
        let pages: Arc<dyn Pages> = shop.clone();
        (Server::start(([127, 0, 0, 1], 0).into(), pages).unwrap(), shop)
    }

    fn ask(server: &Server, request: &str) -> (u16, String, Vec<u8>) {
        let mut stream = TcpStream::connect(server.address()).unwrap();
        write!(stream, "{request}\r\nHost: x\r\nConnection: close\r\n\r\n").unwrap();
        let mut bytes = Vec::new();
        stream.read_to_end(&mut bytes).unwrap();
        let end = bytes.windows(4).position(|four| four == b"\r\n\r\n").unwrap();
        let head = String::from_utf8(bytes[..end].to_vec()).unwrap().to_ascii_lowercase();
        (head[9..12].parse().unwrap(), head, bytes[end + 4..].to_vec())
    }

    #[test]
    fn health_is_alive_at_once_and_ready_when_observing() {
        let (server, shop) = start(Shop::default());
        assert_eq!(ask(&server, "GET /healthz HTTP/1.1").0, 200);
        assert_eq!(ask(&server, "GET /readyz HTTP/1.1").0, 503);
        shop.ready.store(true, Ordering::Relaxed);
        assert_eq!(ask(&server, "GET /readyz?verbose HTTP/1.1").0, 200);
        assert_eq!(ask(&server, "POST /readyz HTTP/1.1").0, 405);
        assert_eq!(ask(&server, "GET /else HTTP/1.1").0, 404);
        let (status, _, body) = ask(&server, "HEAD /metrics HTTP/1.1");
        assert_eq!((status, body), (200, Vec::new()));
    }

    #[test]
    fn metrics_come_as_the_scraper_wants_them() {
        let (server, _) = start(Shop::default());
        let (_, head, body) = ask(&server, "GET /metrics HTTP/1.1");
        assert!(head.contains("text/plain; version=0.0.4"), "{head}");
        assert!(String::from_utf8(body).unwrap().contains("sonde_lost_total{"));
        let (_, head, body) = ask(
            &server,
            "GET /metrics HTTP/1.1\r\nAccept: application/openmetrics-text\r\nAccept-Encoding: gzip",
        );
        assert!(
            head.contains("application/openmetrics-text; version=1.0.0")
                && head.contains("content-encoding: gzip"),
            "{head}"
        );
        let mut text = String::new();
        flate2::read::GzDecoder::new(body.as_slice()).read_to_string(&mut text).unwrap();
        assert!(text.ends_with("# EOF\n"));
        let proto =
            "application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;encoding=delimited";
        let (_, head, _) = ask(&server, &format!("GET /metrics HTTP/1.1\r\nAccept: {proto}"));
        assert!(head.contains("encoding=delimited"), "{head}");
        let (server, _) = start(Shop { off: true, ..Shop::default() });
        assert_eq!(ask(&server, "GET /metrics HTTP/1.1").0, 404);
    }

    #[test]
    fn connections_that_say_nothing_do_not_keep_others_out_for_ever() {
        let (server, _) = start(Shop::default());
        let idle: Vec<TcpStream> =
            (0..CONNECTIONS).map(|_| TcpStream::connect(server.address()).unwrap()).collect();
        // All places are taken; those who wait are served when one is given back.
        let address = server.address();
        let waiting = std::thread::spawn(move || {
            let mut stream = TcpStream::connect(address).unwrap();
            write!(stream, "GET /healthz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").unwrap();
            let mut text = String::new();
            stream.read_to_string(&mut text).unwrap();
            text
        });
        drop(idle);
        assert!(waiting.join().unwrap().starts_with("HTTP/1.1 200"));
    }

    #[test]
    fn an_address_in_use_is_said() {
        let (server, _) = start(Shop::default());
        let again = Server::start(server.address(), Arc::new(Shop::default()));
        let text = again.unwrap_err().to_string();
        assert!(text.starts_with(&format!("cannot listen on {}: ", server.address())), "{text}");
    }
}
