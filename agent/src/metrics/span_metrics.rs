//! Metrics derived from spans, under the names that Tempo's metrics generator gives them, for those who run none: calls of each
//! service, and the graph of services (Tempo documentation, "Span metrics" and "Service graphs"). Off by default.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use hashbrown::HashMap;

use super::explicit::{self, Explicit};
use super::{
    HistogramPoint, Instrument, Labels, Metric, MetricData, NumberPoint, OVERFLOW, Temporality, label,
};
use crate::span::{Span, SpanId, SpanKind, SpanName, SpanStatus, TraceId};

/// Series of calls, and edges of the graph, at most. Those past it share one.
const SERIES: usize = 10_000;

/// Spans that wait for the other end of their call at most; one more, and the oldest is counted as unpaired.
const PENDING: usize = 10_000;

/// Nanoseconds that a span waits for the other end, by the times of the spans.
const PATIENCE: u64 = 10 * 1_000_000_000;

/// Upper bounds of the buckets, in nanoseconds, as Tempo has them by default.
const LATENCY: &[u64] = &[
    2_000_000,
    4_000_000,
    8_000_000,
    16_000_000,
    32_000_000,
    64_000_000,
    128_000_000,
    256_000_000,
    512_000_000,
    1_020_000_000,
    2_050_000_000,
    4_100_000_000,
];
const GRAPH: &[u64] = &[
    100_000_000,
    200_000_000,
    400_000_000,
    800_000_000,
    1_600_000_000,
    3_200_000_000,
    6_400_000_000,
    12_800_000_000,
];

const fn instrument(name: &'static str, description: &'static str) -> Instrument {
    // The names hold their units.
    Instrument { name, unit: "", description }
}

const CALLS: Instrument = instrument("traces_spanmetrics_calls_total", "Total count of the span");
const CALL_SECONDS: Instrument = instrument("traces_spanmetrics_latency", "Duration of the span");
const REQUESTS: Instrument =
    instrument("traces_service_graph_request_total", "Total count of requests between two nodes");
const FAILED: Instrument = instrument(
    "traces_service_graph_request_failed_total",
    "Total count of failed requests between two nodes",
);
const SERVER_SECONDS: Instrument = instrument(
    "traces_service_graph_request_server_seconds",
    "Time for a request between two nodes as seen from the server",
);
const CLIENT_SECONDS: Instrument = instrument(
    "traces_service_graph_request_client_seconds",
    "Time for a request between two nodes as seen from the client",
);
const UNPAIRED: Instrument =
    instrument("traces_service_graph_unpaired_spans_total", "Total count of unpaired spans");

/// What is told apart: instrument, values of the labels.
type Key = (Instrument, Labels);

/// Counts spans and pairs the ends of calls.
#[derive(Debug, Default)]
pub struct SpanMetrics {
    calls: HashMap<CallKey, (Labels, Explicit)>,
    overflow: Option<Explicit>,
    edges: HashMap<(Box<str>, Box<str>), Edge>,
    unpaired: BTreeMap<(Box<str>, Box<str>), (Labels, u64)>,
    pending: HashMap<(TraceId, SpanId), Half>,
    /// In the order in which they came; some are paired already.
    order: VecDeque<(TraceId, SpanId)>,
    newest: u64,
    start: u64,
    told: HashMap<usize, Told>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct CallKey {
    service: Box<str>,
    name: SpanName,
    kind: SpanKind,
    error: bool,
}

#[derive(Debug)]
struct Edge {
    labels: Labels,
    failed: u64,
    client: Explicit,
    server: Explicit,
}

/// One end of a call.
#[derive(Debug)]
struct Half {
    kind: SpanKind,
    service: Box<str>,
    nanos: u64,
    error: bool,
    end: u64,
}

/// What a reader of deltas was told, and when.
#[derive(Debug, Default)]
struct Told {
    time: u64,
    numbers: Vec<(Key, u64)>,
    histograms: Vec<(Key, Explicit)>,
}

impl SpanMetrics {
    /// Counts a span of a service.
    pub fn record(&mut self, service: &str, span: &Span) {
        let error = matches!(span.status, SpanStatus::Error(_));
        let nanos = span.end.saturating_sub(span.start);
        self.start = if self.start == 0 { span.start } else { self.start.min(span.start) };
        self.newest = self.newest.max(span.end);
        self.call(service, span, error, nanos);
        let named = match (span.kind, &span.parent) {
            (SpanKind::Client, _) => Some(span.context.span_id),
            (SpanKind::Server, Some(parent)) if parent.is_remote => Some(parent.span_id),
            // The root of a trace: nobody seen called it.
            (SpanKind::Server | SpanKind::Internal, _) => None,
        };
        if let Some(id) = named {
            let half = Half { kind: span.kind, service: Box::from(service), nanos, error, end: span.end };
            self.pair((span.context.trace_id, id), half);
        }
        self.expire();
    }

    fn call(&mut self, service: &str, span: &Span, error: bool, nanos: u64) {
        let key = CallKey { service: Box::from(service), name: span.name.clone(), kind: span.kind, error };
        let bucket = explicit::bucket(LATENCY, nanos);
        if let Some((_, counts)) = self.calls.get_mut(&key) {
            return counts.record(bucket, nanos);
        }
        if self.calls.len() >= SERIES {
            let overflow = self.overflow.get_or_insert_with(|| Explicit::new(LATENCY.len()));
            return overflow.record(bucket, nanos);
        }
        let kind = match span.kind {
            SpanKind::Server => "SPAN_KIND_SERVER",
            SpanKind::Client => "SPAN_KIND_CLIENT",
            SpanKind::Internal => "SPAN_KIND_INTERNAL",
        };
        let labels = vec![
            label("service", service.to_owned()),
            label("span_kind", kind),
            label("span_name", span.name.to_string()),
            label("status_code", if error { "STATUS_CODE_ERROR" } else { "STATUS_CODE_UNSET" }),
        ];
        let mut counts = Explicit::new(LATENCY.len());
        counts.record(bucket, nanos);
        self.calls.insert(key, (Labels::from(labels), counts));
    }

    fn pair(&mut self, id: (TraceId, SpanId), half: Half) {
        let Some(other) = self.pending.remove(&id) else {
            self.pending.insert(id, half);
            self.order.push_back(id);
            return;
        };
        let (client, server) = match (half.kind, other.kind) {
            (SpanKind::Client, SpanKind::Server) => (half, other),
            (SpanKind::Server, SpanKind::Client) => (other, half),
            // The same end twice, as where a request was sent again under the same context.
            _ => {
                self.pending.insert(id, half);
                return;
            }
        };
        let mut key = (client.service, server.service);
        if self.edges.len() >= SERIES && !self.edges.contains_key(&key) {
            key = (Box::from(""), Box::from(""));
        }
        let edge = self.edges.entry(key).or_insert_with_key(|(client, server)| Edge {
            labels: between(client, server),
            failed: 0,
            client: Explicit::new(GRAPH.len()),
            server: Explicit::new(GRAPH.len()),
        });
        edge.failed += u64::from(client.error || server.error);
        edge.client.record(explicit::bucket(GRAPH, client.nanos), client.nanos);
        edge.server.record(explicit::bucket(GRAPH, server.nanos), server.nanos);
    }

    /// Gives up waiting for what did not come in time.
    fn expire(&mut self) {
        while let Some(id) = self.order.front().copied() {
            let waiting = self.pending.get(&id);
            let is_over = waiting.is_none_or(|half| half.end + PATIENCE < self.newest);
            if !is_over && self.order.len() <= PENDING {
                return;
            }
            self.order.pop_front();
            let Some(half) = self.pending.remove(&id) else { continue };
            let none = || Box::from("");
            let mut key = match half.kind {
                SpanKind::Client => (half.service, none()),
                SpanKind::Server | SpanKind::Internal => (none(), half.service),
            };
            if self.unpaired.len() >= SERIES && !self.unpaired.contains_key(&key) {
                key = (none(), none());
            }
            let labels = between(&key.0, &key.1);
            self.unpaired.entry(key).or_insert((labels, 0)).1 += 1;
        }
    }

    /// Everything, for one of the readers, up to `now` in nanoseconds since the epoch.
    pub fn collect(&mut self, reader: usize, temporality: Temporality, now: u64) -> Vec<Metric> {
        let mut numbers: Vec<(Key, u64)> = Vec::new();
        let mut histograms: Vec<(Key, &[u64], Explicit)> = Vec::new();
        let overflow = self.overflow.iter().map(|counts| (Labels::from(vec![label(OVERFLOW, true)]), counts));
        let calls = self.calls.values().map(|(labels, counts)| (Arc::clone(labels), counts));
        for (labels, counts) in calls.chain(overflow) {
            numbers.push(((CALLS, Arc::clone(&labels)), counts.count()));
            histograms.push(((CALL_SECONDS, labels), LATENCY, counts.clone()));
        }
        for Edge { labels, failed, client, server } in self.edges.values() {
            numbers.push(((REQUESTS, Arc::clone(labels)), server.count()));
            if *failed > 0 {
                numbers.push(((FAILED, Arc::clone(labels)), *failed));
            }
            histograms.push(((SERVER_SECONDS, Arc::clone(labels)), GRAPH, server.clone()));
            histograms.push(((CLIENT_SECONDS, Arc::clone(labels)), GRAPH, client.clone()));
        }
        numbers
            .extend(self.unpaired.values().map(|(labels, count)| ((UNPAIRED, Arc::clone(labels)), *count)));
        let mut start = self.start;
        if temporality == Temporality::Delta {
            let told = Told {
                time: now,
                numbers: numbers.clone(),
                histograms: histograms.iter().map(|(key, _, counts)| (key.clone(), counts.clone())).collect(),
            };
            let before = self.told.insert(reader, told).unwrap_or_default();
            start = start.max(before.time);
            // Series are never forgotten, and labels are shared: the place in memory names them.
            let place = |(instrument, labels): &Key| (instrument.name, labels.as_ptr().addr());
            let known: HashMap<_, u64> =
                before.numbers.iter().map(|(key, count)| (place(key), *count)).collect();
            for (key, count) in &mut numbers {
                *count -= known.get(&place(key)).copied().unwrap_or(0).min(*count);
            }
            let known: HashMap<_, &Explicit> =
                before.histograms.iter().map(|(key, counts)| (place(key), counts)).collect();
            for (key, _, counts) in &mut histograms {
                if let Some(before) = known.get(&place(key)) {
                    counts.subtract(before);
                }
            }
            numbers.retain(|(_, count)| *count > 0);
            histograms.retain(|(_, _, counts)| counts.count() > 0);
        }
        told(numbers, histograms, temporality, (start, now))
    }
}

fn between(client: &str, server: &str) -> Labels {
    if client.is_empty() && server.is_empty() {
        return Labels::from(vec![label(OVERFLOW, true)]);
    }
    Labels::from(vec![
        label("client", client.to_owned()),
        // Neither a database nor a messaging system: those have a name here.
        label("connection_type", ""),
        label("server", server.to_owned()),
    ])
}

fn told(
    numbers: Vec<(Key, u64)>,
    histograms: Vec<(Key, &[u64], Explicit)>,
    temporality: Temporality,
    (start, time): (u64, u64),
) -> Vec<Metric> {
    let mut sums: BTreeMap<&str, (Instrument, Vec<NumberPoint>)> = BTreeMap::new();
    for ((instrument, labels), count) in numbers {
        let point = NumberPoint { labels, start, time, value: count.into() };
        sums.entry(instrument.name).or_insert((instrument, Vec::new())).1.push(point);
    }
    let mut distributions: BTreeMap<&str, (Instrument, Vec<HistogramPoint>)> = BTreeMap::new();
    for ((instrument, labels), bounds, counts) in histograms {
        let seconds = |nanos: u64| nanos as f64 / 1e9;
        let point = HistogramPoint {
            labels,
            start,
            time,
            count: counts.count(),
            sum: counts.sum() as f64 / 1e9,
            range: None,
            bounds: bounds.iter().copied().map(seconds).collect(),
            buckets: counts.buckets().to_vec(),
            exemplars: Vec::new(),
        };
        distributions.entry(instrument.name).or_insert((instrument, Vec::new())).1.push(point);
    }
    let sums = sums.into_values().map(|(instrument, points)| Metric {
        instrument,
        data: MetricData::Sum { temporality, is_monotonic: true, points },
    });
    let distributions = distributions.into_values().map(|(instrument, points)| Metric {
        instrument,
        data: MetricData::Histogram { temporality, points },
    });
    sums.chain(distributions).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::export::fixtures::{placed, span};
    use crate::span::AttributeValue;

    const SECOND: u64 = 1_000_000_000;

    fn end(kind: SpanKind, trace: u8, id: u8, parent: u8, start: u64, nanos: u64) -> Span {
        let mut end = placed(span("GET /a", start, start + nanos), trace, id, parent, true);
        end.kind = kind;
        end
    }

    fn counts(metrics: &[Metric], name: &str) -> Vec<(String, u64)> {
        let of = metrics.iter().filter(|metric| metric.instrument.name == name);
        let text = |labels: &Labels| {
            let values = labels.iter().map(|label| match &label.value {
                AttributeValue::Str(text) => text.to_string(),
                other => format!("{other:?}"),
            });
            values.collect::<Vec<_>>().join("|")
        };
        let mut counts: Vec<(String, u64)> = of
            .flat_map(|metric| match &metric.data {
                MetricData::Sum { points, .. } => points
                    .iter()
                    .map(|point| match point.value {
                        super::super::Number::Int(value) => (text(&point.labels), value.unsigned_abs()),
                        super::super::Number::Double(_) => panic!("counts are whole"),
                    })
                    .collect::<Vec<_>>(),
                MetricData::Histogram { points, .. } => {
                    points.iter().map(|point| (text(&point.labels), point.count)).collect()
                }
                _ => Vec::new(),
            })
            .collect();
        counts.sort();
        counts
    }

    #[test]
    fn both_ends_of_a_call_are_one_edge_in_either_order() {
        let mut metrics = SpanMetrics::default();
        for (trace, client_first) in [(1, true), (2, false)] {
            let client = end(SpanKind::Client, trace, 5, 4, SECOND, 300_000_000);
            let mut server = end(SpanKind::Server, trace, 6, 5, SECOND, 100_000_000);
            if trace == 2 {
                server.status = SpanStatus::Error("".into());
            }
            let mut both = [("web", client), ("shop", server)];
            if !client_first {
                both.reverse();
            }
            both.iter().for_each(|(service, span)| metrics.record(service, span));
        }
        let all = metrics.collect(0, Temporality::Cumulative, 9 * SECOND);
        assert_eq!(counts(&all, "traces_service_graph_request_total"), [("web||shop".to_owned(), 2)]);
        assert_eq!(counts(&all, "traces_service_graph_request_failed_total"), [("web||shop".to_owned(), 1)]);
        assert_eq!(
            counts(&all, "traces_service_graph_request_client_seconds"),
            [("web||shop".to_owned(), 2)]
        );
        let calls = [
            ("shop|SPAN_KIND_SERVER|GET /a|STATUS_CODE_ERROR".to_owned(), 1),
            ("shop|SPAN_KIND_SERVER|GET /a|STATUS_CODE_UNSET".to_owned(), 1),
            ("web|SPAN_KIND_CLIENT|GET /a|STATUS_CODE_UNSET".to_owned(), 2),
        ];
        assert_eq!(counts(&all, "traces_spanmetrics_calls_total"), calls);
        assert_eq!(counts(&all, "traces_spanmetrics_latency"), calls);
        assert_eq!(counts(&all, "traces_service_graph_unpaired_spans_total"), []);
    }

    #[test]
    fn who_waits_too_long_is_unpaired() {
        let mut metrics = SpanMetrics::default();
        metrics.record("web", &end(SpanKind::Client, 1, 5, 4, SECOND, 1));
        metrics.record("shop", &end(SpanKind::Server, 2, 6, 5, 2 * SECOND, 1));
        // The root of a trace waits for nobody.
        metrics.record("shop", &end(SpanKind::Server, 3, 6, 0, 20 * SECOND, 1));
        let all = metrics.collect(0, Temporality::Cumulative, 30 * SECOND);
        let unpaired = [("web||".to_owned(), 1), ("||shop".to_owned(), 1)];
        assert_eq!(counts(&all, "traces_service_graph_unpaired_spans_total"), unpaired);
        assert!(metrics.pending.is_empty() && metrics.order.is_empty());
    }

    #[test]
    fn everything_is_bounded_and_counted() {
        let mut metrics = SpanMetrics::default();
        for n in 0..30_000_u32 {
            let mut call = end(SpanKind::Client, 1, 1, 0, SECOND, 1);
            call.context.span_id = SpanId(u64::from(n).to_be_bytes());
            call.name = format!("GET /{n}").into();
            metrics.record("web", &call);
        }
        assert!(metrics.pending.len() <= PENDING && metrics.order.len() <= PENDING);
        assert_eq!(metrics.calls.len(), SERIES);
        let all = metrics.collect(0, Temporality::Cumulative, 30 * SECOND);
        let calls: u64 = counts(&all, "traces_spanmetrics_calls_total").iter().map(|(_, count)| count).sum();
        assert_eq!(calls, 30_000);
        let unpaired = counts(&all, "traces_service_graph_unpaired_spans_total");
        assert_eq!(unpaired, [("web||".to_owned(), 20_000)]);
    }

    #[test]
    fn deltas_tell_what_came_since() {
        let mut metrics = SpanMetrics::default();
        let call = |n: u8, metrics: &mut SpanMetrics| {
            metrics.record("web", &end(SpanKind::Client, n, n, 0, SECOND, 1));
        };
        call(1, &mut metrics);
        call(2, &mut metrics);
        let told = |metrics: &mut SpanMetrics, now| {
            let all = metrics.collect(0, Temporality::Delta, now);
            let count = |name| counts(&all, name).iter().map(|(_, count)| *count).sum::<u64>();
            (count("traces_spanmetrics_calls_total"), count("traces_spanmetrics_latency"))
        };
        assert_eq!(told(&mut metrics, 3 * SECOND), (2, 2));
        assert_eq!(told(&mut metrics, 4 * SECOND), (0, 0));
        call(3, &mut metrics);
        assert_eq!(told(&mut metrics, 5 * SECOND), (1, 1));
    }
}
