//! What of a call crosses the ring: a record for each contiguous piece that is worth copying, and the rest as a length.
//!
//! Heads are copied, bodies are counted. A message's start is recognised by its first bytes ([`sniff`]); copying goes on
//! until the head's empty line, over as many pieces and calls as it takes, up to [`HEAD_BYTES`]. Where several requests
//! are under way at once, whole calls are copied, since heads may then begin anywhere.

use aya_ebpf::bindings::{BPF_RB_AVAIL_DATA, BPF_RB_FORCE_WAKEUP, BPF_RB_NO_WAKEUP};
use aya_ebpf::helpers::generated::{
    bpf_ktime_get_ns, bpf_probe_read_user, bpf_ringbuf_discard, bpf_ringbuf_query, bpf_ringbuf_reserve, bpf_ringbuf_submit,
};
use aya_ebpf::helpers::bpf_get_current_pid_tgid;
use core::hint::cold_path;
use sonde_abi::conn::{mode, state_flags};
use sonde_abi::limits::{HEAD_BYTES, IOVECS, LOOKS, PIECE, PIECES_PER_CALL, SOFT_HEAD_BYTES, WAKE_BYTES};
use sonde_abi::record::flags;
use sonde_abi::settings::KernelCounter;
use sonde_abi::sniff::{self, Start};
use sonde_abi::{ChunkHeader, ConnState, Direction, Family, RecordKind};

use crate::access::{Access, Kernel};
use crate::conn::Socket;
use crate::head::Piece;
use crate::lifetime;
use crate::maps::{RING, count};
use crate::processes::{self, Verdict};
use crate::user::{self, Source};

/// What one call moved.
pub struct Moved {
    /// `struct sock`.
    pub sock: Kernel,
    /// Which way.
    pub direction: Direction,
    /// How many bytes; 0 for the end of the stream.
    pub length: u32,
    /// Bytes of the same direction that the same system call moved after these.
    pub behind: u32,
    /// Where they are in the process.
    pub source: Source,
}

/// What comes after a piece.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Next {
    /// The rest of the call is not worth copying.
    Stop,
    /// The next piece is.
    More,
    /// Nothing of the call is worth a record.
    Nothing,
}

/// Sends what is worth sending of a call.
#[inline(always)]
pub fn moved<A: Access>(call: &Moved) -> Option<()> {
    let id = bpf_get_current_pid_tgid();
    let tgid = (id >> 32) as u32;
    let verdict = processes::judge(tgid);
    if let Verdict::Drop = verdict {
        return None;
    }
    let socket = Socket::of::<A>(call.sock)?;
    if let Verdict::IfPort = verdict {
        if !socket.port_selected() {
            return None;
        }
    }
    if call.length == 0 && (call.direction == Direction::Write || !socket.has_ended::<A>()) {
        return None;
    }
    let state = A::state(call.sock)?;
    // SAFETY: points into a map value that lives as long as this program runs. Another processor may change it between
    // two reads: each field is judged by itself, and a lost change costs a few bytes copied too many or too few.
    let state = unsafe { &mut *state };
    let changed = state.last_direction != call.direction as u8 + 1;
    if state.mode == mode::OFF || (state.mode == mode::UNKNOWN && skips_unknown(state, call, changed)) {
        // Unix streams are counted by us alone, whether their bytes are of interest or not.
        if state.mode == mode::UNKNOWN {
            count_unseen(state, call, &socket);
        }
        return None;
    }
    state.last_direction = call.direction as u8 + 1;
    if changed {
        state.head_left = 0;
        state.flags &= !(state_flags::SOFT | state_flags::RESPONSE);
    }
    let mut header = ChunkHeader {
        kind: RecordKind::Chunk as u8,
        direction: call.direction as u8,
        flags: if call.length == 0 { flags::END } else { 0 },
        captured: 0,
        // SAFETY: a helper without arguments.
        time_ns: unsafe { bpf_ktime_get_ns() },
        sock: 0,
        position: 0,
        length: call.length,
        queued_us: 0,
        tgid,
        tid: id as u32,
        first_local: 0,
        first_peer: 0,
        local_port: 0,
        peer_port: 0,
        family: 0,
        role: 0,
        reserved: 0,
        tail: [0; 8],
        local: [0; 16],
        peer: [0; 16],
    };
    socket.describe::<A>(state, &mut header)?;
    header.position = header.position.wrapping_sub(u64::from(call.behind));
    let unix = socket.family as u8 == Family::Unix as u8;
    let mut call = Call { state, header, source: call.source, index: 0, skipped: 0, changed, new: verdict.is_new() };
    call.send::<A>(unix)
}

/// Whether a call on a connection of which nothing is known is not even looked at: nothing moved, no buffer to look into, or
/// the middle of a run (a message that is worth seeing begins with a change of direction).
#[inline(always)]
fn skips_unknown(state: &ConnState, call: &Moved, changed: bool) -> bool {
    call.length == 0 || matches!(call.source, Source::None) || (!changed && state.head_left == 0)
}

#[inline(always)]
fn count_unseen(state: &mut ConnState, call: &Moved, socket: &Socket) {
    if socket.family as u8 != Family::Unix as u8 {
        return;
    }
    if call.direction == Direction::Write {
        state.written += u64::from(call.length);
    } else {
        state.read += u64::from(call.length);
    }
}

/// A call on its way through the ring. `header.length` and `header.position` are those of what is not sent yet.
struct Call<'a> {
    state: &'a mut ConnState,
    header: ChunkHeader,
    source: Source,
    /// Buffer under way, and how much of it has been sent.
    index: u64,
    skipped: u64,
    /// The direction is not that of the call before.
    changed: bool,
    /// The process is new to the agent.
    new: bool,
}

impl Call<'_> {
    #[inline(always)]
    fn send<A: Access>(&mut self, unix: bool) -> Option<()> {
        if !self.wants_payload() {
            return self.send_rest();
        }
        if self.state.flags & state_flags::OPENED == 0 && (unix || self.state.connect_time != 0) {
            // Ring order is that of reservation: what introduces a connection must be out before its chunk is reserved.
            if self.peek() != Start::Other {
                lifetime::introduce::<A>(self.header.sock as Kernel, unix, self.state);
            }
        }
        let next = self.send_first()?;
        if next == Next::More {
            cold_path();
            self.send_pieces();
        }
        Some(())
    }

    /// Whether the call's first bytes are to be copied: where a message may begin, or a head goes on.
    #[inline(always)]
    fn wants_payload(&mut self) -> bool {
        if self.header.length == 0 {
            return false;
        }
        if matches!(self.source, Source::None) {
            count(KernelCounter::NoBuffer);
            self.header.flags |= flags::NO_BUFFER;
            return false;
        }
        if self.changed || self.state.head_left > 0 || self.state.flags & state_flags::PIPELINED != 0 {
            return true;
        }
        // The middle of a run: a body, or the next of several pipelined messages.
        matches!(self.peek(), Start::Request | Start::Response)
    }

    #[inline(always)]
    fn peek(&self) -> Start {
        let Some(buffer) = user::buffer(self.source, 0) else { return Start::Other };
        let mut len = u64::from(self.header.length);
        if buffer.len < len {
            len = buffer.len;
        }
        if len > sniff::LOOK as u64 {
            len = sniff::LOOK as u64;
        }
        let mut first = [0_u8; sniff::LOOK];
        let len = bounded(len, sniff::LOOK as u64);
        // SAFETY: at most the array's size; the helper checks the address.
        let failed = unsafe { bpf_probe_read_user(first.as_mut_ptr().cast(), len as u32, buffer.base as *const _) };
        if failed != 0 { Start::Other } else { sniff::http1(&first, len as usize) }
    }

    /// The buffer bytes under way, `None` past the last that can be read.
    #[inline(always)]
    fn contiguous(&mut self) -> Option<(u64, u64)> {
        let mut tries = 0;
        // Empty buffers in between are legal.
        while tries < 2 {
            let buffer = user::buffer(self.source, self.index)?;
            if buffer.len > self.skipped {
                let left = u64::from(self.header.length);
                let len = buffer.len - self.skipped;
                return Some((buffer.base.wrapping_add(self.skipped), if len < left { len } else { left }));
            }
            self.index += 1;
            self.skipped = 0;
            tries += 1;
        }
        None
    }

    /// The first piece, in a record of the smallest class that holds it.
    #[inline(always)]
    fn send_first(&mut self) -> Option<Next> {
        let Some((base, len)) = self.contiguous() else { return self.unreadable() };
        if len <= 128 {
            self.send_piece::<128>(base, len, true)
        } else if len <= 256 {
            self.send_piece::<256>(base, len, true)
        } else if len <= 512 {
            self.send_piece::<512>(base, len, true)
        } else {
            self.send_piece::<PIECE>(base, if len < PIECE as u64 { len } else { PIECE as u64 }, true)
        }
    }

    /// The pieces after the first, each in a record of the largest class.
    #[inline(always)]
    fn send_pieces(&mut self) {
        let mut piece = 1;
        while piece < PIECES_PER_CALL {
            let Some((base, len)) = self.contiguous() else { break };
            let len = if len < PIECE as u64 { len } else { PIECE as u64 };
            match self.send_piece::<PIECE>(base, len, false) {
                Some(Next::More) => piece += 1,
                _ => return,
            }
        }
        self.send_rest();
    }

    #[inline(always)]
    fn unreadable(&mut self) -> Option<Next> {
        count(KernelCounter::UserFault);
        if self.state.mode == mode::UNKNOWN {
            return Some(Next::Nothing);
        }
        self.header.flags |= flags::NO_BUFFER;
        self.send_rest();
        Some(Next::Stop)
    }

    /// Copies `len` bytes from `base` into a record and decides what comes next. The record takes all that is left of the
    /// call as its length where the next bytes are not worth copying.
    #[inline(always)]
    fn send_piece<const N: usize>(&mut self, base: u64, len: u64, first: bool) -> Option<Next> {
        let size = (ChunkHeader::LEN + N) as u64;
        let record = self.reserve(size)?;
        // SAFETY: the record is as large as header and `N` together.
        let payload = unsafe { record.add(ChunkHeader::LEN) };
        let len = bounded(len, N as u64);
        // SAFETY: at most `N` bytes into the payload; the helper checks the address of the process.
        let failed = unsafe { bpf_probe_read_user(payload.cast(), len as u32, base as *const _) };
        if failed != 0 {
            cold_path();
            // SAFETY: reserved above, given back once.
            unsafe { bpf_ringbuf_discard(record.cast(), u64::from(BPF_RB_NO_WAKEUP)) };
            return self.unreadable();
        }
        let piece = Piece::<N> { at: payload, len: len as usize };
        let left = self.header.length;
        let next = self.judge(piece, first, len as u32 == left);
        if next == Next::Nothing {
            // SAFETY: as above.
            unsafe { bpf_ringbuf_discard(record.cast(), u64::from(BPF_RB_NO_WAKEUP)) };
            return Some(next);
        }
        self.header.captured = len as u32;
        let flags_before = self.header.flags;
        if next == Next::More {
            self.header.length = len as u32;
            self.header.flags |= flags::CONTINUES;
        } else if len < u64::from(left) {
            self.take_tail();
        }
        self.submit(record, size);
        if next == Next::More {
            self.header.flags = flags_before;
            self.header.length = left - len as u32;
            self.header.position += len;
            self.skipped += len;
        }
        Some(next)
    }

    /// Looks at a piece and moves the connection's state on. `whole`: nothing of the call is left behind it.
    #[inline(always)]
    fn judge<const N: usize>(&mut self, piece: Piece<N>, first: bool, whole: bool) -> Next {
        let state = &mut *self.state;
        if first && state.head_left == 0 && !recognise(state, piece) {
            return Next::Nothing;
        }
        let pipelined = state.flags & state_flags::PIPELINED != 0;
        if state.head_left > 0 {
            if consume(state, piece, whole) {
                self.header.flags |= flags::HEAD_TOO_LONG;
            }
        }
        let state = &*self.state;
        let in_head = state.head_left > 0 && state.flags & state_flags::SOFT == 0;
        if !whole && (in_head || pipelined || state.flags & state_flags::PIPELINED != 0) { Next::More } else { Next::Stop }
    }

    /// Sends what is left of the call as a length.
    #[inline(always)]
    fn send_rest(&mut self) -> Option<()> {
        let record = self.reserve(ChunkHeader::LEN as u64)?;
        self.header.captured = 0;
        if self.header.length > 8 {
            self.take_tail();
        }
        self.submit(record, ChunkHeader::LEN as u64);
        Some(())
    }

    /// Copies the last bytes of what is left.
    #[inline(always)]
    fn take_tail(&mut self) {
        if let Some(buffer) = user::buffer(self.source, self.index) {
            self.tail_from(buffer.base, buffer.len, self.skipped);
        }
    }

    /// Finds the last eight bytes of what is left, beginning in the buffer (`base`, `len`) behind `skipped` of its bytes.
    #[inline(always)]
    fn tail_from(&mut self, base: u64, len: u64, skipped: u64) {
        let mut base = base.wrapping_add(skipped);
        let mut len = len - skipped;
        let mut left = u64::from(self.header.length);
        let mut step = 0;
        while left > len && step < IOVECS as u64 {
            left -= len;
            step += 1;
            let Some(buffer) = user::buffer(self.source, self.index + step) else { return };
            base = buffer.base;
            len = buffer.len;
        }
        if left > len || left < 8 {
            return;
        }
        if let Some(tail) = user::read::<[u8; 8]>(base.wrapping_add(left - 8)) {
            self.header.tail = tail;
            self.header.flags |= flags::TAIL;
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
    fn submit(&mut self, record: *mut u8, size: u64) {
        let mut wake = BPF_RB_NO_WAKEUP;
        if self.new {
            cold_path();
            self.new = false;
            let announced = processes::announce(self.header.tgid);
            self.header.flags |= announced;
            if announced != 0 {
                wake = BPF_RB_FORCE_WAKEUP;
            }
        }
        // SAFETY: a query of our own ring.
        let waiting = unsafe { bpf_ringbuf_query((&raw const RING).cast_mut().cast(), u64::from(BPF_RB_AVAIL_DATA)) };
        if waiting & (WAKE_BYTES - 1) < size && waiting >= WAKE_BYTES {
            wake = BPF_RB_FORCE_WAKEUP;
        }
        count(KernelCounter::Chunks);
        // SAFETY: the record has room for a header and is aligned to eight bytes; submitted once.
        unsafe {
            record.cast::<ChunkHeader>().write(self.header);
            bpf_ringbuf_submit(record.cast(), u64::from(wake));
        }
    }
}

/// Looks at the start of a run. False: nothing to send.
#[inline(always)]
fn recognise<const N: usize>(state: &mut ConnState, piece: Piece<N>) -> bool {
    // SAFETY: every size class has room for as many bytes as are looked at; those behind `len` are not judged.
    let start = unsafe { sniff::http1(&*piece.at.cast::<[u8; sniff::LOOK]>(), piece.len) };
    match start {
        Start::Request | Start::Response => {
            state.mode = mode::HTTP1;
            state.looks = 0;
            state.head_left = HEAD_BYTES;
            state.flags &= !(state_flags::SOFT | state_flags::RESPONSE);
            if start == Start::Response {
                state.flags |= state_flags::RESPONSE;
            }
            true
        }
        Start::Short => {
            state.mode = mode::HTTP1;
            state.looks += 1;
            state.head_left = HEAD_BYTES;
            leave_alone(state);
            true
        }
        Start::Other => {
            state.looks += 1;
            leave_alone(state);
            state.mode == mode::HTTP1
        }
    }
}

#[inline(always)]
fn leave_alone(state: &mut ConnState) {
    if state.looks > LOOKS {
        state.mode = mode::OFF;
        count(KernelCounter::LeftAlone);
    }
}

/// Takes a piece off the head under way. True: the head is too long, the rest of it is not copied.
#[inline(always)]
fn consume<const N: usize>(state: &mut ConnState, piece: Piece<N>, whole: bool) -> bool {
    let len = piece.len as u32;
    let left = if len < state.head_left { state.head_left - len } else { 0 };
    if state.flags & state_flags::SOFT != 0 {
        state.head_left = left;
        return false;
    }
    if state.flags & state_flags::RESPONSE != 0 {
        if piece.ends_head() {
            state.head_left = 0;
            return false;
        }
        if whole {
            // Most responses bring head and body in one call: not worth a scan. If the head goes on, it does so soon.
            state.flags |= state_flags::SOFT;
            state.head_left = SOFT_HEAD_BYTES;
            return false;
        }
    }
    match piece.head_end() {
        Some(end) => {
            state.head_left = 0;
            if state.flags & state_flags::RESPONSE == 0 && end < piece.len && piece.request_at(end) {
                state.flags |= state_flags::PIPELINED;
            }
            false
        }
        None => {
            state.head_left = left;
            if left == 0 {
                count(KernelCounter::HeadTooLong);
            }
            left == 0
        }
    }
}

/// Keeps a length below its bound where the verifier can see it. The compiler, which knows the bound already, would drop a
/// plain comparison.
#[inline(always)]
fn bounded(len: u64, most: u64) -> u64 {
    let mut len = len;
    // SAFETY: changes nothing; a real move, since an empty statement breaks BTF line information.
    unsafe { core::arch::asm!("{0} = {0}", inout(reg) len, options(nomem, nostack, preserves_flags)) };
    if len > most { most } else { len }
}
