//! Heads: put together from pieces, told apart, and turned into exchanges.

use std::borrow::Cow;
use std::sync::Arc;

use memchr::memchr;
use sonde_abi::sniff::Start;

use super::body::{Body, Content, Piece, Size, sniff_bytes};
use super::fields::{self, Framing, text};
use super::half::{Before, State};
use super::pairing::{Open, http};
use super::wire::{
    Line, RequestLine, first_line, head_end, is_registered, request_line, request_line_start, status_line,
};
use super::{Http1, LOOKS};
use crate::conn::{Direction, Stamp};
use crate::proto::grpc::web;
use crate::proto::parser::{Context, Successor, Verdict};
use crate::proto::{Call, Event, Exchange, ExchangeId, Message, Milestone, Opening, Quality};
use crate::proto::{HttpCall, Upgrade};

/// How much of a head is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Extent {
    /// All of it.
    Whole,
    /// Its beginning; the mark that its exchange then carries.
    Cut(Option<Quality>),
}

impl Http1 {
    /// Reads on in a head.
    pub(super) fn head(
        &mut self,
        piece: &mut Piece<'_>,
        direction: Direction,
        context: &mut Context<'_>,
    ) -> Verdict {
        let half = self.half(direction);
        if half.buffer.is_empty() {
            // At least one empty line before a request is tolerated (RFC 9112, section 2.2).
            let before = if piece.whole { piece.before } else { Before::default() };
            let blank = piece.bytes.iter().take_while(|&&byte| byte == b'\r' || byte == b'\n').count();
            if blank > 0 {
                piece.skip(blank as u64);
            }
            if piece.left() == 0 {
                return Verdict::Stay;
            }
            if piece.bytes.is_empty() {
                piece.skip_all();
                return self.unreadable(direction, context);
            }
            half.before = before;
            half.first = piece.stamp;
            half.start = piece.position;
        }
        half.last = piece.stamp;
        let captured = piece.bytes;
        let searched = std::mem::take(&mut half.searched);
        let mut buffer = std::mem::take(&mut half.buffer);
        let old = buffer.len();
        if old > 0 {
            buffer.extend_from_slice(captured);
        }
        // The usual head comes in one piece and is read where it stands.
        let head = if old > 0 { buffer.as_slice() } else { captured };
        let end = head_end(head, searched);
        if end.is_none() && piece.rest == 0 && head.len() < context.head_bytes {
            piece.skip_all();
            if !self.plausible(head, searched, direction) {
                return self.unreadable(direction, context);
            }
            if old == 0 {
                buffer.extend_from_slice(captured);
            }
            let half = self.half(direction);
            half.searched = buffer.len();
            half.buffer = buffer;
            return Verdict::Stay;
        }
        half.line_seen = false;
        let verdict = match end {
            // What stood in the buffer before held no end, so the end is in this piece.
            Some(end) => {
                piece.skip(end.saturating_sub(old) as u64);
                self.message(head.get(..end).unwrap_or(head), Extent::Whole, direction, context)
            }
            None => {
                piece.skip_all();
                self.message(head, Extent::Cut(Some(Quality::Truncated)), direction, context)
            }
        };
        self.half(direction).put_back(buffer);
        verdict
    }

    /// Makes do with what there is of a head: what follows it went unseen, or belongs to an exchange that is over.
    pub(super) fn cut_head(
        &mut self,
        direction: Direction,
        mark: Option<Quality>,
        context: &mut Context<'_>,
    ) {
        let half = self.half(direction);
        let line_seen = half.line_seen;
        let buffer = half.take_buffer();
        if line_seen {
            self.message(&buffer, Extent::Cut(mark), direction, context);
        }
        self.half(direction).put_back(buffer);
    }

    /// The connection ended inside a response's head: an answer where the start line was seen whole.
    pub(super) fn broken_head(&mut self, direction: Direction, context: &mut Context<'_>) {
        if self.half(direction).state == State::Head {
            self.cut_head(direction, None, context);
        }
    }

    /// The bytes so far can become a head of this direction.
    fn plausible(&mut self, head: &[u8], searched: usize, direction: Direction) -> bool {
        let requests = self.requests;
        let half = self.half(direction);
        if half.line_seen {
            return true;
        }
        let start = sniff_bytes(head);
        let fits = match start {
            Start::Request => requests.is_none_or(|requests| requests == direction),
            Start::Response => requests.is_none_or(|requests| requests != direction),
            Start::Short => return true,
            Start::Other => false,
        };
        if !fits {
            return false;
        }
        if head.get(searched..).is_none_or(|new| memchr(b'\n', new).is_none()) {
            return true;
        }
        match first_line(head) {
            None => true,
            Some((line, _)) => {
                half.line_seen = match start {
                    Start::Request => matches!(request_line(line), Line::Valid(_)),
                    _ => matches!(status_line(line), Line::Valid(_)),
                };
                half.line_seen
            }
        }
    }

    /// A head is there, or what there will be of it.
    fn message(
        &mut self,
        head: &[u8],
        extent: Extent,
        direction: Direction,
        context: &mut Context<'_>,
    ) -> Verdict {
        let (line, lines) = first_line(head).unwrap_or((head, &[]));
        let line_whole = line.len() < head.len();
        match sniff_bytes(head) {
            Start::Request if self.requests.is_none_or(|requests| requests == direction) => {
                let line = match request_line(line) {
                    Line::Valid(line) => Some(line),
                    Line::Http2 if self.requests.is_none() => return Verdict::HandOver(Successor::Http2),
                    _ if !line_whole => request_line_start(line),
                    _ => None,
                };
                let severed = self.half(direction).severed;
                if let Some(line) = line.filter(|line| !severed || is_registered(line.method)) {
                    self.requests = Some(direction);
                    self.request(line, lines, extent, direction, context);
                    return Verdict::Stay;
                }
            }
            Start::Response if self.requests.is_none_or(|requests| requests != direction) => {
                if let Line::Valid(status) = status_line(line) {
                    self.requests = Some(direction.opposite());
                    return self.response(status, lines, extent, direction, context);
                }
            }
            _ => {}
        }
        self.unreadable(direction, context)
    }

    /// What should begin a message does not.
    fn unreadable(&mut self, direction: Direction, context: &mut Context<'_>) -> Verdict {
        self.half(direction).reset(State::Lost);
        if self.requests.is_some() {
            self.doubt(context);
            return Verdict::Stay;
        }
        // Perhaps the end of something whose beginning was not seen.
        self.outstanding.suspend();
        self.looked()
    }

    /// A call began with no message. Too many of them, before anything was one, and the connection is left alone.
    pub(super) fn looked(&mut self) -> Verdict {
        self.looks = self.looks.saturating_add(1);
        if self.requests.is_some() || self.looks < LOOKS { Verdict::Stay } else { Verdict::Foreign }
    }

    fn request(
        &mut self,
        line: RequestLine<'_>,
        lines: &[u8],
        extent: Extent,
        direction: Direction,
        context: &mut Context<'_>,
    ) {
        self.before_request(direction, context);
        let mut call = HttpCall {
            method: method(line.method),
            target: text(line.target),
            version: line.version,
            ..HttpCall::default()
        };
        let mut trace = None;
        let mut framing = fields::request(lines, &mut call, &mut trace, &mut self.repeated);
        fields::asked_of_request(lines, context.capture, &mut call, &mut trace);
        let format = call.rpc.as_ref().and_then(|_| fields::web_format(lines));
        let mut quality = None;
        if let Extent::Cut(mark) = extent {
            framing = Framing::Unknown;
            quality = mark;
        }
        let half = self.half(direction);
        let (first, last, position) = (half.first, half.last, half.start);
        let exchange = self.outstanding.has_room(context).then(|| {
            let opening = context.begin(direction, &call, (first, position), trace);
            let id = opening.id;
            let request = Message { first, last, body_size: None };
            let call = Call::Http(call);
            let exchange =
                Exchange { opening, request, response: None, failure: None, failed: None, quality, call };
            self.outstanding.push(Open::new(Box::new(exchange), line.method));
            id
        });
        self.body(framing, (exchange, format), direction, context);
    }

    fn response(
        &mut self,
        status: u16,
        lines: &[u8],
        extent: Extent,
        direction: Direction,
        context: &mut Context<'_>,
    ) -> Verdict {
        if matches!(status, 100 | 102..=199) {
            // Interim: the final response is still to come (RFC 9110, section 15.2).
            let half = self.half(direction);
            half.exchange = None;
            half.state = if extent == Extent::Whole { State::Head } else { State::Body(Body::Unknown) };
            half.content = Content { size: Size { seen: 0, inexact: true }, web: None };
            return Verdict::Stay;
        }
        self.before_response(direction, context);
        let half = self.half(direction);
        let (first, last) = (half.first, half.last);
        let mut framing = match status {
            204 | 304 => Framing::Length(0),
            _ => fields::response(lines),
        };
        if let Extent::Cut(_) = extent
            && framing != Framing::Chunked
        {
            framing = Framing::Unknown;
        }
        // Behind a head of which the end was not seen nobody knows where the next protocol begins.
        let switched = status == 101 && extent == Extent::Whole;
        if switched && fields::agrees_on(lines, "h2c") {
            // The answer follows as that of stream 1 (RFC 7540, section 3.2).
            self.handed = self.outstanding.hand_over();
            self.end_open(None, Some(Quality::Gap), context);
            return Verdict::HandOver(Successor::Http2);
        }
        // Where the client's frames begin has to be known.
        let requests_over = self.half(direction.opposite()).at_boundary();
        let websocket = switched && requests_over && fields::agrees_on(lines, "websocket");
        let mut successor = (status == 101).then_some(Successor::Upgrade);
        let (mut session, mut format) = (None, None);
        let exchange = self.outstanding.answer(status, first.time, context).map(|open| {
            if open.is_head && extent == Extent::Whole {
                framing = Framing::Length(0);
            }
            if open.is_connect && (200..300).contains(&status) {
                successor = Some(Successor::Tunnel);
            }
            if let Extent::Cut(Some(mark)) = extent {
                open.mark(mark);
            }
            let exchange = &mut open.exchange;
            exchange.response = Some(Message { first, last, body_size: None });
            let call = http(exchange);
            fields::asked_of_response(lines, context.capture, call);
            format = call.rpc.as_ref().and_then(|_| fields::web_format(lines));
            call.status = Some(status);
            call.upgraded = successor.map(|_| if websocket { Upgrade::WebSocket } else { Upgrade::Other });
            let id = exchange.opening.id;
            if websocket {
                successor = Some(Successor::WebSocket);
                session = Some(following(exchange, (first, last), context));
            }
            context.events.push(Event::Milestone { id, what: Milestone::Responding, stamp: first });
            id
        });
        if let Some(successor) = successor {
            (self.handed, self.handshake) = (session, exchange);
            self.body(Framing::Length(0), (exchange, None), direction, context);
            self.end_open(None, Some(Quality::Gap), context);
            return Verdict::HandOver(successor);
        }
        let cut_chunked = framing == Framing::Chunked && extent != Extent::Whole;
        self.body(framing, (exchange, format), direction, context);
        if cut_chunked {
            let half = self.half(direction);
            half.state = State::Body(Body::Terminator([0; 8]));
            half.content.lose();
        }
        Verdict::Stay
    }

    /// The head is read: its body comes next.
    fn body(
        &mut self,
        framing: Framing,
        (exchange, format): (Option<ExchangeId>, Option<web::Format>),
        direction: Direction,
        context: &mut Context<'_>,
    ) {
        let half = self.half(direction);
        half.exchange = exchange;
        let web =
            format.filter(|_| framing != Framing::Unknown).map(|format| Box::new(web::Reader::new(format)));
        half.content = Content { size: Size { seen: 0, inexact: framing == Framing::Unknown }, web };
        half.state = State::Body(match framing {
            Framing::Length(length) => Body::Length(length),
            Framing::Chunked => Body::CHUNKED,
            Framing::Close => Body::Close,
            Framing::Unknown => Body::Unknown,
        });
        if framing == Framing::Length(0) {
            self.complete(direction, context);
        }
    }
}

/// The session that follows a handshake, as far as that is known when it begins: with the response's last byte.
fn following(
    handshake: &Exchange,
    (first, last): (Stamp, Stamp),
    context: &mut Context<'_>,
) -> Box<Exchange> {
    *context.ids += 1;
    let Call::Http(call) = &handshake.call;
    let opening = Opening {
        id: ExchangeId(*context.ids),
        ends: Arc::clone(&handshake.opening.ends),
        first,
        connect: None,
        trace: None,
        ..handshake.opening
    };
    let message = Message { first: last, last, body_size: None };
    let call = HttpCall { status: None, headers: Vec::new(), rpc: None, ..call.clone() };
    Box::new(Exchange {
        opening,
        request: message,
        response: Some(message),
        failure: None,
        failed: None,
        quality: handshake.quality,
        call: Call::Http(call),
    })
}

/// The method as text; the common ones cost no memory.
pub(in crate::proto) fn method(method: &[u8]) -> Cow<'static, str> {
    match method {
        b"GET" => Cow::Borrowed("GET"),
        b"POST" => Cow::Borrowed("POST"),
        b"PUT" => Cow::Borrowed("PUT"),
        b"HEAD" => Cow::Borrowed("HEAD"),
        b"DELETE" => Cow::Borrowed("DELETE"),
        b"PATCH" => Cow::Borrowed("PATCH"),
        b"OPTIONS" => Cow::Borrowed("OPTIONS"),
        other => Cow::Owned(text(other).into_string()),
    }
}
