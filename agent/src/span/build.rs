//! From a finished exchange to a span: contract.md, "Spans".

use std::borrow::Cow;

use super::correlate::Finished;
use super::{Attribute, AttributeValue, Clock, ProcessId, Span, SpanKind, SpanStatus, http};
use crate::conn::Role;
use crate::proto::{Call, Failure, Quality};

#[cfg(test)]
mod tests;

/// What was not seen of the exchange: `joined`, `gap` or `truncated`.
pub const QUALITY: &str = "sonde.quality";
/// What the parent rests on, where it is a guess.
pub const CONFIDENCE: &str = "sonde.parent.confidence";

/// Attributes that there is room for from the start: a usual HTTP span has up to 17. With room for many more, their memory is
/// past the kilobyte up to which the allocator keeps freed pieces at hand.
const ATTRIBUTES: usize = 18;

/// Makes the span of an exchange of `process`.
#[must_use]
pub fn build(finished: Finished, clock: Clock, process: ProcessId) -> Span {
    let Finished { exchange, context, parent, confidence, start, end, tgid: _ } = finished;
    let exchange = *exchange;
    let kind = match exchange.opening.role {
        Role::Server => SpanKind::Server,
        Role::Client => SpanKind::Client,
    };
    let (failure, quality) = (exchange.failure.map(error_type), exchange.quality);
    let mut attributes = Attributes(Vec::with_capacity(ATTRIBUTES));
    let (name, error) = match exchange.call {
        Call::Http1(call) => {
            let opening = &exchange.opening;
            http::describe(
                *call,
                kind,
                opening,
                &exchange.request,
                exchange.response.as_ref(),
                &mut attributes,
            )
        }
    };
    let error = failure.map(Cow::Borrowed).or(error);
    let status = if error.is_some() { SpanStatus::Error(Cow::Borrowed("")) } else { SpanStatus::Unset };
    attributes.text_if(opentelemetry_semantic_conventions::attribute::ERROR_TYPE, error);
    attributes.text_if(QUALITY, quality.map(quality_name));
    attributes.text_if(CONFIDENCE, confidence);
    let Attributes(attributes) = attributes;
    let (start, end) = (clock.unix(start), clock.unix(end));
    Span { context, parent, kind, name, start, end, attributes, status, process }
}

const fn error_type(failure: Failure) -> &'static str {
    match failure {
        Failure::ConnectionReset => "connection_reset",
        Failure::Closed => "closed",
        Failure::Timeout => "timeout",
    }
}

const fn quality_name(quality: Quality) -> &'static str {
    match quality {
        Quality::Joined => "joined",
        Quality::Gap => "gap",
        Quality::Truncated => "truncated",
    }
}

/// Attributes under construction; each key is added once.
pub(super) struct Attributes(Vec<Attribute>);

impl Attributes {
    pub(super) fn text(&mut self, key: &'static str, value: impl Into<Cow<'static, str>>) {
        self.0.push(Attribute { key: Cow::Borrowed(key), value: AttributeValue::Str(value.into()) });
    }

    pub(super) fn text_if(&mut self, key: &'static str, value: Option<impl Into<Cow<'static, str>>>) {
        if let Some(value) = value {
            self.text(key, value);
        }
    }

    pub(super) fn number_if(&mut self, key: &'static str, value: Option<impl TryInto<i64>>) {
        if let Some(value) = value.and_then(|value| value.try_into().ok()) {
            self.0.push(Attribute { key: Cow::Borrowed(key), value: AttributeValue::Int(value) });
        }
    }
}
