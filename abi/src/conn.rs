//! State that the kernel side keeps, and that the agent may look at.

use crate::frames::Frames;

/// What the kernel side knows of one socket. Socket storage is zero-filled, so zero means "nothing yet" in each field.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ConnState {
    /// Unix sockets only: bytes written so far as this side counted them (TCP is counted by the kernel itself).
    pub written: u64,
    /// Unix sockets only: bytes read so far.
    pub read: u64,
    /// When the process called `connect`, `CLOCK_MONOTONIC` in nanoseconds; 0 if it did not, or before Sonde came.
    pub connect_time: u64,
    /// The process that called `connect`.
    pub connect_tgid: u32,
    /// The thread that called `connect`.
    pub connect_tid: u32,
    /// First sequence number that this end sent (TCP), or its socket's inode number (unix). Kept from the first chunk on,
    /// since the kernel's counters move by one when a FIN comes or goes.
    pub first_local: u32,
    /// First sequence number that the other end sent (TCP).
    pub first_peer: u32,
    /// Unix sockets only: address of the other end's `struct sock`, kept when the kernel forgets it.
    pub peer: u64,
    /// Bytes of the current message's head that may still be copied; 0 outside a head.
    pub head_left: u32,
    /// Runs that began with unknown bytes ([`crate::limits::LOOKS`]).
    pub looks: u16,
    /// One of [`mode`].
    pub mode: u8,
    /// [`crate::Role`] as a number, 0 unknown.
    pub role: u8,
    /// Direction of the last chunk plus one; 0 before the first.
    pub last_direction: u8,
    /// Bits of [`state_flags`].
    pub flags: u8,
    /// Keeps the next field aligned.
    pub reserved: [u8; 6],
    /// By direction: the place among frames, with [`mode::HTTP2`], or among the chunks of a body, with [`mode::HTTP1`].
    pub frames: [Frames; 2],
    /// Always zero, which the verifier does not know: numbers that are combined with it become unknown to it, and paths that
    /// differ in nothing else become one.
    pub nothing: u64,
}

impl ConnState {
    /// Of a socket of which nothing is known.
    pub const NEW: Self = Self {
        written: 0,
        read: 0,
        connect_time: 0,
        connect_tgid: 0,
        connect_tid: 0,
        first_local: 0,
        first_peer: 0,
        peer: 0,
        head_left: 0,
        looks: 0,
        mode: mode::UNKNOWN,
        role: 0,
        last_direction: 0,
        flags: 0,
        reserved: [0; 6],
        frames: [Frames::NEW; 2],
        nothing: 0,
    };
}

impl Default for ConnState {
    #[inline(always)]
    fn default() -> Self {
        Self::NEW
    }
}

/// What a connection's bytes turned out to be.
pub mod mode {
    /// Nothing known yet: the first bytes of each run are looked at.
    pub const UNKNOWN: u8 = 0;
    /// HTTP/1: heads are copied, bodies are counted.
    pub const HTTP1: u8 = 1;
    /// Left alone for good.
    pub const OFF: u8 = 2;
    /// HTTP/2: frames are copied, but for long contents of streams.
    pub const HTTP2: u8 = 3;
}

/// Bits of [`ConnState::flags`].
pub mod state_flags {
    /// The `Open` record has been sent.
    pub const OPENED: u8 = 1;
    /// Several requests were under way at once: whole chunks are copied, since heads may begin anywhere.
    pub const PIPELINED: u8 = 2;
    /// What is left of `head_left` follows a response's first chunk, most likely its body: copied without looking for the end.
    pub const SOFT: u8 = 4;
    /// `first_local` and `first_peer` (and `peer`) are set.
    pub const NAMED: u8 = 8;
    /// The head under way is a response's.
    pub const RESPONSE: u8 = 16;
    /// The call under way changed the connection's direction.
    pub const CHANGED: u8 = 32;
    /// The last response agreed on another protocol, which its direction goes on with: its status is 101.
    pub const SWITCHED: u8 = 64;
}

/// What the agent has decided about a process; one byte for each thread group id, shared with the kernel side.
#[repr(u8)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProcessState {
    /// Never seen, or its id was freed: the next chunk is sent, marked [`crate::record::flags::NEW_PROCESS`], and wakes the agent.
    Unknown = 0,
    /// Observed.
    Observed = 1,
    /// Not a target: its chunks are not sent.
    Excluded = 2,
    /// Sent to the agent, which has not decided yet.
    Pending = 3,
    /// Forked by a process that is sent, and not seen since: as unknown, and the agent has been told its parent.
    Forked = 4,
}
