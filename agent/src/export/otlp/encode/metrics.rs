//! Metrics as OTLP messages.

use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest;
use opentelemetry_proto::tonic::metrics::v1 as proto;
use prost::Message;

use super::{key_value, resource, scope};
use crate::export::wire;
use crate::metrics::{
    Exemplar, ExponentialPoint, HistogramPoint, Labels, Metric, MetricData, Number, NumberPoint,
    ResourceMetrics,
};

/// One request with all points, as bytes.
pub(in crate::export::otlp) fn body(all: &[ResourceMetrics]) -> Vec<u8> {
    request(all).encode_to_vec()
}

fn request(all: &[ResourceMetrics]) -> ExportMetricsServiceRequest {
    let resource_metrics = all.iter().map(|one| proto::ResourceMetrics {
        resource: Some(resource(&one.resource)),
        scope_metrics: vec![proto::ScopeMetrics {
            scope: Some(scope()),
            metrics: one.metrics.iter().map(metric).collect(),
            schema_url: wire::SCHEMA.to_owned(),
        }],
        schema_url: wire::SCHEMA.to_owned(),
    });
    ExportMetricsServiceRequest { resource_metrics: resource_metrics.collect() }
}

fn metric(Metric { instrument, data }: &Metric) -> proto::Metric {
    let data = match data {
        MetricData::Gauge(points) => {
            proto::metric::Data::Gauge(proto::Gauge { data_points: points.iter().map(number).collect() })
        }
        MetricData::Sum { temporality, is_monotonic, points } => proto::metric::Data::Sum(proto::Sum {
            data_points: points.iter().map(number).collect(),
            aggregation_temporality: wire::temporality(*temporality),
            is_monotonic: *is_monotonic,
        }),
        MetricData::Histogram { temporality, points } => proto::metric::Data::Histogram(proto::Histogram {
            data_points: points.iter().map(histogram).collect(),
            aggregation_temporality: wire::temporality(*temporality),
        }),
        MetricData::Exponential { temporality, points } => {
            proto::metric::Data::ExponentialHistogram(proto::ExponentialHistogram {
                data_points: points.iter().map(exponential).collect(),
                aggregation_temporality: wire::temporality(*temporality),
            })
        }
    };
    proto::Metric {
        name: instrument.name.to_owned(),
        description: instrument.description.to_owned(),
        unit: instrument.unit.to_owned(),
        data: Some(data),
        ..proto::Metric::default()
    }
}

fn attributes(labels: &Labels) -> Vec<super::KeyValue> {
    labels.iter().map(|label| key_value(&label.key, label.value.borrowed())).collect()
}

fn number(point: &NumberPoint) -> proto::NumberDataPoint {
    proto::NumberDataPoint {
        attributes: attributes(&point.labels),
        start_time_unix_nano: point.start,
        time_unix_nano: point.time,
        value: Some(match point.value {
            Number::Int(value) => proto::number_data_point::Value::AsInt(value),
            Number::Double(value) => proto::number_data_point::Value::AsDouble(value),
        }),
        ..proto::NumberDataPoint::default()
    }
}

fn histogram(point: &HistogramPoint) -> proto::HistogramDataPoint {
    proto::HistogramDataPoint {
        attributes: attributes(&point.labels),
        start_time_unix_nano: point.start,
        time_unix_nano: point.time,
        count: point.count,
        sum: Some(point.sum),
        bucket_counts: point.buckets.clone(),
        explicit_bounds: point.bounds.clone(),
        exemplars: point.exemplars.iter().map(exemplar).collect(),
        min: point.range.map(|(least, _)| least),
        max: point.range.map(|(_, greatest)| greatest),
        ..proto::HistogramDataPoint::default()
    }
}

fn exponential(point: &ExponentialPoint) -> proto::ExponentialHistogramDataPoint {
    use proto::exponential_histogram_data_point::Buckets;
    proto::ExponentialHistogramDataPoint {
        attributes: attributes(&point.labels),
        start_time_unix_nano: point.start,
        time_unix_nano: point.time,
        count: point.count,
        sum: Some(point.sum),
        scale: point.scale,
        zero_count: point.zeros,
        positive: Some(Buckets { offset: point.offset, bucket_counts: point.buckets.clone() }),
        negative: Some(Buckets::default()),
        exemplars: point.exemplars.iter().map(exemplar).collect(),
        min: point.range.map(|(least, _)| least),
        max: point.range.map(|(_, greatest)| greatest),
        ..proto::ExponentialHistogramDataPoint::default()
    }
}

fn exemplar(exemplar: &Exemplar) -> proto::Exemplar {
    let (trace_id, span_id) =
        exemplar.span.map(|(trace, span)| (trace.0.to_vec(), span.0.to_vec())).unwrap_or_default();
    proto::Exemplar {
        time_unix_nano: exemplar.time,
        value: Some(proto::exemplar::Value::AsDouble(exemplar.value)),
        trace_id,
        span_id,
        ..proto::Exemplar::default()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use proptest::prelude::*;

    use super::*;
    use crate::export::fixtures::{EPOCH, resource as named};
    use crate::export::json;
    use crate::metrics::{Instrument, Temporality, label};
    use crate::span::{SpanId, TraceId};

    /// The JSON line and the Protobuf bytes of the same metrics, both read back.
    fn both(all: &[ResourceMetrics]) -> (ExportMetricsServiceRequest, ExportMetricsServiceRequest) {
        let mut line = Vec::new();
        json::metrics::encode(all, &mut line);
        let line = String::from_utf8(line).unwrap();
        assert!(!line.contains('\n'));
        let read = ExportMetricsServiceRequest::decode(body(all).as_slice()).unwrap();
        (serde_json::from_str(&line).unwrap_or_else(|error| panic!("{error}: {line}")), read)
    }

    fn labels() -> impl Strategy<Value = Labels> {
        proptest::collection::vec((any::<String>(), any::<i64>()), 0..3).prop_map(|pairs| {
            let both = pairs.into_iter().flat_map(|(text, number)| [label("t", text), label("n", number)]);
            Labels::from(both.collect::<Vec<_>>())
        })
    }

    /// Exact in few digits: serde_json reads others up to one unit in the last place off.
    fn double() -> impl Strategy<Value = f64> {
        any::<i32>().prop_map(|value| f64::from(value) / 64.0)
    }

    fn exemplars() -> impl Strategy<Value = Vec<Exemplar>> {
        let one =
            (any::<u64>(), double(), any::<Option<([u8; 16], [u8; 8])>>()).prop_map(|(time, value, span)| {
                Exemplar { time, value, span: span.map(|(trace, span)| (TraceId(trace), SpanId(span))) }
            });
        proptest::collection::vec(one, 0..3)
    }

    fn data() -> impl Strategy<Value = MetricData> {
        let temporality =
            || any::<bool>().prop_map(|d| if d { Temporality::Delta } else { Temporality::Cumulative });
        let value = prop_oneof![any::<i64>().prop_map(Number::Int), double().prop_map(Number::Double)];
        let numbers = (labels(), any::<(u64, u64)>(), value)
            .prop_map(|(labels, (start, time), value)| NumberPoint { labels, start, time, value });
        let numbers = proptest::collection::vec(numbers, 0..3).boxed();
        let distribution = || {
            let buckets = proptest::collection::vec(any::<u64>(), 0..4);
            let range = proptest::option::of((double(), double()));
            (labels(), any::<(u64, u64, u64)>(), double(), range, buckets, exemplars())
        };
        let explicit =
            distribution().prop_map(|(labels, (start, time, count), sum, range, buckets, exemplars)| {
                let bounds = vec![0.005, 10.0];
                HistogramPoint { labels, start, time, count, sum, range, bounds, buckets, exemplars }
            });
        let exponential = (distribution(), any::<(i32, u64, i32)>()).prop_map(
            |((labels, (start, time, count), sum, range, buckets, exemplars), (scale, zeros, offset))| {
                ExponentialPoint {
                    labels,
                    start,
                    time,
                    count,
                    sum,
                    range,
                    scale,
                    zeros,
                    offset,
                    buckets,
                    exemplars,
                }
            },
        );
        prop_oneof![
            numbers.clone().prop_map(MetricData::Gauge),
            (temporality(), any::<bool>(), numbers).prop_map(|(temporality, is_monotonic, points)| {
                MetricData::Sum { temporality, is_monotonic, points }
            }),
            (temporality(), proptest::collection::vec(explicit, 0..3))
                .prop_map(|(temporality, points)| MetricData::Histogram { temporality, points }),
            (temporality(), proptest::collection::vec(exponential, 0..3))
                .prop_map(|(temporality, points)| MetricData::Exponential { temporality, points }),
        ]
    }

    proptest! {
        #[test]
        fn json_and_protobuf_say_the_same(data in proptest::collection::vec((0..2_usize, data()), 0..5)) {
            let resources = ["a", "b\"\\\u{1}"].map(|name| Arc::new(named(name)));
            let instrument = Instrument { name: "http.server.request.duration", unit: "s", description: "d" };
            let all: Vec<ResourceMetrics> = data
                .into_iter()
                .map(|(at, data)| ResourceMetrics {
                    resource: Arc::clone(&resources[at]),
                    metrics: vec![Metric { instrument, data }],
                })
                .collect();
            let (json, protobuf) = both(&all);
            prop_assert_eq!(json, protobuf);
        }
    }

    #[test]
    fn a_line_is_what_the_collector_writes() {
        let labels = Labels::from(vec![label("http.request.method", "GET")]);
        let exemplars =
            vec![Exemplar { time: EPOCH, value: 0.5, span: Some((TraceId([0xab; 16]), SpanId([1; 8]))) }];
        let (start, time) = (EPOCH - 5, EPOCH);
        let explicit = HistogramPoint {
            labels: Arc::clone(&labels),
            start,
            time,
            count: 3,
            sum: 1.5,
            range: Some((0.25, 0.75)),
            bounds: vec![0.5],
            buckets: vec![1, 2],
            exemplars,
        };
        let exponential = ExponentialPoint {
            labels: Arc::clone(&labels),
            start,
            time,
            count: 3,
            sum: 1.5,
            range: None,
            scale: -1,
            zeros: 1,
            offset: -7,
            buckets: vec![2],
            exemplars: Vec::new(),
        };
        let number = |value| NumberPoint { labels: Arc::clone(&labels), start, time, value };
        let temporality = Temporality::Delta;
        let datas = [
            MetricData::Histogram { temporality, points: vec![explicit] },
            MetricData::Exponential { temporality: Temporality::Cumulative, points: vec![exponential] },
            MetricData::Sum { temporality, is_monotonic: true, points: vec![number(Number::Int(-4))] },
            MetricData::Gauge(vec![number(Number::Double(0.5))]),
        ];
        let instrument = Instrument { name: "m", unit: "s", description: "d" };
        let metrics = datas.map(|data| Metric { instrument, data }).to_vec();
        let all = [ResourceMetrics { resource: Arc::new(named("shop")), metrics }];
        let (json, protobuf) = both(&all);
        assert_eq!(json, protobuf);
        let mut line = Vec::new();
        json::metrics::encode(&all, &mut line);
        let line = String::from_utf8(line).unwrap();
        insta::assert_snapshot!(
            line.replace(wire::VERSION, "{version}").replace("{\"name\":\"m\"", "\n{\"name\":\"m\"")
        );
    }
}
