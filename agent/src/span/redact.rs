//! What of a URL may be a secret: values in queries, credentials before the host, values in parameters of path segments.

use std::borrow::Cow;

use super::route::is_word;

/// What stands for a value that may be a secret.
pub(super) const REDACTED: &str = "REDACTED";

/// Keys of signed URLs, whose values the semantic conventions want hidden whatever else is shown (HTTP spans,
/// `url.full` and `url.query`), and those of the other signatures that clouds use.
const SIGNATURES: [&str; 9] = [
    "awsaccesskeyid",
    "signature",
    "sig",
    "x-goog-signature",
    "x-amz-signature",
    "x-amz-credential",
    "x-amz-security-token",
    "x-goog-credential",
    "x-oss-signature",
];

/// A part of a query without a key that is longer than this is taken for a value.
const LONGEST_FLAG: usize = 24;

/// What is shown of values in queries.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum QueryValues {
    /// Keys, with `REDACTED` for each value.
    #[default]
    Redacted,
    /// Everything but signatures.
    Shown,
    /// No query at all.
    Dropped,
}

/// What is shown of queries.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct QueryRules {
    /// Of values in general.
    pub values: QueryValues,
    /// Keys whose values are shown all the same, as they stand in the query.
    pub allowed: Vec<Box<str>>,
}

impl QueryRules {
    /// Appends what may be shown of a query; `false` where there is nothing to show.
    pub(super) fn write(&self, query: &str, shown: &mut String) -> bool {
        if self.values == QueryValues::Dropped {
            return false;
        }
        for (index, pair) in query.split('&').enumerate() {
            if index > 0 {
                shown.push('&');
            }
            match pair.split_once('=') {
                Some((name, value)) => {
                    shown.push_str(name);
                    shown.push('=');
                    shown.push_str(if value.is_empty() || self.shows(name) { value } else { REDACTED });
                }
                None if self.values == QueryValues::Shown || is_flag(pair) => shown.push_str(pair),
                None => shown.push_str(REDACTED),
            }
        }
        true
    }

    fn shows(&self, name: &str) -> bool {
        let allowed = || self.allowed.iter().any(|allowed| **allowed == *name);
        (self.values == QueryValues::Shown || allowed()) && !is_signature(name)
    }

    /// A captured header's value: URLs in it lose their credentials, and their queries are shown like any other.
    pub(super) fn header<'a>(&self, value: &'a str) -> Cow<'a, str> {
        if !value.contains("://") && !value.contains('?') {
            return Cow::Borrowed(value);
        }
        let mut shown = String::with_capacity(value.len());
        // White space, quotes and angle brackets end a URL (RFC 3986, appendix C).
        let ends = |c: char| c.is_whitespace() || matches!(c, '"' | '<' | '>' | '\'');
        for word in value.split_inclusive(ends) {
            let text = word.trim_end_matches(ends);
            self.url(text, &mut shown);
            shown.push_str(word.get(text.len()..).unwrap_or_default());
        }
        Cow::Owned(shown)
    }

    fn url(&self, text: &str, shown: &mut String) {
        let (url, query) = text.split_once('?').map_or((text, None), |(url, query)| (url, Some(query)));
        match url.split_once("://") {
            Some((scheme, rest)) => {
                let (authority, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
                shown.push_str(scheme);
                shown.push_str("://");
                match authority.rsplit_once('@') {
                    Some((_, host)) => {
                        shown.push_str("REDACTED:REDACTED@");
                        shown.push_str(host);
                    }
                    None => shown.push_str(authority),
                }
                write_path(path, shown);
            }
            None => write_path(url, shown),
        }
        if let Some(query) = query {
            // Fragments carry tokens (OAuth 2.0, section 4.2.2).
            let (query, fragment) = query.split_once('#').map_or((query, None), |(q, f)| (q, Some(f)));
            let before = shown.len();
            shown.push('?');
            if !self.write(query, shown) {
                shown.truncate(before);
            }
            if fragment.is_some() {
                shown.push('#');
                shown.push_str(REDACTED);
            }
        }
    }
}

/// Appends a path without the values of its segments' parameters (`;jsessionid=...`).
pub(super) fn write_path(path: &str, shown: &mut String) {
    if !path.contains(';') {
        shown.push_str(path);
        return;
    }
    for piece in path.split_inclusive(['/', ';']) {
        let (text, end) = match piece.char_indices().next_back() {
            Some((at, '/' | ';')) => piece.split_at(at),
            _ => (piece, ""),
        };
        let of_parameter = shown.ends_with(';');
        match text.split_once('=').filter(|(_, value)| of_parameter && !value.is_empty()) {
            Some((name, _)) => {
                shown.push_str(name);
                shown.push('=');
                shown.push_str(REDACTED);
            }
            None => shown.push_str(text),
        }
        shown.push_str(end);
    }
}

/// A word without a value, such as `debug`.
fn is_flag(pair: &str) -> bool {
    pair.len() <= LONGEST_FLAG && is_word(pair)
}

fn is_signature(name: &str) -> bool {
    let name = name.trim_start_matches('?');
    if !name.contains('%') {
        return SIGNATURES.iter().any(|known| name.eq_ignore_ascii_case(known));
    }
    // Whoever escapes a key's letters gets its value hidden: nobody has a reason to.
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(rules: &QueryRules, query: &str) -> String {
        let mut shown = String::new();
        assert_eq!(rules.write(query, &mut shown), rules.values != QueryValues::Dropped);
        shown
    }

    fn rules(values: QueryValues, allowed: &[&str]) -> QueryRules {
        QueryRules { values, allowed: allowed.iter().map(|key| Box::from(*key)).collect() }
    }

    #[test]
    fn queries() {
        let redacted = QueryRules::default();
        for (query, expected) in [
            ("a=1", "a=REDACTED"),
            ("a=1&b=2", "a=REDACTED&b=REDACTED"),
            ("a=&b", "a=&b"),
            ("a=1=2", "a=REDACTED"),
            ("&&a=1&", "&&a=REDACTED&"),
            ("=x", "=REDACTED"),
            ("a=1;b=2", "a=REDACTED"),
            ("debug", "debug"),
            ("eyJhbGciOiJIUzI1NiJ9", "REDACTED"),
            ("0af7651916cd43dd8448eb211c80319c", "REDACTED"),
        ] {
            assert_eq!(written(&redacted, query), expected);
        }
        let allowing = rules(QueryValues::Redacted, &["page", "sig"]);
        assert_eq!(written(&allowing, "page=2&sig=x&Page=3"), "page=2&sig=REDACTED&Page=REDACTED");
        let shown = rules(QueryValues::Shown, &[]);
        assert_eq!(
            written(&shown, "q=a&AWSAccessKeyId=b&SIGNATURE=c&X-Goog-Signature=d&sig=e&%73ig=f&sign=g"),
            "q=a&AWSAccessKeyId=REDACTED&SIGNATURE=REDACTED&X-Goog-Signature=REDACTED&sig=REDACTED&%73ig=REDACTED&sign=g"
        );
        assert_eq!(written(&rules(QueryValues::Dropped, &["q"]), "q=a"), "");
    }

    #[test]
    fn headers() {
        let rules = QueryRules::default();
        for (value, expected) in [
            ("text/html", "text/html"),
            ("https://u:p@h/a?token=s#x", "https://REDACTED:REDACTED@h/a?token=REDACTED#REDACTED"),
            ("https://h/a", "https://h/a"),
            ("/next?code=s", "/next?code=REDACTED"),
            ("<https://h/a?page=s>; rel=\"next\"", "<https://h/a?page=REDACTED>; rel=\"next\""),
            ("0; url=http://u@h/", "0; url=http://REDACTED:REDACTED@h/"),
            ("https://h/a;jsessionid=s/b", "https://h/a;jsessionid=REDACTED/b"),
        ] {
            assert_eq!(rules.header(value), expected);
        }
        let dropped = self::rules(QueryValues::Dropped, &[]);
        assert_eq!(dropped.header("/next?code=s"), "/next");
    }

    #[test]
    fn paths() {
        for (path, expected) in [
            ("/a/b", "/a/b"),
            ("/a;jsessionid=s", "/a;jsessionid=REDACTED"),
            ("/a;x=s;y=s/b;z/c=d", "/a;x=REDACTED;y=REDACTED/b;z/c=d"),
            ("/;=s", "/;=REDACTED"),
            (";", ";"),
        ] {
            let mut shown = String::new();
            write_path(path, &mut shown);
            assert_eq!(shown, expected);
        }
    }

    proptest::proptest! {
        /// Whatever stands around it, a value does not show.
        #[test]
        fn no_value_survives(before in "[a-z&=?;/ .%-]{0,12}", key in "[a-z]{0,5}", after in "[a-z&=;#]{0,8}") {
            let query = format!("{before}&{key}=S3CRET{after}");
            proptest::prop_assert!(!written(&QueryRules::default(), &query).contains("S3CRET"));
            let referer = format!("http://h/{before}?{key}=S3CRET{after}");
            proptest::prop_assert!(!QueryRules::default().header(&referer).contains("S3CRET"), "{}", referer);
            let referer = format!("http://user:S3CRET@h/{before}");
            proptest::prop_assert!(!QueryRules::default().header(&referer).contains("S3CRET"));
        }
    }
}
