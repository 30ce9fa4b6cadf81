//! From a finished exchange to a span: contract.md, "Spans".

use std::borrow::Cow;

use super::correlate::Finished;
use super::{
    Attribute, AttributeValue, Attributes, Clock, ProcessId, Span, SpanKind, SpanStatus, Value, http,
};
use crate::conn::Role;
use crate::proto::{Call, Exchange, Failure, Quality};

#[cfg(test)]
mod tests;

/// What was not seen of the exchange: `joined`, `gap` or `truncated`.
pub const QUALITY: &str = "sonde.quality";
/// What the parent rests on, where it is a guess.
pub const CONFIDENCE: &str = "sonde.parent.confidence";

/// Makes the span of an exchange of `process`.
#[must_use]
pub fn build(finished: Finished, clock: Clock, process: ProcessId) -> Span {
    let Finished { exchange, context, parent, confidence, start, end, tgid: _ } = finished;
    let kind = kind(&exchange);
    let Call::Http1(call) = &exchange.call;
    let (name, status_error) = (http::name(call), http::error(call, kind));
    let error = exchange.failure.map(|failure| Cow::Borrowed(error_type(failure))).or(status_error);
    let status = if error.is_some() { SpanStatus::Error(Cow::Borrowed("")) } else { SpanStatus::Unset };
    let mut attributes = Attributes { exchange: None, more: Vec::new() };
    let mut add = |key, value: Option<Cow<'static, str>>| {
        if let Some(value) = value {
            attributes.more.push(Attribute { key: Cow::Borrowed(key), value: AttributeValue::Str(value) });
        }
    };
    add(opentelemetry_semantic_conventions::attribute::ERROR_TYPE, error);
    add(QUALITY, exchange.quality.map(|quality| Cow::Borrowed(quality_name(quality))));
    add(CONFIDENCE, confidence.map(Cow::Borrowed));
    attributes.exchange = Some(exchange);
    let (start, end) = (clock.unix(start), clock.unix(end));
    Span { context, parent, kind, name: Cow::Borrowed(name), start, end, attributes, status, process }
}

/// Shows the attributes that an exchange tells.
pub(super) fn describe(exchange: &Exchange, show: &mut dyn FnMut(&str, Value<'_>)) {
    let Call::Http1(call) = &exchange.call;
    http::describe(call, exchange, kind(exchange), &mut Shown { to: show, scratch: String::new() });
}

pub(super) const fn kind(exchange: &Exchange) -> SpanKind {
    match exchange.opening.role {
        Role::Server => SpanKind::Server,
        Role::Client => SpanKind::Client,
    }
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

/// Where attributes are shown, each key once.
pub(super) struct Shown<'a> {
    to: &'a mut dyn FnMut(&str, Value<'_>),
    /// For values that have to be put together.
    scratch: String,
}

impl Shown<'_> {
    pub(super) fn text(&mut self, key: &'static str, value: &str) {
        (self.to)(key, Value::Str(value));
    }

    /// A value that `write` puts together; none where it says so.
    pub(super) fn composed(&mut self, key: &'static str, write: impl FnOnce(&mut String) -> bool) {
        self.scratch.clear();
        if write(&mut self.scratch) {
            (self.to)(key, Value::Str(&self.scratch));
        }
    }

    pub(super) fn text_if(&mut self, key: &'static str, value: Option<&str>) {
        if let Some(value) = value {
            self.text(key, value);
        }
    }

    pub(super) fn number_if(&mut self, key: &'static str, value: Option<impl TryInto<i64>>) {
        if let Some(value) = value.and_then(|value| value.try_into().ok()) {
            (self.to)(key, Value::Int(value));
        }
    }
}
