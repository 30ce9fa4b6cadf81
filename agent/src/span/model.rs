//! The span as it is exported, independent of any wire format. OpenTelemetry specification, trace API and SDK.

use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;

use super::sample::SAMPLED;
use super::{SpanLimits, Wording, build};
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

impl SpanContext {
    /// The span is exported; else it is only counted.
    #[must_use]
    pub const fn is_sampled(&self) -> bool {
        self.flags & SAMPLED != 0
    }
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
    /// Neither: what follows a request on its connection.
    Internal,
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
    /// How that is said; `None` as if nothing were configured.
    pub(super) wording: Option<Arc<Wording>>,
    /// `http.route` of a server's span, `url.template` of a client's.
    pub(super) route: Option<Arc<str>>,
    /// Those that no exchange tells, behind the others.
    pub more: Vec<Attribute>,
}

impl Attributes {
    /// Shows each attribute once, in a fixed order.
    pub fn each(&self, mut show: impl FnMut(&str, Value<'_>)) {
        if let Some(exchange) = &self.exchange {
            let unconfigured;
            let wording = match &self.wording {
                Some(wording) => &**wording,
                None => {
                    unconfigured = Wording::default();
                    &unconfigured
                }
            };
            build::describe(exchange, wording, &mut show);
            if let Some(route) = &self.route {
                show(build::route_key(exchange), Value::Str(route));
            }
        }
        for Attribute { key, value } in &self.more {
            show(key, value.borrowed());
        }
    }

    /// Shows what is exported of them: all, within the limits that were configured. Returns how many were left out.
    pub fn exported(&self, mut show: impl FnMut(&str, Value<'_>)) -> u32 {
        let limits = self.wording.as_ref().map_or_else(SpanLimits::default, |wording| wording.limits);
        let mut count = 0usize;
        self.each(|key, value| {
            count += 1;
            if count > limits.attributes {
                return;
            }
            match value {
                Value::Str(text) => show(key, Value::Str(limits.cut(text))),
                Value::StrArray(texts) if texts.iter().any(|text| text.len() > limits.length) => {
                    let cut: Vec<_> =
                        texts.iter().map(|text| Cow::Owned(limits.cut(text).to_owned())).collect();
                    show(key, Value::StrArray(&cut));
                }
                other => show(key, other),
            }
        });
        u32::try_from(count.saturating_sub(limits.attributes)).unwrap_or(u32::MAX)
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
        Self { more, ..Self::default() }
    }
}

/// Two are equal that tell the same.
impl PartialEq for Attributes {
    fn eq(&self, other: &Self) -> bool {
        self.list() == other.list()
    }
}

/// The name of a span. Nearly all are a method and a route that all spans of that route share: put together for each span they
/// would be a text of its own for each.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum SpanName {
    /// As it stands.
    Plain(Cow<'static, str>),
    /// A method, a space and a route.
    Routed {
        /// Method.
        method: &'static str,
        /// Route.
        route: Arc<str>,
    },
}

impl SpanName {
    /// What it is put together from, without anything between.
    #[must_use]
    pub fn parts(&self) -> [&str; 3] {
        match self {
            Self::Plain(text) => [text, "", ""],
            Self::Routed { method, route } => [method, " ", route],
        }
    }

    /// Bytes that it alone holds.
    #[must_use]
    pub fn weight(&self) -> usize {
        match self {
            Self::Plain(text) => text.len(),
            Self::Routed { .. } => 0,
        }
    }
}

impl fmt::Display for SpanName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.parts().into_iter().try_for_each(|part| f.write_str(part))
    }
}

impl<T: Into<Cow<'static, str>>> From<T> for SpanName {
    fn from(text: T) -> Self {
        Self::Plain(text.into())
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
    pub name: SpanName,
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
    /// Metrics are made of it; else its process has metrics of its own.
    pub measured: bool,
}
