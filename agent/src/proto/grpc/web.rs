//! gRPC-Web over HTTP/1 (<https://github.com/grpc/grpc/blob/master/doc/PROTOCOL-WEB.md>): messages and trailers in one body, as they
//! are or in base64.

use super::{Messages, Prefix};
use crate::proto::http1::wire::Fields;

/// A flag of a frame: trailers follow.
const TRAILERS: u8 = 0x80;
/// Another: what follows is compressed.
const COMPRESSED: u8 = 0x01;

/// Bytes of trailers that are kept; a longer block says nothing.
const BLOCK: usize = 8192;

/// How a body is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::proto) enum Format {
    /// `application/grpc-web`: as it is.
    Binary,
    /// `application/grpc-web-text`: in base64.
    Text,
}

impl Format {
    /// That of a `content-type`; `None` where it is not gRPC-Web's.
    pub(in crate::proto) fn of(content_type: &[u8]) -> Option<Self> {
        if super::is_grpc(content_type) != Some(true) {
            return None;
        }
        let text = b"application/grpc-web-text";
        let is_text = content_type.get(..text.len()).is_some_and(|start| start.eq_ignore_ascii_case(text));
        Some(if is_text { Self::Text } else { Self::Binary })
    }
}

/// Reads the frames of one body, as far as they are seen.
#[derive(Debug)]
pub(in crate::proto) struct Reader {
    /// The text that is put together to the next bytes; `None` where the body is none.
    text: Option<Quartet>,
    prefix: Prefix,
    /// Bytes of the frame under way that are to come.
    left: u64,
    counted: Messages,
    trailers: Trailers,
    /// A prefix was not seen, or is none.
    lost: bool,
}

#[derive(Debug)]
enum Trailers {
    /// None yet.
    None,
    /// As far as they are there.
    Under(Vec<u8>),
    /// Something of them was not seen, or could not be read.
    Lost,
    /// All of them.
    Whole { status: Option<u32>, message: Option<Box<str>> },
}

/// What a body said.
#[derive(Debug, Default, PartialEq, Eq)]
pub(in crate::proto) struct Read {
    /// Its messages; `None` where they could not be counted.
    pub(in crate::proto) messages: Option<Messages>,
    /// `grpc-status` of its trailers.
    pub(in crate::proto) status: Option<u32>,
    /// `grpc-message` of its trailers.
    pub(in crate::proto) message: Option<Box<str>>,
}

impl Reader {
    pub(in crate::proto) fn new(format: Format) -> Self {
        Self {
            text: (format == Format::Text).then(Quartet::default),
            prefix: Prefix::default(),
            left: 0,
            counted: Messages::default(),
            trailers: Trailers::None,
            lost: false,
        }
    }

    /// The next bytes of the body.
    pub(in crate::proto) fn feed(&mut self, bytes: &[u8]) {
        let Some(mut quartet) = self.text.take() else { return self.frames(bytes) };
        for &byte in bytes {
            match quartet.push(byte) {
                Ok(Some((decoded, n))) => self.frames(decoded.get(..n).unwrap_or_default()),
                Ok(None) => {}
                Err(NotBase64) => self.lost = true,
            }
        }
        self.text = Some(quartet);
    }

    /// Bytes of the body that nobody looked into.
    pub(in crate::proto) fn skip(&mut self, n: u64) {
        // How many bytes a text stands for depends on where it was padded.
        if n > 0 && (self.text.is_some() || n > self.left) {
            self.lost = true;
        }
        if n > 0 && self.left > 0 && !self.lost {
            if matches!(self.trailers, Trailers::Under(_)) {
                self.trailers = Trailers::Lost;
            }
            self.left -= n;
        }
    }

    /// From here on nothing is known.
    pub(in crate::proto) const fn lose(&mut self) {
        self.lost = true;
    }

    /// What the body said, as far as it went by.
    pub(in crate::proto) fn read(self) -> Read {
        let messages = (!self.lost).then_some(self.counted);
        match self.trailers {
            Trailers::Whole { status, message } => Read { messages, status, message },
            Trailers::None | Trailers::Under(_) | Trailers::Lost => Read { messages, ..Read::default() },
        }
    }

    fn frames(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() && !self.lost {
            if self.left > 0 {
                let n = self.left.min(bytes.len() as u64);
                // Bounded by the slice's own length.
                let (content, rest) = bytes.split_at_checked(n as usize).unwrap_or_default();
                if let Trailers::Under(block) = &mut self.trailers {
                    block.extend_from_slice(content);
                }
                self.left -= n;
                if self.left == 0 {
                    self.end();
                }
                bytes = rest;
                continue;
            }
            let Some((&byte, rest)) = bytes.split_first() else { return };
            bytes = rest;
            if let Some((flags, length)) = self.prefix.take(byte) {
                self.begin(flags, length);
            }
        }
    }

    /// A prefix is there.
    fn begin(&mut self, flags: u8, length: u64) {
        self.left = length;
        // Trailers are the last frame.
        if flags & !(TRAILERS | COMPRESSED) != 0 || !matches!(self.trailers, Trailers::None) {
            self.lost = true;
            return;
        }
        if flags & TRAILERS == 0 {
            self.counted.count += 1;
            self.counted.bytes += self.left;
            self.counted.compressed += u64::from(flags & COMPRESSED);
            return;
        }
        let readable = flags & COMPRESSED == 0 && self.left <= BLOCK as u64;
        self.trailers = if readable { Trailers::Under(Vec::new()) } else { Trailers::Lost };
        if self.left == 0 {
            self.end();
        }
    }

    /// A frame is over.
    fn end(&mut self) {
        let Trailers::Under(block) = &mut self.trailers else { return };
        let mut block = std::mem::take(block);
        // The last line may lack its end.
        block.extend_from_slice(b"\r\n");
        let (mut status, mut message) = (None, None);
        for field in Fields(&block) {
            if field.name.eq_ignore_ascii_case(b"grpc-status") {
                status = super::status(field.value);
            } else if field.name.eq_ignore_ascii_case(b"grpc-message") {
                message = Some(super::message(field.value)).filter(|message| !message.is_empty());
            }
        }
        self.trailers = Trailers::Whole { status, message };
    }
}

/// Four characters of base64 (RFC 4648, section 4) on their way to three bytes. A body may be of several texts, each padded.
#[derive(Debug, Default)]
struct Quartet {
    bits: u32,
    have: u32,
    padded: u32,
}

/// A character that has no place there.
#[derive(Debug, PartialEq, Eq)]
struct NotBase64;

impl Quartet {
    /// The bytes that are there with this character, and how many of the three.
    fn push(&mut self, byte: u8) -> Result<Option<([u8; 3], usize)>, NotBase64> {
        let six = match byte {
            b'A'..=b'Z' => byte - b'A',
            b'a'..=b'z' => byte - b'a' + 26,
            b'0'..=b'9' => byte - b'0' + 52,
            b'+' => 62,
            b'/' => 63,
            b'=' if self.have >= 2 => {
                self.padded += 1;
                0
            }
            b'\r' | b'\n' => return Ok(None),
            _ => return Err(NotBase64),
        };
        if self.padded > 0 && byte != b'=' {
            return Err(NotBase64);
        }
        self.bits = self.bits << 6 | u32::from(six);
        self.have += 1;
        if self.have < 4 {
            return Ok(None);
        }
        let [_, decoded @ ..] = self.bits.to_be_bytes();
        let n = 3 - self.padded as usize;
        *self = Self::default();
        Ok(Some((decoded, n)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BODY: &[u8] =
        b"\0\0\0\0\x03abc\x01\0\0\0\x02xy\x80\0\0\0\x2cgrpc-status: 5\r\nGrpc-Message: no%20such shop\r\n";

    fn read(format: Format, pieces: &[&[u8]]) -> Read {
        let mut reader = Reader::new(format);
        pieces.iter().for_each(|piece| reader.feed(piece));
        reader.read()
    }

    fn expected() -> Read {
        let messages = Some(Messages { count: 2, bytes: 5, compressed: 1 });
        Read { messages, status: Some(5), message: Some("no such shop".into()) }
    }

    /// Of test data only, padded every `n` bytes.
    fn base64(bytes: &[u8], n: usize) -> Vec<u8> {
        const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
        let mut text = Vec::new();
        for three in bytes.chunks(n).flat_map(|piece| piece.chunks(3)) {
            let bits =
                three.iter().enumerate().fold(0, |bits, (at, byte)| bits | u32::from(*byte) << (16 - 8 * at));
            for at in 0..4 {
                let digit = DIGITS[(bits >> (18 - 6 * at) & 63) as usize];
                text.push(if at > three.len() { b'=' } else { digit });
            }
        }
        text
    }

    #[test]
    fn in_any_pieces() {
        for first in 0..BODY.len() {
            for second in first..BODY.len() {
                let pieces = [&BODY[..first], &BODY[first..second], &BODY[second..]];
                assert_eq!(read(Format::Binary, &pieces), expected());
            }
        }
    }

    #[test]
    fn as_text_in_any_pieces_however_padded() {
        for padded in 1..BODY.len() {
            let text = base64(BODY, padded);
            assert_eq!(read(Format::Text, &[&text]), expected(), "padded each {padded}");
            let (first, second) = text.split_at(padded);
            assert_eq!(read(Format::Text, &[first, second]), expected(), "cut at {padded}");
        }
        assert_eq!(base64(b"any", 3), b"YW55");
        assert_eq!(base64(b"anyh", 4), b"YW55aA==");
        assert_eq!(read(Format::Text, &[b"AAA?"]).messages, None);
        assert_eq!(read(Format::Text, &[b"A=AA"]).messages, None);
        assert_eq!(read(Format::Text, &[b"AA=A"]).messages, None);
    }

    #[test]
    fn what_was_not_seen_is_not_told() {
        let trailers = &BODY[15..];
        for (before, missing, after) in [
            (
                &b"\0\0\0\x10\0abc"[..],
                4093,
                Read { messages: Some(Messages { count: 1, bytes: 4096, compressed: 0 }), ..expected() },
            ),
            (b"\0\0\0\x10\0abc", 4094, Read::default()),
            (b"\0\0\0\0\x02ab", 1, Read::default()),
        ] {
            let mut reader = Reader::new(Format::Binary);
            reader.feed(before);
            reader.skip(missing);
            reader.feed(trailers);
            assert_eq!(reader.read(), after, "{missing} missing");
        }
        // Within the trailers: the messages before them are known.
        let mut reader = Reader::new(Format::Binary);
        reader.feed(&BODY[..30]);
        reader.skip(3);
        reader.feed(&BODY[33..]);
        assert_eq!(reader.read(), Read { messages: expected().messages, ..Read::default() });
        // Text that is missing has no length.
        let text = base64(BODY, 100);
        let mut reader = Reader::new(Format::Text);
        reader.feed(&text[..8]);
        reader.skip(4);
        reader.feed(&text[12..]);
        assert_eq!(reader.read(), Read::default());
        // A body that broke off.
        assert_eq!(
            read(Format::Binary, &[&BODY[..40]]),
            Read { messages: expected().messages, ..Read::default() }
        );
    }

    #[test]
    fn trailers_of_all_sorts() {
        let of = |flags: u8, block: &[u8]| {
            let length = u32::try_from(block.len()).unwrap().to_be_bytes();
            let body = [&[flags][..], &length, block].concat();
            let Read { messages, status, message } = read(Format::Binary, &[&body]);
            assert_eq!(messages, Some(Messages::default()));
            (status, message.map(String::from))
        };
        assert_eq!(of(0x80, b"grpc-status:0"), (Some(0), None));
        assert_eq!(of(0x80, b"grpc-message:\r\ngrpc-status:0\r\n"), (Some(0), None));
        assert_eq!(of(0x80, b"GRPC-STATUS: 16\r\nx: y\r\n"), (Some(16), None));
        assert_eq!(of(0x80, b""), (None, None));
        assert_eq!(of(0x81, b"grpc-status:0\r\n"), (None, None));
        assert_eq!(of(0x80, &[b'x'; 9000]), (None, None));
        assert_eq!(read(Format::Binary, &[b"\x42\0\0\0\0"]), Read::default());
        assert_eq!(read(Format::Binary, &[b"\x80\0\0\0\0\0\0\0\0\0"]).messages, None);
    }

    #[test]
    fn formats() {
        for (content_type, format) in [
            ("application/grpc-web", Some(Format::Binary)),
            ("application/grpc-web+proto", Some(Format::Binary)),
            ("application/grpc-web-text", Some(Format::Text)),
            ("Application/gRPC-Web-Text+proto; charset=utf-8", Some(Format::Text)),
            ("application/grpc", None),
            ("text/html", None),
        ] {
            assert_eq!(Format::of(content_type.as_bytes()), format, "{content_type}");
        }
    }
}
