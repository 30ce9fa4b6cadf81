//! What the kernel side keeps of processes that have just begun, for those that are gone before anybody looks at them.

/// Places for processes. One takes the place of another whose id is the same but for a multiple of this.
pub const PLACES: u32 = 1024;
/// Bytes of [`Start::program`].
pub const PROGRAM: usize = 128;
/// Bytes of [`Start::args`].
pub const ARGS: usize = 344;

/// How a process came to what it is.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Start {
    /// When, `CLOCK_MONOTONIC` in nanoseconds.
    pub time_ns: u64,
    /// The process; 0 while the others are written.
    pub tgid: u32,
    /// The process that forked it.
    pub parent: u32,
    /// One of [`kind`].
    pub kind: u32,
    /// Bytes of `args` that are arguments.
    pub args_len: u32,
    /// Its name as the kernel keeps it, ended by a zero.
    pub comm: [u8; 16],
    /// What the kernel loaded, as it was named: a script's interpreter. Ended by a zero; cut off if that is the last byte.
    pub program: [u8; PROGRAM],
    /// Its first arguments, each ended by a zero.
    pub args: [u8; ARGS],
}

/// Values of [`Start::kind`].
pub mod kind {
    /// Forked: it runs what its parent runs, and the rest says nothing.
    pub const FORK: u32 = 0;
    /// It has begun a program.
    pub const EXEC: u32 = 1;
}

const _: () = assert!(size_of::<Start>() == 512);

impl Start {
    /// The place of a process.
    #[must_use]
    pub const fn place(tgid: u32) -> u32 {
        tgid & (PLACES - 1)
    }
}
