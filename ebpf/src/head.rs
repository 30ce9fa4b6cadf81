//! Where a head ends within a piece that was copied. Eight bytes at a time: most words hold no line end.

use sonde_abi::limits::PIECE;

/// Payload of a record, of which `N` bytes may be read.
#[derive(Clone, Copy)]
pub struct Piece<const N: usize> {
    /// First byte.
    pub at: *const u8,
    /// Bytes that were copied, at most `N`.
    pub len: usize,
}

impl<const N: usize> Piece<N> {
    /// The byte at `i`, 0 past the end.
    #[inline(always)]
    fn byte(&self, i: usize) -> u8 {
        if i >= N || i >= self.len {
            return 0;
        }
        // SAFETY: below `N`, which the record was reserved with.
        unsafe { self.at.add(i).read() }
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

    /// Offset behind the first empty line, if the piece holds one that it does not cut.
    #[inline(always)]
    pub fn head_end(&self) -> Option<usize> {
        const ONES: u64 = 0x0101_0101_0101_0101;
        const HIGH: u64 = 0x8080_8080_8080_8080;
        let mut word = 0;
        while word < PIECE / 8 {
            let from = word * 8;
            if from + 8 > N || from >= self.len {
                break;
            }
            // SAFETY: eight bytes below `N`.
            let bytes = unsafe { self.at.add(from).cast::<u64>().read_unaligned() };
            let odd = bytes ^ (ONES * b'\n' as u64);
            let found = odd.wrapping_sub(ONES) & !odd & HIGH;
            if found != 0 {
                if let Some(end) = self.empty_line(from, found) {
                    return Some(end);
                }
            }
            word += 1;
        }
        None
    }

    /// Looks behind each line end of a word for another one.
    #[inline(always)]
    fn empty_line(&self, from: usize, found: u64) -> Option<usize> {
        let mut i = 0;
        while i < 8 {
            if found >> (i * 8) & 0x80 != 0 {
                let next = self.byte(from + i + 1);
                if next == b'\n' {
                    return Some(from + i + 2);
                }
                if next == b'\r' && self.byte(from + i + 2) == b'\n' {
                    return Some(from + i + 3);
                }
            }
            i += 1;
        }
        None
    }

    /// Whether another request seems to begin at `from`: three upper-case letters.
    #[inline(always)]
    pub fn request_at(&self, from: usize) -> bool {
        self.byte(from).is_ascii_uppercase()
            && self.byte(from + 1).is_ascii_uppercase()
            && self.byte(from + 2).is_ascii_uppercase()
    }
}
