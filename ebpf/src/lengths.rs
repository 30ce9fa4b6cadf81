//! Hook family `lengths`: the tracepoints `sock_send_length` and `sock_recv_length` (kernels since about 6.3).
//!
//! They come with the socket, typed, and with what was moved; the buffer is in the registers of the system call. Other
//! system calls cost nothing.

use aya_ebpf::helpers::bpf_get_current_pid_tgid;
use aya_ebpf::macros::{btf_tracepoint, fexit};
use aya_ebpf::programs::{BtfTracePointContext, FExitContext};
use core::hint::cold_path;
use sonde_abi::Direction;
use sonde_abi::settings::ABSENT;

use crate::access::{self, Access, Kernel, Typed, Walked};
use crate::emit::{Moved, moved};
use crate::frames;
use crate::maps::offset;
use crate::messages;
use crate::perf::registers;
use crate::syscalls;
use crate::user::Source;

/// `sock_send_length(struct sock *sk, int ret, int flags)`
#[btf_tracepoint(function = "sock_send_length")]
#[inline(always)]
pub fn sent(ctx: BtfTracePointContext) -> i32 {
    let onward = length::<Typed>(Length::of(&ctx), Direction::Write);
    frames::follow(&ctx, onward);
    0
}

/// `sock_recv_length(struct sock *sk, int ret, int flags)`
#[btf_tracepoint(function = "sock_recv_length")]
#[inline(always)]
pub fn received(ctx: BtfTracePointContext) -> i32 {
    let onward = length::<Typed>(Length::of(&ctx), Direction::Read);
    frames::follow(&ctx, onward);
    0
}

/// `ssize_t tcp_splice_read(struct socket *sock, loff_t *ppos, struct pipe_inode_info *pipe, size_t len, unsigned int flags)`
///
/// The tracepoints do not see what goes from a socket into a pipe.
#[fexit(function = "tcp_splice_read")]
#[inline(always)]
pub fn spliced_tcp(ctx: FExitContext) -> i32 {
    let _ = spliced::<Typed>(&ctx);
    0
}

/// The same beside the programs of [`crate::perf`], whose sockets' state is elsewhere.
#[fexit(function = "tcp_splice_read")]
#[inline(always)]
pub fn spliced_tcp_walked(ctx: FExitContext) -> i32 {
    let _ = spliced::<Walked>(&ctx);
    0
}

/// `unix_stream_splice_read`, with the same arguments.
#[fexit(function = "unix_stream_splice_read")]
#[inline(always)]
pub fn spliced_unix(ctx: FExitContext) -> i32 {
    let _ = spliced::<Typed>(&ctx);
    0
}

/// The same beside the programs of [`crate::perf`].
#[fexit(function = "unix_stream_splice_read")]
#[inline(always)]
pub fn spliced_unix_walked(ctx: FExitContext) -> i32 {
    let _ = spliced::<Walked>(&ctx);
    0
}

#[inline(always)]
fn spliced<A: Access>(ctx: &FExitContext) -> Option<Direction> {
    const RESULT: usize = 5;
    let moved_bytes = ctx.arg::<i64>(RESULT);
    if moved_bytes < 0 || offset!(socket_sk) == ABSENT {
        return None;
    }
    // SAFETY: a member of `struct socket`, which the verifier knows to be a `struct sock`.
    let sock = unsafe { Typed::load::<u64>(ctx.arg(0), offset!(socket_sk)) } as Kernel;
    let length = moved_bytes as u32;
    moved::<A>(&Moved { sock, direction: Direction::Read, length, behind: 0, source: Source::NONE })
}

/// What the tracepoints tell.
#[derive(Clone, Copy)]
pub struct Length {
    /// The socket.
    pub sock: Kernel,
    /// Bytes moved, or an error.
    pub moved: i32,
    /// Of the call (`MSG_*`).
    pub flags: i32,
}

impl Length {
    #[inline(always)]
    fn of(ctx: &BtfTracePointContext) -> Self {
        Self { sock: ctx.arg(0), moved: ctx.arg(1), flags: ctx.arg(2) }
    }
}

/// A call moved bytes.
#[inline(always)]
pub fn length<A: Access>(told: Length, direction: Direction) -> Option<Direction> {
    let registers = registers();
    let several = registers.several();
    if told.moved < 0 {
        if several.is_some() {
            cold_path();
            messages::failed();
        }
        return None;
    }
    if direction == Direction::Read && told.flags & syscalls::NOT_CONSUMED != 0 {
        return None;
    }
    let length = told.moved as u32;
    let mut source = match several {
        Some(vector) => {
            cold_path();
            messages::source(&vector, told.sock as u64, length)
        }
        None => registers.source(direction),
    };
    if direction == Direction::Read && told.flags & syscalls::MSG_TRUNC != 0 {
        source = Source::NONE;
    }
    let source = source.hidden(access::nothing(bpf_get_current_pid_tgid()));
    moved::<A>(&Moved { sock: told.sock, direction, length, behind: 0, source })
}
