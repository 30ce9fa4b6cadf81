//! The echo services and their client by tonic: `sonde-tests-grpc server PORT` and `sonde-tests-grpc client PORT CONCURRENCY
//! CHANNELS`, which reads what to call from standard input and writes what it did, one JSON object per line.

use std::convert::Infallible;
use std::io::BufRead;
use std::sync::Arc;
use std::time::Duration;

use prost::bytes::{Buf, BufMut};
use sonde_tests::grpc::{Call, Planned};
use tokio::sync::{Mutex, mpsc};
use tokio_stream::wrappers::ReceiverStream;
use tonic::body::Body;
use tonic::codec::{Codec, CompressionEncoding, DecodeBuf, Decoder, EncodeBuf, Encoder};
use tonic::codegen::http::uri::PathAndQuery;
use tonic::codegen::{BoxStream, StdError, http};
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Request, Response, Status, Streaming};
use tower::service_fn;

type Message = Vec<u8>;

#[tokio::main(flavor = "multi_thread", worker_threads = 2)]
async fn main() -> Result<(), StdError> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let numbers: Vec<u16> = args.iter().skip(1).filter_map(|arg| arg.parse().ok()).collect();
    match (args.first().map(String::as_str), numbers.as_slice()) {
        (Some("server"), &[port]) => serve(port).await,
        (Some("client"), &[port, concurrency, channels]) => call_all(port, concurrency, channels).await,
        _ => Err("sonde-tests-grpc server PORT | client PORT CONCURRENCY CHANNELS".into()),
    }
}

/// Messages that are bytes.
#[derive(Clone, Copy, Default)]
struct Bytes;

impl Codec for Bytes {
    type Encode = Message;
    type Decode = Message;
    type Encoder = Self;
    type Decoder = Self;

    fn encoder(&mut self) -> Self {
        Self
    }

    fn decoder(&mut self) -> Self {
        Self
    }
}

impl Encoder for Bytes {
    type Item = Message;
    type Error = Status;

    fn encode(&mut self, item: Message, to: &mut EncodeBuf<'_>) -> Result<(), Status> {
        to.put_slice(&item);
        Ok(())
    }
}

impl Decoder for Bytes {
    type Item = Message;
    type Error = Status;

    fn decode(&mut self, from: &mut DecodeBuf<'_>) -> Result<Option<Message>, Status> {
        Ok(Some(from.copy_to_bytes(from.remaining()).to_vec()))
    }
}

async fn serve(port: u16) -> Result<(), StdError> {
    let service =
        service_fn(|request: http::Request<Body>| async { Ok::<_, Infallible>(dispatch(request).await) });
    Ok(tonic::transport::Server::builder().serve(([127, 0, 0, 1], port).into(), service).await?)
}

async fn dispatch(request: http::Request<Body>) -> http::Response<Body> {
    let mut grpc = tonic::server::Grpc::new(Bytes).accept_compressed(CompressionEncoding::Gzip);
    let path = request.uri().path().to_owned();
    match path.rsplit('/').next() {
        Some("Unary") => grpc.unary(service_fn(unary), request).await,
        Some("Where") => grpc.unary(service_fn(where_), request).await,
        Some("Collect") => grpc.client_streaming(service_fn(collect), request).await,
        Some("Spread") => grpc.server_streaming(service_fn(spread), request).await,
        Some("Chat") => grpc.streaming(service_fn(chat), request).await,
        _ => Status::unimplemented(path).into_http(),
    }
}

/// What a call asks of its server: replies, their size, the status and milliseconds to wait.
#[derive(Clone, Copy)]
struct Wish {
    replies: usize,
    size: usize,
    status: i32,
    sleep: u64,
}

impl Wish {
    fn of<T>(request: &Request<T>) -> Self {
        let text = request.metadata().get("x-do").and_then(|value| value.to_str().ok()).unwrap_or_default();
        let mut parts = text.split(',').map(|part| part.parse::<u32>().unwrap_or(0));
        let mut next = || parts.next().unwrap_or(0);
        let (replies, size) = (next() as usize, next() as usize);
        Self { replies, size, status: next() as i32, sleep: u64::from(next()) }
    }

    async fn finish(self) -> Result<(), Status> {
        if self.sleep > 0 {
            tokio::time::sleep(Duration::from_millis(self.sleep)).await;
        }
        if self.status == 0 {
            Ok(())
        } else {
            Err(Status::new(Code::from_i32(self.status), "as wished: €"))
        }
    }

    async fn answer(self) -> Result<Response<Message>, Status> {
        self.finish().await?;
        Ok(Response::new(vec![0; self.size]))
    }
}

async fn unary(request: Request<Message>) -> Result<Response<Message>, Status> {
    Wish::of(&request).answer().await
}

async fn where_(request: Request<Message>) -> Result<Response<Message>, Status> {
    let peer = request.remote_addr().ok_or_else(|| Status::internal("no address"))?;
    Ok(Response::new(peer.port().to_string().into_bytes()))
}

async fn collect(request: Request<Streaming<Message>>) -> Result<Response<Message>, Status> {
    let wish = Wish::of(&request);
    let mut messages = request.into_inner();
    while messages.message().await?.is_some() {}
    wish.answer().await
}

type Replies = Result<Response<BoxStream<Message>>, Status>;

async fn spread(request: Request<Message>) -> Replies {
    let wish = Wish::of(&request);
    let (sender, replies) = mpsc::channel(4);
    tokio::spawn(async move {
        for _ in 0..wish.replies {
            if sender.send(Ok(vec![0; wish.size])).await.is_err() {
                return;
            }
        }
        if let Err(status) = wish.finish().await {
            sender.send(Err(status)).await.ok();
        }
    });
    Ok(Response::new(Box::pin(ReceiverStream::new(replies))))
}

async fn chat(request: Request<Streaming<Message>>) -> Replies {
    let wish = Wish::of(&request);
    let mut messages = request.into_inner();
    let (sender, replies) = mpsc::channel(4);
    tokio::spawn(async move {
        for _ in 0..wish.replies {
            match messages.message().await {
                Ok(Some(_)) => {}
                Ok(None) => break,
                Err(_) => return,
            }
            if sender.send(Ok(vec![0; wish.size])).await.is_err() {
                return;
            }
        }
        if let Err(status) = wish.finish().await {
            sender.send(Err(status)).await.ok();
        }
    });
    Ok(Response::new(Box::pin(ReceiverStream::new(replies))))
}

async fn call_all(port: u16, concurrency: u16, channels: u16) -> Result<(), StdError> {
    let endpoint = Endpoint::from_shared(format!("http://127.0.0.1:{port}"))?;
    let channels: Vec<Channel> = (0..channels).map(|_| endpoint.connect_lazy()).collect();
    let (sender, plan) = mpsc::channel::<Planned>(usize::from(concurrency));
    let plan = Arc::new(Mutex::new(plan));
    let workers: Vec<_> = (0..usize::from(concurrency))
        .map(|i| {
            let (plan, channel) = (Arc::clone(&plan), channels[i % channels.len()].clone());
            tokio::spawn(async move {
                loop {
                    let Some(planned) = plan.lock().await.recv().await else { return };
                    let call = perform(&channel, planned).await;
                    println!("{}", serde_json::to_string(&call).expect("text and numbers"));
                }
            })
        })
        .collect();
    tokio::task::spawn_blocking(move || {
        for line in std::io::stdin().lock().lines() {
            let planned = serde_json::from_str(&line?).map_err(std::io::Error::other)?;
            sender.blocking_send(planned).map_err(std::io::Error::other)?;
        }
        std::io::Result::Ok(())
    })
    .await??;
    for worker in workers {
        worker.await?;
    }
    Ok(())
}

async fn perform(channel: &Channel, planned: Planned) -> Call {
    let mut call = Call::begin(&planned);
    let exchange = exchange(channel, &planned, &mut call);
    let result = if planned.cancel > 0 {
        let cancel = Duration::from_millis(planned.cancel);
        let cancelled = |_| Err(Status::cancelled("as planned"));
        tokio::time::timeout(cancel, exchange).await.unwrap_or_else(cancelled)
    } else {
        exchange.await
    };
    call.finish();
    if let Err(status) = result {
        call.code = status.code() as u32;
        call.message = status.message().into();
    }
    call
}

fn request<T>(planned: &Planned, message: T) -> Result<Request<T>, Status> {
    let mut request = Request::new(message);
    let invalid = |_| Status::internal("not a value of metadata");
    for (name, value) in
        [("x-call", &planned.id), ("x-do", &planned.wish), ("traceparent", &planned.traceparent)]
    {
        if !value.is_empty() {
            request.metadata_mut().insert(name, value.parse().map_err(invalid)?);
        }
    }
    if planned.deadline > 0 {
        request.set_timeout(Duration::from_millis(planned.deadline));
    }
    Ok(request)
}

async fn exchange(channel: &Channel, planned: &Planned, call: &mut Call) -> Result<(), Status> {
    let mut grpc = tonic::client::Grpc::new(channel.clone()).accept_compressed(CompressionEncoding::Gzip);
    if planned.gzip {
        grpc = grpc.send_compressed(CompressionEncoding::Gzip);
    }
    grpc.ready().await.map_err(|error| Status::unavailable(error.to_string()))?;
    let path: PathAndQuery =
        format!("/{}", planned.method).parse().map_err(|_| Status::internal("not a path"))?;
    let message = vec![0; planned.size];
    let mut replies = match planned.method.rsplit('/').next() {
        Some("Collect") => {
            let messages = tokio_stream::iter(vec![message; planned.count]);
            call.sent(planned.count, planned.size);
            let reply = grpc.client_streaming(request(planned, messages)?, path, Bytes).await?;
            call.received(reply.get_ref().len());
            return Ok(());
        }
        Some("Spread") => {
            call.sent(1, planned.size);
            grpc.server_streaming(request(planned, message)?, path, Bytes).await?.into_inner()
        }
        Some("Chat") => return chat_with(&mut grpc, planned, path, call).await,
        name => {
            call.sent(1, planned.size);
            let reply = grpc.unary(request(planned, message)?, path, Bytes).await?.into_inner();
            call.received(reply.len());
            if name == Some("Where") {
                call.port = String::from_utf8_lossy(&reply).parse().unwrap_or(0);
            }
            return Ok(());
        }
    };
    drain(&mut replies, call).await
}

async fn drain(replies: &mut Streaming<Message>, call: &mut Call) -> Result<(), Status> {
    while let Some(reply) = replies.message().await? {
        call.received(reply.len());
    }
    Ok(())
}

async fn chat_with(
    grpc: &mut tonic::client::Grpc<Channel>,
    planned: &Planned,
    path: PathAndQuery,
    call: &mut Call,
) -> Result<(), Status> {
    let (sender, messages) = mpsc::channel(1);
    let messages = request(planned, ReceiverStream::new(messages))?;
    let mut opened = Some(Box::pin(grpc.streaming(messages, path, Bytes)));
    let mut replies = None;
    for i in 0..planned.count {
        if i > 0 && planned.pause > 0 {
            tokio::time::sleep(Duration::from_millis(planned.pause)).await;
        }
        if sender.send(vec![0; planned.size]).await.is_err() {
            break;
        }
        call.sent(1, planned.size);
        // The server may answer nothing at all before the first message.
        if let Some(opened) = opened.take() {
            replies = Some(opened.await?.into_inner());
        }
        if let Some(replies) = &mut replies {
            let Some(reply) = replies.message().await? else { return Ok(()) };
            call.received(reply.len());
        }
    }
    drop(sender);
    match replies {
        Some(mut replies) => drain(&mut replies, call).await,
        None => Ok(()),
    }
}
