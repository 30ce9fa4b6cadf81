//! Programs that stand twice at their tracepoint, for kernels that put one aside (since 7.0).
//!
//! While a task is put aside inside a program, the kernel skips that program for every other task of the processor. The
//! second copy, attached behind the first, does what the first was skipped for, which it knows by a mark of the thread's.

use core::hint::cold_path;
use sonde_abi::settings::KernelCounter;

use crate::access::Kernel;
use crate::maps;

/// Which of the two a program is.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Turn {
    /// Attached on every kernel.
    First,
    /// Attached behind it.
    Second,
}

impl Turn {
    /// Whether the other copy has seen this event: never to the first, which leaves its mark for the second. Both run in the
    /// task that the event belongs to, one right behind the other, so the mark can be of no other event.
    #[inline(always)]
    pub fn is_done(self, thread: u32) -> bool {
        if !maps::twice() {
            return false;
        }
        // Of a thread beyond the map (pid_max was raised meanwhile) the first copy alone sees something.
        let Some(mark) = maps::mark(thread) else { return self == Self::Second };
        // SAFETY: a byte of the map that this thread alone uses.
        let done = unsafe { mark.replace(u8::from(self == Self::First)) } != 0;
        self == Self::Second && (done || mended())
    }

    /// The same for a socket that changes its state, which it does behind its lock, but in interrupts as well: a thread's mark
    /// would not do. Another socket may overwrite the mark: then both copies tell the change, and the second time is ignored.
    #[inline(always)]
    pub fn is_state_done(self, sock: Kernel) -> bool {
        if !maps::twice() {
            return false;
        }
        let Some(mark) = maps::state_mark(sock as u64) else { return self == Self::Second };
        // SAFETY: a slot of the map, written whole.
        let before = unsafe { mark.replace(if self == Self::First { sock as u64 } else { 0 }) };
        self == Self::Second && (before == sock as u64 || mended())
    }

    /// Where `NEXT_MESSAGE` has this copy. A copy goes on as itself: the first marks the event once more, and the second
    /// finds no mark as before.
    #[inline(always)]
    pub const fn slot(self) -> u32 {
        match self {
            Self::First => 0,
            Self::Second => 1,
        }
    }
}

/// Counts what the second copy does; `false`, since nobody has done it.
#[inline(always)]
fn mended() -> bool {
    cold_path();
    maps::count(KernelCounter::Mended);
    false
}
