//! Hook family `lengths`: the tracepoints `sock_send_length` and `sock_recv_length` (kernels since about 6.3).
//!
//! They come with the socket, typed, and with what was moved; the buffer is in the registers of the system call. Other
//! system calls cost nothing.

use aya_ebpf::helpers::generated::{bpf_get_current_task_btf, bpf_task_pt_regs};
use aya_ebpf::macros::btf_tracepoint;
use aya_ebpf::programs::BtfTracePointContext;
use sonde_abi::Direction;

use crate::access::{Kernel, Typed};
use crate::emit::{Moved, moved};
use crate::syscalls::{self, Registers};
use crate::user::Source;

/// `sock_send_length(struct sock *sk, int ret, int flags)`
#[btf_tracepoint(function = "sock_send_length")]
#[inline(always)]
pub fn sent(ctx: BtfTracePointContext) -> i32 {
    let _ = length(&ctx, Direction::Write);
    0
}

/// `sock_recv_length(struct sock *sk, int ret, int flags)`
#[btf_tracepoint(function = "sock_recv_length")]
#[inline(always)]
pub fn received(ctx: BtfTracePointContext) -> i32 {
    let _ = length(&ctx, Direction::Read);
    0
}

#[inline(always)]
fn length(ctx: &BtfTracePointContext, direction: Direction) -> Option<()> {
    let moved_bytes = ctx.arg::<i32>(1);
    if moved_bytes < 0 {
        return None;
    }
    let message_flags = ctx.arg::<i32>(2);
    if direction == Direction::Read && message_flags & syscalls::NOT_CONSUMED != 0 {
        return None;
    }
    let source = if direction == Direction::Read && message_flags & syscalls::MSG_TRUNC != 0 {
        Source::NONE
    } else {
        // SAFETY: helpers without conditions; the result is typed for the verifier.
        let registers = unsafe { bpf_task_pt_regs(bpf_get_current_task_btf()) } as Kernel;
        Registers::of(registers).source(direction)
    };
    moved::<Typed>(&Moved { sock: ctx.arg::<*const u8>(0), direction, length: moved_bytes as u32, source })
}
