//! Routes that a user wrote: `/users/{id}`, `/static/*`.

use std::str::FromStr;
use std::sync::Arc;

/// A pattern of paths. `{name}` and, in the middle, `*` stand for one segment, `*` at the end for whatever is left.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RoutePattern {
    text: Arc<str>,
    segments: Vec<Segment>,
    /// Anything may follow.
    open: bool,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Segment {
    Literal(Box<str>),
    Any,
}

impl FromStr for RoutePattern {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let hint = || "write a path such as /users/{id} or /static/*".to_owned();
        let Some(path) = text.strip_prefix('/') else { return Err(hint()) };
        if text.len() > 512 || path.contains(['?', '#']) {
            return Err(hint());
        }
        let (path, open) = match path.strip_suffix('*') {
            Some(rest) if rest.is_empty() || rest.ends_with('/') => (rest.trim_end_matches('/'), true),
            _ => (path.trim_end_matches('/'), false),
        };
        let mut segments = Vec::new();
        for segment in path.split('/').filter(|_| !path.is_empty()) {
            segments.push(match segment {
                "*" => Segment::Any,
                _ if segment.starts_with('{') && segment.ends_with('}') && segment.len() > 2 => Segment::Any,
                _ if segment.contains(['{', '}', '*']) || segment.is_empty() => {
                    return Err(
                        "a parameter is a segment of its own: write /users/{id} or /static/*".to_owned()
                    );
                }
                literal => Segment::Literal(literal.into()),
            });
        }
        Ok(Self { text: text.into(), segments, open })
    }
}

impl RoutePattern {
    /// As it was written.
    #[must_use]
    pub fn text(&self) -> &Arc<str> {
        &self.text
    }

    /// Whether a path, without query, fits. A slash at its end does not matter.
    #[must_use]
    pub fn matches(&self, path: &str) -> bool {
        let path = path.strip_prefix('/').unwrap_or(path);
        let path = path.strip_suffix('/').unwrap_or(path);
        let mut given = path.split('/').filter(|_| !path.is_empty());
        for segment in &self.segments {
            match (segment, given.next()) {
                (Segment::Any, Some(text)) if !text.is_empty() => {}
                (Segment::Literal(literal), Some(text)) if **literal == *text => {}
                _ => return false,
            }
        }
        self.open || given.next().is_none()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns() {
        for (pattern, path, expected) in [
            ("/", "/", true),
            ("/", "/a", false),
            ("/users/{id}", "/users/1", true),
            ("/users/{id}", "/users/1/", true),
            ("/users/{id}", "/users/", false),
            ("/users/{id}", "/users", false),
            ("/users/{id}", "/users/1/posts", false),
            ("/users/{id}/posts", "/users/a/posts", true),
            ("/users/*/posts", "/users/a/posts", true),
            ("/static/*", "/static/a/b.js", true),
            ("/static/*", "/static", true),
            ("/static/*", "/statics", false),
            ("/*", "/anything/at/all", true),
            ("/*", "/", true),
            ("/a/", "/a", true),
            ("/{lang}/docs/*", "/en/docs/x/y", true),
            ("/{lang}/docs/*", "/docs/x/y", false),
        ] {
            assert_eq!(pattern.parse::<RoutePattern>().unwrap().matches(path), expected, "{pattern} {path}");
        }
        for bad in ["", "users", "/a*", "/users/{id", "/x{id}", "/{}", "/a//b", "/a?b"] {
            assert!(bad.parse::<RoutePattern>().is_err(), "{bad}");
        }
    }
}
