//! What the first bytes of a run say. Bounded, without a table, and small enough for the kernel's verifier.
//!
//! HTTP/1.1 message syntax: RFC 9112, sections 3 (request line) and 4 (status line).

/// Bytes that [`http1`] looks at.
pub const LOOK: usize = 16;

/// What a run begins with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Start {
    /// A method and a space.
    Request,
    /// `HTTP/1.`
    Response,
    /// Too few bytes to tell, and nothing speaks against it yet.
    Short,
    /// Not HTTP/1.
    Other,
}

/// One in each byte.
pub(crate) const ONES: u64 = 0x0101_0101_0101_0101;
/// Bit 7 of each byte.
pub(crate) const HIGH: u64 = 0x8080_8080_8080_8080;

/// Looks at the first bytes of a run, `len` of which are valid (more than [`LOOK`] is the same as [`LOOK`]).
///
/// A request is a token of upper-case letters, digits, `-` or `_` that begins with a letter, shorter than [`LOOK`] (every
/// registered method but `BASELINE-CONTROL` and `UPDATEREDIRECTREF`, and the extension methods seen in the wild), and a
/// space. That is less than a parser asks for, and enough to decide about copying. Without loops, since the verifier follows every way through them: eight bytes at a time, in bit 7 of each.
#[inline(always)]
#[must_use]
pub fn http1(first: &[u64; 2], len: usize) -> Start {
    const VERSION: u64 = u64::from_le_bytes(*b"HTTP/1.\0");
    let [low, high] = [u64::from_le(first[0]), u64::from_le(first[1])];
    if len == 0 {
        return Start::Short;
    }
    let compared = valid(if len < 7 { len } else { 7 });
    if (low ^ VERSION) & compared == 0 {
        return if len < 7 { Start::Short } else { Start::Response };
    }
    let begins = letters(low) & 0x80 != 0;
    if !begins {
        return Start::Other;
    }
    let ends = !token(low) & HIGH & valid(len);
    if ends != 0 {
        return after_token(low, ends);
    }
    if len <= 8 {
        return Start::Short;
    }
    let ends = !token(high) & HIGH & valid(len - 8);
    if ends != 0 {
        return after_token(high, ends);
    }
    if len < LOOK { Start::Short } else { Start::Other }
}

/// 1 where a response's first bytes have the status 101 (RFC 9110, section 15.2.2).
#[inline(always)]
#[must_use]
pub fn switches(first: &[u64; 2]) -> u64 {
    const STATUS: u64 = u32::from_le_bytes(*b" 101") as u64;
    ((u64::from_le(first[1]) & 0xffff_ffff) ^ STATUS).wrapping_sub(1) >> 63
}

/// [`http1`] for bytes in a slice.
#[must_use]
pub fn http1_bytes(bytes: &[u8]) -> Start {
    let mut first = [0; LOOK];
    for (to, from) in first.iter_mut().zip(bytes) {
        *to = *from;
    }
    let (low, high) = first.split_at(8);
    let half = |half: &[u8]| half.first_chunk().map_or(0, |half| u64::from_ne_bytes(*half));
    http1(&[half(low), half(high)], bytes.len())
}

/// All bits of the first `len` bytes.
#[inline(always)]
const fn valid(len: usize) -> u64 {
    if len >= 8 { u64::MAX } else { (1 << (len * 8)) - 1 }
}

/// What the first byte that is not part of the token says.
#[inline(always)]
const fn after_token(word: u64, ends: u64) -> Start {
    let spaces = word ^ (ONES * b' ' as u64);
    let first = ends.isolate_lowest_one();
    // The byte is zero in `spaces` where it is a space: bit 7 after adding 0x7f tells, the byte's own bit 7 included.
    let others = (spaces & !HIGH).wrapping_add(!HIGH) | spaces;
    if others & first == 0 { Start::Request } else { Start::Other }
}

/// Bytes that a method may hold.
#[inline(always)]
const fn token(word: u64) -> u64 {
    letters(word) | within(word, b'0', b'9') | within(word, b'-', b'-') | within(word, b'_', b'_')
}

#[inline(always)]
const fn letters(word: u64) -> u64 {
    within(word, b'A', b'Z')
}

/// Eight of sixteen little-endian bytes, given as two numbers, from the one with this number on, which is below eight.
#[inline(always)]
#[must_use]
pub const fn behind(low: u64, high: u64, bytes: u64) -> u64 {
    low >> (bytes * 8) | high << 1 << (63 - bytes * 8)
}

/// Bytes from `least` to `most`, both below 0x7f.
#[inline(always)]
pub(crate) const fn within(word: u64, least: u8, most: u8) -> u64 {
    // With bit 7 set, no subtraction borrows from the next byte.
    let word_high = word | HIGH;
    let from = word_high.wrapping_sub(ONES * least as u64);
    let past = word_high.wrapping_sub(ONES * (most as u64 + 1));
    from & !past & !word & HIGH
}

#[cfg(test)]
mod tests {
    use super::{Start, http1_bytes, switches};

    fn look(bytes: &[u8]) -> Start {
        http1_bytes(bytes)
    }

    #[test]
    fn requests() {
        for text in [
            "GET / HTTP/1.1",
            "POST /a",
            "OPTIONS * HTTP/1.1",
            "GET http://a/",
            "CONNECT h:1",
            "M-SEARCH * ",
            "X /",
        ] {
            assert_eq!(look(text.as_bytes()), Start::Request, "{text}");
        }
        for text in ["VERSION-CONTROL /", "PROPPATCH /x", "UPDATE_2 /"] {
            assert_eq!(look(text.as_bytes()), Start::Request, "{text}");
        }
    }

    #[test]
    fn responses() {
        for text in ["HTTP/1.1 200 OK", "HTTP/1.0 404", "HTTP/1."] {
            assert_eq!(look(text.as_bytes()), Start::Response, "{text}");
        }
    }

    #[test]
    fn responses_that_switch() {
        let is_switch = |text: &[u8; 16]| {
            let (low, high) = text.split_at(8);
            switches(&[low, high].map(|half| u64::from_ne_bytes(half.try_into().unwrap())))
        };
        for text in [b"HTTP/1.1 101 Swi", b"HTTP/1.0 101 \r\nU", b"HTTP/1.1 101\r\n\r\n"] {
            assert_eq!(is_switch(text), 1);
        }
        for text in [b"HTTP/1.1 100 Con", b"HTTP/1.1 201 Cre", b"HTTP/1.1\0\0\0\0\0\0\0\0"] {
            assert_eq!(is_switch(text), 0);
        }
    }

    #[test]
    fn too_short_to_tell() {
        for text in ["", "H", "HTTP/", "G", "GET", "OPTIONS", "PROPFIND", "PROPPATCH"] {
            assert_eq!(look(text.as_bytes()), Start::Short, "{text}");
        }
    }

    #[test]
    fn others() {
        for text in [
            "get /",
            "\x16\x03\x01",
            " GET /",
            "GETx /",
            "GET\t/",
            "-X /",
            "1A /",
            "HTTP/2 ",
            "ABCDEFGHIJKLMNOPQ /",
        ] {
            assert_eq!(look(text.as_bytes()), Start::Other, "{text}");
        }
        assert_eq!(look(b"GE\xd4 /"), Start::Other);
        assert_eq!(look(b"GET\xa0/"), Start::Other);
    }

    /// Every single byte in every place of a method: only a token's bytes let it go on.
    #[test]
    fn each_byte() {
        for place in 1..12 {
            for byte in 0..=255_u8 {
                let mut text = *b"ABCDEFGHIJKLM / ";
                text[place] = byte;
                let goes_on =
                    byte.is_ascii_uppercase() || byte.is_ascii_digit() || byte == b'-' || byte == b'_';
                let expected = if goes_on || byte == b' ' { Start::Request } else { Start::Other };
                assert_eq!(look(&text), expected, "{byte:#x} at {place}");
            }
        }
    }
}
