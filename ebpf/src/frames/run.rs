//! Long contents that follow one another: of many frames one record, with their headers and the prefixes of messages in them.

use sonde_abi::frames::{Frames, HEADER, header, place};
use sonde_abi::limits::{MESSAGE_PIECES, RUN_ROUNDS, SHORT_CONTENT};
use sonde_abi::messages::{Aside, Content, PREFIX};
use sonde_abi::record::flags;
use sonde_abi::settings::KernelCounter;
use sonde_abi::{ConnState, Direction, Part};

use super::work::{BEFORE, MASK, Place, Work};
use crate::access::{least, negative, opaque};
use crate::maps::count;

/// Bytes of a part, and those before what was copied.
const PART: u64 = Part::LEN as u64;
const PART_HEAD: u64 = 8;
/// Bytes of parts in a record at most.
const RUN: u64 = MASK / PART * PART - 1;
/// Bytes that are looked at where a long frame begins: its header, and as many as stand before a message.
const ENTRY: u64 = HEADER + PREFIX;

const _: () = assert!(PART_HEAD + ENTRY <= PART);

/// All ones where what is next cannot be looked at in so many bytes: of a header there has to be all, of a prefix anything.
#[inline(always)]
fn too_few(left: u64, begins: u64) -> u64 {
    negative(left.wrapping_sub((begins & (ENTRY - 1)) + 1))
}

impl Work {
    /// Sends parts of long contents: their frames' headers, and prefixes of messages. True: more follows.
    #[inline(always)]
    pub(super) fn next_run(
        &mut self,
        state: &mut ConnState,
        direction: Direction,
        aside: &mut Aside,
    ) -> bool {
        let frames = Frames::of(&mut state.frames, direction);
        let position = self.record.position;
        // All ones where a header is next.
        let mut begins = self.forget(negative(frames.place.wrapping_sub(place::MESSAGE)));
        let (mut to, mut have, mut start) = (self.forget(0), self.forget(0), self.forget(0));
        let (mut stop, mut failed) = (self.forget(0), self.forget(0));
        let mut done = self.forget(too_few(self.left, begins));
        let follows = self.forget(negative(self.pieces.wrapping_sub(MESSAGE_PIECES)));
        self.mark = self.at;
        let mut rounds = 0;
        while rounds < RUN_ROUNDS && done == 0 {
            let wanted = least(frames.messages.wanted(&opaque), self.left.wrapping_sub(start));
            let wanted = ENTRY & begins | wanted & !begins;
            let (part, read) = self.take(to + PART_HEAD + have, wanted.wrapping_sub(have));
            // What is passed over may end many buffers later: that far it has come, even where no part follows.
            let passing = self.at;
            self.mark.choose(negative((have + part).wrapping_sub(1)), passing);
            failed = self.forget(!read);
            have = self.forget(have + part);
            let full = !negative(have.wrapping_sub(wanted)) & read;
            let (low, high) = self.word_at(to + PART_HEAD + BEFORE);
            let header = header(low, high, &opaque);
            let long = opaque((header.content & (1 - header.impossible)).wrapping_neg())
                & negative(SHORT_CONTENT.wrapping_sub(header.length));
            stop = self.forget(begins & !long & full);
            let base = HEADER & begins;
            let content = Content {
                word: self.word_at(to + PART_HEAD + base + BEFORE).0,
                have: have.wrapping_sub(base) & 7,
                begins,
                length: header.length,
                padded: header.padded & begins,
            };
            let taken = full & !stop;
            frames.messages.take_up(header.stream, begins & taken, aside, &opaque);
            let (messages, step) = frames.messages.step(&content, follows, &opaque);
            frames.messages.choose(taken, messages);
            let passed = (base + step.passed) & taken;
            // The next part may begin among the bytes that were looked at.
            self.put_part(to, start, least(have, passed));
            let mut on = Place { skip: self.at.skip.wrapping_add(passed).wrapping_sub(have), ..self.at };
            let again = Place { skip: self.mark.skip.wrapping_add(passed), ..self.mark };
            on.choose(negative(passed.wrapping_sub(have)), again);
            self.at.choose(taken, on);
            let at = self.at;
            self.mark.choose(taken, at);
            start = self.forget(start + passed);
            to = self.forget(to + (PART & taken));
            have = self.forget(have & !taken);
            begins = self.forget(begins & !taken | !step.message & taken);
            let left = self.left.wrapping_sub(start);
            done = self
                .forget(stop | failed | taken & (too_few(left, begins) | negative(RUN.wrapping_sub(to + 1))));
            rounds += 1;
        }
        self.at = self.mark;
        let (start, to, begins) = (self.forget(start), self.forget(to), self.forget(begins));
        let left = self.left.wrapping_sub(start);
        let length = least(start, self.left) & !failed | self.left & failed;
        frames.next = position + start;
        frames.place = place::MESSAGE - (begins & (place::MESSAGE - place::SKIPPED));
        frames.seen = position + length;
        if begins & (stop | negative(left.wrapping_sub(ENTRY))) != 0 {
            self.run = 0;
        }
        if failed != 0 {
            frames.place = place::LOST;
            count(KernelCounter::UserFault);
        }
        if length != 0 {
            state.looks = 0;
            // Without parts it is a length like any other.
            let parts = flags::PARTS & negative(to.wrapping_neg()) as u16;
            let behind = self.at.passed.wrapping_add(self.at.skip).wrapping_add(left);
            self.send(length, to, behind, parts);
        }
        failed == 0 && self.left != 0
    }

    /// Writes what comes before the bytes of a part.
    #[inline(always)]
    fn put_part(&mut self, to: u64, offset: u64, captured: u64) {
        // SAFETY: aligned, and within the piece.
        unsafe {
            let part = (&raw mut self.piece).byte_add((to & MASK & !7) as usize).cast::<[u32; 2]>();
            part.write([offset as u32, captured as u32]);
        }
    }
}
