//! Which processes are sent, and when an id stops meaning what the agent decided about it.

use aya_ebpf::helpers::bpf_get_current_pid_tgid;
use aya_ebpf::helpers::generated::{
    bpf_get_current_comm, bpf_ktime_get_ns, bpf_probe_read_kernel_str, bpf_probe_read_user,
};
use aya_ebpf::macros::btf_tracepoint;
use aya_ebpf::programs::BtfTracePointContext;
use sonde_abi::settings::ABSENT;
use sonde_abi::start::{ARGS, PROGRAM, kind};
use sonde_abi::{ProcessState, Start, record::flags};

use crate::access::{Access, Kernel, Typed, bounded};
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
    begin(child, parent, |_| kind::FORK);
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

/// Keeps what the program is, beside [`process_exec`]: `sched_process_exec(struct task_struct *p, pid_t old_pid, struct
/// linux_binprm *bprm)`.
#[btf_tracepoint(function = "sched_process_exec")]
#[inline(always)]
pub fn process_program(ctx: BtfTracePointContext) -> i32 {
    let _ = program(ctx.arg(0), ctx.arg(2));
    0
}

#[inline(always)]
fn program(task: Kernel, binprm: Kernel) -> Option<()> {
    if offset!(task_tgid) == ABSENT || offset!(task_real_parent) == ABSENT || offset!(binprm_interp) == ABSENT
    {
        return None;
    }
    // SAFETY: members of `struct task_struct` and `struct linux_binprm`.
    let (tgid, parent, interp) = unsafe {
        let parent = Typed::load::<u64>(task, offset!(task_real_parent)) as Kernel;
        (
            Typed::load::<u32>(task, offset!(task_tgid)),
            Typed::load::<u32>(parent, offset!(task_tgid)),
            Typed::load::<u64>(binprm, offset!(binprm_interp)),
        )
    };
    begin(tgid, parent, |start| {
        // SAFETY: the helpers write into the place no more than the members hold.
        unsafe {
            bpf_get_current_comm((&raw mut (*start).comm).cast(), 16);
            bpf_probe_read_kernel_str((&raw mut (*start).program).cast(), PROGRAM as u32, interp as *const _);
            (*start).args_len = arguments(task, start).unwrap_or(0);
        }
        kind::EXEC
    })
}

/// Copies the arguments, which the kernel has just written. Gives how many bytes of them there are.
#[inline(always)]
fn arguments(task: Kernel, start: *mut Start) -> Option<u32> {
    if offset!(task_mm) == ABSENT || offset!(mm_arg_start) == ABSENT || offset!(mm_arg_end) == ABSENT {
        return None;
    }
    // SAFETY: members of `struct task_struct` and `struct mm_struct`.
    let (from, to) = unsafe {
        let mm = Typed::load::<u64>(task, offset!(task_mm)) as Kernel;
        if mm.is_null() {
            return None;
        }
        (Typed::load::<u64>(mm, offset!(mm_arg_start)), Typed::load::<u64>(mm, offset!(mm_arg_end)))
    };
    let len = bounded(to.wrapping_sub(from), ARGS as u64) as u32;
    // SAFETY: no more bytes than the member holds.
    let failed = unsafe { bpf_probe_read_user((&raw mut (*start).args).cast(), len, from as *const _) };
    (failed == 0).then_some(len)
}

/// Takes the place of a process. Whoever reads it meanwhile finds no process there.
#[inline(always)]
fn begin(tgid: u32, parent: u32, fill: impl FnOnce(*mut Start) -> u32) -> Option<()> {
    let start = maps::STARTS.get_ptr_mut(Start::place(tgid))?;
    // SAFETY: a map value. Two processes of one place that begin at once leave a mixture, which is as likely as rare.
    unsafe {
        (&raw mut (*start).tgid).write_volatile(0);
        (*start).time_ns = bpf_ktime_get_ns();
        (*start).parent = parent;
        (*start).kind = fill(start);
        (&raw mut (*start).tgid).write_volatile(tgid);
    }
    Some(())
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
