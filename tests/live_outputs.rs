//! Outputs: whatever way spans leave, they are the same spans.

use std::collections::BTreeMap;

use sonde_tests::agent::command;
use sonde_tests::calls::mixed;
use sonde_tests::clients::Client;
use sonde_tests::servers::{self, Setting};
use sonde_tests::sink::Sink;
use sonde_tests::{Kind, Run, Span, gate, spans};

#[test]
#[ignore = "live: needs root, BPF and a built sonde"]
fn otlp_equals_json() {
    let _gate = gate::enter();
    let server = servers::hyper(&Setting::default());
    for (protocol, compression) in [
        ("grpc", "none"),
        ("grpc", "gzip"),
        ("http/protobuf", "zstd"),
        ("http/protobuf", "gzip"),
        ("http/json", "none"),
        ("http/json", "gzip"),
    ] {
        let what = format!("{protocol}, {compression}");
        let sink = Sink::start();
        let agent = Run::ports(&[server.port])
            .arg("--output")
            .arg("otlp")
            .env("OTEL_EXPORTER_OTLP_ENDPOINT", &format!("http://127.0.0.1:{}", sink.port))
            .env("OTEL_EXPORTER_OTLP_PROTOCOL", protocol)
            .env("OTEL_EXPORTER_OTLP_COMPRESSION", compression)
            .env("OTEL_EXPORTER_OTLP_HEADERS", "x-tenant=a%20b,authorization=Basic%20Zm9v")
            .start();
        let _calls = Client::Go.run(&server.url(), 16, &mixed(600));
        let finished = agent.finish();
        let received = sink.received();
        let (mut sent, mut written) = (received.spans, finished.spans);
        sent.sort();
        written.sort();
        assert_eq!(written.len(), 1200, "{what}: {}", finished.log);
        assert_eq!(sent.len(), written.len(), "{what}: {}", finished.log);
        for (sent, written) in sent.iter().zip(&written) {
            assert_eq!(sent, written, "{what}");
        }
        let path = if protocol == "grpc" {
            "/opentelemetry.proto.collector.trace.v1.TraceService/Export"
        } else {
            "/v1/traces"
        };
        assert!(received.paths.iter().all(|sent| sent == path), "{what}: {:?}", received.paths);
        assert_eq!(received.compressed > 0, compression != "none", "{what}: compression");
        assert_eq!(
            received.headers.get("x-tenant").map(String::as_str),
            Some("a b"),
            "{what}: {:?}",
            received.headers
        );
        println!("{what}: {} spans in {} requests", sent.len(), received.paths.len());
    }
}

/// What of a span does not depend on when its run took place and which ids it drew: all but times and ids, and its parent
/// by what it tells.
fn essence(spans: &[Span]) -> Vec<(Kind, String, BTreeMap<String, String>, String)> {
    let by_id: BTreeMap<&str, &Span> = spans.iter().map(|span| (span.id.as_str(), span)).collect();
    let mut all: Vec<_> = spans
        .iter()
        .map(|span| {
            let parent = by_id.get(span.parent.as_str());
            let parent =
                parent.map_or_else(String::new, |parent| format!("{:?} {}", parent.kind, parent.path()));
            (span.kind, span.name.clone(), span.attributes.clone(), parent)
        })
        .collect();
    all.sort();
    all
}

#[test]
#[ignore = "live: needs root, BPF and a built sonde"]
fn replay_equals_live() {
    let _gate = gate::enter();
    let service = servers::hyper(&Setting::default());
    let server = servers::gunicorn("--worker-class sync --workers 2", &Setting::calls(service.url()));
    let folder = tempfile::TempDir::new().expect("folder");
    let recording = folder.path().join("run.sonde");
    let ports = [server.port, service.port];
    for hooks in gate::hook_families() {
        drop(std::fs::remove_file(&recording));
        // Two agents side by side see the same traffic.
        let recorder = Run::record(&recording, &ports).hooks(&hooks).start();
        let agent = Run::ports(&ports).hooks(&hooks).start();
        let mut plan = mixed(150);
        plan.extend(
            (0..50).map(|_| sonde_tests::Planned::get(format!("/call/{}", sonde_tests::calls::fresh("c")))),
        );
        let calls = Client::Requests.run(&server.url(), 8, &plan);
        let live = agent.finish();
        drop(recorder.finish());
        let json = folder.path().join("replayed.jsonl");
        drop(std::fs::remove_file(&json));
        let output = format!("json:{}", json.display());
        let (status, _, err) = command(&["replay", recording.to_str().expect("text"), "--output", &output]);
        assert_eq!(status, Some(0), "{err}");
        let replayed = spans::read(&json);
        let expected = 2 * calls.len() + 2 * 50;
        assert_eq!(
            (live.spans.len(), replayed.len()),
            (expected, expected),
            "live and replayed ({hooks}): {err}"
        );
        // The two agents may learn a route one request earlier or later than each other.
        let unrouted = |spans: &[Span]| {
            let mut spans = spans.to_vec();
            for span in &mut spans {
                span.attributes.remove("http.route");
                span.name = span.name.split(' ').next().unwrap_or_default().to_owned();
            }
            essence(&spans)
        };
        for (live, replayed) in unrouted(&live.spans).iter().zip(&unrouted(&replayed)) {
            assert_eq!(replayed, live, "({hooks})");
        }
        println!("replay ({hooks}): {expected} spans, the same");
        // Both ends' spans alone, without a recording of their order: replayed twice it gives the same again.
        let again = folder.path().join("again.jsonl");
        drop(std::fs::remove_file(&again));
        let output = format!("json:{}", again.display());
        let (status, _, err) = command(&["replay", recording.to_str().expect("text"), "--output", &output]);
        assert_eq!(status, Some(0), "{err}");
        assert_eq!(essence(&spans::read(&again)), essence(&replayed), "a replay repeats");
    }
}

/// `--output console` into a pipe: plain lines, one for each span, that tell what happened.
#[test]
#[ignore = "live: needs root, BPF and a built sonde"]
fn console() {
    let _gate = gate::enter();
    let server = servers::hyper(&Setting::default());
    let folder = tempfile::TempDir::new().expect("folder");
    let file = folder.path().join("console.txt");
    let agent = Run::ports(&[server.port]).arg("--output").arg("console").stdout(&file).start();
    let calls = Client::Curl.run(&server.url(), 1, &mixed(20));
    let finished = agent.finish();
    let text = std::fs::read_to_string(&file).expect("console output");
    println!("{text}");
    assert!(!text.contains('\u{1b}'), "no colours into a file: {text}");
    for call in &calls {
        let lines =
            text.lines().filter(|line| line.contains(&call.path) && line.contains(&call.status.to_string()));
        assert_eq!(lines.count(), 2, "{} {}: {text}\nsonde said: {}", call.method, call.path, finished.log);
    }
}
