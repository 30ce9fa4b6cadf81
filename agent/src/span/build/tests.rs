//! Exchanges and the spans that become of them.

use std::fmt::Write as _;
use std::sync::Arc;

use super::build;
use crate::conn::{Address, ConnKey, Ends, Role, Stamp};
use crate::proto::HttpCall;
use crate::proto::websocket::{Carried, Session};
use crate::proto::{Call, Exchange, ExchangeId, Failure, Message, Opening, Quality};
use crate::span::Clock;
use crate::span::{
    AttributeValue, Finished, ParentContext, ProcessId, SpanContext, SpanId, SpanStatus, TraceId,
};

fn call() -> HttpCall {
    HttpCall {
        method: "GET".into(),
        target: "/cart?user=7".into(),
        version: 1,
        host: Some("shop.example:8080".into()),
        status: Some(200),
        ..HttpCall::default()
    }
}

fn exchange(role: Role, call: HttpCall) -> Exchange {
    let inet = |address: &str| Address::Inet(address.parse().unwrap());
    let stamp = Stamp::default();
    Exchange {
        opening: Opening {
            id: ExchangeId(1),
            conn: ConnKey { sock: 1, generation: 1 },
            ends: Arc::new(Ends {
                local: inet("10.0.0.1:8080"),
                peer: inet("10.0.0.2:40000"),
                pair: None,
                role: Some(role),
            }),
            role,
            first: stamp,
            position: 0,
            connect: None,
            trace: None,
            excluded: false,
            export: None,
        },
        request: Message { first: stamp, last: stamp, body_size: Some(0) },
        response: Some(Message { first: stamp, last: stamp, body_size: Some(12) }),
        failure: None,
        failed: None,
        quality: None,
        call: Call::Http(call),
    }
}

fn text(exchange: Exchange, confidence: Option<&'static str>) -> String {
    let finished = Finished {
        exchange: Box::new(exchange),
        context: SpanContext {
            trace_id: TraceId([1; 16]),
            span_id: SpanId([2; 8]),
            flags: 3,
            trace_state: "".into(),
        },
        parent: Some(ParentContext { span_id: SpanId([3; 8]), is_remote: true }),
        confidence,
        start: 1_000,
        end: 5_000,
        tgid: 9,
        left_out: false,
        measured: true,
    };
    let process = ProcessId { tgid: 9, started: 4 };
    let span = build(finished, Clock::with_offset(1_700_000_000_000_000_000), process, None, &Arc::default());
    assert_eq!((span.start, span.end), (1_700_000_000_000_001_000, 1_700_000_000_000_005_000));
    assert_eq!(span.process, process);
    let attributes = span.attributes.list();
    let mut keys: Vec<_> = attributes.iter().map(|attribute| attribute.key.clone()).collect();
    keys.sort_unstable();
    keys.dedup();
    assert_eq!(keys.len(), attributes.len(), "each key once");
    let error = if matches!(span.status, SpanStatus::Error(_)) { " ERROR" } else { "" };
    let mut text = format!("{:?} {}{error}\n", span.kind, span.name);
    for attribute in &attributes {
        let _ = match &attribute.value {
            AttributeValue::Str(value) => writeln!(text, "{}={value}", attribute.key),
            AttributeValue::Int(value) => writeln!(text, "{}={value}", attribute.key),
            other => writeln!(text, "{}={other:?}", attribute.key),
        };
    }
    text
}

fn check(name: &str, exchange: Exchange, expect: &[&str]) {
    assert_eq!(text(exchange, None).lines().collect::<Vec<_>>(), expect, "{name}");
}

#[test]
fn a_server_span_in_full() {
    let call = HttpCall {
        user_agent: Some("curl/8".into()),
        forwarded_for: Some("203.0.113.7".into()),
        forwarded_proto: Some("https".into()),
        ..call()
    };
    check(
        "server",
        exchange(Role::Server, call),
        &[
            "Server GET",
            "http.request.method=GET",
            "url.path=/cart",
            "url.query=user=REDACTED",
            "url.scheme=https",
            "server.address=shop.example",
            "server.port=8080",
            "client.address=203.0.113.7",
            "network.transport=tcp",
            "network.peer.address=10.0.0.2",
            "network.peer.port=40000",
            "network.local.address=10.0.0.1",
            "network.local.port=8080",
            "network.protocol.version=1.1",
            "user_agent.original=curl/8",
            "http.response.status_code=200",
            "http.request.body.size=0",
            "http.response.body.size=12",
        ],
    );
}

#[test]
fn a_client_span_in_full() {
    check(
        "client",
        exchange(Role::Client, call()),
        &[
            "Client GET",
            "http.request.method=GET",
            "url.full=http://shop.example:8080/cart?user=REDACTED",
            "server.address=shop.example",
            "server.port=8080",
            "network.transport=tcp",
            "network.peer.address=10.0.0.2",
            "network.peer.port=40000",
            "network.local.address=10.0.0.1",
            "network.local.port=8080",
            "network.protocol.version=1.1",
            "http.response.status_code=200",
            "http.request.body.size=0",
            "http.response.body.size=12",
        ],
    );
}

#[test]
fn addresses_where_no_host_is_named() {
    let bare = HttpCall { host: None, version: 0, ..call() };
    let server = text(exchange(Role::Server, bare.clone()), None);
    assert!(
        server.contains(
            "server.address=10.0.0.1\nserver.port=8080\nclient.address=10.0.0.2\nclient.port=40000\n"
        ),
        "{server}"
    );
    assert!(server.contains("network.protocol.version=1.0\n"));
    let client = text(exchange(Role::Client, bare), None);
    assert!(
        client.contains(
            "url.full=http://10.0.0.2:40000/cart?user=REDACTED\nserver.address=10.0.0.2\nserver.port=40000\n"
        ),
        "{client}"
    );
}

#[test]
fn ports_where_the_host_names_none() {
    let named = |proto: Option<&str>, target: &str| HttpCall {
        host: Some("shop".into()),
        forwarded_proto: proto.map(Into::into),
        target: target.into(),
        ..call()
    };
    for (role, proto, target, port) in [
        (Role::Server, None, "/", "server.port=8080\n"),
        (Role::Server, Some("https"), "/", "server.port=443\n"),
        (Role::Client, None, "/", "server.port=40000\n"),
        (Role::Client, None, "http://shop/", "server.port=80\n"),
    ] {
        let text = text(exchange(role, named(proto, target)), None);
        assert!(text.contains(port), "{role:?} {proto:?} {target}: {text}");
    }
}

#[test]
fn unix_sockets() {
    let mut exchange = exchange(Role::Client, HttpCall { host: Some("localhost".into()), ..call() });
    exchange.opening.ends = Arc::new(Ends {
        local: Address::Unix("".into()),
        peer: Address::Unix("/run/app.sock".into()),
        pair: None,
        role: None,
    });
    let text = text(exchange, None);
    assert!(text.contains("server.address=localhost\nnetwork.transport=unix\nnetwork.peer.address=/run/app.sock\nnetwork.protocol"), "{text}");
    assert!(!text.contains(".port="));
}

#[test]
fn methods() {
    for (method, name, said) in [
        ("QUERY", "QUERY", "http.request.method=QUERY\n"),
        ("PROPFIND", "HTTP", "http.request.method=_OTHER\nhttp.request.method_original=PROPFIND\n"),
        ("get", "HTTP", "http.request.method=_OTHER\nhttp.request.method_original=get\n"),
        ("", "HTTP", "http.request.method=_OTHER\nurl."),
    ] {
        for role in [Role::Server, Role::Client] {
            let text = text(exchange(role, HttpCall { method: method.into(), ..call() }), None);
            assert!(text.starts_with(&format!("{role:?} {name}\n")), "{text}");
            assert!(text.contains(said) || method.is_empty() && text.contains("_OTHER\n"), "{text}");
            assert_eq!(text.contains("method_original"), said.contains("original"));
        }
    }
}

#[test]
fn statuses_and_failures() {
    for (role, status, failure, error) in [
        (Role::Server, Some(200), None, None),
        (Role::Server, Some(404), None, None),
        (Role::Server, Some(499), None, None),
        (Role::Server, Some(500), None, Some("500")),
        (Role::Server, Some(503), None, Some("503")),
        (Role::Client, Some(399), None, None),
        (Role::Client, Some(400), None, Some("400")),
        (Role::Client, Some(404), None, Some("404")),
        (Role::Client, Some(500), None, Some("500")),
        (Role::Client, None, None, None),
        (Role::Client, None, Some(Failure::ConnectionReset), Some("connection_reset")),
        (Role::Server, None, Some(Failure::Closed), Some("closed")),
        (Role::Client, None, Some(Failure::Timeout), Some("timeout")),
        (Role::Client, Some(200), Some(Failure::Closed), Some("closed")),
        (Role::Server, Some(500), Some(Failure::ConnectionReset), Some("connection_reset")),
    ] {
        let exchange = Exchange { failure, ..exchange(role, HttpCall { status, ..call() }) };
        let text = text(exchange, None);
        let line = error.map(|error| format!("error.type={error}"));
        assert_eq!(text.lines().find(|line| line.starts_with("error.type")), line.as_deref());
        assert_eq!(text.lines().next().unwrap().ends_with(" ERROR"), error.is_some(), "{text}");
        assert_eq!(text.contains("status_code"), status.is_some());
    }
}

#[test]
fn what_was_not_seen_and_what_is_guessed() {
    for (quality, said) in
        [(Quality::Joined, "joined"), (Quality::Gap, "gap"), (Quality::Truncated, "truncated")]
    {
        let exchange = Exchange { quality: Some(quality), ..exchange(Role::Server, call()) };
        let text = text(exchange, Some("single_open"));
        assert!(
            text.ends_with(&format!("sonde.quality={said}\nsonde.parent.confidence=single_open\n")),
            "{text}"
        );
    }
    assert!(!text(exchange(Role::Server, call()), None).contains("sonde."));
    let unseen = Exchange { response: None, ..exchange(Role::Server, HttpCall::default()) };
    assert!(!text(unseen, None).contains("url.path"));
}

fn session(close: Option<u16>, failure: Option<Failure>) -> Exchange {
    let client = Carried { bytes: 120, messages: Some(7) };
    let session = Session { end: 5_000, client, server: Carried { bytes: 4_000, messages: None }, close };
    let call = HttpCall { status: None, session: Some(Box::new(session)), ..call() };
    Exchange { failure, ..exchange(Role::Server, call) }
}

#[test]
fn a_session_is_no_request() {
    check(
        "session",
        session(Some(1000), None),
        &[
            "Internal websocket",
            "url.path=/cart",
            "url.query=user=REDACTED",
            "url.scheme=ws",
            "server.address=shop.example",
            "server.port=8080",
            "client.address=10.0.0.2",
            "client.port=40000",
            "network.transport=tcp",
            "network.peer.address=10.0.0.2",
            "network.peer.port=40000",
            "network.local.address=10.0.0.1",
            "network.local.port=8080",
            "network.protocol.name=websocket",
            "sonde.websocket.sent.bytes=4000",
            "sonde.websocket.received.messages=7",
            "sonde.websocket.received.bytes=120",
            "sonde.websocket.close.code=1000",
        ],
    );
    let error = |close, failure| {
        let text = text(session(close, failure), None);
        let kind = text.lines().find_map(|line| line.strip_prefix("error.type=")).map(str::to_owned);
        assert_eq!(text.starts_with("Internal websocket ERROR"), kind.is_some());
        kind
    };
    assert_eq!(error(None, None), None);
    assert_eq!(error(Some(1001), None), None);
    assert_eq!(error(Some(4999), None), None);
    assert_eq!(error(Some(1011), None).as_deref(), Some("1011"));
    assert_eq!(error(None, Some(Failure::ConnectionReset)).as_deref(), Some("connection_reset"));
}
