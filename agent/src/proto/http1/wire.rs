//! Borrowing views of a head: start lines, field lines, where it ends. RFC 9112, sections 2 to 5.
//!
//! Lenient where recipients in the wild are: a bare LF ends a line (section 2.2), field values may be folded
//! (section 5.2), space before the colon is ignored. What a field means is said in `fields`.

use memchr::{memchr, memchr_iter, memrchr};

/// What a start line turned out to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Line<T> {
    /// As it should be.
    Valid(T),
    /// The connection preface of HTTP/2 (RFC 9113, section 3.4).
    Http2,
    /// Not HTTP/1.
    Invalid,
}

/// `method SP request-target SP HTTP-version`
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct RequestLine<'a> {
    pub(super) method: &'a [u8],
    pub(super) target: &'a [u8],
    /// Minor version.
    pub(super) version: u8,
}

/// One field line, folds included in the value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::proto) struct Field<'a> {
    pub(in crate::proto) name: &'a [u8],
    /// Without the white space around it. Where [`Field::folded`] finds a line break, the value spans lines.
    pub(in crate::proto) value: &'a [u8],
}

impl Field<'_> {
    /// The value spans lines (obs-fold, RFC 9112 section 5.2).
    pub(super) fn folded(&self) -> bool {
        memchr(b'\n', self.value).is_some()
    }
}

/// Length of the head at the start of `bytes`, its closing empty line included, `None` where its end is not there yet.
/// The first `seen` bytes were searched before.
pub(super) fn head_end(bytes: &[u8], seen: usize) -> Option<usize> {
    // The end is at most "\n\r\n": two bytes of it may have been searched in vain.
    let from = seen.saturating_sub(3);
    let searched = bytes.get(from..)?;
    memchr_iter(b'\n', searched).find_map(|at| match searched.get(at + 1..)? {
        [b'\n', ..] => Some(from + at + 2),
        [b'\r', b'\n', ..] => Some(from + at + 3),
        _ => None,
    })
}

/// The first line of a head without its end, and what follows; `None` where its end is not there.
pub(super) fn first_line(head: &[u8]) -> Option<(&[u8], &[u8])> {
    let (line, rest) = head.split_at_checked(memchr(b'\n', head)?)?;
    Some((line.strip_suffix(b"\r").unwrap_or(line), rest.get(1..).unwrap_or_default()))
}

/// Reads a request line, without its line end. RFC 9112, section 3.
pub(super) fn request_line(line: &[u8]) -> Line<RequestLine<'_>> {
    let Some((method, rest)) = split_at_space(line) else { return Line::Invalid };
    let rest = rest.trim_ascii();
    // The last space: some clients send targets that hold spaces.
    let Some(space) = memrchr(b' ', rest) else { return Line::Invalid };
    let (target, version) = rest.split_at_checked(space).unwrap_or_default();
    let target = target.trim_ascii_end();
    if target.is_empty() || !is_method(method) {
        return Line::Invalid;
    }
    match version.trim_ascii_start() {
        [b'H', b'T', b'T', b'P', b'/', b'1', b'.', minor @ b'0'..=b'9'] => {
            Line::Valid(RequestLine { method, target, version: (minor - b'0').min(1) })
        }
        b"HTTP/2.0" if method == b"PRI" => Line::Http2,
        _ => Line::Invalid,
    }
}

/// What is known of a request line whose end was not captured: its method and the beginning of its target. The minor
/// version is taken to be 1. `None` where the bytes are not text.
pub(super) fn request_line_start(start: &[u8]) -> Option<RequestLine<'_>> {
    let (method, rest) = split_at_space(start)?;
    let target = rest.split(|&byte| byte == b' ').next().unwrap_or_default();
    let text = start.iter().all(|&byte| byte >= b' ' && byte != 0x7f);
    (text && is_method(method) && !target.is_empty()).then_some(RequestLine { method, target, version: 1 })
}

/// Reads the status code of a status line, which may lack its end. RFC 9112, section 4.
pub(super) fn status_line(line: &[u8]) -> Line<u16> {
    let [b'H', b'T', b'T', b'P', b'/', b'1', b'.', b'0'..=b'9', b' ', rest @ ..] = line else {
        return Line::Invalid;
    };
    match rest.trim_ascii_start() {
        [a @ b'1'..=b'9', b @ b'0'..=b'9', c @ b'0'..=b'9']
        | [a @ b'1'..=b'9', b @ b'0'..=b'9', c @ b'0'..=b'9', b' ' | b'\t' | b'\r', ..] => {
            let digit = |byte: &u8| u16::from(byte - b'0');
            Line::Valid(digit(a) * 100 + digit(b) * 10 + digit(c))
        }
        _ => Line::Invalid,
    }
}

/// A method of the registry, in part (RFC 9110, section 9; RFC 5789; WebDAV; UPnP). Where the bytes before it went unseen, `ATCH`
/// may be the end of `PATCH`: there only these are believed.
pub(super) fn is_registered(method: &[u8]) -> bool {
    match method.len() {
        3 => matches!(method, b"GET" | b"PUT" | b"ACL"),
        4 => matches!(method, b"POST" | b"HEAD" | b"COPY" | b"MOVE" | b"LOCK"),
        5 => matches!(method, b"PATCH" | b"TRACE" | b"MKCOL" | b"QUERY" | b"PURGE" | b"MERGE"),
        6 => matches!(method, b"DELETE" | b"SEARCH" | b"REPORT" | b"UNLOCK" | b"NOTIFY"),
        _ => matches!(
            method,
            b"OPTIONS" | b"CONNECT" | b"PROPFIND" | b"PROPPATCH" | b"CHECKOUT" | b"M-SEARCH" | b"SUBSCRIBE"
        ),
    }
}

/// The field lines behind a start line, up to the empty line or the end of what was captured.
pub(in crate::proto) struct Fields<'a>(pub(in crate::proto) &'a [u8]);

impl<'a> Iterator for Fields<'a> {
    type Item = Field<'a>;

    fn next(&mut self) -> Option<Field<'a>> {
        loop {
            // A line without its end may be cut anywhere: it is not read.
            let mut end = memchr(b'\n', self.0)? + 1;
            while let Some(b' ' | b'\t') = self.0.get(end) {
                end += memchr(b'\n', self.0.get(end..)?)? + 1;
            }
            let (lines, rest) = self.0.split_at_checked(end)?;
            self.0 = rest;
            let Some(colon) = memchr(b':', lines) else {
                if lines.trim_ascii().is_empty() {
                    return None;
                }
                continue;
            };
            let (name, value) = lines.split_at_checked(colon)?;
            return Some(Field { name: name.trim_ascii(), value: value.get(1..)?.trim_ascii() });
        }
    }
}

fn split_at_space(line: &[u8]) -> Option<(&[u8], &[u8])> {
    let (before, after) = line.split_at_checked(memchr(b' ', line)?)?;
    Some((before, after.get(1..)?))
}

/// A token, RFC 9110 section 5.6.2.
pub(in crate::proto) fn is_method(method: &[u8]) -> bool {
    !method.is_empty()
        && method.iter().all(|&byte| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte))
}

#[cfg(test)]
mod tests {
    use super::{Field, Fields, Line, RequestLine, first_line, head_end, request_line, status_line};

    #[test]
    fn heads_end_at_the_first_empty_line() {
        for (head, end) in [
            (&b"GET / HTTP/1.1\r\n\r\nmore"[..], Some(18)),
            (b"GET / HTTP/1.1\n\n", Some(16)),
            (b"GET / HTTP/1.1\r\nA: b\n\r\n", Some(23)),
            (b"GET / HTTP/1.1\r\nA: b\r\n", None),
            (b"GET / HTTP/1.1\r\n\r", None),
            (b"", None),
        ] {
            assert_eq!(head_end(head, 0), end, "{}", head.escape_ascii());
            // Found in every second of two searches, wherever the first one stopped.
            for seen in 0..end.unwrap_or(0) {
                assert_eq!(head_end(head, seen), end, "{} from {seen}", head.escape_ascii());
            }
        }
    }

    #[test]
    fn request_lines() {
        let get = |target, version| Line::Valid(RequestLine { method: b"GET", target, version });
        assert_eq!(request_line(b"GET / HTTP/1.1"), get(b"/", 1));
        assert_eq!(request_line(b"GET /a b HTTP/1.0"), get(b"/a b", 0));
        assert_eq!(request_line(b"GET  /a  HTTP/1.1 "), get(b"/a", 1));
        assert_eq!(request_line(b"GET /a HTTP/1.7"), get(b"/a", 1));
        assert_eq!(request_line(b"PRI * HTTP/2.0"), Line::Http2);
        for line in [&b"GET /"[..], b"GET / HTTP/2.0", b"GET  HTTP/1.1", b"G\xc3T / HTTP/1.1", b"", b" "] {
            assert_eq!(request_line(line), Line::Invalid, "{}", line.escape_ascii());
        }
    }

    #[test]
    fn status_lines() {
        for (line, status) in [("HTTP/1.1 200 OK", 200), ("HTTP/1.0 404", 404), ("HTTP/1.1 999 \r", 999)] {
            assert_eq!(status_line(line.as_bytes()), Line::Valid(status), "{line}");
        }
        for line in ["HTTP/1.1 2000", "HTTP/1.1 20", "HTTP/2 200", "HTTP/1.1 abc", "HTTP/1.1 099"] {
            assert_eq!(status_line(line.as_bytes()), Line::Invalid, "{line}");
        }
    }

    #[test]
    fn fields_are_trimmed_and_folds_kept() {
        let (line, rest) =
            first_line(b"GET / HTTP/1.1\r\nA:b\r\nc : d \r\nfold: x\r\n\ty\r\nnone\r\n\r\nE: f\r\n").unwrap();
        assert_eq!(line, b"GET / HTTP/1.1");
        let fields: Vec<_> = Fields(rest).collect();
        assert_eq!(
            fields,
            [
                Field { name: b"A", value: b"b" },
                Field { name: b"c", value: b"d" },
                Field { name: b"fold", value: b"x\r\n\ty" },
            ]
        );
        assert!(fields[2].folded());
    }
}
