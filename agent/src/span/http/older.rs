//! HTTP spans by the names of the semantic conventions up to version 1.20, for `OTEL_SEMCONV_STABILITY_OPT_IN=http/dup`
//! (OpenTelemetry, "Migration guide: HTTP semantic convention stability").

use super::{Addressed, Shown, default_port, known, port_of, version, write_address, write_path};
use crate::proto::Exchange;
use crate::proto::HttpCall;
use crate::span::{SpanKind, Wording};

pub(super) fn describe(
    call: &HttpCall,
    addressed: &Addressed<'_>,
    exchange: &Exchange,
    kind: SpanKind,
    wording: &Wording,
    shown: &mut Shown<'_>,
) {
    let Exchange { opening, request, response, .. } = exchange;
    let ends = &*opening.ends;
    let Addressed { target, scheme, host } = addressed;
    shown.text("http.method", known(call).unwrap_or(&call.method));
    shown.number_if("http.status_code", call.status);
    shown.text("http.flavor", version(call));
    shown.text_if("http.user_agent", call.user_agent.as_deref());
    shown.number_if("http.request_content_length", request.body_size);
    shown.number_if("http.response_content_length", response.and_then(|response| response.body_size));
    let (name, port) = match kind {
        SpanKind::Server => {
            shown.text("http.scheme", scheme);
            shown.composed("http.target", |text| {
                write_path(target.path, text);
                if let Some(query) = target.query {
                    let before = text.len();
                    text.push('?');
                    if !wording.query.write(query, text) {
                        text.truncate(before);
                    }
                }
                !text.is_empty()
            });
            if let Some(client) = call.forwarded_for.as_deref().and_then(super::forwarded) {
                shown.text("http.client_ip", &client);
            }
            ("net.host.name", "net.host.port")
        }
        SpanKind::Client | SpanKind::Internal => {
            let named = addressed.host_or(&ends.peer);
            shown.composed("http.url", |url| addressed.write_url(named.as_deref(), wording, url));
            ("net.peer.name", "net.peer.port")
        }
    };
    let end = if kind == SpanKind::Server { &ends.local } else { &ends.peer };
    let port_named = host.as_ref().and_then(|host| host.port);
    let by_scheme = || target.scheme.and_then(default_port);
    shown.text_if(name, host.as_ref().map(|host| &*host.name));
    shown.number_if(port, port_named.or_else(by_scheme).or_else(|| port_of(end)));
    shown.composed("net.sock.peer.addr", |text| write_address(&ends.peer, text));
    shown.number_if("net.sock.peer.port", port_of(&ends.peer));
}
