//! What of a call crosses the ring: a record for each contiguous piece that is worth copying, and the rest as a length.
//!
//! Heads are copied, bodies are counted. A message's start is recognised by its first bytes ([`sonde_abi::sniff`]); copying goes on
//! until the head's empty line, over as many pieces and calls as it takes, up to [`sonde_abi::limits::HEAD_BYTES`]. Where several requests
//! are under way at once, whole calls are copied, since heads may then begin anywhere.

use aya_ebpf::bindings::{BPF_RB_AVAIL_DATA, BPF_RB_FORCE_WAKEUP, BPF_RB_NO_WAKEUP};
use aya_ebpf::helpers::bpf_get_current_pid_tgid;
use aya_ebpf::helpers::generated::{
    bpf_ktime_get_ns, bpf_probe_read_user, bpf_ringbuf_discard, bpf_ringbuf_query, bpf_ringbuf_reserve,
    bpf_ringbuf_submit,
};
use core::hint::cold_path;
use sonde_abi::conn::{mode, state_flags};
use sonde_abi::frames::{Frames, PREFACE, cut, is_preface, place, recognised, resumes};
use sonde_abi::limits::{
    EAGER_LOOKS, GATHERED, LARGE_PIECE, MEDIUM_PIECE, PIECE, PIECES_PER_CALL, SMALL_PIECE, SOFT_HEAD_BYTES,
    WAKE_BYTES,
};
use sonde_abi::record::flags;
use sonde_abi::settings::KernelCounter;
use sonde_abi::sniff::{LOOK, Start};
use sonde_abi::{ChunkHeader, ConnState, Direction, RecordKind};

use crate::access::{Access, Kernel, bounded, least, negative, opaque};
use crate::conn::{Extent, Socket};
use crate::frames;
use crate::head::{Piece, SLACK, forget};
use crate::lifetime;
use crate::maps::{RING, count};
use crate::processes::{self, Verdict};
use crate::recognise::{Consumed, Copy, consume, leave_alone, peek, recognise};
use crate::user::{self, Buffer, ONE, Source};

/// What one call moved.
pub struct Moved {
    /// `struct sock`.
    pub sock: Kernel,
    /// Which way.
    pub direction: Direction,
    /// How many bytes; 0 for the end of the stream.
    pub length: u32,
    /// Bytes that the same call moved after these.
    pub behind: u32,
    /// Where they are in the process.
    pub source: Source,
}

const _: () = assert!(BPF_RB_FORCE_WAKEUP == BPF_RB_NO_WAKEUP + 1 && WAKE_BYTES.is_power_of_two());

/// What comes after a piece.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Next {
    /// All is sent that is worth it.
    Stop,
    /// The next piece is worth copying.
    More,
    /// What is left are chunks, or frames.
    Chunks,
}

/// Sends what is worth sending of a call, or leaves it to the program of [`frames`] for the direction that this returns: by a
/// tail call.
#[inline(always)]
pub fn moved<A: Access>(call: &Moved) -> Option<Direction> {
    let id = bpf_get_current_pid_tgid();
    let verdict = processes::judge((id >> 32) as u32);
    if let Verdict::Drop = verdict {
        return None;
    }
    let socket = Socket::of::<A>(call.sock)?;
    if let Verdict::IfPort = verdict
        && !socket.port_selected::<A>()
    {
        return None;
    }
    if call.length == 0 && (call.direction == Direction::Write || !socket.has_ended::<A>()) {
        return None;
    }
    let state = A::state(call.sock)?;
    // SAFETY: points into a map value that lives as long as this program runs. Another processor may change it between
    // two reads: each field is judged by itself, and a lost change costs a few bytes copied too many or too few.
    let state = unsafe { &mut *state };
    if A::BY_ADDRESS && socket.is_replaced::<A>(state) {
        // Nobody tells when a unix socket goes.
        *state = ConnState::default();
    }
    let changed = state.last_direction != call.direction as u8 + 1;
    if state.mode == mode::OFF || (state.mode == mode::UNKNOWN && skips_unknown(state, call, changed)) {
        // Unix streams are counted by us alone, whether their bytes are of interest or not.
        if state.mode == mode::UNKNOWN {
            count_unseen::<A>(state, call, &socket);
        }
        return None;
    }
    state.last_direction = call.direction as u8 + 1;
    // Kept in the state rather than in a variable: the verifier then has one path less for each branch on it. Should another
    // thread's call change it in between, the bytes are peeked at instead, with the same result.
    state.flags &= !state_flags::CHANGED;
    if changed {
        state.head_left = 0;
        state.flags = (state.flags & !(state_flags::SOFT | state_flags::RESPONSE)) | state_flags::CHANGED;
    }
    // SAFETY: a helper without arguments.
    let time_ns = unsafe { bpf_ktime_get_ns() };
    // Zero but for a call of several messages, and not known to the verifier to be: one path.
    let behind = hidden(state, u64::from(call.behind)) as u32;
    let extent = Extent { direction: call.direction, length: call.length, behind, time_ns };
    let place = socket.place::<A>(state, &extent)?;
    let mut call = Call {
        state,
        socket,
        id,
        time_ns,
        position: place.position,
        length: call.length,
        queued_us: place.queued_us,
        flags: if call.length == 0 { flags::POSITION | flags::END } else { flags::POSITION },
        direction: call.direction,
        source: call.source,
        index: 0,
        skipped: 0,
    };
    call.send::<A>()
}

/// Whether a call on a connection of which nothing is known is not even looked at: nothing moved, no buffer to look into, or
/// the middle of a run (a message that is worth seeing begins with a change of direction, unless several streams share the
/// connection: so the first calls are looked at all the same).
#[inline(always)]
fn skips_unknown(state: &ConnState, call: &Moved, changed: bool) -> bool {
    let within = !changed && state.head_left == 0 && state.looks >= EAGER_LOOKS;
    call.length == 0 || call.source.is_none() || within
}

#[inline(always)]
fn count_unseen<A: Access>(state: &mut ConnState, call: &Moved, socket: &Socket) {
    if !socket.is_unix::<A>() {
        return;
    }
    if call.direction == Direction::Write {
        state.written += u64::from(call.length);
    } else {
        state.read += u64::from(call.length);
    }
}

/// Bytes that a gathered record takes at most, and the mask that keeps them below [`PIECE`].
const LAST: u64 = PIECE as u64 - 1;

/// All ones where `taken` bytes of a payload, four or more, end with an empty line.
#[inline(always)]
fn ends_head(payload: *const u8, taken: u64) -> u64 {
    let at = taken.wrapping_sub(4) & LAST;
    // SAFETY: within `PIECE` bytes and what is behind them.
    let last = unsafe { payload.add(at as usize).cast::<u32>().read_unaligned() };
    negative(opaque(u64::from(last ^ u32::from_le_bytes(*b"\r\n\r\n"))).wrapping_sub(1))
}

/// A call on its way through the ring: what of it is not sent yet.
struct Call<'a> {
    state: &'a mut ConnState,
    socket: Socket,
    /// Process and thread.
    id: u64,
    time_ns: u64,
    position: u64,
    length: u32,
    queued_us: u32,
    flags: u16,
    direction: Direction,
    source: Source,
    /// Buffer under way, and how much of it has been sent.
    index: u64,
    skipped: u64,
}

impl Call<'_> {
    #[inline(always)]
    fn send<A: Access>(&mut self) -> Option<Direction> {
        if self.length == 0 {
            self.send_rest::<A>();
            return None;
        }
        if self.source.is_none() {
            count(KernelCounter::NoBuffer);
            self.flags |= flags::NO_BUFFER;
            // What cannot be seen cannot speak against the connection.
            self.state.looks = 0;
            self.send_rest::<A>();
            return None;
        }
        if self.state.mode == mode::HTTP2 && self.frames().place != place::LOST {
            return self.send_frames::<A>(0);
        }
        let soft = self.state.flags & (state_flags::SOFT | state_flags::PIPELINED) == state_flags::SOFT;
        if soft && self.state.head_left != 0 {
            return self.send_frames::<A>(0);
        }
        let Some((base, len)) = self.contiguous() else {
            self.unreadable::<A>();
            return None;
        };
        let (base, len) = self.hide(base, len);
        if self.state.head_left == 0 {
            let (start, first, seen) = peek(base, len);
            if !self.begins_frames(start, &first, seen) {
                match recognise(self.state, start, &first) {
                    Copy::Nothing => return None,
                    Copy::Length => return self.send_frames::<A>(0),
                    Copy::Payload => self.frames().place = place::LOST,
                }
            }
            if self.state.flags & state_flags::OPENED == 0 {
                lifetime::introduce::<A>(&self.socket, self.state, self.position);
            }
            if self.state.mode == mode::HTTP2 {
                return self.send_frames::<A>(0);
            }
        }
        let (base, len) = self.hide(base, len);
        let next = if self.source.count != ONE && len < u64::from(self.length) && len < PIECE as u64 {
            self.send_gathered::<A>()
        } else if len <= SMALL_PIECE as u64 {
            self.send_piece::<A, SMALL_PIECE>(base, len, true)
        } else {
            self.send_piece::<A, PIECE>(base, if len < PIECE as u64 { len } else { PIECE as u64 }, true)
        };
        if next == Next::Chunks {
            cold_path();
            if self.state.flags & state_flags::SWITCHED != 0 {
                self.becomes_http2();
            }
            let (skip, position) = (self.skipped, self.position);
            self.find(position);
            return self.send_frames::<A>(skip);
        }
        if next == Next::More {
            cold_path();
            self.send_pieces::<A>();
        }
        None
    }

    /// Frames, or chunks, begin at a position.
    #[inline(always)]
    fn find(&mut self, next: u64) {
        let position = self.position;
        let frames = self.frames();
        frames.next = next;
        frames.seen = position;
        frames.place = place::FOUND;
    }

    /// The place of this direction among frames.
    #[inline(always)]
    fn frames(&mut self) -> &mut Frames {
        Frames::of(&mut self.state.frames, self.direction)
    }

    /// Whether the call is one of HTTP/2: it begins with the preface, or with a frame where nothing speaks for anything else.
    #[inline(always)]
    fn begins_frames(&mut self, start: Start, first: &[u64; 2], seen: u32) -> bool {
        let behind = match start {
            Start::Request if is_preface(first, seen as usize) => PREFACE,
            // Behind a 101 a server may begin before the client's preface (RFC 9113, section 3.4).
            Start::Other
                if self.state.mode == mode::HTTP1 && self.state.flags & state_flags::SWITCHED != 0 =>
            {
                if !recognised(first, seen as usize, &opaque) {
                    return false;
                }
                0
            }
            Start::Other | Start::Short if self.state.mode == mode::UNKNOWN => {
                if !(recognised(first, seen as usize, &opaque) || cut(first, seen as usize, &opaque)) {
                    return false;
                }
                0
            }
            Start::Other | Start::Short if self.state.mode == mode::HTTP2 => {
                if !resumes(first, seen as usize, &opaque) {
                    self.state.looks += 1;
                    leave_alone(self.state);
                    // Sent all the same: the agent may see what it is.
                    return self.state.mode == mode::HTTP2;
                }
                0
            }
            _ => return false,
        };
        self.becomes_http2();
        let next = self.position + behind;
        self.find(next);
        true
    }

    #[inline(always)]
    fn becomes_http2(&mut self) {
        if self.state.mode == mode::HTTP1 {
            // A place among chunks is none among frames.
            let [write, read] = &mut self.state.frames;
            (write.place, read.place) = (place::LOST, place::LOST);
        }
        self.state.mode = mode::HTTP2;
    }

    /// Leaves the call to the program that walks frames, but for its first `skip` bytes.
    #[inline(always)]
    fn send_frames<A: Access>(&mut self, skip: u64) -> Option<Direction> {
        let work = frames::work(self.direction)?;
        let announced = processes::announce((self.id >> 32) as u32);
        self.flags |= announced;
        // SAFETY: this processor's element, which nobody else writes before the program that is called next.
        unsafe {
            (*work).begin(self.source, u64::from(self.length), skip);
            self.describe(&raw mut (*work).record, 0);
            self.socket.describe::<A>(self.state, &raw mut (*work).record);
        }
        Some(self.direction)
    }

    /// Makes one of the many paths that lead here, for the verifier: what it knows of these numbers is all that they differ in.
    #[inline(always)]
    fn hide(&mut self, base: u64, len: u64) -> (u64, u64) {
        let state = &*self.state;
        self.length = hidden(state, u64::from(self.length)) as u32;
        self.index = hidden(state, self.index);
        self.skipped = hidden(state, self.skipped);
        self.flags = hidden(state, u64::from(self.flags)) as u16;
        self.position = hidden(state, self.position);
        self.queued_us = hidden(state, u64::from(self.queued_us)) as u32;
        self.source.count = hidden(state, self.source.count);
        (hidden(state, base), hidden(state, len))
    }

    /// The buffer bytes under way, `None` past the last that can be read. An empty buffer before them is passed over.
    #[inline(always)]
    fn contiguous(&mut self) -> Option<(u64, u64)> {
        let mut buffer = user::buffer(self.source, self.index)?;
        if buffer.len <= self.skipped {
            self.index += 1;
            self.skipped = 0;
            buffer = user::buffer(self.source, self.index)?;
        }
        let left = u64::from(self.length);
        let len = buffer.len - self.skipped;
        Some((buffer.base.wrapping_add(self.skipped), if len < left { len } else { left }))
    }

    /// The pieces after the first, in larger records.
    #[inline(always)]
    fn send_pieces<A: Access>(&mut self) {
        let mut piece = 0;
        while piece < PIECES_PER_CALL {
            let Some((base, len)) = self.contiguous() else { break };
            // A large record for a few bytes would fill the ring with nothing: rather two of these, where a second may follow.
            let medium = MEDIUM_PIECE as u64 * if piece + 1 < PIECES_PER_CALL { 2 } else { 1 };
            let next = if len <= PIECE as u64 {
                self.send_piece::<A, PIECE>(base, len, false)
            } else if len <= medium {
                self.send_piece::<A, MEDIUM_PIECE>(base, len, false)
            } else {
                let len = if len < LARGE_PIECE as u64 { len } else { LARGE_PIECE as u64 };
                self.send_piece::<A, LARGE_PIECE>(base, len, false)
            };
            match next {
                Next::More => piece += 1,
                _ => return,
            }
        }
        self.send_rest::<A>();
    }

    #[inline(always)]
    fn unreadable<A: Access>(&mut self) {
        count(KernelCounter::UserFault);
        if self.state.mode != mode::UNKNOWN {
            self.flags |= flags::NO_BUFFER;
            self.send_rest::<A>();
        }
    }

    /// Copies `len` bytes from `base` into a record and decides what comes next. The record takes all that is left of the
    /// call as its length where the next bytes are not worth copying.
    #[inline(always)]
    fn send_piece<A: Access, const N: usize>(&mut self, base: u64, len: u64, first: bool) -> Next {
        let size = (ChunkHeader::LEN + N + SLACK) as u64;
        let Some(record) = self.reserve(size) else { return Next::Stop };
        // SAFETY: the record is as large as header and `N` together.
        let payload = unsafe { record.add(ChunkHeader::LEN) };
        // SAFETY: at most `N` bytes into the payload; the helper checks the address of the process.
        let failed =
            unsafe { bpf_probe_read_user(payload.cast(), bounded(len, N as u64) as u32, base as *const _) };
        if failed != 0 {
            cold_path();
            // SAFETY: reserved above, given back once.
            unsafe { bpf_ringbuf_discard(record.cast(), u64::from(BPF_RB_NO_WAKEUP)) };
            self.unreadable::<A>();
            return Next::Stop;
        }
        let behind = self.skipped + bounded(len, N as u64);
        self.copied::<A, N>(record, size, len, first, behind, 0)
    }

    /// Copies the first buffers of a vector into one record: Apache's proxy, for one, writes each line of a head from a buffer of
    /// its own. Ends soon behind the head where that ends with a buffer.
    #[inline(always)]
    fn send_gathered<A: Access>(&mut self) -> Next {
        // Twice the payload: the verifier does not see that place and length together stay below it.
        const SIZE: u64 = (ChunkHeader::LEN + 2 * PIECE + SLACK) as u64;
        let Some(record) = self.reserve(SIZE) else { return Next::Stop };
        // SAFETY: the record is larger than its header.
        let payload = unsafe { record.add(ChunkHeader::LEN) };
        let (mut taken, mut behind, mut buffers) = (0_u64, self.skipped, 0);
        // Where the head ends with a buffer, a few bytes more say whether chunks follow.
        let (mut ended, mut room) = (0_u64, LAST);
        // As few branches as can be, since the verifier follows each of them in each round: what ends the loop is told by bit 63
        // of differences.
        while buffers < GATHERED {
            let Some(Buffer { base, len }) = user::nth(self.source, self.index) else { break };
            let len = len.wrapping_sub(behind);
            let left = u64::from(self.length).wrapping_sub(taken);
            let part = least(len, least(left, room.wrapping_sub(taken))) & LAST;
            // SAFETY: at most `LAST` bytes in, and at most as many more; the helper checks the address of the process.
            let failed = unsafe {
                bpf_probe_read_user(
                    payload.add((taken & LAST) as usize).cast(),
                    (part & LAST) as u32,
                    base.wrapping_add(behind) as *const _,
                )
            };
            if failed != 0 {
                break;
            }
            taken = forget(record, taken + part);
            let cut = negative(part.wrapping_sub(len));
            behind = behind.wrapping_add(part) & cut;
            self.index = forget(record, self.index.wrapping_add(1).wrapping_add(cut));
            let ends = ends_head(payload, taken) & negative(ended.wrapping_sub(1));
            ended = forget(record, ended | taken & ends);
            room = forget(record, least(room, taken.wrapping_add(LOOK as u64)) & ends | room & !ends);
            let more = negative(self.index.wrapping_sub(self.source.count))
                & negative(taken.wrapping_sub(room))
                & negative(taken.wrapping_sub(u64::from(self.length)))
                & !cut;
            if more == 0 {
                break;
            }
            buffers += 1;
        }
        let taken = forget(record, taken);
        if taken == 0 || taken > PIECE as u64 {
            cold_path();
            // SAFETY: reserved above, given back once.
            unsafe { bpf_ringbuf_discard(record.cast(), u64::from(BPF_RB_NO_WAKEUP)) };
            self.unreadable::<A>();
            return Next::Stop;
        }
        let (behind, ended) = (forget(record, behind), forget(record, ended));
        self.copied::<A, PIECE>(record, SIZE, taken, true, behind, ended)
    }

    /// Decides what comes after `len` bytes that were copied, and hands the record over. `behind`: where in the buffer under
    /// way they end. `ended`: where among them a buffer ended with an empty line, 0 where none is known to.
    #[inline(always)]
    fn copied<A: Access, const N: usize>(
        &mut self,
        record: *mut u8,
        size: u64,
        len: u64,
        first: bool,
        behind: u64,
        ended: u64,
    ) -> Next {
        // Bounded anew, as in `peek`.
        let len = bounded(len, N as u64);
        // SAFETY: the record is larger than its header.
        let payload = unsafe { record.add(ChunkHeader::LEN) };
        let piece = Piece::<N> { at: payload, len: len as usize };
        let whole = len as u32 == self.length;
        let Consumed { more, end } = if self.state.head_left > 0 {
            consume(self.state, piece, first, whole, ended)
        } else {
            Consumed::NOT_FOUND
        };
        // Below zero where the bytes come from several buffers: the end of what is left is counted from here.
        self.skipped = behind.wrapping_sub(len);
        let more = !whole && (more || self.state.flags & state_flags::PIPELINED != 0);
        let switched = self.state.flags & state_flags::SWITCHED;
        let chunks = first && end != 0 && !more && piece.goes_on_at(end, u64::from(switched));
        if !(more || chunks) {
            // Bytes of another protocol behind a 101 are copied as those behind any response.
            let searched = whole && end != 0 && switched != 0;
            let soft = negative(end.wrapping_sub(len)) & u64::from(searched).wrapping_neg();
            self.state.flags |= soft as u8 & state_flags::SOFT;
            self.state.head_left |= soft as u32 & SOFT_HEAD_BYTES;
            if first && whole && end != 0 && len - end <= 8 {
                // Where chunks follow, the first one's line begins here, or in the next call.
                let (next, behind) = (self.position + end, self.position + len);
                let last = piece.last();
                let frames = self.frames();
                (frames.next, frames.seen, frames.last) = (next, behind, last);
                frames.place = place::COPIED;
            }
            self.submit::<A>(record, size, len as u32);
            return Next::Stop;
        }
        cold_path();
        // Where chunks or frames follow, they are sent by themselves, from the first on.
        let (len, behind) = if chunks { (end, end) } else { (len, behind) };
        // What the verifier knows of these numbers differs from path to path; without that knowledge the paths are one.
        let len = bounded(forget(record, len), N as u64);
        let rest = forget(record, u64::from(self.length) - len) as u32;
        let position = forget(record, self.position + len);
        let skipped = forget(record, behind);
        let flags = forget(record, u64::from(self.flags)) as u16;
        let chunks = forget(record, u64::from(chunks));
        self.length = len as u32;
        self.flags |= flags::CONTINUES;
        self.submit::<A>(record, size, len as u32);
        self.length = rest;
        self.position = position;
        self.skipped = skipped;
        self.flags = flags;
        if chunks == 0 {
            return Next::More;
        }
        Next::Chunks
    }

    /// Sends what is left of the call as a length.
    #[inline(always)]
    fn send_rest<A: Access>(&mut self) {
        if let Some(record) = self.reserve(ChunkHeader::LEN as u64) {
            self.submit::<A>(record, ChunkHeader::LEN as u64, 0);
        }
    }

    #[inline(always)]
    fn reserve(&self, size: u64) -> Option<*mut u8> {
        // SAFETY: the helper wants a constant size: each caller's is one.
        let record = unsafe { bpf_ringbuf_reserve((&raw const RING).cast_mut().cast(), size, 0) };
        if record.is_null() {
            cold_path();
            count(KernelCounter::RingFull);
            return None;
        }
        Some(record.cast())
    }

    /// Writes the header and hands the record over. The reader is woken once for each [`WAKE_BYTES`] that wait, and for a
    /// process that it should look at while it lives.
    #[inline(always)]
    fn submit<A: Access>(&mut self, record: *mut u8, size: u64, captured: u32) {
        // Eight bytes or more that are not copied end the chunk.
        let ends = self.length > captured + 7 && self.flags & (flags::CONTINUES | flags::NO_BUFFER) == 0;
        let behind = self.skipped.wrapping_add(u64::from(self.length));
        let tail = if ends { user::tail(self.source, self.index, behind) } else { None };
        self.flags |= if tail.is_some() { flags::TAIL } else { 0 };
        // SAFETY: the record has room for a header.
        unsafe { (&raw mut (*record.cast::<ChunkHeader>()).tail).cast::<u64>().write(tail.unwrap_or(0)) };
        let announced = processes::announce((self.id >> 32) as u32);
        self.flags |= announced;
        let wake = wake(size, announced);
        // SAFETY: the record has room for a header and is aligned to eight bytes; submitted once.
        unsafe {
            self.describe(record.cast(), captured);
            self.socket.describe::<A>(self.state, record.cast());
            bpf_ringbuf_submit(record.cast(), wake);
        }
        self.flags &= !announced;
    }

    /// Writes the call's part of a record's header.
    ///
    /// # Safety
    /// `header` points to room for one, aligned.
    #[inline(always)]
    unsafe fn describe(&self, header: *mut ChunkHeader, captured: u32) {
        // SAFETY: every field is written, here and in `Socket::describe`.
        unsafe {
            (*header).kind = RecordKind::Chunk as u8;
            (*header).direction = self.direction as u8;
            (*header).flags = self.flags;
            (*header).captured = captured;
            (*header).time_ns = self.time_ns;
            (*header).position = self.position;
            (*header).length = self.length;
            (*header).queued_us = self.queued_us;
            (*header).tgid = (self.id >> 32) as u32;
            (*header).tid = self.id as u32;
            (*header).reserved = 0;
            (*header).sock = self.socket.sock as u64;
        }
    }
}

/// How a record is handed over that takes `size` bytes: the reader is woken once for each [`WAKE_BYTES`] that wait, and for a
/// process that was announced. Counts the record.
#[inline(always)]
pub fn wake(size: u64, announced: u16) -> u64 {
    count(KernelCounter::Chunks);
    // SAFETY: a query of our own ring.
    let waiting =
        unsafe { bpf_ringbuf_query((&raw const RING).cast_mut().cast(), u64::from(BPF_RB_AVAIL_DATA)) };
    // With this record, which takes a header of the ring's own, and whole words.
    let before = waiting.wrapping_sub((size + 15) & !7);
    let passed = opaque((waiting ^ before) & !(WAKE_BYTES - 1));
    if announced == 0 {
        u64::from(BPF_RB_NO_WAKEUP) + (passed.wrapping_neg() >> 63)
    } else {
        u64::from(BPF_RB_FORCE_WAKEUP)
    }
}

/// The same number, of which the verifier knows nothing.
#[inline(always)]
fn hidden(state: &ConnState, number: u64) -> u64 {
    // SAFETY: a field of the state.
    number ^ unsafe { core::ptr::read_volatile(&raw const state.nothing) }
}
