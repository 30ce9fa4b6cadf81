//! Rust source with comments and the contents of literals blanked out, so that rules see code only.

/// The same text, byte for byte and line for line, with spaces for comments and for what stands in quotes.
pub(super) fn code(text: &str) -> String {
    let bytes = text.as_bytes();
    let mut out = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while let Some(rest) = bytes.get(at..).filter(|rest| !rest.is_empty()) {
        let len = token(rest, at.checked_sub(1).and_then(|before| bytes.get(before)).copied());
        let blank = len > 1;
        let piece = rest.get(..len).unwrap_or(rest);
        out.extend(piece.iter().map(|byte| if blank && *byte != b'\n' { b' ' } else { *byte }));
        at += piece.len();
    }
    String::from_utf8_lossy(&out).into_owned()
}

/// Length of the comment or literal that starts here; 1 for anything else.
fn token(rest: &[u8], before: Option<u8>) -> usize {
    match rest {
        [b'/', b'/', ..] => rest.iter().position(|byte| *byte == b'\n').unwrap_or(rest.len()),
        [b'/', b'*', ..] => block_comment(rest),
        [b'"', ..] => quoted(rest),
        [b'r', b'"' | b'#', ..] if !before.is_some_and(is_word_byte_but_b) => raw(rest),
        [b'\'', b'\\', ..] => rest.iter().skip(3).position(|byte| *byte == b'\'').map_or(1, |end| end + 4),
        [b'\'', first, ..] => {
            // A character, however many bytes it has, and not a lifetime.
            let width = if *first < 0x80 {
                1
            } else {
                rest.iter().skip(2).take_while(|b| **b & 0xc0 == 0x80).count() + 1
            };
            if rest.get(1 + width) == Some(&b'\'') { width + 2 } else { 1 }
        }
        _ => 1,
    }
}

fn block_comment(rest: &[u8]) -> usize {
    let mut depth = 0_usize;
    let mut at = 0;
    while let Some(pair) = rest.get(at..at + 2) {
        match pair {
            b"/*" => (depth, at) = (depth + 1, at + 2),
            b"*/" => (depth, at) = (depth - 1, at + 2),
            _ => at += 1,
        }
        if depth == 0 {
            return at;
        }
    }
    rest.len()
}

fn quoted(rest: &[u8]) -> usize {
    let mut escaped = false;
    for (at, byte) in rest.iter().enumerate().skip(1) {
        match byte {
            _ if escaped => escaped = false,
            b'\\' => escaped = true,
            b'"' => return at + 1,
            _ => {}
        }
    }
    rest.len()
}

/// `r"…"`, `r#"…"#`; a raw identifier (`r#type`) is no literal.
fn raw(rest: &[u8]) -> usize {
    let hashes = rest.iter().skip(1).take_while(|byte| **byte == b'#').count();
    if rest.get(1 + hashes) != Some(&b'"') {
        return 1;
    }
    let mut end = vec![b'"'];
    end.resize(1 + hashes, b'#');
    let body = rest.get(2 + hashes..).unwrap_or_default();
    let found = body.windows(end.len()).position(|window| window == end);
    found.map_or(rest.len(), |at| 2 + hashes + at + end.len())
}

/// `br"…"` is a literal too, `bar"` never occurs.
fn is_word_byte_but_b(byte: u8) -> bool {
    (byte.is_ascii_alphanumeric() || byte == b'_') && byte != b'b'
}

/// Whether `word` stands in `line` with no identifier's character beside it.
pub(super) fn has_word(line: &str, word: &str) -> bool {
    let is_part = |c: char| c.is_alphanumeric() || c == '_';
    line.match_indices(word).any(|(at, _)| {
        let before = line.get(..at).and_then(|text| text.chars().next_back());
        let after = line.get(at + word.len()..).and_then(|text| text.chars().next());
        !before.is_some_and(is_part) && !after.is_some_and(is_part)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_code_is_left() {
        for (text, expected) in [
            ("a // b", "a     "),
            ("a /* b /* c */ d */ e", "a                   e"),
            (r#"f("unsafe \" x", y)"#, "f(             , y)"),
            (r##"f(r#"a "quoted" b"#, z)"##, "f(                 , z)"),
            ("let c = '\"'; let s: &'a str = x;", "let c =    ; let s: &'a str = x;"),
            ("'\\'' '\\u{1F600}' 'ä' b", "                      b"),
            ("for r in r#type {}", "for r in r#type {}"),
        ] {
            let blanked = code(text);
            assert_eq!(blanked.trim_end(), expected.trim_end(), "{text}");
        }
        assert_eq!(code("a\n// b\n\"c\nd\" e").lines().count(), 4);
    }

    #[test]
    fn words_are_whole() {
        assert!(has_word("unsafe {", "unsafe"));
        assert!(!has_word("#![forbid(unsafe_code)]", "unsafe"));
        assert!(!has_word("papaya::x", "aya"));
    }
}
