//! One connection's parser, whichever protocol it turns out to speak.

use std::sync::Arc;

use crate::conn::{Begins, Direction, Identity, Nanos, Role, Segment, Stamp};
use crate::proto::http1::Http1;
use crate::proto::http2::Http2;
use crate::proto::websocket::WebSocket;
use crate::proto::{Capture, Event, ExchangeId, HttpCall, Opening, TraceHeaders, otlp};
use crate::telemetry::{Counters, Lost};

/// Reads both directions of one connection.
#[derive(Debug)]
pub enum Parser {
    /// HTTP/1, or not known yet: what does not become HTTP/1 is given up after a bounded look.
    Http1(Box<Http1>),
    /// HTTP/2.
    Http2(Box<Http2>),
    /// WebSocket, after a handshake over HTTP/1.
    WebSocket(Box<WebSocket>),
    /// No protocol that Sonde reads, or one that took over from HTTP/1 and is not read yet.
    Ignored,
}

/// What a parser needs beside the bytes.
pub struct Context<'a> {
    /// The connection.
    pub identity: &'a mut Identity,
    /// The last exchange id given.
    pub ids: &'a mut u64,
    /// Where losses are counted.
    pub counters: &'a Counters,
    /// What it has to say.
    pub events: &'a mut Vec<Event>,
    /// Bytes of a head that are kept while it comes in pieces.
    pub head_bytes: usize,
    /// What is kept of a head beside what every span needs.
    pub capture: &'a Capture,
    /// Time of what is being told.
    pub now: Nanos,
}

impl Context<'_> {
    /// Says that an exchange begins with a request in a direction, whose first byte moved at a time and stands at a position.
    /// Returns what the exchange keeps of that.
    pub(super) fn begin(
        &mut self,
        direction: Direction,
        call: &HttpCall,
        (first, position): (Stamp, u64),
        trace: Option<Box<TraceHeaders>>,
    ) -> Opening {
        *self.ids += 1;
        let role = if direction == Direction::Write { Role::Client } else { Role::Server };
        let opening = Opening {
            id: ExchangeId(*self.ids),
            conn: self.identity.key,
            ends: self.identity.ends_as(role),
            role,
            first,
            position,
            connect: self.identity.connect.take(),
            trace,
            excluded: self.capture.excluded.match_target(call.target.as_bytes()),
            export: otlp::export(call),
        };
        let kept = Opening { trace: None, ends: Arc::clone(&opening.ends), ..opening };
        self.events.push(Event::Begin(opening));
        kept
    }

    pub(super) fn lose(&self, why: Lost) {
        self.counters.lose(why, 1);
    }
}

/// What of a connection was seen first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Onset {
    /// Its first byte.
    FirstByte,
    /// That it opened; its first bytes were none that are captured, or were lost.
    Opening,
    /// Neither: it is older than Sonde, or had been forgotten.
    Joined,
}

/// How a connection came to its end, as far as its exchanges care.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// Closed by either end.
    Closed,
    /// Reset by either end.
    Reset,
    /// The kernel gave it up, or nothing was heard of it for too long.
    Timeout,
    /// Another socket took its place; how it ended was not seen.
    Replaced,
    /// Sonde forgets it, for want of room.
    Evicted,
    /// Sonde stops.
    Stopped,
}

/// What a parser makes of its connection after a segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// It goes on.
    Stay,
    /// Another protocol has taken over.
    HandOver(Successor),
    /// It is not this protocol.
    Foreign,
}

/// Protocols that HTTP/1 hands a connection on to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Successor {
    /// The HTTP/2 preface was seen (RFC 9113, section 3.4), or a 101 response agreed on it.
    Http2,
    /// A tunnel, after a 2xx answer to CONNECT (RFC 9110, section 9.3.6).
    Tunnel,
    /// A 101 response agreed on WebSocket (RFC 6455, section 4.2.2).
    WebSocket,
    /// Anything else that a 101 response agreed on (RFC 9110, section 7.8).
    Upgrade,
}

impl Parser {
    /// Bytes at which a parser panics, for the tests of what that costs.
    #[cfg(test)]
    pub(crate) const PANIC: &[u8] = b"GET /panic HTTP/1.1\r\n\r\n";

    /// For a connection of which nothing else is known. Records are there from these places on: what is missing behind them was
    /// lost.
    #[must_use]
    pub fn new(onset: Onset, begins: Option<Begins>) -> Self {
        Self::Http1(Box::new(Http1::new(onset, begins)))
    }

    /// Reads the next bytes of one direction.
    pub fn segment(&mut self, segment: &Segment<'_>, direction: Direction, context: &mut Context<'_>) {
        // It may have waited for others since.
        let now = std::mem::replace(&mut context.now, segment.stamp.time);
        #[cfg(test)]
        assert!(segment.bytes != Self::PANIC, "asked for by a test");
        let verdict = match self {
            Self::Http1(http1) => match http1.joined_among_frames(segment, direction) {
                Some((onset, header)) => {
                    let mut http2 = Box::new(Http2::joined(onset, header, direction));
                    let verdict = http2.segment(segment, direction, context);
                    *self = Self::Http2(http2);
                    verdict
                }
                None => http1.segment(segment, direction, context),
            },
            Self::Http2(http2) => http2.segment(segment, direction, context),
            Self::WebSocket(websocket) => websocket.segment(segment, direction, context),
            Self::Ignored => Verdict::Stay,
        };
        match (verdict, &mut *self) {
            (Verdict::Stay, _) => {}
            (Verdict::HandOver(Successor::Http2), Self::Http1(http1)) => {
                let handed = http1.hand_over(direction);
                let rest = segment.from(handed.resume);
                let mut http2 = Box::new(Http2::after_http1(handed, direction));
                http2.segment(&rest, direction, context);
                *self = Self::Http2(http2);
            }
            (Verdict::HandOver(Successor::WebSocket), Self::Http1(http1)) => {
                let handed = http1.hand_over(direction);
                let rest = segment.from(handed.resume);
                let mut websocket = Box::new(WebSocket::after_http1(handed, http1.handshake, direction));
                *self = match websocket.segment(&rest, direction, context) {
                    Verdict::Stay => Self::WebSocket(websocket),
                    Verdict::HandOver(_) | Verdict::Foreign => Self::Ignored,
                };
            }
            // The place where the next protocol's parser takes the connection.
            (Verdict::HandOver(_) | Verdict::Foreign, _) => *self = Self::Ignored,
        }
        context.now = now;
    }

    /// One direction carries no more bytes.
    pub fn stream_ended(&mut self, direction: Direction, context: &mut Context<'_>) {
        match self {
            Self::Http1(http1) => http1.stream_ended(direction, context),
            Self::Http2(http2) => http2.stream_ended(direction, context),
            Self::WebSocket(websocket) => websocket.stream_ended(direction, context),
            Self::Ignored => {}
        }
    }

    /// The connection is over.
    pub fn closed(&mut self, ending: Ending, context: &mut Context<'_>) {
        match std::mem::replace(self, Self::Ignored) {
            Self::Http1(mut http1) => http1.closed(ending, context),
            Self::Http2(mut http2) => http2.closed(ending, context),
            Self::WebSocket(mut websocket) => websocket.closed(ending, context),
            Self::Ignored => {}
        }
    }

    /// Its bytes are of no interest any more.
    #[must_use]
    pub const fn is_ignored(&self) -> bool {
        matches!(self, Self::Ignored)
    }

    /// Its bytes are counted by their positions: the kernel side leaves it alone after a while, and what went unseen is no loss.
    #[must_use]
    pub const fn is_session(&self) -> bool {
        matches!(self, Self::WebSocket(_))
    }

    /// Nothing is open: forgetting the connection loses no exchange.
    #[must_use]
    pub fn is_idle(&self) -> bool {
        match self {
            Self::Http1(http1) => http1.is_idle(),
            Self::Http2(http2) => http2.is_idle(),
            Self::WebSocket(_) => false,
            Self::Ignored => true,
        }
    }

    /// Only the end of the connection is awaited, which for a unix socket nobody tells.
    #[must_use]
    pub fn awaits_close(&self) -> bool {
        match self {
            Self::Http1(http1) => http1.awaits_close(),
            Self::Http2(http2) => http2.awaits_close(),
            Self::WebSocket(websocket) => websocket.awaits_close(),
            Self::Ignored => false,
        }
    }

    /// Bytes kept for messages that came in pieces so far.
    #[must_use]
    pub fn buffered(&self) -> usize {
        match self {
            Self::Http1(http1) => http1.buffered(),
            Self::Http2(http2) => http2.buffered(),
            Self::WebSocket(_) | Self::Ignored => 0,
        }
    }
}
