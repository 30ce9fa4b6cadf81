//! WebSocket (RFC 6455) behind its handshake, read passively: how long a session lasted, what went each way, and how it was
//! closed. Its messages are nobody's business.
//!
//! The kernel side looks at the first calls only, then it leaves the connection alone. So bytes are what positions say, which is
//! right whatever went unseen, and messages are told only where the header of every frame was seen: unknown beats wrong.

mod frames;

use self::frames::Frames;
use super::http1::Handed;
use super::parser::{Context, Ending, Verdict};
use super::{Call, Event, Exchange, ExchangeId, Failure};
use crate::conn::{Direction, Nanos, Segment};

/// What a connection carried after the handshake.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Session {
    /// When it was over: its closing handshake was done, else an end of the connection was told.
    pub end: Nanos,
    /// What the client sent.
    pub client: Carried,
    /// What the server sent.
    pub server: Carried,
    /// Status code of the first frame that closed it (section 7.4); `None` where there was none, or it was not seen.
    pub close: Option<u16>,
}

/// What went one way.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Carried {
    /// Bytes on the connection, those of the frames' headers too.
    pub bytes: u64,
    /// Messages that went by whole; `None` where a frame's header was not seen.
    pub messages: Option<u64>,
}

/// One connection's state machine.
#[derive(Debug)]
pub struct WebSocket {
    /// The exchange that was the handshake, and what will be told of what follows it; `None` once that is.
    session: Option<(ExchangeId, Box<Exchange>)>,
    client: Direction,
    /// By [`Direction`].
    halves: [Half; 2],
    /// What the first frame that closed said.
    close: Option<Option<u16>>,
    /// When one direction ended.
    ended: Option<Nanos>,
}

#[derive(Debug)]
struct Half {
    start: u64,
    /// Position of the next byte, `None` before any was seen.
    next: Option<u64>,
    frames: Frames,
}

impl WebSocket {
    /// Takes over from HTTP/1, behind an exchange of that. `direction` is the one whose bytes agreed on it.
    pub(super) fn after_http1(handed: Handed, handshake: Option<ExchangeId>, direction: Direction) -> Self {
        let Handed { client, resume, next, request } = handed;
        let half = |of: Direction| {
            let [write, read] = next;
            let next = match of {
                _ if of == direction => Some(resume),
                Direction::Write => write,
                Direction::Read => read,
            };
            Half { start: next.unwrap_or(0), next, frames: Frames::new(of == client) }
        };
        Self {
            session: handshake.zip(request),
            client,
            halves: [half(Direction::Write), half(Direction::Read)],
            close: None,
            ended: None,
        }
    }

    /// Reads the next bytes of one direction.
    pub(super) fn segment(
        &mut self,
        segment: &Segment<'_>,
        direction: Direction,
        context: &mut Context<'_>,
    ) -> Verdict {
        let half = self.half(direction);
        let missing = segment.follow(&mut half.next, direction);
        half.frames.skip(missing);
        half.frames.feed(segment.bytes);
        half.frames.skip(segment.length.saturating_sub(segment.bytes.len() as u64));
        self.close = self.close.or(self.half(direction).frames.closed());
        let is_client = direction == self.client;
        if let Some((_, session)) = self.session.as_mut().filter(|_| segment.length > 0) {
            let Exchange { request, response, .. } = &mut **session;
            let message = if is_client { Some(request) } else { response.as_mut() };
            message.into_iter().for_each(|message| message.last = segment.stamp);
        }
        if self.halves.iter().all(|half| half.frames.closed().is_some()) {
            // Nothing follows (section 5.5.1). That the connection goes may not be told, and is no part of it.
            self.tell(segment.stamp.time, None, context);
        } else if segment.end {
            self.stream_ended(direction, context);
        }
        if self.session.is_some() { Verdict::Stay } else { Verdict::Foreign }
    }

    /// One direction carries no more bytes.
    pub(super) fn stream_ended(&mut self, _: Direction, context: &mut Context<'_>) {
        self.ended.get_or_insert(context.now);
        if context.identity.is_unix() {
            // Nobody tells its close.
            self.closed(Ending::Closed, context);
        }
    }

    /// The connection is over.
    pub(super) fn closed(&mut self, ending: Ending, context: &mut Context<'_>) {
        let failure = match ending {
            Ending::Closed => Failure::Closed,
            Ending::Reset => Failure::ConnectionReset,
            Ending::Timeout => Failure::Timeout,
            // How it ended, and what went until then, nobody saw.
            Ending::Replaced | Ending::Evicted | Ending::Stopped => {
                if let Some((id, _)) = self.session.take() {
                    context.events.push(Event::Followed { id, session: None });
                }
                return;
            }
        };
        // Where frames went unseen, one that closed it may be among them.
        let unclosed = self.close.is_none() && self.halves.iter().all(|half| half.frames.is_known());
        let end = self.ended.unwrap_or(context.now);
        self.tell(end, unclosed.then_some(failure), context);
    }

    /// One direction has ended, which is all that is ever told of a unix socket.
    pub(super) const fn awaits_close(&self) -> bool {
        self.ended.is_some()
    }

    fn tell(&mut self, end: Nanos, failure: Option<Failure>, context: &mut Context<'_>) {
        let Some((id, mut session)) = self.session.take() else { return };
        let [write, read] = &self.halves;
        let (client, server) = if self.client == Direction::Write { (write, read) } else { (read, write) };
        let Call::Http(call) = &mut session.call;
        let (client, server) = (client.carried(), server.carried());
        call.session = Some(Box::new(Session { end, client, server, close: self.close.flatten() }));
        session.failure = failure;
        session.failed = failure.map(|_| end);
        context.events.push(Event::Followed { id, session: Some(session) });
    }

    fn half(&mut self, direction: Direction) -> &mut Half {
        let [write, read] = &mut self.halves;
        match direction {
            Direction::Write => write,
            Direction::Read => read,
        }
    }
}

impl Half {
    fn carried(&self) -> Carried {
        let bytes = self.next.unwrap_or(self.start).saturating_sub(self.start);
        Carried { bytes, messages: self.frames.messages() }
    }
}
