//! Bytes of one direction, in order.

use super::Direction;
use super::forgotten::is_syn;

/// Nanoseconds of the kernel's `CLOCK_MONOTONIC`.
pub type Nanos = u64;

/// When a call moved bytes, and on which thread.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stamp {
    /// End of the call.
    pub time: Nanos,
    /// When the bytes had arrived at this socket at the latest: equals `time` for writes and where unknown.
    pub arrival: Nanos,
    /// Process (thread group) id.
    pub tgid: u32,
    /// Thread id.
    pub tid: u32,
}

/// What reassembly hands to a parser: the next `length` bytes of one direction. Segments of a direction come in order
/// of position without overlap; a jump in `position` is a gap of bytes that nobody saw.
#[derive(Clone, Copy, Debug)]
pub struct Segment<'a> {
    /// Bytes that the direction carried before.
    pub position: u64,
    /// Bytes that moved; at least `bytes.len()`, 0 at the end of the stream.
    pub length: u64,
    /// The first of them, as far as they were captured.
    pub bytes: &'a [u8],
    /// The last eight of them, where they were captured apart from `bytes`.
    pub tail: Option<[u8; 8]>,
    /// The call that moved them.
    pub stamp: Stamp,
    /// A read returned 0: the other end will send no more.
    pub end: bool,
}

impl Segment<'_> {
    /// How many bytes of its direction went unseen before it. `next`, where the bytes before it ended, moves behind it.
    #[must_use]
    pub fn follow(&self, next: &mut Option<u64>, direction: Direction) -> u64 {
        match next.replace(self.position.saturating_add(self.length)) {
            Some(next) if is_syn(next, self.position, direction) => 0,
            next => self.position.saturating_sub(next.unwrap_or(self.position)),
        }
    }

    /// What of it stands from a position on; all where it begins behind that.
    #[must_use]
    pub fn from(&self, position: u64) -> Self {
        let passed = position.saturating_sub(self.position).min(self.length);
        let bytes = usize::try_from(passed).ok().and_then(|passed| self.bytes.get(passed..));
        Self {
            position: self.position + passed,
            length: self.length - passed,
            bytes: bytes.unwrap_or_default(),
            ..*self
        }
    }
}
