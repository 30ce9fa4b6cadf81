//! A call on its way through the ring: its bytes, taken piece by piece from the process's buffers, and what is sent of them.

use core::hint::cold_path;

use aya_ebpf::helpers::generated::{bpf_probe_read_user, bpf_ringbuf_output};
use sonde_abi::limits::FRAMES_PIECE;
use sonde_abi::record::flags;
use sonde_abi::settings::KernelCounter;
use sonde_abi::sniff::{LOOK, behind};
use sonde_abi::{ChunkHeader, Direction};

use crate::access::{least, negative};
use crate::emit;
use crate::maps::{RING, WORK, count};
use crate::user::{self, Buffer, ONE, Source};

/// A number below this is an offset into a piece.
pub(super) const MASK: u64 = FRAMES_PIECE as u64;
/// Bytes before a piece that may belong to its first header.
pub(super) const BEFORE: u64 = 8;
/// Bits of a length that any buffer can have.
const LONGEST: u64 = (1 << 48) - 1;

const _: () = assert!((FRAMES_PIECE + 1).is_power_of_two());

/// A place in a call's source: a buffer, how much of it has been passed, and how much more is to be.
#[repr(C)]
#[derive(Clone, Copy)]
pub(super) struct Place {
    pub(super) index: u64,
    pub(super) passed: u64,
    pub(super) skip: u64,
}

impl Place {
    /// Becomes another one where `mask` is all ones.
    #[inline(always)]
    pub(super) fn choose(&mut self, mask: u64, other: Self) {
        self.index = self.index & !mask | other.index & mask;
        self.passed = self.passed & !mask | other.passed & mask;
        self.skip = self.skip & !mask | other.skip & mask;
    }
}

/// A call on its way through the ring.
#[repr(C)]
pub struct Work {
    pub(super) source: Source,
    /// Where in it the next bytes are.
    pub(super) at: Place,
    /// Bytes of the call that are not sent yet.
    pub(super) left: u64,
    /// Pieces that were sent.
    pub(super) pieces: u64,
    /// Not 0: long contents come next, of which only parts are copied.
    pub(super) run: u64,
    /// Where in the source something began that may have to be looked at again.
    pub(super) mark: Place,
    /// For [`Self::forget`].
    nothing: u64,
    /// What is sent: its position is that of the next piece.
    pub record: ChunkHeader,
    /// Room for twice the bytes: the verifier does not see that offset and length together stay below them.
    pub(super) piece: [u64; 2 * (FRAMES_PIECE + 1) / 8],
}

/// The place for a call's work. One for each direction: programs for the two may be put aside for one another.
#[inline(always)]
pub fn work(direction: Direction) -> Option<*mut Work> {
    WORK.get_ptr_mut(direction as u32)
}

impl Work {
    /// Takes on a call that moved `length` bytes behind `skip` that were sent; the record's header is still to be filled in.
    #[inline(always)]
    pub fn begin(&mut self, source: Source, length: u64, skip: u64) {
        self.source = source;
        self.at = Place { index: 0, passed: 0, skip };
        self.left = length;
        self.pieces = 0;
        self.run = 0;
        self.record.tail = [0; 8];
    }

    /// Copies the first bytes of a call of at least as many from a plain buffer, and says how many.
    #[inline(always)]
    pub(super) fn open(&mut self, length: u64) -> u64 {
        if self.source.count != ONE || length < LOOK as u64 {
            return 0;
        }
        let Some([low, high]) = user::read::<[u64; 2]>(self.source.address.wrapping_add(self.at.skip)) else {
            return 0;
        };
        let [first, second, ..] = &mut self.piece;
        (*first, *second) = (low, high);
        LOOK as u64
    }

    /// Copies what comes next in the buffer under way, at most `most` bytes, to a place in the piece. Returns how many, and all ones,
    /// or 0 where it could not be read.
    #[inline(always)]
    pub(super) fn take(&mut self, to: u64, most: u64) -> (u64, u64) {
        let plain = negative(self.source.count);
        let at = self.source.address.wrapping_add((self.at.index & !plain) * size_of::<Buffer>() as u64);
        let mut buffer = Buffer { base: 0, len: 0 };
        // Of a plain buffer its first bytes, which are not used.
        // SAFETY: writes exactly the size of a buffer; the helper checks the address.
        unsafe { bpf_probe_read_user((&raw mut buffer).cast(), size_of::<Buffer>() as u32, at as *const _) };
        let base = self.source.address & plain | buffer.base & !plain;
        let len = (plain | buffer.len) & LONGEST;
        let left = len.wrapping_sub(self.at.passed);
        let left = left & !negative(left);
        let skip = least(self.at.skip, left);
        let part = least(left - skip, most) & MASK;
        let from = base.wrapping_add(self.at.passed).wrapping_add(skip);
        // SAFETY: at most `MASK` bytes into the piece, and at most as many more; the helper checks the address.
        let failed = unsafe {
            let to = (&raw mut self.piece).cast::<u8>().add((to & MASK) as usize);
            bpf_probe_read_user(to.cast(), (part & MASK) as u32, from as *const _)
        };
        let read = !negative(failed.cast_unsigned());
        let part = part & read;
        self.at.skip = self.at.skip.wrapping_sub(skip);
        // All ones where nothing of the buffer is left.
        let used = negative((left - skip - part).wrapping_sub(1));
        self.at.index = self.at.index.wrapping_sub(used);
        self.at.passed = self.at.passed.wrapping_add(skip).wrapping_add(part) & !used;
        (part, read)
    }

    /// The eight bytes at an offset from [`BEFORE`] the piece, and behind them the rest of a word.
    #[inline(always)]
    pub(super) fn word_at(&self, offset: u64) -> (u64, u64) {
        // SAFETY: aligned, within the end of the header and the piece behind it.
        let (these, after) = unsafe {
            let from = self.before().byte_add((offset & (2 * MASK) & !7) as usize);
            (from.read_volatile(), from.add(1).read_volatile())
        };
        (behind(these, after, offset & 7), behind(after, 0, offset & 7))
    }

    /// The last eight bytes of the header, before the piece.
    #[inline(always)]
    fn before(&self) -> *const u64 {
        let end = size_of::<ChunkHeader>() - BEFORE as usize;
        // SAFETY: within the header, which is aligned as this is.
        unsafe { (&raw const self.record).byte_add(end).cast() }
    }

    /// Puts a word in their place, and returns what stood there.
    #[inline(always)]
    pub(super) fn put_before(&mut self, word: u64) -> u64 {
        let place = self.before().cast_mut();
        // SAFETY: as above.
        unsafe { core::mem::replace(&mut *place, word) }
    }

    /// Sends a record of the next `length` bytes, of which `captured` are in the piece. `behind`: where the call ends, from the
    /// beginning of the buffer under way. `parts`: [`flags::PARTS`] where the piece holds some.
    #[inline(always)]
    pub(super) fn send(&mut self, length: u64, captured: u64, behind: u64, parts: u16) {
        const ANNOUNCED: u16 = flags::NEW_PROCESS | flags::FORKED;
        self.left = self.left.wrapping_sub(length);
        self.pieces += 1;
        let size = size_of::<ChunkHeader>() as u64 + (captured & MASK);
        let announced = self.record.flags & ANNOUNCED;
        let continues = u64::from(flags::CONTINUES) & negative(self.left.wrapping_neg());
        self.record.flags =
            self.record.flags & !(flags::CONTINUES | flags::TAIL | flags::PARTS) | continues as u16 | parts;
        if self.left == 0 && length > captured + 7 && self.record.flags & flags::PARTS == 0 {
            // The end of a body may be seen there.
            if let Some(tail) = user::tail(self.source, self.at.index, behind) {
                self.record.tail = tail.to_ne_bytes();
                self.record.flags |= flags::TAIL;
            }
        }
        self.record.length = length as u32;
        self.record.captured = captured as u32;
        let wake = emit::wake(size, announced);
        // SAFETY: header and piece stand one behind the other.
        let failed = unsafe {
            bpf_ringbuf_output((&raw const RING).cast_mut().cast(), (&raw mut self.record).cast(), size, wake)
        };
        if failed != 0 {
            cold_path();
            count(KernelCounter::RingFull);
        }
        self.record.flags &= !ANNOUNCED;
        self.record.position += length;
    }

    /// The same number, of which the verifier knows nothing.
    #[inline(always)]
    pub(super) fn forget(&mut self, number: u64) -> u64 {
        let place = &raw mut self.nothing;
        // SAFETY: a field.
        unsafe {
            place.write_volatile(number);
            place.read_volatile()
        }
    }
}
