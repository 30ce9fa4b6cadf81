//! Delivery over OTLP: a real Collector gets what the JSON output has, span by span; and a backend that does wrong costs what is
//! counted, nothing else.

use std::collections::BTreeSet;
use std::thread;
use std::time::Duration;

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair, date_time_ymd};
use sonde_tests::backends::Collector;
use sonde_tests::calls::{fresh, mixed};
use sonde_tests::clients::Client;
use sonde_tests::processes::free_port;
use sonde_tests::raw::Connection;
use sonde_tests::servers::{self, Setting};
use sonde_tests::sink::{Fault, Sink};
use sonde_tests::{Agent, Run, Span, gate, metrics, spans};

const PROTOCOLS: [&str; 3] = ["grpc", "http/protobuf", "http/json"];

#[test]
#[ignore = "live: needs root, BPF, a built sonde and a Collector"]
fn a_collector_gets_what_the_json_output_has() {
    let _gate = gate::enter();
    let server = servers::hyper(&Setting::default());
    // Every protocol with every compression, and with each way to tell metrics.
    let ways = [
        ("none", "cumulative", "explicit_bucket_histogram"),
        ("gzip", "delta", "base2_exponential_bucket_histogram"),
        ("zstd", "cumulative", "base2_exponential_bucket_histogram"),
    ];
    for protocol in PROTOCOLS {
        for (compression, temporality, aggregation) in ways {
            let what = format!("{protocol}, {compression}, {temporality}, {aggregation}");
            let folder = tempfile::TempDir::new().expect("folder");
            let collector = Collector::start(folder.path());
            let port = if protocol == "grpc" { collector.grpc } else { collector.http };
            let agent = Run::ports(&[server.port])
                .arg("--output")
                .arg("otlp")
                .env("OTEL_EXPORTER_OTLP_ENDPOINT", &format!("http://127.0.0.1:{port}"))
                .env("OTEL_EXPORTER_OTLP_PROTOCOL", protocol)
                .env("OTEL_EXPORTER_OTLP_COMPRESSION", compression)
                .env("OTEL_EXPORTER_OTLP_METRICS_TEMPORALITY_PREFERENCE", temporality)
                .env("OTEL_EXPORTER_OTLP_METRICS_DEFAULT_HISTOGRAM_AGGREGATION", aggregation)
                // So that there are several collections, the one at the end apart.
                .env("OTEL_METRIC_EXPORT_INTERVAL", "200")
                .env("SONDE_METRICS_SPAN_METRICS", "true")
                .start();
            drop(Client::Go.run(&server.url(), 8, &mixed(300)));
            let finished = agent.finish();
            // It writes what it has before it ends.
            let Collector { process, file, .. } = collector;
            let (_, log) = process.terminate();
            let mut received = spans::read(&file);
            let mut written = finished.spans;
            received.sort();
            written.sort();
            assert_eq!(written.len(), 600, "{what}: {}", finished.log);
            assert_eq!(received.len(), written.len(), "{what}: {}\nThe Collector: {log}", finished.log);
            for (received, written) in received.iter().zip(&written) {
                assert_eq!(received, written, "{what}");
            }
            let (got, told) = (metrics::items(&metrics::requests(&file)), metrics::items(&finished.metrics));
            let kind = if aggregation.starts_with("base2") { "exponential" } else { "histogram" };
            for kind in [kind, "sum temporality 2 false", " true"] {
                assert!(told.iter().any(|item| item.metric.contains(kind)), "{what}: no {kind}");
            }
            assert_eq!(got.len(), told.len(), "{what}: {}\nThe Collector: {log}", finished.log);
            for (got, told) in got.iter().zip(&told) {
                assert_eq!(got, told, "{what}");
            }
            println!(
                "{what}: the Collector wrote the same {} spans and {} data points",
                received.len(),
                got.len()
            );
        }
    }
}

/// What the summary says: spans that were exported, and spans that were lost on their way.
fn accounted(log: &str) -> (usize, usize) {
    let number = |text: &str| text.trim().split(' ').next().and_then(|n| n.parse::<usize>().ok());
    let exported = log
        .lines()
        .filter(|line| line.contains(" exported"))
        .filter_map(|line| line.split(", ").find(|part| part.contains(" exported")))
        .filter_map(number);
    let lost = log.lines().filter(|line| line.contains("(queue_full)") || line.contains("(export_failed)"));
    let lost = lost.filter_map(|line| number(line.split_once("lost: ")?.1));
    (exported.sum(), lost.sum())
}

fn ids(spans: &[Span]) -> BTreeSet<&str> {
    spans.iter().map(|span| span.id.as_str()).collect()
}

#[test]
#[ignore = "live: needs root, BPF and a built sonde"]
fn a_backend_that_does_wrong_costs_what_is_counted() {
    let _gate = gate::enter();
    let server = servers::hyper(&Setting::default());
    for protocol in PROTOCOLS {
        let port = free_port();
        let mut agent = Run::ports(&[server.port])
            .arg("--output")
            .arg("otlp")
            .env("OTEL_EXPORTER_OTLP_ENDPOINT", &format!("http://127.0.0.1:{port}"))
            .env("OTEL_EXPORTER_OTLP_PROTOCOL", protocol)
            // Long for a backend that answers, on a busy machine too: what it took in vain would be sent again.
            .env("OTEL_EXPORTER_OTLP_TIMEOUT", "2000")
            .env("OTEL_BSP_SCHEDULE_DELAY", "20")
            .env("OTEL_BSP_MAX_EXPORT_BATCH_SIZE", "64")
            // Shorter than the outages: what the queue has room for waits all the same.
            .env("OTEL_BSP_EXPORT_TIMEOUT", "2500")
            .start();
        let call = |n| {
            let mut connection = Connection::to(server.port);
            for _ in 0..n {
                connection.exchange("GET", &format!("/hello/{}", fresh("d")), "", b"");
            }
        };

        // Down at the start.
        call(100);
        agent.process.wait_line("cannot send spans");
        let now = ("retry-after", "0");
        let faults = [
            Fault::Status(503, vec![now]),
            Fault::Status(429, vec![now]),
            Fault::Status(503, vec![("retry-after", "1")]),
            Fault::Half,
            Fault::Close,
            Fault::Garbage,
            Fault::Partial(3),
            Fault::Status(400, vec![]),
            Fault::Slow(Duration::from_secs(6)),
        ];
        let first = Sink::on(port, faults);
        call(400);
        first.wait_through();
        let first = first.stop();

        // Down in the middle for several times as long as a batch may take where there is no room, and back with another
        // process behind the name.
        call(100);
        thread::sleep(Duration::from_secs(6));
        let second = Sink::on(port, []);
        call(50);
        // The end is bounded in time by OTEL_BSP_EXPORT_TIMEOUT: it is not what is shown here.
        second.wait_spans(1_300 - first.spans.len() - first.rejected - first.refused);
        let finished = agent.finish();
        let second = second.stop();

        let taken: Vec<Span> = [first.spans, second.spans].concat();
        let (exported, lost) = accounted(&finished.log);
        let told = (first.rejected + first.refused, second.rejected + second.refused);
        println!(
            "{protocol}: {} spans, {exported} exported, {lost} lost; the backends took {}, refused {told:?}\n{}",
            finished.spans.len(),
            taken.len(),
            finished.log
        );
        assert_eq!(finished.spans.len(), 1_300, "{protocol}: the other output has everything");
        assert_eq!(ids(&taken).len(), taken.len(), "{protocol}: nothing is taken twice");
        assert!(ids(&taken).is_subset(&ids(&finished.spans)), "{protocol}");
        assert_eq!((exported, lost), (taken.len(), told.0), "{protocol}: exactly what was refused is lost");
        assert_eq!(exported + lost, 1_300, "{protocol}");
    }
}

/// By how many bytes Sonde grows while twice as many requests are made as before that.
fn growth_under_load(agent: &Agent, url: &str) -> u64 {
    drop(Client::Go.run(url, 4, &mixed(1_000)));
    let before = agent.process.resident();
    drop(Client::Go.run(url, 4, &mixed(2_000)));
    agent.process.resident().saturating_sub(before)
}

/// A queue of a hundred spans before a backend that is never there.
#[test]
#[ignore = "live: needs root, BPF and a built sonde"]
fn a_dead_backend_costs_the_oldest_and_no_memory() {
    let _gate = gate::enter();
    let server = servers::hyper(&Setting::default());
    for protocol in PROTOCOLS {
        let port = free_port();
        let agent = Run::ports(&[server.port])
            .arg("--output")
            .arg("otlp")
            .env("OTEL_EXPORTER_OTLP_ENDPOINT", &format!("http://127.0.0.1:{port}"))
            .env("OTEL_EXPORTER_OTLP_PROTOCOL", protocol)
            .env("OTEL_BSP_SCHEDULE_DELAY", "20")
            .env("OTEL_BSP_MAX_QUEUE_SIZE", "100")
            .env("OTEL_BSP_EXPORT_TIMEOUT", "500")
            .start();
        let grown = growth_under_load(&agent, &server.url());
        let finished = agent.finish();
        let (exported, lost) = accounted(&finished.log);
        println!("{protocol}: {lost} lost, {grown} bytes more after twice as many");
        // How many spans there are is not the matter here: a slow build on a busy machine may lose some before.
        assert!(finished.spans.len() > 1_000, "{protocol}: {}", finished.log);
        assert_eq!((exported, lost), (0, finished.spans.len()), "{protocol}: {}", finished.log);
        // Fragments and pages that were touched late; what is lost would be thousands of spans of a KiB and more.
        assert!(grown < 3 << 20, "{protocol}: {grown} bytes");
    }
}

/// A backend that answers after ten seconds, each time: it gets what fits into the batches under way and the queue.
#[test]
#[ignore = "live: needs root, BPF and a built sonde"]
fn a_slow_backend_costs_what_is_counted_and_no_memory() {
    let _gate = gate::enter();
    let server = servers::hyper(&Setting::default());
    // Over HTTP it is the same whatever the encoding.
    for protocol in ["grpc", "http/protobuf"] {
        let port = free_port();
        let sink = Sink::on(port, [(); 64].map(|()| Fault::Late(Duration::from_secs(10))));
        let agent = Run::ports(&[server.port])
            .arg("--output")
            .arg("otlp")
            .env("OTEL_EXPORTER_OTLP_ENDPOINT", &format!("http://127.0.0.1:{port}"))
            .env("OTEL_EXPORTER_OTLP_PROTOCOL", protocol)
            .env("OTEL_EXPORTER_OTLP_TIMEOUT", "30000")
            .env("OTEL_BSP_SCHEDULE_DELAY", "20")
            .env("OTEL_BSP_MAX_QUEUE_SIZE", "200")
            .env("OTEL_BSP_MAX_EXPORT_BATCH_SIZE", "64")
            .start();
        let grown = growth_under_load(&agent, &server.url());
        let finished = agent.finish();
        let taken = sink.stop().spans;
        let (exported, lost) = accounted(&finished.log);
        println!("{protocol}: {exported} exported, {lost} lost; {grown} bytes more after twice as many");
        assert!(finished.spans.len() > 1_000, "{protocol}: {}", finished.log);
        assert_eq!(ids(&taken).len(), taken.len(), "{protocol}: nothing is taken twice");
        assert!(ids(&taken).is_subset(&ids(&finished.spans)), "{protocol}");
        assert_eq!(exported, taken.len(), "{protocol}: {}", finished.log);
        assert_eq!(exported + lost, finished.spans.len(), "{protocol}: {}", finished.log);
        assert!(lost > 0 && exported >= 200, "{protocol}: {}", finished.log);
        assert!(grown < 3 << 20, "{protocol}: {grown} bytes");
    }
}

/// A certificate that has expired is said, and what is waiting arrives once the backend has a good one.
#[test]
#[ignore = "live: needs root, BPF, a built sonde and a Collector"]
fn an_expired_certificate_is_said_and_survived() {
    let _gate = gate::enter();
    let server = servers::hyper(&Setting::default());
    let folder = tempfile::TempDir::new().expect("folder");
    let path = |name: &str| folder.path().join(name);
    let issuer = {
        let mut params = CertificateParams::new(Vec::new()).expect("parameters");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        CertifiedIssuer::self_signed(params, KeyPair::generate().expect("a key")).expect("an authority")
    };
    std::fs::write(path("ca.pem"), issuer.pem()).expect("file");
    for (name, year) in [("expired", 2001), ("good", 3001)] {
        let key = KeyPair::generate().expect("a key");
        let mut params = CertificateParams::new(vec!["127.0.0.1".to_owned()]).expect("parameters");
        params.not_after = date_time_ymd(year, 2, 3);
        let certificate = params.signed_by(&key, &issuer).expect("a certificate");
        std::fs::write(path(&format!("{name}.pem")), certificate.pem()).expect("file");
        std::fs::write(path(&format!("{name}.key")), key.serialize_pem()).expect("file");
    }
    for protocol in PROTOCOLS {
        let ports @ (grpc, http) = (free_port(), free_port());
        let port = if protocol == "grpc" { grpc } else { http };
        let with = |name: &str| {
            let (certificate, key) = (path(&format!("{name}.pem")), path(&format!("{name}.key")));
            Collector::on(folder.path(), ports, Some((&certificate, &key)))
        };
        drop(std::fs::remove_file(path("received.jsonl")));
        let expired = with("expired");
        let mut agent = Run::ports(&[server.port])
            .arg("--output")
            .arg("otlp")
            .env("OTEL_EXPORTER_OTLP_ENDPOINT", &format!("https://127.0.0.1:{port}"))
            .env("OTEL_EXPORTER_OTLP_CERTIFICATE", path("ca.pem").to_str().expect("text"))
            .env("OTEL_EXPORTER_OTLP_PROTOCOL", protocol)
            .env("OTEL_BSP_SCHEDULE_DELAY", "20")
            .start();
        drop(Client::Go.run(&server.url(), 4, &mixed(100)));
        agent.process.wait_line("cannot send spans");
        drop(expired.process.terminate());
        assert_eq!(spans::read(&path("received.jsonl")), [], "{protocol}");
        let good = with("good");
        agent.process.wait_line("takes spans again");
        drop(Client::Go.run(&server.url(), 4, &mixed(50)));
        let finished = agent.finish();
        drop(good.process.terminate());
        let is_said = |line: &str| line.contains("cannot send spans") && line.contains("expired");
        assert!(finished.log.lines().any(is_said), "{protocol}: {}", finished.log);
        let mut received = spans::read(&path("received.jsonl"));
        let mut written = finished.spans;
        received.sort();
        written.sort();
        assert_eq!(written.len(), 300, "{protocol}: {}", finished.log);
        assert!(received == written, "{protocol}: {} of 300 received: {}", received.len(), finished.log);
        assert_eq!(accounted(&finished.log), (300, 0), "{protocol}: {}", finished.log);
        println!("{protocol}: 300 spans, of which 200 waited for a good certificate");
    }
}
