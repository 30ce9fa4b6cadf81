//! One direction of a connection: sequence numbers (RFC 9293, section 3.4) become positions, and what came ahead of its
//! turn is kept.

use std::collections::BTreeMap;

use crate::conn::Nanos;

/// How far ahead of what is expected next a segment belongs to this connection: no window is larger (RFC 7323) than
/// four times that, and none in use is larger than this.
const AHEAD: i64 = 1 << 28;
/// How far behind it: what was sent again.
const BEHIND: i64 = 1 << 26;

/// Bytes that a piece which waits costs beside its own.
const OVERHEAD: usize = 128;

/// One direction.
#[derive(Debug, Default)]
pub(super) struct Half {
    /// Sequence number of the byte at `next`; `None` before any was heard of.
    seq: Option<u32>,
    /// Position of the next byte to hand out.
    next: u64,
    /// The other end has everything before this position.
    acked: u64,
    /// Where the direction ends, and what its sender had received then.
    pub(super) fin: Option<(u64, u64)>,
    /// That has been handed out.
    pub(super) ended: bool,
    /// By position, without overlap.
    held: BTreeMap<u64, Held>,
    held_bytes: usize,
}

/// A piece that waits.
#[derive(Debug)]
pub(super) struct Held {
    pub(super) length: u32,
    pub(super) bytes: Box<[u8]>,
    pub(super) time: Nanos,
    /// What its sender had received of the other direction when it sent this.
    pub(super) after: u64,
    /// In which place it came.
    pub(super) order: u64,
}

/// Data of a segment, by position.
#[derive(Clone, Copy, Debug)]
pub(super) struct Piece<'a> {
    pub(super) position: u64,
    pub(super) length: u32,
    /// The first of it, as far as it was captured.
    pub(super) bytes: &'a [u8],
    pub(super) time: Nanos,
    pub(super) after: u64,
    pub(super) order: u64,
}

impl Half {
    /// The first byte will have this sequence number and position.
    pub(super) fn begin(&mut self, seq: u32, position: u64) {
        (self.seq, self.next, self.acked) = (Some(seq), position, position);
    }

    pub(super) const fn is_known(&self) -> bool {
        self.seq.is_some()
    }

    pub(super) const fn next(&self) -> u64 {
        self.next
    }

    /// The position of a sequence number, which lies before the first where it is negative; `None` where it belongs to
    /// another connection, or nothing is known yet.
    pub(super) fn position(&self, seq: u32) -> Option<i64> {
        // Reads the difference as a signed number: numbers wrap around.
        let distance = i64::from(seq.wrapping_sub(self.seq?).cast_signed());
        (-BEHIND..AHEAD).contains(&distance).then_some(self.next.cast_signed() + distance)
    }

    /// The other end expects this number next. Returns its position.
    pub(super) fn acknowledge(&mut self, seq: u32) -> u64 {
        let position = self.position(seq).and_then(|position| u64::try_from(position).ok());
        let position = position.unwrap_or(0);
        // A FIN has a number of its own behind the last byte.
        let position = self.fin.map_or(position, |(fin, _)| position.min(fin));
        self.acked = self.acked.max(position);
        position
    }

    /// Bytes went unseen which the other end has.
    pub(super) fn misses(&self) -> bool {
        self.acked > self.next
    }

    /// Nothing before this position is missing.
    pub(super) const fn has(&self, position: u64) -> bool {
        position <= self.next
    }

    /// The part of a piece that is new, `None` where there is none.
    pub(super) fn news<'a>(&self, piece: &Piece<'a>) -> Option<Piece<'a>> {
        cut(piece, self.next, self.fin.map_or(u64::MAX, |(end, _)| end))
    }

    /// Bytes up to here have been handed out, or given up.
    pub(super) fn advance(&mut self, to: u64) {
        let by = to.saturating_sub(self.next);
        // Wraps as sequence numbers do.
        self.seq = self.seq.map(|seq| seq.wrapping_add(by as u32));
        self.next += by;
    }

    /// Keeps what is new of a piece: what came first stays.
    pub(super) fn hold(&mut self, piece: &Piece<'_>) {
        let end = piece.position.saturating_add(u64::from(piece.length));
        let mut at = piece.position.max(self.next);
        while at < end {
            let before = self.held.range(..=at).next_back();
            let covered = before.map_or(at, |(&position, held)| position + u64::from(held.length));
            if covered > at {
                at = covered;
                continue;
            }
            let until = self.held.range(at..).next().map_or(end, |(&position, _)| position.min(end));
            if let Some(Piece { position, length, bytes, time, after, order }) = cut(piece, at, until) {
                self.held_bytes += bytes.len() + OVERHEAD;
                self.held.insert(position, Held { length, bytes: bytes.into(), time, after, order });
            }
            at = until;
        }
    }

    /// The first piece that waits: where it stands, what its sender had received, and in which place it came.
    pub(super) fn front(&self) -> Option<(u64, u64, u64)> {
        self.held.first_key_value().map(|(&position, held)| (position, held.after, held.order))
    }

    /// When it came.
    pub(super) fn time(&self) -> Option<Nanos> {
        self.held.first_key_value().map(|(_, held)| held.time)
    }

    pub(super) fn pop(&mut self) -> Option<(u64, Held)> {
        let (position, held) = self.held.pop_first()?;
        self.held_bytes = self.held_bytes.saturating_sub(held.bytes.len() + OVERHEAD);
        Some((position, held))
    }

    /// Pieces that wait.
    pub(super) fn pieces(&self) -> usize {
        self.held.len()
    }

    /// What they cost.
    pub(super) const fn held_bytes(&self) -> usize {
        self.held_bytes
    }

    /// Up to where the hole before the next piece, or before this position, is given up: as far as the other end has what
    /// is missing, else all of it.
    pub(super) fn beyond_hole(&self, position: u64) -> u64 {
        let until = self.held.first_key_value().map_or(position, |(&first, _)| first.min(position));
        if self.acked > self.next { until.min(self.acked) } else { until }
    }
}

/// The part of a piece between two positions, `None` where that is empty.
fn cut<'a>(piece: &Piece<'a>, from: u64, until: u64) -> Option<Piece<'a>> {
    let end = piece.position.saturating_add(u64::from(piece.length)).min(until);
    let start = piece.position.max(from);
    let length = u32::try_from(end.checked_sub(start).filter(|&length| length > 0)?).ok()?;
    let skipped = usize::try_from(start - piece.position).ok()?;
    let bytes = piece.bytes.get(skipped..).unwrap_or_default();
    let bytes = bytes.get(..length as usize).unwrap_or(bytes);
    Some(Piece { position: start, length, bytes, ..*piece })
}
