//! Applications that trace themselves: what their SDKs export and what Sonde makes are one trace for each request, with each
//! span once, and what others do is told as ever.

use std::collections::{BTreeMap, BTreeSet};

use sonde_tests::backends::wait;
use sonde_tests::calls::{Call, fresh, id_of};
use sonde_tests::clients::Client;
use sonde_tests::metrics;
use sonde_tests::sdk::{Sdk, Traced};
use sonde_tests::servers::{self, Setting};
use sonde_tests::sink::Sink;
use sonde_tests::{Agent, Finished, Kind, Planned, Run, Span, gate};

/// Requests that are sent to have it noticed.
const WARM_UP: usize = 8;

/// Said of a process once.
const NOTICE: &str = "a process makes telemetry of its own";

/// Requests to the page that calls the next service, every other one with a context.
fn plan(count: usize, with_context: impl Fn(usize) -> bool) -> Vec<Planned> {
    let one = |n: usize| {
        let planned = Planned::get(format!("/call/{}", fresh("s")));
        let context =
            format!("00-{:032x}-{:016x}-01", 0x5d00_0000 + u128::from(raw_id(&planned)), raw_id(&planned));
        if with_context(n) { planned.with_traceparent(context) } else { planned }
    };
    (0..count).map(one).collect()
}

/// A number that no other request of this run has.
fn raw_id(planned: &Planned) -> u64 {
    let id = id_of(&planned.path).trim_start_matches('s');
    let (run, n) = id.split_once('n').expect("an id as `fresh` makes it");
    (run.parse::<u64>().expect("a number") << 32) | (n.parse::<u64>().expect("a number") + 1)
}

fn of_request<'a>(spans: &'a [Span], call: &Call) -> Vec<&'a Span> {
    let (asked, passed_on) = (call.path.as_str(), format!("/hello/{}", id_of(&call.path)));
    spans.iter().filter(|span| span.path() == asked || span.path() == passed_on).collect()
}

fn one<'a>(spans: &[&'a Span], kind: Kind, path: &str, what: &str) -> &'a Span {
    let found: Vec<_> =
        spans.iter().filter(|span| span.kind == kind && span.path().starts_with(path)).collect();
    let [span] = found.as_slice() else {
        panic!("{what}: {} spans {kind:?} {path}: {found:#?}", found.len())
    };
    span
}

/// Each request's four ends are one span each, the outer two by Sonde, the inner two by the SDK, and one hangs below the other.
fn whole_and_once(what: &str, sonde: &[Span], sdk: &[Span], calls: &[Call], plan: &[Planned]) {
    let planned: BTreeMap<&str, &Planned> =
        plan.iter().map(|planned| (planned.path.as_str(), planned)).collect();
    assert_eq!(calls.len(), plan.len(), "{what}");
    for call in calls {
        assert_eq!(call.status, 200, "{what}: {call:?}");
        let what = format!("{what}, {}", call.path);
        let (by_sonde, by_sdk) = (of_request(sonde, call), of_request(sdk, call));
        assert_eq!((by_sonde.len(), by_sdk.len()), (2, 2), "{what}: {by_sonde:#?} {by_sdk:#?}");
        let caller = one(&by_sonde, Kind::Client, "/call/", &what);
        let served = one(&by_sdk, Kind::Server, "/call/", &what);
        let calling = one(&by_sdk, Kind::Client, "/hello/", &what);
        let called = one(&by_sonde, Kind::Server, "/hello/", &what);
        if planned[call.path.as_str()].traceparent.is_some() {
            assert_eq!((&served.parent, &served.trace), (&caller.id, &caller.trace), "{what}");
        }
        assert_eq!((&calling.parent, &calling.trace), (&served.id, &served.trace), "{what}");
        assert_eq!((&called.parent, &called.trace), (&calling.id, &calling.trace), "{what}: {called:#?}");
        assert_eq!(caller.parent, "", "{what}");
    }
}

/// How many requests an application's metrics have, of either end, and which metrics those are.
fn measured(finished: &Finished) -> BTreeMap<String, u64> {
    let mut counts = BTreeMap::new();
    for item in metrics::items(&finished.metrics) {
        let is_app =
            item.resource.iter().any(|pair| pair.contains("service.name") && pair.contains("\"app\""));
        if is_app && item.name.ends_with(".request.duration") {
            *counts.entry(item.name).or_default() += 1;
        }
    }
    counts
}

/// Requests that one worker sleeps for while the other is asked.
fn sleeping() -> Vec<Planned> {
    (0..WARM_UP).map(|_| Planned::get(format!("/sleep/200/{}", fresh("w")))).collect()
}

/// Sends requests until each of the application's processes was noticed.
fn until_noticed(agent: &mut Agent, app: &Traced) {
    // Each worker sleeps while the other one is asked.
    let all: Vec<Planned> =
        (0..WARM_UP).map(|_| Planned::get(format!("/sleep/200/{}", fresh("w")))).collect();
    drop(Client::Go.run(&app.url(), WARM_UP, &all));
    for _ in 0..app.workers {
        agent.process.wait_line(NOTICE);
    }
}

/// No call that exports telemetry is a span of who made it.
fn no_exports(what: &str, spans: &[Span]) {
    let is_export = |span: &&Span| {
        let path = span.path();
        span.kind == Kind::Client
            && (path.ends_with("/v1/traces")
                || path.ends_with("/v1/metrics")
                || span.name.ends_with("Service/Export"))
    };
    let exports: Vec<_> = spans.iter().filter(is_export).collect();
    assert!(exports.is_empty(), "{what}: {exports:#?}");
}

/// Waits until the SDK has exported what it made of these requests.
fn exported(sink: &Sink, calls: &[Call]) -> Vec<Span> {
    let mut spans = Vec::new();
    wait("the SDK's spans", || {
        spans = sink.received().spans;
        calls.iter().all(|call| of_request(&spans, call).len() >= 2)
    });
    spans
}

fn each_mode(sdk: Sdk, protocol: &str) {
    let _gate = gate::enter();
    let (sink, next) = (Sink::start(), servers::python(&Setting::default()));
    let mut app = sdk.start(&next.url(), (sink.port, protocol), &[]);
    for mode in ["skip", "metrics_only", "keep"] {
        if protocol == "grpc" && mode != "skip" {
            // Its connection to the receiver has begun before this agent.
            app = sdk.start(&next.url(), (sink.port, protocol), &[]);
        }
        let what = format!("{sdk:?}, {protocol}, {mode}");
        let ports = [app.port, next.port, sink.port];
        let mut agent = Run::ports(&ports).arg("--on-sdk").arg(mode).start();
        until_noticed(&mut agent, &app);
        let plan = plan(24, |n| n % 2 == 0);
        let calls = Client::Requests.run(&app.url(), 4, &plan);
        let made = exported(&sink, &calls);
        let finished = agent.finish();
        no_exports(&what, &finished.spans);
        let said = finished.log.matches(NOTICE).count();
        assert_eq!(said, app.workers, "{what}: once for each process: {}", finished.log);
        let counted = measured(&finished);
        assert!(
            counted.contains_key("http.server.request.duration")
                && counted.contains_key("http.client.request.duration"),
            "{what}: metrics are Sonde's where the SDK has none: {counted:?}"
        );
        if mode == "keep" {
            for call in &calls {
                assert_eq!(of_request(&finished.spans, call).len(), 4, "{what}: {call:?}");
            }
            continue;
        }
        whole_and_once(&what, &finished.spans, &made, &calls, &plan);
        assert!(finished.log.contains("left to their processes' own tracing"), "{what}: {}", finished.log);
        println!("{what}: {} requests, each end once, whole", calls.len());
    }
}

#[test]
#[ignore = "live: needs root, BPF and a built sonde"]
fn python_in_workers() {
    each_mode(Sdk::Python, "http/protobuf");
}

#[test]
#[ignore = "live: needs root, BPF and a built sonde"]
fn node() {
    each_mode(Sdk::Node, "http/protobuf");
}

#[test]
#[ignore = "live: needs root, BPF and a built sonde"]
fn go() {
    each_mode(Sdk::Go, "http/protobuf");
}

#[test]
#[ignore = "live: needs root, BPF and a built sonde"]
fn python_over_grpc() {
    each_mode(Sdk::Python, "grpc");
}

#[test]
#[ignore = "live: needs root, BPF and a built sonde"]
fn node_over_grpc() {
    each_mode(Sdk::Node, "grpc");
}

#[test]
#[ignore = "live: needs root, BPF and a built sonde"]
fn go_over_grpc() {
    each_mode(Sdk::Go, "grpc");
}

/// On a connection that is older than Sonde nobody saw the path of an export. Who else exports there tells what it is, and the
/// application's own contexts that it has spans.
#[test]
#[ignore = "live: needs root, BPF and a built sonde"]
fn exports_on_older_connections() {
    let _gate = gate::enter();
    for sdk in Sdk::ALL {
        let (sink, next) = (Sink::start(), servers::python(&Setting::default()));
        let app = sdk.start(&next.url(), (sink.port, "grpc"), &[]);
        let before = plan(8, |_| false);
        // Each worker has its connection.
        drop(Client::Requests.run(&app.url(), 8, &sleeping()));
        let calls = Client::Requests.run(&app.url(), 8, &before);
        drop(exported(&sink, &calls));
        let other = Sdk::Go.start(&next.url(), (sink.port, "grpc"), &[]);
        let mut agent = Run::ports(&[app.port, other.port, next.port, sink.port]).start();
        until_noticed(&mut agent, &other);
        // Whom the kernel gives them to is noticed when it calls and exports.
        let mut noticed = 0;
        wait("each worker to be noticed", || {
            drop(Client::Requests.run(&app.url(), 8, &plan(16, |_| false)));
            noticed += agent.process.lines_so_far(NOTICE);
            noticed >= app.workers
        });
        let plan = plan(24, |n| n % 2 == 0);
        let calls = Client::Requests.run(&app.url(), 4, &plan);
        let made = exported(&sink, &calls);
        let finished = agent.finish();
        whole_and_once(&format!("{sdk:?}, older"), &finished.spans, &made, &calls, &plan);
        // Node writes the path anew into every request.
        let evidence = if sdk == Sdk::Node { "evidence=\"traces\"" } else { "evidence=\"context\"" };
        let others = usize::from(sdk == Sdk::Node);
        assert_eq!(finished.log.matches(evidence).count(), app.workers + others, "{}", finished.log);
    }
}

/// Where the exports go unseen, as over TLS: the contexts show it, from the first request on that came with one.
#[test]
#[ignore = "live: needs root, BPF and a built sonde"]
fn contexts_alone_show_it() {
    let _gate = gate::enter();
    for sdk in Sdk::ALL {
        let (sink, next) = (Sink::start(), servers::python(&Setting::default()));
        let app = sdk.start(&next.url(), (sink.port, "http/protobuf"), &[]);
        let agent = Run::ports(&[app.port, next.port]).start();
        let plan = plan(24, |_| true);
        let calls = Client::Requests.run(&app.url(), 4, &plan);
        let made = exported(&sink, &calls);
        let finished = agent.finish();
        assert!(finished.log.contains("evidence=\"context\""), "{}", finished.log);
        whole_and_once(&format!("{sdk:?}, contexts"), &finished.spans, &made, &calls, &plan);
    }
}

/// Who exports metrics alone keeps its spans, although its SDK writes contexts of its own.
#[test]
#[ignore = "live: needs root, BPF and a built sonde"]
fn who_exports_only_metrics_keeps_its_spans() {
    let _gate = gate::enter();
    let (sink, next) = (Sink::start(), servers::python(&Setting::default()));
    let more = [
        ("OTEL_TRACES_EXPORTER", "none"),
        ("OTEL_METRICS_EXPORTER", "otlp"),
        ("OTEL_METRIC_EXPORT_INTERVAL", "200"),
    ];
    let app = Sdk::Python.start(&next.url(), (sink.port, "http/protobuf"), &more);
    for mode in ["skip", "metrics_only"] {
        let mut agent = Run::ports(&[app.port, next.port, sink.port]).arg("--on-sdk").arg(mode).start();
        until_noticed(&mut agent, &app);
        let plan = plan(24, |n| n % 2 == 0);
        let calls = Client::Requests.run(&app.url(), 4, &plan);
        let finished = agent.finish();
        no_exports(mode, &finished.spans);
        for call in &calls {
            let spans = of_request(&finished.spans, call);
            assert_eq!(spans.len(), 4, "{mode}: {call:?}: {spans:#?}");
        }
        let served = finished
            .spans
            .iter()
            .filter(|span| span.kind == Kind::Server && span.path().starts_with("/call/"));
        let instances: BTreeSet<&str> =
            served.map(|span| span.resource["service.instance.id"].as_str()).collect();
        assert_eq!(instances.len(), app.workers, "{mode}: {instances:?}");
        let counted = served_by(&finished, &instances);
        match mode {
            // Nothing but what came before it was noticed.
            "skip" => assert!(counted <= WARM_UP as u64, "{mode}: {counted}"),
            _ => assert!(
                (WARM_UP + calls.len()) as u64 >= counted && counted >= calls.len() as u64,
                "{mode}: {counted}"
            ),
        }
    }
}

/// Requests that the metrics of these processes count as served.
fn served_by(finished: &Finished, instances: &BTreeSet<&str>) -> u64 {
    let totals = metrics::totals(&metrics::of_requests(&finished.metrics));
    let of_them = totals.iter().filter(|((name, instance, _), _)| {
        name == "http.server.request.duration" && instances.contains(instance.as_str())
    });
    of_them.map(|(_, point)| point.count).sum()
}

/// A proxy before the receiver passes on what others export, and has no spans of its own.
#[test]
#[ignore = "live: needs root, BPF and a built sonde"]
fn a_proxy_before_the_receiver_keeps_its_spans() {
    let _gate = gate::enter();
    let (sink, next) = (Sink::start(), servers::python(&Setting::default()));
    let locations = format!(
        "location /v1/ {{ proxy_pass http://127.0.0.1:{}; }} location / {{ proxy_pass {}; }}",
        sink.port,
        next.url()
    );
    let nginx = servers::nginx("", &locations, &Setting::default());
    let app = Sdk::Go.start(&nginx.url(), (nginx.port, "http/protobuf"), &[]);
    let mut agent = Run::ports(&[app.port, next.port, sink.port, nginx.port]).start();
    until_noticed(&mut agent, &app);
    let plan = plan(24, |n| n % 2 == 0);
    let calls = Client::Requests.run(&app.url(), 4, &plan);
    let made = exported(&sink, &calls);
    let finished = agent.finish();
    no_exports("nginx", &finished.spans);
    assert_eq!(finished.log.matches(NOTICE).count(), 1, "{}", finished.log);
    let workers = nginx.process.group();
    for call in &calls {
        let (by_sonde, by_sdk) = (of_request(&finished.spans, call), of_request(&made, call));
        let calling = one(&by_sdk, Kind::Client, "/hello/", "SDK");
        let (proxied, rest): (Vec<_>, Vec<_>) =
            by_sonde.into_iter().partition(|span| workers.contains(&span.pid()));
        let served = one(&proxied, Kind::Server, "/hello/", "nginx");
        let passed = one(&proxied, Kind::Client, "/hello/", "nginx");
        let called = one(&rest, Kind::Server, "/hello/", "next");
        assert_eq!((&served.parent, &served.trace), (&calling.id, &calling.trace), "{call:?}");
        assert_eq!((&called.parent, &passed.parent), (&passed.id, &served.id), "{call:?}");
    }
}
