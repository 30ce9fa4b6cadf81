//! Arrays of the kernel programs whose memory the agent shares: no system call reads or writes them.

use std::borrow::Cow;
use std::os::fd::{AsFd, AsRawFd};
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU8, AtomicU64};

use aya::maps::{Map, MapData};

use super::attach::{ProbeError, wrap};

/// An array, mapped.
pub(super) struct Shared {
    start: NonNull<u8>,
    bytes: usize,
    _map: MapData,
}

impl Shared {
    /// Maps the first bytes of a map that was made to be mapped.
    pub(super) fn new(map: Map, name: &'static str, bytes: usize) -> Result<Self, ProbeError> {
        let Map::Array(map) = map else {
            return Err(ProbeError::Load { what: Cow::Borrowed(name), why: "not an array".into() });
        };
        let start = mmap(map.fd().as_fd().as_raw_fd(), bytes).map_err(wrap(name))?;
        Ok(Self { start, bytes, _map: map })
    }

    /// A byte, `None` past the end.
    #[expect(unsafe_code, reason = "memory shared with the kernel")]
    pub(super) fn byte(&self, index: usize) -> Option<&AtomicU8> {
        if index >= self.bytes {
            return None;
        }
        // SAFETY: within the mapping.
        let byte = unsafe { self.start.cast::<AtomicU8>().add(index) };
        // SAFETY: the mapping lives as long as `self`, and any byte is an `AtomicU8`.
        Some(unsafe { byte.as_ref() })
    }

    /// The 64-bit number of this index, `None` past the end.
    #[expect(unsafe_code, reason = "memory shared with the kernel")]
    pub(super) fn number(&self, index: usize) -> Option<&AtomicU64> {
        if index >= self.bytes / size_of::<u64>() {
            return None;
        }
        // SAFETY: within the mapping.
        let number = unsafe { self.start.cast::<AtomicU64>().add(index) };
        // SAFETY: as above, and aligned, since a mapping begins at a page.
        Some(unsafe { number.as_ref() })
    }
}

impl Drop for Shared {
    #[expect(unsafe_code, reason = "memory shared with the kernel")]
    fn drop(&mut self) {
        // SAFETY: mapped in `new` with this length; no reference outlives `self`.
        unsafe { libc::munmap(self.start.as_ptr().cast(), self.bytes) };
    }
}

#[expect(unsafe_code, reason = "memory shared with the kernel")]
// SAFETY: handed out as atomics only, in memory that any thread may use.
unsafe impl Send for Shared {}

#[expect(unsafe_code, reason = "memory shared with the kernel")]
fn mmap(fd: i32, bytes: usize) -> Result<NonNull<u8>, std::io::Error> {
    let protection = libc::PROT_READ | libc::PROT_WRITE;
    // SAFETY: a new mapping at an address that the kernel chooses.
    let address = unsafe { libc::mmap(std::ptr::null_mut(), bytes, protection, libc::MAP_SHARED, fd, 0) };
    if address == libc::MAP_FAILED {
        return Err(std::io::Error::last_os_error());
    }
    NonNull::new(address.cast()).ok_or_else(|| std::io::Error::other("mapped at zero"))
}
