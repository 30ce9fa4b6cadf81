//! Calls of connections that speak HTTP/2: which of their bytes cross the ring.
//!
//! Frames are copied, but for long contents of streams, which are passed over by arithmetic. A program of its own, called by
//! the one that saw the call and then by itself for each piece of it, so that the verifier sees one piece and not all of them.
//! What one leaves for the next stands in [`Work`].

use aya_ebpf::EbpfContext;
use aya_ebpf::helpers::generated::{bpf_probe_read_user, bpf_ringbuf_output};
use aya_ebpf::macros::btf_tracepoint;
use aya_ebpf::programs::{BtfTracePointContext, TracePointContext};
use core::ffi::c_void;
use core::hint::cold_path;
use sonde_abi::frames::{HEADER, header, place};
use sonde_abi::limits::{
    CONTENT_START, FRAMES_BUFFERS, FRAMES_PER_PIECE, FRAMES_PIECE, FRAMES_PIECES, HEAD_BYTES, SHORT_CONTENT,
};
use sonde_abi::record::flags;
use sonde_abi::settings::KernelCounter;
use sonde_abi::{ChunkHeader, ConnState, Direction};

use crate::access::{Access, Kernel, Typed, Walked, least, negative, opaque};
use crate::conn::Socket;
use crate::emit::{self, Onward, leave_alone};
use crate::maps::{FRAMES_RECEIVED, FRAMES_SENT, RING, WORK, count};
use crate::user::{Buffer, Source};

/// A number below this is an offset into a piece.
const MASK: u64 = FRAMES_PIECE as u64;
/// Bytes before a piece that may belong to its first header.
const BEFORE: u64 = 8;

const _: () = assert!((FRAMES_PIECE + 1).is_power_of_two());

/// A call on its way through the ring.
#[repr(C)]
pub struct Work {
    source: Source,
    /// Buffer under way, and how much of it has been passed.
    index: u64,
    passed: u64,
    /// Bytes from there that are passed before the next are looked at.
    skip: u64,
    /// Bytes of the call that are not sent yet.
    left: u64,
    /// Pieces that were sent.
    pieces: u64,
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
    0
}

/// The same for what was received.
#[btf_tracepoint(function = "sys_exit")]
#[inline(always)]
pub fn frames_exit_received(ctx: BtfTracePointContext) -> i32 {
    step::<Walked>(&ctx, Direction::Read, socket);
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
    give_up(direction);
}

/// Sends what is left of a call as a length.
#[inline(always)]
pub fn give_up(direction: Direction) {
    let Some(work) = work(direction) else { return };
    // SAFETY: as in `step`.
    let work = unsafe { &mut *work };
    count(KernelCounter::FarBuffer);
    work.send(work.left, 0);
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
    if work.pieces == 0 {
        // SAFETY: a header.
        unsafe { Socket { sock }.describe::<A>(state, &raw mut work.record) };
    }
    if work.next_piece(state, direction) {
        go_on(ctx, direction);
    }
}

/// What was copied of a call.
struct Gathered {
    /// Bytes.
    taken: u64,
    /// Not 0: there are more, and they can be read.
    more: u64,
}

/// What the frames of a piece came to.
struct Found {
    /// Where the next header stands, from the piece's first byte.
    at: u64,
    /// Frames that were passed.
    frames: u64,
    /// Not 0: what stands there is no frame's header.
    bad: u64,
    /// Length of that frame where its content is to be passed over, 0 for none.
    long: u64,
}

impl Work {
    /// Takes on a call that moved `length` bytes; the record's header is still to be filled in.
    #[inline(always)]
    pub fn begin(&mut self, source: Source, length: u64) {
        self.source = source;
        self.index = 0;
        self.passed = 0;
        self.skip = 0;
        self.left = length;
        self.pieces = 0;
        self.record.tail = [0; 8];
    }

    /// Sends the next piece. True: another one follows.
    #[inline(always)]
    fn next_piece(&mut self, state: &mut ConnState, direction: Direction) -> bool {
        let [write, read] = &mut state.frames;
        let frames = if let Direction::Write = direction { write } else { read };
        // The place was told by frames before these, and not guessed from this call.
        let told = self.forget(frames.place ^ place::FOUND);
        if frames.place == place::SKIPPED && frames.next > self.record.position {
            self.skip = least(frames.next - self.record.position, self.left);
            self.send(self.skip, 0);
            if self.left == 0 {
                frames.seen = self.record.position;
                return false;
            }
        }
        let position = self.record.position;
        let behind = frames.next.wrapping_sub(position);
        // Where a header is cut, its first bytes were the last of what was looked at before.
        let cut = frames.seen == position && behind.wrapping_add(BEFORE) >> 63 == 0;
        let known = frames.place != place::LOST && (behind >> 63 == 0 || cut);
        // Of what follows the verifier sees one way, not one for each of these.
        let known = self.forget(u64::from(known));
        let from = self.forget(if known != 0 { behind } else { MASK + 1 });
        let position = self.forget(position);
        let Gathered { taken, more } = self.gather();
        let end = self.put_before(frames.last);
        let found = self.walk(from, taken);
        let last = self.word_at(taken).0;
        self.put_before(end);
        let (mut length, mut captured) = (self.left, taken);
        let more = more != 0 && self.pieces < FRAMES_PIECES;
        if known == 0 || found.bad != 0 {
            frames.place = place::LOST;
        } else if found.long != 0 {
            let behind = found.at + HEADER + found.long;
            frames.place = place::SKIPPED;
            frames.next = position + behind;
            captured = least(taken, found.at + HEADER + CONTENT_START);
            if more {
                length = least(behind, length);
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
        if !more && taken < length && frames.next < frames.seen {
            // A header is among what cannot be read.
            frames.place = place::LOST;
            count(KernelCounter::FarBuffer);
        }
        let goes_on = frames.place != place::LOST;
        if known != 0 && found.bad != 0 {
            state.looks += 1;
            leave_alone(state);
        } else if found.frames != 0 && told != 0 {
            state.looks = 0;
        }
        self.skip = length.wrapping_sub(taken);
        self.send(length, captured);
        goes_on && self.left != 0
    }

    /// Copies the next bytes of the call, as many as a piece takes, out of as many buffers as it takes.
    #[inline(always)]
    fn gather(&mut self) -> Gathered {
        // All ones for a plain buffer. No vector is that long.
        let plain = negative(self.source.count);
        let buffers = self.source.count & !plain | plain & 1;
        let (mut taken, mut more, mut rounds) = (0_u64, 0_u64, 0);
        while rounds < FRAMES_BUFFERS {
            let at = self.source.address.wrapping_add((self.index & !plain) * size_of::<Buffer>() as u64);
            let mut buffer = Buffer { base: 0, len: 0 };
            // Of a plain buffer its first bytes, which are not used.
            // SAFETY: writes exactly the size of a buffer; the helper checks the address.
            unsafe {
                bpf_probe_read_user((&raw mut buffer).cast(), size_of::<Buffer>() as u32, at as *const _)
            };
            let base = self.source.address & plain | buffer.base & !plain;
            let len = (plain | buffer.len) & LONGEST;
            let room = least(self.left.wrapping_sub(taken), MASK.wrapping_sub(taken));
            let left = len.wrapping_sub(self.passed);
            let left = left & !negative(left);
            let skip = least(self.skip, left);
            let part = least(left - skip, room) & MASK;
            let from = base.wrapping_add(self.passed).wrapping_add(skip);
            // SAFETY: at most `MASK` bytes into the piece, and at most as many more; the helper checks the address.
            let failed = unsafe {
                let to = (&raw mut self.piece).cast::<u8>().add((taken & MASK) as usize);
                bpf_probe_read_user(to.cast(), (part & MASK) as u32, from as *const _)
            };
            let read = !negative(failed.cast_unsigned());
            let part = part & read;
            taken = self.forget(taken + part);
            self.skip = self.skip.wrapping_sub(skip);
            // All ones where nothing of the buffer is left.
            let used = negative((left - skip - part).wrapping_sub(1));
            self.index = self.index.wrapping_sub(used);
            self.passed = self.passed.wrapping_add(skip).wrapping_add(part) & !used;
            more = self.forget(
                read & negative(self.index.wrapping_sub(buffers)) & negative(taken.wrapping_sub(self.left)),
            );
            if more & negative(taken.wrapping_sub(MASK)) == 0 {
                break;
            }
            rounds += 1;
        }
        Gathered { taken: self.forget(taken), more: self.forget(more) }
    }

    /// Passes from frame to frame, the first header at `from` (below zero by up to eight: its first bytes stand before the
    /// piece), until one is not all within `taken` bytes, or cannot be one, or its content is not worth copying.
    #[inline(always)]
    fn walk(&mut self, from: u64, taken: u64) -> Found {
        let mut found = Found { at: self.forget(from), frames: 0, bad: 0, long: 0 };
        let mut rounds = 0;
        while rounds < FRAMES_PER_PIECE {
            let (low, ninth) = self.word_at(found.at.wrapping_add(BEFORE));
            let header = header(low, ninth, &opaque);
            let behind = found.at.wrapping_add(HEADER);
            let cut = negative(taken.wrapping_sub(behind));
            let bad = opaque(header.impossible.wrapping_neg()) & !cut;
            let limit = SHORT_CONTENT + header.telling * (HEAD_BYTES as u64 - SHORT_CONTENT);
            let long = negative(taken.wrapping_sub(behind.wrapping_add(header.length)))
                & negative(limit.wrapping_sub(header.length))
                & !cut
                & !bad;
            let on = !(cut | bad | long);
            found.bad = self.forget(bad);
            found.long = self.forget(long & header.length);
            found.at = self.forget(found.at.wrapping_add(on & (HEADER + header.length)));
            found.frames = self.forget(found.frames.wrapping_sub(on));
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

    /// Sends a record of the next `length` bytes, of which `captured` are in the piece.
    #[inline(always)]
    fn send(&mut self, length: u64, captured: u64) {
        const ANNOUNCED: u16 = flags::NEW_PROCESS | flags::FORKED;
        self.left = self.left.wrapping_sub(length);
        self.pieces += 1;
        let size = size_of::<ChunkHeader>() as u64 + (captured & MASK);
        let announced = self.record.flags & ANNOUNCED;
        let continues = u64::from(flags::CONTINUES) & negative(self.left.wrapping_neg());
        self.record.flags = self.record.flags & !flags::CONTINUES | continues as u16;
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
