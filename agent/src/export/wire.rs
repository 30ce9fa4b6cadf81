//! What both encodings of OTLP say alike.

use crate::metrics::Temporality;
use crate::span::{Span, SpanKind};

/// Instrumentation scope.
pub(super) const SCOPE: &str = "sonde";

/// Its version.
pub(super) const VERSION: &str = env!("CARGO_PKG_VERSION");

/// The semantic conventions that attributes follow.
pub(super) const SCHEMA: &str = opentelemetry_semantic_conventions::SCHEMA_URL;

/// `Status.StatusCode.STATUS_CODE_ERROR`.
pub(super) const STATUS_ERROR: i32 = 2;

/// `Span.flags`: the W3C flags, and whether the parent is remote, which is always known (bit 8) and said in bit 9.
pub(super) fn flags(span: &Span) -> u32 {
    let remote = span.parent.as_ref().is_some_and(|parent| parent.is_remote);
    u32::from(span.context.flags) | 0x100 | if remote { 0x200 } else { 0 }
}

/// `Span.SpanKind`.
pub(super) const fn kind(kind: SpanKind) -> i32 {
    match kind {
        SpanKind::Internal => 1,
        SpanKind::Server => 2,
        SpanKind::Client => 3,
    }
}

/// `AggregationTemporality`.
pub(super) const fn temporality(temporality: Temporality) -> i32 {
    match temporality {
        Temporality::Delta => 1,
        Temporality::Cumulative => 2,
    }
}
