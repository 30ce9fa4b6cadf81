//! Chunks of one connection, put into the order in which the bytes went.
//!
//! Records usually come in order, and then pass without a copy. Where a chunk begins behind a hole, it and everything that
//! follows on its connection waits (the answer must not overtake the request that waits), until the missing chunk comes
//! or the bound on chunks, bytes or time is reached. Then the hole is given up: the next segment's position jumps.

use std::collections::VecDeque;

use sonde_abi::{ChunkHeader, record::flags};

use super::forgotten::{is_syn, of};
use super::{Begins, Direction, Nanos, Segment, Stamp};

/// What may wait, for each connection.
#[derive(Clone, Copy, Debug)]
pub struct Bounds {
    /// Chunks.
    pub chunks: usize,
    /// Their captured bytes.
    pub bytes: usize,
    /// How long the first of them, in time of the records.
    pub time: Nanos,
}

/// Both directions of one connection.
#[derive(Debug, Default)]
pub struct Reassembly {
    /// By [`Direction`]: position of the next byte, `None` before the first.
    next: [Option<u64>; 2],
    /// Where the first bytes stand at the latest, `None` where that is not known.
    begins: Option<Begins>,
    held: Option<Box<Held>>,
}

#[derive(Debug, Default)]
struct Held {
    /// In the order in which they came.
    chunks: VecDeque<Chunk>,
    bytes: usize,
}

/// A chunk without its bytes.
#[derive(Clone, Copy, Debug)]
struct Outline {
    direction: Direction,
    position: u64,
    length: u64,
    tail: Option<[u8; 8]>,
    stamp: Stamp,
    end: bool,
}

#[derive(Debug)]
struct Chunk {
    outline: Outline,
    bytes: Box<[u8]>,
}

impl Reassembly {
    /// For a connection whose records begin there.
    #[must_use]
    pub fn new(begins: Option<Begins>) -> Self {
        Self { begins, ..Self::default() }
    }

    /// Says where the records begin.
    pub fn begin(&mut self, begins: Begins) {
        self.begins = Some(begins);
    }

    /// Where the next bytes stand, as far as that is known.
    #[must_use]
    pub fn reached(&self) -> Option<Begins> {
        let [first_written, first_read] = self.begins.map_or([None; 2], |begins| begins.map(Some));
        let [write, read] = self.next;
        Some([write.or(first_written)?, read.or(first_read)?])
    }

    /// Nothing has been handed out.
    #[must_use]
    pub fn is_untouched(&self) -> bool {
        self.next == [None; 2]
    }

    /// Takes the next record and hands `to` what is in order by now. Returns the holes given up.
    pub fn chunk(
        &mut self,
        header: &ChunkHeader,
        direction: Direction,
        bytes: &[u8],
        bounds: &Bounds,
        mut to: impl FnMut(Direction, &Segment<'_>),
    ) -> u64 {
        let outline = self.outline(header, direction);
        let Some(held) = &mut self.held else {
            if self.fits(&outline) {
                self.deliver(&outline, bytes, &mut to);
                return 0;
            }
            self.held = Some(Box::new(Held {
                bytes: bytes.len(),
                chunks: VecDeque::from([Chunk { outline, bytes: bytes.into() }]),
            }));
            return self.expire(header.time_ns, bounds, to);
        };
        held.bytes += bytes.len();
        held.chunks.push_back(Chunk { outline, bytes: bytes.into() });
        self.release(&mut to);
        self.expire(header.time_ns, bounds, to)
    }

    /// Gives up holes that are older than the bound. Returns how many.
    pub fn expire(
        &mut self,
        now: Nanos,
        bounds: &Bounds,
        mut to: impl FnMut(Direction, &Segment<'_>),
    ) -> u64 {
        let mut holes = 0;
        while self.exceeds(bounds, now) {
            holes += self.give_up(&mut to);
        }
        holes
    }

    /// Nothing more will come: hands out all that waits. Returns the holes given up.
    pub fn flush(&mut self, mut to: impl FnMut(Direction, &Segment<'_>)) -> u64 {
        let mut holes = 0;
        while self.held.is_some() {
            holes += self.give_up(&mut to);
        }
        holes
    }

    /// Bytes of one direction up to `position` have not been handed out.
    #[must_use]
    pub fn lacks(&self, direction: Direction, position: u64) -> bool {
        self.next(direction).unwrap_or(0) < position
    }

    /// The direction had come as far as `position` at `stamp`: what nobody saw before it is given up as a hole. Returns how
    /// many there were. Nothing may wait.
    pub fn reach(
        &mut self,
        direction: Direction,
        position: u64,
        stamp: Stamp,
        mut to: impl FnMut(Direction, &Segment<'_>),
    ) -> u64 {
        if !self.lacks(direction, position) {
            return 0;
        }
        let outline = Outline { direction, position, length: 0, tail: None, stamp, end: false };
        self.deliver(&outline, &[], &mut to);
        1
    }

    /// Something waits for a hole to be filled.
    #[must_use]
    pub fn waits(&self) -> bool {
        self.held.is_some()
    }

    /// Bytes that wait.
    #[must_use]
    pub fn buffered(&self) -> usize {
        self.held.as_ref().map_or(0, |held| held.bytes)
    }

    fn outline(&self, header: &ChunkHeader, direction: Direction) -> Outline {
        let has = |flag| header.flags & flag != 0;
        // Without positions the order of arrival counts; nothing ever waits then, so `next` is up to date.
        let position = if has(flags::POSITION) { header.position } else { self.next(direction).unwrap_or(0) };
        let queued = u64::from(header.queued_us) * 1000;
        let arrival = if direction == Direction::Read { queued } else { 0 };
        Outline {
            direction,
            position,
            length: u64::from(header.length),
            tail: has(flags::TAIL).then_some(header.tail),
            stamp: Stamp {
                time: header.time_ns,
                arrival: header.time_ns.saturating_sub(arrival),
                tgid: header.tgid,
                tid: header.tid,
            },
            end: has(flags::END),
        }
    }

    fn next(&self, direction: Direction) -> Option<u64> {
        of(self.next, direction)
    }

    /// Nothing is missing before it.
    fn fits(&self, outline: &Outline) -> bool {
        let Outline { direction, position, .. } = *outline;
        let begin = || self.begins.map(|begins| of(begins, direction));
        self.next(direction)
            .or_else(begin)
            .is_none_or(|next| position <= next || is_syn(next, position, direction))
    }

    /// Hands out a chunk without the bytes that came before.
    fn deliver(&mut self, outline: &Outline, mut bytes: &[u8], to: &mut impl FnMut(Direction, &Segment<'_>)) {
        let Outline { direction, mut position, mut length, tail, stamp, end } = *outline;
        if let Some(next) = self.next(direction)
            && position < next
        {
            let known = (next - position).min(length);
            bytes = usize::try_from(known).ok().and_then(|known| bytes.get(known..)).unwrap_or_default();
            position += known;
            length -= known;
        }
        // Also a chunk of no bytes tells by its position that some went unseen.
        let moves = length > 0 || self.next(direction).is_none_or(|next| position > next);
        if moves {
            let [write, read] = &mut self.next;
            let next = if direction == Direction::Write { write } else { read };
            *next = Some(position.saturating_add(length));
        }
        if moves || end {
            to(direction, &Segment { position, length, bytes, tail, stamp, end });
        }
    }

    /// Hands out what waits, as far as no hole is before it.
    fn release(&mut self, to: &mut impl FnMut(Direction, &Segment<'_>)) {
        while let Some(held) = &self.held {
            let Some(front) = held.chunks.front() else {
                self.held = None;
                return;
            };
            let direction = front.outline.direction;
            // The first that can go: the front itself, else what fills the hole before it.
            let ready = held
                .chunks
                .iter()
                .position(|chunk| chunk.outline.direction == direction && self.fits(&chunk.outline));
            match ready {
                Some(at) => self.take(at, to),
                None => return,
            }
        }
    }

    /// Steps over the hole before the first chunk that waits.
    fn give_up(&mut self, to: &mut impl FnMut(Direction, &Segment<'_>)) -> u64 {
        let Some(front) = self.held.as_ref().and_then(|held| held.chunks.front()) else {
            self.held = None;
            return 0;
        };
        let direction = front.outline.direction;
        let nearest = self
            .held
            .iter()
            .flat_map(|held| held.chunks.iter().enumerate())
            .filter(|(_, chunk)| chunk.outline.direction == direction)
            .min_by_key(|(_, chunk)| chunk.outline.position)
            .map(|(at, _)| at);
        if let Some(at) = nearest {
            self.take(at, to);
        }
        self.release(to);
        1
    }

    fn take(&mut self, at: usize, to: &mut impl FnMut(Direction, &Segment<'_>)) {
        let Some(held) = &mut self.held else { return };
        if let Some(chunk) = held.chunks.remove(at) {
            held.bytes = held.bytes.saturating_sub(chunk.bytes.len());
            self.deliver(&chunk.outline, &chunk.bytes, to);
        }
    }

    fn exceeds(&self, bounds: &Bounds, now: Nanos) -> bool {
        self.held.as_ref().is_some_and(|held| {
            held.chunks.len() > bounds.chunks
                || held.bytes > bounds.bytes
                || held
                    .chunks
                    .front()
                    .is_none_or(|front| now.saturating_sub(front.outline.stamp.time) > bounds.time)
        })
    }
}
