//! How processes began: places in memory that the kernel programs write, mapped as the counters are.

use std::array;
use std::os::fd::AsFd;
use std::sync::atomic::{AtomicU64, Ordering};

use aya::maps::{Map, MapData};
use sonde_abi::Start;
use sonde_abi::start::PLACES;

use super::error::{ProbeError, wrap};
use super::mapping::Mapping;

const WORDS: usize = size_of::<Start>() / size_of::<u64>();

/// The places.
pub struct ProcessStarts {
    places: Mapping,
    /// Programs are loaded with its descriptor.
    _map: MapData,
}

impl ProcessStarts {
    pub(super) fn new(map: Map) -> Result<Self, ProbeError> {
        let Map::Array(map) = map else {
            return Err(ProbeError::Load { what: "map STARTS".into(), why: "not an array".into() });
        };
        let places = Mapping::new(map.fd().as_fd(), 0, PLACES as usize * size_of::<Start>(), false)
            .map_err(wrap("mapping of STARTS"))?;
        Ok(Self { places, _map: map })
    }

    /// What is kept of a process; `None` where its place is another's by now, or that of none.
    #[must_use]
    pub fn of(&self, tgid: u32) -> Option<Start> {
        let place = Start::place(tgid);
        let start = self.read(place).filter(|start| start.tgid == tgid)?;
        // It may have been written meanwhile.
        (self.read(place)? == start).then_some(start)
    }

    #[expect(unsafe_code, reason = "memory shared with the kernel")]
    fn read(&self, place: u32) -> Option<Start> {
        let first = place as usize * size_of::<Start>();
        let word = |word| self.places.word::<AtomicU64>(first + word * size_of::<u64>());
        word(WORDS - 1)?;
        let words: [u64; WORDS] =
            array::from_fn(|at| word(at).map_or(0, |word| word.load(Ordering::Acquire)));
        // SAFETY: a `repr(C)` struct of integers and arrays of bytes without padding, of the same size, aligned to eight.
        Some(unsafe { std::mem::transmute::<[u64; WORDS], Start>(words) })
    }
}
