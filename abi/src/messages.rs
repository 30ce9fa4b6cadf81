//! Where messages of gRPC begin in the contents of HTTP/2's streams (PROTOCOL-HTTP2, "Length-Prefixed-Message"), as far as the kernel
//! side follows them: it copies their prefixes, and passes over the rest. Without branches, as [`crate::frames`].

use crate::frames::{below, zero};

/// Octets of what stands before each message: a flag, and the length of what follows.
pub const PREFIX: u64 = 5;

/// Where messages begin in a stream's contents, as far as that can be told from its frames one after the other. Contents are
/// taken for messages wherever they may be some: it decides of nothing but what is copied.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Messages {
    /// The stream whose frame came last.
    pub stream: u32,
    /// Octets of its last message that are still to come in further frames.
    pub over: u32,
    /// The first octets of a prefix that was cut, and how many of them there are.
    pub carry: u32,
    /// See there.
    pub carried: u32,
    /// With [`crate::frames::place::MESSAGE`]: octets of the frame's content from there on.
    pub rest: u32,
    /// Prefixes of the stream that made sense, one after the other; it does not count far.
    pub sound: u32,
}

/// Octets of a stream's content that are looked at for messages.
#[derive(Clone, Copy, Debug)]
pub struct Content {
    /// The first eight of them, a little-endian number.
    pub word: u64,
    /// How many of these there are.
    pub have: u64,
    /// All ones: a frame's content begins here. Else it goes on, where the last step led.
    pub begins: u64,
    /// Octets of the frame's content, where it begins.
    pub length: u64,
    /// Its stream.
    pub stream: u64,
    /// 1: it is padded.
    pub padded: u64,
}

/// What to look at next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Step {
    /// Octets from the first that were looked at.
    pub passed: u64,
    /// All ones: a message's prefix may stand there, within the frame; else the next frame's header.
    pub message: u64,
}

impl Messages {
    /// Nothing known.
    pub const NEW: Self = Self { stream: 0, over: 0, carry: 0, carried: 0, rest: 0, sound: 0 };

    /// Becomes another one where `mask` is all ones.
    #[inline(always)]
    pub fn choose(&mut self, mask: u64, other: Self) {
        let mask = mask as u32;
        self.stream = self.stream & !mask | other.stream & mask;
        self.over = self.over & !mask | other.over & mask;
        self.carry = self.carry & !mask | other.carry & mask;
        self.carried = self.carried & !mask | other.carried & mask;
        self.rest = self.rest & !mask | other.rest & mask;
        self.sound = self.sound & !mask | other.sound & mask;
    }

    /// Octets of a content that are wanted where one goes on.
    #[inline(always)]
    #[must_use]
    pub fn wanted(&self, hide: &impl Fn(u64) -> u64) -> u64 {
        least(PREFIX.wrapping_sub(u64::from(self.carried)), u64::from(self.rest), hide)
    }

    /// Looks at a content, at least at as much as is [wanted](Self::wanted), and says what is next.
    #[inline(always)]
    #[must_use]
    pub fn step(self, content: &Content, hide: &impl Fn(u64) -> u64) -> (Self, Step) {
        let Content { word, have, begins, length, stream, padded } = *content;
        let stream = stream & begins | u64::from(self.stream) & !begins;
        let same = mask(zero(stream ^ u64::from(self.stream), hide), hide);
        let left = length & begins | u64::from(self.rest) & !begins;
        let over = u64::from(self.over) & same & begins;
        let (carried, carry) = (u64::from(self.carried) & same, u64::from(self.carry) & same);
        let before = u64::from(self.sound) & same;
        // What comes first is the end of a message of before.
        let pending = mask(1 - zero(over, hide), hide);
        let ends = pending & mask(below(over, left, hide), hide);
        let taken = least(PREFIX.wrapping_sub(carried), least(left, have, hide), hide) & 7;
        let filled = (carried + taken) & 7;
        let text =
            (carry | (word & (1_u64 << (taken * 8)).wrapping_sub(1)) << ((carried & 7) * 8)) & 0xff_ffff_ffff;
        let size = u64::from(((text >> 8) as u32).swap_bytes());
        let looked = !pending & mask(1 - padded, hide);
        let cut = looked & mask(below(filled, PREFIX, hide), hide);
        // Zeros are as good as empty messages, and a body of nothing else would be copied whole.
        let sense = below(text & 0xff, 2, hide)
            & below(size, LONGEST_MESSAGE, hide)
            & (1 - (zero(size, hide) & below(before, SOUND, hide)));
        let sound = looked & !cut & mask(sense, hide);
        let behind = taken + size;
        let within = sound & mask(below(behind, left, hide), hide);
        let message = ends | within | cut & mask(below(taken, left, hide), hide);
        let passed = over & ends | behind & within | taken & cut | left & !(ends | within | cut);
        let over = over.wrapping_sub(left) & pending & !ends | behind.wrapping_sub(left) & sound & !within;
        let more = least(before + 1, SOUND, hide);
        let next = Self {
            stream: (stream & (pending | sound | cut)) as u32,
            over: over as u32,
            carry: (text & cut) as u32,
            carried: (filled & cut) as u32,
            rest: (left.wrapping_sub(passed) & message) as u32,
            sound: (more & sound | before & (pending | cut)) as u32,
        };
        (next, Step { passed, message })
    }
}

/// Longest message that is believed in: the usual limit is 4 MiB.
const LONGEST_MESSAGE: u64 = 1 << 28;
/// Prefixes from which on an empty message is believed in.
const SOUND: u64 = 2;

/// All ones for 1.
#[inline(always)]
fn mask(bit: u64, hide: &impl Fn(u64) -> u64) -> u64 {
    hide(bit.wrapping_neg())
}

/// The smaller of two numbers below 2^63.
#[inline(always)]
fn least(a: u64, b: u64, hide: &impl Fn(u64) -> u64) -> u64 {
    b.wrapping_add(a.wrapping_sub(b) & mask(below(a, b, hide), hide))
}

#[cfg(test)]
mod tests {
    extern crate std;
    use super::*;
    use std::vec;
    use std::vec::Vec;

    /// Follows contents of `frames` octets each, looked at by as much as `have` says, and marks what was looked at.
    fn followed(contents: &[u8], frames: &[usize], mut have: impl FnMut() -> usize) -> Vec<bool> {
        let hide = core::convert::identity;
        let word = |at: usize| {
            let mut bytes = [0xee; 8];
            let there = contents.len().min(at + 8) - at;
            bytes[..there].copy_from_slice(&contents[at..at + there]);
            u64::from_le_bytes(bytes)
        };
        let (mut seen, mut messages, mut start) = (vec![false; contents.len()], Messages::NEW, 0);
        for &length in frames {
            let (mut at, mut begins) = (start, u64::MAX);
            loop {
                let wanted = if begins != 0 { 5 } else { messages.wanted(&hide) as usize };
                let looked = if begins != 0 { 5 } else { wanted.min(have()) };
                let content = Content {
                    word: word(at),
                    have: looked as u64,
                    begins,
                    length: length as u64,
                    stream: 7,
                    padded: 0,
                };
                seen[at..at + looked].fill(true);
                let (next, step) = messages.step(&content, &hide);
                (messages, at, begins) = (next, at + step.passed as usize, 0);
                assert!(at <= start + length);
                if step.message == 0 {
                    assert_eq!(at, start + length);
                    break;
                }
            }
            start += length;
        }
        seen
    }

    #[test]
    fn every_prefix_is_looked_at() {
        let mut seed = 1_u64;
        let mut random = move |below: usize| {
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (seed >> 33) as usize % below
        };
        for round in 0..2000 {
            let (mut contents, mut prefixes) = (Vec::new(), Vec::new());
            for message in 0..1 + random(60) {
                let size = if message < 2 { 1 + random(700) } else { [0, random(6), random(900)][random(3)] };
                prefixes.push(contents.len());
                contents.push(random(2) as u8);
                contents.extend((size as u32).to_be_bytes());
                contents.extend((0..size).map(|_| random(256) as u8));
            }
            let mut frames = Vec::new();
            while contents.len() - frames.iter().sum::<usize>() > 600 {
                frames.push(257 + random(300));
            }
            frames.push(contents.len() - frames.iter().sum::<usize>());
            if frames.last().is_some_and(|last| *last < 5) {
                continue;
            }
            let seen = followed(&contents, &frames, || 1 + random(5));
            for at in prefixes {
                assert!(seen[at..at + 5].iter().all(|seen| *seen), "round {round}, at {at}: {frames:?}");
            }
            let looked = seen.iter().filter(|seen| **seen).count();
            assert!(looked <= 5 * (frames.len() + contents.len() / 5));
        }
    }

    #[test]
    fn what_is_no_message_is_passed_over() {
        let looked = |contents: &[u8]| {
            let frames = vec![1000; contents.len() / 1000];
            followed(contents, &frames, || 5).iter().filter(|seen| **seen).count()
        };
        assert_eq!(looked(&[0; 10_000]), 50);
        assert_eq!(looked(&[1; 10_000]), 50);
        assert_eq!(looked(&[b'x'; 10_000]), 50);
    }
}
