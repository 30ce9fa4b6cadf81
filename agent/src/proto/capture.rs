//! What is kept of a request's head beside what every span needs: headers that were asked for, trace contexts in other
//! formats than W3C's, and whether its path is excluded. With none of that asked for, a head costs one test.

use std::sync::Arc;

use super::propagation::Propagators;

/// Values of captured headers that one exchange keeps at most; later ones are not kept.
pub const HEADERS: usize = 64;
/// Bytes of one captured value that are kept; the rest is cut off.
pub const VALUE_BYTES: usize = 2048;

/// What was asked for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Capture {
    /// Headers of requests.
    pub request: HeaderNames,
    /// Headers of responses.
    pub response: HeaderNames,
    /// Formats of the trace context.
    pub propagators: Propagators,
    /// Paths whose exchanges are counted, but not exported.
    pub excluded: PathGlobs,
}

/// A header that was asked for, as one field line had it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CapturedHeader {
    /// Lower-case name.
    pub name: Arc<str>,
    /// Value, at most [`VALUE_BYTES`], invalid UTF-8 replaced.
    pub value: Box<str>,
    /// Of the response.
    pub of_response: bool,
}

/// Names of headers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HeaderNames {
    names: Vec<Arc<str>>,
    /// A bit for each length that a name has: nearly all field lines are none of them.
    lengths: u64,
}

impl HeaderNames {
    /// Names in any case.
    #[must_use]
    pub fn new<'a>(names: impl IntoIterator<Item = &'a str>) -> Self {
        let mut all = Self::default();
        for name in names {
            let name = name.to_ascii_lowercase();
            all.lengths |= Self::bit(name.len());
            if !all.names.iter().any(|known| **known == *name) {
                all.names.push(name.into());
            }
        }
        all
    }

    /// Nothing was asked for.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.names.is_empty()
    }

    /// The name that a field has, where it was asked for.
    #[must_use]
    pub fn find(&self, field: &[u8]) -> Option<&Arc<str>> {
        if self.lengths & Self::bit(field.len()) == 0 {
            return None;
        }
        self.names.iter().find(|name| name.as_bytes().eq_ignore_ascii_case(field))
    }

    fn bit(length: usize) -> u64 {
        1 << length.min(63)
    }
}

/// Patterns of paths: `*` stands for any characters, slashes too.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PathGlobs(Vec<Box<str>>);

impl PathGlobs {
    /// Any of the patterns.
    #[must_use]
    pub fn new<'a>(patterns: impl IntoIterator<Item = &'a str>) -> Self {
        Self(patterns.into_iter().map(Box::from).collect())
    }

    /// Whether one of them matches the path of a request target (RFC 9112, section 3.2).
    #[must_use]
    pub fn match_target(&self, target: &[u8]) -> bool {
        if self.0.is_empty() {
            return false;
        }
        let path = path_of(target);
        self.0.iter().any(|pattern| glob(pattern.as_bytes(), path))
    }
}

/// The path of a target in origin or absolute form.
fn path_of(target: &[u8]) -> &[u8] {
    let path = if target.first() == Some(&b'/') {
        target
    } else {
        let authority =
            target.windows(3).position(|three| three == b"://").and_then(|at| target.get(at + 3..));
        match authority {
            Some(rest) => {
                rest.iter().position(|&byte| byte == b'/').and_then(|at| rest.get(at..)).unwrap_or(b"/")
            }
            None => target,
        }
    };
    let end = path.iter().position(|&byte| byte == b'?' || byte == b'#').unwrap_or(path.len());
    path.get(..end).unwrap_or(path)
}

/// Greedy, with one place to come back to: linear in practice, the product of both lengths at worst.
fn glob(pattern: &[u8], text: &[u8]) -> bool {
    let (mut p, mut t) = (0, 0);
    let mut star: Option<(usize, usize)> = None;
    while t < text.len() {
        match pattern.get(p) {
            Some(b'*') => {
                star = Some((p, t));
                p += 1;
            }
            Some(byte) if text.get(t) == Some(byte) => {
                p += 1;
                t += 1;
            }
            _ => {
                let Some((at, matched)) = star else { return false };
                star = Some((at, matched + 1));
                p = at + 1;
                t = matched + 1;
            }
        }
    }
    pattern.get(p..).is_some_and(|rest| rest.iter().all(|&byte| byte == b'*'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_in_any_case() {
        let names = HeaderNames::new(["X-Request-Id", "accept", "ACCEPT"]);
        assert_eq!(names.find(b"x-REQUEST-id").map(|name| &**name), Some("x-request-id"));
        assert_eq!(names.find(b"Accept").map(|name| &**name), Some("accept"));
        assert_eq!(names.find(b"Accent"), None);
        assert_eq!(HeaderNames::default().find(b""), None);
    }

    #[test]
    fn excluded_paths() {
        let globs = PathGlobs::new(["/health*", "/metrics", "*/ready", "/a*b*c"]);
        for (target, expected) in [
            ("/health", true),
            ("/healthz?full=1", true),
            ("/health/live", true),
            ("/heal", false),
            ("/metrics", true),
            ("/metrics/", false),
            ("/metrics?x", true),
            ("/app/ready", true),
            ("/ready", true),
            ("/readyz", false),
            ("/abc", true),
            ("/a12b34c", true),
            ("/a12b34cd", false),
            ("/?/metrics", false),
            ("http://h/metrics", true),
            ("http://h:80/metrics?y", true),
            ("http://h", false),
            ("*", false),
            ("h:443", false),
            ("", false),
        ] {
            assert_eq!(globs.match_target(target.as_bytes()), expected, "{target}");
        }
        assert!(!PathGlobs::default().match_target(b"/metrics"));
    }

    /// Against the definition.
    #[test]
    fn globs_match_what_they_should() {
        fn slow(pattern: &[u8], text: &[u8]) -> bool {
            match (pattern, text) {
                ([], []) => true,
                ([b'*', rest @ ..], _) => (0..=text.len()).any(|at| slow(rest, &text[at..])),
                ([p, pattern @ ..], [t, text @ ..]) => p == t && slow(pattern, text),
                _ => false,
            }
        }
        let words = |letters: &[u8], length: u32| -> Vec<Vec<u8>> {
            (0..letters.len().pow(length))
                .map(|n| (0..length).map(|at| letters[n / letters.len().pow(at) % letters.len()]).collect())
                .collect()
        };
        for pattern in (0..5).flat_map(|length| words(b"a*b", length)) {
            for text in (0..5).flat_map(|length| words(b"ab", length)) {
                assert_eq!(glob(&pattern, &text), slow(&pattern, &text), "{pattern:?} {text:?}");
            }
        }
    }
}
