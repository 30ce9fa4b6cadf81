//! The ring, read (kernel/bpf/ringbuf.c; Documentation/bpf/ringbuf.rst).
//!
//! aya has a reader too, which maps the ring's data twice, one copy behind the other, so that a record that goes on at the ring's
//! beginning lies in one piece: 4 MiB of resident memory for a ring of 2. One record can go on there, so the second
//! mapping need not be longer than the longest of them.

use std::os::fd::{AsFd, AsRawFd};
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::Duration;

use aya::maps::{Map, MapData};
use sonde_abi::{ChunkHeader, limits};

use super::attach::{ProbeError, wrap};
use super::mapping::Mapping;

/// The consumer's end. The kernel side wakes it when much waits; for little it comes by itself now and then.
pub struct Ring {
    map: MapData,
    /// The page with the consumer's position.
    consumer: Mapping,
    /// The page with the producer's position, the data, and the beginning of the data once more.
    producer: Mapping,
    page: usize,
    /// Up to where the records were taken. The kernel side counts on as if the ring had no end.
    position: u64,
}

/// Before each record: its length in 32 bits with two flags, and 32 bits of the kernel's own (`struct bpf_ringbuf_hdr`).
const HEADER: usize = 8;
/// It is still being written, and so what follows it cannot be read either.
const BUSY: u32 = 1 << 31;
/// Whoever reserved it gave it up.
const DISCARDED: u32 = 1 << 30;

/// The longest record, and what the kernel side leaves free behind it.
const RECORD: usize = ChunkHeader::LEN + limits::LARGE_PIECE + 64;
const SIZE: usize = limits::RING_BYTES as usize;

/// Bytes after which the kernel side is told that they were taken. Its processors read that number for each record: told after each
/// one, it would go to and fro between theirs and this one.
const TOLD_AFTER: u64 = 16 << 10;

impl Ring {
    pub(super) fn new(map: Map) -> Result<Self, ProbeError> {
        const WHAT: &str = "map RING";
        let Map::RingBuf(map) = map else {
            return Err(ProbeError::Load { what: WHAT.into(), why: "not a ring".into() });
        };
        let page = rustix::param::page_size();
        let fd = map.fd().as_fd();
        let consumer = Mapping::new(fd, 0, page, true).map_err(wrap(WHAT))?;
        let length = page + SIZE + (HEADER + RECORD).next_multiple_of(page);
        let producer = Mapping::new(fd, page, length, false).map_err(wrap(WHAT))?;
        let mut ring = Self { map, consumer, producer, page, position: 0 };
        ring.position = ring.consumed().map_or(0, |consumed| consumed.load(Ordering::Acquire));
        Ok(ring)
    }

    /// Hands every waiting record to `take`, `most` at a time; how many there were.
    pub fn drain(&mut self, most: usize, mut take: impl FnMut(&[u8])) -> usize {
        let (mut taken, mut produced, mut told) = (0, self.position, self.position);
        while taken < most {
            if self.position == produced {
                produced = self.produced();
                if self.position == produced {
                    break;
                }
            }
            let at = self.page + (self.position as usize & (SIZE - 1));
            // The writer ends with it, so that what is read behind it is whole.
            let Some(header) = self.producer.word::<AtomicU32>(at) else { break };
            let header = header.load(Ordering::Acquire);
            if header & BUSY != 0 {
                break;
            }
            let length = (header & !DISCARDED) as usize;
            if header & DISCARDED == 0 {
                // A longer one than there can be counts as one that cannot be decoded.
                take(self.record(at + HEADER, length).unwrap_or_default());
                taken += 1;
            }
            self.position += (HEADER + length).next_multiple_of(8) as u64;
            if self.position - told >= TOLD_AFTER {
                self.tell();
                told = self.position;
            }
        }
        if told != self.position {
            self.tell();
        }
        taken
    }

    /// Waits until the kernel side wakes the reader, at most this long.
    #[expect(unsafe_code, reason = "poll(2)")]
    pub fn wait(&self, most: Duration) {
        let fd = self.map.fd().as_fd().as_raw_fd();
        let mut descriptor = libc::pollfd { fd, events: libc::POLLIN, revents: 0 };
        let timeout = i32::try_from(most.as_millis()).unwrap_or(i32::MAX);
        // SAFETY: one descriptor that lives through the call. An interrupted wait is a short one.
        unsafe { libc::poll(&raw mut descriptor, 1, timeout) };
    }

    #[expect(unsafe_code, reason = "memory shared with the kernel")]
    fn record(&self, at: usize, length: usize) -> Option<&[u8]> {
        // SAFETY: a record that is not being written any more stays as it is until `tell` gives its room back, which the slice
        // does not outlive: that takes `self` mutably. The mapping is read-only for this process.
        unsafe { self.producer.bytes(at, length) }
    }

    fn consumed(&self) -> Option<&AtomicU64> {
        self.consumer.word(0)
    }

    fn produced(&self) -> u64 {
        let produced = self.producer.word::<AtomicU64>(0);
        produced.map_or(self.position, |produced| produced.load(Ordering::Acquire))
    }

    /// Gives the room of what was taken back.
    fn tell(&mut self) {
        if let Some(consumed) = self.consumed() {
            consumed.store(self.position, Ordering::Release);
        }
    }
}
