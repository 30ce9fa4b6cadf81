//! The programs of calls and of socket states as the kernels since 7.0 want them: attached through perf events.
//!
//! Those kernels run what is attached to a tracepoint itself preemptible, and skip it for every other task of the processor
//! while one is put aside inside it. A perf event's programs still run with preemption off. They are given the event's
//! record (`events/*/format` in tracefs, which the agent checks), in which a socket is an untyped address.

use aya_ebpf::helpers::generated::{bpf_get_current_task_btf, bpf_task_pt_regs};
use aya_ebpf::programs::TracePointContext;
use core::ffi::c_void;
use core::ptr;
use sonde_abi::Direction;

use crate::access::{Kernel, Walked};
use crate::frames;
use crate::lengths::{self, Length};
use crate::lifetime;
use crate::syscalls::{self, Registers};

/// What a program returns: others may have the event as well. 0 would keep it from every user of perf on this machine.
const PASS_ON: u32 = 1;

/// `raw_syscalls/sys_exit`: `long id` at 8, `long ret` at 16
#[unsafe(no_mangle)]
#[unsafe(link_section = "tracepoint")]
pub fn sys_exit_perf(record: *mut c_void) -> u32 {
    // SAFETY: members of the record.
    let (number, result) = unsafe { (member::<u64>(record, 8), member::<i64>(record, 16)) };
    if syscalls::moves_bytes(number) {
        syscalls::exits(&TracePointContext::new(record), result, registers);
    }
    PASS_ON
}

/// `sock/sock_send_length`
#[unsafe(no_mangle)]
#[unsafe(link_section = "tracepoint")]
pub fn sent_perf(record: *mut c_void) -> u32 {
    let onward = lengths::length::<Walked>(length(record), Direction::Write);
    frames::follow(&TracePointContext::new(record), onward);
    PASS_ON
}

/// `sock/sock_recv_length`
#[unsafe(no_mangle)]
#[unsafe(link_section = "tracepoint")]
pub fn received_perf(record: *mut c_void) -> u32 {
    let onward = lengths::length::<Walked>(length(record), Direction::Read);
    frames::follow(&TracePointContext::new(record), onward);
    PASS_ON
}

/// `sock/inet_sock_set_state`: `const void *skaddr` at 8, `int oldstate` at 16, `int newstate` at 20
///
/// Beside the program at the tracepoint itself: this one is skipped in interrupts that come while any program of a perf event
/// runs, that one while another task is put aside inside it. Where both run, the second changes nothing.
#[unsafe(no_mangle)]
#[unsafe(link_section = "tracepoint")]
pub fn set_state_perf(record: *mut c_void) -> u32 {
    // SAFETY: members of the record.
    let (sock, old, new) =
        unsafe { (member::<u64>(record, 8), member::<i32>(record, 16), member::<i32>(record, 20)) };
    lifetime::walk_state(sock as Kernel, old, new);
    PASS_ON
}

/// `sock_msg_length`: `void *sk` at 8, `int ret` at 20, `int flags` at 24
#[inline(always)]
fn length(record: *mut c_void) -> Length {
    // SAFETY: members of the record.
    unsafe {
        Length {
            sock: member::<u64>(record, 8) as Kernel,
            moved: member(record, 20),
            flags: member(record, 24),
        }
    }
}

/// The registers of the system call that the current task is in.
#[inline(always)]
pub fn registers() -> Registers {
    // SAFETY: helpers without conditions; the result is typed for the verifier.
    Registers::of(unsafe { bpf_task_pt_regs(bpf_get_current_task_btf()) } as Kernel)
}

/// A member of the event's record. A load at a fixed offset, as the verifier wants them of a context.
///
/// # Safety
/// The record has a `T` at `offset`.
#[inline(always)]
unsafe fn member<T: Copy>(record: *mut c_void, offset: usize) -> T {
    // SAFETY: as promised by the caller.
    unsafe { ptr::read_volatile(record.byte_add(offset).cast()) }
}
