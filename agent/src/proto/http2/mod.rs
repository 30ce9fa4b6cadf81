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
mod streams;

pub(crate) use self::frame::{error_name, is_http2};

use self::frame::{END_HEADERS, END_STREAM, Frame, HEADER, Kind, PREFACE, fragment, fragment_start, prove};
use self::half::{Block, Half, Opened, Payload, State, What};
use self::head::{Head, Of, Reading};
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

    /// For a connection that is joined somewhere among its frames.
    pub(super) fn joined(onset: Onset) -> Self {
        let half = || Half::new(State::Lost, true);
        let mark = (onset == Onset::Joined).then_some(Quality::Joined);
        Self {
            halves: [half(), half()],
            client: None,
            streams: Streams::new(mark, None),
            repeated: Repeated::default(),
            looks: 0,
            goaway: None,
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
        let end = segment.position.saturating_add(segment.length);
        // The end that called connect counts its SYN among the bytes that it wrote.
        let missing = match half.next.replace(end) {
            Some(0) if segment.position == 1 && direction == Direction::Write => 0,
            next => segment.position.saturating_sub(next.unwrap_or(segment.position)),
        };
        let stamp = segment.stamp;
        self.hole(missing, direction, stamp, context);
        let (mut bytes, mut position) = (segment.bytes, segment.position);
        while !bytes.is_empty() {
            let before = bytes.len();
            bytes = self.step(bytes, end - position, position, stamp, direction, context);
            position += before.saturating_sub(bytes.len()) as u64;
        }
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

    /// Reads on as far as one state goes, and returns what is left of `bytes`, behind which the call's go on to `all`.
    fn step<'a>(
        &mut self,
        bytes: &'a [u8],
        all: u64,
        position: u64,
        stamp: Stamp,
        direction: Direction,
        context: &mut Context<'_>,
    ) -> &'a [u8] {
        let none_seen = self.streams.none_seen();
        let half = self.half(direction);
        match half.state {
            State::Preface(read) => {
                let rest = PREFACE.get(read..).unwrap_or_default();
                let n = rest.len().min(bytes.len());
                if rest.get(..n) == bytes.get(..n) {
                    let read = read + n;
                    half.state = if read < PREFACE.len() { State::Preface(read) } else { State::Header };
                    return bytes.get(n..).unwrap_or_default();
                }
                self.lose(direction, context);
                bytes
            }
            State::Header => {
                if half.buffer.is_empty() {
                    (half.first, half.start) = (stamp, position);
                }
                let have = half.buffer.len();
                let (head, rest) = bytes.split_at(bytes.len().min(HEADER - have.min(HEADER)));
                half.buffer.extend_from_slice(head);
                let Some(frame) = half.buffer.first_chunk().map(Frame::parse) else { return rest };
                half.buffer.clear();
                self.begin(frame, stamp, direction, context);
                rest
            }
            State::Payload(payload) => {
                let n = bytes.len().min(payload.left as usize);
                let (part, rest) = bytes.split_at(n);
                self.payload(payload, part, stamp, direction, context);
                rest
            }
            State::Lost => {
                if let Some(at) = prove(bytes, all, half.longest) {
                    half.state = State::Header;
                    self.doubt(direction, context);
                    return bytes.get(at..).unwrap_or_default();
                }
                if none_seen {
                    self.looks = self.looks.saturating_add(1);
                }
                &[]
            }
        }
    }

    /// A frame's header is there.
    fn begin(&mut self, frame: Frame, stamp: Stamp, direction: Direction, context: &mut Context<'_>) {
        let half = self.half(direction);
        // Header blocks are not interleaved with anything (section 4.3).
        let continued = half.block.as_ref().map(|block| block.opened.frame.stream);
        let in_order = match (continued, frame.kind) {
            (Some(stream), Kind::Continuation) => frame.stream == stream,
            (Some(_), _) => false,
            (None, Kind::Continuation) => half.skips_block,
            (None, _) => true,
        };
        if !frame.is_possible() || !in_order {
            return self.lose(direction, context);
        }
        half.skips_block &= frame.kind == Kind::Continuation && !frame.has(END_HEADERS);
        half.begin(frame);
        if half.block.is_none() && frame.kind == Kind::Continuation {
            half.state = State::Payload(Payload { frame, left: frame.length, what: What::Skipped });
        }
        if frame.length == 0 {
            let payload = Payload { frame, left: 0, what: What::Kept };
            self.complete(payload, &[], stamp, direction, context);
        }
    }

    /// Reads bytes of a payload, as many as there are or as are left of it.
    fn payload(
        &mut self,
        payload: Payload,
        part: &[u8],
        stamp: Stamp,
        direction: Direction,
        context: &mut Context<'_>,
    ) {
        let left = payload.left.saturating_sub(u32::try_from(part.len()).unwrap_or(u32::MAX));
        let limit = context.head_bytes;
        let half = self.half(direction);
        match payload.what {
            What::PadLength => {
                let Some((&length, content)) = part.split_first() else { return };
                let what = What::Content { padding: u32::from(length) };
                let behind = Payload { left: payload.left.saturating_sub(1), what, ..payload };
                half.state = State::Payload(behind);
                if behind.left == 0 {
                    return self.complete(behind, &[], stamp, direction, context);
                }
                if !content.is_empty() {
                    self.payload(behind, content, stamp, direction, context);
                }
                return;
            }
            What::Content { padding } => {
                let content = payload.left.saturating_sub(padding) as usize;
                let content = part.get(..content.min(part.len())).unwrap_or_default();
                let is_request = self.client == Some(direction);
                self.streams.content(payload.frame.stream, is_request, content, stamp);
            }
            What::Kept if left == 0 && half.buffer.is_empty() => {
                return self.complete(payload, part, stamp, direction, context);
            }
            What::Kept if half.buffer.len() + part.len() > limit => {
                return self.broken(payload, part.len() as u64, stamp, direction, context);
            }
            What::Kept => half.buffer.extend_from_slice(part),
            What::Skipped => {}
        }
        let half = self.half(direction);
        let payload = Payload { left, ..payload };
        half.state = State::Payload(payload);
        if left == 0 {
            let buffer = std::mem::take(&mut half.buffer);
            self.complete(payload, &buffer, stamp, direction, context);
            self.half(direction).put_back(buffer);
        }
    }

    /// `missing` bytes went unseen.
    fn hole(&mut self, mut missing: u64, direction: Direction, stamp: Stamp, context: &mut Context<'_>) {
        while missing > 0 {
            let half = self.half(direction);
            match half.state {
                State::Lost => return,
                State::Header => return self.lose(direction, context),
                State::Preface(read) => {
                    let n = missing.min(PREFACE.len().saturating_sub(read) as u64);
                    missing -= n;
                    // Bounded by the preface.
                    let read = read + n as usize;
                    half.state = if read < PREFACE.len() { State::Preface(read) } else { State::Header };
                }
                State::Payload(payload) => {
                    let n = missing.min(u64::from(payload.left));
                    missing -= n;
                    self.broken(payload, n, stamp, direction, context);
                }
            }
        }
    }

    /// `n` bytes of a payload are missing: no more than are left of it.
    fn broken(
        &mut self,
        payload: Payload,
        n: u64,
        stamp: Stamp,
        direction: Direction,
        context: &mut Context<'_>,
    ) {
        let Payload { frame, left, what } = payload;
        let is_request = self.client == Some(direction);
        let half = self.half(direction);
        // Bounded by `left`.
        let behind = Payload { left: left.saturating_sub(n as u32), what: What::Skipped, ..payload };
        half.state = State::Payload(behind);
        match what {
            What::Content { padding } => {
                half.state = State::Payload(Payload { what, ..behind });
                let content = u64::from(left.saturating_sub(padding)).min(n);
                self.streams.unseen(frame.stream, is_request, content, stamp);
            }
            What::PadLength => self.streams.inexact(frame.stream, is_request),
            What::Skipped => {}
            What::Kept => {
                let buffer = std::mem::take(&mut half.buffer);
                match frame.kind {
                    Kind::Headers | Kind::PushPromise | Kind::Continuation => {
                        half.skips_block = !frame.has(END_HEADERS);
                        let start = fragment_start(frame, &buffer);
                        match half.block.take() {
                            Some(mut block) => {
                                block.bytes.extend_from_slice(start);
                                self.block(&block.opened, &block.bytes, true, stamp, direction, context);
                            }
                            None => {
                                let opened = Opened { frame, first: half.first, position: half.start };
                                self.block(&opened, start, true, stamp, direction, context);
                            }
                        }
                    }
                    // It is over, and why was not seen.
                    Kind::RstStream => self.streams.reset(frame.stream, None, context),
                    _ => {}
                }
                self.half(direction).put_back(buffer);
            }
        }
        if behind.left == 0 {
            // Of a broken frame nothing is left to read but that it ended.
            let Payload { what, .. } = match self.half(direction).state {
                State::Payload(payload) => payload,
                _ => behind,
            };
            self.complete(Payload { what, ..behind }, &[], stamp, direction, context);
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
        if let Some(of) = head.of {
            self.client.get_or_insert(match of {
                Of::Request => direction,
                Of::Response => direction.opposite(),
            });
        }
        match self.client {
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
        half.lose_block();
        context.lose(Lost::Desync);
        self.doubt(direction, context);
    }

    /// Frames of one direction went unseen, up to here.
    fn doubt(&mut self, direction: Direction, context: &Context<'_>) {
        if let Some(client) = self.client {
            self.streams.doubt(client == direction, context);
        }
    }
}

#[cfg(test)]
mod tests;
