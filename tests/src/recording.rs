//! Recordings of Sonde, to take apart, to change and to write again: a reader of its own, so that what Sonde's reader and
//! writer agree on by mistake shows here. The format is described in `agent/src/replay/recording.rs`.

use std::collections::BTreeMap;
use std::path::Path;

/// Kinds of frames.
pub mod kind {
    /// One record of the ring.
    pub const RECORD: u8 = 1;
    /// The pipeline was ticked.
    pub const TICK: u8 = 4;
    /// Last frame: the number of records.
    pub const END: u8 = 5;
    /// What the kernel side had lost.
    pub const LOSSES: u8 = 6;
}

/// Bits of a chunk's flags.
mod flags {
    pub(super) const POSITION: u16 = 2;
    pub(super) const CONTINUES: u16 = 8;
    pub(super) const TAIL: u16 = 64;
    pub(super) const END: u16 = 128;
    /// The payload says where its bytes stood.
    pub(super) const PARTS: u16 = 512;
}

/// Bytes of a chunk before its payload.
const CHUNK_HEAD: usize = 104;
/// Bytes at a chunk's end that are sent even where its payload is not.
const TAIL_BYTES: u32 = 8;

/// A whole recording.
#[derive(Clone)]
pub struct Recording {
    /// What stands before the frames.
    preamble: Vec<u8>,
    /// All but the last, which only counts them.
    pub frames: Vec<Frame>,
}

/// One frame.
#[derive(Clone, PartialEq, Eq)]
pub struct Frame {
    /// What it holds, of [`kind`].
    pub kind: u8,
    /// Its content.
    pub content: Vec<u8>,
}

/// The connection's end that a record belongs to: address of the socket, and its incarnation.
pub type End = (u64, u32, u32);

/// What a record is within its message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Part {
    /// All of a message.
    Whole,
    /// The first of several records.
    Head,
    /// A later one, while the head is not complete.
    MiddleOfHead,
    /// One behind the head with others to come.
    Body,
    /// The last of several.
    End,
    /// No bytes: the connection's opening, FIN, close or name.
    Life,
}

impl Recording {
    /// Reads a complete recording.
    ///
    /// # Panics
    /// Where the file is anything else.
    #[must_use]
    pub fn read(path: &Path) -> Self {
        let bytes = std::fs::read(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        assert_eq!(&bytes[..11], b"SONDEREC\x04\x00\x01", "format 4, little-endian");
        let header = 16 + u32_at(&bytes, 12) as usize;
        let (preamble, mut rest) = bytes.split_at(header);
        let mut frames = Vec::new();
        while !rest.is_empty() {
            let length = u32_at(rest, 4) as usize;
            let (frame, after) = rest.split_at(8 + length);
            frames.push(Frame { kind: frame[0], content: frame[8..].to_vec() });
            rest = after;
        }
        let end = frames.pop().expect("a last frame");
        let records = frames.iter().filter(|frame| frame.kind == kind::RECORD).count();
        assert_eq!((end.kind, u64_at(&end.content, 0)), (kind::END, records as u64), "the last frame");
        Self { preamble: preamble.to_vec(), frames }
    }

    /// Writes it with a last frame that agrees.
    ///
    /// # Panics
    /// Where it cannot.
    pub fn write(&self, path: &Path) {
        let records = self.frames.iter().filter(|frame| frame.kind == kind::RECORD).count() as u64;
        let end = Frame { kind: kind::END, content: records.to_le_bytes().to_vec() };
        let mut bytes = self.preamble.clone();
        for frame in self.frames.iter().chain([&end]) {
            bytes.extend([frame.kind, 0, 0, 0]);
            bytes.extend(u32::try_from(frame.content.len()).expect("a frame's length").to_le_bytes());
            bytes.extend(&frame.content);
        }
        std::fs::write(path, bytes).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    }

    /// What each record is, by its place among the frames.
    #[must_use]
    pub fn parts(&self) -> Vec<(usize, Part)> {
        let mut parts = Vec::new();
        // Of each end of a connection: the records since its direction changed, and what they carry.
        let mut runs: BTreeMap<End, (u8, Vec<usize>)> = BTreeMap::new();
        for (at, frame) in self.frames.iter().enumerate().filter(|(_, frame)| frame.kind == kind::RECORD) {
            let Some(chunk) = frame.chunk() else {
                parts.push((at, Part::Life));
                continue;
            };
            let (direction, run) =
                runs.entry(chunk.end_of()).or_insert_with(|| (chunk.direction(), Vec::new()));
            if *direction != chunk.direction() {
                *direction = chunk.direction();
                self.part(std::mem::take(run), &mut parts);
            }
            run.push(at);
        }
        for (_, run) in runs.into_values() {
            self.part(run, &mut parts);
        }
        parts.sort_unstable();
        parts
    }

    fn part(&self, run: Vec<usize>, parts: &mut Vec<(usize, Part)>) {
        let mut seen: Vec<u8> = Vec::new();
        let count = run.len();
        for (index, at) in run.into_iter().enumerate() {
            let complete = seen.windows(4).any(|window| window == b"\r\n\r\n");
            seen.extend(self.frames[at].chunk().map_or(&[][..], |chunk| chunk.payload()));
            let part = match index {
                0 if count == 1 => Part::Whole,
                0 => Part::Head,
                last if last + 1 == count => Part::End,
                _ if complete => Part::Body,
                _ => Part::MiddleOfHead,
            };
            parts.push((at, part));
        }
    }

    /// The recording that would have been made had the ring had no room for these records: the kernel side counts them, and
    /// the reader knows of it with its next tick.
    #[must_use]
    pub fn without(&self, lost: &[usize]) -> Self {
        let mut frames = Vec::new();
        let (mut total, mut said, mut now) = (0u64, 0u64, 0u64);
        for (at, frame) in self.frames.iter().enumerate() {
            if frame.kind == kind::RECORD {
                now = now.max(u64_at(&frame.content, 8));
            }
            if lost.contains(&at) {
                total += 1;
                continue;
            }
            if frame.kind == kind::TICK && total > said {
                said = total;
                let losses = [now.max(u64_at(&frame.content, 0)), total, 0, 0, 0, 0, 0].map(u64::to_le_bytes);
                frames.push(Frame { kind: kind::LOSSES, content: losses.as_flattened().to_vec() });
            }
            frames.push(frame.clone());
        }
        Self { preamble: self.preamble.clone(), frames }
    }

    /// Has some records of bytes split in two, and then those of one direction of a connection, where nothing else of that
    /// connection comes between them, shuffled among their places. Positions mend that: all but the first record of a direction
    /// may move, and none by more than a hole is waited for.
    #[must_use]
    pub fn mixed(&self, random: &mut Random) -> Self {
        let mut frames = Vec::new();
        for frame in &self.frames {
            let cut = frame.chunk().and_then(|chunk| chunk.cut(random));
            match cut {
                Some((first, second)) => frames.extend([first, second]),
                None => frames.push(frame.clone()),
            }
        }
        let mut mixed = Self { preamble: self.preamble.clone(), frames };
        let mut begun: BTreeMap<(End, u8), ()> = BTreeMap::new();
        let mut runs: BTreeMap<End, (u8, Vec<usize>)> = BTreeMap::new();
        let mut shuffles = Vec::new();
        for (at, frame) in mixed.frames.iter().enumerate().filter(|(_, frame)| frame.kind == kind::RECORD) {
            let Some(chunk) = frame.chunk() else {
                // A FIN gives holes up, and so does the close.
                shuffles.extend(runs.remove(&frame.end_of()).map(|(_, run)| run));
                continue;
            };
            let (direction, run) =
                runs.entry(chunk.end_of()).or_insert_with(|| (chunk.direction(), Vec::new()));
            let first = begun.insert((chunk.end_of(), chunk.direction()), ()).is_none();
            let late = run.first().is_some_and(|&first| {
                let begin = mixed.frames[first].chunk().map_or(0, |chunk| chunk.time());
                chunk.time().saturating_sub(begin) > 20_000_000
            });
            if first || late || *direction != chunk.direction() || run.len() >= 12 {
                shuffles.push(std::mem::take(run));
                *direction = chunk.direction();
            }
            if !first && chunk.flags() & flags::POSITION != 0 && chunk.length() > 0 {
                run.push(at);
            }
        }
        shuffles.extend(runs.into_values().map(|(_, run)| run));
        for run in shuffles {
            for i in (1..run.len()).rev() {
                mixed.frames.swap(run[i], run[random.below(i + 1)]);
            }
        }
        mixed
    }

    /// Has records of different connections pass each other where they were stamped within 200 µs: two processors that reserve
    /// room in the ring at the same time may do so in either order.
    #[must_use]
    pub fn interleaved(&self, random: &mut Random) -> Self {
        let mut mixed = self.clone();
        for at in 1..mixed.frames.len() {
            let (before, after) = (&mixed.frames[at - 1], &mixed.frames[at]);
            let (Some(first), Some(second)) = (before.chunk(), after.chunk()) else { continue };
            let near = first.time().abs_diff(second.time()) < 200_000;
            let apart = first.end_of() != second.end_of() && first.thread() != second.thread();
            if near && apart && random.below(2) == 0 {
                mixed.frames.swap(at - 1, at);
            }
        }
        mixed
    }
}

impl Frame {
    fn chunk(&self) -> Option<Chunk<'_>> {
        let is_chunk = self.kind == kind::RECORD && self.content.first() == Some(&1);
        is_chunk.then_some(Chunk(&self.content))
    }

    /// The connection's end that a record belongs to.
    fn end_of(&self) -> End {
        self.chunk().map_or_else(
            || (u64_at(&self.content, 16), u32_at(&self.content, 24), u32_at(&self.content, 28)),
            |chunk| chunk.end_of(),
        )
    }
}

/// A record that tells of bytes, as it left the ring.
struct Chunk<'a>(&'a [u8]);

impl<'a> Chunk<'a> {
    fn direction(&self) -> u8 {
        self.0[1]
    }

    fn flags(&self) -> u16 {
        u16::from_le_bytes([self.0[2], self.0[3]])
    }

    fn captured(&self) -> u32 {
        u32_at(self.0, 4)
    }

    fn time(&self) -> u64 {
        u64_at(self.0, 8)
    }

    fn length(&self) -> u32 {
        u32_at(self.0, 32)
    }

    fn thread(&self) -> u32 {
        u32_at(self.0, 44)
    }

    fn end_of(&self) -> End {
        (u64_at(self.0, 16), u32_at(self.0, 48), u32_at(self.0, 52))
    }

    fn payload(&self) -> &'a [u8] {
        &self.0[CHUNK_HEAD..CHUNK_HEAD + self.captured() as usize]
    }

    /// Two records that move the same bytes by the same call, cut anywhere but within the tail of a chunk that was not captured:
    /// a tail has eight bytes.
    fn cut(&self, random: &mut Random) -> Option<(Frame, Frame)> {
        let (flags, length, captured) = (self.flags(), self.length(), self.captured());
        let tailed = flags & flags::TAIL != 0 && captured < length;
        let most = if tailed { length.saturating_sub(TAIL_BYTES) } else { length - u32::from(length > 0) };
        if flags & flags::POSITION == 0 || flags & flags::PARTS != 0 || most == 0 || random.below(3) == 0 {
            return None;
        }
        // Within what was captured as often as anywhere.
        let within = if random.below(2) == 0 { most.min(captured.max(1)) } else { most };
        let at = 1 + u32::try_from(random.below(within as usize)).expect("less than a length");
        let first_flags = (flags | flags::CONTINUES) & !(flags::TAIL | flags::END);
        let first = self.piece(0, at, first_flags);
        Some((first, self.piece(at, length - at, flags)))
    }

    fn piece(&self, from: u32, length: u32, flags: u16) -> Frame {
        let payload = self.payload();
        let start = payload.len().min(from as usize);
        let end = payload.len().min((from + length) as usize);
        let mut bytes = self.0[..CHUNK_HEAD].to_vec();
        bytes[2..4].copy_from_slice(&flags.to_le_bytes());
        bytes[4..8].copy_from_slice(&u32::try_from(end - start).expect("captured").to_le_bytes());
        bytes[24..32].copy_from_slice(&(u64_at(self.0, 24) + u64::from(from)).to_le_bytes());
        bytes[32..36].copy_from_slice(&length.to_le_bytes());
        bytes.extend(&payload[start..end]);
        Frame { kind: kind::RECORD, content: bytes }
    }
}

/// SplitMix64: the same numbers for the same seed.
pub struct Random(pub u64);

impl Random {
    /// The next number, below a bound.
    pub fn below(&mut self, bound: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        usize::try_from((mixed ^ (mixed >> 31)) % bound.max(1) as u64).unwrap_or(0)
    }
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(bytes[at..at + 4].try_into().expect("four bytes"))
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(bytes[at..at + 8].try_into().expect("eight bytes"))
}
