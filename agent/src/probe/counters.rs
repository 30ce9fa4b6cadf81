//! What the kernel side counts, each processor for itself.

use std::sync::atomic::Ordering;

use aya::maps::Map;
use sonde_abi::limits;
use sonde_abi::settings::KernelCounter;

use super::attach::ProbeError;
use super::shared::Shared;
use crate::telemetry::{Counters, Lost};

/// The counters of all processors.
pub(super) struct KernelCounters {
    numbers: Shared,
    processors: usize,
}

impl KernelCounters {
    /// The map has an element for each processor.
    pub(super) fn new(map: Map, processors: u32) -> Result<Self, ProbeError> {
        let processors = processors as usize;
        let bytes = processors * KernelCounter::SLOTS * size_of::<u64>();
        Ok(Self { numbers: Shared::new(map, "map COUNTERS", bytes)?, processors })
    }

    /// One counter's sum over all processors.
    pub(super) fn sum(&self, counter: KernelCounter) -> u64 {
        let of = |processor| self.numbers.number(processor * KernelCounter::SLOTS + counter as usize);
        (0..self.processors).filter_map(of).map(|number| number.load(Ordering::Relaxed)).sum()
    }

    /// Hands them on.
    pub(super) fn pass_on(&self, counters: &Counters) {
        for (counter, lost) in [
            (KernelCounter::RingFull, Lost::RingFull),
            (KernelCounter::UserFault, Lost::UserFault),
            (KernelCounter::StateFull, Lost::KernelStateFull),
            (KernelCounter::HeadTooLong, Lost::HeadTooLong),
            (KernelCounter::NoBuffer, Lost::NoBuffer),
            (KernelCounter::FarBuffer, Lost::FarBuffer),
            (KernelCounter::LeftAlone, Lost::LeftAlone),
        ] {
            counters.set_lost(lost, self.sum(counter));
        }
        // States that neither ended nor have room were pushed out. Made first: a state that is made and ended between the two
        // readings must not count as there.
        let made = self.sum(KernelCounter::StatesMade);
        let there = made.saturating_sub(self.sum(KernelCounter::StatesEnded));
        let evicted = there.saturating_sub(u64::from(limits::CONNECTIONS));
        counters.set_lost(Lost::KernelStateEvicted, evicted.max(counters.lost(Lost::KernelStateEvicted)));
    }
}
