//! What the metrics of a call are told apart by: semantic conventions, HTTP metrics and RPC metrics. Read out of the span
//! without taking memory for it: this is done for every exchange.

use std::borrow::Cow;

use opentelemetry_semantic_conventions::attribute as key;

use super::{Attribute, AttributeValue, Attributes, SpanKind, build, http};
use crate::proto::{Call, Exchange};

/// What is called how, and which end: a call of each has metrics of its own, and is in no other's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum CallKind {
    /// The end of HTTP that answers.
    HttpServer,
    /// The end of HTTP that asks.
    HttpClient,
    /// The end of a remote procedure call that answers.
    RpcServer,
    /// The end of a remote procedure call that asks.
    RpcClient,
}

impl CallKind {
    /// All of them, in the order in which their metrics are told.
    pub const ALL: [Self; 4] = [Self::HttpServer, Self::HttpClient, Self::RpcServer, Self::RpcClient];

    /// That of HTTP.
    #[must_use]
    pub const fn of_http(kind: SpanKind) -> Self {
        match kind {
            SpanKind::Server => Self::HttpServer,
            SpanKind::Client | SpanKind::Internal => Self::HttpClient,
        }
    }

    /// That of remote procedure calls.
    #[must_use]
    pub const fn of_rpc(kind: SpanKind) -> Self {
        match kind {
            SpanKind::Server => Self::RpcServer,
            SpanKind::Client | SpanKind::Internal => Self::RpcClient,
        }
    }
}

/// The attributes that the conventions require or recommend for the metrics of a call, and its sizes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CallLabels<'a> {
    /// Which of them.
    pub kind: CallKind,
    /// `http.request.method`, `rpc.method`; empty where it is not known.
    pub method: &'a str,
    /// `url.scheme`, of HTTP servers only.
    pub scheme: Cow<'a, str>,
    /// `server.address`, of clients only; empty where it is not known.
    pub address: Cow<'a, str>,
    /// `server.port`, of clients only.
    pub port: Option<u16>,
    /// `http.response.status_code`, the number of `rpc.response.status_code`.
    pub status: Option<u32>,
    /// `network.protocol.version`, of HTTP only.
    pub version: &'static str,
    /// `http.route` of HTTP servers, `url.template` of their clients; empty where there is none.
    pub route: &'a str,
    /// `error.type`; empty where there is none.
    pub error: &'a str,
    /// Bytes of the request's and of the response's body; messages that this end of a remote procedure call sent and received.
    pub sizes: [Option<u64>; 2],
}

impl Attributes {
    /// What the metrics of the call are told apart by; `None` where no exchange tells.
    #[must_use]
    pub fn call_labels(&self) -> Option<CallLabels<'_>> {
        let exchange: &Exchange = self.exchange.as_ref()?;
        let Call::Http(call) = &exchange.call;
        if call.session.is_some() {
            return None;
        }
        let kind = build::kind(exchange);
        let mut labels = match &call.rpc {
            Some(rpc) => http::rpc::labels(call, rpc, exchange, kind),
            None => http::labels(call, exchange, kind),
        };
        labels.route = self.route.as_deref().unwrap_or_default();
        for Attribute { key, value } in &self.more {
            if let (key::ERROR_TYPE, AttributeValue::Str(value)) = (&**key, value) {
                labels.error = value;
            }
        }
        Some(labels)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::conn::{Address, ConnKey, Ends, Role, Stamp};
    use crate::proto::HttpCall;
    use crate::proto::grpc::{Messages, RpcCall, UNIMPLEMENTED};
    use crate::proto::{ExchangeId, Message, Opening};

    fn attributes(role: Role, call: HttpCall, more: Vec<Attribute>) -> Attributes {
        let inet = |address: &str| Address::Inet(address.parse().unwrap());
        let message = |size| Message { first: Stamp::default(), last: Stamp::default(), body_size: size };
        let exchange = Exchange {
            opening: Opening {
                id: ExchangeId(1),
                conn: ConnKey { sock: 1, generation: 1 },
                ends: Arc::new(Ends {
                    local: inet("10.0.0.1:40000"),
                    peer: inet("10.0.0.2:8080"),
                    pair: None,
                    role: Some(role),
                }),
                role,
                first: Stamp::default(),
                position: 0,
                connect: None,
                trace: None,
                excluded: false,
                export: None,
            },
            request: message(Some(0)),
            response: Some(message(None)),
            failure: None,
            failed: None,
            quality: None,
            call: Call::Http(call),
        };
        let mut attributes = Attributes::from(more);
        attributes.exchange = Some(Box::new(exchange));
        attributes
    }

    fn call(method: &'static str, target: &str, host: Option<&str>) -> HttpCall {
        HttpCall {
            method: method.into(),
            target: target.into(),
            version: 1,
            host: host.map(Arc::from),
            status: Some(503),
            ..HttpCall::default()
        }
    }

    fn more(key: &'static str, value: &'static str) -> Attribute {
        Attribute { key: key.into(), value: AttributeValue::Str(value.into()) }
    }

    #[test]
    fn a_server_is_told_by_scheme_and_route_and_never_by_what_clients_call_it() {
        let more = vec![more(key::ERROR_TYPE, "503")];
        let mut made = attributes(Role::Server, call("GET", "/cart/7?x=1", Some("evil.example")), more);
        made.route = Some("/cart/{id}".into());
        let expected = CallLabels {
            kind: CallKind::HttpServer,
            method: "GET",
            scheme: "http".into(),
            address: "".into(),
            port: None,
            status: Some(503),
            version: "1.1",
            route: "/cart/{id}",
            error: "503",
            sizes: [Some(0), None],
        };
        assert_eq!(made.call_labels(), Some(expected));
        let mut forwarded = call("BREW", "/", None);
        forwarded.forwarded_proto = Some("HTTPS".into());
        let made = attributes(Role::Server, forwarded, Vec::new());
        let labels = made.call_labels().unwrap();
        assert_eq!((labels.method, &*labels.scheme, labels.route), ("_OTHER", "https", ""));
    }

    #[test]
    fn a_client_is_told_by_whom_it_calls() {
        let told = |method, target, host| {
            let made = attributes(Role::Client, call(method, target, host), Vec::new());
            let labels = made.call_labels().unwrap();
            (labels.address.into_owned(), labels.port, labels.scheme.into_owned())
        };
        let of = |address: &str, port| (address.to_owned(), port, String::new());
        assert_eq!(told("GET", "/", Some("shop.example:81")), of("shop.example", Some(81)));
        assert_eq!(told("GET", "/", Some("shop.example")), of("shop.example", Some(8080)));
        assert_eq!(told("GET", "/", None), of("10.0.0.2", Some(8080)));
        assert_eq!(told("GET", "HTTPS://a.example/x", Some("proxy")), of("a.example", Some(443)));
        assert_eq!(told("CONNECT", "[::1]:443", None), of("::1", Some(443)));
    }

    #[test]
    fn a_remote_procedure_call_is_told_by_its_method_and_not_as_http() {
        let messages = |count| Some(Messages { count, ..Messages::default() });
        let rpc = |status, request, response| RpcCall { status, request, response, ..RpcCall::default() };
        let of = |role, target, rpc| {
            let call =
                HttpCall { version: 2, rpc: Some(Box::new(rpc)), ..call("POST", target, Some("cart:81")) };
            attributes(role, call, vec![more(key::ERROR_TYPE, "INTERNAL")])
        };
        let made = of(Role::Client, "/shop.Cart/Add", rpc(Some(13), messages(3), messages(1)));
        let expected = CallLabels {
            kind: CallKind::RpcClient,
            method: "shop.Cart/Add",
            scheme: "".into(),
            address: "cart".into(),
            port: Some(81),
            status: Some(13),
            version: "",
            route: "",
            error: "INTERNAL",
            sizes: [Some(3), Some(1)],
        };
        assert_eq!(made.call_labels(), Some(expected));
        let made = of(Role::Server, "/shop.Cart/Add", rpc(None, messages(3), None));
        let labels = made.call_labels().unwrap();
        assert_eq!((labels.kind, &*labels.address, labels.port), (CallKind::RpcServer, "", None));
        assert_eq!((labels.status, labels.sizes), (None, [None, Some(3)]));
        let made = of(Role::Server, "/any/thing", rpc(Some(UNIMPLEMENTED), None, None));
        assert_eq!(made.call_labels().unwrap().method, "_OTHER");
        let made = of(Role::Server, "", rpc(Some(0), None, None));
        assert_eq!(made.call_labels().unwrap().method, "");
    }

    #[test]
    fn a_span_without_an_exchange_tells_nothing() {
        assert_eq!(Attributes::from(vec![more(key::ERROR_TYPE, "1")]).call_labels(), None);
    }
}
