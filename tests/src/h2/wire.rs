//! HTTP/2 by hand: frames (RFC 9113, section 4) and header blocks (RFC 7541), as raw peers write them.

/// What a client begins a connection with, before its settings (section 3.4).
pub const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// Types of frames (section 6).
pub const DATA: u8 = 0;
/// See [`DATA`].
pub const HEADERS: u8 = 1;
/// See [`DATA`].
pub const SETTINGS: u8 = 4;
/// See [`DATA`].
pub const PING: u8 = 6;
/// See [`DATA`].
pub const CONTINUATION: u8 = 9;
/// Flags of theirs.
pub const END_STREAM: u8 = 1;
/// Of settings.
pub const ACK: u8 = 1;
/// See [`END_STREAM`].
pub const END_HEADERS: u8 = 4;
/// A request's first fields: `:method GET`, `:scheme http`.
pub const GET: &[u8] = &[0x82, 0x86];
/// `:method POST`, `:scheme http`.
pub const POST: &[u8] = &[0x83, 0x86];
/// `:status 200`.
pub const OK: &[u8] = &[0x88];

/// A frame.
///
/// # Panics
/// When the payload is longer than any can be.
#[must_use]
pub fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let [0, length @ ..] = u32::try_from(payload.len()).unwrap_or(u32::MAX).to_be_bytes() else {
        panic!("{} bytes are too many for a frame", payload.len());
    };
    [&length[..], &[kind, flags], &stream.to_be_bytes(), payload].concat()
}

/// The field `:path`.
#[must_use]
pub fn path(value: &str) -> Vec<u8> {
    [&[0x04][..], &string(value)].concat()
}

/// A field that no table has.
#[must_use]
pub fn field(name: &str, value: &str) -> Vec<u8> {
    [&[0][..], &string(name), &string(value)].concat()
}

/// A string without Huffman's code (RFC 7541, sections 5.1 and 5.2).
fn string(text: &str) -> Vec<u8> {
    let mut bytes = vec![text.len().min(127) as u8];
    if let Some(mut rest) = text.len().checked_sub(127) {
        while rest >= 128 {
            bytes.push(rest as u8 | 128);
            rest >>= 7;
        }
        bytes.push(rest as u8);
    }
    bytes.extend(text.as_bytes());
    bytes
}
