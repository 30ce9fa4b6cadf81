//! Trace contexts in other formats than W3C's, turned into a `traceparent` as they are read: B3 in one or several headers
//! (<https://github.com/openzipkin/b3-propagation>) and Jaeger's `uber-trace-id`
//! (<https://www.jaegertracing.io/sdk-migration/#propagation-format>). `OTEL_PROPAGATORS` names those that are read; where a
//! request has several valid ones, the last named wins, as in an SDK's composite propagator.

use super::TraceHeaders;

/// Which formats are read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Propagators(Vec<Propagator>);

/// One format.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Propagator {
    /// `traceparent` and `tracestate`.
    TraceContext,
    /// `baggage`
    Baggage,
    /// `b3`, and the headers of [`Propagator::B3Multi`] where it is not there, as the specification wants of both.
    B3,
    /// `x-b3-traceid` and so on, and `b3`.
    B3Multi,
    /// `uber-trace-id`
    Jaeger,
}

impl Default for Propagators {
    fn default() -> Self {
        Self(vec![Propagator::TraceContext, Propagator::Baggage])
    }
}

impl Propagators {
    /// In the order in which they are tried; none for no format at all.
    #[must_use]
    pub fn new(named: Vec<Propagator>) -> Self {
        Self(named)
    }

    /// Nothing but what every head is read for.
    #[must_use]
    pub fn is_default(&self) -> bool {
        self.has(Propagator::TraceContext) && self.has(Propagator::Baggage) && self.0.len() == 2
    }

    fn has(&self, propagator: Propagator) -> bool {
        self.0.contains(&propagator)
    }

    /// Whether a field may be part of a context in another format.
    #[must_use]
    pub fn wants(&self, name: &[u8]) -> bool {
        let is = |known: &str| name.eq_ignore_ascii_case(known.as_bytes());
        match name.len() {
            2 => is("b3"),
            12 => is("x-b3-traceid") || is("x-b3-sampled"),
            11 => is("x-b3-spanid"),
            13 => is("uber-trace-id"),
            10 => is("x-b3-flags"),
            _ => false,
        }
    }

    /// Puts the context that these formats give in the place of `traceparent`.
    pub fn apply(&self, fields: &[(&[u8], &[u8])], trace: &mut TraceHeaders) {
        let own = std::mem::take(&mut trace.traceparent);
        let state = std::mem::take(&mut trace.tracestate);
        if !self.has(Propagator::Baggage) {
            trace.baggage.clear();
        }
        for propagator in &self.0 {
            let found = match propagator {
                Propagator::TraceContext if !own.is_empty() => {
                    trace.traceparent.clone_from(&own);
                    trace.tracestate.clone_from(&state);
                    None
                }
                Propagator::TraceContext | Propagator::Baggage => None,
                Propagator::B3 | Propagator::B3Multi => b3(fields),
                Propagator::Jaeger => value(fields, "uber-trace-id").and_then(jaeger),
            };
            if let Some(Context { trace: id, span, sampled }) = found {
                let text = format!("00-{id:032x}-{span:016x}-{:02x}", u8::from(sampled));
                trace.traceparent = vec![text.into_bytes().into()];
                trace.tracestate.clear();
            }
        }
    }
}

/// A context, ids not zero.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Context {
    trace: u128,
    span: u64,
    sampled: bool,
}

fn value<'a>(fields: &[(&[u8], &'a [u8])], name: &str) -> Option<&'a str> {
    let (_, value) = fields.iter().find(|(field, _)| field.eq_ignore_ascii_case(name.as_bytes()))?;
    std::str::from_utf8(value).ok().map(str::trim)
}

/// Hexadecimal digits of one of the lengths.
fn hex(text: &str, lengths: std::ops::RangeInclusive<usize>) -> Option<u128> {
    let digits = lengths.contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_hexdigit());
    if digits { u128::from_str_radix(text, 16).ok() } else { None }
}

fn context(trace: Option<u128>, span: Option<u128>, sampled: bool) -> Option<Context> {
    let (trace, span) = (trace.filter(|&id| id != 0)?, span.filter(|&id| id != 0)?);
    Some(Context { trace, span: u64::try_from(span).ok()?, sampled })
}

/// `b3: {trace}-{span}-{state}-{parent}`, the last two optional; else the single headers. Without a decision the receiver
/// decides, which for Sonde is to follow no refusal: sampled.
fn b3(fields: &[(&[u8], &[u8])]) -> Option<Context> {
    let id = |text: &str| if text.len() == 16 || text.len() == 32 { hex(text, 16..=32) } else { None };
    if let Some(single) = value(fields, "b3") {
        let mut parts = single.split('-');
        let (trace, span, state) = (parts.next()?, parts.next(), parts.next());
        if let Some(found) = span.and_then(|span| {
            context(id(trace), hex(span, 16..=16), matches!(state, None | Some("1" | "d" | "true")))
        }) {
            return Some(found);
        }
    }
    let sampled = match (value(fields, "x-b3-flags"), value(fields, "x-b3-sampled")) {
        (Some("1"), _) => true,
        (_, Some(state)) => matches!(state, "1" | "true" | "d"),
        (_, None) => true,
    };
    let trace = value(fields, "x-b3-traceid").and_then(id);
    context(trace, value(fields, "x-b3-spanid").and_then(|span| hex(span, 16..=16)), sampled)
}

/// `{trace}:{span}:{parent}:{flags}`, leading zeros perhaps left out, colons perhaps percent-encoded.
fn jaeger(text: &str) -> Option<Context> {
    let text = text.replace("%3A", ":").replace("%3a", ":");
    let parts: Vec<&str> = text.split(':').collect();
    let [trace, span, _, flags] = parts.as_slice() else { return None };
    let flags = hex(flags, 1..=2)?;
    context(hex(trace, 1..=32), hex(span, 1..=16), flags & 1 != 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    const TRACE: &str = "80f198ee56343ba864fe8b2a57d3eff7";
    const SPAN: &str = "e457b5a2e4d86bd1";
    const OWN: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

    fn read(propagators: &[Propagator], own: Option<&str>, fields: &[(&str, &str)]) -> Option<String> {
        let mut trace = TraceHeaders::default();
        trace.traceparent.extend(own.map(|own| own.as_bytes().into()));
        trace.tracestate.push(b"a=1".as_slice().into());
        let fields: Vec<(&[u8], &[u8])> =
            fields.iter().map(|(name, value)| (name.as_bytes(), value.as_bytes())).collect();
        let propagators = Propagators::new(propagators.to_vec());
        assert!(fields.iter().all(|(name, _)| propagators.wants(name)));
        propagators.apply(&fields, &mut trace);
        assert_eq!(
            trace.tracestate.is_empty(),
            trace.traceparent.first().map(|own| &**own) != Some(OWN.as_bytes())
        );
        trace.traceparent.first().map(|value| String::from_utf8(value.to_vec()).unwrap())
    }

    #[test]
    fn formats() {
        use Propagator::{B3, B3Multi, Jaeger};
        let full = |flags: &str| Some(format!("00-{TRACE}-{SPAN}-{flags}"));
        let check = |propagator, fields: &[(&str, &str)], expected: Option<String>| {
            assert_eq!(read(&[propagator], None, fields), expected, "{fields:?}");
        };
        let single = |rest: &str| format!("{TRACE}-{SPAN}{rest}");
        for (rest, flags) in
            [("", "01"), ("-1", "01"), ("-d", "01"), ("-0", "00"), ("-1-05e3ac9a4f6e3b90", "01")]
        {
            check(B3, &[("b3", &single(rest))], full(flags));
            check(B3Multi, &[("B3", &single(rest))], full(flags));
        }
        let short = Some(format!("00-0000000000000000{SPAN}-{SPAN}-01"));
        check(B3, &[("b3", &format!("{SPAN}-{SPAN}"))], short.clone());
        for bad in [
            "0",
            "1",
            "d",
            "",
            "-",
            "xyz-1",
            &format!("{TRACE}-0000000000000000"),
            &format!("{TRACE}x-{SPAN}"),
        ] {
            check(B3, &[("b3", bad)], None);
        }
        let ids = [("X-B3-TraceId", TRACE), ("X-B3-SpanId", SPAN)];
        check(B3Multi, &ids, full("01"));
        check(B3Multi, &[ids[0], ids[1], ("X-B3-Sampled", "0")], full("00"));
        check(B3Multi, &[ids[0], ids[1], ("X-B3-Sampled", "1")], full("01"));
        check(B3Multi, &[ids[0], ids[1], ("X-B3-Flags", "1")], full("01"));
        check(B3Multi, &[ids[0]], None);
        check(Jaeger, &[("uber-trace-id", &format!("{TRACE}:{SPAN}:0:1"))], full("01"));
        check(Jaeger, &[("uber-trace-id", &format!("{TRACE}%3A{SPAN}%3A0%3A0"))], full("00"));
        check(Jaeger, &[("uber-trace-id", &format!("{SPAN}:{SPAN}:0:3"))], short);
        for bad in ["", "1:2:3", "0:1:0:1", "x:1:0:1", "1:2:3:4:5"] {
            check(Jaeger, &[("uber-trace-id", bad)], None);
        }
    }

    #[test]
    fn the_last_named_that_is_there_wins() {
        use Propagator::{B3, Baggage, Jaeger, TraceContext};
        let b3 = format!("{TRACE}-{SPAN}-1");
        let fields = [("b3", b3.as_str())];
        let of_b3 = Some(format!("00-{TRACE}-{SPAN}-01"));
        let own = Some(OWN.to_owned());
        assert_eq!(read(&[TraceContext, Baggage, B3], Some(OWN), &fields), of_b3);
        assert_eq!(read(&[B3, TraceContext], Some(OWN), &fields), own);
        assert_eq!(read(&[TraceContext, Jaeger], Some(OWN), &fields), own);
        assert_eq!(read(&[B3, TraceContext], None, &fields), of_b3);
        assert_eq!(read(&[Jaeger], Some(OWN), &fields), None);
        assert_eq!(read(&[], Some(OWN), &fields), None);
    }
}
