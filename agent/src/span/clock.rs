//! How the kernel's clock stands to the calendar.

use crate::conn::Nanos;

/// The distance between `CLOCK_MONOTONIC`, which the kernel programs stamp with, and the Unix epoch. `CLOCK_REALTIME` is
/// stepped and slewed, so the distance changes: it is sampled anew now and then (by `enrich`), and one sample serves both
/// ends of a span, so that its duration stays what the kernel measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Clock {
    offset: i64,
}

impl Clock {
    /// A known distance in nanoseconds.
    #[must_use]
    pub const fn with_offset(offset: i64) -> Self {
        Self { offset }
    }

    /// Nanoseconds from the start of `CLOCK_MONOTONIC` to the epoch, negative for a clock that was set before its boot.
    #[must_use]
    pub const fn offset(self) -> i64 {
        self.offset
    }

    /// Nanoseconds since the Unix epoch of a moment of `CLOCK_MONOTONIC`.
    #[must_use]
    pub const fn unix(self, monotonic: Nanos) -> u64 {
        monotonic.saturating_add_signed(self.offset)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn offsets_saturate() {
        assert_eq!(Clock::with_offset(5).unix(10), 15);
        assert_eq!(Clock::with_offset(-20).unix(10), 0);
        assert_eq!(Clock::with_offset(i64::MAX).unix(u64::MAX), u64::MAX);
        assert_eq!(Clock::with_offset(7).offset(), 7);
    }
}
