//! The test service on hyper and tokio: `sonde-tests-hyper PORT`, the next hop's base URL in `NEXT`.

use std::convert::Infallible;
use std::time::Duration;

use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt, Empty, Full};
use hyper::body::{Bytes, Frame, Incoming};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode};
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
    let listener = tokio::net::TcpListener::bind(("127.0.0.1", port)).await?;
    let caller: Caller = Client::builder(TokioExecutor::new()).build_http();
    loop {
        let (stream, _) = listener.accept().await?;
        stream.set_nodelay(true)?;
        let caller = caller.clone();
        tokio::spawn(async move {
            let service = service_fn(move |request| serve(request, caller.clone()));
            if let Err(error) = http1::Builder::new().serve_connection(TokioIo::new(stream), service).await {
                eprintln!("connection: {error}");
            }
        });
    }
}

async fn serve(request: Request<Incoming>, caller: Caller) -> Result<Response<Body>, Error> {
    let path = request.uri().path().to_owned();
    let parts: Vec<&str> = path.trim_matches('/').split('/').collect();
    let number = parts.get(1).and_then(|part| part.parse::<usize>().ok()).unwrap_or(0);
    let body = match parts.first().copied() {
        Some("hello") => full(format!("hello {}\n", parts.get(1).unwrap_or(&""))),
        Some("echo") => full(request.into_body().collect().await?.to_bytes()),
        Some("bytes") => full(vec![b'x'; number]),
        Some("stream") => stream(number),
        Some("status") => {
            let mut response = Response::new(full(format!("status {number}\n")));
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
    Ok(Response::new(body))
}

fn full(bytes: impl Into<Bytes>) -> Body {
    Full::new(bytes.into()).boxed()
}

fn stream(count: usize) -> Body {
    let pieces = (0..count.div_ceil(1000)).map(move |i| {
        let left = count - i * 1000;
        Frame::data(Bytes::from(vec![b'y'; left.min(1000)]))
    });
    Frames(pieces).boxed()
}
