//! Spans as OTLP messages. The only file that names the types of `opentelemetry-proto`.

use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::{
    AnyValue, ArrayValue, InstrumentationScope, KeyValue, any_value::Value as ProtoValue,
};
use opentelemetry_proto::tonic::resource::v1::Resource as ProtoResource;
use opentelemetry_proto::tonic::trace::v1::{ResourceSpans, ScopeSpans, Span as ProtoSpan, Status};
use prost::Message;

use super::super::batch::{Piece, by_resource};
use super::super::wire;
use crate::span::{Span, SpanStatus, Value};

/// What is sent.
type Request = ExportTraceServiceRequest;

/// One request with all spans, by resource.
fn request(pieces: &[Piece]) -> Request {
    let resource_spans = by_resource(pieces).into_iter().map(|(resource, spans)| ResourceSpans {
        resource: Some(ProtoResource {
            attributes: resource
                .attributes
                .iter()
                .map(|attribute| key_value(&attribute.key, attribute.value.borrowed()))
                .collect(),
            ..ProtoResource::default()
        }),
        scope_spans: vec![ScopeSpans {
            scope: Some(InstrumentationScope {
                name: wire::SCOPE.to_owned(),
                version: wire::VERSION.to_owned(),
                ..InstrumentationScope::default()
            }),
            spans: spans.into_iter().map(span).collect(),
            schema_url: wire::SCHEMA.to_owned(),
        }],
        schema_url: wire::SCHEMA.to_owned(),
    });
    Request { resource_spans: resource_spans.collect() }
}

/// [`request`] as bytes.
pub(super) fn body(pieces: &[Piece]) -> Vec<u8> {
    request(pieces).encode_to_vec()
}

fn span(span: &Span) -> ProtoSpan {
    let status = match &span.status {
        SpanStatus::Unset => Status::default(),
        SpanStatus::Error(message) => Status { message: message.to_string(), code: wire::STATUS_ERROR },
    };
    let mut attributes = Vec::new();
    span.attributes.each(|key, value| attributes.push(key_value(key, value)));
    ProtoSpan {
        trace_id: span.context.trace_id.0.to_vec(),
        span_id: span.context.span_id.0.to_vec(),
        trace_state: span.context.trace_state.to_string(),
        parent_span_id: span.parent.as_ref().map(|parent| parent.span_id.0.to_vec()).unwrap_or_default(),
        flags: wire::flags(span),
        name: span.name.to_string(),
        kind: wire::kind(span.kind),
        start_time_unix_nano: span.start,
        end_time_unix_nano: span.end,
        attributes,
        status: Some(status),
        ..ProtoSpan::default()
    }
}

fn key_value(key: &str, value: Value<'_>) -> KeyValue {
    let text = |text: &str| ProtoValue::StringValue(text.to_owned());
    let any = |value| AnyValue { value: Some(value) };
    let value = match value {
        Value::Str(value) => text(value),
        Value::Int(value) => ProtoValue::IntValue(value),
        Value::Double(value) => ProtoValue::DoubleValue(value),
        Value::Bool(value) => ProtoValue::BoolValue(value),
        Value::StrArray(values) => ProtoValue::ArrayValue(ArrayValue {
            values: values.iter().map(|value| any(text(value))).collect(),
        }),
    };
    KeyValue { key: key.to_owned(), value: Some(any(value)), ..KeyValue::default() }
}

/// Starts of the spans in the body of a request.
#[cfg(test)]
pub(super) fn starts(is_json: bool, body: &[u8]) -> Vec<u64> {
    let request =
        if is_json { serde_json::from_slice(body).unwrap() } else { Request::decode(body).unwrap() };
    let scopes = request.resource_spans.into_iter().flat_map(|group| group.scope_spans);
    scopes.flat_map(|scope| scope.spans).map(|span| span.start_time_unix_nano).collect()
}

#[cfg(test)]
mod tests {
    use std::borrow::Cow;
    use std::sync::Arc;

    use proptest::prelude::*;

    use super::*;
    use crate::export::batch::{Item, pieces};
    use crate::export::fixtures::{EPOCH, attribute, placed, resource, span as plain};
    use crate::export::json;
    use crate::span::{Attribute, AttributeValue, SpanKind};

    /// The JSON line and the protobuf bytes of the same spans, both read back.
    fn both(items: Vec<Item>) -> (Request, Request) {
        let pieces = pieces(items);
        let mut line = Vec::new();
        json::encode(&pieces, &mut line);
        let line = String::from_utf8(line).unwrap();
        assert!(!line.contains('\n'));
        let read = Request::decode(body(&pieces).as_slice()).unwrap();
        (serde_json::from_str(&line).unwrap_or_else(|error| panic!("{error}: {line}")), read)
    }

    fn value() -> impl Strategy<Value = AttributeValue> {
        let text = || any::<String>().prop_map(Cow::Owned);
        prop_oneof![
            text().prop_map(AttributeValue::Str),
            any::<i64>().prop_map(AttributeValue::Int),
            // Exact in few digits: serde_json reads others up to one unit in the last place off.
            any::<i32>().prop_map(|value| AttributeValue::Double(f64::from(value) / 64.0)),
            any::<bool>().prop_map(AttributeValue::Bool),
            proptest::collection::vec(text(), 0..3).prop_map(AttributeValue::StrArray),
        ]
    }

    fn attributes() -> impl Strategy<Value = Vec<Attribute>> {
        let one = (any::<String>(), value()).prop_map(|(key, value)| Attribute { key: key.into(), value });
        proptest::collection::vec(one, 0..4)
    }

    prop_compose! {
        fn any_span()(
            ids in any::<([u8; 16], [u8; 8], Option<([u8; 8], bool)>)>(),
            flags in any::<u8>(),
            texts in any::<(String, String, Option<String>)>(),
            times in any::<(u64, u64)>(),
            is_client in any::<bool>(),
            attributes in attributes(),
        ) -> Span {
            let (trace, id, parent) = ids;
            let (name, trace_state, error) = texts;
            let mut span = plain("", times.0, times.1);
            span.context.trace_id.0 = trace;
            span.context.span_id.0 = id;
            span.context.flags = flags;
            span.context.trace_state = trace_state.into();
            span.parent = parent.map(|(id, is_remote)| crate::span::ParentContext {
                span_id: crate::span::SpanId(id),
                is_remote,
            });
            span.kind = if is_client { SpanKind::Client } else { SpanKind::Server };
            span.name = name.into();
            span.attributes = attributes.into();
            span.status = error.map_or(SpanStatus::Unset, |text| SpanStatus::Error(text.into()));
            span
        }
    }

    proptest! {
        #[test]
        fn json_and_protobuf_say_the_same(spans in proptest::collection::vec((0..3_usize, any_span()), 0..6)) {
            let resources = ["a", "b\"\\\u{1}", ""].map(|name| Arc::new(resource(name)));
            let items = spans.into_iter().map(|(at, span)| (Arc::clone(&resources[at]), span)).collect();
            let (json, protobuf) = both(items);
            prop_assert_eq!(json, protobuf);
        }
    }

    proptest! {
        #[test]
        fn json_keeps_every_bit_of_a_double(value in any::<f64>().prop_filter("finite", |value| value.is_finite())) {
            let mut span = plain("", 0, 0);
            span.attributes = vec![attribute("d", AttributeValue::Double(value))].into();
            let mut line = Vec::new();
            json::encode(&pieces(vec![(Arc::new(resource("")), span)]), &mut line);
            let line = String::from_utf8(line).unwrap();
            let (_, text) = line.split_once("doubleValue\":").unwrap();
            let (text, _) = text.split_once('}').unwrap();
            prop_assert_eq!(text.parse::<f64>().unwrap().to_bits(), value.to_bits());
        }
    }

    #[test]
    fn a_line_is_what_the_collector_writes() {
        let mut error = placed(plain("GET /a", EPOCH, EPOCH + 5), 0xab, 2, 1, true);
        error.context.trace_state = "a=1,b=2".into();
        error.status = SpanStatus::Error("no".into());
        error.attributes = vec![
            attribute("s", AttributeValue::Str("\"\\/\n\t\u{7f}é\u{1f600}".into())),
            attribute("i", AttributeValue::Int(i64::MIN)),
            attribute("d", AttributeValue::Double(1.0)),
            attribute("n", AttributeValue::Double(f64::NEG_INFINITY)),
            attribute("b", AttributeValue::Bool(true)),
            attribute("l", AttributeValue::StrArray(vec!["x".into(), "y".into()])),
        ]
        .into();
        let root = placed(plain("GET", EPOCH, EPOCH + 9), 0xab, 1, 0, false);
        let resource = Arc::new(resource("shop"));
        let mut line = Vec::new();
        json::encode(&pieces(vec![(Arc::clone(&resource), error), (resource, root)]), &mut line);
        let line = String::from_utf8(line).unwrap();
        let line = line.replace(wire::VERSION, "{version}");
        insta::assert_snapshot!(line.replace("{\"traceId\"", "\n{\"traceId\""));
    }

    #[test]
    fn spans_are_grouped_by_resource_with_one_scope_each() {
        let (a, b) = (Arc::new(resource("a")), Arc::new(resource("b")));
        let of = |resource: &Arc<_>, n| (Arc::clone(resource), plain("GET", n, n));
        let request = request(&pieces(vec![of(&a, 1), of(&b, 2), of(&a, 3)]));
        let starts: Vec<Vec<u64>> = request
            .resource_spans
            .iter()
            .map(|group| group.scope_spans[0].spans.iter().map(|span| span.start_time_unix_nano).collect())
            .collect();
        assert_eq!(starts, [vec![1, 3], vec![2]]);
        for group in &request.resource_spans {
            let scope = group.scope_spans[0].scope.as_ref().unwrap();
            assert_eq!((scope.name.as_str(), scope.version.as_str()), ("sonde", env!("CARGO_PKG_VERSION")));
        }
    }
}
