//! Calls of connections that speak HTTP/2, and those of HTTP/1 that move chunks: which of their bytes cross the ring.
//!
//! Frames are copied, but for long contents of streams, and of chunks their size lines; the rest is passed over by arithmetic.
//! A program of its own, called by
//! the one that saw the call and then by itself for each piece of it, so that the verifier sees one piece and not all of them.
//! What one leaves for the next stands in [`Work`].

mod piece;
mod run;
mod work;

use core::ffi::c_void;
use core::hint::cold_path;

use aya_ebpf::EbpfContext;
use aya_ebpf::macros::btf_tracepoint;
use aya_ebpf::programs::{BtfTracePointContext, TracePointContext};
use sonde_abi::messages::Aside;
use sonde_abi::settings::KernelCounter;
use sonde_abi::{ConnState, Direction};

pub use self::work::{Work, work};
use crate::access::{Access, Kernel, Typed, Walked};
use crate::maps::{ASIDE, FRAMES_RECEIVED, FRAMES_SENT, count};
use crate::messages;

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
pub fn follow(ctx: &impl EbpfContext, onward: Option<Direction>) {
    if let Some(direction) = onward {
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
    let Some(aside) = ASIDE.get_ptr_mut(0) else { return };
    // SAFETY: of all processors; where two write at once, too much or too little is copied.
    let aside = unsafe { &mut *aside };
    // Three pieces, written out: the kernel lets programs call each other so often and no more, and the verifier takes a loop of
    // them for one without end.
    let goes_on = if work.pieces == 0 {
        // By itself, and the first piece by the next call: the verifier follows each way through this.
        work.first_piece(state, direction, aside)
    } else {
        work.next(state, direction, aside)
            && work.next(state, direction, aside)
            && work.next(state, direction, aside)
    };
    if goes_on {
        go_on(ctx, direction);
    }
}

impl Work {
    /// Sends what is next. True: more follows.
    #[inline(always)]
    fn next(&mut self, state: &mut ConnState, direction: Direction, aside: &mut Aside) -> bool {
        if self.run != 0 {
            self.next_run(state, direction, aside)
        } else {
            self.next_piece(state, direction, aside)
        }
    }
}
