//! Calls of connections that speak HTTP/2, and those of HTTP/1 that move chunks: which of their bytes cross the ring.
//!
//! Frames are copied, but for long contents of streams, and of chunks their size lines; the rest is passed over by arithmetic.
//! A program of its own, called by
//! the one that saw the call and then by itself for each piece of it, so that the verifier sees one piece and not all of them.
//! What one leaves for the next stands in [`Work`].

use aya_ebpf::EbpfContext;
use aya_ebpf::helpers::generated::{bpf_probe_read_user, bpf_ringbuf_output};
use aya_ebpf::macros::btf_tracepoint;
use aya_ebpf::programs::{BtfTracePointContext, TracePointContext};
use core::ffi::c_void;
use core::hint::cold_path;
use sonde_abi::chunks;
use sonde_abi::conn::mode;
use sonde_abi::frames::{Content, HEADER, Messages, PREFIX, Step, header, place};
use sonde_abi::limits::{
    CHUNKS_PER_PIECE, CHUNKS_PIECE, CONTENT_START, FRAMES_BUFFERS, FRAMES_PER_PIECE, FRAMES_PIECE,
    FRAMES_PIECES, HEAD_BYTES, RUN_ROUNDS, SHORT_CONTENT,
};
use sonde_abi::record::flags;
use sonde_abi::settings::KernelCounter;
use sonde_abi::sniff::LOOK;
use sonde_abi::{ChunkHeader, ConnState, Direction, Part};

use crate::access::{Access, Kernel, Typed, Walked, least, negative, opaque};
use crate::emit::{self, Onward};
use crate::maps::{FRAMES_RECEIVED, FRAMES_SENT, RING, WORK, count};
use crate::messages;
use crate::recognise::leave_alone;
use crate::user::{self, Buffer, ONE, Source};

/// A number below this is an offset into a piece.
const MASK: u64 = FRAMES_PIECE as u64;
/// Bytes before a piece that may belong to its first header.
const BEFORE: u64 = 8;

/// Bytes of a part, and those before what was copied.
const PART: u64 = Part::LEN as u64;
const PART_HEAD: u64 = 8;
/// Bytes of parts in a record at most.
const RUN: u64 = MASK / PART * PART - 1;
/// Bytes that are looked at where a long frame begins: its header, and as many as stand before a message.
const ENTRY: u64 = HEADER + PREFIX;

const _: () = assert!((FRAMES_PIECE + 1).is_power_of_two() && PART_HEAD + ENTRY <= PART);

/// A place in a call's source: a buffer, how much of it has been passed, and how much more is to be.
#[repr(C)]
#[derive(Clone, Copy)]
struct Place {
    index: u64,
    passed: u64,
    skip: u64,
}

impl Place {
    /// Becomes another one where `mask` is all ones.
    #[inline(always)]
    fn choose(&mut self, mask: u64, other: Self) {
        self.index = self.index & !mask | other.index & mask;
        self.passed = self.passed & !mask | other.passed & mask;
        self.skip = self.skip & !mask | other.skip & mask;
    }
}

/// A call on its way through the ring.
#[repr(C)]
pub struct Work {
    source: Source,
    /// Where in it the next bytes are.
    at: Place,
    /// Bytes of the call that are not sent yet.
    left: u64,
    /// Pieces that were sent.
    pieces: u64,
    /// Not 0: long contents come next, of which only parts are copied.
    run: u64,
    /// Where in the source something began that may have to be looked at again.
    mark: Place,
    /// For [`Self::forget`].
    nothing: u64,
    /// What is sent: its position is that of the next piece.
    pub record: ChunkHeader,
    /// Room for twice the bytes: the verifier does not see that offset and length together stay below them.
    piece: [u64; 2 * (FRAMES_PIECE + 1) / 8],
}

/// The place for a call's work. One for each direction: programs for the two may be put aside for one another.
#[inline(always)]
pub fn work(direction: Direction) -> Option<*mut Work> {
    WORK.get_ptr_mut(direction as u32)
}

/// `sock_send_length`, called by [`crate::lengths::sent`].
#[btf_tracepoint(function = "sock_send_length")]
#[inline(always)]
pub fn frames_sent(ctx: BtfTracePointContext) -> i32 {
    step::<Typed>(&ctx, Direction::Write, |_| ctx.arg(0));
    0
}

/// `sock_recv_length`, called by [`crate::lengths::received`].
#[btf_tracepoint(function = "sock_recv_length")]
#[inline(always)]
pub fn frames_received(ctx: BtfTracePointContext) -> i32 {
    step::<Typed>(&ctx, Direction::Read, |_| ctx.arg(0));
    0
}

/// `sys_exit`, called by [`crate::syscalls::sys_exit`].
#[btf_tracepoint(function = "sys_exit")]
#[inline(always)]
pub fn frames_exit_sent(ctx: BtfTracePointContext) -> i32 {
    step::<Walked>(&ctx, Direction::Write, socket);
    messages::again(&ctx);
    0
}

/// The same for what was received.
#[btf_tracepoint(function = "sys_exit")]
#[inline(always)]
pub fn frames_exit_received(ctx: BtfTracePointContext) -> i32 {
    step::<Walked>(&ctx, Direction::Read, socket);
    messages::again(&ctx);
    0
}

/// Called by the programs of [`crate::perf`].
#[unsafe(no_mangle)]
#[unsafe(link_section = "tracepoint")]
pub fn frames_perf_sent(record: *mut c_void) -> u32 {
    step::<Walked>(&TracePointContext::new(record), Direction::Write, socket);
    1
}

/// The same for what was received.
#[unsafe(no_mangle)]
#[unsafe(link_section = "tracepoint")]
pub fn frames_perf_received(record: *mut c_void) -> u32 {
    step::<Walked>(&TracePointContext::new(record), Direction::Read, socket);
    1
}

/// The same at `sys_exit`.
#[unsafe(no_mangle)]
#[unsafe(link_section = "tracepoint")]
pub fn frames_perf_exit_sent(record: *mut c_void) -> u32 {
    let ctx = TracePointContext::new(record);
    step::<Walked>(&ctx, Direction::Write, socket);
    messages::again(&ctx);
    1
}

/// The same for what was received.
#[unsafe(no_mangle)]
#[unsafe(link_section = "tracepoint")]
pub fn frames_perf_exit_received(record: *mut c_void) -> u32 {
    let ctx = TracePointContext::new(record);
    step::<Walked>(&ctx, Direction::Read, socket);
    messages::again(&ctx);
    1
}

/// The socket of a call whose context does not name it.
#[inline(always)]
fn socket(work: &Work) -> Kernel {
    work.record.sock as Kernel
}

/// What follows where [`emit::moved`] says so.
#[inline(always)]
pub fn follow(ctx: &impl EbpfContext, onward: Option<Onward>) {
    if let Some(Onward::Frames(direction)) = onward {
        cold_path();
        go_on(ctx, direction);
    }
}

/// Leaves a call to the program for its direction. Comes back where that is not there, or has been called too often.
#[inline(always)]
pub fn go_on(ctx: &impl EbpfContext, direction: Direction) {
    // SAFETY: nothing of this program is used after it, should it succeed.
    unsafe {
        match direction {
            Direction::Write => FRAMES_SENT.tail_call(ctx, 0),
            Direction::Read => FRAMES_RECEIVED.tail_call(ctx, 0),
        }
    }
    let Some(work) = work(direction) else { return };
    // SAFETY: as in `step`.
    let work = unsafe { &mut *work };
    count(KernelCounter::FarBuffer);
    let behind = work.at.passed.wrapping_add(work.at.skip).wrapping_add(work.left);
    work.send(work.left, 0, behind, 0);
}

#[inline(always)]
fn step<A: Access>(ctx: &impl EbpfContext, direction: Direction, socket: impl FnOnce(&Work) -> Kernel) {
    let Some(work) = work(direction) else { return };
    // SAFETY: this processor's element, which only the program uses that was called with it.
    let work = unsafe { &mut *work };
    let sock = socket(work);
    let Some(state) = A::known(sock) else { return };
    // SAFETY: as in `emit::moved`.
    let state = unsafe { &mut *state };
    // Three pieces, written out: the kernel lets programs call each other so often and no more, and the verifier takes a loop of
    // them for one without end.
    let goes_on = if work.pieces == 0 {
        // By itself, and the first piece by the next call: the verifier follows each way through this.
        work.first_piece(state, direction)
    } else {
        work.next(state, direction) && work.next(state, direction) && work.next(state, direction)
    };
    if goes_on {
        go_on(ctx, direction);
    }
}

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
    /// Not 0: among those were contents of streams.
    contents: u64,
}

impl Work {
    /// Takes on a call that moved `length` bytes behind `skip` that were sent; the record's header is still to be filled in.
    #[inline(always)]
    pub fn begin(&mut self, source: Source, length: u64, skip: u64) {
        self.source = source;
        self.at = Place { index: 0, passed: 0, skip };
        self.left = length;
        self.pieces = 0;
        self.run = 0;
        self.record.tail = [0; 8];
    }

    /// Sends what comes before the first piece. True: there is one.
    #[inline(always)]
    fn first_piece(&mut self, state: &mut ConnState, direction: Direction) -> bool {
        let [write, read] = &mut state.frames;
        let frames = if let Direction::Write = direction { write } else { read };
        if frames.place == place::MESSAGE && frames.next < self.record.position {
            // A call in between moved what nobody sees: with `sendfile`, for one.
            frames.place = place::SKIPPED;
            frames.next += u64::from(frames.messages.rest);
            frames.messages.stream = 0;
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

    /// Sends what is next. True: more follows.
    #[inline(always)]
    fn next(&mut self, state: &mut ConnState, direction: Direction) -> bool {
        if self.run != 0 { self.next_run(state, direction) } else { self.next_piece(state, direction) }
    }

    /// Sends the next piece. True: more follows.
    #[inline(always)]
    fn next_piece(&mut self, state: &mut ConnState, direction: Direction) -> bool {
        let http1 = self.forget(u64::from(state.mode == mode::HTTP1));
        let [write, read] = &mut state.frames;
        let frames = if let Direction::Write = direction { write } else { read };
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
        let found = if http1 != 0 { self.walk::<true>(from, taken) } else { self.walk::<false>(from, taken) };
        // A content that was copied may have ended messages, or begun some.
        frames.messages.stream &= (found.contents as u32).wrapping_sub(1);
        let (messages, step) = self.enter(frames.messages, &found, taken);
        let last = self.word_at(taken).0;
        let end = self.forget(end);
        self.put_before(end);
        let (mut length, mut captured) = (self.left, taken);
        let more = more != 0 && self.pieces < FRAMES_PIECES;
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
                frames.messages = messages;
                frames.place = place::SKIPPED + (step.message & (place::MESSAGE - place::SKIPPED));
                frames.next = position + header + step.passed;
                // The same bytes are looked at again where messages begin among them.
                if self.pieces < FRAMES_PIECES {
                    length = least(header + step.passed, length);
                }
                captured = least(taken, least(header + CONTENT_START, length));
                self.run = 1;
            }
        } else {
            frames.place = place::COPIED;
            frames.next = position + found.at;
            if more {
                length = taken;
            }
        }
        frames.seen = position + length;
        frames.last = last;
        if !more && taken < length && frames.next < frames.seen && frames.place != place::LOST {
            // A header is among what was not read.
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
        let behind = self.at.passed.wrapping_add(self.left).wrapping_sub(taken);
        self.send(length, captured, behind, 0);
        let again = negative(length.wrapping_sub(taken));
        self.at.skip = length.wrapping_sub(taken);
        let mark = Place { skip: self.mark.skip.wrapping_add(length), ..self.mark };
        self.at.choose(again, mark);
        goes_on && self.left != 0
    }

    /// Where messages begin in a content that is not all in the piece.
    #[inline(always)]
    fn enter(&self, messages: Messages, found: &Found, taken: u64) -> (Messages, Step) {
        let (low, high) = self.word_at(found.at.wrapping_add(BEFORE));
        let header = header(low, high, &opaque);
        let from = found.at.wrapping_add(HEADER);
        let content = Content {
            word: self.word_at(from.wrapping_add(BEFORE)).0,
            have: least(taken.wrapping_sub(from), PREFIX),
            begins: u64::MAX,
            length: header.length,
            stream: header.stream,
            padded: header.padded,
        };
        messages.step(&content, &opaque)
    }

    /// Sends parts of long contents: their frames' headers, and prefixes of messages. True: more follows.
    #[inline(always)]
    fn next_run(&mut self, state: &mut ConnState, direction: Direction) -> bool {
        let [write, read] = &mut state.frames;
        let frames = if let Direction::Write = direction { write } else { read };
        let position = self.record.position;
        // All ones where a header is next.
        let mut begins = self.forget(negative(frames.place.wrapping_sub(place::MESSAGE)));
        let (mut to, mut have, mut start) = (self.forget(0), self.forget(0), self.forget(0));
        let (mut stop, mut failed) = (self.forget(0), self.forget(0));
        // Of a header there has to be all, of a prefix anything.
        let mut done = self.forget(negative(self.left.wrapping_sub((begins & (ENTRY - 1)) + 1)));
        self.mark = self.at;
        let mut rounds = 0;
        while rounds < RUN_ROUNDS && done == 0 {
            let wanted = least(frames.messages.wanted(&opaque), self.left.wrapping_sub(start));
            let wanted = ENTRY & begins | wanted & !begins;
            let (part, read) = self.take(to + PART_HEAD + have, wanted.wrapping_sub(have));
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
                stream: header.stream,
                padded: header.padded & begins,
            };
            let (messages, step) = frames.messages.step(&content, &opaque);
            let taken = full & !stop;
            frames.messages.choose(taken, messages);
            self.put_part(to, start, have);
            let passed = (base + step.passed) & taken;
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
            done = self.forget(
                stop | failed
                    | taken
                        & (negative(left.wrapping_sub((begins & (ENTRY - 1)) + 1))
                            | negative(RUN.wrapping_sub(to + 1))),
            );
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
            let part = (&raw mut self.piece).byte_add((to & MASK & !7) as usize).cast::<u64>();
            part.write(if cfg!(target_endian = "little") {
                offset & 0xffff_ffff | captured << 32
            } else {
                offset << 32 | captured
            });
        }
    }

    /// Copies the first bytes of a call of at least as many from a plain buffer, and says how many.
    #[inline(always)]
    fn open(&mut self, length: u64) -> u64 {
        if self.source.count != ONE || length < LOOK as u64 {
            return 0;
        }
        let Some([low, high]) = user::read::<[u64; 2]>(self.source.address.wrapping_add(self.at.skip)) else {
            return 0;
        };
        let [first, second, ..] = &mut self.piece;
        (*first, *second) = (low, high);
        LOOK as u64
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

    /// Copies what comes next in the buffer under way, at most `most` bytes, to a place in the piece. Returns how many, and all ones,
    /// or 0 where it could not be read.
    #[inline(always)]
    fn take(&mut self, to: u64, most: u64) -> (u64, u64) {
        let plain = negative(self.source.count);
        let at = self.source.address.wrapping_add((self.at.index & !plain) * size_of::<Buffer>() as u64);
        let mut buffer = Buffer { base: 0, len: 0 };
        // Of a plain buffer its first bytes, which are not used.
        // SAFETY: writes exactly the size of a buffer; the helper checks the address.
        unsafe { bpf_probe_read_user((&raw mut buffer).cast(), size_of::<Buffer>() as u32, at as *const _) };
        let base = self.source.address & plain | buffer.base & !plain;
        let len = (plain | buffer.len) & LONGEST;
        let left = len.wrapping_sub(self.at.passed);
        let left = left & !negative(left);
        let skip = least(self.at.skip, left);
        let part = least(left - skip, most) & MASK;
        let from = base.wrapping_add(self.at.passed).wrapping_add(skip);
        // SAFETY: at most `MASK` bytes into the piece, and at most as many more; the helper checks the address.
        let failed = unsafe {
            let to = (&raw mut self.piece).cast::<u8>().add((to & MASK) as usize);
            bpf_probe_read_user(to.cast(), (part & MASK) as u32, from as *const _)
        };
        let read = !negative(failed.cast_unsigned());
        let part = part & read;
        self.at.skip = self.at.skip.wrapping_sub(skip);
        // All ones where nothing of the buffer is left.
        let used = negative((left - skip - part).wrapping_sub(1));
        self.at.index = self.at.index.wrapping_sub(used);
        self.at.passed = self.at.passed.wrapping_add(skip).wrapping_add(part) & !used;
        (part, read)
    }

    /// Passes from frame to frame, or from chunk to chunk, the first at `from` (below zero by up to eight: its first bytes stand
    /// before the piece), until one's header is not all within `taken` bytes, or is none, or its content is not worth copying.
    #[inline(always)]
    fn walk<const CHUNKS: bool>(&mut self, from: u64, taken: u64) -> Found {
        let mut found =
            Found { at: self.forget(from), header: 0, long: 0, count: 0, bad: 0, last: 0, contents: 0 };
        let mut rounds = 0;
        while rounds < if CHUNKS { CHUNKS_PER_PIECE } else { FRAMES_PER_PIECE } {
            let (low, high) = self.word_at(found.at.wrapping_add(BEFORE));
            let (octets, length, bad, limit, content);
            if CHUNKS {
                let high = self.word_at(found.at.wrapping_add(2 * BEFORE)).0;
                let line = chunks::line(low, high, &opaque);
                (octets, length, bad, limit, content) = (line.octets, line.size, line.bad, 0, 0);
            } else {
                let header = header(low, high, &opaque);
                (octets, length, bad, content) = (HEADER, header.length, header.impossible, header.content);
                limit = SHORT_CONTENT + header.telling * (HEAD_BYTES as u64 - SHORT_CONTENT);
            }
            let behind = found.at.wrapping_add(octets);
            let cut = negative(taken.wrapping_sub(behind));
            let bad = opaque(bad.wrapping_neg()) & !cut;
            let long = negative(taken.wrapping_sub(behind.wrapping_add(length)))
                & negative(limit.wrapping_sub(length))
                & !cut
                & !bad;
            let last = if CHUNKS { negative(length.wrapping_sub(1)) & !cut & !bad } else { 0 };
            let on = !(cut | bad | long | last);
            found.header = self.forget(octets);
            found.bad = self.forget(bad);
            found.long = self.forget(long & length);
            found.last = self.forget(last);
            found.contents = self.forget(found.contents | on & content);
            found.at = self.forget(found.at.wrapping_add(on & (octets + length)));
            found.count = self.forget(found.count.wrapping_sub(on));
            if on == 0 {
                break;
            }
            rounds += 1;
        }
        found
    }

    /// The eight bytes at an offset from [`BEFORE`] the piece, and behind them the rest of a word.
    #[inline(always)]
    fn word_at(&self, offset: u64) -> (u64, u64) {
        let bits = (offset & 7) * 8;
        // SAFETY: aligned, within the end of the header and the piece behind it.
        let (these, after) = unsafe {
            let from = self.before().byte_add((offset & (2 * MASK) & !7) as usize);
            (from.read_volatile(), from.add(1).read_volatile())
        };
        (these >> bits | after << 1 << (63 - bits), after >> bits)
    }

    /// The last eight bytes of the header, before the piece.
    #[inline(always)]
    fn before(&self) -> *const u64 {
        let end = size_of::<ChunkHeader>() - BEFORE as usize;
        // SAFETY: within the header, which is aligned as this is.
        unsafe { (&raw const self.record).byte_add(end).cast() }
    }

    /// Puts a word in their place, and returns what stood there.
    #[inline(always)]
    fn put_before(&mut self, word: u64) -> u64 {
        let place = self.before().cast_mut();
        // SAFETY: as above.
        unsafe { core::mem::replace(&mut *place, word) }
    }

    /// Sends a record of the next `length` bytes, of which `captured` are in the piece. `behind`: where the call ends, from the
    /// beginning of the buffer under way. `parts`: [`flags::PARTS`] where the piece holds some.
    #[inline(always)]
    fn send(&mut self, length: u64, captured: u64, behind: u64, parts: u16) {
        const ANNOUNCED: u16 = flags::NEW_PROCESS | flags::FORKED;
        self.left = self.left.wrapping_sub(length);
        self.pieces += 1;
        let size = size_of::<ChunkHeader>() as u64 + (captured & MASK);
        let announced = self.record.flags & ANNOUNCED;
        let continues = u64::from(flags::CONTINUES) & negative(self.left.wrapping_neg());
        self.record.flags =
            self.record.flags & !(flags::CONTINUES | flags::TAIL | flags::PARTS) | continues as u16 | parts;
        if self.left == 0 && length > captured + 7 && self.record.flags & flags::PARTS == 0 {
            // The end of a body may be seen there.
            if let Some(tail) = user::tail(self.source, self.at.index, behind) {
                self.record.tail = tail.to_ne_bytes();
                self.record.flags |= flags::TAIL;
            }
        }
        self.record.length = length as u32;
        self.record.captured = captured as u32;
        let wake = emit::wake(size, announced);
        // SAFETY: header and piece stand one behind the other.
        let failed = unsafe {
            bpf_ringbuf_output((&raw const RING).cast_mut().cast(), (&raw mut self.record).cast(), size, wake)
        };
        if failed != 0 {
            cold_path();
            count(KernelCounter::RingFull);
        }
        self.record.flags &= !ANNOUNCED;
        self.record.position += length;
    }

    /// The same number, of which the verifier knows nothing.
    #[inline(always)]
    fn forget(&mut self, number: u64) -> u64 {
        let place = &raw mut self.nothing;
        // SAFETY: a field.
        unsafe {
            place.write_volatile(number);
            place.read_volatile()
        }
    }
}

/// Bits of a length that any buffer can have.
const LONGEST: u64 = (1 << 48) - 1;
