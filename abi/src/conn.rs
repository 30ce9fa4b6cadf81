//! State that the kernel side keeps, and that the agent may look at.

/// What the kernel side knows of one socket. Socket storage is zero-filled, so zero means "nothing yet" in each field.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
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
    /// Names the socket's incarnation where state is keyed by address: inode number of a unix socket, first own
    /// sequence number of a TCP socket.
    pub incarnation: u32,
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
    /// Keeps the size a multiple of eight.
    pub reserved: [u8; 2],
}

/// What a connection's bytes turned out to be.
pub mod mode {
    /// Nothing known yet: the first bytes of each run are looked at.
    pub const UNKNOWN: u8 = 0;
    /// HTTP/1: heads are copied, bodies are counted.
    pub const HTTP1: u8 = 1;
    /// Left alone for good.
    pub const OFF: u8 = 2;
}

/// Bits of [`ConnState::flags`].
pub mod state_flags {
    /// The `Open` record has been sent.
    pub const OPENED: u8 = 1;
    /// Several requests were under way at once: whole chunks are copied, since heads may begin anywhere.
    pub const PIPELINED: u8 = 2;
    /// The protocol was seen from both of its sides (a request and a response).
    pub const CONFIRMED: u8 = 4;
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
}
