//! What a process says of itself: `OTEL_SERVICE_NAME` and `OTEL_RESOURCE_ATTRIBUTES` (OpenTelemetry specification,
//! resource SDK, "Specifying resource information via an environment variable").

use opentelemetry_semantic_conventions::resource::SERVICE_NAME;

use super::super::proc::ProcFs;

/// Processes that are asked: a worker, its master, and who started that.
const ANCESTORS: u32 = 3;
/// Attributes that are taken from one process; the rest is left.
const ATTRIBUTES: usize = 64;
/// Bytes of a name or a value; longer ones are left.
const TEXT: usize = 4096;

/// Declared resource attributes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(in crate::discover) struct Declared {
    /// `OTEL_SERVICE_NAME`, else `service.name` of the attributes.
    pub service_name: Option<String>,
    /// The other attributes, in their order.
    pub attributes: Vec<(String, String)>,
}

impl Declared {
    /// What a process declares. One that has written over its environment had most likely inherited it, so that of the
    /// nearest ancestor which still has its own is taken.
    pub(in crate::discover) fn of(proc: &ProcFs, pid: u32, ppid: u32) -> Self {
        let (mut at, mut above) = (pid, ppid);
        for _ in 0..ANCESTORS {
            if let Some(variables) = proc.environ(at, "OTEL_") {
                return Self::from_environ(variables);
            }
            let Some(stat) = proc.stat(above) else { break };
            (at, above) = (above, stat.ppid);
        }
        Self::default()
    }

    /// Reads the two variables; empty ones count as unset.
    fn from_environ(variables: Vec<(String, String)>) -> Self {
        let mut declared = Self::default();
        let mut name = None;
        for (variable, value) in variables {
            match variable.as_str() {
                "OTEL_SERVICE_NAME" => name = Some(value.trim().to_owned()).filter(|name| !name.is_empty()),
                // One bad pair makes the whole variable void, says the specification.
                "OTEL_RESOURCE_ATTRIBUTES" => declared.attributes = attributes(&value).unwrap_or_default(),
                _ => {}
            }
        }
        let is_name = |(key, _): &(String, String)| key == SERVICE_NAME;
        let other = declared.attributes.iter().rfind(|pair| is_name(pair)).map(|(_, value)| value.clone());
        declared.attributes.retain(|pair| !is_name(pair));
        declared.service_name = name.or_else(|| other.filter(|name| !name.is_empty()));
        declared
    }
}

/// `key=value` pairs between commas, both percent-encoded. `None` where one is no pair or wrongly encoded.
fn attributes(text: &str) -> Option<Vec<(String, String)>> {
    let mut pairs: Vec<(String, String)> = Vec::new();
    for pair in text.split(',').filter(|pair| !pair.trim().is_empty()) {
        let (key, value) = pair.split_once('=')?;
        let (key, value) = (percent_decoded(key.trim())?, percent_decoded(value.trim())?);
        if key.is_empty() {
            return None;
        }
        if key.len() > TEXT || value.len() > TEXT || pairs.len() >= ATTRIBUTES {
            continue;
        }
        // The last of several counts.
        match pairs.iter_mut().find(|(other, _)| *other == key) {
            Some((_, old)) => *old = value,
            None => pairs.push((key, value)),
        }
    }
    Some(pairs)
}

/// RFC 3986, section 2.1. `None` for a `%` without two hexadecimal digits, or where the result is no UTF-8.
fn percent_decoded(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        if byte == b'%' {
            let mut digit =
                || char::from(rest.next()?).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
            bytes.push(digit()? << 4 | digit()?);
        } else {
            bytes.push(byte);
        }
    }
    String::from_utf8(bytes).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn declared(name: Option<&str>, attributes: Option<&str>) -> Declared {
        let name = name.map(|value| ("OTEL_SERVICE_NAME".to_owned(), value.to_owned()));
        let attributes = attributes.map(|value| ("OTEL_RESOURCE_ATTRIBUTES".to_owned(), value.to_owned()));
        Declared::from_environ(name.into_iter().chain(attributes).collect())
    }

    #[test]
    fn names_in_the_order_of_the_specification() {
        let check = |name: Option<&str>, attributes: Option<&str>, expect: Option<&str>| {
            let found = declared(name, attributes).service_name;
            assert_eq!(found.as_deref(), expect, "{name:?} {attributes:?}");
        };
        check(None, None, None);
        check(Some("shop"), None, Some("shop"));
        check(Some("shop"), Some("service.name=other"), Some("shop"));
        check(Some(""), Some("service.name=other"), Some("other"));
        check(Some("  "), None, None);
        check(None, Some("service.name="), None);
        check(None, Some("service.name=web%20shop"), Some("web shop"));
        check(None, Some("service.name=a,service.name=b"), Some("b"));
        check(None, Some("service%2Ename=x"), Some("x"));
    }

    #[test]
    fn attributes_or_nothing() {
        let check = |text: &str, expect: &[(&str, &str)]| {
            let found = declared(None, Some(text)).attributes;
            let found: Vec<_> = found.iter().map(|(key, value)| (key.as_str(), value.as_str())).collect();
            assert_eq!(found, expect, "{text:?}");
        };
        check("", &[]);
        check(
            "service.namespace=eu,service.version=1.2",
            &[("service.namespace", "eu"), ("service.version", "1.2")],
        );
        check(" a = b , c=d ,", &[("a", "b"), ("c", "d")]);
        check("a=b=c", &[("a", "b=c")]);
        check("a=%2C%3D%25", &[("a", ",=%")]);
        check("a=%C3%A4", &[("a", "ä")]);
        check("a=", &[("a", "")]);
        check("a=1,a=2", &[("a", "2")]);
        for void in ["a", "a=1,b", "a=%", "a=%4", "a=%zz", "a=%FF", "=x"] {
            check(void, &[]);
        }
    }

    #[test]
    fn bounded() {
        let many: Vec<String> = (0..1000).map(|n| format!("k{n}=v")).collect();
        assert_eq!(declared(None, Some(&many.join(","))).attributes.len(), ATTRIBUTES);
        assert_eq!(declared(None, Some(&format!("a={}", "x".repeat(TEXT + 1)))).attributes, []);
    }
}
