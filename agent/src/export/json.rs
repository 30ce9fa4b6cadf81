//! OTLP/JSON Lines: one `{"resourceSpans":[...]}` object a line, as the OpenTelemetry Collector's file exporter writes them.
//!
//! The encoding is that of the OTLP specification ("JSON Protobuf Encoding"): lowerCamelCase names, ids in hexadecimal, 64-bit
//! integers as strings, enums as numbers. Written by hand into one buffer: no value tree per span.

pub(super) mod metrics;

use std::io::Write as _;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::batch::{Piece, by_resource};
use super::ledger::Ledger;
use super::queue::Queue;
use super::sink::Sink;
use super::text::{digits, hex};
use super::wire;
use crate::enrich::Resource;
use crate::span::{Span, SpanStatus, Value};

/// Spans of one line at most.
const LINE_SPANS: usize = 128;

/// Longest time that a span waits for others to share its line.
const LINGER: Duration = Duration::from_millis(100);

/// Writes spans until the queue is closed and empty.
pub(super) fn run(queue: &Queue, ledger: &Ledger, sink: &Mutex<Sink>) {
    let mut line = Vec::new();
    loop {
        // The first span of a line is waited for without end, those that share it for a moment.
        let first = queue.take(0, 1, None, ledger);
        let until = first.closed.is_none().then(|| Instant::now() + LINGER);
        let taken = queue.take(LINE_SPANS, LINE_SPANS, until, ledger);
        if taken.spans == 0 && taken.closed.is_some() {
            return;
        }
        line.clear();
        encode(&taken.pieces, &mut line);
        line.push(b'\n');
        drop(taken.pieces);
        sink.lock().unwrap_or_else(PoisonError::into_inner).write(&line, taken.spans as u64, ledger);
        // One batch of huge spans must not hold its memory for ever.
        line.shrink_to(1 << 20);
    }
}

/// Adds one `TracesData` object.
pub(super) fn encode(pieces: &[Piece], out: &mut Vec<u8>) {
    out.extend_from_slice(b"{\"resourceSpans\":[");
    separated(out, by_resource(pieces), |out, (resource, spans)| {
        of_resource(out, resource, ("scopeSpans", "spans"), |out| separated(out, spans, span));
    });
    out.extend_from_slice(b"]}");
}

/// One element of `resourceSpans` or `resourceMetrics`, by the names of its list of scopes and of the list in that.
fn of_resource(
    out: &mut Vec<u8>,
    resource: &Resource,
    (scopes, items): (&str, &str),
    write_items: impl FnOnce(&mut Vec<u8>),
) {
    out.extend_from_slice(b"{\"resource\":{\"attributes\":[");
    separated(out, &resource.attributes, |out, each| attribute(out, &each.key, each.value.borrowed()));
    out.extend_from_slice(b"]},\"");
    out.extend_from_slice(scopes.as_bytes());
    out.extend_from_slice(b"\":[{\"scope\":{\"name\":");
    text(out, wire::SCOPE);
    out.extend_from_slice(b",\"version\":");
    text(out, wire::VERSION);
    out.extend_from_slice(b"},\"");
    out.extend_from_slice(items.as_bytes());
    out.extend_from_slice(b"\":[");
    write_items(out);
    out.extend_from_slice(b"],\"schemaUrl\":");
    text(out, wire::SCHEMA);
    out.extend_from_slice(b"}],\"schemaUrl\":");
    text(out, wire::SCHEMA);
    out.push(b'}');
}

fn span(out: &mut Vec<u8>, span: &Span) {
    out.extend_from_slice(b"{\"traceId\":\"");
    hex(out, &span.context.trace_id.0);
    out.extend_from_slice(b"\",\"spanId\":\"");
    hex(out, &span.context.span_id.0);
    out.push(b'"');
    if !span.context.trace_state.is_empty() {
        out.extend_from_slice(b",\"traceState\":");
        text(out, &span.context.trace_state);
    }
    out.extend_from_slice(b",\"parentSpanId\":\"");
    if let Some(parent) = &span.parent {
        hex(out, &parent.span_id.0);
    }
    out.extend_from_slice(b"\",\"flags\":");
    digits(out, wire::flags(span).into(), 1);
    out.extend_from_slice(b",\"name\":");
    out.push(b'"');
    span.name.parts().into_iter().for_each(|part| escaped(out, part));
    out.push(b'"');
    out.extend_from_slice(b",\"kind\":");
    digits(out, wire::kind(span.kind).unsigned_abs().into(), 1);
    out.extend_from_slice(b",\"startTimeUnixNano\":\"");
    digits(out, span.start, 1);
    out.extend_from_slice(b"\",\"endTimeUnixNano\":\"");
    digits(out, span.end, 1);
    out.push(b'"');
    let before = out.len();
    let dropped = span.attributes.exported(|key, value| {
        out.extend_from_slice(if out.len() > before { b"," } else { b",\"attributes\":[".as_slice() });
        attribute(out, key, value);
    });
    if out.len() > before {
        out.push(b']');
    }
    if dropped > 0 {
        out.extend_from_slice(b",\"droppedAttributesCount\":");
        digits(out, dropped.into(), 1);
    }
    out.extend_from_slice(b",\"status\":{");
    if let SpanStatus::Error(message) = &span.status {
        if !message.is_empty() {
            out.extend_from_slice(b"\"message\":");
            text(out, message);
            out.push(b',');
        }
        out.extend_from_slice(b"\"code\":");
        digits(out, wire::STATUS_ERROR.unsigned_abs().into(), 1);
    }
    out.extend_from_slice(b"}}");
}

fn attribute(out: &mut Vec<u8>, key: &str, value: Value<'_>) {
    out.extend_from_slice(b"{\"key\":\"");
    escaped(out, key);
    match value {
        // Twenty times a span: as few pieces as can be.
        Value::Str(value) => {
            out.extend_from_slice(b"\",\"value\":{\"stringValue\":\"");
            escaped(out, value);
            out.extend_from_slice(b"\"}}");
        }
        Value::Int(value) => {
            out.extend_from_slice(b"\",\"value\":{\"intValue\":\"");
            if value < 0 {
                out.push(b'-');
            }
            digits(out, value.unsigned_abs(), 1);
            out.extend_from_slice(b"\"}}");
        }
        Value::Double(value) => {
            out.extend_from_slice(b"\",\"value\":{\"doubleValue\":");
            double(out, value);
            out.extend_from_slice(b"}}");
        }
        Value::Bool(value) => {
            out.extend_from_slice(b"\",\"value\":{\"boolValue\":");
            out.extend_from_slice(if value { b"true}}".as_slice() } else { b"false}}" });
        }
        Value::StrArray(values) => {
            out.extend_from_slice(b"\",\"value\":{\"arrayValue\":{\"values\":[");
            separated(out, values, |out, value| {
                out.extend_from_slice(b"{\"stringValue\":");
                text(out, value);
                out.push(b'}');
            });
            out.extend_from_slice(b"]}}}");
        }
    }
}

fn separated<T>(
    out: &mut Vec<u8>,
    items: impl IntoIterator<Item = T>,
    mut each: impl FnMut(&mut Vec<u8>, T),
) {
    for (at, item) in items.into_iter().enumerate() {
        if at > 0 {
            out.push(b',');
        }
        each(out, item);
    }
}

/// JSON has no NaN and no infinities: Protobuf's JSON mapping writes them as strings.
fn double(out: &mut Vec<u8>, value: f64) {
    if value.is_finite() {
        // Writing to memory cannot fail.
        let _ = write!(out, "{value:?}");
    } else if value.is_nan() {
        out.extend_from_slice(b"\"NaN\"");
    } else {
        out.extend_from_slice(if value > 0.0 { b"\"Infinity\"".as_slice() } else { b"\"-Infinity\"" });
    }
}

/// A JSON string (RFC 8259, section 7). What needs no escape is copied in runs.
fn text(out: &mut Vec<u8>, value: &str) {
    out.push(b'"');
    escaped(out, value);
    out.push(b'"');
}

/// What stands within the quotes.
fn escaped(out: &mut Vec<u8>, value: &str) {
    let is_special = |byte: u8| byte < b' ' || byte == b'"' || byte == b'\\';
    let mut rest = value;
    // Nearly no text has any: a look at all bytes without a branch is done 32 at a time.
    let has_special = value.bytes().fold(false, |any, byte| any | is_special(byte));
    while has_special && let Some(at) = rest.bytes().position(is_special) {
        let (plain, from) = rest.split_at_checked(at).unwrap_or((rest, ""));
        out.extend_from_slice(plain.as_bytes());
        match from.as_bytes().first() {
            Some(b'\n') => out.extend_from_slice(b"\\n"),
            Some(b'\r') => out.extend_from_slice(b"\\r"),
            Some(b'\t') => out.extend_from_slice(b"\\t"),
            Some(control @ ..b' ') => {
                out.extend_from_slice(b"\\u00");
                hex(out, &[*control]);
            }
            Some(byte) => {
                out.push(b'\\');
                out.push(*byte);
            }
            None => {}
        }
        rest = from.get(1..).unwrap_or_default();
    }
    out.extend_from_slice(rest.as_bytes());
}
