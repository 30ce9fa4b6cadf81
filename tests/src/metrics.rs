//! Metrics as a consumer of OTLP/JSON Lines, of OTLP/protobuf or of a Prometheus endpoint reads them.

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::path::Path;

use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest;
use opentelemetry_proto::tonic::common::v1::{InstrumentationScope, KeyValue};
use opentelemetry_proto::tonic::metrics::v1::metric::Data;
use serde_json::Value;

use crate::calls::Call;
use crate::spans::{Kind, Span, attributes, proto_attributes};

/// What tells a series apart: metric, `service.instance.id`, labels.
pub type Series = (String, String, BTreeMap<String, String>);

/// A point of a histogram.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Point {
    /// Values.
    pub count: u64,
    /// Their sum.
    pub sum: f64,
    /// Values in each bucket.
    pub buckets: Vec<u64>,
    /// Upper bounds of the buckets.
    pub bounds: Vec<f64>,
    /// Nanoseconds since the epoch from which on it counts.
    pub start: u64,
    /// Nanoseconds since the epoch up to which it counts.
    pub time: u64,
    /// It covers what came since the point before.
    pub is_delta: bool,
    /// Span ids of its exemplars.
    pub exemplars: Vec<String>,
}

/// Requests by method and status.
pub type Counts = BTreeMap<(String, String), u64>;

/// What a client says it did.
#[must_use]
pub fn of_calls(calls: &[Call]) -> Counts {
    let mut counts = Counts::new();
    for call in calls {
        *counts.entry((call.method.clone(), call.status.to_string())).or_default() += 1;
    }
    counts
}

/// How many spans of a kind have a duration in each bucket: up to and with each of the bounds, in seconds, and above them.
#[must_use]
pub fn buckets(spans: &[Span], kind: Kind, bounds: &[f64]) -> Vec<u64> {
    let mut buckets = vec![0; bounds.len() + 1];
    for span in spans.iter().filter(|span| span.kind == kind) {
        let at = bounds.partition_point(|bound| ((bound * 1e9).round() as u64) < span.duration());
        buckets[at] += 1;
    }
    buckets
}

/// All explicit histograms of a file of OTLP/JSON lines, in the order of the lines.
///
/// # Panics
/// Where it is not what OTLP/JSON prescribes.
#[must_use]
pub fn read(path: &Path) -> Vec<(Series, Point)> {
    let text = std::fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let mut points = Vec::new();
    for line in text.lines().filter(|line| line.starts_with("{\"resourceMetrics\"")) {
        let line: Value = serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"));
        for resource in list(&line["resourceMetrics"]) {
            let attributes_of_resource = attributes(&resource["resource"]["attributes"]);
            for metric in resource["scopeMetrics"]
                .as_array()
                .into_iter()
                .flatten()
                .flat_map(|scope| list(&scope["metrics"]))
            {
                let is_delta = metric["histogram"]["aggregationTemporality"] == 1;
                for point in list(&metric["histogram"]["dataPoints"]) {
                    let name = metric["name"].as_str().expect("a name").to_owned();
                    let instance =
                        attributes_of_resource.get("service.instance.id").cloned().unwrap_or_default();
                    let exemplars = list(&point["exemplars"]).iter();
                    let read = Point {
                        count: number(&point["count"]),
                        sum: point["sum"].as_f64().expect("a sum"),
                        buckets: list(&point["bucketCounts"]).iter().map(number).collect(),
                        bounds: list(&point["explicitBounds"]).iter().filter_map(Value::as_f64).collect(),
                        start: number(&point["startTimeUnixNano"]),
                        time: number(&point["timeUnixNano"]),
                        is_delta,
                        exemplars: exemplars
                            .filter_map(|one| Some(one["spanId"].as_str()?.to_owned()))
                            .collect(),
                    };
                    points.push(((name, instance, attributes(&point["attributes"])), read));
                }
            }
        }
    }
    points
}

/// The same of export requests.
#[must_use]
pub fn of_requests(requests: &[ExportMetricsServiceRequest]) -> Vec<(Series, Point)> {
    let mut points = Vec::new();
    for resource in requests.iter().flat_map(|request| &request.resource_metrics) {
        let named = resource
            .resource
            .as_ref()
            .map(|resource| proto_attributes(resource.attributes.clone()))
            .unwrap_or_default();
        for metric in resource.scope_metrics.iter().flat_map(|scope| &scope.metrics) {
            let Some(Data::Histogram(histogram)) = &metric.data else { continue };
            for point in &histogram.data_points {
                let instance = named.get("service.instance.id").cloned().unwrap_or_default();
                let hex =
                    |bytes: &Vec<u8>| bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
                let read = Point {
                    count: point.count,
                    sum: point.sum.unwrap_or_default(),
                    buckets: point.bucket_counts.clone(),
                    bounds: point.explicit_bounds.clone(),
                    start: point.start_time_unix_nano,
                    time: point.time_unix_nano,
                    is_delta: histogram.aggregation_temporality == 1,
                    exemplars: point.exemplars.iter().map(|one| hex(&one.span_id)).collect(),
                };
                points.push((
                    (metric.name.clone(), instance, proto_attributes(point.attributes.clone())),
                    read,
                ));
            }
        }
    }
    points
}

/// The lines of metrics in a file of OTLP/JSON lines, each as the request that it would be over Protobuf.
///
/// # Panics
/// Where it is not what OTLP/JSON prescribes.
#[must_use]
pub fn requests(path: &Path) -> Vec<ExportMetricsServiceRequest> {
    let text = std::fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let lines = text.lines().filter(|line| line.starts_with("{\"resourceMetrics\""));
    lines.map(|line| serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"))).collect()
}

/// One data point with everything that it says and that is said of it, every number to its last digit.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Item {
    /// The metric's name.
    pub name: String,
    /// Unit, description, kind; for what is added up also what a point covers.
    pub metric: String,
    /// Attributes of the resource.
    pub resource: Vec<String>,
    /// Name, version and schema.
    pub scope: String,
    /// Attributes of the point.
    pub attributes: Vec<String>,
    /// The rest of it.
    pub point: String,
}

/// All data points of all kinds, in an order that does not depend on how they came.
#[must_use]
pub fn items(requests: &[ExportMetricsServiceRequest]) -> Vec<Item> {
    let mut items = Vec::new();
    for resource in requests.iter().flat_map(|request| &request.resource_metrics) {
        let attributes = resource.resource.as_ref().map_or(&[][..], |resource| &resource.attributes);
        for scope in &resource.scope_metrics {
            let InstrumentationScope { name, version, .. } = scope.scope.clone().unwrap_or_default();
            let schemas = (&resource.schema_url, &scope.schema_url);
            for metric in &scope.metrics {
                let of = Item {
                    name: metric.name.clone(),
                    metric: format!("{} {}", metric.unit, metric.description),
                    resource: texts(attributes),
                    scope: format!("{name} {version} {schemas:?}"),
                    ..Item::default()
                };
                let covers = |temporality: i32| format!("temporality {temporality}");
                match metric.data.clone() {
                    Some(Data::Gauge(it)) => {
                        add(&mut items, &of, "gauge", it.data_points, |it| &mut it.attributes);
                    }
                    Some(Data::Sum(it)) => {
                        let kind = format!("sum {} {}", covers(it.aggregation_temporality), it.is_monotonic);
                        add(&mut items, &of, &kind, it.data_points, |it| &mut it.attributes);
                    }
                    Some(Data::Histogram(it)) => {
                        let kind = format!("histogram {}", covers(it.aggregation_temporality));
                        add(&mut items, &of, &kind, it.data_points, |it| &mut it.attributes);
                    }
                    Some(Data::ExponentialHistogram(it)) => {
                        let kind = format!("exponential {}", covers(it.aggregation_temporality));
                        add(&mut items, &of, &kind, it.data_points, |it| &mut it.attributes);
                    }
                    other => panic!("{}: {other:?}", metric.name),
                }
            }
        }
    }
    items.sort();
    items
}

fn add<P: Debug>(
    items: &mut Vec<Item>,
    of: &Item,
    kind: &str,
    points: Vec<P>,
    attributes: impl Fn(&mut P) -> &mut Vec<KeyValue>,
) {
    for mut point in points {
        let attributes = texts(&std::mem::take(attributes(&mut point)));
        let (metric, point) = (format!("{} {kind}", of.metric), format!("{point:?}"));
        items.push(Item { metric, attributes, point, ..of.clone() });
    }
}

/// Attributes with the types of their values, in order.
fn texts(attributes: &[KeyValue]) -> Vec<String> {
    let mut texts: Vec<String> =
        attributes.iter().map(|pair| format!("{}={:?}", pair.key, pair.value)).collect();
    texts.sort();
    texts
}

/// A histogram of either kind: upper bounds of its buckets, but for the last one that has none, and what is in each.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Distribution {
    /// In seconds or bytes, rising.
    pub upper: Vec<f64>,
    /// How many.
    pub counts: Vec<u64>,
}

/// The last point of the one series that a metric has.
///
/// # Panics
/// Where it has several, or none.
#[must_use]
pub fn distribution(requests: &[ExportMetricsServiceRequest], metric: &str) -> Distribution {
    let resources = requests.iter().flat_map(|request| &request.resource_metrics);
    let all = resources.flat_map(|resource| &resource.scope_metrics).flat_map(|scope| &scope.metrics);
    let mut last = Distribution::default();
    for metric in all.filter(|one| one.name == metric) {
        last = match &metric.data {
            Some(Data::Histogram(it)) => {
                let [point] = &it.data_points[..] else { panic!("{metric:?}") };
                Distribution { upper: point.explicit_bounds.clone(), counts: point.bucket_counts.clone() }
            }
            Some(Data::ExponentialHistogram(it)) => {
                let [point] = &it.data_points[..] else { panic!("{metric:?}") };
                let buckets = point.positive.clone().unwrap_or_default();
                // Bucket i holds what is above base^i, up to and with base^(i + 1).
                let base = 2_f64.powf(0.5_f64.powi(point.scale));
                let bounds =
                    (0..=buckets.bucket_counts.len() as i32).map(|at| base.powi(buckets.offset + at));
                let below = point.zero_count;
                Distribution {
                    upper: bounds.collect(),
                    counts: [below].into_iter().chain(buckets.bucket_counts).chain([0]).collect(),
                }
            }
            other => panic!("{other:?}"),
        };
    }
    assert!(!last.counts.is_empty(), "no {metric}");
    last
}

/// What was counted in all, by series: deltas added up, else the last point of each; with the exemplars of all points.
#[must_use]
pub fn totals(points: &[(Series, Point)]) -> BTreeMap<Series, Point> {
    let mut totals: BTreeMap<Series, Point> = BTreeMap::new();
    for (series, point) in points {
        let total = totals.entry(series.clone()).or_default();
        // Exemplars are told once, whatever the counts cover.
        let mut exemplars = std::mem::take(&mut total.exemplars);
        exemplars.extend(point.exemplars.iter().cloned());
        if !point.is_delta || total.count == 0 {
            *total = Point { exemplars, ..point.clone() };
            continue;
        }
        total.exemplars = exemplars;
        assert!(point.start >= total.time, "deltas do not overlap: {series:?}");
        total.count += point.count;
        total.sum += point.sum;
        total.buckets.iter_mut().zip(&point.buckets).for_each(|(total, count)| *total += count);
        total.time = point.time;
    }
    totals
}

/// Samples of a text exposition: name, labels, value.
#[must_use]
pub fn samples(text: &str) -> Vec<(String, BTreeMap<String, String>, f64)> {
    let samples = text.lines().filter(|line| !line.starts_with('#')).filter_map(|line| {
        let (name, rest) = line.split_once('{')?;
        let (labels, rest) = rest.rsplit_once('}')?;
        let labels = labels.split("\",").filter_map(|label| {
            let (name, value) = label.split_once("=\"")?;
            Some((name.to_owned(), value.trim_end_matches('"').to_owned()))
        });
        Some((name.to_owned(), labels.collect(), rest.trim().parse().ok()?))
    });
    samples.collect()
}

fn list(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}

/// A 64-bit integer, which OTLP/JSON writes as a string.
fn number(value: &Value) -> u64 {
    value.as_str().and_then(|text| text.parse().ok()).expect("a number in a string")
}
