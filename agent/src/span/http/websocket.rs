//! What spans of WebSocket sessions say. The semantic conventions have nothing of them; what is common practice is one span that
//! lasts as long as the connection does. It is none of a request: that was the handshake, which is its parent.

use std::borrow::Cow;

use opentelemetry_semantic_conventions::attribute as key;

use super::super::build::Shown;
use super::{Addressed, called, network};
use crate::proto::websocket::{Carried, Session};
use crate::proto::{Exchange, HttpCall};
use crate::span::{SpanKind, Wording};

/// The name of a session's span, before its route.
pub(in crate::span) const NAME: &str = "websocket";

/// What the span's process sent: messages, and bytes on the connection, those of the frames' headers too.
const SENT: [&str; 2] = ["sonde.websocket.sent.messages", "sonde.websocket.sent.bytes"];
/// The same of what it received.
const RECEIVED: [&str; 2] = ["sonde.websocket.received.messages", "sonde.websocket.received.bytes"];
/// Status code of the first frame that closed it (RFC 6455, section 7.4).
const CLOSE_CODE: &str = "sonde.websocket.close.code";

/// `error.type` where the code says that something went wrong. From 3000 on codes mean what applications agreed on.
pub(in crate::span) fn error(session: &Session) -> Option<Cow<'static, str>> {
    session.close.filter(|code| matches!(code, 1002..=1014)).map(|code| Cow::Owned(code.to_string()))
}

/// Shows the attributes of a session, `kind` being that of its handshake.
pub(in crate::span) fn describe(
    call: &HttpCall,
    session: &Session,
    exchange: &Exchange,
    kind: SpanKind,
    wording: &Wording,
    shown: &mut Shown<'_>,
) {
    let mut addressed = Addressed::parse(call, kind);
    addressed.scheme = match &*addressed.scheme {
        "http" => Cow::Borrowed("ws"),
        "https" => Cow::Borrowed("wss"),
        _ => addressed.scheme,
    };
    called(call, &addressed, &exchange.opening, kind, wording, shown);
    network(&exchange.opening.ends, shown);
    shown.text(key::NETWORK_PROTOCOL_NAME, "websocket");
    shown.text_if(key::USER_AGENT_ORIGINAL, call.user_agent.as_deref());
    let Session { client, server, close, .. } = *session;
    let (sent, received) = if kind == SpanKind::Server { (server, client) } else { (client, server) };
    for ([count, size], Carried { bytes, messages }) in [(SENT, sent), (RECEIVED, received)] {
        shown.number_if(count, messages);
        shown.number_if(size, Some(bytes));
    }
    shown.number_if(CLOSE_CODE, close);
}
