//! What the agent decided about each process: a byte for each id, in memory shared with the kernel programs.

use std::sync::atomic::Ordering;

use aya::maps::Map;
use sonde_abi::ProcessState;

use super::attach::ProbeError;
use super::shared::Shared;

/// The states. Each is one byte and written whole, so no lock is needed beside the kernel programs.
pub struct ProcessStates {
    states: Shared,
}

impl ProcessStates {
    pub(super) fn new(map: Map, pid_max: u32) -> Result<Self, ProbeError> {
        let bytes = (pid_max.div_ceil(4096) as usize) * 4096;
        Ok(Self { states: Shared::new(map, "map PROCESSES", bytes)? })
    }

    /// Says what is decided about a process.
    pub fn set(&self, tgid: u32, state: ProcessState) {
        if let Some(byte) = usize::try_from(tgid).ok().and_then(|index| self.states.byte(index)) {
            byte.store(state as u8, Ordering::Relaxed);
        }
    }
}
