//! gRPC over HTTP/2 (<https://github.com/grpc/grpc/blob/master/doc/PROTOCOL-HTTP2.md>), and what HTTP/1 shows of gRPC-Web:
//! length-prefixed messages, statuses, deadlines.

pub(super) mod web;

use crate::conn::Nanos;

/// What gRPC says of a call beside what HTTP does.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RpcCall {
    /// gRPC-Web.
    pub web: bool,
    /// `grpc-status`; `None` where none was seen.
    pub status: Option<u32>,
    /// `grpc-message`, its percent-encoding taken away.
    pub message: Option<Box<str>>,
    /// `grpc-timeout`.
    pub timeout: Option<Nanos>,
    /// Messages of the request; `None` where they could not be counted.
    pub request: Option<Messages>,
    /// Messages of the response.
    pub response: Option<Messages>,
}

/// Messages of one direction.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Messages {
    /// How many began.
    pub count: u64,
    /// Bytes of them, as they were transferred, without their prefixes.
    pub bytes: u64,
    /// How many of them are compressed.
    pub compressed: u64,
}

/// Whether a `content-type` is that of gRPC, and then whether of gRPC-Web.
pub(super) fn is_grpc(content_type: &[u8]) -> Option<bool> {
    const NAME: &[u8] = b"application/grpc";
    let (name, rest) = content_type.split_at_checked(NAME.len())?;
    if !name.eq_ignore_ascii_case(NAME) {
        return None;
    }
    match rest {
        [] | [b'+' | b';' | b' ', ..] => Some(false),
        [b'-', web @ ..] if web.to_ascii_lowercase().starts_with(b"web") => Some(true),
        _ => None,
    }
}

/// A `grpc-status`.
pub(super) fn status(value: &[u8]) -> Option<u32> {
    number(value, 4).map(|code| code as u32)
}

/// A `grpc-timeout`: up to eight digits and a unit.
pub(super) fn timeout(value: &[u8]) -> Option<Nanos> {
    let (&unit, digits) = value.split_last()?;
    let unit: u64 = match unit {
        b'H' => 3_600_000_000_000,
        b'M' => 60_000_000_000,
        b'S' => 1_000_000_000,
        b'm' => 1_000_000,
        b'u' => 1_000,
        b'n' => 1,
        _ => return None,
    };
    Some(number(digits, 8)?.saturating_mul(unit))
}

/// Whether a call that was given up so long after its first byte was given up at its deadline.
///
/// What a `grpc-timeout` says is what was left when the header was made: it is rounded up (C-core keeps three digits, so up
/// to a hundredth more) and waits until the library writes (grpc-js in one process on busy processors: 7 ms of 110).
pub(super) fn has_expired(timeout: Nanos, elapsed: Nanos) -> bool {
    const BUSY: Nanos = 50_000_000;
    let early = timeout / 50 + BUSY.min(timeout / 10);
    elapsed.saturating_add(early) >= timeout
}

fn number(digits: &[u8], most: usize) -> Option<u64> {
    let valid = (1..=most).contains(&digits.len()) && digits.iter().all(u8::is_ascii_digit);
    let digit = |number: u64, digit: &u8| number * 10 + u64::from(digit - b'0');
    valid.then(|| digits.iter().fold(0, digit))
}

/// A `grpc-message`: bytes outside printable ASCII are percent-encoded, and what is not valid stays as it is.
pub(super) fn message(value: &[u8]) -> Box<str> {
    let mut text = Vec::with_capacity(value.len());
    let mut rest = value;
    while let Some((&byte, behind)) = rest.split_first() {
        let hex = behind.get(..2).and_then(|two| std::str::from_utf8(two).ok());
        let coded = hex.filter(|_| byte == b'%').and_then(|hex| u8::from_str_radix(hex, 16).ok());
        text.push(coded.unwrap_or(byte));
        rest = if coded.is_some() { behind.get(2..).unwrap_or_default() } else { behind };
    }
    String::from_utf8_lossy(&text).into()
}

/// Name of a status code (<https://github.com/grpc/grpc/blob/master/doc/statuscodes.md>).
pub(crate) const fn status_name(code: u32) -> Option<&'static str> {
    Some(match code {
        0 => "OK",
        1 => "CANCELLED",
        2 => "UNKNOWN",
        3 => "INVALID_ARGUMENT",
        4 => "DEADLINE_EXCEEDED",
        5 => "NOT_FOUND",
        6 => "ALREADY_EXISTS",
        7 => "PERMISSION_DENIED",
        8 => "RESOURCE_EXHAUSTED",
        9 => "FAILED_PRECONDITION",
        10 => "ABORTED",
        11 => "OUT_OF_RANGE",
        12 => "UNIMPLEMENTED",
        13 => "INTERNAL",
        14 => "UNAVAILABLE",
        15 => "DATA_LOSS",
        16 => "UNAUTHENTICATED",
        _ => return None,
    })
}

pub(crate) const CANCELLED: u32 = 1;
pub(crate) const DEADLINE_EXCEEDED: u32 = 4;
pub(crate) const UNIMPLEMENTED: u32 = 12;

/// The status that a stream's reset stands for (PROTOCOL-HTTP2, "Errors").
pub(super) const fn status_of_reset(code: u32) -> u32 {
    match code {
        // REFUSED_STREAM, CANCEL, ENHANCE_YOUR_CALM, INADEQUATE_SECURITY.
        7 => 14,
        8 => CANCELLED,
        11 => 8,
        12 => 7,
        _ => 13,
    }
}

/// What stands before each message, as far as it is there: flags and a length.
#[derive(Clone, Copy, Debug, Default)]
struct Prefix {
    bytes: [u8; 5],
    have: u8,
}

impl Prefix {
    /// Flags and length, where they are there with this byte. The next one begins another prefix.
    fn take(&mut self, byte: u8) -> Option<(u8, u64)> {
        *self.bytes.get_mut(usize::from(self.have))? = byte;
        self.have += 1;
        if usize::from(self.have) < self.bytes.len() {
            return None;
        }
        let [flags, length @ ..] = std::mem::take(self).bytes;
        Some((flags, u32::from_be_bytes(length).into()))
    }
}

/// Counts messages in the bytes of one direction, as far as their prefixes are seen.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Counter {
    prefix: Prefix,
    /// Bytes of the message that are to come.
    left: u64,
    counted: Messages,
    /// A prefix was not seen.
    lost: bool,
}

impl Counter {
    /// The next bytes.
    pub(super) fn feed(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() && !self.lost {
            if self.left > 0 {
                let n = self.left.min(bytes.len() as u64);
                self.left -= n;
                // Bounded by the slice's own length.
                bytes = bytes.get(n as usize..).unwrap_or_default();
                continue;
            }
            let Some((&byte, rest)) = bytes.split_first() else { return };
            bytes = rest;
            if let Some((flag, length)) = self.prefix.take(byte) {
                self.left = length;
                // One bit says compressed; gRPC-Web marks its trailers with another.
                self.lost |= flag > 1;
                self.counted.count += 1;
                self.counted.bytes += self.left;
                self.counted.compressed += u64::from(flag & 1);
            }
        }
    }

    /// Bytes that were not captured.
    pub(super) fn skip(&mut self, n: u64) {
        self.lost |= n > self.left;
        self.left = self.left.saturating_sub(n);
    }

    /// From here on nothing is known.
    pub(super) fn lose(&mut self) {
        self.lost = true;
    }

    pub(super) fn counted(&self) -> Option<Messages> {
        (!self.lost).then_some(self.counted)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn content_types() {
        for (value, expected) in [
            ("application/grpc", Some(false)),
            ("Application/GRPC+proto", Some(false)),
            ("application/grpc;charset=utf-8", Some(false)),
            ("application/grpc-web+proto", Some(true)),
            ("application/grpc-web-text", Some(true)),
            ("application/grpcx", None),
            ("application/json", None),
            ("", None),
        ] {
            assert_eq!(is_grpc(value.as_bytes()), expected, "{value}");
        }
    }

    #[test]
    fn timeouts_and_statuses() {
        for (value, expected) in [
            ("1H", Some(3_600_000_000_000)),
            ("100m", Some(100_000_000)),
            ("99999999n", Some(99_999_999)),
            ("99999999H", Some(u64::MAX)),
            ("999999999n", None),
            ("1", None),
            ("S", None),
            ("-1S", None),
            ("1s", None),
        ] {
            assert_eq!(timeout(value.as_bytes()), expected, "{value}");
        }
        assert_eq!(status(b"14"), Some(14));
        assert_eq!(status(b""), None);
        assert_eq!(status(b"1a"), None);
    }

    #[test]
    fn what_ends_about_its_deadline_has_expired() {
        const MS: Nanos = 1_000_000;
        for (timeout, elapsed, expected) in [
            (109 * MS, 102 * MS, true),
            (109 * MS, 90 * MS, false),
            (60_000 * MS, 59_400 * MS, true),
            (60_000 * MS, 58_000 * MS, false),
            (0, 0, true),
            (u64::MAX, u64::MAX, true),
            (u64::MAX, 0, false),
        ] {
            assert_eq!(has_expired(timeout, elapsed), expected, "{elapsed} of {timeout}");
        }
    }

    #[test]
    fn messages_of_statuses() {
        assert_eq!(&*message(b"not%20found: %E2%82%AC 100% %zz%4"), "not found: € 100% %zz%4");
    }

    #[test]
    fn messages_are_counted_in_any_pieces() {
        let bytes = b"\0\0\0\0\x03abc\x01\0\0\0\x02xy\0\0\0\0\0\0\0\0\0\x01z";
        let expected = Messages { count: 4, bytes: 6, compressed: 1 };
        for first in 0..bytes.len() {
            for second in first..bytes.len() {
                let mut counter = Counter::default();
                for piece in [&bytes[..first], &bytes[first..second], &bytes[second..]] {
                    counter.feed(piece);
                }
                assert_eq!(counter.counted(), Some(expected));
            }
        }
        let mut counter = Counter::default();
        counter.feed(b"\0\0\0\x10\0abc");
        counter.skip(4093);
        counter.feed(b"\0\0\0\0\x01");
        assert_eq!(counter.counted(), Some(Messages { count: 2, bytes: 4097, compressed: 0 }));
        counter.skip(2);
        assert_eq!(counter.counted(), None);
        counter.feed(b"\0\0\0\0\x01");
        assert_eq!(counter.counted(), None);
    }
}
