//! One direction of a connection: where in which frame its next byte stands.

use super::frame::{Frame, HEADER, Kind, LONGEST};
use super::hpack::Decoder;
use crate::conn::{Nanos, Segment, Stamp};

/// Capacity that a buffer keeps between frames.
const KEPT_CAPACITY: usize = 1024;

/// What the next byte belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum State {
    /// The client's preface, so much of which is read.
    Preface(usize),
    /// A frame's header, whose first bytes are in [`Half::buffer`].
    Header,
    /// A frame's payload.
    Payload(Payload),
    /// Not known, until a frame is proven.
    Lost,
}

/// A payload being read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Payload {
    pub(super) frame: Frame,
    /// Bytes of it that are to come.
    pub(super) left: u32,
    /// What is done with them.
    pub(super) what: What,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum What {
    /// Kept in the buffer, to be read when they are all there.
    Kept,
    /// The length of the padding comes first.
    PadLength,
    /// A stream's bytes, and padding behind them.
    Content { padding: u32 },
    /// Of no interest.
    Skipped,
}

/// A header block of which further frames are to come.
#[derive(Debug)]
pub(super) struct Block {
    /// Its first frame.
    pub(super) opened: Opened,
    pub(super) bytes: Vec<u8>,
}

/// The frame that began a header block.
#[derive(Clone, Copy, Debug)]
pub(super) struct Opened {
    pub(super) frame: Frame,
    /// When its first byte moved.
    pub(super) first: Stamp,
    /// Where it stands.
    pub(super) position: u64,
}

/// A frame's header that was moved by a call of its own. So reads who reads without a buffer: Go's server.
#[derive(Clone, Copy, Debug)]
pub(crate) struct HeaderAlone {
    pub(super) frame: Frame,
    pub(super) first: Stamp,
    pub(super) position: u64,
}

impl HeaderAlone {
    /// What such a call seems to be, of a payload that is still to come and not longer than usual.
    pub(crate) fn of(call: &Segment<'_>, longest: u32) -> Option<Self> {
        let bytes: &[u8; HEADER] = call.bytes.try_into().ok()?;
        let frame = Frame::parse(bytes);
        let is_one = call.length == HEADER as u64 && frame.is_usual(longest.max(LONGEST)) && frame.length > 0;
        is_one.then_some(Self { frame, first: call.stamp, position: call.position })
    }

    /// The next call brings the payload, all of it and nothing else: that is as good a proof as a run of frames.
    pub(crate) fn precedes(&self, call: &Segment<'_>) -> bool {
        self.position + HEADER as u64 == call.position && call.length == u64::from(self.frame.length)
    }

    /// With that payload it says that the connection is HTTP/2.
    pub(crate) fn begins_message(&self, call: &Segment<'_>) -> bool {
        self.precedes(call) && self.frame.begins_message(call.bytes)
    }
}

/// One direction.
#[derive(Debug)]
pub(super) struct Half {
    pub(super) state: State,
    /// Position of the next byte, `None` before the first.
    pub(super) next: Option<u64>,
    pub(super) hpack: Decoder,
    /// A frame's header or payload that came in pieces, as far as it is here.
    pub(super) buffer: Vec<u8>,
    /// First byte of the current frame.
    pub(super) first: Stamp,
    /// Its position.
    pub(super) start: u64,
    /// The block that the next frame continues.
    pub(super) block: Option<Block>,
    /// The next frames continue a block that was lost.
    pub(super) skips_block: bool,
    /// Longest payload that was seen.
    pub(super) longest: u32,
    /// Blocks were lost since the connection is observed.
    pub(super) lost_blocks: bool,
    /// While lost: what may be a frame's header, read by a call of its own.
    pub(super) header: Option<HeaderAlone>,
    /// When bytes last went by of which nobody knows what frames they were.
    pub(super) skipped: Option<Nanos>,
    /// No more bytes will come.
    pub(super) ended: bool,
}

impl Half {
    /// At the first byte, or, with `joined`, anywhere.
    pub(super) fn new(state: State, joined: bool) -> Self {
        Self {
            state,
            next: None,
            hpack: Decoder::new(joined),
            buffer: Vec::new(),
            first: Stamp::default(),
            start: 0,
            block: None,
            skips_block: false,
            longest: 0,
            lost_blocks: false,
            header: None,
            skipped: None,
            ended: false,
        }
    }

    /// While lost: the header of the frame whose payload this call brings.
    pub(super) fn header_before(&mut self, call: &Segment<'_>) -> Option<HeaderAlone> {
        match self.header.take() {
            Some(header) if header.precedes(call) => return Some(header),
            Some(header) => self.skipped = Some(header.first.time),
            None => {}
        }
        self.header = HeaderAlone::of(call, self.longest);
        None
    }

    /// Bytes kept of what came in pieces.
    pub(super) fn buffered(&self) -> usize {
        self.buffer.capacity() + self.block.as_ref().map_or(0, |block| block.bytes.capacity())
    }

    /// Empties the buffer, and keeps its memory where it is small.
    pub(super) fn put_back(&mut self, mut buffer: Vec<u8>) {
        if buffer.capacity() <= KEPT_CAPACITY {
            buffer.clear();
            self.buffer = buffer;
        }
    }

    /// What is done with the payload of a frame.
    pub(super) fn begin(&mut self, frame: Frame) {
        let what = match frame.kind {
            Kind::Data if frame.has(super::frame::PADDED) => What::PadLength,
            Kind::Data => What::Content { padding: 0 },
            Kind::Headers | Kind::PushPromise | Kind::Continuation | Kind::RstStream | Kind::GoAway => {
                What::Kept
            }
            _ => What::Skipped,
        };
        self.longest = self.longest.max(frame.length);
        self.state = State::Payload(Payload { frame, left: frame.length, what });
    }

    /// A block was lost, or a part of one.
    pub(super) fn lose_block(&mut self) {
        self.hpack.lose();
        self.lost_blocks = true;
    }
}
