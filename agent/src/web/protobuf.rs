//! Prometheus's Protobuf exposition: `io/prometheus/client/metrics.proto` of client_model. Histograms come in their bounds and
//! as native histograms at once; a scraper takes what it is configured for.

use prost::Message;

use super::exposition::{self, Kind, Labels, Points, Target, families};
use super::text::hex;
use crate::metrics::{ExponentialPoint, HistogramPoint, ResourceMetrics};

/// The finest schema that native histograms have.
const MAX_SCHEMA: i32 = 8;

/// Breadth of the bucket for zero where the model says none (compatibility specification, "Exponential Histograms").
const ZERO_THRESHOLD: f64 = 1e-128;

/// All families, each with its length in front. `exponential` holds the same series in exponential buckets.
pub(super) fn encode(all: &[ResourceMetrics], exponential: &[ResourceMetrics]) -> Vec<u8> {
    let targets = Target::all(all);
    let natives = exposition::exponential(exponential);
    let mut out = Vec::new();
    for family in families(all, &targets) {
        let mut metrics = Vec::new();
        for (target, points) in &family.points {
            match points {
                Points::Numbers(points) => {
                    for point in *points {
                        let value = Some(exposition::sample(point.value));
                        let mut metric = Metric::labelled(target, &exposition::labels(point.labels.iter()));
                        match family.kind {
                            Kind::Counter => {
                                metric.counter =
                                    Some(Counter { value, created_timestamp: Some(timestamp(point.start)) });
                            }
                            _ => metric.gauge = Some(Gauge { value }),
                        }
                        metrics.push(metric);
                    }
                }
                Points::Histograms(points) => {
                    for point in *points {
                        let mut metric = Metric::labelled(target, &exposition::labels(point.labels.iter()));
                        let mut histogram = classic(point);
                        if let Some(native) = natives.get(&(point.labels.as_ptr().addr(), family.metric)) {
                            histogram.make_native(native);
                        }
                        metric.histogram = Some(histogram);
                        metrics.push(metric);
                    }
                }
                Points::Info => {
                    let mut metric = Metric::labelled(target, &Labels::new());
                    metric.gauge = Some(Gauge { value: Some(1.0) });
                    metrics.push(metric);
                }
            }
        }
        let (suffix, kind) = match family.kind {
            Kind::Counter => ("_total", 0),
            Kind::Info => ("_info", 1),
            Kind::Gauge => ("", 1),
            Kind::Histogram => ("", 4),
        };
        let family = MetricFamily {
            name: Some(format!("{}{suffix}", family.name)),
            help: Some(family.help.to_owned()),
            kind: Some(kind),
            metric: metrics,
            unit: (!family.unit.is_empty()).then(|| family.unit.to_owned()),
        };
        // Growing memory does not fail.
        let _ = family.encode_length_delimited(&mut out);
    }
    out
}

fn classic(point: &HistogramPoint) -> Histogram {
    let mut below = 0;
    let bounds = point.bounds.iter().copied().chain([f64::INFINITY]);
    let mut lower = f64::NEG_INFINITY;
    let buckets = bounds.zip(&point.buckets).map(|(bound, count)| {
        below += count;
        let exemplar = point.exemplars.iter().find(|one| one.value > lower && one.value <= bound);
        lower = bound;
        Bucket {
            cumulative_count: Some(below),
            upper_bound: Some(bound),
            exemplar: exemplar.map(Exemplar::of),
        }
    });
    Histogram {
        sample_count: Some(point.count),
        sample_sum: Some(point.sum),
        bucket: buckets.collect(),
        created_timestamp: Some(timestamp(point.start)),
        exemplars: point.exemplars.iter().map(Exemplar::of).collect(),
        ..Histogram::default()
    }
}

impl Histogram {
    /// Bucket `i` of OpenTelemetry is bucket `i + 1` of a native histogram: one is named by its lower bound, the other by its
    /// upper one. Both collections are of one moment only as far as nothing was recorded in between: the native one counts.
    fn make_native(&mut self, point: &ExponentialPoint) {
        let coarser = u32::try_from(point.scale - MAX_SCHEMA).unwrap_or(0);
        let first = point.offset >> coarser;
        let mut counts: Vec<u64> = Vec::new();
        for (index, count) in (point.offset..).zip(&point.buckets) {
            let at = usize::try_from((index >> coarser) - first).unwrap_or(0);
            if at >= counts.len() {
                counts.resize(at + 1, 0);
            }
            if let Some(slot) = counts.get_mut(at) {
                *slot += count;
            }
        }
        self.schema = Some(point.scale.min(MAX_SCHEMA));
        self.zero_threshold = Some(ZERO_THRESHOLD);
        self.zero_count = Some(point.zeros);
        let length = u32::try_from(counts.len()).unwrap_or(u32::MAX);
        self.positive_span = vec![BucketSpan {
            offset: Some(if counts.is_empty() { 0 } else { first + 1 }),
            length: Some(length),
        }];
        let mut before = 0;
        let deltas = counts.into_iter().map(|count| {
            let count = i64::try_from(count).unwrap_or(i64::MAX);
            count - std::mem::replace(&mut before, count)
        });
        self.positive_delta = deltas.collect();
        if point.count != self.sample_count.unwrap_or(0) {
            self.bucket.clear();
            self.sample_count = Some(point.count);
            self.sample_sum = Some(point.sum);
        }
    }
}

impl Metric {
    fn labelled(target: &Labels, labels: &Labels) -> Self {
        let label = target.iter().chain(labels).map(|(name, value)| LabelPair::of(name, value.clone()));
        Self { label: label.collect(), ..Self::default() }
    }
}

impl LabelPair {
    fn of(name: &str, value: String) -> Self {
        Self { name: Some(name.to_owned()), value: Some(value) }
    }
}

impl Exemplar {
    fn of(exemplar: &crate::metrics::Exemplar) -> Self {
        let mut label = Vec::new();
        if let Some((trace_id, span_id)) = exemplar.span {
            let text = |bytes: &[u8]| {
                let mut text = String::with_capacity(32);
                hex(&mut text, bytes);
                text
            };
            label.push(LabelPair::of("trace_id", text(&trace_id.0)));
            label.push(LabelPair::of("span_id", text(&span_id.0)));
        }
        Self { label, value: Some(exemplar.value), timestamp: Some(timestamp(exemplar.time)) }
    }
}

fn timestamp(nanos: u64) -> Timestamp {
    Timestamp {
        seconds: i64::try_from(nanos / 1_000_000_000).unwrap_or(0),
        nanos: i32::try_from(nanos % 1_000_000_000).unwrap_or(0),
    }
}

#[derive(Clone, PartialEq, Message)]
struct MetricFamily {
    #[prost(string, optional, tag = "1")]
    name: Option<String>,
    #[prost(string, optional, tag = "2")]
    help: Option<String>,
    #[prost(int32, optional, tag = "3")]
    kind: Option<i32>,
    #[prost(message, repeated, tag = "4")]
    metric: Vec<Metric>,
    #[prost(string, optional, tag = "5")]
    unit: Option<String>,
}

#[derive(Clone, PartialEq, Message)]
struct Metric {
    #[prost(message, repeated, tag = "1")]
    label: Vec<LabelPair>,
    #[prost(message, optional, tag = "2")]
    gauge: Option<Gauge>,
    #[prost(message, optional, tag = "3")]
    counter: Option<Counter>,
    #[prost(message, optional, tag = "7")]
    histogram: Option<Histogram>,
}

#[derive(Clone, PartialEq, Message)]
struct LabelPair {
    #[prost(string, optional, tag = "1")]
    name: Option<String>,
    #[prost(string, optional, tag = "2")]
    value: Option<String>,
}

#[derive(Clone, PartialEq, Message)]
struct Gauge {
    #[prost(double, optional, tag = "1")]
    value: Option<f64>,
}

#[derive(Clone, PartialEq, Message)]
struct Counter {
    #[prost(double, optional, tag = "1")]
    value: Option<f64>,
    #[prost(message, optional, tag = "3")]
    created_timestamp: Option<Timestamp>,
}

#[derive(Clone, PartialEq, Message)]
struct Histogram {
    #[prost(uint64, optional, tag = "1")]
    sample_count: Option<u64>,
    #[prost(double, optional, tag = "2")]
    sample_sum: Option<f64>,
    #[prost(message, repeated, tag = "3")]
    bucket: Vec<Bucket>,
    #[prost(sint32, optional, tag = "5")]
    schema: Option<i32>,
    #[prost(double, optional, tag = "6")]
    zero_threshold: Option<f64>,
    #[prost(uint64, optional, tag = "7")]
    zero_count: Option<u64>,
    #[prost(message, repeated, tag = "12")]
    positive_span: Vec<BucketSpan>,
    #[prost(sint64, repeated, packed = "false", tag = "13")]
    positive_delta: Vec<i64>,
    #[prost(message, optional, tag = "15")]
    created_timestamp: Option<Timestamp>,
    #[prost(message, repeated, tag = "16")]
    exemplars: Vec<Exemplar>,
}

#[derive(Clone, PartialEq, Message)]
struct Bucket {
    #[prost(uint64, optional, tag = "1")]
    cumulative_count: Option<u64>,
    #[prost(double, optional, tag = "2")]
    upper_bound: Option<f64>,
    #[prost(message, optional, tag = "3")]
    exemplar: Option<Exemplar>,
}

#[derive(Clone, PartialEq, Message)]
struct BucketSpan {
    #[prost(sint32, optional, tag = "1")]
    offset: Option<i32>,
    #[prost(uint32, optional, tag = "2")]
    length: Option<u32>,
}

#[derive(Clone, PartialEq, Message)]
struct Exemplar {
    #[prost(message, repeated, tag = "1")]
    label: Vec<LabelPair>,
    #[prost(double, optional, tag = "2")]
    value: Option<f64>,
    #[prost(message, optional, tag = "3")]
    timestamp: Option<Timestamp>,
}

/// `google.protobuf.Timestamp`.
#[derive(Clone, PartialEq, Message)]
struct Timestamp {
    #[prost(int64, tag = "1")]
    seconds: i64,
    #[prost(int32, tag = "2")]
    nanos: i32,
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::super::text::tests::{EPOCH, shop};
    use super::*;
    use crate::metrics::{MetricData, Temporality};

    fn decoded(mut bytes: &[u8]) -> Vec<MetricFamily> {
        let mut families = Vec::new();
        while !bytes.is_empty() {
            families.push(MetricFamily::decode_length_delimited(&mut bytes).unwrap());
        }
        families
    }

    #[test]
    fn histograms_come_in_both_forms() {
        let all = shop();
        let MetricData::Histogram { points, .. } = &all[0].metrics[0].data else { panic!() };
        // Scale 10 to schema 8: four buckets become one. Indices -6..=-1 become -2..=-1.
        let native = ExponentialPoint {
            labels: Arc::clone(&points[0].labels),
            start: EPOCH - 5,
            time: EPOCH,
            count: 4,
            sum: 3.5,
            range: None,
            scale: 10,
            zeros: 1,
            offset: -6,
            buckets: vec![1, 0, 0, 0, 0, 2],
            exemplars: Vec::new(),
        };
        let mut exponential = all.clone();
        exponential[0].metrics[0].data =
            MetricData::Exponential { temporality: Temporality::Cumulative, points: vec![native] };
        let families = decoded(&encode(&all, &exponential));
        let names: Vec<_> =
            families.iter().map(|family| (family.name.clone().unwrap(), family.kind.unwrap())).collect();
        let expected = [
            ("http_server_request_duration_seconds", 4),
            ("process_memory_usage_bytes", 1),
            ("sonde_lost_total", 0),
            ("target_info", 1),
        ];
        assert_eq!(names, expected.map(|(name, kind)| (name.to_owned(), kind)));
        let histogram = families[0].metric[0].histogram.as_ref().unwrap();
        assert_eq!((histogram.sample_count, histogram.sample_sum), (Some(4), Some(3.5)));
        let buckets: Vec<_> = histogram
            .bucket
            .iter()
            .map(|bucket| (bucket.upper_bound.unwrap(), bucket.cumulative_count.unwrap()))
            .collect();
        assert_eq!(buckets, [(0.005, 1), (1.0, 3), (f64::INFINITY, 4)]);
        assert_eq!((histogram.schema, histogram.zero_count), (Some(8), Some(1)));
        assert_eq!(histogram.positive_span, [BucketSpan { offset: Some(-1), length: Some(2) }]);
        assert_eq!(histogram.positive_delta, [1, 1]);
        assert_eq!(histogram.created_timestamp, Some(timestamp(EPOCH - 5)));
        assert_eq!(
            histogram.bucket[1].exemplar.as_ref().unwrap().label[1].value.as_deref(),
            Some("0101010101010101")
        );
        assert_eq!(families[2].metric[0].counter.as_ref().unwrap().value, Some(7.0));
    }
}
