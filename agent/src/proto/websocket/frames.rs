//! Frames of one direction (RFC 6455, section 5.2), as far as their headers are seen. Payload is passed over.

/// Longest header: two bytes, a length of eight, a key of four.
const HEADER: usize = 14;

/// Opcodes (section 11.8).
const CONTINUATION: u8 = 0;
const TEXT: u8 = 1;
const BINARY: u8 = 2;
const CLOSE: u8 = 8;
const PING: u8 = 9;
const PONG: u8 = 10;

/// Payload of a control frame at most (section 5.5).
const CONTROL: u64 = 125;

/// Where in the frames of one direction the next byte stands.
#[derive(Debug)]
pub(super) struct Frames {
    /// What a client sends is masked, what a server sends is not (section 5.1).
    masked: bool,
    /// A frame's header, as far as it is there.
    header: [u8; HEADER],
    have: usize,
    /// Bytes of payload that are to come.
    left: u64,
    /// A message has begun that is not over.
    fragmented: bool,
    /// The frame under way ends a message.
    ends_message: bool,
    /// Messages that went by whole.
    messages: u64,
    close: Close,
    /// A header was not seen, or is none: where the next one stands is not known.
    lost: bool,
}

/// The frame that says that nothing follows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Close {
    /// None yet.
    None,
    /// Its header is read: its key, and how much of the status code.
    Under { key: [u8; 4], code: [u8; 2], have: usize },
    /// All of it went by.
    Seen(Option<u16>),
}

impl Frames {
    pub(super) const fn new(masked: bool) -> Self {
        Self {
            masked,
            header: [0; HEADER],
            have: 0,
            left: 0,
            fragmented: false,
            ends_message: false,
            messages: 0,
            close: Close::None,
            lost: false,
        }
    }

    /// The next bytes.
    pub(super) fn feed(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() && !self.is_done() {
            if self.left > 0 {
                let n = self.left.min(bytes.len() as u64);
                // Bounded by the slice's own length.
                let (payload, rest) = bytes.split_at_checked(n as usize).unwrap_or_default();
                self.read_code(payload);
                self.pass(n);
                bytes = rest;
                continue;
            }
            let Some((&byte, rest)) = bytes.split_first() else { return };
            bytes = rest;
            if let Some(to) = self.header.get_mut(self.have) {
                *to = byte;
                self.have += 1;
            }
            if self.have == self.header_length() {
                self.have = 0;
                self.begin();
            }
        }
    }

    /// Bytes that nobody looked into.
    pub(super) fn skip(&mut self, n: u64) {
        if n == 0 || self.is_done() {
            return;
        }
        if n > self.left {
            self.lost = true;
            return;
        }
        if let Close::Under { have, .. } = &mut self.close
            && *have < 2
        {
            // What comes behind it is no code.
            *have = usize::MAX;
        }
        self.pass(n);
    }

    /// Every header was seen so far.
    pub(super) const fn is_known(&self) -> bool {
        !self.lost
    }

    /// How many messages went by whole; `None` where that is not known.
    pub(super) fn messages(&self) -> Option<u64> {
        (!self.lost).then_some(self.messages)
    }

    /// The status code of the frame that closes, once that went by; it may have none.
    pub(super) const fn closed(&self) -> Option<Option<u16>> {
        match self.close {
            Close::Seen(code) => Some(code),
            Close::None | Close::Under { .. } => None,
        }
    }

    /// Nothing more is to be read.
    const fn is_done(&self) -> bool {
        self.lost || self.closed().is_some()
    }

    /// How long the header under way is, as far as that is known.
    fn header_length(&self) -> usize {
        let [_, second, ..] = self.header;
        if self.have < 2 {
            return 2;
        }
        let length = match second & 0x7f {
            126 => 2,
            127 => 8,
            _ => 0,
        };
        2 + length + if second & 0x80 == 0 { 0 } else { 4 }
    }

    /// A header is there.
    fn begin(&mut self) {
        let [first, second, a, b, c, d, e, f, g, h, ..] = self.header;
        let (extended, key_at) = match second & 0x7f {
            126 => (u64::from(u16::from_be_bytes([a, b])), 4),
            127 => (u64::from_be_bytes([a, b, c, d, e, f, g, h]), 10),
            length => (u64::from(length), 2),
        };
        let (fin, opcode, masked) = (first & 0x80 != 0, first & 0x0f, second & 0x80 != 0);
        let in_turn = match opcode {
            CONTINUATION => self.fragmented,
            TEXT | BINARY => !self.fragmented,
            CLOSE | PING | PONG => fin && extended <= CONTROL,
            _ => false,
        };
        if !in_turn || masked != self.masked || extended > i64::MAX as u64 {
            self.lost = true;
            return;
        }
        if opcode <= BINARY {
            self.fragmented = !fin;
        }
        self.ends_message = opcode <= BINARY && fin;
        if opcode == CLOSE {
            let key = self.header.get(key_at..).and_then(|key| key.first_chunk());
            let key = key.filter(|_| masked).copied().unwrap_or_default();
            self.close = Close::Under { key, code: [0; 2], have: 0 };
        }
        self.left = extended;
        if extended == 0 {
            self.end();
        }
    }

    /// Payload went by.
    fn pass(&mut self, n: u64) {
        self.left -= n;
        if self.left == 0 {
            self.end();
        }
    }

    /// A frame is over.
    fn end(&mut self) {
        self.messages += u64::from(std::mem::take(&mut self.ends_message));
        if let Close::Under { code, have, .. } = self.close {
            self.close = Close::Seen((have == 2).then(|| u16::from_be_bytes(code)));
        }
    }

    /// Takes the status code from the beginning of the payload of a frame that closes (section 5.5.1).
    fn read_code(&mut self, payload: &[u8]) {
        let Close::Under { key, code, have } = &mut self.close else { return };
        for byte in payload {
            let (Some(to), Some(key)) = (code.get_mut(*have), key.get(*have)) else { return };
            *to = byte ^ key;
            *have += 1;
        }
    }
}
