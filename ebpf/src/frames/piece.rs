//! Pieces of a call that are copied as they are, and followed from frame to frame, or from chunk to chunk.

use sonde_abi::chunks;
use sonde_abi::conn::mode;
use sonde_abi::frames::{Frames, HEADER, header, place};
use sonde_abi::limits::{
    CHUNKS_PER_PIECE, CHUNKS_PIECE, CONTENT_START, FRAMES_BUFFERS, FRAMES_PER_PIECE, FRAMES_PIECES,
    HEAD_BYTES, SHORT_CONTENT,
};
use sonde_abi::messages::{Aside, Content, Messages, PREFIX, Step};
use sonde_abi::settings::KernelCounter;
use sonde_abi::sniff::LOOK;
use sonde_abi::{ConnState, Direction};

use super::work::{BEFORE, MASK, Place, Work};
use crate::access::{least, negative, opaque};
use crate::maps::count;
use crate::recognise::leave_alone;

/// What was copied of a call.
struct Gathered {
    /// Bytes.
    taken: u64,
    /// Not 0: there are more, and they can be read.
    more: u64,
    /// Not 0: those that come next could not be read.
    failed: u64,
}

/// What the frames of a piece came to, or the chunks.
struct Found {
    /// Where the next one stands, from the piece's first byte.
    at: u64,
    /// Bytes of its header.
    header: u64,
    /// Bytes behind that, where they are to be passed over; else 0.
    long: u64,
    /// Those that were passed.
    count: u64,
    /// Not 0: what stands there is none.
    bad: u64,
    /// Not 0: no other follows.
    last: u64,
    /// Where messages begin in the content that is passed over, or stands there.
    step: Step,
    /// Not 0: it begins in the piece as those before, but there were too many.
    on: u64,
}

impl Found {
    #[inline(always)]
    const fn at(from: u64) -> Self {
        let step = Step { passed: 0, message: 0 };
        Self { at: from, header: HEADER, long: 0, count: 0, bad: 0, last: 0, step, on: 0 }
    }
}

impl Work {
    /// Sends what comes before the first piece. True: there is one.
    #[inline(always)]
    pub(super) fn first_piece(
        &mut self,
        state: &mut ConnState,
        direction: Direction,
        aside: &mut Aside,
    ) -> bool {
        let frames = Frames::of(&mut state.frames, direction);
        if state.mode == mode::HTTP2 && (frames.messages.lane() == 0 || frames.place == place::FOUND) {
            frames.messages.enter(aside);
        }
        if frames.place == place::MESSAGE && frames.next < self.record.position {
            // A call in between moved what nobody sees: with `sendfile`, for one.
            frames.place = place::SKIPPED;
            frames.next += frames.messages.rest;
            frames.messages.stream.state = 0;
        }
        let skipped = matches!(frames.place, place::SKIPPED | place::MESSAGE);
        self.run = u64::from(frames.place == place::MESSAGE);
        if skipped && frames.next > self.record.position {
            let skip = least(frames.next - self.record.position, self.left);
            // Of a body the first bytes are copied all the same: it may be another coding than it seems.
            let opening = if state.mode == mode::HTTP1 { self.open(skip) } else { 0 };
            let behind = self.at.passed.wrapping_add(self.at.skip).wrapping_add(self.left);
            self.send(skip, opening, behind, 0);
            self.at.skip = self.at.skip.wrapping_add(skip);
            frames.seen = self.record.position;
        }
        self.pieces = 1;
        self.left != 0
    }

    /// Sends the next piece. True: more follows.
    #[inline(always)]
    pub(super) fn next_piece(
        &mut self,
        state: &mut ConnState,
        direction: Direction,
        aside: &mut Aside,
    ) -> bool {
        let http1 = self.forget(u64::from(state.mode == mode::HTTP1));
        let frames = Frames::of(&mut state.frames, direction);
        // The place was told by frames before these, and not guessed from this call.
        let told = self.forget(frames.place ^ place::FOUND);
        let position = self.record.position;
        // A body is tried, whatever it is.
        if http1 != 0 && frames.place == place::LOST {
            frames.place = place::FOUND;
            frames.next = position;
        }
        let behind = frames.next.wrapping_sub(position);
        // Where a header is cut, its first bytes were the last of what was looked at before.
        let cut = frames.seen == position && behind.wrapping_add(BEFORE) >> 63 == 0;
        let known = frames.place != place::LOST && (behind >> 63 == 0 || cut);
        // Of what follows the verifier sees one way, not one for each of these.
        let known = self.forget(u64::from(known));
        let from = self.forget(if known != 0 { behind } else { MASK + 1 });
        let position = self.forget(position);
        let soft = http1 & u64::from(state.head_left != 0);
        let soft = self.forget(soft);
        let most = self.forget(if http1 != 0 && soft == 0 { CHUNKS_PIECE } else { MASK });
        // Once more, since each that was asked is known from there on.
        let (known, http1, soft) = (self.forget(known), self.forget(http1), self.forget(soft));
        self.mark = self.at;
        let Gathered { taken, more, failed } = self.gather(most);
        let end = self.put_before(frames.last);
        let found = if http1 != 0 {
            self.walk_chunks(from, taken)
        } else {
            self.walk_frames(from, taken, &mut frames.messages, aside)
        };
        let last = self.word_at(taken).0;
        let (mut length, mut captured) = (self.left, taken);
        let within = self.pieces < FRAMES_PIECES;
        let more = more != 0 && within;
        // The walk stopped at what is to be looked at anew: a message within a content, or what was too much for one.
        let inside = self.forget(found.step.message | found.on);
        // Where a head may go on, one line is no chunk yet: it may be the end of a field's.
        let doubtful = soft != 0 && found.count == 0;
        if known == 0 || doubtful || found.bad | found.last != 0 {
            frames.place = place::LOST;
            if soft != 0 {
                // Perhaps more of a response's head.
                state.head_left = state.head_left.saturating_sub(taken as u32);
            } else if http1 != 0 && found.last == 0 && found.count == 0 {
                captured = least(taken, LOOK as u64);
            }
        } else if found.long != 0 {
            let header = found.at + found.header;
            if http1 != 0 {
                frames.place = place::SKIPPED;
                frames.next = position + header + found.long;
                // It may be no chunk after all, but text that looks like one: of a short call all is copied.
                if taken != length {
                    captured = least(taken, header + LOOK as u64);
                }
                if more {
                    length = least(header + found.long, length);
                }
            } else {
                let Step { passed, message } = found.step;
                frames.place = place::SKIPPED + (message & (place::MESSAGE - place::SKIPPED));
                frames.next = position + header + passed;
                // The same bytes are looked at again where messages begin among them.
                if within {
                    length = least(header + passed, length);
                }
                captured = least(taken, least(header + CONTENT_START, length));
                self.run = 1;
            }
        } else {
            // Of a content that ends behind the piece all is copied, unless a message may begin in it.
            frames.place = place::COPIED + (found.step.message & (place::MESSAGE - place::COPIED));
            frames.next = position + found.at;
            self.run = found.step.message & 1;
            if within && inside != 0 {
                length = least(found.at, length);
                captured = least(taken, length);
            } else if more {
                length = taken;
            }
        }
        frames.seen = position + length;
        frames.last = last;
        let unread = !more && taken < length || inside != 0;
        if unread && frames.next < frames.seen && frames.place != place::LOST {
            // A header is among what was not read, or not followed.
            frames.place = place::LOST;
            count(if failed != 0 { KernelCounter::UserFault } else { KernelCounter::FarBuffer });
        }
        let goes_on = frames.place != place::LOST;
        if http1 != 0 && goes_on {
            state.head_left = 0;
        }
        if http1 == 0 && known != 0 && found.bad != 0 {
            state.looks += 1;
            leave_alone(state);
        } else if found.count != 0 && told != 0 {
            state.looks = 0;
        }
        self.put_before(end);
        let behind = self.at.passed.wrapping_add(self.left).wrapping_sub(taken);
        self.send(length, captured, behind, 0);
        let again = negative(length.wrapping_sub(taken));
        self.at.skip = length.wrapping_sub(taken);
        let mark = Place { skip: self.mark.skip.wrapping_add(length), ..self.mark };
        self.at.choose(again, mark);
        goes_on && self.left != 0
    }

    /// Copies the next bytes of the call, up to `most`, out of as many buffers as it takes.
    #[inline(always)]
    fn gather(&mut self, most: u64) -> Gathered {
        let buffers = self.source.buffers();
        let (mut taken, mut more, mut failed, mut rounds) = (0_u64, 0_u64, 0_u64, 0);
        while rounds < FRAMES_BUFFERS {
            let room = least(self.left.wrapping_sub(taken), most.wrapping_sub(taken));
            let (part, read) = self.take(taken, room);
            failed = self.forget(!read);
            taken = self.forget(taken + part);
            more = self.forget(
                read & negative(self.at.index.wrapping_sub(buffers))
                    & negative(taken.wrapping_sub(self.left)),
            );
            if more & negative(taken.wrapping_sub(most)) == 0 {
                break;
            }
            rounds += 1;
        }
        Gathered { taken: self.forget(taken), more: self.forget(more), failed: self.forget(failed) }
    }

    /// Passes from chunk to chunk, the first at `from` (below zero by up to eight: its first bytes stand before the piece), until
    /// the line of one is not all within `taken` bytes, or is none, or its content goes on behind them.
    #[inline(always)]
    fn walk_chunks(&mut self, from: u64, taken: u64) -> Found {
        let mut found = Found::at(self.forget(from));
        let mut rounds = 0;
        while rounds < CHUNKS_PER_PIECE {
            let low = self.word_at(found.at.wrapping_add(BEFORE)).0;
            let high = self.word_at(found.at.wrapping_add(2 * BEFORE)).0;
            let line = chunks::line(low, high, &opaque);
            let behind = found.at.wrapping_add(line.octets);
            let cut = negative(taken.wrapping_sub(behind));
            let bad = opaque(line.bad.wrapping_neg()) & !cut;
            let long = negative(taken.wrapping_sub(behind.wrapping_add(line.size)))
                & negative(line.size.wrapping_neg())
                & !(cut | bad);
            let last = negative(line.size.wrapping_sub(1)) & !(cut | bad);
            let on = !(cut | bad | long | last);
            found.header = self.forget(line.octets);
            found.bad = self.forget(bad);
            found.long = self.forget(long & line.size);
            found.last = self.forget(last);
            found.at = self.forget(found.at.wrapping_add(on & (line.octets + line.size)));
            found.count = self.forget(found.count.wrapping_sub(on));
            if on == 0 {
                break;
            }
            rounds += 1;
        }
        found
    }

    /// The same from frame to frame, and in the contents of streams from message to message: until a frame's header is not all within
    /// `taken` bytes, or is none, or its content is not worth copying, or a message begins behind them.
    #[inline(always)]
    fn walk_frames(&mut self, from: u64, taken: u64, messages: &mut Messages, aside: &mut Aside) -> Found {
        let mut found = Found::at(self.forget(from));
        // All ones where a header is next.
        let mut begins = self.forget(u64::MAX);
        let mut rounds = 0;
        while rounds < FRAMES_PER_PIECE {
            let (low, high) = self.word_at(found.at.wrapping_add(BEFORE));
            let header = header(low, high, &opaque);
            let behind = found.at.wrapping_add(HEADER & begins);
            let have = least(taken.wrapping_sub(behind), PREFIX);
            let wanted = messages.wanted(&opaque) & !begins;
            let cut = negative(have.wrapping_sub(wanted));
            let bad = opaque(header.impossible.wrapping_neg()) & begins & !cut;
            let length = header.length & begins;
            let limit = SHORT_CONTENT + header.telling * (HEAD_BYTES as u64 - SHORT_CONTENT);
            let long = negative(taken.wrapping_sub(behind.wrapping_add(length)))
                & negative(limit.wrapping_sub(length))
                & !(cut | bad);
            let content = (opaque(header.content.wrapping_neg()) | !begins) & !(cut | bad);
            messages.take_up(header.stream, content & begins, aside, &opaque);
            let of_stream = Content {
                word: self.word_at(behind.wrapping_add(BEFORE)).0,
                have,
                begins,
                length,
                padded: header.padded & begins,
            };
            let (next, step) = messages.step(&of_stream, u64::MAX, &opaque);
            messages.choose(content, next);
            let passed = step.passed & content | length & !content;
            let message = step.message & content | !begins & cut;
            let on = !(cut | bad | long);
            found.bad = self.forget(bad);
            found.long = self.forget(long & length);
            found.step = Step { passed: self.forget(passed), message: self.forget(message) };
            found.at = self.forget(found.at.wrapping_add(on & (behind.wrapping_sub(found.at) + passed)));
            found.count = self.forget(found.count.wrapping_sub(on & begins));
            found.on = self.forget(on & !negative(taken.wrapping_sub(found.at)));
            if on == 0 {
                break;
            }
            begins = self.forget(!message);
            rounds += 1;
        }
        found
    }
}
