//! How spans say what an exchange was: what of it is hidden, how much is said, and by which names.

use super::redact::QueryRules;

/// Shared by the spans that are made under one configuration.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Wording {
    /// What is shown of queries.
    pub query: QueryRules,
    /// How much is said.
    pub limits: SpanLimits,
    /// By which names.
    pub names: HttpNames,
}

/// Bounds of an exported span (OpenTelemetry specification, "Attribute Limits"). Metrics know none of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SpanLimits {
    /// Attributes at most; those behind are dropped and counted in the span.
    pub attributes: usize,
    /// Characters of a text at most.
    pub length: usize,
}

impl Default for SpanLimits {
    fn default() -> Self {
        Self { attributes: 128, length: usize::MAX }
    }
}

impl SpanLimits {
    /// A text within its bound.
    #[must_use]
    pub fn cut(self, text: &str) -> &str {
        if text.len() <= self.length {
            return text;
        }
        let end = text.char_indices().nth(self.length).map_or(text.len(), |(at, _)| at);
        text.get(..end).unwrap_or(text)
    }
}

/// Names of HTTP attributes (`OTEL_SEMCONV_STABILITY_OPT_IN`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum HttpNames {
    /// Those of the stable conventions.
    #[default]
    Stable,
    /// Those, and beside them the ones of version 1.20 and before.
    Both,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_are_cut_between_characters() {
        let cut = |length, text| SpanLimits { length, ..SpanLimits::default() }.cut(text).to_owned();
        assert_eq!(cut(3, "abcd"), "abc");
        assert_eq!(cut(4, "abcd"), "abcd");
        assert_eq!(cut(2, "äöü"), "äö");
        assert_eq!(cut(3, "äöü"), "äöü");
        assert_eq!(cut(0, "a"), "");
    }
}
