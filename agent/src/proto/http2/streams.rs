//! Streams: RFC 9113, section 5, and the exchanges that they are.
//!
//! A stream is over with the response's last byte, or when either end resets it. Records of the two directions may overtake
//! each other (who reads an answer may be stamped before the write that asked for it has returned), so a response is kept for
//! a moment where its request has not been seen, and a request's end is awaited for a moment where the response has ended.

use std::collections::HashMap;

use foldhash::fast::RandomState;

use super::half::Opened;
use super::head::{Head, Of};
use crate::conn::{Direction, Nanos, Stamp};
use crate::proto::HttpCall;
use crate::proto::grpc::{self, Counter, RpcCall};
use crate::proto::parser::Context;
use crate::proto::{Call, Event, Exchange, Failure, Message, Milestone, Quality};
use crate::telemetry::Lost;

/// Streams open at once on one connection; past it the newest are not reported, and counted.
const OPEN: usize = 4096;

/// How long the two directions of a stream may disagree.
const DISAGREEMENT: Nanos = 100_000_000;

/// After the end of a response may have gone unseen, silence of a stream that ends it.
const DOUBT: Nanos = 30_000_000_000;

/// NO_ERROR and CANCEL of section 7, and REFUSED_STREAM.
const NO_ERROR: u32 = 0;
const REFUSED: u32 = 7;

/// The streams of a connection that are not over.
#[derive(Debug)]
pub(super) struct Streams {
    open: HashMap<u32, Stream, RandomState>,
    /// The highest that a request was seen on.
    last: u32,
    /// What all exchanges say.
    mark: Option<Quality>,
    /// The calls whose `content-type` was seen are gRPC, all of them so far.
    speaks_grpc: Option<bool>,
    /// Streams that time may end; when that is looked for again.
    waiting: bool,
    next_look: Nanos,
}

#[derive(Debug, Default)]
struct Stream {
    /// Its request, once that was seen.
    exchange: Option<Box<Exchange>>,
    requested: bool,
    response: Option<Response>,
    answered: bool,
    request_size: Size,
    response_size: Size,
    /// Messages of the request and of the response, where it is known to be gRPC.
    messages: Option<Box<[Counter; 2]>>,
    /// The end of its response may have gone unseen.
    doubtful: bool,
    touched: Nanos,
    mark: Option<Quality>,
}

#[derive(Debug)]
struct Response {
    message: Message,
    call: HttpCall,
    grpc: bool,
    grpc_status: Option<u32>,
    grpc_message: Option<Box<str>>,
    /// Bytes of its content, as its head says it.
    length: Option<u64>,
}

/// Bytes of a body.
#[derive(Clone, Copy, Debug, Default)]
struct Size {
    seen: u64,
    inexact: bool,
}

impl Size {
    fn known(self) -> Option<u64> {
        (!self.inexact).then_some(self.seen)
    }
}

impl Stream {
    fn mark(&mut self, quality: Quality) {
        quality.add_to(&mut self.mark);
    }

    fn size(&mut self, is_request: bool) -> &mut Size {
        if is_request { &mut self.request_size } else { &mut self.response_size }
    }

    fn counter(&mut self, is_request: bool) -> Option<&mut Counter> {
        let [request, response] = &mut **self.messages.as_mut()?;
        Some(if is_request { request } else { response })
    }

    /// The last byte of one direction that was seen so far.
    fn moved(&mut self, is_request: bool, stamp: Stamp) {
        self.touched = stamp.time;
        self.doubtful &= is_request;
        let message = if is_request {
            self.exchange.as_mut().map(|exchange| &mut exchange.request)
        } else {
            self.response.as_mut().map(|response| &mut response.message)
        };
        if let Some(message) = message {
            message.last = stamp;
        }
    }

    /// Says that the last byte of the request moved.
    fn request_ended(&mut self, stamp: Stamp, context: &mut Context<'_>) {
        if !std::mem::replace(&mut self.requested, true)
            && let Some(exchange) = &mut self.exchange
        {
            exchange.request.last = stamp;
            let id = exchange.opening.id;
            let what = Milestone::Requested { body_size: self.request_size.known() };
            context.events.push(Event::Milestone { id, what, stamp });
        }
    }

    /// Says that the response began, where both are known.
    fn responding(&self, context: &mut Context<'_>) {
        if let (Some(exchange), Some(response)) = (&self.exchange, &self.response) {
            let (id, stamp) = (exchange.opening.id, response.message.first);
            context.events.push(Event::Milestone { id, what: Milestone::Responding, stamp });
        }
    }

    /// All content that the response can have has moved. Some clients (curl before 8) reset the stream then, without waiting
    /// for END_STREAM.
    fn is_whole(&self) -> bool {
        let (Some(exchange), Some(response)) = (&self.exchange, &self.response) else { return false };
        let Call::Http(call) = &exchange.call;
        // RFC 9110, section 6.4.1.
        let has_none = &*call.method == "HEAD" || matches!(response.call.status, Some(204 | 304));
        let length = if has_none { Some(0) } else { response.length };
        length.is_some() && self.response_size.known() == length
    }

    /// Nothing more is to be said of it.
    fn end(self, failure: Option<Failure>, context: &mut Context<'_>) {
        let failure = failure.filter(|_| !self.is_whole());
        let Some(mut exchange) = self.exchange else { return };
        let is_gap = self.mark == Some(Quality::Gap);
        // What broke off says what moved, unless some of that is not known.
        let size = |size: Size, whole: bool| size.known().filter(|_| whole || !is_gap);
        exchange.request.body_size = size(self.request_size, self.requested);
        let Call::Http(call) = &mut exchange.call;
        let rpc = call.rpc.as_deref_mut();
        let grpc = self.response.as_ref().is_some_and(|response| response.grpc);
        let rpc = if grpc { Some(&mut **call.rpc.get_or_insert_default()) } else { rpc };
        if let (Some(rpc), Some(counters)) = (rpc, &self.messages) {
            let [request, response] = &**counters;
            (rpc.request, rpc.response) = (request.counted(), response.counted());
        }
        if let Some(Response { mut message, call: answer, grpc_status, grpc_message, .. }) = self.response {
            message.body_size = size(self.response_size, self.answered);
            exchange.response = Some(message);
            call.status = answer.status;
            call.headers.extend(answer.headers);
            if let Some(rpc) = &mut call.rpc {
                (rpc.status, rpc.message) = (grpc_status, grpc_message);
            }
        }
        let unsaid = call.rpc.as_mut().filter(|rpc| rpc.status.is_none());
        if let (Some(rpc), Some(Failure::Stream(code))) = (unsaid, failure) {
            let elapsed = context.now.saturating_sub(exchange.opening.first.time);
            let expired = rpc.timeout.is_some_and(|timeout| grpc::has_expired(timeout, elapsed));
            let status = grpc::status_of_reset(code);
            let late = expired && status == grpc::CANCELLED;
            rpc.status = Some(if late { grpc::DEADLINE_EXCEEDED } else { status });
        }
        exchange.quality = self.mark;
        exchange.failure = failure;
        exchange.failed = failure.map(|_| context.now);
        context.events.push(Event::End(exchange));
    }
}

impl Streams {
    /// None, or that of a request made over HTTP/1, which is stream 1.
    pub(super) fn new(mark: Option<Quality>, upgraded: Option<Box<Exchange>>) -> Self {
        let mut open = HashMap::default();
        let last = u32::from(upgraded.is_some());
        if let Some(mut exchange) = upgraded {
            let Call::Http(call) = &mut exchange.call;
            call.version = 2;
            let size = |size: Option<u64>| Size { seen: size.unwrap_or(0), inexact: size.is_none() };
            let stream = Stream {
                request_size: size(exchange.request.body_size),
                touched: exchange.request.last.time,
                mark: exchange.quality,
                exchange: Some(exchange),
                requested: true,
                ..Stream::default()
            };
            open.insert(1, stream);
        }
        Self { open, last, mark, speaks_grpc: None, waiting: false, next_look: 0 }
    }

    pub(super) fn is_open(&self, id: u32) -> bool {
        self.open.contains_key(&id)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.open.is_empty()
    }

    /// No request was seen yet.
    pub(super) fn none_seen(&self) -> bool {
        self.last == 0
    }

    /// What a field says of its exchange that nobody saw, where no block was lost.
    pub(super) fn unknown(&self) -> Quality {
        self.mark.unwrap_or(Quality::Gap)
    }

    /// A header block of the direction of requests.
    pub(super) fn request(
        &mut self,
        opened: &Opened,
        head: Head,
        direction: Direction,
        stamp: Stamp,
        context: &mut Context<'_>,
    ) {
        let id = opened.frame.stream;
        if let Some(stream) = self.open.get_mut(&id).filter(|stream| stream.exchange.is_some()) {
            // Trailers.
            if let Some(mark) = head.mark {
                stream.mark(mark);
            }
            return stream.moved(true, stamp);
        }
        // Streams are opened in order (section 5.1.1). What is not a request is the end of one that was not seen.
        if id <= self.last || id.is_multiple_of(2) || head.of != Some(Of::Request) {
            return;
        }
        self.last = id;
        if self.open.len() >= OPEN && !self.open.contains_key(&id) {
            return context.lose(Lost::ExchangesFull);
        }
        let Head { mut call, trace, mark, grpc, timeout, .. } = head;
        call.version = 2;
        // One client's connection carries gRPC alone, so where the field is unknown, it is that again.
        let grpc = match (grpc, mark) {
            (None, Some(_)) => self.speaks_grpc == Some(true) && &*call.method == "POST",
            (known, _) => {
                let known = known == Some(true);
                self.speaks_grpc = Some(known && self.speaks_grpc != Some(false));
                known
            }
        };
        if grpc {
            call.rpc = Some(Box::new(RpcCall { timeout, ..RpcCall::default() }));
        }
        let begin = (opened.first, opened.position);
        let opening = context.begin(direction, &call, begin, trace);
        let stream = self.open.entry(id).or_default();
        stream.exchange = Some(Box::new(Exchange {
            opening,
            request: Message { first: opened.first, last: stamp, body_size: None },
            response: None,
            failure: None,
            failed: None,
            quality: None,
            call: Call::Http(call),
        }));
        if grpc && stream.messages.is_none() {
            stream.messages = Some(Box::default());
        }
        stream.touched = stream.touched.max(stamp.time);
        for mark in [self.mark, mark].into_iter().flatten() {
            stream.mark(mark);
        }
        stream.responding(context);
    }

    /// A header block of the direction of responses.
    pub(super) fn response(&mut self, opened: &Opened, head: Head, stamp: Stamp, context: &mut Context<'_>) {
        let Head { of, call, mark, grpc, grpc_status, grpc_message, length, .. } = head;
        let id = opened.frame.stream;
        if of == Some(Of::Response) && call.status.is_some_and(|status| (100..200).contains(&status)) {
            // Interim: the final response is still to come (RFC 9113, section 8.1).
            return;
        }
        if !self.open.contains_key(&id) {
            if id <= self.last || id.is_multiple_of(2) || of != Some(Of::Response) || self.open.len() >= OPEN
            {
                return;
            }
            // Overtakes its request, or answers one that was not seen.
            self.waiting = true;
        }
        let stream = self.open.entry(id).or_default();
        stream.touched = stamp.time;
        if let Some(mark) = mark {
            stream.mark(mark);
        }
        let grpc = grpc == Some(true);
        if grpc && stream.messages.is_none() {
            let mut counters = Box::<[Counter; 2]>::default();
            // Of what kind the request was, is told by its answer only: what went by was not counted.
            counters.first_mut().map(Counter::lose);
            stream.messages = Some(counters);
        }
        match &mut stream.response {
            None => {
                let message = Message { first: opened.first, last: stamp, body_size: None };
                stream.response = Some(Response { message, call, grpc, grpc_status, grpc_message, length });
                stream.responding(context);
            }
            // Trailers, or a response whose first block was taken for one.
            Some(response) => {
                response.grpc |= grpc || grpc_status.is_some();
                response.call.status = response.call.status.or(call.status);
                response.call.headers.extend(call.headers);
                response.grpc_status = grpc_status.or(response.grpc_status);
                response.grpc_message = grpc_message.or(response.grpc_message.take());
            }
        }
        stream.moved(false, stamp);
    }

    /// Bytes of a stream.
    pub(super) fn content(&mut self, id: u32, is_request: bool, bytes: &[u8], stamp: Stamp) {
        let Some(stream) = self.open.get_mut(&id) else { return };
        stream.size(is_request).seen += bytes.len() as u64;
        if let Some(counter) = stream.counter(is_request) {
            counter.feed(bytes);
        }
        stream.moved(is_request, stamp);
    }

    /// Bytes of a stream that were not captured, or lost.
    pub(super) fn unseen(&mut self, id: u32, is_request: bool, n: u64, stamp: Stamp) {
        let Some(stream) = self.open.get_mut(&id) else { return };
        stream.size(is_request).seen += n;
        if let Some(counter) = stream.counter(is_request) {
            counter.skip(n);
        }
        stream.moved(is_request, stamp);
    }

    /// How much of a frame is padding was not seen.
    pub(super) fn inexact(&mut self, id: u32, is_request: bool) {
        let Some(stream) = self.open.get_mut(&id) else { return };
        stream.size(is_request).inexact = true;
        if let Some(counter) = stream.counter(is_request) {
            counter.lose();
        }
    }

    /// One direction of a stream is over.
    pub(super) fn ended(&mut self, id: u32, is_request: bool, stamp: Stamp, context: &mut Context<'_>) {
        let Some(stream) = self.open.get_mut(&id) else { return };
        stream.moved(is_request, stamp);
        if is_request {
            stream.request_ended(stamp, context);
        } else {
            stream.answered |= stream.response.is_some();
        }
        if stream.answered {
            if stream.requested {
                self.end(id, None, context);
            } else {
                self.waiting = true;
            }
        }
    }

    /// Either end resets a stream.
    pub(super) fn reset(&mut self, id: u32, code: Option<u32>, context: &mut Context<'_>) {
        let Some(stream) = self.open.get_mut(&id) else { return };
        if code.is_none() {
            stream.mark(Quality::Gap);
        }
        let failure = match code {
            // A whole answer needs no more of its request (section 8.1).
            _ if stream.answered => None,
            Some(NO_ERROR) => Some(Failure::Closed),
            code => code.map(Failure::Stream),
        };
        self.end(id, failure, context);
    }

    /// The other end looked at no stream above this one, and will not.
    pub(super) fn refuse_above(&mut self, last: u32, context: &mut Context<'_>) {
        let is_refused = |id: u32, stream: &Stream| id > last && stream.response.is_none();
        for id in self.ids(is_refused) {
            self.end(id, Some(Failure::Stream(REFUSED)), context);
        }
    }

    /// Frames of one direction went unseen until a time: among them may have been the end of any stream that was open then, or
    /// a part of it.
    pub(super) fn doubt(&mut self, is_request: bool, until: Nanos, context: &Context<'_>) {
        let until = until.saturating_add(DISAGREEMENT);
        for stream in self.open.values_mut() {
            let is_later = stream.exchange.as_ref().is_some_and(|it| it.opening.first.time > until);
            if is_later || is_request && stream.requested || stream.answered {
                continue;
            }
            stream.mark(Quality::Gap);
            stream.size(is_request).inexact = true;
            if let Some(counter) = stream.counter(is_request) {
                counter.lose();
            }
            if !is_request {
                stream.doubtful = true;
                stream.touched = context.now;
                self.waiting = true;
            }
        }
    }

    /// Ends what time has decided.
    pub(super) fn expire(&mut self, context: &mut Context<'_>) {
        let now = context.now;
        if !self.waiting || now < self.next_look {
            return;
        }
        self.next_look = now.saturating_add(DISAGREEMENT);
        let patience = |stream: &Stream| match stream {
            _ if stream.exchange.is_none() || stream.answered => Some(DISAGREEMENT),
            _ => stream.doubtful.then_some(DOUBT),
        };
        let is_over = |_, stream: &Stream| {
            patience(stream).is_some_and(|patience| now.saturating_sub(stream.touched) > patience)
        };
        for id in self.ids(is_over) {
            self.end_unseen(id, context);
        }
        self.waiting = self.open.values().any(|stream| patience(stream).is_some());
    }

    /// The connection carries no more answers. `None`: Sonde stops, and what is not answered has no end.
    pub(super) fn fail_all(&mut self, failure: Option<Failure>, context: &mut Context<'_>) {
        for id in self.ids(|_, _| true) {
            match self.open.get(&id) {
                Some(stream) if stream.answered || stream.doubtful => self.end_unseen(id, context),
                _ if failure.is_some() => self.end(id, failure, context),
                _ => {}
            }
        }
        self.open = HashMap::default();
    }

    /// Sonde forgets the connection.
    pub(super) fn give_up(&mut self, context: &mut Context<'_>) {
        for id in self.ids(|_, _| true) {
            if let Some(stream) = self.open.get_mut(&id).filter(|stream| !stream.answered) {
                stream.mark(Quality::Gap);
            }
            self.end(id, None, context);
        }
    }

    /// One that is answered, or may be. If the end of its request was not seen, there may have been more of that; the messages
    /// until then are counted all the same.
    fn end_unseen(&mut self, id: u32, context: &mut Context<'_>) {
        if let Some(stream) = self.open.get_mut(&id).filter(|stream| !stream.requested) {
            stream.request_size.inexact = true;
        }
        self.end(id, None, context);
    }

    /// Those that fit, in order.
    fn ids(&self, fits: impl Fn(u32, &Stream) -> bool) -> Vec<u32> {
        let fitting = self.open.iter().filter(|&(&id, stream)| fits(id, stream));
        let mut ids: Vec<u32> = fitting.map(|(&id, _)| id).collect();
        ids.sort_unstable();
        ids
    }

    fn end(&mut self, id: u32, failure: Option<Failure>, context: &mut Context<'_>) {
        if let Some(stream) = self.open.remove(&id) {
            stream.end(failure, context);
        }
    }
}
