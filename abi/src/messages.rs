//! Where messages of gRPC begin in the contents of HTTP/2's streams (PROTOCOL-HTTP2, "Length-Prefixed-Message"), as far as the kernel
//! side follows them: it copies their prefixes, and passes over the rest. Without branches, as [`crate::frames`].

use crate::masks::{below, equal, least, mask, zero};

/// Octets of what stands before each message: a flag, and the length of what follows.
pub const PREFIX: u64 = 5;

/// Where messages begin in a stream's contents, as far as that can be told from its frames one after the other. Contents are
/// taken for messages wherever they may be some: it decides of nothing but what is copied.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stream {
    /// Its number, as on the wire, in the low half; in the other one whose it is ([`Messages::lane`]).
    pub key: u64,
    /// [`VALUE`](Self::VALUE): octets of its last message that are still to come in further frames. Of a prefix that was cut its first
    /// octets, and from bit [`CARRIED`](Self::CARRIED) on how many of them there are. From bit [`SOUND`](Self::SOUND) on prefixes
    /// that made sense, one after the other; that does not count far.
    pub state: u64,
}

impl Stream {
    /// Nothing known.
    pub const NEW: Self = Self { key: 0, state: 0 };

    const VALUE: u64 = 0xffff_ffff;
    const CARRIED: u32 = 32;
    const SOUND: u32 = 40;

    /// Becomes another one where `mask` is all ones.
    #[inline(always)]
    const fn choose(&mut self, mask: u64, other: Self) {
        self.key = self.key & !mask | other.key & mask;
        self.state = self.state & !mask | other.state & mask;
    }

    /// All ones where it stands within a message or a prefix.
    #[inline(always)]
    fn is_within(&self, hide: &impl Fn(u64) -> u64) -> u64 {
        mask(1 - zero(self.state & ((8 << Self::CARRIED) - 1), hide), hide)
    }
}

/// Streams of all connections that are put aside while others have their frames. A newer one takes the place of an older one, unless
/// that alone stands within a message.
#[repr(C)]
#[derive(Debug)]
pub struct Aside {
    /// How many directions of connections there were.
    pub lanes: u64,
    streams: [Stream; Self::STREAMS],
}

const _: () = assert!(Aside::STREAMS.is_power_of_two());

impl Aside {
    const STREAMS: usize = 1 << 14;
    /// Between the places of two directions that came one after the other: more streams than either has open at once.
    const APART: u64 = 10_007;

    /// The place of a stream.
    #[expect(clippy::indexing_slicing, reason = "as many as the number's bits can say")]
    #[inline(always)]
    fn of(&mut self, key: u64, hide: &impl Fn(u64) -> u64) -> &mut Stream {
        // A client's streams have odd numbers.
        let number = u64::from((key as u32).swap_bytes()) >> 1;
        let place = (key >> 32).wrapping_mul(Self::APART).wrapping_add(number);
        &mut self.streams[hide(place) as usize & (Self::STREAMS - 1)]
    }
}

/// Where messages begin in what one direction of a connection carries.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Messages {
    /// The stream whose frame came last.
    pub stream: Stream,
    /// With [`crate::frames::place::MESSAGE`]: octets of the frame's content from there on.
    pub rest: u64,
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
    pub const NEW: Self = Self { stream: Stream::NEW, rest: 0 };

    /// The direction's number in [`Aside`], 0 where it has none yet.
    #[must_use]
    pub const fn lane(&self) -> u64 {
        self.stream.key >> 32
    }

    /// Of a direction of which nothing is known, with a number of its own.
    #[inline(always)]
    pub const fn enter(&mut self, aside: &mut Aside) {
        aside.lanes += 1;
        *self = Self { stream: Stream { key: aside.lanes << 32, state: 0 }, rest: 0 };
    }

    /// Becomes another one where `mask` is all ones.
    #[inline(always)]
    pub const fn choose(&mut self, mask: u64, other: Self) {
        self.stream.choose(mask, other.stream);
        self.rest = self.rest & !mask | other.rest & mask;
    }

    /// Takes up a stream of which a frame comes next, where `takes` is all ones. What is known of the one before is put aside.
    #[inline(always)]
    pub fn take_up(&mut self, stream: u64, takes: u64, aside: &mut Aside, hide: &impl Fn(u64) -> u64) {
        let before = self.stream;
        let key = before.key & !Stream::VALUE | stream & Stream::VALUE;
        let other = takes & !equal(key, before.key, hide);
        let is_known = mask(1 - zero(before.state, hide), hide);
        let place = aside.of(before.key, hide);
        let gives_way = before.is_within(hide) | !place.is_within(hide);
        place.choose(other & is_known & gives_way, before);
        let kept = aside.of(key, hide);
        let known = other & equal(kept.key, key, hide);
        let state = kept.state & known;
        kept.choose(known, Stream::NEW);
        self.stream.choose(other, Stream { key, state });
    }

    /// Octets of a content that are wanted where one goes on.
    #[inline(always)]
    #[must_use]
    pub fn wanted(&self, hide: &impl Fn(u64) -> u64) -> u64 {
        least(PREFIX.wrapping_sub(self.stream.state >> Stream::CARRIED & 7), self.rest, hide)
    }

    /// Looks at a content of the stream that was [taken up](Self::take_up), at least at as much as is [wanted](Self::wanted), and
    /// says what is next. Unless `follows` is all ones that is a frame, and nothing is known of the stream from there on.
    #[inline(always)]
    #[must_use]
    pub fn step(self, content: &Content, follows: u64, hide: &impl Fn(u64) -> u64) -> (Self, Step) {
        let Content { word, have, begins, length, padded } = *content;
        let left = length & begins | self.rest & !begins;
        let Stream { key, state } = self.stream;
        let carried = state >> Stream::CARRIED & 7;
        let before = state >> Stream::SOUND;
        let was_cut = mask(1 - zero(carried, hide), hide);
        let plain = mask(1 - padded, hide) & follows;
        // What comes first is the end of a message of before.
        let over = state & Stream::VALUE & !was_cut;
        let pending = mask(1 - zero(over, hide), hide) & plain;
        let ends = pending & mask(below(over, left, hide), hide);
        let taken = least(PREFIX.wrapping_sub(carried), least(left, have, hide), hide) & 7;
        let filled = (carried + taken) & 7;
        let carry = state & Stream::VALUE & was_cut;
        let text =
            (carry | (word & (1_u64 << (taken * 8)).wrapping_sub(1)) << ((carried & 7) * 8)) & 0xff_ffff_ffff;
        let size = u64::from(((text >> 8) as u32).swap_bytes());
        let looked = !pending & plain;
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
        let value = over.wrapping_sub(left) & pending & !ends
            | behind.wrapping_sub(left) & sound & !within
            | text & cut;
        let sounds = least(before + 1, SOUND, hide) & sound | before & (pending | cut);
        let state = value & Stream::VALUE | (filled & cut) << Stream::CARRIED | sounds << Stream::SOUND;
        let next = Self { stream: Stream { key, state }, rest: left.wrapping_sub(passed) & message };
        (next, Step { passed, message })
    }
}

/// Longest message that is believed in: the usual limit is 4 MiB.
const LONGEST_MESSAGE: u64 = 1 << 28;
/// Prefixes from which on an empty message is believed in.
const SOUND: u64 = 2;

#[cfg(test)]
mod tests {
    extern crate std;
    use super::*;
    use std::boxed::Box;
    use std::vec;
    use std::vec::Vec;

    /// What a direction carries: contents of streams, and of which of them each frame has how many octets.
    struct Carried {
        /// The first stream.
        first: usize,
        contents: Vec<Vec<u8>>,
        frames: Vec<(usize, usize)>,
    }

    impl Carried {
        fn of_one(contents: Vec<u8>, frames: impl IntoIterator<Item = usize>) -> Self {
            Self {
                first: 0,
                contents: vec![contents],
                frames: frames.into_iter().map(|length| (0, length)).collect(),
            }
        }

        /// Follows the frames, looked into by as much as `have` says, and marks what was looked at of each content.
        fn followed(
            &self,
            messages: &mut Messages,
            aside: &mut Aside,
            mut have: impl FnMut() -> usize,
        ) -> Vec<Vec<bool>> {
            let hide = core::convert::identity;
            let mut seen: Vec<Vec<bool>> = self.contents.iter().map(|of| vec![false; of.len()]).collect();
            let mut starts = vec![0; self.contents.len()];
            for &(stream, length) in &self.frames {
                let contents = &self.contents[stream];
                let word = |at: usize| {
                    let mut bytes = [0xee; 8];
                    let there = contents.len().min(at + 8) - at;
                    bytes[..there].copy_from_slice(&contents[at..at + there]);
                    u64::from_le_bytes(bytes)
                };
                let start = starts[stream];
                let (mut at, mut begins) = (start, u64::MAX);
                let number = u64::from((2 * (self.first + stream) as u32 + 1).swap_bytes());
                messages.take_up(number, u64::MAX, aside, &hide);
                loop {
                    let wanted = if begins != 0 { length.min(5) } else { messages.wanted(&hide) as usize };
                    let looked = if begins != 0 { wanted } else { wanted.min(have()) };
                    let content = Content {
                        word: word(at),
                        have: looked as u64,
                        begins,
                        length: length as u64,
                        padded: 0,
                    };
                    seen[stream][at..at + looked].fill(true);
                    let (next, step) = messages.step(&content, u64::MAX, &hide);
                    (*messages, at, begins) = (next, at + step.passed as usize, 0);
                    assert!(at <= start + length);
                    if step.message == 0 {
                        assert_eq!(at, start + length);
                        break;
                    }
                }
                starts[stream] += length;
            }
            seen
        }
    }

    /// Nothing put aside.
    fn aside() -> Box<Aside> {
        Box::new(Aside { lanes: 0, streams: [Stream::NEW; Aside::STREAMS] })
    }

    /// Numbers below one, that seem random.
    fn random() -> impl FnMut(usize) -> usize {
        let mut seed = 1_u64;
        move |below: usize| {
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (seed >> 33) as usize % below
        }
    }

    /// Messages of a stream, and where their prefixes stand. Empty ones are believed in behind two others.
    fn content(random: &mut impl FnMut(usize) -> usize, most: usize) -> (Vec<u8>, Vec<usize>) {
        let (mut contents, mut prefixes) = (Vec::new(), Vec::new());
        for message in 0..1 + random(most) {
            let size = if message < 2 { 1 + random(700) } else { [0, random(6), random(900)][random(3)] };
            prefixes.push(contents.len());
            contents.push(random(2) as u8);
            contents.extend((size as u32).to_be_bytes());
            contents.extend((0..size).map(|_| random(256) as u8));
        }
        (contents, prefixes)
    }

    #[test]
    fn every_prefix_is_looked_at() {
        let mut random = random();
        let (mut messages, mut aside) = (Messages::NEW, aside());
        messages.enter(&mut aside);
        for round in 0..2000 {
            let (contents, prefixes) = content(&mut random, 60);
            let mut frames = Vec::new();
            while contents.len() - frames.iter().sum::<usize>() > 600 {
                frames.push(257 + random(300));
            }
            frames.push(contents.len() - frames.iter().sum::<usize>());
            let carried = Carried::of_one(contents, frames);
            let seen = carried.followed(&mut messages, &mut aside, || 1 + random(5)).remove(0);
            for at in prefixes {
                assert!(
                    seen[at..at + 5].iter().all(|seen| *seen),
                    "round {round}, at {at}: {:?}",
                    carried.frames
                );
            }
            let looked = seen.iter().filter(|seen| **seen).count();
            assert!(looked <= 5 * (carried.frames.len() + seen.len() / 5));
        }
    }

    /// Frames of many streams in any order, of two directions that take turns; some so short that they hold less than a prefix.
    #[test]
    fn streams_stand_between_each_other() {
        let mut random = random();
        let mut aside = aside();
        let mut directions = [Messages::NEW; 2];
        directions.iter_mut().for_each(|messages| messages.enter(&mut aside));
        for round in 0..100 {
            for messages in &mut directions {
                let (contents, prefixes): (Vec<_>, Vec<_>) =
                    (0..1 + random(100)).map(|_| content(&mut random, 20)).unzip();
                let mut left: Vec<usize> = contents.iter().map(Vec::len).collect();
                let mut frames = Vec::new();
                while left.iter().any(|left| *left > 0) {
                    let stream = random(left.len());
                    let length = [random(8), random(200), random(2000)][random(3)].min(left[stream]);
                    left[stream] -= length;
                    frames.push((stream, length));
                }
                let carried = Carried { first: round * 128, contents, frames };
                let seen = carried.followed(messages, &mut aside, || 1 + random(5));
                for (stream, prefixes) in prefixes.iter().enumerate() {
                    for &at in prefixes {
                        let whole = seen[stream][at..at + 5].iter().all(|seen| *seen);
                        assert!(whole, "round {round}, stream {stream}, at {at}");
                    }
                }
            }
        }
    }

    #[test]
    fn what_is_no_message_is_passed_over() {
        let looked = |contents: &[u8]| {
            let carried = Carried::of_one(contents.to_vec(), vec![1000; contents.len() / 1000]);
            let seen = carried.followed(&mut Messages::default(), &mut aside(), || 5);
            seen.concat().into_iter().filter(|seen| *seen).count()
        };
        assert_eq!(looked(&[0; 10_000]), 50);
        assert_eq!(looked(&[1; 10_000]), 50);
        assert_eq!(looked(&[b'x'; 10_000]), 50);
    }
}
