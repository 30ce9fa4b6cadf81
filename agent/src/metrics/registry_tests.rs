//! What readers are told, in whatever portions they ask.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;
use crate::metrics::{Aggregation, Exemplar, ExponentialPoint, HistogramPoint, OVERFLOW};
use crate::span::{Attribute, AttributeValue, SpanId, TraceId};

const SECOND: u64 = 1_000_000_000;

const fn stream(temporality: Temporality, aggregation: Aggregation) -> Stream {
    Stream { temporality, aggregation }
}

const STREAMS: [Stream; 4] = [
    stream(Temporality::Cumulative, Aggregation::Explicit),
    stream(Temporality::Delta, Aggregation::Explicit),
    stream(Temporality::Cumulative, Aggregation::Exponential),
    stream(Temporality::Delta, Aggregation::Exponential),
];

fn resource(name: &str) -> Arc<Resource> {
    let value = AttributeValue::Str(name.to_owned().into());
    Arc::new(Resource { attributes: vec![Attribute { key: "service.name".into(), value }] })
}

fn registry(limits: MetricLimits) -> Registry {
    let readers = (0..STREAMS.len()).map(|stream| Reader { stream, is_scraper: stream == 0 });
    let config = RegistryConfig {
        streams: STREAMS.to_vec(),
        readers: readers.collect(),
        exemplars: ExemplarFilter::TraceBased,
        limits,
    };
    Registry::new(&config, resource("others"))
}

fn labels<'a>(route: &'a str, status: u16) -> CallLabels<'a> {
    CallLabels {
        kind: CallKind::HttpServer,
        method: "GET",
        scheme: "http".into(),
        address: "".into(),
        port: None,
        status: Some(u32::from(status)),
        version: "1.1",
        route,
        error: if status >= 500 { "500" } else { "" },
        sizes: [Some(0), (status != 204).then_some(12)],
    }
}

const fn process(tgid: u32) -> ProcessId {
    ProcessId { tgid, started: 1 }
}

fn named(n: u8) -> Option<(TraceId, SpanId)> {
    Some((TraceId([n; 16]), SpanId([n; 8])))
}

fn collect(registry: &mut Registry, reader: usize, now: u64) -> Vec<ResourceMetrics> {
    let mut cursor = 0;
    std::iter::from_fn(|| registry.collect(reader, now, &mut cursor)).collect()
}

fn explicit<'a>(all: &'a [ResourceMetrics], name: &str) -> Vec<&'a HistogramPoint> {
    let metrics = all.iter().flat_map(|resource| &resource.metrics);
    let named = metrics.filter(|metric| metric.instrument.name == name);
    let points = named.flat_map(|metric| match &metric.data {
        MetricData::Histogram { points, .. } => points.iter().collect(),
        _ => Vec::new(),
    });
    points.collect()
}

fn exponential<'a>(all: &'a [ResourceMetrics], name: &str) -> Vec<&'a ExponentialPoint> {
    let metrics = all.iter().flat_map(|resource| &resource.metrics);
    let named = metrics.filter(|metric| metric.instrument.name == name);
    let points = named.flat_map(|metric| match &metric.data {
        MetricData::Exponential { points, .. } => points.iter().collect(),
        _ => Vec::new(),
    });
    points.collect()
}

fn text(attributes: &[Attribute]) -> String {
    let one = |attribute: &Attribute| match &attribute.value {
        AttributeValue::Str(text) => format!("{}={text}", attribute.key),
        other => format!("{}={other:?}", attribute.key),
    };
    attributes.iter().map(one).collect::<Vec<_>>().join(" ")
}

const DURATION: &str = "http.server.request.duration";

#[test]
fn a_call_is_told_with_the_labels_and_bounds_of_the_conventions() {
    let mut registry = registry(MetricLimits::default());
    let shop = resource("shop");
    let times = (5 * SECOND, 5 * SECOND + 5_000_000);
    registry.record_call(&shop, process(1), &labels("/cart/{id}", 500), times, named(7));
    let mut client = labels("", 204);
    client.kind = CallKind::HttpClient;
    (client.scheme, client.address, client.port) = ("".into(), "db.example".into(), Some(80));
    registry.record_call(&shop, process(1), &client, times, None);
    let all = collect(&mut registry, 0, 9 * SECOND);
    assert_eq!(all.len(), 1);
    let names: Vec<&str> = all[0].metrics.iter().map(|metric| metric.instrument.name).collect();
    assert_eq!(
        names,
        [
            DURATION,
            "http.server.request.body.size",
            "http.server.response.body.size",
            "http.client.request.duration",
            "http.client.request.body.size"
        ],
        "the response without a known size is not counted as one of size 0"
    );
    let points = explicit(&all, DURATION);
    let [point] = points.as_slice() else { panic!("{points:?}") };
    assert_eq!(
        text(&point.labels),
        "error.type=500 http.request.method=GET http.response.status_code=Int(500) http.route=/cart/{id} \
         network.protocol.version=1.1 url.scheme=http"
    );
    assert_eq!((point.start, point.time, point.count), (5 * SECOND, 9 * SECOND, 1));
    assert_eq!(point.bounds[..3], [0.005, 0.01, 0.025]);
    assert_eq!(point.bounds.last(), Some(&10.0));
    // 5 ms exactly belong to the first bucket.
    assert_eq!((point.buckets[0], point.buckets.len()), (1, 15));
    assert_eq!((point.sum, point.range), (0.005, Some((0.005, 0.005))));
    let exemplar = Exemplar { time: 5 * SECOND + 5_000_000, value: 0.005, span: named(7) };
    assert_eq!(point.exemplars, [exemplar]);
    let points = explicit(&all, "http.client.request.duration");
    assert_eq!(
        text(&points[0].labels),
        "http.request.method=GET http.response.status_code=Int(204) network.protocol.version=1.1 \
         server.address=db.example server.port=Int(80)"
    );
    assert_eq!(points[0].exemplars, [], "its span was not exported");
}

#[test]
fn a_remote_procedure_call_is_told_under_its_own_names_only() {
    let mut registry = registry(MetricLimits::default());
    let shop = resource("shop");
    let call = |kind, status, sizes| CallLabels {
        kind,
        method: "shop.Cart/Add",
        scheme: "".into(),
        version: "",
        status: Some(status),
        error: if status == 0 { "" } else { "INTERNAL" },
        sizes,
        ..labels("", 0)
    };
    let times = (5 * SECOND, 5 * SECOND + 20_000_000);
    let mut client = call(CallKind::RpcClient, 0, [Some(1), Some(1_000)]);
    (client.address, client.port) = ("cart".into(), Some(81));
    registry.record_call(&shop, process(1), &client, times, named(7));
    registry.record_call(&shop, process(1), &call(CallKind::RpcServer, 13, [None, Some(0)]), times, None);
    registry.record_call(&shop, process(1), &labels("/", 200), times, None);
    for (reader, stream) in STREAMS.iter().enumerate() {
        let all = collect(&mut registry, reader, 9 * SECOND);
        let names: Vec<&str> = all[0].metrics.iter().map(|metric| metric.instrument.name).collect();
        let expected = [
            DURATION,
            "http.server.request.body.size",
            "http.server.response.body.size",
            "rpc.server.call.duration",
            "sonde.rpc.server.received.messages",
            "rpc.client.call.duration",
            "sonde.rpc.client.sent.messages",
            "sonde.rpc.client.received.messages",
        ];
        assert_eq!(names, expected);
        let told = |name: &str| match stream.aggregation {
            Aggregation::Explicit => {
                explicit(&all, name).iter().map(|point| (text(&point.labels), point.sum)).collect::<Vec<_>>()
            }
            Aggregation::Exponential => {
                exponential(&all, name).iter().map(|point| (text(&point.labels), point.sum)).collect()
            }
        };
        let client = "rpc.method=shop.Cart/Add rpc.response.status_code=OK rpc.system.name=grpc server.address=cart \
                      server.port=Int(81)";
        assert_eq!(told("rpc.client.call.duration"), [(client.to_owned(), 0.02)]);
        assert_eq!(told("sonde.rpc.client.received.messages"), [(client.to_owned(), 1_000.0)]);
        let server = "error.type=INTERNAL rpc.method=shop.Cart/Add rpc.response.status_code=INTERNAL \
                      rpc.system.name=grpc";
        assert_eq!(told("rpc.server.call.duration"), [(server.to_owned(), 0.02)]);
    }
    let point = explicit(&collect(&mut registry, 0, 9 * SECOND), "rpc.client.call.duration")[0].clone();
    assert_eq!((point.exemplars[0].span, point.bounds[0], point.bounds.len()), (named(7), 0.005, 14));
}

#[test]
fn each_kind_of_call_has_its_own_share_of_the_limit() {
    let mut registry = registry(MetricLimits { series: 3, ..MetricLimits::default() });
    let methods: Vec<String> = (0..20).map(|n| format!("a.B/C{n}")).collect();
    for kind in CallKind::ALL {
        for method in &methods {
            let labels = CallLabels { kind, method, ..labels("", 200) };
            registry.record_call(&resource("shop"), process(1), &labels, (0, 1), None);
        }
    }
    let all = collect(&mut registry, 0, SECOND);
    for name in
        [DURATION, "http.client.request.duration", "rpc.server.call.duration", "rpc.client.call.duration"]
    {
        let points = explicit(&all, name);
        let overflow = points.iter().find(|point| text(&point.labels) == format!("{OVERFLOW}=Bool(true)"));
        assert_eq!((points.len(), overflow.map(|point| point.count)), (4, Some(17)), "{name}");
    }
}

#[test]
fn past_the_limit_calls_share_one_series_and_are_all_counted() {
    let mut registry = registry(MetricLimits { series: 10, ..MetricLimits::default() });
    let shop = resource("shop");
    for n in 0..100 {
        let route = format!("/{}", n % 50);
        registry.record_call(&shop, process(1), &labels(&route, 200), (n, n + 1), None);
    }
    assert_eq!(registry.size(), (1, 10));
    let all = collect(&mut registry, 0, SECOND);
    let points = explicit(&all, DURATION);
    assert_eq!(points.len(), 11);
    let overflow = points.iter().find(|point| text(&point.labels) == format!("{OVERFLOW}=Bool(true)"));
    assert_eq!(overflow.map(|point| point.count), Some(80));
    assert_eq!(points.iter().map(|point| point.count).sum::<u64>(), 100);
}

#[test]
fn past_the_limit_of_processes_one_resource_stands_for_the_rest() {
    let limits = MetricLimits { processes: 3, all_series: 5, ..MetricLimits::default() };
    let mut registry = registry(limits);
    for n in 0..60_u32 {
        let shop = resource(&format!("shop-{}", n % 10));
        let route = format!("/{}", n / 10);
        registry.record_call(&shop, process(n % 10), &labels(&route, 200), (0, 1), None);
    }
    assert_eq!(registry.size(), (4, 5));
    let all = collect(&mut registry, 0, SECOND);
    let names: Vec<String> = all.iter().map(|one| text(&one.resource.attributes)).collect();
    assert_eq!(
        names,
        ["service.name=shop-0", "service.name=shop-1", "service.name=shop-2", "service.name=others"]
    );
    let counts: Vec<u64> = all
        .iter()
        .map(|one| explicit(std::slice::from_ref(one), DURATION).iter().map(|point| point.count).sum())
        .collect();
    assert_eq!(counts, [6, 6, 6, 42]);
}

#[test]
fn an_idle_series_is_forgotten_and_starts_anew() {
    let mut registry = registry(MetricLimits { idle: 60 * SECOND, ..MetricLimits::default() });
    let shop = resource("shop");
    let call = |registry: &mut Registry, at: u64| {
        registry.record_call(&shop, process(1), &labels("/", 200), (at, at + SECOND), None);
    };
    call(&mut registry, 10 * SECOND);
    call(&mut registry, 12 * SECOND);
    let told = |registry: &mut Registry, now: u64| {
        let all = collect(registry, 0, now);
        let points = explicit(&all, DURATION);
        points.first().map(|point| (point.start, point.time, point.count))
    };
    assert_eq!(told(&mut registry, 20 * SECOND), Some((10 * SECOND, 20 * SECOND, 2)));
    // The deltas have not been asked for: what they would tell is kept however long it takes.
    assert_eq!(told(&mut registry, 100 * SECOND), Some((10 * SECOND, 100 * SECOND, 2)));
    assert_eq!(told(&mut registry, 200 * SECOND), Some((10 * SECOND, 200 * SECOND, 2)));
    collect(&mut registry, 1, 210 * SECOND);
    collect(&mut registry, 3, 211 * SECOND);
    assert_eq!((told(&mut registry, 220 * SECOND), registry.size()), (None, (0, 0)));
    // A request that began long ago: it counts from what was told last on.
    call(&mut registry, 150 * SECOND);
    call(&mut registry, 230 * SECOND);
    assert_eq!(told(&mut registry, 240 * SECOND), Some((220 * SECOND, 240 * SECOND, 2)));
}

#[test]
fn a_process_that_has_ended_is_forgotten_when_everyone_was_told() {
    let mut registry = registry(MetricLimits::default());
    let shop = resource("shop");
    let call = |registry: &mut Registry, tgid: u32, at: u64| {
        registry.record_call(&shop, process(tgid), &labels("/", 200), (at, at + SECOND), None);
    };
    call(&mut registry, 1, 10 * SECOND);
    call(&mut registry, 2, 60 * SECOND);
    // The scraper asks as well.
    collect(&mut registry, 0, 62 * SECOND);
    assert_eq!(registry.quiet(62 * SECOND), [process(1)]);
    registry.ended(&[process(1), process(3)]);
    assert_eq!(registry.quiet(62 * SECOND), []);
    for reader in 1..4 {
        let told = explicit(&collect(&mut registry, reader, 63 * SECOND), DURATION).len();
        assert_eq!((told, registry.size()), (if reader == 1 { 2 } else { 0 }, (2, 2)));
    }
    let told = explicit(&collect(&mut registry, 0, 64 * SECOND), DURATION).len();
    assert_eq!((told, registry.size()), (2, (1, 1)));
    // One that still says something has not ended, or its id was given to another.
    call(&mut registry, 2, 70 * SECOND);
    registry.ended(&[process(2)]);
    call(&mut registry, 2, 90 * SECOND);
    (0..4).for_each(|reader| drop(collect(&mut registry, reader, 200 * SECOND)));
    assert_eq!(registry.size(), (1, 1));
    // A scraper that stays away is not waited for, who is pushed to is.
    registry.ended(&[process(2)]);
    (1..3).for_each(|reader| drop(collect(&mut registry, reader, 900 * SECOND)));
    assert_eq!(registry.size(), (1, 1));
    drop(collect(&mut registry, 3, 901 * SECOND));
    assert_eq!(registry.size(), (0, 0));
}

#[test]
fn a_process_that_turns_out_to_be_another_service_starts_other_series() {
    let mut registry = registry(MetricLimits::default());
    let call = |name: &str, at: u64, registry: &mut Registry| {
        registry.record_call(&resource(name), process(1), &labels("/", 200), (at, at + 1), None);
    };
    call("python3", 5, &mut registry);
    call("python3", 6, &mut registry);
    call("shop", 7, &mut registry);
    call("shop", 8, &mut registry);
    // Spans of what it was before that come late.
    call("python3", 9, &mut registry);
    call("shop", 10, &mut registry);
    let all = collect(&mut registry, 0, SECOND);
    let told: Vec<(String, u64, u64)> = all
        .iter()
        .map(|one| {
            let points = explicit(std::slice::from_ref(one), DURATION);
            (one.resource.service_name().to_owned(), points[0].start, points[0].count)
        })
        .collect();
    assert_eq!(told, [("python3".to_owned(), 5, 3), ("shop".to_owned(), 7, 3)]);
}

#[test]
fn exemplars_are_told_once_or_as_long_as_they_are_the_latest() {
    let mut registry = registry(MetricLimits::default());
    let shop = resource("shop");
    let call = |registry: &mut Registry, nanos: u64, n: u8| {
        registry.record_call(&shop, process(1), &labels("/", 200), (SECOND, SECOND + nanos), named(n));
    };
    let spans = |registry: &mut Registry, reader: usize| -> Vec<u8> {
        let all = collect(registry, reader, 5 * SECOND);
        let points = explicit(&all, DURATION);
        points.iter().flat_map(|point| &point.exemplars).map(|kept| kept.span.unwrap().1.0[0]).collect()
    };
    call(&mut registry, 1, 1);
    call(&mut registry, 2, 2);
    call(&mut registry, 20_000_000, 3);
    assert_eq!((spans(&mut registry, 0), spans(&mut registry, 1)), (vec![2, 3], vec![2, 3]));
    call(&mut registry, 30_000_000, 4);
    call(&mut registry, 3, 5);
    assert_eq!((spans(&mut registry, 0), spans(&mut registry, 1)), (vec![5, 3, 4], vec![5, 4]));
    assert_eq!((spans(&mut registry, 0), spans(&mut registry, 1)), (vec![5, 3, 4], vec![]));
}

/// Calls and collections of each reader, in any order.
#[derive(Clone, Debug)]
enum Step {
    Call { process: u32, route: u8, status: u16, nanos: u64 },
    Collect(usize),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let nanos = prop_oneof![Just(0), 0..20_000_000_u64, 0..20 * SECOND];
    let call = (0..3_u32, 0..4_u8, prop_oneof![Just(200), Just(204), Just(500)], nanos)
        .prop_map(|(process, route, status, nanos)| Step::Call { process, route, status, nanos });
    let step = prop_oneof![6 => call, 1 => (0..STREAMS.len()).prop_map(Step::Collect)];
    proptest::collection::vec(step, 0..150)
}

/// Count, sum in nanoseconds, buckets: by resource, metric and labels.
type Totals = BTreeMap<(String, &'static str, String), (u64, u128, Vec<u64>)>;

fn add(totals: &mut Totals, all: &[ResourceMetrics]) {
    for one in all {
        for metric in &one.metrics {
            let MetricData::Histogram { points, .. } = &metric.data else { continue };
            for point in points {
                let key =
                    (one.resource.service_name().to_owned(), metric.instrument.name, text(&point.labels));
                let total = totals.entry(key).or_insert_with(|| (0, 0, vec![0; point.buckets.len()]));
                assert_eq!(point.count, point.buckets.iter().sum::<u64>());
                total.0 += point.count;
                total.1 += (point.sum * 1e9).round() as u128;
                total.2.iter_mut().zip(&point.buckets).for_each(|(total, count)| *total += count);
            }
        }
    }
}

proptest! {
    #[test]
    fn deltas_add_up_to_what_cumulative_points_say(steps in steps()) {
        let mut registry = registry(MetricLimits { series: 6, processes: 2, idle: u64::MAX, ..MetricLimits::default() });
        let resources = [resource("a"), resource("b"), resource("c")];
        let mut deltas = Totals::new();
        let mut exponential_counts: BTreeMap<String, (u64, f64)> = BTreeMap::new();
        let mut calls = 0;
        let mut now = SECOND;
        let mut told_until = [0; STREAMS.len()];
        let all_readers = (0..STREAMS.len()).map(Step::Collect);
        for step in steps.into_iter().chain(all_readers) {
            now += 20 * SECOND;
            match step {
                Step::Call { process: id, route, status, nanos } => {
                    calls += 1;
                    let route = format!("/{route}");
                    registry.record_call(&resources[id as usize], process(id), &labels(&route, status), (now - nanos, now), None);
                }
                Step::Collect(reader) => {
                    let all = collect(&mut registry, reader, now);
                    match reader {
                        1 => {
                            for point in explicit(&all, DURATION) {
                                prop_assert!(point.start >= told_until[1] && point.start < point.time, "{point:?}");
                            }
                            add(&mut deltas, &all);
                        }
                        3 => for one in &all {
                            for point in exponential(std::slice::from_ref(one), DURATION) {
                                let key = format!("{} {}", one.resource.service_name(), text(&point.labels));
                                let total = exponential_counts.entry(key).or_default();
                                prop_assert_eq!(point.count, point.zeros + point.buckets.iter().sum::<u64>());
                                *total = (total.0 + point.count, total.1 + point.sum);
                            }
                        },
                        _ => {}
                    }
                    told_until[reader] = now;
                }
            }
        }
        let mut cumulative = Totals::new();
        add(&mut cumulative, &collect(&mut registry, 0, now));
        prop_assert!(deltas == cumulative, "the sums of deltas differ");
        let all: u64 = cumulative.iter().filter(|((_, name, _), _)| *name == DURATION).map(|(_, total)| total.0).sum();
        prop_assert_eq!(all, calls);
        let exponential_all = collect(&mut registry, 2, now);
        let mut points = 0;
        for one in &exponential_all {
            for point in exponential(std::slice::from_ref(one), DURATION) {
                let key = format!("{} {}", one.resource.service_name(), text(&point.labels));
                let (count, sum) = exponential_counts[&key];
                prop_assert_eq!(point.count, count);
                prop_assert!((point.sum - sum).abs() <= 1e-9 * sum.max(1.0));
                points += 1;
            }
        }
        prop_assert_eq!(points, exponential_counts.len());
    }
}

#[test]
fn fifty_thousand_routes_of_a_thousand_services_are_capped_and_counted() {
    let config = RegistryConfig {
        streams: vec![STREAMS[0]],
        readers: vec![Reader { stream: 0, is_scraper: false }],
        exemplars: ExemplarFilter::TraceBased,
        limits: MetricLimits::default(),
    };
    let mut registry = Registry::new(&config, resource("others"));
    let resources: Vec<_> = (0..1_000).map(|n| resource(&format!("shop-{n}"))).collect();
    let mut calls = 0;
    for n in 0..100_000_u32 {
        // Fifty routes of each service, and all 50,000 of one.
        let id = if n < 50_000 { n % 1_000 } else { 0 };
        let route = format!("/{n}");
        registry.record_call(
            &resources[id as usize],
            process(id),
            &labels(&route, 200),
            (0, 1 + u64::from(n) * 1_000),
            named(1),
        );
        calls += 1;
    }
    let limits = MetricLimits::default();
    assert_eq!(registry.size(), (1_000, limits.all_series));
    let all = collect(&mut registry, 0, SECOND);
    let points = explicit(&all, DURATION);
    assert_eq!(points.iter().map(|point| point.count).sum::<u64>(), calls);
    assert!(points.len() <= limits.all_series + 1_000);
}
