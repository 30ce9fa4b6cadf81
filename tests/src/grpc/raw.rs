//! gRPC by hand: messages of many streams in frames of any size, in any order.

use crate::h2::wire::{DATA, frame};

/// Numbers that seem random and are the same in each run.
#[derive(Clone, Debug)]
pub struct Random(u64);

impl Random {
    /// Each seed gives others.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// One that is smaller than this.
    pub fn below(&mut self, bound: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) as usize % bound
    }
}

/// The contents of streams.
#[derive(Clone, Debug, Default)]
pub struct Contents {
    /// Frames of type DATA, none of which ends a stream.
    pub frames: Vec<u8>,
    /// Messages of each stream, and their bytes.
    pub counts: Vec<(u64, u64)>,
}

impl Contents {
    /// Up to twenty messages for each of these streams. Empty ones come behind two others.
    #[must_use]
    pub fn of(streams: &[u32], random: &mut Random) -> Self {
        let mut counts = Vec::new();
        let mut left: Vec<(u32, Vec<u8>)> = Vec::new();
        for &stream in streams {
            let mut content = Vec::new();
            let (mut messages, mut bytes) = (0, 0);
            for message in 0..1 + random.below(20) {
                let most = [1, 6, 300, 3000, 40_000][random.below(5)];
                let size = random.below(most).max(usize::from(message < 2));
                content.push(0);
                content.extend((size as u32).to_be_bytes());
                content.extend((0..size).map(|_| random.below(256) as u8));
                (messages, bytes) = (messages + 1, bytes + size as u64);
            }
            counts.push((messages, bytes));
            left.push((stream, content));
        }
        let mut frames = Vec::new();
        while !left.is_empty() {
            let chosen = random.below(left.len());
            let (stream, content) = &mut left[chosen];
            let most = [8, 300, 5000, 16_385][random.below(4)];
            let length = random.below(most).min(content.len());
            frames.extend(frame(DATA, 0, *stream, &content[..length]));
            content.drain(..length);
            if content.is_empty() {
                left.swap_remove(chosen);
            }
        }
        Self { frames, counts }
    }
}
