//! What the agent decided about each process: a byte for each id, in memory shared with the kernel programs.

use std::os::fd::{AsFd, AsRawFd};
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU8, Ordering};

use aya::maps::{Map, MapData};
use sonde_abi::ProcessState;

use super::attach::{ProbeError, wrap};

/// The states, mapped. Each is one byte and written whole, so no lock is needed beside the kernel programs.
pub struct ProcessStates {
    states: NonNull<AtomicU8>,
    len: usize,
    _map: MapData,
}

impl ProcessStates {
    pub(super) fn new(map: Map, pid_max: u32) -> Result<Self, ProbeError> {
        let Map::Array(map) = map else {
            return Err(ProbeError::Load { what: "map PROCESSES".into(), why: "not an array".into() });
        };
        let len = (pid_max.div_ceil(4096) as usize) * 4096;
        let states = mmap(map.fd().as_fd().as_raw_fd(), len).map_err(wrap("mapping of PROCESSES"))?;
        Ok(Self { states, len, _map: map })
    }

    /// Says what is decided about a process.
    pub fn set(&self, tgid: u32, state: ProcessState) {
        if let Some(byte) = self.byte(tgid) {
            byte.store(state as u8, Ordering::Relaxed);
        }
    }

    #[expect(unsafe_code, reason = "memory shared with the kernel")]
    fn byte(&self, tgid: u32) -> Option<&AtomicU8> {
        let index = usize::try_from(tgid).ok().filter(|index| *index < self.len)?;
        // SAFETY: the mapping has `len` bytes.
        let byte = unsafe { self.states.add(index) };
        // SAFETY: the mapping lives as long as `self`, and any byte is an `AtomicU8`.
        Some(unsafe { byte.as_ref() })
    }
}

impl Drop for ProcessStates {
    #[expect(unsafe_code, reason = "memory shared with the kernel")]
    fn drop(&mut self) {
        // SAFETY: mapped in `new` with this length; no reference outlives `self`.
        unsafe { libc::munmap(self.states.as_ptr().cast(), self.len) };
    }
}

#[expect(unsafe_code, reason = "memory shared with the kernel")]
// SAFETY: atomics in memory that any thread may use.
unsafe impl Send for ProcessStates {}

#[expect(unsafe_code, reason = "memory shared with the kernel")]
fn mmap(fd: i32, len: usize) -> Result<NonNull<AtomicU8>, std::io::Error> {
    let protection = libc::PROT_READ | libc::PROT_WRITE;
    // SAFETY: a new mapping at an address that the kernel chooses.
    let address = unsafe { libc::mmap(std::ptr::null_mut(), len, protection, libc::MAP_SHARED, fd, 0) };
    if address == libc::MAP_FAILED {
        return Err(std::io::Error::last_os_error());
    }
    NonNull::new(address.cast()).ok_or_else(|| std::io::Error::other("mapped at zero"))
}
