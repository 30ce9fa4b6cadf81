//! Bytes into frames: headers, payloads, and what is missing of them.

use super::Http2;
use super::frame::{END_HEADERS, Frame, HEADER, Kind, PREFACE, fragment_start, prove};
use super::half::{Begun, Opened, Payload, State, What};
use crate::conn::{Direction, Segment, Stamp};
use crate::proto::parser::Context;

impl Http2 {
    /// Reads bytes that begin at `position`, behind which the call's go on to `end`.
    pub(super) fn read(
        &mut self,
        mut bytes: &[u8],
        mut position: u64,
        end: u64,
        stamp: Stamp,
        direction: Direction,
        context: &mut Context<'_>,
    ) {
        while !bytes.is_empty() {
            let before = bytes.len();
            bytes = self.step(bytes, end - position, position, stamp, direction, context);
            position += before.saturating_sub(bytes.len()) as u64;
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
                let call = Segment { bytes, length: all, position, stamp, tail: None, end: false };
                let begun = half.begun.take();
                let joined = begun.as_ref().and_then(|begun| begun.with(&call));
                let (seen, length) =
                    joined.as_ref().map_or((bytes, all), |(seen, length)| (seen.as_slice(), *length));
                if let Some(at) = prove(seen, length, half.longest) {
                    half.state = State::Header;
                    if at > 0 {
                        half.skipped = Some(stamp.time);
                    }
                    self.doubt(direction, context);
                    let before = seen.len() - bytes.len();
                    if let Some(begun) = begun.filter(|_| at < before) {
                        let (position, end) = (begun.position + at as u64, begun.position + before as u64);
                        let begun_bytes = begun.bytes.get(at..).unwrap_or_default();
                        self.read(begun_bytes, position, end, begun.first, direction, context);
                    }
                    return bytes.get(at.saturating_sub(before)..).unwrap_or_default();
                }
                half.begun = Begun::of(begun, &call, half.longest);
                if half.begun.is_none() {
                    half.skipped = Some(stamp.time);
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
    pub(super) fn hole(
        &mut self,
        mut missing: u64,
        direction: Direction,
        stamp: Stamp,
        context: &mut Context<'_>,
    ) {
        while missing > 0 {
            let half = self.half(direction);
            match half.state {
                State::Lost => {
                    half.skipped = Some(stamp.time);
                    return;
                }
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
}
