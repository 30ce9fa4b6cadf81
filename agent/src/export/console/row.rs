//! One span as the console shows it, made when it arrives and written when its trace is.

use std::borrow::Cow;
use std::sync::Arc;

use super::super::text::{digits, hex};
use super::style::{Colour, Style, duration, left, pad, visible};
use crate::enrich::Resource;
use crate::span::{Span, SpanId, SpanKind, SpanName, SpanStatus, TraceId, Value};

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
        let shown = Shown::of(span);
        let mut text = String::with_capacity(64);
        // A line is of one request: its path rather than the route that the name holds.
        let said = match &span.name {
            SpanName::Routed { method, .. } if !shown.path.is_empty() => Cow::Borrowed(*method),
            SpanName::Plain(name) => Cow::Borrowed(&**name),
            name => Cow::Owned(name.to_string()),
        };
        visible(&mut text, &said, NAME_MAX);
        let name = text.len();
        if !said.contains('/') {
            visible(&mut text, &shown.path, NAME_MAX);
        }
        let path = text.len();
        match (shown.status, &span.status) {
            (Some(code), _) => digits(&mut text, code, 1),
            (None, SpanStatus::Error(_)) => text.push_str("ERR"),
            (None, SpanStatus::Unset) => text.push('-'),
        }
        let status = text.len();
        shown.peer(span.kind, &mut text);
        let peer = text.len();
        if !shown.error.bytes().all(|byte| byte.is_ascii_digit()) {
            // A status code, which the line shows anyway, is no news.
            visible(&mut text, &shown.error, ERROR_MAX);
        }
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
            // As wide as the others.
            SpanKind::Internal => ("INTERN", Colour::Dim),
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
            hex(out, self.trace.0.get(..4).unwrap_or_default());
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

/// The attributes that a line shows, found in one pass. Empty where absent.
#[derive(Default)]
struct Shown {
    path: String,
    error: String,
    status: Option<u64>,
    client: End,
    server: End,
    peer: End,
}

/// An address and a port.
#[derive(Default)]
struct End {
    address: String,
    port: Option<u64>,
}

impl Shown {
    fn of(span: &Span) -> Self {
        let mut shown = Self::default();
        span.attributes.each(|key, value| match value {
            Value::Str(text) => {
                let (slot, text) = match key {
                    // What was asked for: the path of a server's URL or of a client's.
                    "url.path" => (&mut shown.path, text),
                    "url.full" if shown.path.is_empty() => (&mut shown.path, path_of(text)),
                    "error.type" => (&mut shown.error, text),
                    "client.address" => (&mut shown.client.address, text),
                    "server.address" => (&mut shown.server.address, text),
                    "network.peer.address" => (&mut shown.peer.address, text),
                    _ => return,
                };
                text.clone_into(slot);
            }
            Value::Int(value) => {
                let slot = match key {
                    "http.response.status_code" => &mut shown.status,
                    "client.port" => &mut shown.client.port,
                    "server.port" => &mut shown.server.port,
                    "network.peer.port" => &mut shown.peer.port,
                    _ => return,
                };
                *slot = u64::try_from(value).ok();
            }
            _ => {}
        });
        shown
    }

    /// Whom the process talked to: who asked a server, whom a client asked.
    fn peer(&self, kind: SpanKind, out: &mut String) {
        let named = match kind {
            SpanKind::Server => &self.client,
            SpanKind::Client => &self.server,
            SpanKind::Internal => &self.peer,
        };
        let End { address, port } = if named.address.is_empty() { &self.peer } else { named };
        match port {
            _ if address.is_empty() => out.push('-'),
            None => {
                visible(out, address, PEER_MAX);
            }
            Some(port) => {
                let is_v6 = address.contains(':');
                out.push_str(if is_v6 { "[" } else { "" });
                visible(out, address, PEER_MAX - 8);
                out.push_str(if is_v6 { "]:" } else { ":" });
                digits(out, *port, 1);
            }
        }
    }
}

/// The path of a URL.
fn path_of(url: &str) -> &str {
    let after = url.split_once("://").map_or("", |(_, after)| after);
    let path = after.find('/').and_then(|at| after.get(at..)).unwrap_or_default();
    path.split(['?', '#']).next().unwrap_or_default()
}
