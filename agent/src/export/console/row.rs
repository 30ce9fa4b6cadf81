//! One span as the console shows it, made when it arrives and written when its trace is.

use std::sync::Arc;

use super::style::{Colour, Style, digits, duration, left, pad, visible};
use crate::enrich::Resource;
use crate::span::{AttributeValue, Span, SpanId, SpanKind, SpanStatus, TraceId};

/// What the console keeps of a span until it is written: a few hundred bytes, whatever the span holds.
#[derive(Debug)]
pub(super) struct Row {
    pub(super) trace: TraceId,
    pub(super) id: SpanId,
    /// The span above, and whether it is another process's.
    pub(super) parent: Option<(SpanId, bool)>,
    pub(super) start: u64,
    duration: u64,
    resource: Arc<Resource>,
    kind: SpanKind,
    is_error: bool,
    /// Name, path, status, peer and error, one after the other, each cut to what its column can hold.
    text: String,
    ends: [usize; 4],
}

/// Column widths. They grow with what is shown, up to a bound, and never shrink, so that lines stay aligned.
#[derive(Debug)]
pub(super) struct Widths {
    service: usize,
    name: usize,
    peer: usize,
}

impl Default for Widths {
    fn default() -> Self {
        Self { service: 10, name: 28, peer: 15 }
    }
}

const SERVICE_MAX: usize = 24;
const NAME_MAX: usize = 60;
const ERROR_MAX: usize = 40;
const PEER_MAX: usize = 47;

impl Row {
    pub(super) fn of(resource: &Arc<Resource>, span: &Span) -> Self {
        let mut text = String::with_capacity(64);
        visible(&mut text, &span.name, NAME_MAX);
        let name = text.len();
        if let Some(path) = path(span).filter(|_| !span.name.contains('/')) {
            visible(&mut text, path, NAME_MAX);
        }
        let path = text.len();
        status(&mut text, span);
        let status = text.len();
        peer(&mut text, span);
        let peer = text.len();
        error(&mut text, span);
        Self {
            trace: span.context.trace_id,
            id: span.context.span_id,
            parent: span.parent.as_ref().map(|parent| (parent.span_id, parent.is_remote)),
            start: span.start,
            duration: span.end.saturating_sub(span.start),
            resource: Arc::clone(resource),
            kind: span.kind,
            is_error: matches!(span.status, SpanStatus::Error(_)),
            text,
            ends: [name, path, status, peer],
        }
    }

    /// Adds the span's line, indented by its depth in the tree.
    pub(super) fn write(&self, out: &mut String, depth: usize, widths: &mut Widths, style: Style) {
        let [name_end, path_end, status_end, peer_end] = self.ends;
        let part = |from: usize, to: usize| self.text.get(from..to).unwrap_or_default();
        let (name, path) = (part(0, name_end), part(name_end, path_end));
        let (status, peer) = (part(path_end, status_end), part(status_end, peer_end));
        let error = part(peer_end, self.text.len());

        style.paint(out, Colour::Dim, |out| time_of_day(out, self.start));
        out.push(' ');

        let service = self.resource.service_name();
        widths.service = widths.service.max(service.chars().count().min(SERVICE_MAX));
        let used = visible(out, service, SERVICE_MAX);
        pad(out, (widths.service + 1).saturating_sub(used));

        let (kind, colour) = match self.kind {
            SpanKind::Server => ("SERVER", Colour::Blue),
            SpanKind::Client => ("CLIENT", Colour::Magenta),
        };
        style.paint(out, colour, |out| out.push_str(kind));
        out.push(' ');

        let indent = depth.min(16) * 2;
        pad(out, indent);
        style.paint(out, Colour::Bold, |out| out.push_str(name));
        let mut used = indent + name.chars().count();
        if !path.is_empty() {
            out.push(' ');
            let room = (NAME_MAX + indent).saturating_sub(used + 1).max(8);
            used += 1 + visible(out, path, room);
        }
        widths.name = widths.name.max(used.min(NAME_MAX));
        pad(out, (widths.name + 1).saturating_sub(used));

        let colour = if self.is_error {
            Colour::Red
        } else if status.starts_with(['3', '4']) {
            Colour::Yellow
        } else {
            Colour::Green
        };
        style.paint(out, colour, |out| left(out, status, 3));

        duration(out, self.duration);
        out.push_str("  ");
        widths.peer = widths.peer.max(peer.chars().count());
        left(out, peer, widths.peer + 1);
        style.paint(out, Colour::Dim, |out| {
            for byte in self.trace.0.iter().take(4) {
                for digit in [byte >> 4, byte & 15] {
                    out.push(char::from(if digit < 10 { b'0' + digit } else { b'a' - 10 + digit }));
                }
            }
        });
        if !error.is_empty() {
            out.push(' ');
            style.paint(out, Colour::Red, |out| out.push_str(error));
        }
        out.push('\n');
    }
}

/// `hh:mm:ss.mmmZ`. UTC: the local time zone costs a file and a parser, and logs of a node are read next to others.
fn time_of_day(out: &mut String, nanos: u64) {
    let millis = nanos / 1_000_000 % 86_400_000;
    for (value, width, after) in [
        (millis / 3_600_000, 2, ':'),
        (millis / 60_000 % 60, 2, ':'),
        (millis / 1_000 % 60, 2, '.'),
        (millis % 1_000, 3, 'Z'),
    ] {
        digits(out, value, width);
        out.push(after);
    }
}

fn find<'a>(span: &'a Span, key: &str) -> Option<&'a AttributeValue> {
    span.attributes.iter().find(|attribute| attribute.key == key).map(|attribute| &attribute.value)
}

fn text<'a>(span: &'a Span, key: &str) -> Option<&'a str> {
    match find(span, key)? {
        AttributeValue::Str(text) => Some(text),
        _ => None,
    }
}

/// What was asked for, where the name leaves it out: the path of a server's URL or of a client's.
fn path(span: &Span) -> Option<&str> {
    if let Some(path) = text(span, "url.path") {
        return Some(path);
    }
    let (_, after) = text(span, "url.full")?.split_once("://")?;
    let path = after.get(after.find('/')?..)?;
    path.split(['?', '#']).next()
}

/// The protocol's status code; where there is none, whether it is an error.
fn status(out: &mut String, span: &Span) {
    match (find(span, "http.response.status_code"), &span.status) {
        (Some(AttributeValue::Int(code)), _) => digits(out, u64::try_from(*code).unwrap_or(0), 1),
        (_, SpanStatus::Error(_)) => out.push_str("ERR"),
        (_, SpanStatus::Unset) => out.push('-'),
    }
}

/// What went wrong, where the status code does not say it.
fn error(out: &mut String, span: &Span) {
    let Some(error) = text(span, "error.type") else { return };
    if !error.bytes().all(|byte| byte.is_ascii_digit()) {
        visible(out, error, ERROR_MAX);
    }
}

/// Whom the process talked to: who asked a server, whom a client asked.
fn peer(out: &mut String, span: &Span) {
    let pairs = match span.kind {
        SpanKind::Server => {
            [("client.address", "client.port"), ("network.peer.address", "network.peer.port")]
        }
        SpanKind::Client => {
            [("server.address", "server.port"), ("network.peer.address", "network.peer.port")]
        }
    };
    let start = out.len();
    for (address, port) in pairs {
        let Some(address) = text(span, address).filter(|address| !address.is_empty()) else { continue };
        let has_colon = address.contains(':');
        let port = find(span, port);
        if has_colon && port.is_some() {
            out.push('[');
        }
        visible(out, address, PEER_MAX - 8);
        if has_colon && port.is_some() {
            out.push(']');
        }
        if let Some(AttributeValue::Int(port)) = port {
            out.push(':');
            digits(out, u64::try_from(*port).unwrap_or(0), 1);
        }
        break;
    }
    if out.len() == start {
        out.push('-');
    }
}
