//! Backends that take long to build: Prometheus scrapes Sonde and takes its OTLP, Jaeger gives back its traces.
//! `cargo xtask test --backends` runs them.

use std::collections::{BTreeMap, BTreeSet};
use std::process::Command;

use sonde_tests::backends::{Jaeger, Prometheus, Sample, ask, comes, wait};
use sonde_tests::calls::{fresh, mixed};
use sonde_tests::clients::Client;
use sonde_tests::metrics::{Counts, buckets, of_calls};
use sonde_tests::processes::{free_port, run};
use sonde_tests::servers::{self, Setting};
use sonde_tests::sink::Sink;
use sonde_tests::{Kind, Planned, Run, Span, gate};

const SERVER: &str = "http_server_request_duration_seconds";
const CLIENT: &str = "http_client_request_duration_seconds";

/// Requests by method and status.
fn counts(samples: &[Sample]) -> Counts {
    let label = |sample: &Sample, name: &str| sample.labels.get(name).cloned().unwrap_or_default();
    let named = samples.iter().map(|sample| {
        let (method, status) =
            (label(sample, "http_request_method"), label(sample, "http_response_status_code"));
        ((method, status), sample.value as u64)
    });
    named.collect()
}

fn by_method_and_status(what: &str) -> String {
    format!("sum by (http_request_method, http_response_status_code) ({what})")
}

/// What is in each bucket, and their bounds, of a classic histogram.
fn classic(prometheus: &Prometheus, metric: &str, selector: &str) -> (Vec<f64>, Vec<u64>) {
    let mut below: Vec<(f64, u64)> = prometheus
        .query(&format!("sum by (le) ({metric}_bucket{selector})"))
        .iter()
        .map(|sample| (sample.labels["le"].parse().expect("a bound"), sample.value as u64))
        .collect();
    below.sort_by(|(a, _), (b, _)| a.total_cmp(b));
    let before = std::iter::once(0).chain(below.iter().map(|(_, count)| *count));
    let counts = below.iter().zip(before).map(|((_, count), before)| count - before).collect();
    (below.iter().map(|(bound, _)| *bound).filter(|bound| bound.is_finite()).collect(), counts)
}

/// What is in each bucket of a native histogram is what the spans say. Gives how many buckets that were.
fn check_native(prometheus: &Prometheus, spans: &[Span], kind: Kind, selector: &str) -> usize {
    let metric = if kind == Kind::Server { SERVER } else { CLIENT };
    let all = prometheus.query(&format!("sum({metric}{selector})"));
    let filled = &all.first().expect("a native histogram").buckets;
    for (above, to, count) in filled {
        let within = |span: &&Span| {
            let seconds = span.duration() as f64 / 1e9;
            span.kind == kind && seconds > *above && seconds <= *to
        };
        assert_eq!(
            *count as usize,
            spans.iter().filter(within).count(),
            "{metric}{selector}: {above} to {to}"
        );
    }
    // A quantile is in the bucket in which it truly is.
    let mut seconds: Vec<f64> =
        spans.iter().filter(|span| span.kind == kind).map(|span| span.duration() as f64 / 1e9).collect();
    seconds.sort_by(f64::total_cmp);
    for quantile in [0.5, 0.9, 0.99] {
        let told =
            prometheus.query(&format!("histogram_quantile({quantile}, sum({metric}{selector}))"))[0].value;
        // Which of two values it is between whose ranks it falls is a matter of definition.
        let rank = (quantile * seconds.len() as f64) as usize;
        let (least, most) = (seconds[rank - 1], seconds[(rank + 1).min(seconds.len() - 1)]);
        let breadth = 1.001 * filled.iter().map(|(above, to, _)| to / above).fold(1.0, f64::max);
        assert!(
            told >= least / breadth && told <= most * breadth,
            "{quantile}: {told}, not {least} to {most}"
        );
    }
    filled.len()
}

#[test]
#[ignore = "live: needs root, BPF, a built sonde and Prometheus"]
fn backends_prometheus_scrapes_and_takes_otlp() {
    let _gate = gate::enter();
    let server = servers::hyper(&Setting::default());
    // Over Protobuf with native histograms and OpenMetrics text with classic ones, beside the same over OTLP.
    for (native, protocol, compression, aggregation) in [
        (false, "http/protobuf", "gzip", "explicit_bucket_histogram"),
        (true, "http/protobuf", "none", "base2_exponential_bucket_histogram"),
    ] {
        let what = format!("native histograms: {native}");
        let folder = tempfile::TempDir::new().expect("folder");
        let (sink, listen) = (Sink::start(), free_port());
        let prometheus = Prometheus::start(folder.path(), listen, native);
        let agent = Run::ports(&[server.port])
            .arg("--listen")
            .arg(listen.to_string())
            .arg("--output")
            .arg("otlp")
            .env("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", &format!("http://127.0.0.1:{}/v1/traces", sink.port))
            .env(
                "OTEL_EXPORTER_OTLP_METRICS_ENDPOINT",
                &format!("http://127.0.0.1:{}/api/v1/otlp/v1/metrics", prometheus.port),
            )
            .env("OTEL_EXPORTER_OTLP_METRICS_PROTOCOL", protocol)
            .env("OTEL_EXPORTER_OTLP_METRICS_COMPRESSION", compression)
            .env("OTEL_EXPORTER_OTLP_METRICS_DEFAULT_HISTOGRAM_AGGREGATION", aggregation)
            .env("OTEL_METRIC_EXPORT_INTERVAL", "250")
            .start();
        let expected = of_calls(&Client::Go.run(&server.url(), 16, &mixed(900)));

        let (scraped, pushed) = (r#"{via="scrape"}"#, r#"{via=""}"#);
        for metric in [SERVER, CLIENT] {
            let mut told = vec![format!("{metric}_count{scraped}")];
            if native {
                told.push(format!("histogram_count({metric}{scraped})"));
                told.push(format!("histogram_count({metric}{pushed})"));
            } else {
                told.push(format!("{metric}_count{pushed}"));
            }
            for told in told {
                let query = by_method_and_status(&told);
                let mut last = Counts::new();
                let came = comes(|| {
                    last = counts(&prometheus.query(&query));
                    last == expected
                });
                let error = prometheus.scrape_error();
                assert!(came, "{what}: {query}: {last:?} instead of {expected:?}; {error}");
            }
        }
        assert_eq!(prometheus.scrape_error(), "", "{what}");
        let up = prometheus.query(r#"up{job="sonde"}"#);
        assert!(up.len() == 1 && up[0].value == 1.0, "{what}: {up:?}");
        // Both ways name the same processes, and tell of Sonde itself.
        let instances = |selector: &str| -> BTreeSet<String> {
            let told = prometheus.query(&format!("count by (job, instance) ({SERVER}_count{selector})"));
            told.iter().map(|sample| format!("{:?}", sample.labels)).collect()
        };
        if !native {
            assert_eq!(instances(scraped), instances(pushed), "{what}");
        }
        for selector in [scraped, pushed] {
            let own = prometheus.query(&format!("sonde_spans_total{selector}"));
            assert!(own.iter().any(|sample| sample.labels["job"] == "sonde"), "{what}: {own:?}");
            let described = prometheus.query(&format!("target_info{selector}"));
            let has = |sample: &Sample| sample.labels.contains_key("process_pid");
            assert!(described.iter().any(has), "{what}: {described:?}");
        }
        let exemplars = prometheus.exemplars(&format!(r#"{{__name__=~"{SERVER}.*"}}"#));

        // What is scraped is what the tool for it finds right.
        let (status, text) = ask(listen, "/metrics");
        assert_eq!(status, 200);
        let mut promtool = Command::new(gate::backend("SONDE_TEST_PROMTOOL"));
        let (status, out, err) = run("promtool", promtool.args(["check", "metrics"]), &text);
        assert!(status.success() && err.is_empty(), "promtool: {status} {out}{err}\n{text}");

        // Queries come first: when Sonde ends, what was scraped is stale.
        let told: Vec<_> = [SERVER, CLIENT]
            .map(|metric| {
                // Over OTLP exponential histograms are native ones alone.
                let selectors = if native { &[scraped][..] } else { &[scraped, pushed] };
                selectors.iter().map(|selector| classic(&prometheus, metric, selector)).collect::<Vec<_>>()
            })
            .into();
        wait("the spans", || agent.spans().len() == 1_800);
        let spans = agent.spans();
        let filled = if native {
            let both = [Kind::Server, Kind::Client];
            let ways = [scraped, pushed];
            let all =
                both.iter().flat_map(|kind| ways.map(|way| check_native(&prometheus, &spans, *kind, way)));
            all.collect()
        } else {
            Vec::new()
        };
        let finished = agent.finish();
        assert_eq!(finished.spans.len(), 1_800, "{what}: {}", finished.log);
        for (kind, told) in [Kind::Server, Kind::Client].into_iter().zip(told) {
            for (bounds, counts) in told {
                assert_eq!(counts, buckets(&finished.spans, kind, &bounds), "{what}, {kind:?}");
            }
        }
        let ids: BTreeMap<&str, &str> =
            finished.spans.iter().map(|span| (span.id.as_str(), span.trace.as_str())).collect();
        assert!(!exemplars.is_empty(), "{what}: no exemplar");
        for exemplar in &exemplars {
            let trace = ids.get(exemplar["span_id"].as_str());
            assert_eq!(trace, Some(&exemplar["trace_id"].as_str()), "{what}: {exemplar:?}");
        }
        println!(
            "{what}: 900 requests at both ends, scraped and by OTLP, in every bucket{}; {} exemplars",
            if native { format!(" of {filled:?} filled") } else { String::new() },
            exemplars.len()
        );
    }
}

#[test]
#[ignore = "live: needs root, BPF, a built sonde and Jaeger"]
fn backends_jaeger_gives_back_the_traces() {
    let _gate = gate::enter();
    let service = servers::hyper(&Setting::default());
    let server = servers::gunicorn("--worker-class sync --workers 2", &Setting::calls(service.url()));
    for (protocol, compression) in [("grpc", "none"), ("http/protobuf", "gzip"), ("http/json", "none")] {
        let what = format!("{protocol}, {compression}");
        let folder = tempfile::TempDir::new().expect("folder");
        let jaeger = Jaeger::start(folder.path());
        let port = if protocol == "grpc" { jaeger.grpc } else { jaeger.http };
        let agent = Run::ports(&[server.port, service.port])
            .arg("--output")
            .arg("otlp")
            .env("OTEL_METRICS_EXPORTER", "none")
            .env("OTEL_EXPORTER_OTLP_ENDPOINT", &format!("http://127.0.0.1:{port}"))
            .env("OTEL_EXPORTER_OTLP_PROTOCOL", protocol)
            .env("OTEL_EXPORTER_OTLP_COMPRESSION", compression)
            .start();
        let plan: Vec<Planned> =
            (0..100).map(|_| Planned::get(format!("/call/{}", fresh("j")))).chain(mixed(100)).collect();
        drop(Client::Requests.run(&server.url(), 4, &plan));
        let finished = agent.finish();
        assert_eq!(finished.spans.len(), 600, "{what}: {}", finished.log);

        let services: BTreeSet<&str> =
            finished.spans.iter().map(|span| span.resource["service.name"].as_str()).collect();
        let known = jaeger.services();
        assert!(services.iter().all(|name| known.iter().any(|known| known == name)), "{what}: {known:?}");
        let mut traces: BTreeMap<&str, Vec<&Span>> = BTreeMap::new();
        for span in &finished.spans {
            traces.entry(&span.trace).or_default().push(span);
        }
        for (id, spans) in &traces {
            let mut kept = jaeger.trace(id);
            let mut written: Vec<Span> = spans.iter().map(|&span| span.clone()).collect();
            kept.sort();
            written.sort();
            assert_eq!(kept, written, "{what}");
        }
        let largest = traces.values().map(Vec::len).max();
        assert!(largest >= Some(4), "{what}: {largest:?}");
        println!(
            "{what}: Jaeger gave back {} traces, the same 600 spans; services {services:?}",
            traces.len()
        );
    }
}
