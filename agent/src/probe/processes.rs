//! What the agent decided about each process: a byte for each id, in memory shared with the kernel programs.

use std::os::fd::AsFd;
use std::sync::atomic::{AtomicU8, Ordering};

use aya::maps::{Map, MapData};
use sonde_abi::ProcessState;

use super::error::{ProbeError, wrap};
use super::mapping::Mapping;

/// Process ids in one element of the map that has a byte for each.
pub(super) const IDS_PER_PAGE: u32 = 4096;

/// The states, mapped. Each is one byte and written whole, so no lock is needed beside the kernel programs.
pub struct ProcessStates {
    states: Mapping,
    _map: MapData,
}

impl ProcessStates {
    pub(super) fn new(map: Map, pid_max: u32) -> Result<Self, ProbeError> {
        let Map::Array(map) = map else {
            return Err(ProbeError::Load { what: "map PROCESSES".into(), why: "not an array".into() });
        };
        let len = (pid_max.div_ceil(IDS_PER_PAGE) * IDS_PER_PAGE) as usize;
        let states = Mapping::new(map.fd().as_fd(), 0, len, true).map_err(wrap("mapping of PROCESSES"))?;
        Ok(Self { states, _map: map })
    }

    /// Says what is decided about a process.
    pub fn set(&self, tgid: u32, state: ProcessState) {
        if let Some(byte) = self.states.word::<AtomicU8>(tgid as usize) {
            byte.store(state as u8, Ordering::Relaxed);
        }
    }
}
