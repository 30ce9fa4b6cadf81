//! What the kernel side counts, each processor for itself.

use std::os::fd::AsFd;
use std::sync::atomic::{AtomicU64, Ordering};

use aya::maps::{Map, MapData};
use sonde_abi::limits;
use sonde_abi::settings::KernelCounter;

use super::error::{ProbeError, wrap};
use super::mapping::Mapping;
use crate::telemetry::{Counters, Lost};

/// Bytes of a processor's counters.
const ELEMENT: usize = KernelCounter::SLOTS * size_of::<u64>();

/// The counters of all processors.
pub(super) struct KernelCounters {
    numbers: Mapping,
    _map: MapData,
    processors: usize,
}

impl KernelCounters {
    /// The map has an element for each processor.
    pub(super) fn new(map: Map, processors: u32) -> Result<Self, ProbeError> {
        let Map::Array(map) = map else {
            return Err(ProbeError::Load { what: "map COUNTERS".into(), why: "not an array".into() });
        };
        let processors = processors as usize;
        let numbers = Mapping::new(map.fd().as_fd(), 0, processors * ELEMENT, false)
            .map_err(wrap("mapping of COUNTERS"))?;
        Ok(Self { numbers, processors, _map: map })
    }

    /// One counter's sum over all processors.
    pub(super) fn sum(&self, counter: KernelCounter) -> u64 {
        let offset = counter as usize * size_of::<u64>();
        let of = |processor| self.numbers.word::<AtomicU64>(processor * ELEMENT + offset);
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
