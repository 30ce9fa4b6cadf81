//! The ring, read (kernel/bpf/ringbuf.c; Documentation/bpf/ringbuf.rst).
//!
//! aya has a reader too, which maps the ring's data twice, one copy behind the other, so that a record that goes on at the ring's
//! beginning lies in one piece: 4 MiB of resident memory for a ring of 2. One record can go on there, so the second
//! mapping need not be longer than the longest of them.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::Duration;

use aya::maps::{Map, MapData};
use sonde_abi::{ChunkHeader, limits};

use super::error::{ProbeError, wrap};
use super::mapping::Mapping;

/// The consumer's end. The kernel side wakes it when much waits; for little it comes by itself now and then.
pub struct Ring {
    map: MapData,
    reader: Reader,
}

/// Before each record: its length in 32 bits with two flags, and 32 bits of the kernel's own (`struct bpf_ringbuf_hdr`).
const HEADER: usize = 8;
/// It is still being written, and so what follows it cannot be read either.
const BUSY: u32 = 1 << 31;
/// Whoever reserved it gave it up.
const DISCARDED: u32 = 1 << 30;

/// The longest record, and what the kernel side leaves free behind it.
const RECORD: usize = ChunkHeader::LEN + limits::LARGE_PIECE + 64;
/// A record with its header.
const LONGEST: usize = HEADER + RECORD;
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
        let reader = Reader::new(map.fd().as_fd()).map_err(wrap(WHAT))?;
        Ok(Self { map, reader })
    }

    /// Hands every waiting record to `take`, `most` at a time; how many there were.
    pub fn drain(&mut self, most: usize, take: impl FnMut(&[u8])) -> usize {
        self.reader.drain(most, take)
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
}

/// What of the ring is mapped.
struct Reader {
    /// The page with the consumer's position.
    consumer: Mapping,
    /// The page with the producer's position, the data, and the beginning of the data once more.
    producer: Mapping,
    page: usize,
    /// Up to where the records were taken. The kernel side counts on as if the ring had no end.
    position: u64,
}

impl Reader {
    fn new(ring: BorrowedFd<'_>) -> io::Result<Self> {
        let page = rustix::param::page_size();
        let consumer = Mapping::new(ring, 0, page, true)?;
        let producer = Mapping::new(ring, page, page + SIZE + LONGEST.next_multiple_of(page), false)?;
        let mut reader = Self { consumer, producer, page, position: 0 };
        reader.position = reader.consumed().map_or(0, |consumed| consumed.load(Ordering::Acquire));
        Ok(reader)
    }

    fn drain(&mut self, most: usize, mut take: impl FnMut(&[u8])) -> usize {
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

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::os::unix::fs::FileExt;

    use super::*;

    /// A file that lies as the kernel's ring does, and what the kernel's side of it would do.
    struct Fake {
        file: File,
        page: u64,
        position: u64,
    }

    impl Fake {
        fn new(position: u64) -> Self {
            let file = File::from(rustix::fs::memfd_create("ring", rustix::fs::MemfdFlags::CLOEXEC).unwrap());
            let page = rustix::param::page_size() as u64;
            file.set_len(2 * page + 2 * SIZE as u64).unwrap();
            file.write_all_at(&position.to_ne_bytes(), 0).unwrap();
            file.write_all_at(&position.to_ne_bytes(), page).unwrap();
            Self { file, page, position }
        }

        /// Where a place of the ring is in the file, and where it is once more.
        fn write(&self, position: u64, bytes: &[u8]) {
            for (index, byte) in bytes.iter().enumerate() {
                let at = 2 * self.page + ((position + index as u64) & (SIZE as u64 - 1));
                self.file.write_all_at(&[*byte], at).unwrap();
                self.file.write_all_at(&[*byte], at + SIZE as u64).unwrap();
            }
        }

        fn put(&mut self, record: &[u8], flags: u32) {
            let header = u32::try_from(record.len()).unwrap() | flags;
            self.write(self.position, &header.to_ne_bytes());
            self.write(self.position + HEADER as u64, record);
            self.position += (HEADER + record.len()).next_multiple_of(8) as u64;
            self.file.write_all_at(&self.position.to_ne_bytes(), self.page).unwrap();
        }

        fn told(&self) -> u64 {
            let mut bytes = [0; 8];
            self.file.read_exact_at(&mut bytes, 0).unwrap();
            u64::from_ne_bytes(bytes)
        }
    }

    fn drained(reader: &mut Reader, most: usize) -> Vec<Vec<u8>> {
        let mut records = Vec::new();
        let taken = reader.drain(most, |record| records.push(record.to_vec()));
        assert_eq!(taken, records.len());
        records
    }

    #[test]
    fn records_come_whole_and_in_order_also_over_the_end() {
        // As long a record as there can be begins shortly before the end of the ring, in the third time round.
        let mut fake = Fake::new(3 * SIZE as u64 - 24);
        let mut reader = Reader::new(fake.file.as_fd()).unwrap();
        let long: Vec<u8> = (0..RECORD).map(|at| (at % 251) as u8).collect();
        assert_eq!(drained(&mut reader, 9), Vec::<Vec<u8>>::new());
        fake.put(b"abc", 0);
        fake.put(&long, 0);
        fake.put(b"", 0);
        assert_eq!(drained(&mut reader, 9), [b"abc".to_vec(), long, Vec::new()]);
        assert_eq!(fake.told(), fake.position);
    }

    #[test]
    fn what_is_being_written_holds_up_the_rest_and_what_was_given_up_does_not() {
        let mut fake = Fake::new(0);
        let mut reader = Reader::new(fake.file.as_fd()).unwrap();
        fake.put(b"gone", DISCARDED);
        fake.put(b"one", 0);
        let busy = fake.position;
        fake.put(b"two", BUSY);
        fake.put(b"three", 0);
        assert_eq!(drained(&mut reader, 9), [b"one"]);
        assert_eq!(fake.told(), busy);
        fake.write(busy, &3_u32.to_ne_bytes());
        assert_eq!(drained(&mut reader, 1), [b"two"]);
        assert_eq!(drained(&mut reader, 1), [b"three"]);
        assert_eq!(fake.told(), fake.position);
    }

    #[test]
    fn room_is_given_back_on_the_way() {
        let mut fake = Fake::new(0);
        let mut reader = Reader::new(fake.file.as_fd()).unwrap();
        (0..8).for_each(|_| fake.put(&[7; 8192], 0));
        let mut told = Vec::new();
        reader.drain(9, |_| told.push(fake.told()));
        let each = (HEADER + 8192) as u64;
        assert_eq!(told, [0, 0, 2 * each, 2 * each, 4 * each, 4 * each, 6 * each, 6 * each]);
    }

    #[test]
    fn a_longer_record_than_there_can_be_is_none() {
        let mut fake = Fake::new(SIZE as u64 - 64);
        let mut reader = Reader::new(fake.file.as_fd()).unwrap();
        fake.put(&[7; 2 * RECORD], 0);
        fake.put(b"next", 0);
        assert_eq!(drained(&mut reader, 9), [b"".to_vec(), b"next".to_vec()]);
    }
}
