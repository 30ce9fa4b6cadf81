//! OTLP/JSON Lines: one `{"resourceSpans":[...]}` object a line, as the OpenTelemetry Collector's file exporter writes them.
//!
//! The encoding is that of the OTLP specification ("JSON Protobuf Encoding"): lowerCamelCase names, ids in hexadecimal, 64-bit
//! integers as strings, enums as numbers. Written by hand into one buffer: no value tree per span.

use std::fmt::Write as _;
use std::time::{Duration, Instant};

use super::batch::{Piece, by_resource};
use super::ledger::Ledger;
use super::queue::Queue;
use super::sink::Sink;
use super::text::{digits, hex};
use super::wire;
use crate::span::{Attribute, AttributeValue, Span, SpanStatus};

/// Spans of one line at most.
const LINE_SPANS: usize = 512;

/// Longest time that a span waits for others to share its line.
const LINGER: Duration = Duration::from_millis(100);

/// Writes spans until the queue is closed and empty.
pub(super) fn run(queue: &Queue, ledger: &Ledger, mut sink: Sink) {
    let mut line = String::new();
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
        line.push('\n');
        sink.write(line.as_bytes(), taken.spans as u64, ledger);
        // One batch of huge spans must not hold its memory for ever.
        line.shrink_to(1 << 20);
    }
}

/// Adds one `TracesData` object.
pub(super) fn encode(pieces: &[Piece], out: &mut String) {
    out.push_str("{\"resourceSpans\":[");
    separated(out, by_resource(pieces), |out, (resource, spans)| {
        out.push_str("{\"resource\":{");
        attributes(out, &resource.attributes);
        out.push_str("},\"scopeSpans\":[{\"scope\":{\"name\":");
        text(out, wire::SCOPE);
        out.push_str(",\"version\":");
        text(out, wire::VERSION);
        out.push_str("},\"spans\":[");
        separated(out, spans, span);
        out.push_str("],\"schemaUrl\":");
        text(out, wire::SCHEMA);
        out.push_str("}],\"schemaUrl\":");
        text(out, wire::SCHEMA);
        out.push('}');
    });
    out.push_str("]}");
}

fn span(out: &mut String, span: &Span) {
    out.push_str("{\"traceId\":\"");
    hex(out, &span.context.trace_id.0);
    out.push_str("\",\"spanId\":\"");
    hex(out, &span.context.span_id.0);
    if !span.context.trace_state.is_empty() {
        out.push_str("\",\"traceState\":");
        text(out, &span.context.trace_state);
        out.push_str(",\"parentSpanId\":\"");
    } else {
        out.push_str("\",\"parentSpanId\":\"");
    }
    if let Some(parent) = &span.parent {
        hex(out, &parent.span_id.0);
    }
    out.push_str("\",\"flags\":");
    digits(out, wire::flags(span).into(), 1);
    out.push_str(",\"name\":");
    text(out, &span.name);
    out.push_str(",\"kind\":");
    digits(out, wire::kind(span.kind).unsigned_abs().into(), 1);
    out.push_str(",\"startTimeUnixNano\":\"");
    digits(out, span.start, 1);
    out.push_str("\",\"endTimeUnixNano\":\"");
    digits(out, span.end, 1);
    out.push('"');
    if !span.attributes.is_empty() {
        out.push(',');
        attributes(out, &span.attributes);
    }
    out.push_str(",\"status\":{");
    if let SpanStatus::Error(message) = &span.status {
        if !message.is_empty() {
            out.push_str("\"message\":");
            text(out, message);
            out.push(',');
        }
        out.push_str("\"code\":");
        digits(out, wire::STATUS_ERROR.unsigned_abs().into(), 1);
    }
    out.push_str("}}");
}

fn attributes(out: &mut String, attributes: &[Attribute]) {
    out.push_str("\"attributes\":[");
    separated(out, attributes, |out, attribute| {
        out.push_str("{\"key\":");
        text(out, &attribute.key);
        out.push_str(",\"value\":");
        match &attribute.value {
            AttributeValue::Str(value) => string_value(out, value),
            AttributeValue::Int(value) => {
                out.push_str("{\"intValue\":\"");
                if *value < 0 {
                    out.push('-');
                }
                digits(out, value.unsigned_abs(), 1);
                out.push_str("\"}");
            }
            AttributeValue::Double(value) => {
                out.push_str("{\"doubleValue\":");
                double(out, *value);
                out.push('}');
            }
            AttributeValue::Bool(value) => {
                out.push_str(if *value { "{\"boolValue\":true}" } else { "{\"boolValue\":false}" });
            }
            AttributeValue::StrArray(values) => {
                out.push_str("{\"arrayValue\":{\"values\":[");
                separated(out, values, |out, value| string_value(out, value));
                out.push_str("]}}");
            }
        }
        out.push('}');
    });
    out.push(']');
}

fn string_value(out: &mut String, value: &str) {
    out.push_str("{\"stringValue\":");
    text(out, value);
    out.push('}');
}

fn separated<T>(out: &mut String, items: impl IntoIterator<Item = T>, mut each: impl FnMut(&mut String, T)) {
    for (at, item) in items.into_iter().enumerate() {
        if at > 0 {
            out.push(',');
        }
        each(out, item);
    }
}

/// JSON has no NaN and no infinities: Protobuf's JSON mapping writes them as strings.
fn double(out: &mut String, value: f64) {
    if value.is_finite() {
        // Writing to a String cannot fail.
        let _ = write!(out, "{value:?}");
    } else if value.is_nan() {
        out.push_str("\"NaN\"");
    } else {
        out.push_str(if value > 0.0 { "\"Infinity\"" } else { "\"-Infinity\"" });
    }
}

/// A JSON string (RFC 8259, section 7). What needs no escape is copied in runs.
fn text(out: &mut String, value: &str) {
    let is_special = |byte: u8| byte < b' ' || byte == b'"' || byte == b'\\';
    out.push('"');
    let mut rest = value;
    // Nearly no text has any: a look at all bytes without a branch is done 32 at a time.
    let has_special = value.bytes().fold(false, |any, byte| any | is_special(byte));
    while has_special && let Some(at) = rest.bytes().position(is_special) {
        let (plain, from) = rest.split_at_checked(at).unwrap_or((rest, ""));
        out.push_str(plain);
        match from.as_bytes().first() {
            Some(b'\n') => out.push_str("\\n"),
            Some(b'\r') => out.push_str("\\r"),
            Some(b'\t') => out.push_str("\\t"),
            Some(control @ ..b' ') => {
                out.push_str("\\u00");
                hex(out, &[*control]);
            }
            Some(byte) => {
                out.push('\\');
                out.push(char::from(*byte));
            }
            None => {}
        }
        rest = from.get(1..).unwrap_or_default();
    }
    out.push_str(rest);
    out.push('"');
}
