//! The test service on hyper and tokio: `sonde-tests-hyper PORT [h2]`, the next hop's base URL in `NEXT`.

use std::convert::Infallible;
use std::time::Duration;

use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt, Empty, Full};
use hyper::body::{Bytes, Frame, Incoming};
use hyper::header::{HeaderName, HeaderValue};
use hyper::server::conn::{http1, http2};
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioIo};
use sonde_tests::frames::Frames;

type Error = Box<dyn std::error::Error + Send + Sync>;
type Body = BoxBody<Bytes, Infallible>;
type Caller = Client<HttpConnector, Empty<Bytes>>;

#[tokio::main(flavor = "multi_thread", worker_threads = 2)]
async fn main() -> Result<(), Error> {
    let port: u16 = std::env::args().nth(1).ok_or("sonde-tests-hyper PORT")?.parse()?;
    let is_h2 = std::env::args().nth(2).as_deref() == Some("h2");
    let listener = tokio::net::TcpListener::bind(("127.0.0.1", port)).await?;
    let caller: Caller = Client::builder(TokioExecutor::new()).http2_only(is_h2).build_http();
    loop {
        let (stream, _) = listener.accept().await?;
        stream.set_nodelay(true)?;
        let caller = caller.clone();
        tokio::spawn(async move {
            let service = service_fn(move |request| serve(request, caller.clone()));
            let stream = TokioIo::new(stream);
            let result = if is_h2 {
                let mut builder = http2::Builder::new(TokioExecutor::new());
                builder.max_concurrent_streams(1000).serve_connection(stream, service).await
            } else {
                http1::Builder::new().serve_connection(stream, service).await
            };
            if let Err(error) = result {
                eprintln!("connection: {error}");
            }
        });
    }
}

async fn serve(request: Request<Incoming>, caller: Caller) -> Result<Response<Body>, Error> {
    let path = request.uri().path().to_owned();
    let is_head = request.method() == Method::HEAD;
    let parts: Vec<&str> = path.trim_matches('/').split('/').collect();
    let number = parts.get(1).and_then(|part| part.parse::<usize>().ok()).unwrap_or(0);
    let body = match parts.first().copied() {
        Some("hello") => full(format!("hello {}\n", parts.get(1).unwrap_or(&""))),
        Some("echo") => full(request.into_body().collect().await?.to_bytes()),
        Some("bytes") => full(vec![b'x'; number]),
        Some("stream") => stream(number, false),
        Some("trailers") => {
            request.into_body().collect().await?;
            stream(number, true)
        }
        Some("status") => {
            let has_body = !matches!(number, 204 | 304);
            let mut response =
                Response::new(if has_body { full(format!("status {number}\n")) } else { full("") });
            *response.status_mut() = StatusCode::from_u16(u16::try_from(number)?)?;
            return Ok(response);
        }
        Some("sleep") => {
            tokio::time::sleep(Duration::from_millis(number as u64)).await;
            full("slept\n")
        }
        Some("call") => {
            let next = std::env::var("NEXT").unwrap_or_default();
            let uri = format!("{next}/hello/{}", parts.get(1).unwrap_or(&"")).parse()?;
            full(caller.get(uri).await?.into_body().collect().await?.to_bytes())
        }
        _ => {
            let mut response = Response::new(full("no such page\n"));
            *response.status_mut() = StatusCode::NOT_FOUND;
            return Ok(response);
        }
    };
    // Over HTTP/2, hyper sends whatever it is given.
    Ok(Response::new(if is_head { full("") } else { body }))
}

fn full(bytes: impl Into<Bytes>) -> Body {
    Full::new(bytes.into()).boxed()
}

fn stream(count: usize, trailers: bool) -> Body {
    let pieces = (0..count.div_ceil(1000)).map(move |i| {
        let left = count - i * 1000;
        Frame::data(Bytes::from(vec![b'y'; left.min(1000)]))
    });
    let sum = [("x-sum", HeaderValue::from(count))];
    let sum = sum.into_iter().map(|(name, value)| (HeaderName::from_static(name), value)).collect();
    Frames(pieces.chain(trailers.then(|| Frame::trailers(sum)))).boxed()
}
