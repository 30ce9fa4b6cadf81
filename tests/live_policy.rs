//! What leaves and what does not: sampling, routes, secrets, excluded paths, and what SIGHUP changes of it.

use std::collections::BTreeSet;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::process::Command;
use std::thread;

use rustix::process::Signal;
use sonde_tests::backends::wait;
use sonde_tests::processes::{free_port, run};
use sonde_tests::raw::{self, Connection};
use sonde_tests::sink::Sink;
use sonde_tests::{Kind, Run, Span, gate, metrics};

/// What no output may hold.
const SECRET: &str = "S3CR3Tvalue";

/// A server that answers everything: 404 where the path begins with `/missing`, else 200, with headers that hold secrets.
fn serve() -> u16 {
    let (listener, port) = raw::listen();
    thread::spawn(move || {
        for stream in listener.incoming() {
            let mut connection = Connection::over(stream.expect("a connection"));
            thread::spawn(move || {
                while let Ok(head) = connection.read_request() {
                    let status = if head.contains(" /missing") { "404 Not Found" } else { "200 OK" };
                    let answer = format!(
                        "HTTP/1.1 {status}\r\nContent-Length: 2\r\nContent-Type: text/plain\r\nSet-Cookie: id={SECRET}\r\n\
                         Location: https://u:{SECRET}@h/next?code={SECRET}#{SECRET}\r\n\r\nok"
                    );
                    if connection.write(answer.as_bytes()).is_err() {
                        return;
                    }
                }
            });
        }
    });
    port
}

fn write(path: &Path, text: &str) -> String {
    std::fs::write(path, text).expect("the configuration");
    path.display().to_string()
}

fn of(spans: &[Span], kind: Kind) -> Vec<&Span> {
    spans.iter().filter(|span| span.kind == kind).collect()
}

#[test]
#[ignore = "live: needs root, BPF and a built sonde"]
fn nothing_secret_leaves() {
    let _gate = gate::enter();
    let folder = tempfile::TempDir::new().expect("folder");
    let captured = "privacy:
  headers:
    request: [referer, x-request-id, origin]
    response: [location, content-type]
";
    for configuration in ["", captured] {
        let port = serve();
        let (sink, listen) = (Sink::start(), free_port());
        let console = folder.path().join("console.txt");
        let config = write(&folder.path().join("sonde.yaml"), configuration);
        let agent = Run::ports(&[port])
            .arg("--config")
            .arg(config)
            .arg("--output")
            .arg("console")
            .arg("--output")
            .arg("otlp")
            .arg("--listen")
            .arg(listen.to_string())
            .arg("--log")
            .arg("trace")
            .env("OTEL_EXPORTER_OTLP_ENDPOINT", &format!("http://127.0.0.1:{}", sink.port))
            .env("OTEL_EXPORTER_OTLP_HEADERS", &format!("authorization={SECRET}"))
            .stdout(&console)
            .start();
        let mut connection = Connection::to(port);
        let headers = format!(
            "Authorization: Bearer {SECRET}\r\nProxy-Authorization: Basic {SECRET}\r\nCookie: sid={SECRET}; a=b\r\n\
             X-Api-Key: {SECRET}\r\nX-Request-Id: visible-7\r\n\
             Referer: http://u:{SECRET}@h/back?q={SECRET}&r={SECRET}#{SECRET}\r\nOrigin: https://{SECRET}@h\r\n\
             Baggage: user={SECRET}\r\n"
        );
        for target in [
            format!("/items?token={SECRET}&page=2"),
            format!("/items?{SECRET}0af7651916cd43dd"),
            format!("/items;jsessionid={SECRET}/x"),
            format!("http://user:{SECRET}@127.0.0.1:{port}/absolute?a={SECRET}"),
            format!("/items?sig={SECRET}&X-Amz-Signature={SECRET}#{SECRET}"),
        ] {
            connection.exchange("GET", &target, &headers, b"");
            connection.exchange("POST", &target, &headers, format!("password={SECRET}").as_bytes());
        }
        drop(connection);
        let native =
            "application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;encoding=delimited";
        let mut scraped = Vec::new();
        wait("ten requests at both ends", || {
            scraped = ["text/plain", "application/openmetrics-text", native]
                .map(|kind| scrape(listen, kind))
                .into();
            let counted = metrics::samples(&scraped[0]).into_iter().filter(|(name, ..)| {
                name.starts_with("http_") && name.ends_with("_request_duration_seconds_count")
            });
            counted.map(|(.., value)| value).sum::<f64>() == 20.0
        });
        assert!(
            scraped.iter().all(|text| text.contains("http_client_request_duration_seconds")),
            "{scraped:?}"
        );
        let finished = agent.finish();
        let received = sink.received();
        assert!(!received.metrics.is_empty() && !finished.metrics.is_empty(), "{}", finished.log);
        let console = std::fs::read_to_string(&console).expect("console output");
        assert_eq!((finished.spans.len(), received.spans.len()), (20, 20), "{}", finished.log);
        for (output, text) in [
            ("json", format!("{:?}", finished.spans)),
            ("metrics as json", format!("{:?}", finished.metrics)),
            ("otlp", format!("{:?}", received.spans)),
            ("metrics over otlp", format!("{:?}", received.metrics)),
            ("scrapes", scraped.join("\n")),
            ("console", console.clone()),
            ("log", finished.log.clone()),
        ] {
            assert!(!text.contains(SECRET), "{output} holds the secret: {text}");
        }
        // What may be said is said.
        let served = of(&finished.spans, Kind::Server);
        assert!(served.iter().any(|span| span.attribute("url.query") == "token=REDACTED&page=REDACTED"));
        assert!(served.iter().any(|span| span.attribute("url.path") == "/items;jsessionid=REDACTED/x"));
        let full = format!("http://REDACTED:REDACTED@127.0.0.1:{port}/absolute?a=REDACTED");
        assert!(of(&finished.spans, Kind::Client).iter().any(|span| span.attribute("url.full") == full));
        assert!(console.contains("/items"), "{console}");
        for span in &finished.spans {
            let header = |name: &str| span.attribute(name).to_owned();
            if configuration.is_empty() {
                assert!(!span.attributes.keys().any(|key| key.contains(".header.")), "{span:?}");
                continue;
            }
            assert!(header("http.request.header.x-request-id").contains("visible-7"), "{span:?}");
            assert!(
                header("http.request.header.referer").contains("/back?q=REDACTED&r=REDACTED"),
                "{span:?}"
            );
            assert!(
                header("http.response.header.location").contains("REDACTED@h/next?code=REDACTED"),
                "{span:?}"
            );
            assert!(header("http.response.header.content-type").contains("text/plain"), "{span:?}");
        }
    }
}

/// The text of a scrape; of what is no text at least the names and values.
fn scrape(port: u16, accept: &str) -> String {
    let mut connection = TcpStream::connect(("127.0.0.1", port)).expect("the listener");
    write!(connection, "GET /metrics HTTP/1.0\r\nHost: sonde\r\nAccept: {accept}\r\n\r\n")
        .expect("a request");
    let mut bytes = Vec::new();
    connection.read_to_end(&mut bytes).expect("an answer");
    let text = String::from_utf8_lossy(&bytes).into_owned();
    assert!(text.contains("200 OK"), "{accept}: {text}");
    text
}

/// Credentials for backends are shown by nobody who is asked for the configuration.
#[test]
#[ignore = "live: needs root, BPF and a built sonde"]
fn configured_secrets_are_masked() {
    let _gate = gate::enter();
    for args in [&["config", "print", "--output", "otlp"][..], &["doctor"], &["doctor", "--json"]] {
        let mut sonde = Command::new(gate::sonde_path());
        sonde.args(args).env("OTEL_EXPORTER_OTLP_ENDPOINT", format!("http://user:{SECRET}@127.0.0.1:1"));
        sonde.env("OTEL_EXPORTER_OTLP_HEADERS", format!("authorization=Bearer {SECRET},x-tenant=acme"));
        let (_, out, err) = run("sonde", &mut sonde, "");
        assert!(out.contains("127.0.0.1:1"), "{args:?}: {out}{err}");
        assert!(!out.contains(SECRET) && !err.contains(SECRET), "{args:?}: {out}{err}");
    }
}

/// The trace ids that SDKs sample at a quarter, and their decision.
fn planned(count: u64) -> Vec<(String, bool)> {
    let share = (0.25 * 9_223_372_036_854_775_808.0) as u64;
    (1..=count)
        .map(|n| {
            let low = n.wrapping_mul(0x9e37_79b9_7f4a_7c15);
            (format!("{n:016x}{low:016x}"), low >> 1 < share)
        })
        .collect()
}

#[test]
#[ignore = "live: needs root, BPF and a built sonde"]
fn a_share_of_the_traces_with_both_their_ends() {
    let _gate = gate::enter();
    let port = serve();
    let agent = Run::ports(&[port])
        .env("OTEL_TRACES_SAMPLER", "traceidratio")
        .env("OTEL_TRACES_SAMPLER_ARG", "0.25")
        .start();
    let plan = planned(400);
    let mut connection = Connection::to(port);
    for (n, (trace, _)) in plan.iter().enumerate() {
        // The flag that came with it says nothing to this sampler.
        let header = format!("traceparent: 00-{trace}-00000000000000{:02x}-0{}\r\n", n % 250 + 1, n % 2);
        connection.exchange("GET", &format!("/items/{n}"), &header, b"");
    }
    drop(connection);
    let finished = agent.finish();
    let expected: BTreeSet<&str> =
        plan.iter().filter(|(_, sampled)| *sampled).map(|(trace, _)| trace.as_str()).collect();
    for kind in [Kind::Client, Kind::Server] {
        let exported: BTreeSet<&str> =
            of(&finished.spans, kind).iter().map(|span| span.trace.as_str()).collect();
        assert_eq!(exported, expected, "{kind:?}: {}", finished.log);
    }
    assert_eq!(finished.spans.len(), 2 * expected.len());
    assert!(finished.spans.iter().all(|span| span.flags & 1 == 1));
    let counted = format!("{} spans, {} more not sampled", finished.spans.len(), 800 - finished.spans.len());
    assert!(finished.log.contains(&counted), "{counted}: {}", finished.log);
    println!("{counted}");
}

#[test]
#[ignore = "live: needs root, BPF and a built sonde"]
fn the_parents_decision_is_followed_in_any_format_that_is_named() {
    let _gate = gate::enter();
    let port = serve();
    let agent = Run::ports(&[port]).env("OTEL_PROPAGATORS", "tracecontext,baggage,b3,b3multi,jaeger").start();
    let mut connection = Connection::to(port);
    let trace = |n: u32| format!("{n:032x}");
    for (n, header, _) in formats(trace) {
        connection.exchange("GET", &format!("/items/{n}"), &header, b"");
    }
    drop(connection);
    let finished = agent.finish();
    for (n, header, sampled) in formats(trace) {
        let spans: Vec<_> = finished.spans.iter().filter(|span| span.trace == trace(n)).collect();
        assert_eq!(spans.len(), if sampled { 2 } else { 0 }, "{header}: {}", finished.log);
    }
    assert_eq!(finished.spans.len(), 8, "{}", finished.log);
}

/// Requests in each format, sampled and not.
fn formats(trace: impl Fn(u32) -> String) -> Vec<(u32, String, bool)> {
    let mut all = Vec::new();
    for sampled in [true, false] {
        let bit = u8::from(sampled);
        let base = if sampled { 1 } else { 11 };
        let span = |n: u32| format!("{n:016x}");
        let headers = [
            format!("traceparent: 00-{}-{}-0{bit}\r\n", trace(base), span(base)),
            format!("b3: {}-{}-{bit}\r\n", trace(base + 1), span(base + 1)),
            format!(
                "X-B3-TraceId: {}\r\nX-B3-SpanId: {}\r\nX-B3-Sampled: {bit}\r\n",
                trace(base + 2),
                span(base + 2)
            ),
            format!("uber-trace-id: {:x}:{:x}:0:{bit}\r\n", base + 3, base + 3),
        ];
        all.extend(headers.into_iter().zip(base..).map(|(header, n)| (n, header, sampled)));
    }
    all
}

#[test]
#[ignore = "live: needs root, BPF and a built sonde"]
fn routes_and_excluded_paths_before_and_after_sighup() {
    let _gate = gate::enter();
    let folder = tempfile::TempDir::new().expect("folder");
    let file = folder.path().join("sonde.yaml");
    let config = write(&file, "hooks: auto\n");
    let port = serve();
    let mut agent = Run::ports(&[port]).arg("--config").arg(config).start();
    let mut connection = Connection::to(port);
    let mut round = |agent: &str| {
        for n in 0..20 {
            connection.exchange("GET", &format!("/users/{}/orders/{n}", 1000 + n), "", b"");
            connection.exchange("GET", "/healthz", "", b"");
            connection.exchange("GET", &format!("/missing/{agent}{n}"), "", b"");
        }
    };
    round("first");
    // The first round is decided: its spans are written once they all are.
    let deadline = std::time::Instant::now() + sonde_tests::processes::PATIENCE;
    while agent.spans().len() < 80 && std::time::Instant::now() < deadline {
        thread::yield_now();
    }
    write(&file, "privacy: {excluded_paths: [/users/*]}\nroutes: {patterns: {'*': ['/missing/{what}']}}\n");
    agent.process.signal(Signal::HUP);
    agent.process.wait_line("read ");
    round("second");
    write(&file, "privacy: {excluded: []}\n");
    agent.process.signal(Signal::HUP);
    agent.process.wait_line("the configuration stays as it was");
    drop(connection);
    let finished = agent.finish();
    let served = of(&finished.spans, Kind::Server);
    let count = |name: &str| served.iter().filter(|span| span.name == name).count();
    let paths = |path: &str| served.iter().filter(|span| span.path().starts_with(path)).count();
    assert_eq!((paths("/users/"), paths("/healthz"), paths("/missing/")), (20, 20, 40), "{}", finished.log);
    // The words on the way are names once they have come a few times.
    let learned = count("GET /users/{id}/orders/{id}");
    assert!((12..=20).contains(&learned), "{learned}");
    assert_eq!((count("GET /missing/{what}"), count("GET")), (20, 60 - learned - count("GET /healthz")));
    let templates = served.iter().filter(|span| !span.attribute("http.route").is_empty());
    assert!(templates.clone().all(|span| span.name == format!("GET {}", span.attribute("http.route"))));
    assert!(of(&finished.spans, Kind::Client).iter().all(|span| span.name == "GET"));
    assert!(finished.log.contains("privacy.excluded: there is no such key"), "{}", finished.log);
}

/// Other targets of any kind from SIGHUP on, for connections that are open already as well.
#[test]
#[ignore = "live: needs root, BPF and a built sonde"]
fn other_targets_after_sighup() {
    let _gate = gate::enter();
    let folder = tempfile::TempDir::new().expect("folder");
    let file = folder.path().join("sonde.yaml");
    let (one, two) = (serve(), serve());
    let own = std::process::id();
    let rounds: [(String, &[u16]); 6] = [
        (format!("{{ports: [{one}]}}"), &[one]),
        (format!("{{ports: [{two}]}}"), &[two]),
        (format!("{{pids: [{own}]}}"), &[one, two]),
        ("{exes: [no-such-program]}".to_owned(), &[]),
        ("{}".to_owned(), &[one, two]),
        (format!("{{ports: [{one}], services: [no-such-*]}}"), &[one]),
    ];
    for hooks in gate::hook_families() {
        let write = |targets: &str| write(&file, &format!("targets: {targets}\n"));
        let mut agent = Run::bare("run").hooks(&hooks).arg("--config").arg(write(&rounds[0].0)).start();
        let mut old = [one, two].map(Connection::to);
        let mut expected = BTreeSet::new();
        for (round, (targets, observed)) in rounds.iter().enumerate() {
            if round > 0 {
                write(targets);
                agent.process.signal(Signal::HUP);
                agent.process.wait_line("read ");
            }
            for (port, old) in [one, two].into_iter().zip(&mut old) {
                let mut fresh = Connection::to(port);
                for n in 0..10 {
                    let path = format!("/{round}/{port}/{n}");
                    (if n % 2 == 0 { &mut fresh } else { &mut *old }).exchange("GET", &path, "", b"");
                    if observed.contains(&port) {
                        expected.insert((Kind::Server, path.clone()));
                        expected.insert((Kind::Client, path));
                    }
                }
            }
            // Records that are still on their way would not be wanted any more.
            wait("the spans", || {
                agent.spans().iter().filter(|span| span.pid() == own).count() >= expected.len()
            });
        }
        drop(old);
        let finished = agent.finish();
        let spans: Vec<_> = finished
            .spans
            .iter()
            .filter(|span| span.pid() == own)
            .map(|span| (span.kind, span.path().to_owned()))
            .collect();
        assert_eq!(spans.len(), expected.len(), "{hooks}: each once: {}", finished.log);
        assert_eq!(BTreeSet::from_iter(spans), expected, "{hooks}: {}", finished.log);
        assert!(!finished.log.contains("next start"), "{hooks}: {}", finished.log);
        println!("{hooks}: {} spans of {} rounds", expected.len(), rounds.len());
    }
}

#[test]
#[ignore = "live: needs root, BPF and a built sonde"]
fn limits_and_older_names() {
    let _gate = gate::enter();
    let port = serve();
    let agent = Run::ports(&[port])
        .env("OTEL_ATTRIBUTE_VALUE_LENGTH_LIMIT", "9")
        .env("OTEL_SEMCONV_STABILITY_OPT_IN", "http/dup")
        .env("OTEL_SPAN_ATTRIBUTE_COUNT_LIMIT", "24")
        .start();
    let mut connection = Connection::to(port);
    connection.exchange("GET", "/a-long-path-to-somewhere?x=1", "User-Agent: a-long-agent/1.0\r\n", b"");
    drop(connection);
    let finished = agent.finish();
    let server = of(&finished.spans, Kind::Server);
    assert_eq!(server[0].attribute("url.path"), "/a-long-p");
    assert_eq!(server[0].attribute("user_agent.original"), "a-long-ag");
    assert_eq!(server[0].attribute("http.method"), "GET");
    assert_eq!(server[0].attribute("http.status_code"), "200");
    assert!(finished.spans.iter().all(|span| span.attributes.len() == 24), "{:?}", finished.spans);
}
