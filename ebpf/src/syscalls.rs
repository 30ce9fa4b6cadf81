//! Hook family `syscalls`: `sys_exit` alone, for kernels without the `lengths` tracepoints. And what both families need to
//! know of system calls: where their buffers are (x86-64).
//!
//! At the exit the registers still hold the call's arguments, so nothing is kept from the entry. The socket is found by
//! walking descriptor, file and socket with probe reads.

use aya_ebpf::helpers::bpf_get_current_pid_tgid;
use aya_ebpf::helpers::generated::bpf_get_current_task;
use aya_ebpf::macros::btf_tracepoint;
use aya_ebpf::programs::BtfTracePointContext;
use core::ptr;
use sonde_abi::Direction;

use crate::access::{Kernel, Walked, probe};
use crate::emit::{Moved, moved};
use crate::maps::offset;
use crate::processes::{self, Verdict};
use crate::user::{self, Source};

/// System call numbers of x86-64. Those below 64 are told apart by bit masks: a number that stays unknown to the verifier is
/// one path through the program, each comparison with a constant is another.
mod nr {
    pub const READ: u64 = 0;
    pub const WRITE: u64 = 1;
    pub const READV: u64 = 19;
    pub const WRITEV: u64 = 20;
    pub const SENDFILE: u64 = 40;
    pub const SENDTO: u64 = 44;
    pub const RECVFROM: u64 = 45;
    pub const SENDMSG: u64 = 46;
    pub const RECVMSG: u64 = 47;
    pub const SPLICE: u64 = 275;

    pub const READS: u64 = 1 << READ | 1 << READV | 1 << RECVFROM | 1 << RECVMSG;
    pub const WRITES: u64 = 1 << WRITE | 1 << WRITEV | 1 << SENDFILE | 1 << SENDTO | 1 << SENDMSG;
    pub const VECTORED: u64 = 1 << READV | 1 << WRITEV;
    /// Of these the second argument is a buffer or a vector.
    pub const BUFFERED: u64 = 1 << READ | 1 << WRITE | 1 << SENDTO | 1 << RECVFROM | VECTORED;
    pub const MESSAGES: u64 = 1 << SENDMSG | 1 << RECVMSG;
}

const MSG_OOB: i32 = 0x1;
const MSG_PEEK: i32 = 0x2;
/// The bytes were counted and thrown away (tcp(7)).
pub const MSG_TRUNC: i32 = 0x20;
const MSG_ERRQUEUE: i32 = 0x2000;
/// Flags of a receive that takes nothing from the stream.
pub const NOT_CONSUMED: i32 = MSG_OOB | MSG_PEEK | MSG_ERRQUEUE;

/// The registers of a system call.
pub struct Registers {
    nr: u64,
    first: u64,
    second: u64,
    third: u64,
    fourth: u64,
}

impl Registers {
    /// Reads `struct pt_regs`, typed. Of a 32-bit program, whose numbers mean other calls, nothing matches.
    #[inline(always)]
    pub fn of(registers: Kernel) -> Self {
        const USER_CS: u64 = 0x33;
        // SAFETY: members of `struct pt_regs`, whose layout is fixed on x86-64 (ptrace.h).
        unsafe {
            let at = |offset: usize| ptr::read_volatile(registers.add(offset).cast::<u64>());
            let nr = if at(136) & 0xffff == USER_CS { at(120) } else { u64::MAX };
            Self { nr, first: at(112), second: at(104), third: at(96), fourth: at(56) }
        }
    }

    /// The call as one bit of a mask, 0 for numbers that have none.
    #[inline(always)]
    fn bit(&self) -> u64 {
        if self.nr < 64 { 1 << self.nr } else { 0 }
    }

    /// Where the bytes are that this call moved in this direction.
    #[inline(always)]
    pub fn source(&self, direction: Direction) -> Source {
        let bit = self.bit() & if direction == Direction::Read { nr::READS } else { nr::WRITES };
        if bit & nr::MESSAGES != 0 {
            return user::of_msghdr(self.second);
        }
        if bit & nr::BUFFERED == 0 {
            return Source::NONE;
        }
        // The count of a vector, all ones for a plain buffer.
        let vectored = u64::from(bit & nr::VECTORED != 0);
        Source { address: self.second, count: self.third | vectored.wrapping_sub(1) }
    }
}

/// `sys_exit(struct pt_regs *regs, long ret)`
#[btf_tracepoint(function = "sys_exit")]
#[inline(always)]
pub fn sys_exit(ctx: BtfTracePointContext) -> i32 {
    let result = ctx.arg::<i64>(1);
    if result >= 0 {
        let _ = exit(&Registers::of(ctx.arg::<*const u8>(0)), result.cast_unsigned());
    }
    0
}

#[inline(always)]
fn exit(registers: &Registers, result: u64) -> Option<()> {
    // recvmmsg, sendmmsg, preadv2 and pwritev2 are not looked at: their bytes show as a gap at the next call.
    let spliced = registers.nr == nr::SPLICE;
    let bit = registers.bit();
    if bit & (nr::READS | nr::WRITES) == 0 && !spliced {
        return None;
    }
    // The filter comes before the walk, which costs ten times as much.
    let tgid = (bpf_get_current_pid_tgid() >> 32) as u32;
    if processes::judge(tgid) == Verdict::Drop {
        return None;
    }
    let message_flags = match registers.nr {
        nr::RECVFROM => registers.fourth as i32,
        nr::RECVMSG => registers.third as i32,
        _ => 0,
    };
    if message_flags & NOT_CONSUMED != 0 {
        return None;
    }
    // splice(fd_in, off_in, fd_out, ...): a socket to a pipe, or a pipe to a socket.
    let mut reads = bit & nr::READS != 0 || spliced;
    let sock = match socket(registers.first) {
        Some(sock) => sock,
        None if spliced => {
            reads = false;
            socket(registers.third)?
        }
        None => return None,
    };
    let direction = if reads { Direction::Read } else { Direction::Write };
    let source = if message_flags & MSG_TRUNC != 0 { Source::NONE } else { registers.source(direction) };
    moved::<Walked>(&Moved { sock, direction, length: result as u32, source })
}

/// The socket behind a descriptor of the calling task.
#[inline(always)]
fn socket(descriptor: u64) -> Option<Kernel> {
    const S_IFMT: u16 = 0o170_000;
    const S_IFSOCK: u16 = 0o140_000;
    // SAFETY: each offset belongs to the structure that the pointer before it leads to; what cannot be read is zero.
    unsafe {
        let task = bpf_get_current_task() as Kernel;
        let files = follow(task, offset!(task_files))?;
        let table = follow(files, offset!(files_fdt))?;
        if descriptor >= u64::from(probe::<u32>(table.add(offset!(fdt_max_fds) as usize))) {
            return None;
        }
        let descriptors = follow(table, offset!(fdt_fd))?;
        let file = probe::<u64>(descriptors.wrapping_add((descriptor as usize).wrapping_mul(8))) as Kernel;
        let inode = follow(file, offset!(file_inode))?;
        if probe::<u16>(inode.add(offset!(inode_mode) as usize)) & S_IFMT != S_IFSOCK {
            return None;
        }
        let socket = follow(file, offset!(file_private_data))?;
        follow(socket, offset!(socket_sk))
    }
}

/// Reads a pointer, `None` for a null one.
///
/// # Safety
/// As [`probe`].
#[inline(always)]
unsafe fn follow(base: Kernel, offset: u32) -> Option<Kernel> {
    // SAFETY: a probe read survives any address.
    let pointer = unsafe { probe::<u64>(base.wrapping_add(offset as usize)) };
    (pointer != 0).then_some(pointer as Kernel)
}
