//! The ring, read.

use std::os::fd::AsRawFd;
use std::time::Duration;

use aya::maps::{Map, MapData, RingBuf};

use super::attach::{ProbeError, wrap};

/// The consumer's end. The kernel side wakes it when much waits; for little it comes by itself now and then.
pub struct Ring {
    ring: RingBuf<MapData>,
}

impl Ring {
    pub(super) fn new(map: Map) -> Result<Self, ProbeError> {
        Ok(Self { ring: RingBuf::try_from(map).map_err(wrap("map RING"))? })
    }

    /// Hands every waiting record to `take`, `most` at a time; how many there were.
    pub fn drain(&mut self, most: usize, mut take: impl FnMut(&[u8])) -> usize {
        let mut taken = 0;
        while taken < most {
            let Some(record) = self.ring.next() else { break };
            take(&record);
            taken += 1;
        }
        taken
    }

    /// Waits until the kernel side wakes the reader, at most this long.
    #[expect(unsafe_code, reason = "poll(2)")]
    pub fn wait(&self, most: Duration) {
        let mut descriptor = libc::pollfd { fd: self.ring.as_raw_fd(), events: libc::POLLIN, revents: 0 };
        let timeout = i32::try_from(most.as_millis()).unwrap_or(i32::MAX);
        // SAFETY: one descriptor that lives through the call. An interrupted wait is a short one.
        unsafe { libc::poll(&raw mut descriptor, 1, timeout) };
    }
}
