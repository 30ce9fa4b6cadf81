//! HTTP/1.0 and HTTP/1.1 (RFC 9110, RFC 9112), read passively.
//!
//! Two half-machines, one a direction, and between them the exchanges that await their answer ([`pairing`]). Who writes
//! requests is the client, whatever the kernel says of connect and accept.
//!
//! What is never said wrongly is which response answers which request. After bytes that mattered went unseen, pairing
//! is in *doubt*: exchanges that were open end marked [`Quality::Gap`], without a response unless theirs had begun, and
//! nothing is paired until a request begins in its turn, that is, right after bytes of a response. A client that was seen to
//! pipeline takes no turns: there only a quiet second ends the doubt.

mod body;
pub(super) mod fields;
mod half;
pub(super) mod heads;
mod pairing;
pub(super) mod wire;

use self::body::{Body, Piece};
use self::fields::Repeated;
use self::half::{Before, Half, State};
use self::pairing::Outstanding;
use self::wire::{Line, first_line, request_line, status_line};
use crate::conn::{Begins, Direction, Nanos, Segment};
use crate::proto::http2::{Begun, is_http2};
use crate::proto::parser::{Context, Ending, Onset, Verdict};
use crate::proto::{Exchange, ExchangeId, Failure, Quality};
use sonde_abi::sniff::Start;

/// Silence after which what was sent before has been answered, or never will be.
const QUIET: Nanos = 1_000_000_000;

/// Calls that may begin with what is not HTTP/1, before anything was, until the connection is left alone for good.
const LOOKS: u16 = sonde_abi::limits::LOOKS;

/// One connection's state machine.
#[derive(Debug)]
pub struct Http1 {
    /// By [`Direction`].
    halves: [Half; 2],
    /// What of the connection was seen first.
    onset: Onset,
    /// The direction that carries requests, once a message told.
    requests: Option<Direction>,
    outstanding: Outstanding,
    /// What the last request said that the next will say again.
    repeated: Repeated,
    /// Calls that did not begin with HTTP/1, while nothing else did.
    looks: u16,
    /// The last segment: where and when.
    last: Option<(Direction, Nanos)>,
    /// Where the bytes of the protocol begin that takes over.
    resume: u64,
    /// The request that it is to answer, or the session that it will tell of.
    handed: Option<Box<Exchange>>,
    /// The exchange that the session follows.
    pub(super) handshake: Option<ExchangeId>,
    /// What may be the beginning of a frame of HTTP/2, and in which direction.
    begun: Option<Box<(Direction, Begun)>>,
}

/// What the parser of another protocol needs to take over.
#[derive(Debug)]
pub(super) struct Handed {
    /// Who writes requests.
    pub(super) client: Direction,
    /// Position of the first byte to read in the direction that was read last.
    pub(super) resume: u64,
    /// Positions of the next bytes, by direction, where any came.
    pub(super) next: [Option<u64>; 2],
    /// The request that HTTP/2 is to answer, or the session that follows.
    pub(super) request: Option<Box<Exchange>>,
}

impl Http1 {
    #[must_use]
    pub(super) fn new(onset: Onset, begins: Option<Begins>) -> Self {
        let fresh = onset == Onset::FirstByte;
        let begins = begins.or(fresh.then_some([0; 2])).map_or([None; 2], |begins| begins.map(Some));
        Self {
            halves: begins.map(|begin| Half::new(fresh, begin)),
            onset,
            requests: None,
            outstanding: Outstanding::new(onset),
            repeated: Repeated::default(),
            looks: 0,
            last: None,
            resume: 0,
            handed: None,
            handshake: None,
            begun: None,
        }
    }

    /// What the one that takes over needs to know. `direction` is the one whose bytes said so.
    pub(super) fn hand_over(&mut self, direction: Direction) -> Handed {
        let [write, read] = &self.halves;
        Handed {
            client: self.requests.unwrap_or(direction),
            resume: self.resume,
            next: [write.next, read.next],
            request: self.handed.take(),
        }
    }

    /// Whether the connection was joined late and turns out to be HTTP/2: then, since when it is observed, and the bytes
    /// before these that begin a frame.
    pub(super) fn joined_among_frames(
        &mut self,
        segment: &Segment<'_>,
        direction: Direction,
    ) -> Option<(Onset, Option<Begun>)> {
        // Its first bytes would have been the preface, which looks like a request.
        if self.requests.is_some() || self.onset == Onset::FirstByte {
            return None;
        }
        let before = self.begun.take_if(|before| before.0 == direction).map(|before| before.1);
        if let Some(begun) = &before
            && let Some((joined, length)) = begun.with(segment)
            && is_http2(&joined, length)
        {
            return Some((self.onset, before));
        }
        if is_http2(segment.bytes, segment.length) {
            return Some((self.onset, None));
        }
        if let Some(begun) = Begun::of(before, segment, 0) {
            self.begun = Some(Box::new((direction, begun)));
        }
        None
    }

    /// Reads the next bytes of one direction.
    pub(super) fn segment(
        &mut self,
        segment: &Segment<'_>,
        direction: Direction,
        context: &mut Context<'_>,
    ) -> Verdict {
        let now = segment.stamp.time;
        let before = self.last.replace((direction, now)).map_or(Before::default(), |(last, time)| Before {
            turn: last != direction,
            quiet: now.saturating_sub(time) >= QUIET,
        });
        let missing = segment.follow(&mut self.half(direction).next, direction);
        if missing > 0 {
            self.half(direction).severed = true;
            self.gap(missing, direction, context);
        }
        let mut piece = Piece::of(segment, before);
        while piece.left() > 0 {
            match self.step(&mut piece, direction, context) {
                Verdict::Stay => {}
                verdict => {
                    self.resume = piece.position;
                    return verdict;
                }
            }
        }
        let half = self.half(direction);
        half.severed &= !half.buffer.is_empty();
        if segment.end {
            self.stream_ended(direction, context);
        }
        Verdict::Stay
    }

    /// One direction carries no more bytes.
    pub(super) fn stream_ended(&mut self, direction: Direction, context: &mut Context<'_>) {
        self.half(direction).ended = true;
        let responses = self.requests.map(Direction::opposite);
        match self.half(direction).state {
            State::Head if responses == Some(direction) => self.broken_head(direction, context),
            State::Body(Body::Close) if responses == Some(direction) => self.complete(direction, context),
            State::Body(body) if body.may_be_over() => self.complete(direction, context),
            _ => {}
        }
        if responses == Some(direction) {
            self.fail_all(Some(Failure::Closed), context);
        }
    }

    /// The connection is over.
    pub(super) fn closed(&mut self, ending: Ending, context: &mut Context<'_>) {
        // The end of a TCP connection is told: where another one took its place before that, it was lost, and so may have been
        // what came before it. Nobody tells the end of a unix socket.
        let unseen = ending == Ending::Replaced && !context.identity.is_unix();
        if ending == Ending::Evicted || unseen {
            return self.end_open(None, Some(Quality::Gap), context);
        }
        let responses = self.requests.map(Direction::opposite);
        // A response that only the close ends is complete where its writer closed in order.
        let by_close = match responses.map(|responses| self.half(responses).state) {
            Some(State::Body(Body::Close)) => match ending {
                Ending::Closed => responses == Some(Direction::Write),
                Ending::Reset => false,
                _ => context.identity.is_unix(),
            },
            Some(State::Body(body)) => {
                body.may_be_over() && matches!(ending, Ending::Closed | Ending::Replaced)
            }
            _ => false,
        };
        if let Some(responses) = responses.filter(|_| by_close) {
            self.complete(responses, context);
        }
        // What there is of a request's head was never a request: nobody can have answered it.
        if let Some(responses) = responses.filter(|_| ending != Ending::Stopped) {
            self.broken_head(responses, context);
        }
        // Where nobody told the end, the rest of a request that has its answer may have moved unseen.
        if ending == Ending::Stopped || context.identity.is_unix() && ending != Ending::Closed {
            self.outstanding.mark_answered();
        }
        let failure = match ending {
            Ending::Closed | Ending::Replaced => Some(Failure::Closed),
            Ending::Reset => Some(Failure::ConnectionReset),
            Ending::Timeout if self.halves.iter().any(|half| half.ended) => Some(Failure::Closed),
            Ending::Timeout => Some(Failure::Timeout),
            Ending::Stopped | Ending::Evicted => None,
        };
        self.fail_all(failure, context);
    }

    /// Nothing is open.
    pub(super) fn is_idle(&self) -> bool {
        self.outstanding.is_empty()
    }

    /// A response that only the end of the connection ends is under way, or the other end will never read an answer.
    pub(super) fn awaits_close(&self) -> bool {
        self.halves.iter().any(|half| half.ended || half.state == State::Body(Body::Close))
    }

    /// Bytes kept of heads that came in pieces.
    pub(super) fn buffered(&self) -> usize {
        self.halves.iter().map(|half| half.buffer.capacity()).sum()
    }

    fn half(&mut self, direction: Direction) -> &mut Half {
        let [write, read] = &mut self.halves;
        match direction {
            Direction::Write => write,
            Direction::Read => read,
        }
    }

    /// Reads on as far as one state goes.
    fn step(&mut self, piece: &mut Piece<'_>, direction: Direction, context: &mut Context<'_>) -> Verdict {
        let state = self.half(direction).state;
        match state {
            State::Head => return self.head(piece, direction, context),
            State::Lost
                if self.could_start(direction, piece) || piece.whole && piece.sniff() == Start::Short =>
            {
                let half = self.half(direction);
                half.state = State::Head;
                half.severed |= !piece.before.turn;
            }
            State::Lost => {
                piece.skip_all();
                return self.looked();
            }
            State::Body(body) if self.is_over(body, direction, piece) => {
                self.complete(direction, context);
                // Its first bytes may have been taken for the body's.
                self.half(direction).severed |= !piece.before.turn;
            }
            State::Body(_) => {
                let half = self.half(direction);
                let State::Body(body) = &mut half.state else { return Verdict::Stay };
                let ended = body.read(piece, &mut half.content);
                half.last = piece.stamp;
                if ended {
                    self.complete(direction, context);
                }
            }
        }
        Verdict::Stay
    }

    /// The piece begins the next message, not the rest of this body.
    fn is_over(&mut self, body: Body, direction: Direction, piece: &Piece<'_>) -> bool {
        let half = self.half(direction);
        // Without its request it is not known whether a response has a body (HEAD). A request may be answered before its
        // body, which the client then never sends (100-continue refused, RFC 9110 section 10.1.1).
        let unsure = half.content.size.seen == 0 && self.is_answered(direction);
        if !piece.whole || !unsure && !body.is_open_ended() {
            return false;
        }
        let mut first_bytes =
            || piece.sniff() == Start::Short && piece.before.turn && self.is_answered(direction);
        body.is_open_ended() && first_bytes() || self.could_start(direction, piece)
    }

    /// A message of this direction could begin here: a start line, as far as it is there.
    fn could_start(&self, direction: Direction, piece: &Piece<'_>) -> bool {
        if !piece.whole {
            return false;
        }
        let line = || first_line(piece.bytes).map(|(line, _)| line);
        match piece.sniff() {
            Start::Request if self.requests.is_none_or(|requests| requests == direction) => {
                line().is_none_or(|line| request_line(line) != Line::Invalid)
            }
            Start::Response if self.requests.is_none_or(|requests| requests != direction) => {
                line().is_none_or(|line| status_line(line) != Line::Invalid)
            }
            _ => false,
        }
    }

    /// `missing` bytes of one direction went unseen.
    fn gap(&mut self, missing: u64, direction: Direction, context: &mut Context<'_>) {
        self.outstanding.gap();
        let half = self.half(direction);
        let exchange = half.exchange;
        let in_framing = match &mut half.state {
            State::Lost => return,
            State::Head => {
                if !half.at_boundary() {
                    self.cut_head(direction, Some(Quality::Gap), context);
                }
                let half = self.half(direction);
                if half.state == State::Head {
                    half.reset(State::Lost);
                }
                true
            }
            State::Body(body) => {
                if body.gap(missing, &mut half.content) {
                    return;
                }
                let beyond = match *body {
                    // The end of the body went by: when, nobody saw.
                    Body::Length(left) => {
                        half.content.size.seen += left;
                        Some(missing > left)
                    }
                    _ => None,
                };
                self.outstanding.mark(exchange, Quality::Gap);
                if let Some(beyond) = beyond {
                    self.complete(direction, context);
                    if beyond {
                        self.half(direction).state = State::Lost;
                    }
                }
                beyond.unwrap_or(true)
            }
        };
        if in_framing {
            self.doubt(context);
        }
    }
}

#[cfg(test)]
pub(super) mod tests;
