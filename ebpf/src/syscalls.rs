//! Hook family `syscalls`: `sys_exit` alone, for kernels without the `lengths` tracepoints. And what both families need to
//! know of system calls: where their buffers are (x86-64).
//!
//! At the exit the registers still hold the call's arguments, so nothing is kept from the entry. The socket is found by
//! walking descriptor, file and socket with probe reads.

use aya_ebpf::EbpfContext;
use aya_ebpf::helpers::bpf_get_current_pid_tgid;
use aya_ebpf::helpers::generated::bpf_get_current_task;
use aya_ebpf::macros::btf_tracepoint;
use aya_ebpf::programs::BtfTracePointContext;
use core::hint::cold_path;
use core::ptr;
use sonde_abi::Direction;

use crate::access::{self, Kernel, Walked, probe};
use crate::emit::{Moved, moved};
use crate::frames;
use crate::maps::offset;
use crate::messages::{self, Vector};
use crate::processes::{self, Verdict};
use crate::user::{self, Source};

/// System calls of x86-64, each as one bit of a mask: a number that stays unknown to the verifier is one path through the
/// program, each comparison with a constant is another. Calls below 64 have the bit of their number.
mod nr {
    pub const READ: u64 = 1 << 0;
    pub const WRITE: u64 = 1 << 1;
    pub const READV: u64 = 1 << 19;
    pub const WRITEV: u64 = 1 << 20;
    pub const SENDFILE: u64 = 1 << 40;
    pub const SENDTO: u64 = 1 << 44;
    pub const RECVFROM: u64 = 1 << 45;
    pub const SENDMSG: u64 = 1 << 46;
    pub const RECVMSG: u64 = 1 << 47;
    /// 275; its bit belongs to none of the calls above.
    pub const SPLICE: u64 = 1 << 62;
    /// recvmmsg (299) and sendmmsg (307): set beside the bit of the call for one message.
    pub const SEVERAL: u64 = 1 << 63;

    pub const READS: u64 = READ | READV | RECVFROM | RECVMSG;
    pub const WRITES: u64 = WRITE | WRITEV | SENDFILE | SENDTO | SENDMSG;
    pub const VECTORED: u64 = READV | WRITEV;
    /// Of these the second argument is a buffer or a vector.
    pub const BUFFERED: u64 = READ | WRITE | SENDTO | RECVFROM | VECTORED;
    pub const MESSAGES: u64 = SENDMSG | RECVMSG;

    /// The bits of a call, 0 for those that move no bytes of a socket.
    #[inline(always)]
    pub fn bits(number: u64) -> u64 {
        let bit = 1 << (number & 63);
        let moved = |from: u64, to: u64| bit >> from << to & 1 << to;
        match number >> 6 {
            0 => bit & (READS | WRITES),
            // splice, recvmmsg, sendmmsg
            4 => {
                let several = moved(299 & 63, 63) | moved(307 & 63, 63);
                moved(275 & 63, 62) | moved(299 & 63, 47) | moved(307 & 63, 46) | several
            }
            // preadv2, pwritev2: the arguments of readv and writev, and an offset that a socket has none of
            5 => moved(327 & 63, 19) | moved(328 & 63, 20),
            _ => 0,
        }
    }
}

const MSG_OOB: i32 = 0x1;
const MSG_PEEK: i32 = 0x2;
/// The bytes were counted and thrown away (tcp(7)).
pub const MSG_TRUNC: i32 = 0x20;
const MSG_ERRQUEUE: i32 = 0x2000;
/// Flags of a receive that takes nothing from the stream.
pub const NOT_CONSUMED: i32 = MSG_OOB | MSG_PEEK | MSG_ERRQUEUE;

/// The registers of a system call.
#[derive(Clone, Copy)]
pub struct Registers {
    /// [`nr::bits`].
    call: u64,
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
            Self { call: nr::bits(nr), first: at(112), second: at(104), third: at(96), fourth: at(56) }
        }
    }

    /// The array of messages and its length, where the call takes several.
    #[inline(always)]
    pub fn several(&self) -> Option<Vector> {
        (self.call & nr::SEVERAL != 0).then_some(Vector { address: self.second, count: self.third })
    }

    /// Where the bytes are that this call moved in this direction.
    #[inline(always)]
    pub fn source(&self, direction: Direction) -> Source {
        let bit = self.call & if direction == Direction::Read { nr::READS } else { nr::WRITES };
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
    exits(&ctx, ctx.arg(1), || Registers::of(ctx.arg(0)));
    0
}

/// Whether a system call is one of those that move bytes of a socket.
#[inline(always)]
pub fn moves_bytes(number: u64) -> bool {
    nr::bits(number) != 0
}

/// A system call ends.
#[inline(always)]
pub fn exits(ctx: &impl EbpfContext, result: i64, registers: impl Fn() -> Registers) {
    if result >= 0 {
        let onward = exit(&registers(), result.cast_unsigned());
        // It goes on with the call's next message itself, where there is one.
        frames::follow(ctx, onward);
        // Read again rather than carried along.
        if registers().several().is_some() {
            cold_path();
            messages::again(ctx);
        }
    }
}

#[inline(always)]
fn exit(registers: &Registers, result: u64) -> Option<Direction> {
    if registers.call == 0 {
        return None;
    }
    let id = bpf_get_current_pid_tgid();
    // The filter comes before the walk, which costs ten times as much.
    if processes::judge((id >> 32) as u32) == Verdict::Drop {
        return None;
    }
    let nothing = access::nothing(id);
    let registers = Registers { call: registers.call ^ nothing, ..*registers };
    let call = registers.call;
    let message_flags = if call & (nr::RECVFROM | nr::SEVERAL) != 0 {
        registers.fourth as i32
    } else if call & nr::RECVMSG != 0 {
        registers.third as i32
    } else {
        0
    };
    let mut reads = call & (nr::READS | nr::SPLICE) != 0;
    if reads && message_flags & NOT_CONSUMED != 0 {
        return None;
    }
    // splice(fd_in, off_in, fd_out, ...): a socket to a pipe, or a pipe to a socket.
    let sock = match socket(registers.first) {
        Some(sock) => sock,
        None if call & nr::SPLICE != 0 => {
            reads = false;
            socket(registers.third)?
        }
        None => return None,
    };
    let direction = if reads { Direction::Read } else { Direction::Write };
    let mut moved_bytes = Moved { sock, direction, length: result as u32, behind: 0, source: Source::NONE };
    if let Some(vector) = registers.several() {
        cold_path();
        messages::step(&vector, result, nothing, &mut moved_bytes)?;
    } else {
        moved_bytes.source = registers.source(direction);
    }
    if reads && message_flags & MSG_TRUNC != 0 {
        moved_bytes.source = Source::NONE;
    }
    moved_bytes.source = moved_bytes.source.hidden(nothing);
    moved_bytes.length ^= nothing as u32;
    moved_bytes.behind ^= nothing as u32;
    moved::<Walked>(&moved_bytes)
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
