//! What the first bytes of a run say. Bounded, without a table, and small enough for the kernel's verifier.
//!
//! HTTP/1.1 message syntax: RFC 9112, sections 3 (request line) and 4 (status line).

/// Bytes that [`http1`] looks at.
pub const LOOK: usize = 32;

/// What a run begins with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Start {
    /// A method and the beginning of a request target.
    Request,
    /// `HTTP/1.`
    Response,
    /// Too few bytes to tell, and nothing speaks against it yet.
    Short,
    /// Not HTTP/1.
    Other,
}

/// Looks at the first [`LOOK`] bytes of a run, `len` of which are valid.
///
/// A request is a token of upper-case letters, digits, `-` or `_` that begins with a letter (every registered method, and
/// the extension methods seen in the wild), one space, and then `/`, `*`, `http` or, for CONNECT, an authority.
#[inline(always)]
#[must_use]
pub fn http1(first: &[u8; LOOK], len: usize) -> Start {
    let len = if len < LOOK { len } else { LOOK };
    const VERSION: [u8; 7] = *b"HTTP/1.";
    let mut same = 0;
    while same < 7 && same < len {
        if at(first, same) != at(&VERSION, same) {
            break;
        }
        same += 1;
    }
    if same == 7 {
        return Start::Response;
    }
    if same == len {
        return Start::Short;
    }
    let mut i = 0;
    while i < 24 {
        if i >= len {
            return Start::Short;
        }
        let byte = at(first, i);
        if byte == b' ' {
            break;
        }
        let letter = byte.is_ascii_uppercase();
        let other = byte.is_ascii_digit() || byte == b'-' || byte == b'_';
        if !letter && !(other && i > 0) {
            return Start::Other;
        }
        i += 1;
    }
    if i == 0 || i == 24 {
        return Start::Other;
    }
    if i + 1 >= len {
        return Start::Short;
    }
    match at(first, i + 1) {
        b'/' | b'*' => Start::Request,
        b'h' | b'H' => absolute(first, i + 1, len),
        _ if i == 7 && is_connect(first) => Start::Request,
        _ => Start::Other,
    }
}

#[inline(always)]
fn absolute(first: &[u8; LOOK], from: usize, len: usize) -> Start {
    const SCHEME: [u8; 4] = *b"http";
    let mut i = 0;
    while i < 4 {
        if from + i >= len {
            return Start::Short;
        }
        if at(first, from + i).to_ascii_lowercase() != at(&SCHEME, i) {
            return if is_connect(first) && from == 8 { Start::Request } else { Start::Other };
        }
        i += 1;
    }
    Start::Request
}

#[inline(always)]
fn is_connect(first: &[u8; LOOK]) -> bool {
    const CONNECT: [u8; 8] = *b"CONNECT ";
    let mut i = 0;
    while i < 8 {
        if at(first, i) != at(&CONNECT, i) {
            return false;
        }
        i += 1;
    }
    true
}

/// Indexing that leaves no panic code behind, which the verifier would refuse.
#[inline(always)]
fn at<const N: usize>(bytes: &[u8; N], i: usize) -> u8 {
    match bytes.get(i) {
        Some(byte) => *byte,
        None => 0,
    }
}

#[cfg(test)]
mod tests {
    use super::{LOOK, Start, http1};

    fn look(text: &str) -> Start {
        let mut first = [0; LOOK];
        let len = text.len().min(LOOK);
        first[..len].copy_from_slice(&text.as_bytes()[..len]);
        http1(&first, text.len())
    }

    #[test]
    fn requests() {
        for text in [
            "GET / HTTP/1.1",
            "POST /a",
            "OPTIONS * HTTP/1.1",
            "GET http://a/ HTTP/1.1",
            "CONNECT h:1 HTTP/1.1",
            "CONNECT a.b:443",
            "M-SEARCH * ",
            "BASELINE-CONTROL /x",
            "X /",
        ] {
            assert_eq!(look(text), Start::Request, "{text}");
        }
    }

    #[test]
    fn responses() {
        for text in ["HTTP/1.1 200 OK", "HTTP/1.0 404", "HTTP/1."] {
            assert_eq!(look(text), Start::Response, "{text}");
        }
    }

    #[test]
    fn too_short_to_tell() {
        for text in ["", "H", "HTTP/", "G", "GET", "GET ", "GET h", "GET htt"] {
            assert_eq!(look(text), Start::Short, "{text}");
        }
    }

    #[test]
    fn others() {
        for text in ["get /", "\x16\x03\x01", "HELO mail", "GET key", " GET /"] {
            assert_eq!(look(text), Start::Other, "{text}");
        }
    }
}
