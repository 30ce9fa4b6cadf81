//! Size lines of the chunked coding (RFC 9112, section 7.1), as far as the kernel side reads them: how far it is to the next.
//! Without branches, as [`crate::frames`].

use crate::masks::zero;
use crate::sniff::{HIGH, ONES, behind, within};

const LINE_END: u64 = u16::from_le_bytes(*b"\r\n") as u64;

/// What a line says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Line {
    /// Its octets, with those of the line end before it, where one comes first, and of its own.
    pub octets: u64,
    /// Octets of the chunk, 0 of the last one.
    pub size: u64,
    /// 1: it is no such line, or one with extensions, or with more than seven digits.
    pub bad: u64,
}

/// Reads the line that begins with sixteen bytes, given as two little-endian numbers, or behind a line end that does. `hide` as
/// in [`crate::frames`].
#[inline(always)]
#[must_use]
pub fn line(low: u64, high: u64, hide: &impl Fn(u64) -> u64) -> Line {
    let before = zero(low & 0xffff ^ LINE_END, hide) * 2;
    let (low, high) = (behind(low, high, before), behind(high, 0, before));
    let others = !hexadecimal(low) & HIGH;
    // Every bit below the first byte that is no digit, and those of that byte but the highest.
    let until = hide(others.isolate_lowest_one()).wrapping_sub(1);
    let digits = ((until & ONES).wrapping_mul(ONES) >> 56).wrapping_sub(1) & 7;
    let size = value(low << 1 << (63 - digits * 8));
    let ends = zero(behind(low, high, digits) & 0xffff ^ LINE_END, hide);
    let bad = (1 - ends) | zero(digits, hide) | zero(others >> 1, hide);
    Line { octets: before + digits + 2, size, bad: bad & 1 }
}

/// Bit 7 of each byte that is a hexadecimal digit.
#[inline(always)]
const fn hexadecimal(word: u64) -> u64 {
    within(word, b'0', b'9') | within(word, b'A', b'F') | within(word, b'a', b'f')
}

/// The number that hexadecimal digits say, the last of them in the highest byte, zeros before the first.
#[inline(always)]
const fn value(digits: u64) -> u64 {
    let nibbles = (digits & (ONES * 0xf)) + (digits >> 6 & ONES) * 9;
    let bytes = (nibbles & 0x00ff_00ff_00ff_00ff) << 4 | nibbles >> 8 & 0x00ff_00ff_00ff_00ff;
    let pairs = (bytes & 0x0000_ffff_0000_ffff) << 8 | bytes >> 16 & 0x0000_ffff_0000_ffff;
    (pairs & 0xffff_ffff) << 16 | pairs >> 32
}

#[cfg(test)]
mod tests {
    extern crate std;
    use super::*;
    use std::format;

    fn read(text: &[u8]) -> Line {
        let mut first = [b'\r'; 16];
        first[..text.len().min(16)].copy_from_slice(&text[..text.len().min(16)]);
        let word = |at: usize| u64::from_le_bytes(first[at..at + 8].try_into().unwrap());
        line(word(0), word(8), &core::convert::identity)
    }

    #[test]
    fn lines_are_read() {
        let sizes = (0..300).chain([0xfff, 0x1000, 0xa_bcde, 0xff_ffff, 0xfff_ffff, 0x123_4567]);
        for size in sizes {
            for text in [format!("{size:x}"), format!("{size:X}"), format!("{size:07x}")] {
                for before in ["", "\r\n"] {
                    let text = format!("{before}{text}\r\n");
                    let octets = text.len() as u64;
                    for rest in ["", "abcdefgh", "\r\n\r\n", "00000000"] {
                        let text = format!("{text}{rest}");
                        assert_eq!(read(text.as_bytes()), Line { octets, size, bad: 0 }, "{text:?}");
                    }
                }
            }
        }
    }

    #[test]
    fn what_is_no_line() {
        for text in [
            "",
            "\r\n",
            "\r\n\r\n",
            "5",
            "5\n",
            "5;a=b\r\n",
            " 5\r\n",
            "5 \r\n",
            "-5\r\n",
            "0x5\r\n",
            "g\r\n",
            "12345678\r\n",
            "\r\n12345678\r\n",
            "HTTP/1.1 200 OK",
            "ab: cd\r\n",
            "\n5\r\n",
            "{\"a\": 1}\r\n",
        ] {
            assert_eq!(read(text.as_bytes()).bad, 1, "{text:?}");
        }
        // Bytes above 0x7f are no digits, whatever their other bits.
        assert_eq!(read(b"\xb5\r\n").bad, 1);
        assert_eq!(read(b"5\x8d\n").bad, 1);
    }
}
