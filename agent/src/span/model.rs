//! The span as it is exported, independent of any wire format. OpenTelemetry specification, trace API and SDK.

use std::borrow::Cow;

/// Trace id, not all zero.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TraceId(pub [u8; 16]);

/// Span id, not all zero.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SpanId(pub [u8; 8]);

/// Identity of a span.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SpanContext {
    /// Trace.
    pub trace_id: TraceId,
    /// Span.
    pub span_id: SpanId,
    /// W3C trace flags: bit 0 sampled, bit 1 random trace id.
    pub flags: u8,
    /// W3C `tracestate`, list members joined by commas; empty where none.
    pub trace_state: Box<str>,
}

/// The span above, in the same trace.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ParentContext {
    /// Its id.
    pub span_id: SpanId,
    /// It belongs to another process (it came with the request, or is the other end of the exchange).
    pub is_remote: bool,
}

/// A process of this node. Ids are used again: `started` tells incarnations apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ProcessId {
    /// Thread group id in the initial pid namespace.
    pub tgid: u32,
    /// Start time in clock ticks since boot (`/proc/<pid>/stat`, field 22), 0 where the process was gone too soon.
    pub started: u64,
}

/// Span kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum SpanKind {
    /// Serves a request.
    Server,
    /// Makes a request.
    Client,
}

/// Span status.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SpanStatus {
    /// Nothing to say.
    Unset,
    /// An error; the message is empty where `error.type` says all.
    Error(Cow<'static, str>),
}

/// An attribute's value.
#[derive(Clone, Debug, PartialEq)]
pub enum AttributeValue {
    /// Text.
    Str(Cow<'static, str>),
    /// Integer.
    Int(i64),
    /// Floating point.
    Double(f64),
    /// Boolean.
    Bool(bool),
    /// List of texts.
    StrArray(Vec<Cow<'static, str>>),
}

/// A name and a value.
#[derive(Clone, Debug, PartialEq)]
pub struct Attribute {
    /// Name, from the semantic conventions where they have one.
    pub key: Cow<'static, str>,
    /// Value.
    pub value: AttributeValue,
}

/// A finished span.
#[derive(Clone, Debug, PartialEq)]
pub struct Span {
    /// Its identity.
    pub context: SpanContext,
    /// The span above; `None` for the root of a trace.
    pub parent: Option<ParentContext>,
    /// Kind.
    pub kind: SpanKind,
    /// Name, of low cardinality.
    pub name: Cow<'static, str>,
    /// Start, nanoseconds since the Unix epoch.
    pub start: u64,
    /// End, nanoseconds since the Unix epoch, not before `start`.
    pub end: u64,
    /// Attributes, each key once.
    pub attributes: Vec<Attribute>,
    /// Status.
    pub status: SpanStatus,
    /// Whose span it is; its resource is found by it.
    pub process: ProcessId,
}
