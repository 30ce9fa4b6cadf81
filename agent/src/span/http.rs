//! What HTTP spans say: OpenTelemetry semantic conventions, HTTP spans and general network attributes.

use std::borrow::Cow;
use std::net::{IpAddr, SocketAddr};

use opentelemetry_semantic_conventions::attribute as key;

use super::SpanKind;
use super::build::Attributes;
use crate::conn::{Address, Ends};
use crate::proto::http1::HttpCall;
use crate::proto::{Message, Opening};

/// What stands for a value that may be a secret.
const REDACTED: &str = "REDACTED";

/// Methods that span names and metrics may carry: RFC 9110, section 9.3, PATCH of RFC 5789 and QUERY.
const METHODS: [&str; 10] =
    ["GET", "HEAD", "POST", "PUT", "DELETE", "CONNECT", "OPTIONS", "TRACE", "PATCH", "QUERY"];

/// Adds the attributes of a call. Returns the span's name and, where the status is an error, its `error.type`.
pub(super) fn describe(
    call: HttpCall,
    kind: SpanKind,
    opening: &Opening,
    request: &Message,
    response: Option<&Message>,
    attributes: &mut Attributes,
) -> (Cow<'static, str>, Option<Cow<'static, str>>) {
    let known = METHODS.into_iter().find(|&method| method == &*call.method);
    let name = known.unwrap_or("HTTP");
    attributes.text(key::HTTP_REQUEST_METHOD, known.unwrap_or("_OTHER"));
    if known.is_none() && !call.method.is_empty() {
        attributes.text(key::HTTP_REQUEST_METHOD_ORIGINAL, call.method.clone().into_string());
    }
    let target = Target::parse(&call.method, &call.target);
    let scheme = match kind {
        SpanKind::Server => call.forwarded_proto.as_deref().or(target.scheme),
        SpanKind::Client => target.scheme,
    };
    let scheme = lower(scheme.filter(|scheme| !scheme.is_empty()).unwrap_or("http"));
    let host =
        target.authority.or(call.host.as_deref()).map(Host::parse).filter(|host| !host.name.is_empty());
    match kind {
        SpanKind::Server => serve(&call, &target, &scheme, host, opening, attributes),
        SpanKind::Client => {
            let host = host.or_else(|| Host::of(&opening.ends.peer));
            let host = host.as_ref();
            let port = host.and_then(|host| host.port).or_else(|| {
                if target.scheme.is_some() { default_port(&scheme) } else { port_of(&opening.ends.peer) }
            });
            attributes.text_if(key::URL_FULL, full_url(&target, &scheme, host));
            attributes.text_if(key::SERVER_ADDRESS, host.map(|host| host.name.clone().into_owned()));
            attributes.number_if(key::SERVER_PORT, port);
        }
    }
    network(&opening.ends, attributes);
    attributes.text(key::NETWORK_PROTOCOL_VERSION, if call.version == 0 { "1.0" } else { "1.1" });
    attributes.text_if(key::USER_AGENT_ORIGINAL, call.user_agent.map(str::into_string));
    attributes.number_if(key::HTTP_RESPONSE_STATUS_CODE, call.status);
    attributes.number_if(key::HTTP_REQUEST_BODY_SIZE, request.body_size);
    attributes.number_if(key::HTTP_RESPONSE_BODY_SIZE, response.and_then(|response| response.body_size));
    let bound = if kind == SpanKind::Server { 500 } else { 400 };
    let error = call.status.filter(|&status| status >= bound).map(|status| Cow::Owned(status.to_string()));
    (Cow::Borrowed(name), error)
}

fn serve(
    call: &HttpCall,
    target: &Target<'_>,
    scheme: &str,
    host: Option<Host<'_>>,
    opening: &Opening,
    attributes: &mut Attributes,
) {
    let Ends { local, peer, .. } = &*opening.ends;
    if !call.method.is_empty() {
        attributes.text(key::URL_PATH, target.path.to_owned());
    }
    attributes.text_if(key::URL_QUERY, target.query.map(redact));
    let named = host.or_else(|| Host::of(local));
    let named = named.as_ref();
    // A proxy in front answers at the port of its own scheme; without one the port is the one that accepted.
    let port = named
        .and_then(|host| host.port)
        .or_else(|| if call.forwarded_proto.is_some() { default_port(scheme) } else { port_of(local) });
    attributes.text(key::URL_SCHEME, lower(scheme));
    attributes.text_if(key::SERVER_ADDRESS, named.map(|host| host.name.clone().into_owned()));
    attributes.number_if(key::SERVER_PORT, port);
    if let Some(client) = call.forwarded_for.as_deref().and_then(forwarded) {
        attributes.text(key::CLIENT_ADDRESS, client);
    } else {
        attributes.text_if(key::CLIENT_ADDRESS, text_of(peer));
        attributes.number_if(key::CLIENT_PORT, port_of(peer));
    }
}

fn network(ends: &Ends, attributes: &mut Attributes) {
    let transport = if matches!(ends.local, Address::Unix(_)) { "unix" } else { "tcp" };
    attributes.text(key::NETWORK_TRANSPORT, transport);
    attributes.text_if(key::NETWORK_PEER_ADDRESS, text_of(&ends.peer));
    attributes.number_if(key::NETWORK_PEER_PORT, port_of(&ends.peer));
    attributes.text_if(key::NETWORK_LOCAL_ADDRESS, text_of(&ends.local));
    attributes.number_if(key::NETWORK_LOCAL_PORT, port_of(&ends.local));
}

fn text_of(address: &Address) -> Option<String> {
    match address {
        Address::Inet(address) => Some(ip_text(address.ip())),
        Address::Unix(path) => Some(path.to_string()).filter(|path| !path.is_empty()),
    }
}

/// Every span of an IPv4 connection has at least two addresses, and the standard formatter takes most of the time of
/// making a span.
fn ip_text(ip: IpAddr) -> String {
    let IpAddr::V4(ip) = ip else { return ip.to_string() };
    let mut text = String::with_capacity(15);
    for (index, octet) in ip.octets().into_iter().enumerate() {
        if index > 0 {
            text.push('.');
        }
        if octet >= 100 {
            text.push(char::from(b'0' + octet / 100));
        }
        if octet >= 10 {
            text.push(char::from(b'0' + octet / 10 % 10));
        }
        text.push(char::from(b'0' + octet % 10));
    }
    text
}

/// Schemes are compared and shown in lower case (RFC 3986, section 3.1).
fn lower(scheme: &str) -> Cow<'static, str> {
    let common = ["http", "https", "ws", "wss"].into_iter().find(|known| scheme.eq_ignore_ascii_case(known));
    common.map_or_else(|| Cow::Owned(scheme.to_ascii_lowercase()), Cow::Borrowed)
}

const fn port_of(address: &Address) -> Option<u16> {
    match address {
        Address::Inet(address) => Some(address.port()),
        Address::Unix(_) => None,
    }
}

fn default_port(scheme: &str) -> Option<u16> {
    match scheme {
        "http" | "ws" => Some(80),
        "https" | "wss" => Some(443),
        _ => None,
    }
}

/// A request target (RFC 9112, section 3.2), taken apart.
#[derive(Debug, PartialEq, Eq)]
struct Target<'a> {
    scheme: Option<&'a str>,
    /// With user information, where there is any.
    authority: Option<&'a str>,
    path: &'a str,
    query: Option<&'a str>,
}

impl<'a> Target<'a> {
    fn parse(method: &str, target: &'a str) -> Self {
        if method == "CONNECT" {
            return Self { scheme: None, authority: Some(target), path: "", query: None };
        }
        // Nearly all begin with their path: there is no scheme to look for.
        let absolute = if target.starts_with('/') { None } else { target.split_once("://") };
        let absolute = absolute.filter(|(scheme, _)| {
            !scheme.is_empty() && scheme.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'+')
        });
        let (scheme, authority, rest) = match absolute {
            Some((scheme, rest)) => {
                let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
                let (authority, rest) = rest.split_at(end);
                (Some(scheme), Some(authority), rest)
            }
            None => (None, None, target),
        };
        let rest = rest.split_once('#').map_or(rest, |(rest, _)| rest);
        let (path, query) = match rest.split_once('?') {
            Some((path, query)) => (path, Some(query)),
            None => (rest, None),
        };
        let path = if path.is_empty() && scheme.is_some() { "/" } else { path };
        Self { scheme, authority, path, query: query.filter(|query| !query.is_empty()) }
    }
}

/// A host and the port it was named with.
#[derive(Debug, PartialEq, Eq)]
struct Host<'a> {
    /// IPv6 addresses stand without their brackets.
    name: Cow<'a, str>,
    port: Option<u16>,
    /// User information stood before it.
    has_user: bool,
}

impl<'a> Host<'a> {
    fn parse(authority: &'a str) -> Self {
        let (has_user, host) = match authority.rsplit_once('@') {
            Some((_, host)) => (true, host),
            None => (false, authority),
        };
        let (name, port) = match host.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
            Some((address, rest)) => (address, rest.strip_prefix(':')),
            None => match host.split_once(':') {
                Some((name, port)) => (name, Some(port)),
                None => (host, None),
            },
        };
        Self { name: Cow::Borrowed(name), port: port.and_then(|port| port.parse().ok()), has_user }
    }

    fn of(address: &Address) -> Option<Self> {
        Some(Host { name: Cow::Owned(text_of(address)?), port: port_of(address), has_user: false })
    }
}

/// `url.full`: credentials and the values of the query redacted, as the conventions ask.
fn full_url(target: &Target<'_>, scheme: &str, host: Option<&Host<'_>>) -> Option<String> {
    use std::fmt::Write as _;
    let host = host?;
    let mut url = String::with_capacity(scheme.len() + host.name.len() + target.path.len() + 16);
    let is_authority = target.scheme.is_none() && target.authority.is_some();
    if !is_authority {
        url.push_str(scheme);
        url.push_str("://");
    }
    if host.has_user {
        url.push_str("REDACTED:REDACTED@");
    }
    let bracketed = host.name.contains(':');
    url.push_str(if bracketed { "[" } else { "" });
    url.push_str(&host.name);
    url.push_str(if bracketed { "]" } else { "" });
    if let Some(port) = host.port.filter(|&port| is_authority || Some(port) != default_port(scheme)) {
        // Writing to a string does not fail.
        let _ = write!(url, ":{port}");
    }
    if target.path != "*" {
        url.push_str(target.path);
    }
    if let Some(query) = target.query {
        url.push('?');
        url.push_str(&redact(query));
    }
    Some(url)
}

/// Keeps the keys of a query and hides its values.
fn redact(query: &str) -> String {
    let mut kept = String::with_capacity(query.len());
    for (index, pair) in query.split('&').enumerate() {
        if index > 0 {
            kept.push('&');
        }
        match pair.split_once('=') {
            Some((name, value)) => {
                kept.push_str(name);
                kept.push('=');
                kept.push_str(if value.is_empty() { "" } else { REDACTED });
            }
            None => kept.push_str(pair),
        }
    }
    kept
}

/// The address in an element of `X-Forwarded-For` or `Forwarded: for=` (RFC 7239, section 6): without quotes, brackets and
/// port; nothing for `unknown`.
fn forwarded(element: &str) -> Option<String> {
    let element = element.trim().trim_matches('"');
    if element.is_empty() || element.eq_ignore_ascii_case("unknown") {
        return None;
    }
    if let Ok(address) = element.parse::<SocketAddr>() {
        return Some(address.ip().to_string());
    }
    let bare = element.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(element);
    Some(bare.parse::<IpAddr>().map_or_else(|_| bare.to_owned(), |address| address.to_string()))
}

#[cfg(test)]
mod tests;
