//! HTTP/2 (RFC 9113), read passively: frames, header blocks, streams.
//!
//! Two half-machines, one a direction, and between them the streams that are open ([`streams`]). Payloads of DATA are skipped
//! by arithmetic, so bytes that went unseen within one cost nothing. Where a header block was not seen whole, what was is used,
//! and what the direction's HPACK table held is unknown from there on. Where a frame's header was not seen, the direction is
//! lost until a place is proven to begin a frame; the streams that this may have touched are marked.

mod frame;
mod half;
mod head;
pub mod hpack;
mod reading;
mod streams;

pub(crate) use self::frame::{error_name, is_http2};
pub(crate) use self::half::Begun;

#[cfg(test)]
use self::frame::PREFACE;
use self::frame::{END_HEADERS, END_STREAM, Kind, fragment};
use self::half::{Block, Half, Opened, Payload, State, What};
use self::head::{Head, Of, Reading};
use self::hpack::Broken;
use self::streams::Streams;
use crate::conn::{Direction, Segment, Stamp};
use crate::proto::http1::Handed;
use crate::proto::http1::fields::Repeated;
use crate::proto::parser::{Context, Ending, Onset, Verdict};
use crate::proto::{Failure, Quality};
use crate::telemetry::Lost;

/// Bytes of the preface that look like a head of HTTP/1.
const PREFACE_HEAD: usize = 18;

/// Calls in which no frame was found, before any stream was, until the connection is left alone for good.
const LOOKS: u16 = sonde_abi::limits::LOOKS;

/// One connection's state machine.
#[derive(Debug)]
pub struct Http2 {
    /// By [`Direction`].
    halves: [Half; 2],
    /// The direction that carries requests, once a header block told.
    client: Option<Direction>,
    streams: Streams,
    /// What requests repeat.
    repeated: Repeated,
    /// Calls in which no frame was found, while no stream was seen.
    looks: u16,
    /// Error code of a GOAWAY.
    goaway: Option<u32>,
}

impl Http2 {
    /// Takes over from HTTP/1: the head of the preface was read, or a 101 response to a request that `handed` holds.
    /// `direction` is the one whose bytes go on behind that.
    pub(super) fn after_http1(handed: Handed, direction: Direction) -> Self {
        let Handed { client, resume, mut next, request } = handed;
        if let Some(next) = next.get_mut(direction as usize) {
            *next = Some(resume);
        }
        let preface = State::Preface(if request.is_some() { 0 } else { PREFACE_HEAD });
        // Whatever a server sent before, it was no header block: nobody had asked for anything.
        let [mut write, mut read] = match client {
            Direction::Write => [Half::new(preface, false), Half::new(State::Header, false)],
            Direction::Read => [Half::new(State::Header, false), Half::new(preface, false)],
        };
        [write.next, read.next] = next;
        let streams = Streams::new(None, request);
        Self {
            halves: [write, read],
            client: Some(client),
            streams,
            repeated: Repeated::default(),
            looks: 0,
            goaway: None,
        }
    }

    /// For a connection that is joined somewhere among its frames. `begun` stands before what comes next in a direction.
    pub(super) fn joined(onset: Onset, begun: Option<Begun>, direction: Direction) -> Self {
        let half = || Half::new(State::Lost, true);
        let mark = (onset == Onset::Joined).then_some(Quality::Joined);
        let mut joined = Self {
            halves: [half(), half()],
            client: None,
            streams: Streams::new(mark, None),
            repeated: Repeated::default(),
            looks: 0,
            goaway: None,
        };
        joined.half(direction).begun = begun;
        joined
    }

    /// Reads the next bytes of one direction.
    pub(super) fn segment(
        &mut self,
        segment: &Segment<'_>,
        direction: Direction,
        context: &mut Context<'_>,
    ) -> Verdict {
        let end = segment.position.saturating_add(segment.length);
        let missing = segment.follow(&mut self.half(direction).next, direction);
        let stamp = segment.stamp;
        self.hole(missing, direction, stamp, context);
        self.read(segment.bytes, segment.position, end, stamp, direction, context);
        self.hole(segment.length.saturating_sub(segment.bytes.len() as u64), direction, stamp, context);
        if segment.end {
            self.stream_ended(direction, context);
        }
        self.streams.expire(context);
        if self.looks < LOOKS { Verdict::Stay } else { Verdict::Foreign }
    }

    /// One direction carries no more bytes.
    pub(super) fn stream_ended(&mut self, direction: Direction, context: &mut Context<'_>) {
        self.half(direction).ended = true;
        if self.client.map(Direction::opposite) == Some(direction) {
            self.fail_all(Some(Failure::Closed), context);
        }
    }

    /// The connection is over.
    pub(super) fn closed(&mut self, ending: Ending, context: &mut Context<'_>) {
        let failure = match ending {
            // The end of a TCP connection is told: where another one took its place before that, it was lost.
            Ending::Replaced if !context.identity.is_unix() => return self.streams.give_up(context),
            Ending::Closed | Ending::Replaced => Some(Failure::Closed),
            Ending::Reset => Some(Failure::ConnectionReset),
            Ending::Timeout if self.halves.iter().any(|half| half.ended) => Some(Failure::Closed),
            Ending::Timeout => Some(Failure::Timeout),
            Ending::Evicted => return self.streams.give_up(context),
            Ending::Stopped => None,
        };
        self.fail_all(failure, context);
    }

    fn fail_all(&mut self, failure: Option<Failure>, context: &mut Context<'_>) {
        for direction in [Direction::Write, Direction::Read] {
            if self.half(direction).state == State::Lost {
                self.doubt(direction, context);
            }
        }
        // Whoever closed it has said why.
        let failure = match (failure, self.goaway) {
            (Some(_), Some(code)) => Some(Failure::Stream(code)),
            (failure, _) => failure,
        };
        self.streams.fail_all(failure, context);
    }

    /// Nothing is open.
    pub(super) fn is_idle(&self) -> bool {
        self.streams.is_empty()
    }

    /// One end will not read or write any more.
    pub(super) fn awaits_close(&self) -> bool {
        self.halves.iter().any(|half| half.ended)
    }

    /// Bytes kept of frames that came in pieces.
    pub(super) fn buffered(&self) -> usize {
        self.halves.iter().map(Half::buffered).sum()
    }

    fn half(&mut self, direction: Direction) -> &mut Half {
        let [write, read] = &mut self.halves;
        match direction {
            Direction::Write => write,
            Direction::Read => read,
        }
    }

    /// A payload is over; `bytes` are all of it where it was kept.
    fn complete(
        &mut self,
        payload: Payload,
        bytes: &[u8],
        stamp: Stamp,
        direction: Direction,
        context: &mut Context<'_>,
    ) {
        let Payload { frame, what, .. } = payload;
        let is_request = self.client == Some(direction);
        let half = self.half(direction);
        half.state = State::Header;
        let (first, position) = (half.first, half.start);
        match frame.kind {
            Kind::Data if frame.has(END_STREAM) => {
                self.streams.ended(frame.stream, is_request, stamp, context);
            }
            _ if what == What::Skipped => {}
            Kind::Headers | Kind::PushPromise => {
                let opened = Opened { frame, first, position };
                match fragment(frame, bytes) {
                    Some(bytes) if frame.has(END_HEADERS) => {
                        self.block(&opened, bytes, false, stamp, direction, context);
                    }
                    Some(bytes) => half.block = Some(Block { opened, bytes: bytes.into() }),
                    None => self.lose(direction, context),
                }
            }
            Kind::Continuation => {
                let Some(mut block) = half.block.take() else { return };
                let whole = block.bytes.len() + bytes.len() <= context.head_bytes;
                if whole {
                    block.bytes.extend_from_slice(bytes);
                }
                if frame.has(END_HEADERS) || !whole {
                    half.skips_block = !frame.has(END_HEADERS);
                    self.block(&block.opened, &block.bytes, !whole, stamp, direction, context);
                } else {
                    half.block = Some(block);
                }
            }
            Kind::RstStream => {
                let code = bytes.first_chunk().map(|code| u32::from_be_bytes(*code));
                self.streams.reset(frame.stream, code, context);
            }
            Kind::GoAway => self.goaway(bytes, direction, context),
            _ => {}
        }
    }

    /// A header block is there, or with `cut` what there will be of it.
    fn block(
        &mut self,
        opened: &Opened,
        bytes: &[u8],
        cut: bool,
        stamp: Stamp,
        direction: Direction,
        context: &mut Context<'_>,
    ) {
        let Self { halves: [write, read], repeated, .. } = self;
        let half = if direction == Direction::Write { write } else { read };
        let unknown = if half.lost_blocks { Quality::Gap } else { self.streams.unknown() };
        let mut head = Head::default();
        let mut reading = Reading { capture: context.capture, repeated, unknown };
        let result = half.hpack.block(bytes, |field| head.field(field, &mut reading));
        head.finish(context.capture);
        // RFC 9113, sections 4.3 and 8.1.1: it begins nothing that anybody answers.
        let is_none = result == Err(Broken::Invalid) || head.malformed;
        if cut || result.is_err() {
            half.lose_block();
            head.mark(Quality::Gap);
            context.lose(Lost::Desync);
        }
        let Opened { frame, .. } = *opened;
        if frame.kind == Kind::PushPromise {
            // What a server pushes nobody asked for: it is no exchange.
            return;
        }
        if let Some(of) = head.of.filter(|_| !is_none) {
            self.client.get_or_insert(match of {
                Of::Request => direction,
                Of::Response => direction.opposite(),
            });
        }
        match self.client {
            Some(client) if client == direction && is_none && !self.streams.is_open(frame.stream) => return,
            Some(client) if client == direction => {
                self.streams.request(opened, head, direction, stamp, context);
            }
            Some(_) => self.streams.response(opened, head, stamp, context),
            None => return,
        }
        if frame.has(END_STREAM) {
            let is_request = self.client == Some(direction);
            self.streams.ended(frame.stream, is_request, stamp, context);
        }
    }

    /// A GOAWAY frame (section 6.8): later streams of the other end were not looked at.
    fn goaway(&mut self, bytes: &[u8], direction: Direction, context: &mut Context<'_>) {
        let Some((last, rest)) = bytes.split_first_chunk() else { return };
        let last = u32::from_be_bytes(*last) & 0x7fff_ffff;
        let code = rest.first_chunk().map_or(0, |code| u32::from_be_bytes(*code));
        self.goaway = Some(code).filter(|&code| code != 0).or(self.goaway);
        if self.client.map(Direction::opposite) == Some(direction) {
            self.streams.refuse_above(last, context);
        }
    }

    /// The place among frames is not known any more.
    fn lose(&mut self, direction: Direction, context: &mut Context<'_>) {
        let half = self.half(direction);
        half.state = State::Lost;
        half.buffer = Vec::new();
        half.block = None;
        half.skips_block = false;
        half.skipped = Some(context.now);
        half.lose_block();
        context.lose(Lost::Desync);
        self.doubt(direction, context);
    }

    /// Frames of one direction may have gone unseen since a stream began. What of a connection went by before Sonde joined it
    /// touches none.
    fn doubt(&mut self, direction: Direction, context: &Context<'_>) {
        if let (Some(client), Some(skipped)) = (self.client, self.half(direction).skipped) {
            self.streams.doubt(client == direction, skipped, context);
        }
    }
}

#[cfg(test)]
mod tests;
