//! Metrics: the counts of every output equal what the workload says it did.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use sonde_tests::agent::command;
use sonde_tests::backends::comes;
use sonde_tests::calls::{fresh, mixed};
use sonde_tests::captures::Tcpdump;
use sonde_tests::clients::Client;
use sonde_tests::metrics::{self, Counts, Point, Series, buckets, of_calls};
use sonde_tests::namespaces::Place;
use sonde_tests::processes::free_port;
use sonde_tests::sdk::Sdk;
use sonde_tests::servers::{self, Setting};
use sonde_tests::sink::Sink;
use sonde_tests::{Kind, Planned, Run, Span, gate, spans};

const SERVER: &str = "http.server.request.duration";
const CLIENT: &str = "http.client.request.duration";

fn of_totals(totals: &BTreeMap<Series, Point>, metric: &str) -> Counts {
    let mut counts = Counts::new();
    for ((_, _, labels), point) in totals.iter().filter(|((name, ..), _)| name == metric) {
        let label = |name: &str| labels.get(name).cloned().unwrap_or_default();
        *counts.entry((label("http.request.method"), label("http.response.status_code"))).or_default() +=
            point.count;
        assert_eq!(point.count, point.buckets.iter().sum::<u64>(), "{labels:?}");
    }
    counts
}

/// Requests by method and status, as a scrape says.
fn of_scrape(text: &str, metric: &str) -> Counts {
    let mut counts = Counts::new();
    for (_, labels, value) in metrics::samples(text).into_iter().filter(|(name, ..)| name == metric) {
        let label = |name: &str| labels.get(name).cloned().unwrap_or_default();
        *counts.entry((label("http_request_method"), label("http_response_status_code"))).or_default() +=
            value as u64;
    }
    counts
}

fn get(port: u16, path: &str) -> (String, String) {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).expect("the listener");
    write!(stream, "GET {path} HTTP/1.1\r\nHost: sonde\r\nConnection: close\r\n\r\n").expect("a request");
    let mut text = String::new();
    stream.read_to_string(&mut text).expect("an answer");
    let (head, body) = text.split_once("\r\n\r\n").expect("a head");
    (head.to_owned(), body.to_owned())
}

/// OTLP, JSON lines and a scrape, with either temporality: all say what the client's log says, to the request.
#[test]
#[ignore = "live: needs root, BPF and a built sonde"]
fn counts_equal_the_workloads_log() {
    let _gate = gate::enter();
    let server = servers::hyper(&Setting::default());
    for (temporality, protocol) in [("cumulative", "grpc"), ("delta", "http/protobuf")] {
        let what = format!("{temporality}, {protocol}");
        let sink = Sink::start();
        let listen = free_port();
        let folder = tempfile::TempDir::new().expect("folder");
        let json = folder.path().join("all.jsonl");
        let agent = Run::ports(&[server.port])
            .arg("--output")
            .arg("otlp")
            .arg("--output")
            .arg(format!("json:{}", json.display()))
            .arg("--listen")
            .arg(listen.to_string())
            .env("OTEL_EXPORTER_OTLP_ENDPOINT", &format!("http://127.0.0.1:{}", sink.port))
            .env("OTEL_EXPORTER_OTLP_PROTOCOL", protocol)
            .env("OTEL_EXPORTER_OTLP_METRICS_TEMPORALITY_PREFERENCE", temporality)
            .env("OTEL_METRIC_EXPORT_INTERVAL", "150")
            .start();
        assert!(get(listen, "/readyz").0.starts_with("HTTP/1.1 200"), "{what}");
        let calls = Client::Go.run(&server.url(), 16, &mixed(900));
        let expected = of_calls(&calls);
        // The last exchanges may still wait for their parents.
        let until = Instant::now() + Duration::from_secs(20);
        let mut scraped = String::new();
        while Instant::now() < until {
            scraped = get(listen, "/metrics").1;
            if of_scrape(&scraped, "http_client_request_duration_seconds_count") == expected
                && of_scrape(&scraped, "http_server_request_duration_seconds_count") == expected
            {
                break;
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        assert_eq!(
            of_scrape(&scraped, "http_server_request_duration_seconds_count"),
            expected,
            "{what}: scraped"
        );
        assert_eq!(
            of_scrape(&scraped, "http_client_request_duration_seconds_count"),
            expected,
            "{what}: scraped"
        );
        let finished = agent.finish();
        let written = metrics::totals(&metrics::read(&json));
        let sent = metrics::totals(&metrics::of_requests(&sink.received().metrics));
        for (how, totals) in [("json", &written), ("otlp", &sent)] {
            for metric in [SERVER, CLIENT] {
                assert_eq!(of_totals(totals, metric), expected, "{what}, {how}, {metric}: {}", finished.log);
            }
            for (kind, metric) in [(Kind::Server, SERVER), (Kind::Client, CLIENT)] {
                let points: Vec<&Point> =
                    totals.iter().filter(|((name, ..), _)| name == metric).map(|(_, point)| point).collect();
                let mut all = vec![0; points[0].buckets.len()];
                for point in &points {
                    all.iter_mut().zip(&point.buckets).for_each(|(all, count)| *all += count);
                }
                let spans = buckets(&finished.spans, kind, &points[0].bounds);
                assert_eq!(
                    all, spans,
                    "{what}, {how}, {metric}: the buckets hold the durations of the spans"
                );
            }
            let sizes = |metric: &str| -> f64 {
                totals.iter().filter(|((name, ..), _)| name == metric).map(|(_, point)| point.sum).sum()
            };
            // Of a body whose size is not known the spans say nothing either.
            let of_spans = |kind: Kind, key: &str| -> i64 {
                let sized = finished.spans.iter().filter(|span| span.kind == kind);
                sized.filter_map(|span| span.number(key)).sum()
            };
            let expected = of_spans(Kind::Server, "http.request.body.size");
            assert!(expected > 0, "{what}: no body");
            assert_eq!(sizes("http.server.request.body.size"), expected as f64, "{what}, {how}");
            let expected = of_spans(Kind::Client, "http.response.body.size");
            assert_eq!(sizes("http.client.response.body.size"), expected as f64, "{what}, {how}");
            let ids: BTreeSet<&str> = finished.spans.iter().map(|span| span.id.as_str()).collect();
            let mut exemplars = totals.values().flat_map(|point| &point.exemplars).peekable();
            assert!(exemplars.peek().is_some(), "{what}, {how}: no exemplar");
            assert!(
                exemplars.all(|id| ids.contains(id.as_str())),
                "{what}, {how}: an exemplar without its span"
            );
        }
        assert_eq!(written, sent, "{what}: every output is told the same");
        println!("{what}: {} requests, {} series, the same everywhere", calls.len(), written.len());
    }
}

/// An endpoint for spans that is dead loses spans, and no count.
#[test]
#[ignore = "live: needs root, BPF and a built sonde"]
fn counts_do_not_depend_on_what_becomes_of_spans() {
    let _gate = gate::enter();
    let server = servers::hyper(&Setting::default());
    let sink = Sink::start();
    let dead = free_port();
    let agent = Run::ports(&[server.port])
        .arg("--output")
        .arg("otlp")
        .env("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", &format!("http://127.0.0.1:{dead}/v1/traces"))
        .env("OTEL_EXPORTER_OTLP_METRICS_ENDPOINT", &format!("http://127.0.0.1:{}/v1/metrics", sink.port))
        .env("OTEL_BSP_EXPORT_TIMEOUT", "2000")
        .start();
    let calls = Client::Go.run(&server.url(), 8, &mixed(300));
    let finished = agent.finish();
    let sent = metrics::totals(&metrics::of_requests(&sink.received().metrics));
    for metric in [SERVER, CLIENT] {
        assert_eq!(of_totals(&sent, metric), of_calls(&calls), "{metric}: {}", finished.log);
    }
    assert!(finished.log.contains("export_failed"), "{}", finished.log);
}

/// One trace of a hundred is exported; every request is counted.
#[test]
#[ignore = "live: needs root, BPF and a built sonde"]
fn counts_do_not_depend_on_sampling() {
    let _gate = gate::enter();
    let server = servers::hyper(&Setting::default());
    let listen = free_port();
    let agent = Run::ports(&[server.port])
        .arg("--listen")
        .arg(listen.to_string())
        .env("OTEL_TRACES_SAMPLER", "traceidratio")
        .env("OTEL_TRACES_SAMPLER_ARG", "0.01")
        .start();
    // Slowly: what overran the ring would not be counted, and is not what is shown here.
    let calls = Client::Go.run(&server.url(), 2, &mixed(1_000));
    let expected = of_calls(&calls);
    // The last exchanges may still wait for their parents; what is wrong is told below.
    let counted = |metric| of_scrape(&get(listen, "/metrics").1, metric) == expected;
    let _ = comes(|| {
        counted("http_server_request_duration_seconds_count")
            && counted("http_client_request_duration_seconds_count")
    });
    let finished = agent.finish();
    let points = metrics::of_requests(&finished.metrics);
    let told = metrics::totals(&points);
    for metric in [SERVER, CLIENT] {
        assert_eq!(of_totals(&told, metric), expected, "{metric}: {}", finished.log);
    }
    // Of 1,000 traces 10 are expected; that it be 40 is as good as impossible.
    let ids: BTreeSet<&str> = finished.spans.iter().map(|span| span.id.as_str()).collect();
    assert!(ids.len() < 80, "{}: {}", ids.len(), finished.log);
    let exemplars: Vec<&String> = told.values().flat_map(|point| &point.exemplars).collect();
    assert!(exemplars.iter().all(|id| ids.contains(id.as_str())), "an exemplar without its span");
    println!("{} of 2,000 spans exported, every request counted, {} exemplars", ids.len(), exemplars.len());
}

/// The bucket that holds a quantile of the CLIENT's durations is the one that the client's own log says, or the one beside it.
/// (What a server sees is shorter: a request waits until it is read.)
#[test]
#[ignore = "live: needs root, BPF and a built sonde"]
fn quantiles_are_those_of_the_workloads_log() {
    let _gate = gate::enter();
    let server = servers::hyper(&Setting::default());
    let plan: Vec<Planned> =
        (0..600).map(|n| Planned::get(format!("/sleep/{}/{}", n * n % 241, fresh("q")))).collect();
    for aggregation in ["explicit_bucket_histogram", "base2_exponential_bucket_histogram"] {
        let agent = Run::ports(&[server.port])
            .env("OTEL_EXPORTER_OTLP_METRICS_DEFAULT_HISTOGRAM_AGGREGATION", aggregation)
            .start();
        let calls = Client::Go.run(&server.url(), 16, &plan);
        let mut truly: Vec<f64> = calls.iter().map(|call| (call.end - call.start) as f64 / 1e9).collect();
        truly.sort_by(f64::total_cmp);
        let finished = agent.finish();
        let told = metrics::distribution(&finished.metrics, CLIENT);
        assert_eq!(told.counts.iter().sum::<u64>(), 600, "{aggregation}: {}", finished.log);
        let mut seen = Vec::new();
        for quantile in [0.5, 0.9, 0.99] {
            let rank = (quantile * 600.0) as u64;
            let mut below = 0;
            let holding = told.counts.iter().position(|count| {
                below += count;
                below > rank
            });
            let (holding, truly) = (holding.expect("a bucket"), truly[rank as usize]);
            let right = told.upper.partition_point(|upper| *upper < truly);
            seen.push(format!("{quantile}: {truly:.4} s, {} off", holding.abs_diff(right)));
            assert!(holding.abs_diff(right) <= 1, "{aggregation}: {seen:?}: {told:?}");
        }
        println!("{aggregation}: {}", seen.join("; "));
    }
}

/// What tcpdump saw of an SDK that exports over gRPC, replayed: each call is in the metrics of remote procedure calls, with its
/// messages, and in no other ones. (A capture knows no processes, so exports are told like anything else.)
#[test]
#[ignore = "live: needs root and a built sonde"]
fn remote_procedure_calls_of_a_capture() {
    const METHOD: &str = "opentelemetry.proto.collector.trace.v1.TraceService/Export";
    let _gate = gate::enter();
    let (sink, next) = (Sink::start(), servers::python(&Setting::default()));
    let app = Sdk::Go.start(&next.url(), (sink.port, "grpc"), &[]);
    let filter = format!("tcp port {}", sink.port);
    let tcpdump = Tcpdump::start(&Place::default(), "lo", &[], &filter);
    for _ in 0..5 {
        let before = sink.received().spans.len();
        let plan: Vec<Planned> = (0..8).map(|_| Planned::get(format!("/call/{}", fresh("g")))).collect();
        let calls = Client::Go.run(&app.url(), 8, &plan);
        // Two spans of each.
        sink.wait_spans(before + 2 * calls.len());
    }
    let exports = sink.received().paths.len() as u64;
    let last = format!("/last/{}", fresh("g"));
    drop(Client::Curl.run(&format!("http://127.0.0.1:{}", sink.port), 1, &[Planned::get(last.clone())]));
    let capture = tcpdump.finish(&last, 1);
    let json = capture.file.with_extension("jsonl");
    let (file, output) = (capture.file.display().to_string(), format!("json:{}", json.display()));
    let (status, _, log) = command(&["replay", &file, "--perspective", "both", "--output", &output]);
    assert_eq!(status, Some(0), "{log}");
    let spans = spans::read(&json);
    let totals = metrics::totals(&metrics::read(&json));
    let calls: Vec<&Span> = spans.iter().filter(|span| span.name == METHOD).collect();
    assert_eq!((calls.len() as u64, spans.len() as u64), (2 * exports, 2 * exports + 2), "{log}");
    for end in ["client", "server"] {
        let of = |metric: &str| -> Vec<(&Series, &Point)> {
            totals.iter().filter(|((name, ..), _)| name == metric).collect()
        };
        let durations = of(&format!("rpc.{end}.call.duration"));
        let [((_, _, labels), point)] = durations.as_slice() else { panic!("{end}: {durations:#?}") };
        let told = |key: &str| labels.get(key).map_or("", String::as_str);
        assert_eq!(
            (told("rpc.system.name"), told("rpc.method"), told("rpc.response.status_code")),
            ("grpc", METHOD, "OK")
        );
        let server = if end == "client" { sink.port.to_string() } else { String::new() };
        assert_eq!((told("server.port"), told("error.type")), (server.as_str(), ""), "{labels:?}");
        let kind = if end == "client" { Kind::Client } else { Kind::Server };
        let of_kind: Vec<Span> =
            calls.iter().filter(|span| span.kind == kind).map(|span| (*span).clone()).collect();
        assert_eq!(
            (point.count, &point.buckets),
            (exports, &buckets(&of_kind, kind, &point.bounds)),
            "{end}"
        );
        assert!(!point.exemplars.is_empty(), "{end}");
        for direction in ["sent", "received"] {
            let messages = of(&format!("sonde.rpc.{end}.{direction}.messages"));
            let counted: f64 = messages.iter().map(|(_, point)| point.sum).sum();
            assert_eq!(counted, exports as f64, "{end}, {direction}: one each way");
        }
        let http: u64 =
            of(&format!("http.{end}.request.duration")).iter().map(|(_, point)| point.count).sum();
        assert_eq!(http, 1, "{end}: curl's request alone");
    }
    println!("{exports} exports over gRPC, each one call at either end: {log}");
}
