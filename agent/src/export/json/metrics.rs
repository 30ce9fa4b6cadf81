//! Metrics as OTLP/JSON Lines: one `{"resourceMetrics":[...]}` object a line.

use super::{attribute, digits, double, hex, of_resource, separated, text};
use crate::export::wire;
use crate::metrics::{
    Exemplar, ExponentialPoint, HistogramPoint, Labels, Metric, MetricData, Number, NumberPoint,
    ResourceMetrics, Temporality,
};

/// Adds one `MetricsData` object.
pub(in crate::export) fn encode(all: &[ResourceMetrics], out: &mut Vec<u8>) {
    out.extend_from_slice(b"{\"resourceMetrics\":[");
    separated(out, all, |out, ResourceMetrics { resource, metrics }| {
        of_resource(out, resource, ("scopeMetrics", "metrics"), |out| separated(out, metrics, metric));
    });
    out.extend_from_slice(b"]}");
}

fn metric(out: &mut Vec<u8>, Metric { instrument, data }: &Metric) {
    out.extend_from_slice(b"{\"name\":");
    text(out, instrument.name);
    out.extend_from_slice(b",\"description\":");
    text(out, instrument.description);
    out.extend_from_slice(b",\"unit\":");
    text(out, instrument.unit);
    match data {
        MetricData::Gauge(points) => {
            out.extend_from_slice(b",\"gauge\":{\"dataPoints\":[");
            separated(out, points, number);
            out.push(b']');
        }
        MetricData::Sum { temporality, is_monotonic, points } => {
            out.extend_from_slice(b",\"sum\":{\"dataPoints\":[");
            separated(out, points, number);
            out.push(b']');
            covers(out, *temporality);
            if *is_monotonic {
                out.extend_from_slice(b",\"isMonotonic\":true");
            }
        }
        MetricData::Histogram { temporality, points } => {
            out.extend_from_slice(b",\"histogram\":{\"dataPoints\":[");
            separated(out, points, histogram);
            out.push(b']');
            covers(out, *temporality);
        }
        MetricData::Exponential { temporality, points } => {
            out.extend_from_slice(b",\"exponentialHistogram\":{\"dataPoints\":[");
            separated(out, points, exponential);
            out.push(b']');
            covers(out, *temporality);
        }
    }
    out.extend_from_slice(b"}}");
}

fn covers(out: &mut Vec<u8>, temporality: Temporality) {
    out.extend_from_slice(b",\"aggregationTemporality\":");
    digits(out, wire::temporality(temporality).unsigned_abs().into(), 1);
}

/// What every point begins with.
fn point(out: &mut Vec<u8>, labels: &Labels, start: u64, time: u64) {
    out.push(b'{');
    if !labels.is_empty() {
        out.extend_from_slice(b"\"attributes\":[");
        separated(out, labels.iter(), |out, each| attribute(out, &each.key, each.value.borrowed()));
        out.extend_from_slice(b"],");
    }
    if start > 0 {
        quoted(out, b"\"startTimeUnixNano\":", start);
        out.push(b',');
    }
    quoted(out, b"\"timeUnixNano\":", time);
}

fn number(out: &mut Vec<u8>, NumberPoint { labels, start, time, value }: &NumberPoint) {
    point(out, labels, *start, *time);
    match value {
        Number::Int(value) => {
            out.extend_from_slice(b",\"asInt\":\"");
            if *value < 0 {
                out.push(b'-');
            }
            digits(out, value.unsigned_abs(), 1);
            out.push(b'"');
        }
        Number::Double(value) => {
            out.extend_from_slice(b",\"asDouble\":");
            double(out, *value);
        }
    }
    out.push(b'}');
}

fn histogram(out: &mut Vec<u8>, told: &HistogramPoint) {
    let HistogramPoint { labels, start, time, count, sum, range, bounds, buckets, exemplars } = told;
    point(out, labels, *start, *time);
    totals(out, *count, *sum);
    counts(out, b",\"bucketCounts\":[", buckets);
    out.extend_from_slice(b",\"explicitBounds\":[");
    separated(out, bounds, |out, bound| double(out, *bound));
    out.push(b']');
    rest(out, exemplars, *range);
}

fn exponential(out: &mut Vec<u8>, told: &ExponentialPoint) {
    let ExponentialPoint { labels, start, time, count, sum, range, scale, zeros, offset, buckets, exemplars } =
        told;
    point(out, labels, *start, *time);
    totals(out, *count, *sum);
    out.extend_from_slice(b",\"scale\":");
    signed(out, *scale);
    quoted(out, b",\"zeroCount\":", *zeros);
    out.extend_from_slice(b",\"positive\":{\"offset\":");
    signed(out, *offset);
    counts(out, b",\"bucketCounts\":[", buckets);
    out.extend_from_slice(b"},\"negative\":{}");
    rest(out, exemplars, *range);
}

fn totals(out: &mut Vec<u8>, count: u64, sum: f64) {
    quoted(out, b",\"count\":", count);
    out.extend_from_slice(b",\"sum\":");
    double(out, sum);
}

fn counts(out: &mut Vec<u8>, name: &[u8], counts: &[u64]) {
    out.extend_from_slice(name);
    separated(out, counts, |out, count| quoted(out, b"", *count));
    out.push(b']');
}

/// What every distribution ends with.
fn rest(out: &mut Vec<u8>, exemplars: &[Exemplar], range: Option<(f64, f64)>) {
    if !exemplars.is_empty() {
        out.extend_from_slice(b",\"exemplars\":[");
        separated(out, exemplars, |out, Exemplar { time, value, span }| {
            quoted(out, b"{\"timeUnixNano\":", *time);
            out.extend_from_slice(b",\"asDouble\":");
            double(out, *value);
            if let Some((trace_id, span_id)) = span {
                out.extend_from_slice(b",\"spanId\":\"");
                hex(out, &span_id.0);
                out.extend_from_slice(b"\",\"traceId\":\"");
                hex(out, &trace_id.0);
                out.push(b'"');
            }
            out.push(b'}');
        });
        out.push(b']');
    }
    if let Some((least, greatest)) = range {
        out.extend_from_slice(b",\"min\":");
        double(out, least);
        out.extend_from_slice(b",\"max\":");
        double(out, greatest);
    }
    out.push(b'}');
}

/// A 64-bit integer, which JSON gets as a string.
fn quoted(out: &mut Vec<u8>, name: &[u8], value: u64) {
    out.extend_from_slice(name);
    out.push(b'"');
    digits(out, value, 1);
    out.push(b'"');
}

fn signed(out: &mut Vec<u8>, value: i32) {
    if value < 0 {
        out.push(b'-');
    }
    digits(out, value.unsigned_abs().into(), 1);
}
