//! What time it is: [`Clock`] sampled.

use rustix::time::{ClockId, clock_gettime};

pub use crate::span::Clock;

/// Readings of which the tightest is taken.
const READINGS: u32 = 8;

impl Clock {
    /// The distance to the epoch now. Each reading of `CLOCK_REALTIME` stands between two of `CLOCK_MONOTONIC`; the reading whose two
    /// are closest counts, which bounds the error by half of that (well below a microsecond).
    #[must_use]
    pub fn sample() -> Self {
        let mut best: Option<(i64, i64)> = None;
        for _ in 0..READINGS {
            let before = nanoseconds(ClockId::Monotonic);
            let real = nanoseconds(ClockId::Realtime);
            let after = nanoseconds(ClockId::Monotonic);
            let width = after - before;
            if best.is_none_or(|(narrowest, _)| width < narrowest) {
                best = Some((width, real - (before + width / 2)));
            }
        }
        Self::with_offset(best.map_or(0, |(_, offset)| offset))
    }

    /// `CLOCK_MONOTONIC` now, in nanoseconds.
    #[must_use]
    pub fn monotonic() -> u64 {
        u64::try_from(nanoseconds(ClockId::Monotonic)).unwrap_or(0)
    }
}

fn nanoseconds(clock: ClockId) -> i64 {
    let time = clock_gettime(clock);
    time.tv_sec.saturating_mul(1_000_000_000).saturating_add(time.tv_nsec)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::{SystemTime, UNIX_EPOCH};

    #[test]
    fn the_kernels_now_is_the_epochs_now() {
        let clock = Clock::sample();
        let unix =
            || u64::try_from(SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_nanos()).unwrap();
        // What lies between must lie between by the converted clock too, but for the error of the sample and for a clock
        // that is slewed meanwhile.
        let slack = 1_000_000;
        let before = unix();
        let now = clock.unix(Clock::monotonic());
        let after = unix();
        assert!(before <= now + slack && now <= after + slack, "{before} {now} {after}");
    }
}
