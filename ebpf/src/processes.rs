//! Which processes are sent, and when an id stops meaning what the agent decided about it.

use aya_ebpf::helpers::bpf_get_current_pid_tgid;
use aya_ebpf::macros::btf_tracepoint;
use aya_ebpf::programs::BtfTracePointContext;
use sonde_abi::{ProcessState, record::flags};

use crate::maps;

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

/// The flag of the first chunk of a process that the agent does not know; 0 for any other.
#[inline(always)]
pub fn announce(tgid: u32) -> u16 {
    let Some(byte) = maps::process(tgid) else { return 0 };
    // SAFETY: as above. Two threads may both announce: the agent looks once more, no harm.
    unsafe {
        if byte.read_volatile() != maps::UNKNOWN {
            return 0;
        }
        byte.write_volatile(ProcessState::Pending as u8);
    }
    flags::NEW_PROCESS
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
