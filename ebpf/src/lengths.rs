//! Hook family `lengths`: the tracepoints `sock_send_length` and `sock_recv_length` (kernels since about 6.3).
//!
//! They come with the socket, typed, and with what was moved; the buffer is in the registers of the system call. Other
//! system calls cost nothing.

use aya_ebpf::helpers::bpf_get_current_pid_tgid;
use aya_ebpf::helpers::generated::{bpf_get_current_task_btf, bpf_task_pt_regs};
use aya_ebpf::macros::{btf_tracepoint, fexit};
use aya_ebpf::programs::{BtfTracePointContext, FExitContext};
use core::hint::cold_path;
use sonde_abi::Direction;
use sonde_abi::settings::ABSENT;

use crate::access::{self, Access, Kernel, Typed};
use crate::emit::{Moved, moved};
use crate::maps::offset;
use crate::messages;
use crate::syscalls::{self, Registers};
use crate::twice::Turn;
use crate::user::Source;

/// `sock_send_length(struct sock *sk, int ret, int flags)`
#[btf_tracepoint(function = "sock_send_length")]
#[inline(always)]
pub fn sent(ctx: BtfTracePointContext) -> i32 {
    let _ = length(&ctx, Direction::Write, Turn::First);
    0
}

/// [`sent`] once more ([`crate::twice`]).
#[btf_tracepoint(function = "sock_send_length")]
#[inline(always)]
pub fn sent_missed(ctx: BtfTracePointContext) -> i32 {
    let _ = length(&ctx, Direction::Write, Turn::Second);
    0
}

/// `sock_recv_length(struct sock *sk, int ret, int flags)`
#[btf_tracepoint(function = "sock_recv_length")]
#[inline(always)]
pub fn received(ctx: BtfTracePointContext) -> i32 {
    let _ = length(&ctx, Direction::Read, Turn::First);
    0
}

/// [`received`] once more ([`crate::twice`]).
#[btf_tracepoint(function = "sock_recv_length")]
#[inline(always)]
pub fn received_missed(ctx: BtfTracePointContext) -> i32 {
    let _ = length(&ctx, Direction::Read, Turn::Second);
    0
}

/// `ssize_t tcp_splice_read(struct socket *sock, loff_t *ppos, struct pipe_inode_info *pipe, size_t len, unsigned int flags)`
///
/// The tracepoints do not see what goes from a socket into a pipe.
#[fexit(function = "tcp_splice_read")]
#[inline(always)]
pub fn spliced_tcp(ctx: FExitContext) -> i32 {
    let _ = spliced(&ctx);
    0
}

/// `unix_stream_splice_read`, with the same arguments.
#[fexit(function = "unix_stream_splice_read")]
#[inline(always)]
pub fn spliced_unix(ctx: FExitContext) -> i32 {
    let _ = spliced(&ctx);
    0
}

#[inline(always)]
fn spliced(ctx: &FExitContext) -> Option<()> {
    const RESULT: usize = 5;
    let moved_bytes = ctx.arg::<i64>(RESULT);
    if moved_bytes < 0 || offset!(socket_sk) == ABSENT {
        return None;
    }
    // SAFETY: a member of `struct socket`, which the verifier knows to be a `struct sock`.
    let sock = unsafe { Typed::load::<u64>(ctx.arg(0), offset!(socket_sk)) } as Kernel;
    let length = moved_bytes as u32;
    moved::<Typed>(&Moved { sock, direction: Direction::Read, length, behind: 0, source: Source::NONE })
}

#[inline(always)]
fn length(ctx: &BtfTracePointContext, direction: Direction, turn: Turn) -> Option<()> {
    if turn.is_done(bpf_get_current_pid_tgid() as u32) {
        return None;
    }
    let moved_bytes = ctx.arg::<i32>(1);
    // SAFETY: helpers without conditions; the result is typed for the verifier.
    let registers = Registers::of(unsafe { bpf_task_pt_regs(bpf_get_current_task_btf()) } as Kernel);
    let several = registers.several();
    if moved_bytes < 0 {
        if several.is_some() {
            cold_path();
            messages::failed();
        }
        return None;
    }
    let message_flags = ctx.arg::<i32>(2);
    if direction == Direction::Read && message_flags & syscalls::NOT_CONSUMED != 0 {
        return None;
    }
    let sock = ctx.arg::<*const u8>(0);
    let length = moved_bytes as u32;
    let mut source = match several {
        Some(vector) => {
            cold_path();
            messages::source(&vector, sock as u64, length)
        }
        None => registers.source(direction),
    };
    if direction == Direction::Read && message_flags & syscalls::MSG_TRUNC != 0 {
        source = Source::NONE;
    }
    let source = source.hidden(access::nothing(bpf_get_current_pid_tgid()));
    moved::<Typed>(&Moved { sock, direction, length, behind: 0, source })
}
