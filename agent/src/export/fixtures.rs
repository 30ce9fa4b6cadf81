//! Spans and resources for the tests of metrics and outputs.

use std::borrow::Cow;

use crate::enrich::Resource;
use crate::span::{
    Attribute, AttributeValue, Attributes, ParentContext, ProcessId, Span, SpanContext, SpanId, SpanKind,
    SpanStatus, TraceId,
};

/// 2026-11-21T09:41:07.123456789Z.
pub(crate) const EPOCH: u64 = 1_795_254_067_123_456_789;

pub(crate) fn resource(service: &str) -> Resource {
    let text = |key: &'static str, value: String| attribute(key, AttributeValue::Str(Cow::Owned(value)));
    Resource {
        attributes: vec![
            text("service.name", service.to_owned()),
            attribute("process.pid", AttributeValue::Int(42)),
        ],
    }
}

pub(crate) fn attribute(key: &'static str, value: AttributeValue) -> Attribute {
    Attribute { key: Cow::Borrowed(key), value }
}

/// A SERVER span without a parent.
pub(crate) fn span(name: &'static str, start: u64, end: u64) -> Span {
    Span {
        context: SpanContext {
            trace_id: TraceId([0xab; 16]),
            span_id: SpanId([0xcd; 8]),
            flags: 1,
            trace_state: Box::from(""),
        },
        parent: None,
        kind: SpanKind::Server,
        name: name.into(),
        start,
        end,
        attributes: Attributes::default(),
        status: SpanStatus::Unset,
        process: ProcessId { tgid: 42, started: 1 },
        measured: true,
    }
}

/// Places a span in a trace: ids are made of the given numbers, 0 for no parent.
pub(crate) fn placed(mut span: Span, trace: u8, id: u8, parent: u8, is_remote: bool) -> Span {
    span.context.trace_id = TraceId([trace; 16]);
    span.context.span_id = SpanId([id; 8]);
    span.parent = (parent != 0).then_some(ParentContext { span_id: SpanId([parent; 8]), is_remote });
    span
}
