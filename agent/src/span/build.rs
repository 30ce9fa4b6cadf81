//! From a finished exchange to a span: contract.md, "Spans".

use std::borrow::Cow;
use std::sync::Arc;

use opentelemetry_semantic_conventions::attribute as key;

use super::correlate::Finished;
use super::http::{rpc, websocket};
use super::sample::SAMPLED;
use super::{
    Attribute, AttributeValue, Attributes, Clock, ProcessId, Route, Routes, Span, SpanKind, SpanName,
    SpanStatus, Value, Wording, http,
};
use crate::conn::Role;
use crate::proto::http2::error_name;
use crate::proto::{Call, Exchange, Failure, Quality};

#[cfg(test)]
mod tests;

/// What was not seen of the exchange: `joined`, `gap` or `truncated`.
pub const QUALITY: &str = "sonde.quality";
/// What the parent rests on, where it is a guess.
pub const CONFIDENCE: &str = "sonde.parent.confidence";

/// Room for a value that has to be put together: an address in nearly all cases.
const SCRATCH: usize = 48;

/// Makes the span of an exchange of `process`.
#[must_use]
pub fn build(
    finished: Finished,
    clock: Clock,
    process: ProcessId,
    route: Option<Arc<str>>,
    wording: &Arc<Wording>,
) -> Span {
    let Finished { exchange, mut context, parent, confidence, start, end, tgid: _, left_out, measured } =
        finished;
    if left_out {
        context.flags &= !SAMPLED;
    }
    let kind = kind(&exchange);
    let Call::Http(call) = &exchange.call;
    let method = || if call.session.is_some() { websocket::NAME } else { http::name(call) };
    let name = match (&call.rpc, &route) {
        (Some(rpc), _) => SpanName::Plain(rpc::name(call, rpc)),
        (None, Some(route)) => SpanName::Routed { method: method(), route: Arc::clone(route) },
        (None, None) => SpanName::Plain(Cow::Borrowed(method())),
    };
    let broken = |failure| Cow::Borrowed(error_type(failure));
    let (error, message) = match (&call.rpc, &call.session) {
        (Some(rpc), _) => {
            let (error, message) =
                rpc::error(rpc, kind, exchange.failure.map(|failure| (failure, broken(failure))));
            // Where no status of gRPC was seen, that of HTTP says what is known.
            let unsaid = error.is_none() && rpc.status.is_none();
            (error.or_else(|| unsaid.then(|| http::error(call, kind))?), message)
        }
        (None, Some(session)) => {
            (exchange.failure.map(broken).or_else(|| websocket::error(session)), Cow::Borrowed(""))
        }
        (None, None) => (exchange.failure.map(broken).or_else(|| http::error(call, kind)), Cow::Borrowed("")),
    };
    // One request, one span of its kind: what follows it is none.
    let kind = if call.session.is_some() { SpanKind::Internal } else { kind };
    let status = if error.is_some() { SpanStatus::Error(message) } else { SpanStatus::Unset };
    let mut attributes = Attributes { wording: Some(Arc::clone(wording)), route, ..Attributes::default() };
    let mut add = |key, value: Option<Cow<'static, str>>| {
        if let Some(value) = value {
            attributes.more.push(Attribute { key: Cow::Borrowed(key), value: AttributeValue::Str(value) });
        }
    };
    add(key::ERROR_TYPE, error);
    add(QUALITY, exchange.quality.map(|quality| Cow::Borrowed(quality_name(quality))));
    add(CONFIDENCE, confidence.map(Cow::Borrowed));
    attributes.exchange = Some(exchange);
    let (start, end) = (clock.unix(start), clock.unix(end));
    Span { context, parent, kind, name, start, end, attributes, status, process, measured }
}

/// The route of a request, learned from it too, or the template of a call.
pub fn route(exchange: &Exchange, service: &str, routes: &mut Routes) -> Route {
    let Call::Http(call) = &exchange.call;
    // The method of a remote procedure call is its route.
    let Some(path) = http::path(call).filter(|_| call.rpc.is_none()) else { return Route::Unknown };
    match exchange.opening.role {
        // A session has no status, and teaches nothing that its handshake has not.
        Role::Server => routes.served(service, path, call.status),
        Role::Client if routes.has_templates() => {
            let template = http::host(call).and_then(|host| routes.called(&host, path));
            template.map_or(Route::Unknown, Route::Known)
        }
        Role::Client => Route::Unknown,
    }
}

/// Shows the attributes that an exchange tells.
pub(super) fn describe(exchange: &Exchange, wording: &Wording, show: &mut dyn FnMut(&str, Value<'_>)) {
    let Call::Http(call) = &exchange.call;
    let (kind, shown) = (kind(exchange), &mut Shown { to: show, scratch: String::with_capacity(SCRATCH) });
    match (&call.rpc, &call.session) {
        (Some(rpc), _) => rpc::describe(call, rpc, exchange, kind, wording, shown),
        (None, Some(session)) => websocket::describe(call, session, exchange, kind, wording, shown),
        (None, None) => http::describe(call, exchange, kind, wording, shown),
    }
}

/// The attribute that an exchange's route is told as.
pub(super) const fn route_key(exchange: &Exchange) -> &'static str {
    match exchange.opening.role {
        Role::Server => key::HTTP_ROUTE,
        Role::Client => key::URL_TEMPLATE,
    }
}

/// What an end of an exchange is; of a session, that of its handshake.
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
        Failure::Stream(code) => error_name(code),
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

    pub(super) fn list(&mut self, key: &str, values: &[Cow<'static, str>]) {
        (self.to)(key, Value::StrArray(values));
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
