//! One direction of a connection: where in which frame its next byte stands.

use super::frame::{Frame, Kind, ends_within};
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

/// What calls brought that may begin with a frame and end within one, where nothing is known yet of where frames begin. So reads
/// who reads without a buffer (Go's server takes each header by itself), or has little room left in it.
#[derive(Clone, Debug)]
pub(crate) struct Begun {
    pub(super) bytes: Vec<u8>,
    /// When and where the first of them moved.
    pub(super) first: Stamp,
    pub(super) position: u64,
}

impl Begun {
    /// Most bytes that are kept: that many the kernel side copies of a call.
    const BYTES: usize = 1024;

    /// Keeps a call's bytes, behind those of `before`, if they may be such.
    pub(crate) fn of(before: Option<Self>, call: &Segment<'_>, longest: u32) -> Option<Self> {
        let before = before.filter(|before| before.precedes(call));
        let have = before.as_ref().map_or(0, |before| before.bytes.len());
        let all_seen = call.bytes.len() as u64 == call.length;
        if !all_seen || call.bytes.is_empty() || have + call.bytes.len() > Self::BYTES {
            return None;
        }
        let mut begun =
            before.unwrap_or_else(|| Self { bytes: Vec::new(), first: call.stamp, position: call.position });
        begun.bytes.extend_from_slice(call.bytes);
        ends_within(&begun.bytes, longest).then_some(begun)
    }

    /// All bytes up to the end of a call that goes on where they end, as far as they were captured, and how many there were.
    pub(crate) fn with(&self, call: &Segment<'_>) -> Option<(Vec<u8>, u64)> {
        let all = self.bytes.len() as u64 + call.length;
        self.precedes(call).then(|| ([&self.bytes, call.bytes].concat(), all))
    }

    fn precedes(&self, call: &Segment<'_>) -> bool {
        self.position + self.bytes.len() as u64 == call.position
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
    /// While lost: what may be the beginning of a frame.
    pub(super) begun: Option<Begun>,
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
            begun: None,
            skipped: None,
            ended: false,
        }
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
