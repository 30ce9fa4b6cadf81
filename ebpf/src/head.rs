//! Where a head ends within a piece that was copied.

use sonde_abi::frames::recognised;
use sonde_abi::{ChunkHeader, chunks, sniff};

use crate::access::{bounded, negative, opaque};

/// Bytes behind a record's payload that may be read (and hold whatever the ring held).
pub const SLACK: usize = 8;

/// Bit 7 of each byte that equals `byte`.
#[inline(always)]
fn equal(word: u64, byte: u8) -> u64 {
    const LOW: u64 = 0x7f7f_7f7f_7f7f_7f7f;
    let odd = word ^ (0x0101_0101_0101_0101 * byte as u64);
    !(((odd & LOW) + LOW) | odd | LOW)
}

/// Bits that are set (the instruction set has no such instruction, and the compiler's own way is no shorter).
#[inline(always)]
fn ones(bits: u64) -> u64 {
    let pairs = bits - (bits >> 1 & 0x5555_5555_5555_5555);
    let nibbles = (pairs & 0x3333_3333_3333_3333) + (pairs >> 2 & 0x3333_3333_3333_3333);
    let bytes = (nibbles + (nibbles >> 4)) & 0x0f0f_0f0f_0f0f_0f0f;
    bytes.wrapping_mul(0x0101_0101_0101_0101) >> 56
}

/// Makes the verifier forget what it knows of a number, by a trip through the header of a record, which is not written yet:
/// it would follow every single value that a loop can end with.
#[inline(always)]
pub fn forget(record: *mut u8, number: u64) -> u64 {
    let header = record.cast::<u64>();
    // SAFETY: a record begins with its header, which is aligned and larger than this.
    unsafe {
        header.write_volatile(number);
        header.read_volatile()
    }
}

/// Payload of a record, of which `N` bytes may be read.
#[derive(Clone, Copy)]
pub struct Piece<const N: usize> {
    /// First byte.
    pub at: *const u8,
    /// Bytes that were copied, at most `N`.
    pub len: usize,
}

impl<const N: usize> Piece<N> {
    /// The piece with a length that the verifier knows nothing of: looking at it bounds the length again and again, and each
    /// bound that is carried along makes another path.
    #[inline(always)]
    pub fn forgetting(self) -> Self {
        // SAFETY: the payload stands right behind the header, which is not written yet.
        let header = unsafe { self.at.sub(ChunkHeader::LEN).cast_mut() };
        Self { at: self.at, len: forget(header, self.len as u64) as usize }
    }

    /// The byte at `i`, 0 past the end.
    #[inline(always)]
    fn byte(&self, i: usize) -> u8 {
        if i >= self.len {
            return 0;
        }
        // A mask, since before 6.3 the verifier forgets what was compared where the number passes through the stack.
        let i = opaque(i as u64) & (N as u64 - 1);
        // SAFETY: below `N`, a power of two, which the record was reserved with.
        unsafe { self.at.add(i as usize).read() }
    }

    /// Whether the piece ends with an empty line.
    #[inline(always)]
    pub fn ends_head(&self) -> bool {
        let len = self.len;
        if len < 4 || len > N {
            return false;
        }
        // SAFETY: the last four of `len` bytes.
        unsafe { self.at.add(len - 4).cast::<u32>().read_unaligned() == u32::from_le_bytes(*b"\r\n\r\n") }
    }

    /// Offset behind the first empty line, 0 where the piece holds none or cuts it.
    ///
    /// Looks for a line end with a CR behind it, in blocks of 64 bytes and one branch each: the verifier follows every branch.
    /// A head whose lines end in bare LF is not found; more of it is copied than need be, and the agent's parser sees its
    /// end. Apart, for its registers.
    #[inline(always)]
    pub fn head_end(self) -> usize {
        let mut from = 0;
        while from < N && from < self.len {
            let mut map = 0;
            let mut word = 0;
            while word < 8 {
                // The product moves bit 7 of the eight bytes into one byte, in order.
                let found =
                    (self.empty_lines(from + word * 8) >> 7).wrapping_mul(0x0102_0408_1020_4080) >> 56;
                map |= found << (word * 8);
                word += 1;
            }
            if map != 0 {
                let lowest = map.isolate_lowest_one();
                // LF, CR, LF.
                let end = from + ones(lowest.wrapping_sub(1)) as usize + 3;
                // SAFETY: the payload stands right behind the header, which is not written yet.
                let header = unsafe { self.at.sub(ChunkHeader::LEN).cast_mut() };
                let end = forget(header, end as u64) as usize;
                return if end <= self.len { end } else { 0 };
            }
            from += 64;
        }
        0
    }

    /// For each of the eight bytes from `at`: bit 7 set where it is LF and the next is CR.
    #[inline(always)]
    fn empty_lines(&self, at: usize) -> u64 {
        // Aligned loads: the compiler would put an unaligned one together from bytes.
        // SAFETY: `at + 8 <= N`, records have [`SLACK`] bytes behind the payload, and it begins at a multiple of eight.
        let (these, after) =
            unsafe { (self.at.add(at).cast::<u64>().read(), self.at.add(at + 8).cast::<u64>().read()) };
        let next = these >> 8 | after << 56;
        equal(these, b'\n') & equal(next, b'\r')
    }

    /// Whether a chunk's size line stands at `at`, all of it; or, where `switched` is not 0, a frame of HTTP/2.
    #[inline(always)]
    pub fn goes_on_at(&self, at: u64, switched: u64) -> bool {
        if at > (N - sniff::LOOK) as u64 {
            return false;
        }
        // Masks, since 6.12 loses what was compared.
        let mask = N as u64 - 1;
        let (low, high) = (self.word_at(opaque(at) & mask), self.word_at(opaque(at + 8) & mask));
        let line = chunks::line(low, high, &opaque);
        // What stands behind the piece is another record's: a line that goes on there is none.
        let chunk = negative((at + line.octets).wrapping_sub(self.len as u64 + 1)) & !line.bad.wrapping_neg();
        let frame = u64::from(recognised(&[low, high], self.len.wrapping_sub(at as usize), &opaque));
        opaque(if switched == 0 { chunk } else { frame.wrapping_neg() }) != 0
    }

    /// The last eight bytes.
    #[inline(always)]
    pub fn last(&self) -> u64 {
        self.word_at(bounded((self.len as u64).wrapping_sub(8), (N - 8) as u64))
    }

    /// The eight bytes from `at` on, at most `N - 8`.
    #[inline(always)]
    fn word_at(&self, at: u64) -> u64 {
        // SAFETY: aligned, and within the payload and its slack.
        let [these, next] = unsafe { self.at.add((at & !7) as usize).cast::<[u64; 2]>().read_volatile() };
        sniff::behind(these, next, at & 7)
    }

    /// Whether another request seems to begin at `from`: three upper-case letters.
    #[inline(always)]
    pub fn request_at(&self, from: usize) -> bool {
        self.byte(from).is_ascii_uppercase()
            && self.byte(from + 1).is_ascii_uppercase()
            && self.byte(from + 2).is_ascii_uppercase()
    }
}
