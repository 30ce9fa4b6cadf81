//! Frames: RFC 9113, sections 4 and 6. Their headers, and how a place in a stream of bytes is proven to begin one.

use super::hpack::{Decoder, Field};

/// Octets of a frame's header.
pub(super) const HEADER: usize = 9;

/// What a client's stream begins with (section 3.4).
pub(super) const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// Longest payload unless the other end announced another (section 6.5.2).
pub(super) const LONGEST: u32 = 16_384;

/// END_STREAM of DATA and HEADERS, ACK of SETTINGS and PING.
pub(super) const END_STREAM: u8 = 0x1;
pub(super) const END_HEADERS: u8 = 0x4;
pub(super) const PADDED: u8 = 0x8;
pub(super) const PRIORITY: u8 = 0x20;

/// Type of a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Data,
    Headers,
    Priority,
    RstStream,
    Settings,
    PushPromise,
    Ping,
    GoAway,
    WindowUpdate,
    Continuation,
    /// An extension's, to be ignored (section 5.5).
    Other,
}

/// A frame's header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Frame {
    pub(super) kind: Kind,
    pub(super) flags: u8,
    /// Octets of the payload.
    pub(super) length: u32,
    /// 0 for the connection.
    pub(super) stream: u32,
    /// A bit that is sent as zero.
    reserved: bool,
}

impl Frame {
    pub(super) fn parse(bytes: &[u8; HEADER]) -> Self {
        let &[a, b, c, kind, flags, d, e, f, g] = bytes;
        let stream = u32::from_be_bytes([d, e, f, g]);
        let kind = match kind {
            0 => Kind::Data,
            1 => Kind::Headers,
            2 => Kind::Priority,
            3 => Kind::RstStream,
            4 => Kind::Settings,
            5 => Kind::PushPromise,
            6 => Kind::Ping,
            7 => Kind::GoAway,
            8 => Kind::WindowUpdate,
            9 => Kind::Continuation,
            _ => Kind::Other,
        };
        Self {
            kind,
            flags,
            length: u32::from_be_bytes([0, a, b, c]),
            stream: stream & 0x7fff_ffff,
            reserved: stream >> 31 != 0,
        }
    }

    pub(super) fn has(self, flag: u8) -> bool {
        self.flags & flag != 0
    }

    /// No receiver would close the connection on it.
    pub(super) fn is_possible(self) -> bool {
        let length = self.length;
        let of_stream = self.stream != 0;
        match self.kind {
            Kind::Data | Kind::Headers => of_stream && (!self.has(PADDED) || length > 0),
            Kind::PushPromise => of_stream && length >= 4,
            Kind::Continuation => of_stream,
            Kind::Priority => of_stream && length == 5,
            Kind::RstStream => of_stream && length == 4,
            Kind::Settings => !of_stream && length.is_multiple_of(6),
            Kind::Ping => !of_stream && length == 8,
            Kind::GoAway => !of_stream && length >= 8,
            Kind::WindowUpdate => length == 4,
            Kind::Other => true,
        }
    }

    /// It holds a whole header block with a pseudo-header of a request or a response.
    pub(super) fn begins_message(self, payload: &[u8]) -> bool {
        if self.kind != Kind::Headers || !self.has(END_HEADERS) {
            return false;
        }
        let Some(block) = fragment(self, payload) else { return false };
        let mut found = false;
        let read = Decoder::new(true).block(block, |Field { name, value }| {
            found |= match (name, value) {
                (Some(b":method"), Some(value)) => {
                    !value.is_empty() && value.iter().all(|byte| byte.is_ascii_uppercase() || *byte == b'-')
                }
                (Some(b":status"), Some(value)) => value.len() == 3 && value.iter().all(u8::is_ascii_digit),
                _ => false,
            };
        });
        found && read.is_ok()
    }

    /// It looks as all senders make them: what a proof is made of.
    pub(super) fn is_usual(self, longest: u32) -> bool {
        let flags = match self.kind {
            Kind::Data => END_STREAM | PADDED,
            Kind::Headers => END_STREAM | END_HEADERS | PADDED | PRIORITY,
            Kind::Settings | Kind::Ping => END_STREAM,
            Kind::PushPromise => END_HEADERS | PADDED,
            Kind::Continuation => END_HEADERS,
            Kind::Priority | Kind::RstStream | Kind::GoAway | Kind::WindowUpdate => 0,
            Kind::Other => return false,
        };
        let needed = match self.kind {
            // An empty one says nothing but that it is the last.
            Kind::Data => u32::from(self.flags & END_STREAM == 0),
            Kind::Headers => 1 + if self.has(PRIORITY) { 5 } else { 0 },
            _ => 0,
        };
        let acknowledges = self.kind == Kind::Settings && self.has(END_STREAM);
        self.is_possible()
            && !self.reserved
            && self.flags & !flags == 0
            && (needed..=longest).contains(&self.length)
            && (!acknowledges || self.length == 0)
            // Clients' streams are odd, and nobody pushes.
            && (self.stream == 0 || self.stream % 2 == 1)
    }
}

/// The header at a place, where it is all there.
fn header_at(bytes: &[u8], at: usize) -> Option<Frame> {
    bytes.get(at..)?.first_chunk().map(Frame::parse)
}

/// Where in `bytes` a frame begins beyond doubt, if anywhere: where each header is found at the place that the one before it
/// names. `all` is the length of the call's bytes, of which `bytes` were captured; `longest` the longest payload that was seen
/// so far.
pub(super) fn prove(bytes: &[u8], all: u64, longest: u32) -> Option<usize> {
    let longest = longest.max(LONGEST);
    (0..bytes.len().saturating_sub(HEADER - 1)).find(|&start| {
        let (mut at, mut frames) = (start as u64, 0);
        loop {
            let frame = usize::try_from(at).ok().and_then(|at| header_at(bytes, at));
            let Some(frame) = frame else { break };
            if !frame.is_usual(longest) {
                return false;
            }
            frames += 1;
            at += HEADER as u64 + u64::from(frame.length);
        }
        // A call often begins with a frame and ends with one: that is as good as a further header.
        frames + u32::from(start == 0) + u32::from(at == all) >= 3
    })
}

/// Whether bytes may begin with a frame and end within one.
pub(super) fn ends_within(bytes: &[u8], longest: u32) -> bool {
    let longest = longest.max(LONGEST);
    let mut rest = bytes;
    while let Some(frame) = header_at(rest, 0) {
        if !frame.is_usual(longest) {
            return false;
        }
        let all = u64::from(frame.length) + HEADER as u64;
        match usize::try_from(all).ok().and_then(|all| rest.get(all..)) {
            Some(behind) => rest = behind,
            None => return true,
        }
    }
    // A payload of 64 KiB or more is rare.
    rest.first().is_none_or(|first| *first == 0)
}

/// Whether the bytes of a call that was joined late are HTTP/2: frames beyond doubt, and among them a header block that says
/// so.
pub(crate) fn is_http2(bytes: &[u8], all: u64) -> bool {
    let Some(mut at) = prove(bytes, all, LONGEST) else { return false };
    while let Some(frame) = header_at(bytes, at) {
        let payload = at + HEADER;
        let Ok(length) = usize::try_from(frame.length) else { return false };
        at = payload + length;
        let Some(payload) = bytes.get(payload..at) else { return false };
        if frame.begins_message(payload) {
            return true;
        }
    }
    false
}

/// The part of a header block in the payload of a HEADERS, PUSH_PROMISE or CONTINUATION frame, without padding and what
/// stands before it; `None` where it has none.
pub(super) fn fragment(frame: Frame, payload: &[u8]) -> Option<&[u8]> {
    let (mut rest, mut padding) = (payload, 0);
    if frame.kind != Kind::Continuation && frame.has(PADDED) {
        let (&length, behind) = rest.split_first()?;
        (padding, rest) = (usize::from(length), behind);
    }
    let before = match frame.kind {
        Kind::Headers if frame.has(PRIORITY) => 5,
        Kind::PushPromise => 4,
        _ => 0,
    };
    let rest = rest.get(before..)?;
    rest.get(..rest.len().checked_sub(padding)?)
}

/// What is there of that part, where the end of the payload is missing.
pub(super) fn fragment_start(frame: Frame, payload: &[u8]) -> &[u8] {
    let padding = payload.first().filter(|_| frame.kind != Kind::Continuation && frame.has(PADDED));
    let missing = (frame.length as usize).saturating_sub(payload.len());
    let padding = padding.map_or(0, |&length| usize::from(length).saturating_sub(missing));
    let whole = Frame { flags: frame.flags & !PADDED, ..frame };
    let rest = if frame.flags == whole.flags { payload } else { payload.get(1..).unwrap_or_default() };
    let rest = fragment(whole, rest).unwrap_or_default();
    rest.get(..rest.len().saturating_sub(padding)).unwrap_or_default()
}

/// Name of an error code (section 7).
pub(crate) const fn error_name(code: u32) -> &'static str {
    match code {
        0 => "NO_ERROR",
        1 => "PROTOCOL_ERROR",
        2 => "INTERNAL_ERROR",
        3 => "FLOW_CONTROL_ERROR",
        4 => "SETTINGS_TIMEOUT",
        5 => "STREAM_CLOSED",
        6 => "FRAME_SIZE_ERROR",
        7 => "REFUSED_STREAM",
        8 => "CANCEL",
        9 => "COMPRESSION_ERROR",
        10 => "CONNECT_ERROR",
        11 => "ENHANCE_YOUR_CALM",
        12 => "INADEQUATE_SECURITY",
        13 => "HTTP_1_1_REQUIRED",
        _ => "_OTHER",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
        let length = (payload.len() as u32).to_be_bytes();
        [&length[1..], &[kind, flags], &stream.to_be_bytes(), payload].concat()
    }

    #[test]
    fn places_are_proven() {
        let ping = frame(6, 0, 0, &[7; 8]);
        let data = frame(0, 0, 5, b"hello");
        let proven = |bytes: &[u8], all: usize| prove(bytes, all as u64, 0);
        // The call begins and ends with it; or more of them follow each other.
        assert_eq!(proven(&ping, ping.len()), Some(0));
        assert_eq!(proven(&ping, ping.len() + 1), None);
        assert_eq!(proven(&ping[1..], ping.len() - 1), None);
        let both = [&data[3..], &ping, &data].concat();
        assert_eq!(proven(&both, both.len()), Some(data.len() - 3));
        assert_eq!(proven(&both, both.len() + 9), None);
        let three = [&data[3..], &ping, &data, &data].concat();
        assert_eq!(proven(&three[..three.len() - 4], 500), Some(data.len() - 3));
        // A long payload of which the first bytes were captured.
        let long = [&ping[..], &frame(0, 1, 7, &[0; 5000])[..60]].concat();
        assert_eq!(proven(&long, long.len() + 4949), Some(0));
    }

    #[test]
    fn what_no_frame_begins_with() {
        for bytes in [
            &[0; 64][..],
            &[0xff; 64],
            b"GET / HTTP/1.1\r\nHost: a\r\n\r\n",
            b"\x00\x00\x01\x00\x00\x00\x00\x00\x00x",
        ] {
            assert_eq!(prove(bytes, bytes.len() as u64, 0), None);
        }
        // yamux: version, type, flags, stream, length. A new stream's window, then data of it.
        let yamux = b"\x00\x01\x00\x01\x00\x00\x00\x01\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x01\x00\x00\x00\x05hello";
        assert_eq!(prove(yamux, yamux.len() as u64, 0), None);
    }

    #[test]
    fn parts_of_header_blocks() {
        let whole = |kind, flags, payload: &[u8]| {
            let bytes = frame(kind, flags, 1, payload);
            fragment(header_at(&bytes, 0).unwrap(), payload).map(<[u8]>::to_vec)
        };
        assert_eq!(whole(1, 0x4, b"abc"), Some(b"abc".to_vec()));
        assert_eq!(whole(1, 0x2c, b"\x02\x00\x00\x00\x00\x00abc\x00\x00"), Some(b"abc".to_vec()));
        assert_eq!(whole(5, 0xc, b"\x01\x00\x00\x00\x02abc\x00"), Some(b"abc".to_vec()));
        assert_eq!(whole(9, 0xc, b"abc"), Some(b"abc".to_vec()));
        assert_eq!(whole(1, 0x8, b"\x04abc"), None);
        assert_eq!(whole(1, 0x20, b"abc"), None);
        let cut = Frame::parse(&frame(1, 0x28, 1, &[0; 20])[..9].try_into().unwrap());
        assert_eq!(fragment_start(cut, b"\x04\x00\x00\x00\x00\x00abcdefgh"), b"abcdefgh");
        assert_eq!(fragment_start(cut, b"\x04\x00\x00\x00\x00\x00abcdefgh01\x00\x00"), b"abcdefgh01");
        assert_eq!(fragment_start(cut, b"\x04\x00"), b"");
        assert_eq!(fragment_start(cut, b""), b"");
    }
}
