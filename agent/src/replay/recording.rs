//! The format of a recording.
//!
//! Numbers are little-endian, except inside ring records, which stand there as the kernel programs wrote them, in the
//! byte order of the machine that recorded: a reader of the other order refuses the file.
//!
//! | offset | bytes | field |
//! |---|---|---|
//! | 0 | 8 | magic, `SONDEREC` |
//! | 8 | 2 | version of this format, 4 |
//! | 10 | 1 | byte order of ring records: 1 little-endian, 2 big-endian |
//! | 11 | 1 | zero |
//! | 12 | 4 | length of the header, at most 64 KiB |
//! | 16 | length | the header, JSON: [`Header`] |
//!
//! Then frames follow until the end of the file:
//!
//! | offset | bytes | field |
//! |---|---|---|
//! | 0 | 1 | kind |
//! | 1 | 3 | zero |
//! | 4 | 4 | length of what follows, at most 4 MiB |
//! | 8 | length | by kind |
//!
//! | kind | holds |
//! |---|---|
//! | 1 record | one record of the ring (`sonde_abi::Record`), from its kind to the end of what the kernel reserved |
//! | 2 process | JSON: identity, what is known of it, resource, scheduling, whether it is observed. Stands before the first record that was handled with that knowledge; a later frame of the same id replaces it |
//! | 3 clock | 8 bytes, signed: nanoseconds from the start of `CLOCK_MONOTONIC` to the epoch. Holds from here on |
//! | 4 tick | 8 bytes: the reader's watermark in nanoseconds of `CLOCK_MONOTONIC`, where the live run ticked the pipeline with it |
//! | 6 losses | seven numbers of 8 bytes: nanoseconds of `CLOCK_MONOTONIC`, and what the kernel side had lost by then, in the order of [`KERNEL_LOSSES`]. Stands before the tick that first knew of it |
//! | 5 end | 8 bytes: how many records stand before. The last frame; a file without it was cut off |

use serde::{Deserialize, Serialize};

use crate::conn::Nanos;
use crate::discover::Process;
use crate::enrich::Clock;
use crate::telemetry::Lost;

/// First bytes of every recording.
pub const MAGIC: [u8; 8] = *b"SONDEREC";

/// Version of the format that this Sonde writes, and the only one it reads.
pub const VERSION: u16 = 4;

/// This machine's byte order as the format states it.
pub const BYTE_ORDER: u8 = if cfg!(target_endian = "little") { 1 } else { 2 };

/// What the kernel side counts, in the order of a losses frame.
pub const KERNEL_LOSSES: [Lost; 6] = [
    Lost::RingFull,
    Lost::ProgramSkipped,
    Lost::UserFault,
    Lost::KernelStateFull,
    Lost::HeadTooLong,
    Lost::NoBuffer,
];

/// What the kernel side had lost in all.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Losses {
    /// When that was counted, on the kernel's clock.
    pub until: Nanos,
    /// Totals for each of [`KERNEL_LOSSES`].
    pub totals: [u64; KERNEL_LOSSES.len()],
}

/// Bytes before the header.
pub(super) const PREAMBLE: usize = 16;
/// Largest header.
pub(super) const HEADER_BYTES: u32 = 64 << 10;
/// Bytes before a frame's content.
pub(super) const FRAME_HEAD: usize = 8;
/// Largest content of a frame. The largest there is describes a process with as many declared attributes as are kept,
/// all of them escaped.
pub(super) const FRAME_BYTES: u32 = 4 << 20;

/// Kinds of frames, as numbers in the file.
pub(super) mod kind {
    pub(crate) const RECORD: u8 = 1;
    pub(crate) const PROCESS: u8 = 2;
    pub(crate) const CLOCK: u8 = 3;
    pub(crate) const TICK: u8 = 4;
    pub(crate) const END: u8 = 5;
    pub(crate) const LOSSES: u8 = 6;
}

/// What a recording says of itself.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Header {
    /// Version of the Sonde that recorded.
    pub sonde: String,
    /// Release of the kernel it ran on (`uname -r`).
    pub kernel: String,
    /// Name of the node.
    pub host: String,
    /// Hook family that the records come from.
    pub hooks: String,
    /// `CLOCK_MONOTONIC` in nanoseconds when recording began.
    pub started: u64,
    /// The distance to the epoch then, as in clock frames.
    pub clock_offset: i64,
}

/// One thing that a recording holds.
#[derive(Clone, Debug, PartialEq)]
pub enum Frame<'a> {
    /// A record of the ring. May itself be undecodable, as it may from the ring.
    Record(&'a [u8]),
    /// What is known of a process from here on.
    Process(Box<Process>),
    /// The clock from here on.
    Clock(Clock),
    /// The live run ticked the pipeline here, with this watermark.
    Tick(u64),
    /// What the kernel side had lost in all.
    Losses(Losses),
}

/// How a recording or a capture ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// Not yet.
    Open,
    /// As it was closed.
    Complete,
    /// Cut off behind the last whole frame or packet; what stands before is good.
    Truncated {
        /// Where the one begins that is not whole, in bytes from the start of the (uncompressed) file.
        offset: u64,
    },
}

/// Why a file is no recording, or no longer one from an offset on (in bytes from its start).
#[derive(Debug, thiserror::Error)]
pub enum RecordingError {
    /// Something else altogether.
    #[error("not a recording of Sonde: it does not begin with SONDEREC")]
    NotARecording,
    /// Of another Sonde.
    #[error("recording of format {found}; this Sonde reads format {VERSION}")]
    Version {
        /// What the file says.
        found: u16,
    },
    /// From a machine of the other byte order, or of none.
    #[error(
        "recording in byte order {found}; this machine reads {BYTE_ORDER} (1 little-endian, 2 big-endian)"
    )]
    ByteOrder {
        /// What the file says.
        found: u8,
    },
    /// Content that means nothing.
    #[error("recording broken at byte {offset}: {what}")]
    Broken {
        /// Where the frame or field begins.
        offset: u64,
        /// What is wrong with it.
        what: String,
    },
    /// The file could not be read or written.
    #[error("recording, at byte {offset}: {source}")]
    Io {
        /// Where.
        offset: u64,
        /// Why.
        source: std::io::Error,
    },
}
