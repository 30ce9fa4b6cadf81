//! What HTTP spans say: OpenTelemetry semantic conventions, HTTP spans and general network attributes.

mod older;
pub(super) mod rpc;
pub(super) mod websocket;

use std::borrow::Cow;
use std::fmt::Write as _;
use std::net::{IpAddr, SocketAddr};

use opentelemetry_semantic_conventions::attribute as key;

use super::build::Shown;
use super::labels::{CallKind, CallLabels};
use super::redact::write_path;
use super::{HttpNames, SpanKind, Wording};
use crate::conn::{Address, Ends};
use crate::proto::HttpCall;
use crate::proto::{CapturedHeader, Exchange, Opening};

/// Methods that span names and metrics may carry: RFC 9110, section 9.3, PATCH of RFC 5789 and QUERY.
const METHODS: [&str; 10] =
    ["GET", "HEAD", "POST", "PUT", "DELETE", "CONNECT", "OPTIONS", "TRACE", "PATCH", "QUERY"];

/// The name of a call's span.
pub(super) fn name(call: &HttpCall) -> &'static str {
    known(call).unwrap_or("HTTP")
}

fn known(call: &HttpCall) -> Option<&'static str> {
    METHODS.into_iter().find(|&method| method == call.method)
}

/// The path of a call, without its query, as routes are learned from it; `None` where it has none.
pub(super) fn path(call: &HttpCall) -> Option<&str> {
    Some(Target::parse(&call.method, &call.target).path).filter(|path| path.starts_with('/'))
}

/// The host that a call is made to, as it was named.
pub(super) fn host(call: &HttpCall) -> Option<String> {
    let authority = Target::parse(&call.method, &call.target).authority.or(call.host.as_deref())?;
    Some(Host::parse(authority).name.into_owned())
}

/// `error.type` where the status is an error.
pub(super) fn error(call: &HttpCall, kind: SpanKind) -> Option<Cow<'static, str>> {
    let bound = if kind == SpanKind::Server { 500 } else { 400 };
    call.status.filter(|&status| status >= bound).map(|status| Cow::Owned(status.to_string()))
}

/// Shows the attributes of a call.
pub(super) fn describe(
    call: &HttpCall,
    exchange: &Exchange,
    kind: SpanKind,
    wording: &Wording,
    shown: &mut Shown<'_>,
) {
    let Exchange { opening, request, response, .. } = exchange;
    let known = known(call);
    shown.text(key::HTTP_REQUEST_METHOD, known.unwrap_or("_OTHER"));
    if known.is_none() && !call.method.is_empty() {
        shown.text(key::HTTP_REQUEST_METHOD_ORIGINAL, &call.method);
    }
    let addressed = Addressed::parse(call, kind);
    called(call, &addressed, opening, kind, wording, shown);
    network(&opening.ends, shown);
    shown.text(key::NETWORK_PROTOCOL_VERSION, version(call));
    shown.text_if(key::USER_AGENT_ORIGINAL, call.user_agent.as_deref());
    shown.number_if(key::HTTP_RESPONSE_STATUS_CODE, call.status);
    shown.number_if(key::HTTP_REQUEST_BODY_SIZE, request.body_size);
    shown.number_if(key::HTTP_RESPONSE_BODY_SIZE, response.and_then(|response| response.body_size));
    captured(&call.headers, ["http.request.header.", "http.response.header."], wording, shown);
    if wording.names == HttpNames::Both {
        older::describe(call, &addressed, exchange, kind, wording, shown);
    }
}

/// Shows who was called, and for a server by whom.
fn called(
    call: &HttpCall,
    addressed: &Addressed<'_>,
    opening: &Opening,
    kind: SpanKind,
    wording: &Wording,
    shown: &mut Shown<'_>,
) {
    if kind == SpanKind::Server {
        return serve(call, addressed, opening, wording, shown);
    }
    let host = addressed.host_or(&opening.ends.peer);
    // Of a request whose path nobody saw, the rest would pass for one of the root.
    if !call.target.is_empty() {
        shown.composed(key::URL_FULL, |url| addressed.write_url(host.as_deref(), wording, url));
    }
    shown.text_if(key::SERVER_ADDRESS, host.as_ref().map(|host| &*host.name));
    shown.number_if(key::SERVER_PORT, addressed.port_called(host.as_deref(), &opening.ends.peer));
}

/// Headers of the request and of the response, under these names with their own behind: a list each, as there may be several
/// lines of a name.
fn captured(captured: &[CapturedHeader], names: [&str; 2], wording: &Wording, shown: &mut Shown<'_>) {
    let [request, response] = names;
    for (at, header) in captured.iter().enumerate() {
        let same =
            |other: &&CapturedHeader| other.name == header.name && other.of_response == header.of_response;
        if captured.iter().take(at).any(|other| same(&other)) {
            continue;
        }
        let values = captured
            .iter()
            .filter(same)
            .map(|line| Cow::Owned(wording.query.header(&line.value).into_owned()));
        let message = if header.of_response { response } else { request };
        shown.list(&[message, &header.name].concat(), &values.collect::<Vec<_>>());
    }
}

/// What the metrics of a call are told apart by, but for what the span alone knows.
pub(super) fn labels<'a>(call: &'a HttpCall, exchange: &'a Exchange, kind: SpanKind) -> CallLabels<'a> {
    let addressed = Addressed::parse(call, kind);
    let response_size = exchange.response.and_then(|response| response.body_size);
    let mut labels = CallLabels {
        kind: CallKind::of_http(kind),
        method: known(call).unwrap_or("_OTHER"),
        scheme: Cow::Borrowed(""),
        address: Cow::Borrowed(""),
        port: None,
        status: call.status.map(u32::from),
        version: version(call),
        route: "",
        error: "",
        sizes: [exchange.request.body_size, response_size],
    };
    match kind {
        SpanKind::Server => labels.scheme = addressed.scheme,
        SpanKind::Client | SpanKind::Internal => {
            let peer = &exchange.opening.ends.peer;
            let host = addressed.host_or(peer);
            labels.port = addressed.port_called(host.as_deref(), peer);
            labels.address = host.map_or(Cow::Borrowed(""), |host| host.into_owned().name);
        }
    }
    labels
}

fn version(call: &HttpCall) -> &'static str {
    match call.version {
        0 => "1.0",
        1 => "1.1",
        _ => "2",
    }
}

fn serve(
    call: &HttpCall,
    addressed: &Addressed<'_>,
    opening: &Opening,
    wording: &Wording,
    shown: &mut Shown<'_>,
) {
    let Addressed { target, scheme, .. } = addressed;
    let Ends { local, peer, .. } = &*opening.ends;
    if !call.method.is_empty() && (call.version < 2 || !target.path.is_empty()) {
        if target.path.contains(';') {
            shown.composed(key::URL_PATH, |text| {
                write_path(target.path, text);
                true
            });
        } else {
            shown.text(key::URL_PATH, target.path);
        }
    }
    if let Some(query) = target.query {
        shown.composed(key::URL_QUERY, |text| wording.query.write(query, text));
    }
    let named = addressed.host_or(local);
    let named = named.as_deref();
    // A proxy in front answers at the port of its own scheme; without one the port is the one that accepted.
    let port = named
        .and_then(|host| host.port)
        .or_else(|| if call.forwarded_proto.is_some() { default_port(scheme) } else { port_of(local) });
    shown.text(key::URL_SCHEME, scheme);
    shown.text_if(key::SERVER_ADDRESS, named.map(|host| &*host.name));
    shown.number_if(key::SERVER_PORT, port);
    client(call, peer, shown);
}

fn client(call: &HttpCall, peer: &Address, shown: &mut Shown<'_>) {
    if let Some(client) = call.forwarded_for.as_deref().and_then(forwarded) {
        shown.text(key::CLIENT_ADDRESS, &client);
    } else {
        shown.composed(key::CLIENT_ADDRESS, |text| write_address(peer, text));
        shown.number_if(key::CLIENT_PORT, port_of(peer));
    }
}

fn network(ends: &Ends, shown: &mut Shown<'_>) {
    let transport = if matches!(ends.local, Address::Unix(_)) { "unix" } else { "tcp" };
    shown.text(key::NETWORK_TRANSPORT, transport);
    shown.composed(key::NETWORK_PEER_ADDRESS, |text| write_address(&ends.peer, text));
    shown.number_if(key::NETWORK_PEER_PORT, port_of(&ends.peer));
    shown.composed(key::NETWORK_LOCAL_ADDRESS, |text| write_address(&ends.local, text));
    shown.number_if(key::NETWORK_LOCAL_PORT, port_of(&ends.local));
}

/// Writes an address without its port; `false` where it is not known.
fn write_address(address: &Address, text: &mut String) -> bool {
    match address {
        Address::Inet(address) => write_ip(address.ip(), text),
        Address::Unix(path) => text.push_str(path),
    }
    !text.is_empty()
}

/// Every span of an IPv4 connection has at least two addresses, and the standard formatter takes most of the time of
/// showing a span.
fn write_ip(ip: IpAddr, text: &mut String) {
    let IpAddr::V4(ip) = ip else {
        // Writing to a string does not fail.
        let _ = write!(text, "{ip}");
        return;
    };
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

/// What a call is addressed to, by all that it says of that.
#[derive(Debug)]
struct Addressed<'a> {
    target: Target<'a>,
    /// In lower case; `http` where nothing names another.
    scheme: Cow<'static, str>,
    /// As it was named in the target or by `Host`.
    host: Option<Host<'a>>,
}

impl<'a> Addressed<'a> {
    /// A server is believed what the proxy in front of it says of the scheme.
    fn parse(call: &'a HttpCall, kind: SpanKind) -> Self {
        let target = Target::parse(&call.method, &call.target);
        let forwarded = call.forwarded_proto.as_deref().filter(|_| kind == SpanKind::Server);
        let scheme =
            forwarded.or(target.scheme).or(call.scheme.as_deref()).filter(|scheme| !scheme.is_empty());
        let host =
            target.authority.or(call.host.as_deref()).map(Host::parse).filter(|host| !host.name.is_empty());
        Self { scheme: lower(scheme.unwrap_or("http")), host, target }
    }

    /// The host as it was named, else the address of the end that serves.
    fn host_or(&self, server: &Address) -> Option<Cow<'_, Host<'a>>> {
        self.host.as_ref().map(Cow::Borrowed).or_else(|| Host::of(server).map(Cow::Owned))
    }

    /// The port that a client calls: named, of the scheme where that is named, else the peer's.
    fn port_called(&self, host: Option<&Host<'_>>, peer: &Address) -> Option<u16> {
        let implied =
            || if self.target.scheme.is_some() { default_port(&self.scheme) } else { port_of(peer) };
        host.and_then(|host| host.port).or_else(implied)
    }

    /// `url.full`: credentials and the values of the query redacted, as the conventions ask. `false` where no host is known.
    fn write_url(&self, host: Option<&Host<'_>>, wording: &Wording, url: &mut String) -> bool {
        let Self { target, scheme, .. } = self;
        let Some(host) = host else { return false };
        url.reserve(scheme.len() + host.name.len() + target.path.len() + 16);
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
            // As above.
            let _ = write!(url, ":{port}");
        }
        if target.path != "*" {
            write_path(target.path, url);
        }
        if let Some(query) = target.query {
            let before = url.len();
            url.push('?');
            if !wording.query.write(query, url) {
                url.truncate(before);
            }
        }
        true
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
        // Extended CONNECT has a path beside its authority (RFC 8441, section 4).
        if method == "CONNECT" && !target.starts_with('/') {
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
#[derive(Clone, Debug, PartialEq, Eq)]
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
        let mut name = String::new();
        write_address(address, &mut name).then(|| Host {
            name: Cow::Owned(name),
            port: port_of(address),
            has_user: false,
        })
    }
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
