//! What the metrics of a call are told apart by: semantic conventions, HTTP metrics. Read out of the span without taking
//! memory for it: this is done for every exchange.

use std::borrow::Cow;

use opentelemetry_semantic_conventions::attribute as key;

use super::{Attribute, AttributeValue, Attributes, SpanKind, build, http};
use crate::proto::{Call, Exchange};

/// The attributes that the conventions require or recommend for the metrics of an HTTP call, and its sizes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CallLabels<'a> {
    /// Which end.
    pub kind: SpanKind,
    /// `http.request.method`.
    pub method: &'static str,
    /// `url.scheme`, of servers only.
    pub scheme: Cow<'a, str>,
    /// `server.address`, of clients only; empty where it is not known.
    pub address: Cow<'a, str>,
    /// `server.port`, of clients only.
    pub port: Option<u16>,
    /// `http.response.status_code`.
    pub status: Option<u16>,
    /// `network.protocol.version`.
    pub version: &'static str,
    /// `http.route` of servers, `url.template` of clients; empty where there is none.
    pub route: &'a str,
    /// `error.type`; empty where there is none.
    pub error: &'a str,
    /// Bytes of the request's body.
    pub request_size: Option<u64>,
    /// Bytes of the response's body.
    pub response_size: Option<u64>,
}

impl Attributes {
    /// What the metrics of the call are told apart by; `None` where no exchange tells.
    #[must_use]
    pub fn call_labels(&self) -> Option<CallLabels<'_>> {
        let exchange: &Exchange = self.exchange.as_ref()?;
        let Call::Http(call) = &exchange.call;
        if call.rpc.is_some() || call.session.is_some() {
            return None;
        }
        let kind = build::kind(exchange);
        let mut labels = http::labels(call, exchange, kind);
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
            kind: SpanKind::Server,
            method: "GET",
            scheme: "http".into(),
            address: "".into(),
            port: None,
            status: Some(503),
            version: "1.1",
            route: "/cart/{id}",
            error: "503",
            request_size: Some(0),
            response_size: None,
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
    fn a_span_without_an_exchange_tells_nothing() {
        assert_eq!(Attributes::from(vec![more(key::ERROR_TYPE, "1")]).call_labels(), None);
    }
}
