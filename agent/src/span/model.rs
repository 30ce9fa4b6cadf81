//! The span as it is exported, independent of any wire format. OpenTelemetry specification, trace API and SDK.

use std::borrow::Cow;

use super::build;
use crate::proto::Exchange;

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

/// An attribute's value as it is read.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Value<'a> {
    /// Text.
    Str(&'a str),
    /// Integer.
    Int(i64),
    /// Floating point.
    Double(f64),
    /// Boolean.
    Bool(bool),
    /// List of texts.
    StrArray(&'a [Cow<'static, str>]),
}

impl AttributeValue {
    /// Borrows it.
    #[must_use]
    pub fn borrowed(&self) -> Value<'_> {
        match self {
            Self::Str(text) => Value::Str(text),
            Self::Int(number) => Value::Int(*number),
            Self::Double(number) => Value::Double(*number),
            Self::Bool(truth) => Value::Bool(*truth),
            Self::StrArray(texts) => Value::StrArray(texts),
        }
    }
}

/// The attributes of a span. Those that an exchange tells are read out of it whenever somebody asks: as a list they would
/// take three times its memory, and a dozen allocations for each span.
#[derive(Clone, Debug, Default)]
pub struct Attributes {
    pub(super) exchange: Option<Box<Exchange>>,
    /// Those that no exchange tells, behind the others.
    pub more: Vec<Attribute>,
}

impl Attributes {
    /// Shows each attribute once, in a fixed order.
    pub fn each(&self, mut show: impl FnMut(&str, Value<'_>)) {
        if let Some(exchange) = &self.exchange {
            build::describe(exchange, &mut show);
        }
        for Attribute { key, value } in &self.more {
            show(key, value.borrowed());
        }
    }

    /// All of them as a list.
    #[must_use]
    pub fn list(&self) -> Vec<Attribute> {
        let mut list = Vec::new();
        self.each(|key, value| {
            let value = match value {
                Value::Str(text) => AttributeValue::Str(Cow::Owned(text.to_owned())),
                Value::Int(number) => AttributeValue::Int(number),
                Value::Double(number) => AttributeValue::Double(number),
                Value::Bool(truth) => AttributeValue::Bool(truth),
                Value::StrArray(texts) => AttributeValue::StrArray(texts.to_vec()),
            };
            list.push(Attribute { key: Cow::Owned(key.to_owned()), value });
        });
        list
    }

    /// Bytes that they hold, estimated.
    #[must_use]
    pub fn weight(&self) -> usize {
        let more = self.more.iter().map(|Attribute { key, value }| {
            key.len()
                + match value {
                    AttributeValue::Str(text) => text.len(),
                    AttributeValue::StrArray(list) => {
                        list.iter().map(|text| size_of_val(text) + text.len()).sum()
                    }
                    AttributeValue::Int(_) | AttributeValue::Double(_) | AttributeValue::Bool(_) => 0,
                }
        });
        self.exchange.as_ref().map_or(0, |exchange| exchange.weight())
            + size_of_val(self.more.as_slice())
            + more.sum::<usize>()
    }
}

impl From<Vec<Attribute>> for Attributes {
    fn from(more: Vec<Attribute>) -> Self {
        Self { exchange: None, more }
    }
}

/// Two are equal that tell the same.
impl PartialEq for Attributes {
    fn eq(&self, other: &Self) -> bool {
        self.list() == other.list()
    }
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
    /// Attributes.
    pub attributes: Attributes,
    /// Status.
    pub status: SpanStatus,
    /// Whose span it is; its resource is found by it.
    pub process: ProcessId,
}
