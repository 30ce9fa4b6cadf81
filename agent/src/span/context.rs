//! The context that a request carries: W3C Trace Context (level 2: <https://www.w3.org/TR/trace-context-2/>, sections 3.2
//! `traceparent` and 3.3 `tracestate`) and W3C Baggage. Judges values as received; knows nothing of spans.

use super::{SpanId, TraceId};
use crate::proto::TraceHeaders;

#[cfg(test)]
mod tests;

/// List members of a `tracestate` at most (section 3.3.1.1); more make it malformed.
pub const STATE_MEMBERS: usize = 32;
/// Characters of a `tracestate` that are kept (section 3.3.1.5); past it whole members go, long ones first.
pub const STATE_CHARS: usize = 512;
/// Members longer than this go first.
const STATE_LONG_MEMBER: usize = 128;
/// Bytes of `baggage` that are kept (W3C Baggage, section 3.3.2); past it whole members go, the last first.
pub const BAGGAGE_BYTES: usize = 8192;
/// Members of `baggage` that are kept.
pub const BAGGAGE_MEMBERS: usize = 64;

/// The flags that the level 2 document defines: sampled, and random trace id. Others are not passed on.
const KNOWN_FLAGS: u8 = 0x03;
/// Characters of a version 00 `traceparent`.
const LENGTH: usize = 55;

/// A valid context.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TraceContext {
    /// The trace.
    pub trace_id: TraceId,
    /// The span of whoever wrote it, or of whoever that one had it from.
    pub parent_id: SpanId,
    /// Bit 0 sampled, bit 1 random trace id; no others.
    pub flags: u8,
    /// `tracestate` members joined by commas; empty where absent or malformed.
    pub trace_state: Box<str>,
}

/// Reads the context of a request; `None` where there is none, or none that is valid.
///
/// More than one `traceparent` is malformed, also where both are equal. A malformed `tracestate` is dropped alone; an
/// invalid `traceparent` takes the `tracestate` with it.
#[must_use]
pub fn parse(headers: &TraceHeaders) -> Option<TraceContext> {
    let [value] = headers.traceparent.as_slice() else { return None };
    let (trace_id, parent_id, flags) = traceparent(value)?;
    Some(TraceContext { trace_id, parent_id, flags, trace_state: tracestate(&headers.tracestate) })
}

/// Reads one `traceparent` value. Version 00 is exact; of later versions only what version 00 defines is read, and
/// whatever follows must be set off by a dash; ff is invalid.
#[must_use]
pub fn traceparent(value: &[u8]) -> Option<(TraceId, SpanId, u8)> {
    let value = trim(value);
    let (head, rest) = value.split_at_checked(LENGTH)?;
    let head: &[u8; LENGTH] = head.try_into().ok()?;
    let [v0, v1, b'-', rest_of_head @ ..] = head else { return None };
    let version = byte(*v0, *v1)?;
    let extended = rest.first().is_none_or(|&next| next == b'-' && version != 0);
    if version == 0xff || !extended {
        return None;
    }
    let (trace, tail) = rest_of_head.split_first_chunk::<32>()?;
    let [b'-', tail @ ..] = tail else { return None };
    let (parent, tail) = tail.split_first_chunk::<16>()?;
    let [b'-', f0, f1] = tail else { return None };
    let trace: [u8; 16] = hex(trace)?;
    let parent: [u8; 8] = hex(parent)?;
    let flags = byte(*f0, *f1)? & KNOWN_FLAGS;
    (trace != [0; 16] && parent != [0; 8]).then_some((TraceId(trace), SpanId(parent), flags))
}

/// Joins `tracestate` values in their order; empty where a member is malformed, a key comes twice or there are too many.
#[must_use]
pub fn tracestate(values: &[Box<[u8]>]) -> Box<str> {
    if values.is_empty() {
        return Box::default();
    }
    let mut members: Vec<&str> = Vec::new();
    for value in values {
        for member in value.split(|&byte| byte == b',').map(trim).filter(|member| !member.is_empty()) {
            let Some(member) = state_member(member) else { return Box::default() };
            let repeated = members.iter().any(|known| state_key(known) == state_key(member));
            if repeated || members.len() == STATE_MEMBERS {
                return Box::default();
            }
            members.push(member);
        }
    }
    shorten(&mut members);
    members.join(",").into()
}

/// Joins `baggage` values in their order, as they are, within [`BAGGAGE_BYTES`] and [`BAGGAGE_MEMBERS`]; members that are
/// not printable ASCII are left out, since they could not be sent on.
#[must_use]
pub fn baggage(headers: &TraceHeaders) -> Box<str> {
    let mut kept = String::new();
    let members = headers.baggage.iter().flat_map(|value| value.split(|&byte| byte == b','));
    let printable = members.map(trim).filter_map(|member| {
        let ascii = !member.is_empty() && member.iter().all(|byte| matches!(byte, b' '..=b'~' | b'\t'));
        ascii.then(|| std::str::from_utf8(member).ok()).flatten()
    });
    for member in printable.take(BAGGAGE_MEMBERS) {
        if kept.len() + member.len() + 1 > BAGGAGE_BYTES {
            break;
        }
        if !kept.is_empty() {
            kept.push(',');
        }
        kept.push_str(member);
    }
    kept.into()
}

/// Takes members off until what is left fits: first those past [`STATE_LONG_MEMBER`], then from the end, as section
/// 3.3.1.5 orders it.
fn shorten(members: &mut Vec<&str>) {
    let length = |members: &[&str]| members.iter().map(|member| member.len() + 1).sum::<usize>();
    while length(members) > STATE_CHARS + 1 {
        let long = members.iter().rposition(|member| member.len() > STATE_LONG_MEMBER);
        let Some(last) = members.len().checked_sub(1) else { return };
        members.remove(long.unwrap_or(last));
    }
}

fn state_key(member: &str) -> &str {
    member.split_once('=').map_or(member, |(key, _)| key)
}

/// One `key=value`: section 3.3.1.3, in the wider key grammar of level 2.
fn state_member(member: &[u8]) -> Option<&str> {
    let text = std::str::from_utf8(member).ok()?;
    let (key, value) = text.split_once('=')?;
    let starts = key.bytes().next().is_some_and(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit());
    let named = key.bytes().all(|byte| {
        byte.is_ascii_lowercase() || byte.is_ascii_digit() || matches!(byte, b'_' | b'-' | b'*' | b'/' | b'@')
    });
    let valued = value.bytes().all(|byte| matches!(byte, b' '..=b'~') && !matches!(byte, b',' | b'='));
    let sized = key.len() <= 256 && (1..=256).contains(&value.len());
    (starts && named && valued && sized).then_some(text)
}

/// Optional white space around a field value (RFC 9110, section 5.6.3).
fn trim(mut value: &[u8]) -> &[u8] {
    while let [b' ' | b'\t', rest @ ..] | [rest @ .., b' ' | b'\t'] = value {
        value = rest;
    }
    value
}

fn hex<const N: usize>(digits: &[u8]) -> Option<[u8; N]> {
    let mut bytes = [0; N];
    let (pairs, _) = digits.as_chunks::<2>();
    for (out, [high, low]) in bytes.iter_mut().zip(pairs) {
        *out = byte(*high, *low)?;
    }
    Some(bytes)
}

fn byte(high: u8, low: u8) -> Option<u8> {
    Some(digit(high)? << 4 | digit(low)?)
}

/// Lower case only: section 3.2.2 forbids the other.
const fn digit(byte: u8) -> Option<u8> {
    match byte {
        b'0'..=b'9' => Some(byte - b'0'),
        b'a'..=b'f' => Some(byte - b'a' + 10),
        _ => None,
    }
}
