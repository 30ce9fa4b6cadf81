//! sendmmsg and recvmmsg: several messages in one system call.
//!
//! `lengths` sees each message by itself, but not which it is; `syscalls` sees all of them at once, when the call returns.
//! Each keeps for the thread how far it has come. On a stream socket such calls are rare, so what they cost is theirs alone.

use aya_ebpf::EbpfContext;
use aya_ebpf::helpers::bpf_get_current_pid_tgid;
use aya_ebpf::helpers::generated::bpf_probe_read_user;
use sonde_abi::limits::MESSAGES_PER_CALL;

use crate::emit::Moved;
use crate::maps::{CURSORS, NEXT_MESSAGE};
use crate::user::{self, Source};

/// `struct mmsghdr[count]` of a process.
#[derive(Clone, Copy)]
pub struct Vector {
    /// First element.
    pub address: u64,
    /// How many.
    pub count: u64,
}

/// Bytes of a `struct mmsghdr`, and where in it the kernel writes how much it moved (recvmmsg(2), x86-64).
const MESSAGE: u64 = 64;
const MOVED: u64 = 56;
/// Messages that one call can take (`UIO_MAXIOV`).
const MOST: u64 = 1024;

impl Vector {
    #[inline(always)]
    fn at(&self, index: u64) -> u64 {
        self.address.wrapping_add(index * MESSAGE)
    }

    /// What the kernel says that a message moved, 0 where it cannot be read.
    #[inline(always)]
    fn moved(&self, index: u64) -> u32 {
        let mut moved = 0_u32;
        // Not `user::read`: its branch doubles the ways through a loop. The helper writes zeros where it fails.
        // SAFETY: writes exactly four bytes; the helper checks the address.
        unsafe { bpf_probe_read_user((&raw mut moved).cast(), 4, (self.at(index) + MOVED) as *const _) };
        // SAFETY: a local variable.
        unsafe { (&raw const moved).read_volatile() }
    }
}

/// How far a thread has come in its call.
#[repr(C)]
#[derive(Clone, Copy, Default)]
pub struct Cursor {
    /// The array.
    vector: u64,
    /// `lengths`: the socket.
    sock: u64,
    /// The message that comes next.
    index: u64,
    /// `lengths`: what the message before it moved.
    last: u64,
    /// `syscalls`: bytes of the messages that are left.
    behind: u64,
}

#[inline(always)]
fn thread() -> u32 {
    bpf_get_current_pid_tgid() as u32
}

/// This thread's cursor, made where there is none: whether it was, and the cursor.
#[inline(always)]
fn cursor(thread: u32) -> Option<(bool, &'static mut Cursor)> {
    if let Some(cursor) = CURSORS.get_ptr_mut(&thread) {
        // SAFETY: a map value that this thread alone uses.
        return Some((false, unsafe { &mut *cursor }));
    }
    let _ = CURSORS.insert(&thread, &Cursor::default(), 0);
    // SAFETY: as above.
    CURSORS.get_ptr_mut(&thread).map(|cursor| (true, unsafe { &mut *cursor }))
}

/// `lengths`: the buffers of the message that has just moved `moved` bytes.
#[inline(always)]
pub fn source(vector: &Vector, sock: u64, moved: u32) -> Source {
    let thread = thread();
    let Some((_, cursor)) = cursor(thread) else { return Source::NONE };
    // The kernel has written what the message before this one moved. Where it did not, this is another call.
    let before = cursor.index.wrapping_sub(1);
    let goes_on = cursor.vector == vector.address
        && cursor.sock == sock
        && cursor.index < vector.count
        && before < MOST
        && u64::from(vector.moved(before)) == cursor.last;
    if !goes_on {
        cursor.index = 0;
    }
    let source = user::of_msghdr(vector.at(cursor.index));
    *cursor = Cursor {
        vector: vector.address,
        sock,
        index: cursor.index.wrapping_add(1),
        last: u64::from(moved),
        behind: 0,
    };
    source
}

/// `lengths`: a message failed, which ends the call.
#[inline(always)]
pub fn failed() {
    let _ = CURSORS.remove(&thread());
}

/// `syscalls`: fills in the length and the buffers of the next message of a call that moved `count` messages. The last
/// that is looked at stands for all that follow.
#[inline(always)]
pub fn step(vector: &Vector, count: u64, nothing: u64, message: &mut Moved) -> Option<()> {
    let thread = thread();
    let (new, cursor) = cursor(thread)?;
    if new {
        let mut index = 0;
        // Apart from `count`: the verifier would follow each value that it can have after the loop.
        let messages = count ^ nothing;
        while index < MOST && index < messages {
            // Added up in the map: of a sum in a register the verifier would follow every value.
            cursor.behind = cursor.behind.wrapping_add(u64::from(vector.moved(index)));
            index += 1;
        }
    }
    let index = cursor.index;
    let last = index + 1 >= count || index + 1 >= MESSAGES_PER_CALL;
    if index + 1 < count && last {
        message.length = cursor.behind as u32;
    } else {
        message.length = vector.moved(index);
        message.source = user::of_msghdr(vector.at(index));
    }
    cursor.behind = cursor.behind.wrapping_sub(u64::from(message.length));
    message.behind = cursor.behind as u32;
    cursor.index = index + 1;
    if last {
        let _ = CURSORS.remove(&thread);
    }
    Some(())
}

/// `syscalls`: runs the program again for the next message, if there is one.
#[inline(always)]
pub fn again(ctx: &impl EbpfContext) {
    let thread = thread();
    if CURSORS.get_ptr(&thread).is_none() {
        return;
    }
    // SAFETY: no variable of this program is used after it, should it succeed.
    unsafe { NEXT_MESSAGE.tail_call(ctx, 0) };
    let _ = CURSORS.remove(&thread);
}
