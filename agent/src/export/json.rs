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
    number(out, wire::flags(span));
    out.push_str(",\"name\":");
    text(out, &span.name);
    out.push_str(",\"kind\":");
    number(out, wire::kind(span.kind));
    out.push_str(",\"startTimeUnixNano\":\"");
    number(out, span.start);
    out.push_str("\",\"endTimeUnixNano\":\"");
    number(out, span.end);
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
        number(out, wire::STATUS_ERROR);
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
                number(out, value);
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

fn number(out: &mut String, value: impl std::fmt::Display) {
    // Writing to a String cannot fail.
    let _ = write!(out, "{value}");
}

/// JSON has no NaN and no infinities: Protobuf's JSON mapping writes them as strings.
fn double(out: &mut String, value: f64) {
    if value.is_finite() {
        number(out, format_args!("{value:?}"));
    } else if value.is_nan() {
        out.push_str("\"NaN\"");
    } else {
        out.push_str(if value > 0.0 { "\"Infinity\"" } else { "\"-Infinity\"" });
    }
}

fn hex(out: &mut String, bytes: &[u8]) {
    for byte in bytes {
        for digit in [byte >> 4, byte & 15] {
            out.push(char::from(if digit < 10 { b'0' + digit } else { b'a' - 10 + digit }));
        }
    }
}

/// A JSON string (RFC 8259, section 7). What needs no escape is copied in runs.
fn text(out: &mut String, value: &str) {
    out.push('"');
    let mut plain = 0;
    for (at, byte) in value.bytes().enumerate().filter(|(_, byte)| matches!(byte, 0..=0x1f | b'"' | b'\\')) {
        out.push_str(value.get(plain..at).unwrap_or_default());
        plain = at + 1;
        match byte {
            b'"' => out.push_str("\\\""),
            b'\\' => out.push_str("\\\\"),
            b'\n' => out.push_str("\\n"),
            b'\r' => out.push_str("\\r"),
            b'\t' => out.push_str("\\t"),
            control => {
                out.push_str("\\u00");
                hex(out, &[control]);
            }
        }
    }
    out.push_str(value.get(plain..).unwrap_or_default());
    out.push('"');
}
