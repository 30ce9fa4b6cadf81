//! What spans of gRPC say: OpenTelemetry semantic conventions, RPC spans and those for gRPC. How many messages went each way
//! has no name there.

use std::borrow::Cow;

use opentelemetry_semantic_conventions::attribute as key;

use super::super::build::Shown;
use super::{Addressed, client, network, port_of, version};
use crate::conn::Ends;
use crate::proto::HttpCall;
use crate::proto::grpc::{Messages, RpcCall, UNIMPLEMENTED, status_name};
use crate::proto::{Exchange, Failure};
use crate::span::labels::{CallKind, CallLabels};
use crate::span::{SpanKind, Wording};

/// `rpc.system.name`.
pub(crate) const SYSTEM: &str = "grpc";
/// A method that the server does not have: anything may stand there.
const OTHER: &str = "_OTHER";
/// Messages that the span's process wrote, and their bytes without framing.
const SENT: [&str; 2] = ["sonde.rpc.sent.messages", "sonde.rpc.sent.bytes"];
/// The same of those that it read.
const RECEIVED: [&str; 2] = ["sonde.rpc.received.messages", "sonde.rpc.received.bytes"];

/// `package.Service/Method`, as the request had it.
fn method(call: &HttpCall) -> Option<&str> {
    call.target.strip_prefix('/').filter(|method| method.contains('/'))
}

/// The same, where the server has it.
fn known<'a>(call: &'a HttpCall, rpc: &RpcCall) -> Option<&'a str> {
    method(call).filter(|_| rpc.status != Some(UNIMPLEMENTED))
}

/// The name of a call's span.
pub(in crate::span) fn name(call: &HttpCall, rpc: &RpcCall) -> Cow<'static, str> {
    known(call, rpc).map_or(Cow::Borrowed(SYSTEM), |method| Cow::Owned(method.to_owned()))
}

/// `error.type` where the call failed, and what the server said of it. A reset stream has a status, too.
pub(in crate::span) fn error(
    rpc: &RpcCall,
    kind: SpanKind,
    failure: Option<(Failure, Cow<'static, str>)>,
) -> (Option<Cow<'static, str>>, Cow<'static, str>) {
    let failed = |status: &u32| match kind {
        SpanKind::Client | SpanKind::Internal => *status != 0,
        // UNKNOWN, DEADLINE_EXCEEDED, UNIMPLEMENTED, INTERNAL, UNAVAILABLE, DATA_LOSS: the others are the caller's.
        SpanKind::Server => matches!(status, 2 | 4 | 12..=15),
    };
    let message = rpc.message.as_deref().map_or(Cow::Borrowed(""), |message| Cow::Owned(message.to_owned()));
    match (failure, rpc.status) {
        (Some((Failure::Stream(_), _)) | None, Some(status)) => {
            (Some(status).filter(failed).map(status_text), message)
        }
        (failure, _) => (failure.map(|(_, name)| name), message),
    }
}

/// `rpc.response.status_code`.
pub(crate) fn status_text(status: u32) -> Cow<'static, str> {
    status_name(status).map_or_else(|| Cow::Owned(status.to_string()), Cow::Borrowed)
}

/// Shows the attributes of a call.
pub(in crate::span) fn describe(
    call: &HttpCall,
    rpc: &RpcCall,
    exchange: &Exchange,
    kind: SpanKind,
    wording: &Wording,
    shown: &mut Shown<'_>,
) {
    let ends = &*exchange.opening.ends;
    shown.text(key::RPC_SYSTEM_NAME, SYSTEM);
    match (known(call, rpc), method(call)) {
        (Some(method), _) => shown.text(key::RPC_METHOD, method),
        (None, Some(original)) => {
            shown.text(key::RPC_METHOD, OTHER);
            shown.text(key::RPC_METHOD_ORIGINAL, original);
        }
        (None, None) => {}
    }
    if let Some(status) = rpc.status {
        shown.text(key::RPC_RESPONSE_STATUS_CODE, &status_text(status));
    }
    let (address, port) = server(call, ends, kind);
    shown.text_if(key::SERVER_ADDRESS, address.as_deref());
    shown.number_if(key::SERVER_PORT, port);
    if kind == SpanKind::Server {
        client(call, &ends.peer, shown);
    }
    network(ends, shown);
    shown.text(key::NETWORK_PROTOCOL_VERSION, version(call));
    shown.text_if(key::USER_AGENT_ORIGINAL, call.user_agent.as_deref());
    for ([count, size], messages) in [SENT, RECEIVED].into_iter().zip(messages(rpc, kind)) {
        let Some(Messages { count: n, bytes, .. }) = messages else { continue };
        shown.number_if(count, Some(n));
        shown.number_if(size, Some(bytes));
    }
    super::captured(&call.headers, ["rpc.request.metadata.", "rpc.response.metadata."], wording, shown);
}

/// What the metrics of a call are told apart by, but for what the span alone knows. Of a server its own address is not.
pub(in crate::span) fn labels<'a>(
    call: &'a HttpCall,
    rpc: &RpcCall,
    exchange: &'a Exchange,
    kind: SpanKind,
) -> CallLabels<'a> {
    let (address, port) = match kind {
        SpanKind::Server => (None, None),
        SpanKind::Client | SpanKind::Internal => server(call, &exchange.opening.ends, kind),
    };
    CallLabels {
        kind: CallKind::of_rpc(kind),
        method: known(call, rpc).or_else(|| method(call).and(Some(OTHER))).unwrap_or_default(),
        scheme: Cow::Borrowed(""),
        address: address.unwrap_or_default(),
        port,
        status: rpc.status,
        version: "",
        route: "",
        error: "",
        sizes: messages(rpc, kind).map(|messages| messages.map(|messages| messages.count)),
    }
}

/// Address and port of the server, as the call names them where it does.
fn server<'a>(call: &'a HttpCall, ends: &Ends, kind: SpanKind) -> (Option<Cow<'a, str>>, Option<u16>) {
    let near = if kind == SpanKind::Server { &ends.local } else { &ends.peer };
    let named = Addressed::parse(call, kind).host_or(near).map(Cow::into_owned);
    let port = named.as_ref().and_then(|host| host.port).or_else(|| port_of(near));
    (named.map(|host| host.name), port)
}

/// Messages that this end sent, and those that it received.
fn messages(rpc: &RpcCall, kind: SpanKind) -> [Option<Messages>; 2] {
    match kind {
        SpanKind::Client | SpanKind::Internal => [rpc.request, rpc.response],
        SpanKind::Server => [rpc.response, rpc.request],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn call(target: &str) -> HttpCall {
        HttpCall { target: target.into(), ..HttpCall::default() }
    }

    #[test]
    fn names() {
        let ok = RpcCall { status: Some(0), ..RpcCall::default() };
        let none = RpcCall { status: Some(UNIMPLEMENTED), ..RpcCall::default() };
        assert_eq!(name(&call("/shop.Cart/Add"), &ok), "shop.Cart/Add");
        assert_eq!(name(&call("/shop.Cart/Add"), &none), "grpc");
        assert_eq!(name(&call(""), &ok), "grpc");
        assert_eq!(name(&call("/"), &ok), "grpc");
    }

    #[test]
    fn errors() {
        let told = |status, kind, failure: Option<Failure>| {
            let rpc = RpcCall { status, ..RpcCall::default() };
            error(&rpc, kind, failure.map(|failure| (failure, Cow::Borrowed("closed")))).0
        };
        use SpanKind::{Client, Server};
        for (status, client, server) in [
            (Some(0), None, None),
            (None, None, None),
            (Some(1), Some("CANCELLED"), None),
            (Some(2), Some("UNKNOWN"), Some("UNKNOWN")),
            (Some(4), Some("DEADLINE_EXCEEDED"), Some("DEADLINE_EXCEEDED")),
            (Some(5), Some("NOT_FOUND"), None),
            (Some(14), Some("UNAVAILABLE"), Some("UNAVAILABLE")),
            (Some(16), Some("UNAUTHENTICATED"), None),
            (Some(99), Some("99"), None),
        ] {
            assert_eq!(told(status, Client, None).as_deref(), client);
            assert_eq!(told(status, Server, None).as_deref(), server);
            assert_eq!(told(status, Server, status.map(|_| Failure::Stream(8))).as_deref(), server);
        }
        assert_eq!(told(None, Server, Some(Failure::Closed)).as_deref(), Some("closed"));
        assert_eq!(told(Some(0), Server, Some(Failure::Closed)).as_deref(), Some("closed"));
    }
}
