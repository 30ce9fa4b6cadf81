//! Spans as a consumer of OTLP/JSON Lines or of OTLP/protobuf reads them.

use std::collections::BTreeMap;
use std::path::Path;

use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::any_value::Value as ProtoValue;
use opentelemetry_proto::tonic::common::v1::{AnyValue, KeyValue};
use serde_json::Value;

/// Span kind, of those that Sonde makes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// Served.
    Server,
    /// Called.
    Client,
    /// Neither: a session that follows a request on its connection.
    Internal,
}

/// A span, ids in lower-case hex, attribute values as text.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Span {
    /// Kind.
    pub kind: Kind,
    /// Name.
    pub name: String,
    /// Trace id.
    pub trace: String,
    /// Span id.
    pub id: String,
    /// Parent's span id, empty where there is none.
    pub parent: String,
    /// `tracestate`.
    pub state: String,
    /// Trace flags, the lower eight bits.
    pub flags: u32,
    /// Nanoseconds since the epoch.
    pub start: u64,
    /// Nanoseconds since the epoch.
    pub end: u64,
    /// Whether its status is ERROR.
    pub error: bool,
    /// Attributes.
    pub attributes: BTreeMap<String, String>,
    /// Attributes of its resource.
    pub resource: BTreeMap<String, String>,
}

impl Span {
    /// An attribute; empty where it is missing.
    #[must_use]
    pub fn attribute(&self, key: &str) -> &str {
        self.attributes.get(key).map_or("", String::as_str)
    }

    /// An attribute that is a number.
    #[must_use]
    pub fn number(&self, key: &str) -> Option<i64> {
        self.attributes.get(key)?.parse().ok()
    }

    /// The process that it belongs to.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.resource.get("process.pid").and_then(|pid| pid.parse().ok()).unwrap_or(0)
    }

    /// The request's path without its query: `url.path`, for a CLIENT that of `url.full`.
    #[must_use]
    pub fn path(&self) -> &str {
        let full = match self.kind {
            Kind::Server => self.attribute("url.path"),
            Kind::Client => {
                let full = self.attribute("url.full");
                let rest = full.split_once("://").map_or(full, |(_, rest)| rest);
                rest.find('/').map_or("", |slash| &rest[slash..])
            }
            // A session is found by the handshake above it.
            Kind::Internal => "",
        };
        full.split('?').next().unwrap_or(full)
    }

    /// How long it lasted, in nanoseconds.
    #[must_use]
    pub fn duration(&self) -> u64 {
        self.end.saturating_sub(self.start)
    }
}

/// Reads a file of OTLP/JSON lines; other signals than traces are passed over.
///
/// # Panics
/// Where it is not what OTLP/JSON prescribes.
#[must_use]
pub fn read(path: &Path) -> Vec<Span> {
    let text = std::fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let mut spans = Vec::new();
    for line in text.lines().filter(|line| !line.is_empty()) {
        spans.extend(from_object(line));
    }
    spans
}

/// The spans of one `{"resourceSpans":[...]}` object, be it a line of a file or the body of a request.
///
/// # Panics
/// Where it is not what OTLP/JSON prescribes.
#[must_use]
pub fn from_object(text: &str) -> Vec<Span> {
    let object: Value = serde_json::from_str(text).unwrap_or_else(|error| panic!("{error}: {text}"));
    let mut spans = Vec::new();
    for resource_spans in array(&object["resourceSpans"]) {
        let resource = attributes(&resource_spans["resource"]["attributes"]);
        for scope in array(&resource_spans["scopeSpans"]) {
            spans.extend(array(&scope["spans"]).iter().map(|span| from_json(span, &resource)));
        }
    }
    spans
}

/// The spans of an export request.
#[must_use]
pub fn from_export(request: ExportTraceServiceRequest) -> Vec<Span> {
    let mut spans = Vec::new();
    for resource_spans in request.resource_spans {
        let resource =
            proto_attributes(resource_spans.resource.map(|resource| resource.attributes).unwrap_or_default());
        for span in resource_spans.scope_spans.into_iter().flat_map(|scope| scope.spans) {
            spans.push(Span {
                kind: kind(span.kind),
                name: span.name,
                trace: hex(&span.trace_id),
                id: hex(&span.span_id),
                parent: hex(&span.parent_span_id),
                state: span.trace_state,
                flags: span.flags & 0xff,
                start: span.start_time_unix_nano,
                end: span.end_time_unix_nano,
                error: span.status.is_some_and(|status| status.code == 2),
                attributes: proto_attributes(span.attributes),
                resource: resource.clone(),
            });
        }
    }
    spans
}

fn from_json(span: &Value, resource: &BTreeMap<String, String>) -> Span {
    let text = |key: &str| span[key].as_str().unwrap_or_default().to_owned();
    Span {
        kind: kind(i32::try_from(span["kind"].as_i64().expect("kind is a number in OTLP/JSON")).unwrap_or(0)),
        name: text("name"),
        trace: text("traceId"),
        id: text("spanId"),
        parent: text("parentSpanId"),
        state: text("traceState"),
        flags: u32::try_from(span["flags"].as_u64().unwrap_or(0) & 0xff).unwrap_or(0),
        start: nanos(&span["startTimeUnixNano"]),
        end: nanos(&span["endTimeUnixNano"]),
        error: span["status"]["code"].as_i64() == Some(2),
        attributes: attributes(&span["attributes"]),
        resource: resource.clone(),
    }
}

fn kind(number: i32) -> Kind {
    match number {
        1 => Kind::Internal,
        2 => Kind::Server,
        3 => Kind::Client,
        other => panic!("span of kind {other}"),
    }
}

/// 64-bit integers are strings in OTLP/JSON.
fn nanos(value: &Value) -> u64 {
    let text = value.as_str().unwrap_or_else(|| panic!("a time is a string in OTLP/JSON, not {value}"));
    text.parse().unwrap_or_else(|error| panic!("{text}: {error}"))
}

fn array(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}

pub(crate) fn attributes(list: &Value) -> BTreeMap<String, String> {
    let mut map = BTreeMap::new();
    for pair in array(list) {
        let key = pair["key"].as_str().expect("an attribute has a key").to_owned();
        let twice = map.insert(key.clone(), json_value(&pair["value"]));
        assert!(twice.is_none(), "attribute {key} twice");
    }
    map
}

fn json_value(value: &Value) -> String {
    let (kind, inner) =
        value.as_object().and_then(|object| object.iter().next()).expect("a value has a type");
    match (kind.as_str(), inner) {
        ("stringValue", Value::String(text)) => text.clone(),
        ("intValue", Value::String(number)) => {
            number.parse::<i64>().unwrap_or_else(|error| panic!("{number}: {error}")).to_string()
        }
        ("boolValue", Value::Bool(flag)) => flag.to_string(),
        ("doubleValue", number) => number.to_string(),
        ("arrayValue", list) => array(&list["values"]).iter().map(json_value).collect::<Vec<_>>().join(","),
        other => panic!("not a value of OTLP/JSON: {other:?}"),
    }
}

pub(crate) fn proto_attributes(list: Vec<KeyValue>) -> BTreeMap<String, String> {
    list.into_iter().map(|pair| (pair.key, pair.value.map(proto_value).unwrap_or_default())).collect()
}

fn proto_value(value: AnyValue) -> String {
    match value.value {
        Some(ProtoValue::StringValue(text)) => text,
        Some(ProtoValue::IntValue(number)) => number.to_string(),
        Some(ProtoValue::BoolValue(flag)) => flag.to_string(),
        Some(ProtoValue::DoubleValue(number)) => number.to_string(),
        Some(ProtoValue::ArrayValue(list)) => {
            list.values.into_iter().map(proto_value).collect::<Vec<_>>().join(",")
        }
        other => panic!("attribute value {other:?}"),
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
