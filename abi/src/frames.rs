//! Frames of HTTP/2 (RFC 9113, section 4.1), as far as the kernel side reads them: where the next one begins, and whether what
//! seems to be a frame's header may be one. What frames mean, the agent finds out by itself: where this side is wrong, too much
//! or too little is copied, and nothing else.
//!
//! Without branches, as its verifier wants it: each number that says yes or no is 1 or 0, and `hide` gives back the number that it
//! is given.

use crate::masks::{below, zero};
use crate::messages::Messages;
use crate::record::Direction;
use crate::sniff::LOOK;

/// Octets of a frame's header.
pub const HEADER: u64 = 9;

/// Octets of the client's preface (section 3.4).
pub const PREFACE: u64 = 24;

/// The place of one direction among its frames.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Frames {
    /// Position of the next frame's header.
    pub next: u64,
    /// Position behind the bytes that were looked at last.
    pub seen: u64,
    /// The eight bytes before that position, in the order of memory: a header may begin among them.
    pub last: u64,
    /// One of [`place`].
    pub place: u64,
    /// Where messages begin in the contents that are passed over.
    pub messages: Messages,
}

impl Frames {
    /// Nothing known.
    pub const NEW: Self = Self { next: 0, seen: 0, last: 0, place: place::LOST, messages: Messages::NEW };

    /// That of one direction.
    #[inline(always)]
    #[must_use]
    pub const fn of(both: &mut [Self; 2], direction: Direction) -> &mut Self {
        let [write, read] = both;
        match direction {
            Direction::Write => write,
            Direction::Read => read,
        }
    }
}

/// What is known of a direction's place.
pub mod place {
    /// Nothing: a call is looked at that begins with a frame.
    pub const LOST: u64 = 0;
    /// Up to the next header everything is worth copying.
    pub const COPIED: u64 = 1;
    /// Up to the next header nothing is.
    pub const SKIPPED: u64 = 2;
    /// As [`COPIED`]: the call under way begins with a frame, or seems to.
    pub const FOUND: u64 = 3;
    /// As [`SKIPPED`], but it is no header that stands at the next position: a content goes on there, or begins, with what may be
    /// a message's prefix.
    pub const MESSAGE: u64 = 4;
}

/// What a header says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// Octets of the payload.
    pub length: u64,
    /// 1: no such frame may be sent.
    pub impossible: u64,
    /// 1: possible or not, it is not what a place among frames is recognised by.
    pub unusual: u64,
    /// 1: the payload is worth copying (it is not a stream's content, nor unknown).
    pub telling: u64,
    /// 1: the payload is a stream's content.
    pub content: u64,
    /// 1: that is padded.
    pub padded: u64,
    /// The stream, 0 for the connection.
    pub stream: u64,
}

/// A nibble of a number, for a type.
const fn nibble(kind: u8, of: u64) -> u64 {
    of << (kind * 4)
}

/// Types (section 6).
const DATA: u8 = 0;
const HEADERS: u8 = 1;
const PRIORITY: u8 = 2;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const PUSH_PROMISE: u8 = 5;
const PING: u8 = 6;
const GOAWAY: u8 = 7;
const WINDOW_UPDATE: u8 = 8;
const CONTINUATION: u8 = 9;
/// Types that section 6 defines.
const DEFINED: u64 = 10;

/// Lengths that are fixed.
const FIXED: u64 = nibble(PRIORITY, 5) | nibble(RST_STREAM, 4) | nibble(PING, 8) | nibble(WINDOW_UPDATE, 4);
/// Types of the connection, and of its streams.
const OF_CONNECTION: u64 = 1 << SETTINGS | 1 << PING | 1 << GOAWAY;
const OF_STREAM: u64 =
    1 << DATA | 1 << HEADERS | 1 << PRIORITY | 1 << RST_STREAM | 1 << PUSH_PROMISE | 1 << CONTINUATION;
/// Flags: END_STREAM or ACK, END_HEADERS, PADDED (bits 0, 2, 3), by type. HEADERS have PRIORITY (bit 5) beside them.
const FLAGS: u64 = nibble(DATA, 0b1001)
    | nibble(HEADERS, 0b1101)
    | nibble(SETTINGS, 0b0001)
    | nibble(PUSH_PROMISE, 0b1100)
    | nibble(PING, 0b0001)
    | nibble(CONTINUATION, 0b0100);
/// Longest payload unless the other end announced another (section 4.2).
const LONGEST: u64 = 16_384;

/// Reads a header: its first eight bytes as a little-endian number, and the ninth.
#[inline(always)]
#[must_use]
pub fn header(low: u64, ninth: u64, hide: &impl Fn(u64) -> u64) -> Header {
    let length = (low & 0xff) << 16 | (low >> 8 & 0xff) << 8 | low >> 16 & 0xff;
    let kind = low >> 24 & 0xff;
    let flags = low >> 32 & 0xff;
    let reserved = low >> 47 & 1;
    let stream = low >> 40 & 0xff_ff7f | (ninth & 0xff) << 24;
    let defined = below(kind, DEFINED, hide);
    let bit = kind & 15;
    let fixed = FIXED >> (bit * 4) & 15;
    let wrong_length = (1 - zero(fixed, hide)) & (1 - zero(fixed ^ length, hide));
    let of_none = zero(stream, hide);
    let wrong_stream = OF_CONNECTION >> bit & (1 - of_none) | OF_STREAM >> bit & of_none;
    let impossible = (defined & (wrong_length | wrong_stream | reserved)) & 1;
    let allowed = FLAGS >> (bit * 4) & 15 | (zero(kind ^ u64::from(HEADERS), hide) << 5);
    let odd = ninth & 1;
    let unusual = impossible
        | (1 - defined)
        | (1 - zero(flags & !allowed, hide))
        | (1 - (odd | of_none))
        | (1 - below(length, LONGEST + 1, hide));
    let content = zero(kind, hide);
    Header {
        length,
        impossible,
        unusual: unusual & 1,
        telling: defined & (1 - content),
        content,
        padded: flags >> 3 & 1,
        stream,
    }
}

/// Whether a call's first bytes, `len` of which are valid, are those of the client's preface.
#[inline(always)]
#[must_use]
pub fn is_preface(first: &[u64; 2], len: usize) -> bool {
    const START: [u64; 2] = [u64::from_le_bytes(*b"PRI * HT"), u64::from_le_bytes(*b"TP/2.0\r\n")];
    len >= LOOK && first.map(u64::from_le) == START
}

/// Types that say more than that bytes follow.
const TELLING: u64 = 1 << HEADERS | 1 << SETTINGS | 1 << PING | 1 << WINDOW_UPDATE;

/// Whether a call of `len` bytes, the others of which are zero, may be the first of a header of such a frame, cut.
#[inline(always)]
#[must_use]
pub fn cut(first: &[u64; 2], len: usize, hide: &impl Fn(u64) -> u64) -> bool {
    let len = len as u64;
    let low = u64::from_le(first[0]);
    let cut = below(len, HEADER, hide) & (1 - zero(len, hide));
    let kind = low >> 24 & 0xff;
    let telling = below(len, 4, hide) | (below(kind, DEFINED, hide) & TELLING >> (kind & 15));
    // A block of 64 KiB or more is rare.
    hide(cut & zero(low & 0xff, hide) & telling & 1) != 0
}

/// Whether a call's first bytes, `len` of which are valid, begin with a frame that a connection is recognised by of which
/// nothing else is known: one that says more than that bytes follow.
#[inline(always)]
#[must_use]
pub fn recognised(first: &[u64; 2], len: usize, hide: &impl Fn(u64) -> u64) -> bool {
    let low = u64::from_le(first[0]);
    let kind = low >> 24 & 15;
    let whole = 1 - below(len as u64, HEADER, hide);
    let header = header(low, u64::from_le(first[1]), hide);
    // A block that goes on in another frame is rare, and an empty one is none.
    let begins = zero(kind ^ u64::from(HEADERS), hide);
    let block = (1 - begins) | (low >> 34 & 1 & (1 - zero(header.length, hide)));
    hide(whole & (1 - header.unusual) & (TELLING >> kind) & block & 1) != 0
}

/// Whether a call of a connection that is known to speak HTTP/2 begins with a frame.
#[inline(always)]
#[must_use]
pub fn resumes(first: &[u64; 2], len: usize, hide: &impl Fn(u64) -> u64) -> bool {
    let whole = 1 - below(len as u64, HEADER, hide);
    let header = header(u64::from_le(first[0]), u64::from_le(first[1]), hide);
    hide(whole & (1 - header.unusual)) != 0
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(bytes: [u8; 9]) -> Header {
        let [low @ .., ninth] = bytes;
        // What is behind the ninth byte does not matter.
        header(u64::from_le_bytes(low), u64::from(ninth) | 0xabcd_ef00, &core::convert::identity)
    }

    fn frame(length: u32, kind: u8, flags: u8, stream: u32) -> [u8; 9] {
        let [_, a, b, c] = length.to_be_bytes();
        let [d, e, f, g] = stream.to_be_bytes();
        [a, b, c, kind, flags, d, e, f, g]
    }

    /// The same from the specification, with branches.
    fn slowly(length: u32, kind: u8, flags: u8, stream: u32) -> Header {
        let reserved = stream >> 31 != 0;
        let stream = stream & 0x7fff_ffff;
        let impossible = match kind {
            DATA | HEADERS | PUSH_PROMISE | CONTINUATION => stream == 0,
            PRIORITY => stream == 0 || length != 5,
            RST_STREAM => stream == 0 || length != 4,
            SETTINGS | GOAWAY => stream != 0,
            PING => stream != 0 || length != 8,
            WINDOW_UPDATE => length != 4,
            _ => false,
        } || (kind < 10 && reserved);
        let allowed = match kind {
            DATA => 0x9,
            HEADERS => 0x2d,
            SETTINGS | PING => 0x1,
            PUSH_PROMISE => 0xc,
            CONTINUATION => 0x4,
            _ => 0,
        };
        let usual = !impossible
            && kind < 10
            && flags & !allowed == 0
            && (stream == 0 || stream % 2 == 1)
            && length <= 16_384;
        Header {
            length: u64::from(length),
            impossible: u64::from(impossible),
            unusual: u64::from(!usual),
            telling: u64::from((1..10).contains(&kind)),
            content: u64::from(kind == DATA),
            padded: u64::from(flags & 8 != 0),
            stream: u64::from(stream.swap_bytes()),
        }
    }

    #[test]
    fn headers_are_read_as_specified() {
        for kind in (0..40).chain([0x7f, 0x80, 0x8f, 0xff]) {
            for flags in 0..=255 {
                for length in [0, 1, 4, 5, 6, 8, 9, 255, 256, 16_384, 16_385, 0xff_ffff] {
                    for stream in
                        [0, 1, 2, 3, 0x100, 0x101, 0x7fff_ffff, 0x8000_0000, 0x8000_0001, 0xff00_0000]
                    {
                        let bytes = frame(length, kind, flags, stream);
                        assert_eq!(read(bytes), slowly(length, kind, flags, stream), "{bytes:x?}");
                    }
                }
            }
        }
    }

    fn words(bytes: &[u8]) -> ([u64; 2], usize) {
        let mut first = [0; 16];
        first[..bytes.len().min(16)].copy_from_slice(&bytes[..bytes.len().min(16)]);
        let (low, high) = first.split_at(8);
        let word = |half: &[u8]| u64::from_ne_bytes(half.try_into().unwrap());
        ([word(low), word(high)], bytes.len())
    }

    fn is_recognised(bytes: &[u8]) -> bool {
        let (first, len) = words(bytes);
        recognised(&first, len, &core::convert::identity)
    }

    #[test]
    fn what_may_be_a_header_cut() {
        let is_cut = |bytes: &[u8]| {
            let (first, len) = words(bytes);
            cut(&first, len, &core::convert::identity)
        };
        for whole in [frame(50, HEADERS, 0x25, 1), frame(18, SETTINGS, 0, 0), frame(4, WINDOW_UPDATE, 0, 7)] {
            for len in 1..9 {
                assert!(is_cut(&whole[..len]), "{:x?}", &whole[..len]);
            }
            assert!(!is_cut(&whole));
        }
        for no in
            [&b""[..], b"G", b"HTTP/1.1", b"\0\0\x05\0\x01", b"\0\0\0\x2a", b"\x16\x03\x01", b"\x01\0\0\x01"]
        {
            assert!(!is_cut(no), "{no:x?}");
        }
    }

    #[test]
    fn what_a_connection_is_recognised_by() {
        for yes in [
            frame(50, HEADERS, 0x25, 1),
            frame(50, HEADERS, 0x4, 0x101),
            frame(0, SETTINGS, 1, 0),
            frame(18, SETTINGS, 0, 0),
            frame(8, PING, 0, 0),
            frame(4, WINDOW_UPDATE, 0, 7),
        ] {
            assert!(is_recognised(&yes), "{yes:x?}");
            assert!(!is_recognised(&yes[..8]));
        }
        for no in [
            // Content alone says little.
            frame(50, DATA, 0x1, 1),
            frame(50, HEADERS, 0x1, 1),
            frame(0, HEADERS, 0x5, 1),
            frame(4, WINDOW_UPDATE, 0, 2),
            frame(9, PING, 0, 0),
            frame(0x11, 0x11, 0, 0),
        ] {
            assert!(!is_recognised(&no), "{no:x?}");
        }
        for text in [
            &b"GET / HTTP/1.1\r\n"[..],
            b"PRI * HTTP/2.0\r\n",
            b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03abcde",
            &[0; 16],
            &[0xff; 16],
        ] {
            assert!(!is_recognised(text));
        }
        // yamux: a new stream's window, then data of it.
        assert!(!is_recognised(b"\x00\x01\x00\x01\x00\x00\x00\x01\x00\x00\x00\x00\x00\x00\x00\x00"));
        assert!(!is_recognised(b"\x00\x00\x00\x01\x00\x00\x00\x01\x00\x00\x00\x05hell"));
        let (first, len) = words(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n");
        assert!(is_preface(&first, len) && !is_preface(&first, 15));
        let (first, len) = words(&frame(50, DATA, 0x1, 1));
        assert!(!is_preface(&first, len));
        assert!(resumes(&first, len, &core::convert::identity));
        assert!(!resumes(&first, 8, &core::convert::identity));
    }
}
