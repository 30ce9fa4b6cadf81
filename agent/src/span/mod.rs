//! Spans: how exchanges become them, which context they carry, and whose children they are.

mod model;
mod scheduling;

pub use model::{
    Attribute, AttributeValue, ParentContext, ProcessId, Span, SpanContext, SpanId, SpanKind, SpanStatus,
    TraceId,
};
pub use scheduling::Scheduling;
