//! Which processes are sent, and when an id stops meaning what the agent decided about it.

use aya_ebpf::helpers::bpf_get_current_pid_tgid;
use aya_ebpf::macros::btf_tracepoint;
use aya_ebpf::programs::BtfTracePointContext;
use sonde_abi::settings::ABSENT;
use sonde_abi::{ProcessState, record::flags};

use crate::access::{Access, Kernel, Typed};
use crate::lifetime;
use crate::maps::{self, offset};

/// What the byte of a process holds that was forked by one that is sent, until its first chunk.
const FORKED: u8 = ProcessState::Forked as u8;

/// What the process filter says of a call.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// Send.
    Send,
    /// Drop.
    Drop,
    /// The process does not count; a selected port would.
    IfPort,
}

/// Looks at the calling process.
#[inline(always)]
pub fn judge(tgid: u32) -> Verdict {
    if !maps::by_process() {
        return if tgid == maps::own_tgid() { Verdict::Drop } else { Verdict::IfPort };
    }
    let Some(byte) = maps::process(tgid) else { return Verdict::Send };
    // SAFETY: points into the map; bytes are read and written whole.
    let state = unsafe { byte.read_volatile() };
    if state == ProcessState::Excluded as u8 {
        return if maps::by_port() && tgid != maps::own_tgid() { Verdict::IfPort } else { Verdict::Drop };
    }
    Verdict::Send
}

/// The flags of the first chunk of a process that the agent does not know; 0 for any other.
#[inline(always)]
pub fn announce(tgid: u32) -> u16 {
    let Some(byte) = maps::process(tgid) else { return 0 };
    // SAFETY: as above. Two threads may both announce: the agent looks once more, no harm.
    unsafe {
        let state = byte.read_volatile();
        if state != maps::UNKNOWN && state != FORKED {
            return 0;
        }
        byte.write_volatile(ProcessState::Pending as u8);
        flags::NEW_PROCESS | if state == FORKED { flags::FORKED } else { 0 }
    }
}

/// `sched_process_fork(struct task_struct *parent, struct task_struct *child)`: a child of a process that is sent may be
/// gone before anybody can look at it, so its parent is told beforehand.
#[btf_tracepoint(function = "sched_process_fork")]
#[inline(always)]
pub fn process_fork(ctx: BtfTracePointContext) -> i32 {
    let _ = forked(ctx.arg(1));
    0
}

#[inline(always)]
fn forked(child: Kernel) -> Option<()> {
    if offset!(task_tgid) == ABSENT || offset!(task_pid) == ABSENT {
        return None;
    }
    // SAFETY: members of `struct task_struct`.
    let (child, thread) = unsafe {
        (Typed::load::<u32>(child, offset!(task_tgid)), Typed::load::<u32>(child, offset!(task_pid)))
    };
    let parent = (bpf_get_current_pid_tgid() >> 32) as u32;
    if child != thread || parent == maps::own_tgid() {
        return None;
    }
    // SAFETY: as above.
    let state = unsafe { maps::process(parent)?.read_volatile() };
    // Where ports select, any process may have a connection that counts.
    let sent = state != maps::UNKNOWN && (state != ProcessState::Excluded as u8 || maps::by_port());
    // Written in any case: the agent may have decided about a process with this id after it was gone.
    // SAFETY: as above; the child does not run yet.
    unsafe { maps::process(child)?.write_volatile(if sent { FORKED } else { maps::UNKNOWN }) };
    if !sent {
        return None;
    }
    lifetime::forked(child, parent)
}

/// The id is free again once its leader is gone.
#[btf_tracepoint(function = "sched_process_exit")]
#[inline(always)]
pub fn process_exit(_: BtfTracePointContext) -> i32 {
    let id = bpf_get_current_pid_tgid();
    if id as u32 == (id >> 32) as u32 {
        forget(id as u32);
    }
    0
}

/// Another program runs under the id.
#[btf_tracepoint(function = "sched_process_exec")]
#[inline(always)]
pub fn process_exec(_: BtfTracePointContext) -> i32 {
    forget((bpf_get_current_pid_tgid() >> 32) as u32);
    0
}

#[inline(always)]
fn forget(tgid: u32) {
    if tgid == maps::own_tgid() {
        return;
    }
    if let Some(byte) = maps::process(tgid) {
        // SAFETY: as above.
        unsafe { byte.write_volatile(maps::UNKNOWN) };
    }
}
