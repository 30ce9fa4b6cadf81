//! Hook family `syscalls`: `sys_exit` alone, for kernels without the `lengths` tracepoints. And what both families need to
//! know of system calls: where their buffers are (x86-64).
//!
//! At the exit the registers still hold the call's arguments, so nothing is kept from the entry. The socket is found by
//! walking descriptor, file and socket with probe reads.

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

/// System call numbers of x86-64.
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
    pub const RECVMMSG: u64 = 299;
    pub const SENDMMSG: u64 = 307;
    pub const PREADV2: u64 = 327;
    pub const PWRITEV2: u64 = 328;
}

const MSG_OOB: i32 = 0x1;
const MSG_PEEK: i32 = 0x2;
/// The bytes were counted and thrown away (tcp(7)).
pub const MSG_TRUNC: i32 = 0x20;
const MSG_ERRQUEUE: i32 = 0x2000;
/// Flags of a receive that takes nothing from the stream.
pub const NOT_CONSUMED: i32 = MSG_OOB | MSG_PEEK | MSG_ERRQUEUE;

/// Messages of one recvmmsg or sendmmsg that are looked at.
const MESSAGES: u64 = 8;
/// Bytes of `struct mmsghdr`, and where its `msg_len` is.
const MMSGHDR: u64 = 64;
const MSG_LEN: u64 = 56;

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
}

/// Where the bytes are that this call moved in this direction.
#[inline(always)]
pub fn source(registers: &Registers, direction: Direction) -> Source {
    match (registers.nr, direction) {
        (nr::WRITE | nr::SENDTO, Direction::Write) | (nr::READ | nr::RECVFROM, Direction::Read) => {
            Source::One(registers.second)
        }
        (nr::WRITEV | nr::PWRITEV2, Direction::Write) | (nr::READV | nr::PREADV2, Direction::Read) => {
            Source::Many(registers.second, registers.third)
        }
        (nr::SENDMSG, Direction::Write) | (nr::RECVMSG, Direction::Read) => user::of_msghdr(registers.second),
        _ => Source::None,
    }
}

/// `sys_exit(struct pt_regs *regs, long ret)`
#[btf_tracepoint(function = "sys_exit")]
pub fn sys_exit(ctx: BtfTracePointContext) -> i32 {
    let result = ctx.arg::<i64>(1);
    if result >= 0 {
        let _ = exit(&Registers::of(ctx.arg::<*const u8>(0)), result.cast_unsigned());
    }
    0
}

#[inline(always)]
fn exit(registers: &Registers, result: u64) -> Option<()> {
    let (direction, message_flags) = match registers.nr {
        nr::WRITE | nr::WRITEV | nr::SENDFILE | nr::SENDTO | nr::SENDMSG | nr::SENDMMSG | nr::PWRITEV2 => {
            (Direction::Write, 0)
        }
        nr::READ | nr::READV | nr::PREADV2 | nr::SPLICE => (Direction::Read, 0),
        nr::RECVFROM | nr::RECVMMSG => (Direction::Read, registers.fourth as i32),
        nr::RECVMSG => (Direction::Read, registers.third as i32),
        _ => return None,
    };
    if message_flags & NOT_CONSUMED != 0 {
        return None;
    }
    // The filter comes before the walk, which costs ten times as much.
    let tgid = (aya_ebpf::helpers::bpf_get_current_pid_tgid() >> 32) as u32;
    if processes::judge(tgid) == Verdict::Drop {
        return None;
    }
    let (sock, direction) = match socket(registers.first) {
        Some(sock) => (sock, direction),
        // splice(fd_in, off_in, fd_out, ...): a pipe to a socket.
        None if registers.nr == nr::SPLICE => (socket(registers.third)?, Direction::Write),
        None => return None,
    };
    if registers.nr == nr::SENDMMSG || registers.nr == nr::RECVMMSG {
        return messages(sock, direction, registers.second, result);
    }
    let source = if message_flags & MSG_TRUNC != 0 { Source::None } else { source(registers, direction) };
    walked(&Moved { sock, direction, length: result as u32, behind: 0, source })
}

/// One copy of the code for every call that leads here: it is large.
#[inline(never)]
fn walked(call: &Moved) -> Option<()> {
    moved::<Walked>(call)
}

/// recvmmsg and sendmmsg: `result` messages, each with its own length.
#[inline(always)]
fn messages(sock: Kernel, direction: Direction, vector: u64, result: u64) -> Option<()> {
    let count = if result < MESSAGES { result } else { MESSAGES };
    let mut behind = 0_u32;
    let mut i = 0;
    while i < MESSAGES {
        if i < count {
            behind = behind.wrapping_add(user::read::<u32>(vector.wrapping_add(i * MMSGHDR + MSG_LEN))?);
        }
        i += 1;
    }
    let mut i = 0;
    while i < MESSAGES {
        if i >= count {
            break;
        }
        let message = vector.wrapping_add(i * MMSGHDR);
        let length = user::read::<u32>(message.wrapping_add(MSG_LEN))?;
        behind = behind.wrapping_sub(length);
        let _ = walked(&Moved { sock, direction, length, behind, source: user::of_msghdr(message) });
        i += 1;
    }
    Some(())
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
