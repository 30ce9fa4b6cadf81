//! Datagrams that came in fragments (RFC 791, section 3.2; RFC 8200, section 4.5). TCP hardly ever does that.

use std::collections::VecDeque;
use std::net::IpAddr;

/// Datagrams that wait for fragments; one more pushes out the oldest.
const DATAGRAMS: usize = 64;
/// Fragments of one datagram.
const PIECES: usize = 64;
/// The longest datagram there is.
const BYTES: u32 = 65_535;
/// How long a datagram waits (RFC 8200, section 4.5), in nanoseconds.
const PATIENCE: u64 = 60_000_000_000;

/// What the fragments of one datagram share.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct FragmentKey {
    pub(super) from: IpAddr,
    pub(super) to: IpAddr,
    pub(super) id: u32,
}

/// One of them.
#[derive(Clone, Copy, Debug)]
pub(super) struct Fragment<'a> {
    pub(super) offset: u32,
    /// Bytes that it carries.
    pub(super) length: u32,
    pub(super) more: bool,
    /// What was captured of them.
    pub(super) bytes: &'a [u8],
}

/// Those that wait.
#[derive(Debug, Default)]
pub(super) struct Fragments {
    waiting: VecDeque<Waiting>,
}

#[derive(Debug)]
struct Waiting {
    key: FragmentKey,
    since: u64,
    /// Of the whole, once the last fragment was seen.
    length: Option<u32>,
    /// By offset, without overlap: what came first stays.
    pieces: Vec<Piece>,
}

#[derive(Debug)]
struct Piece {
    offset: u32,
    length: u32,
    bytes: Box<[u8]>,
}

impl Fragments {
    /// Takes a fragment. Where it completes its datagram, what was captured of that is put into `whole`, as far as nothing
    /// is missing before it, and its length is returned.
    pub(super) fn add(
        &mut self,
        key: FragmentKey,
        fragment: &Fragment<'_>,
        now: u64,
        whole: &mut Vec<u8>,
    ) -> Option<u32> {
        while self.waiting.front().is_some_and(|oldest| now.saturating_sub(oldest.since) > PATIENCE) {
            self.waiting.pop_front();
        }
        if fragment.offset.saturating_add(fragment.length) > BYTES {
            return None;
        }
        let at = self.waiting.iter().position(|waiting| waiting.key == key);
        let at = at.unwrap_or_else(|| {
            if self.waiting.len() >= DATAGRAMS {
                self.waiting.pop_front();
            }
            self.waiting.push_back(Waiting { key, since: now, length: None, pieces: Vec::new() });
            self.waiting.len() - 1
        });
        let length = self.waiting.get_mut(at)?.add(fragment)?;
        let Waiting { pieces, .. } = self.waiting.remove(at)?;
        whole.clear();
        for piece in &pieces {
            if whole.len() as u64 != u64::from(piece.offset) {
                break;
            }
            whole.extend_from_slice(&piece.bytes);
        }
        Some(length)
    }
}

impl Waiting {
    /// The length of the whole, once all of it is there.
    fn add(&mut self, fragment: &Fragment<'_>) -> Option<u32> {
        let Fragment { offset, length, more, bytes } = *fragment;
        let end = offset + length;
        if !more && self.length.is_none() {
            self.length = Some(end);
        }
        let overlaps = |piece: &Piece| piece.offset < end && offset < piece.offset + piece.length;
        if !self.pieces.iter().any(overlaps) && self.pieces.len() < PIECES {
            let at = self.pieces.partition_point(|piece| piece.offset < offset);
            self.pieces.insert(at, Piece { offset, length, bytes: bytes.into() });
        }
        let mut next = 0;
        for piece in &self.pieces {
            if piece.offset != next {
                return None;
            }
            next += piece.length;
        }
        self.length.filter(|&length| next == length)
    }
}
