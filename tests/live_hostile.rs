//! Bad input: nothing that arrives on an observed port ends Sonde, makes it grow, or becomes a span of what did not happen.

use std::collections::BTreeSet;
use std::net::TcpStream;

use sonde_tests::calls::fresh;
use sonde_tests::compare::Report;
use sonde_tests::processes::Process;
use sonde_tests::raw::{Connection, listen, noise, now, serve, told};
use sonde_tests::servers::{self, Server, Setting};
use sonde_tests::{Call, Finished, Kind, Run, Span, gate};

/// Ordinary requests, to show that Sonde still sees what follows.
fn good(server: &Server) -> Vec<Call> {
    let mut connection = Connection::to(server.port);
    (0..20).map(|_| connection.exchange("GET", &format!("/hello/{}", fresh("o")), "", b"")).collect()
}

fn check(what: &str, server: &Server, calls: &[Call], finished: &Finished) {
    let mut report = Report::default();
    report.both_ends(server.port, calls, &finished.spans);
    report.check(what, &finished.log);
}

fn grown(what: &str, before: u64, process: &Process, limit: u64) {
    let grown = process.resident().saturating_sub(before);
    println!("{what}: sonde grew by {} KiB from {} KiB", grown >> 10, before >> 10);
    assert!(grown < limit, "{what}: sonde grew by {grown} bytes");
}

/// Bytes that are not a whole request of HTTP/1, each with a reason to be mistaken for one.
fn hostile() -> Vec<Vec<u8>> {
    let mut all: Vec<Vec<u8>> = (0..40).map(|seed| noise(seed * 7919 + 1, 50 + 97 * seed as usize)).collect();
    let texts = [
        "GET",
        "GET ",
        "GET /truncated HTTP/1.1",
        "GET /truncated HTTP/1.1\r\nHost: a\r\nX: unfinished",
        "get /lower HTTP/1.1\r\n\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n",
        "HTTP/1.1 2000 OK\r\n\r\n",
        "\r\n\r\n\r\n",
        "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        "HELO mail.test\r\n",
        "*1\r\n$4\r\nPING\r\n",
        "\x16\x03\x01\x02\x00\x01\x00\x01\u{1}\u{3}\u{3}",
        "GET /x FTP/1.1\r\nHost: a\r\n\r\n",
        "GETGETGETGETGETGETGETGETGETGETGETGETGETGET / HTTP/1.1\r\n\r\n",
        "\0\0\0\0GET / HTTP/1.1\r\n\r\n",
    ];
    all.extend(texts.iter().map(|text| text.as_bytes().to_vec()));
    all.push([b"HTTP/1.1 200 OK\r\nX: ".to_vec(), noise(99, 3000)].concat());
    all.push(vec![b'A'; 100_000]);
    all
}

#[test]
#[ignore = "live: needs root, BPF and a built sonde"]
fn garbage_in_both_directions() {
    garbage(&gate::hook_families());
}

/// What is no request to the letter, and is answered: it happened, so it has both its spans, and the answer's status.
#[test]
#[ignore = "live: needs root, BPF and a built sonde"]
fn malformed_and_answered() {
    let _gate = gate::enter();
    let server = servers::hyper(&Setting::default());
    for hooks in gate::hook_families() {
        let agent = Run::ports(&[server.port]).hooks(&hooks).start();
        // More than one space between the words of a request line: read by words, as RFC 9112, section 3, allows.
        let path = format!("/two-spaces/{}", fresh("g"));
        let mut connection = Connection::to(server.port);
        connection.write(format!("GET  {path} HTTP/1.1\r\nHost: a\r\n\r\n").as_bytes()).expect("written");
        let answer = connection.read_answer("GET", 4096).expect("an answer");
        drop(connection);
        let calls = good(&server);
        let mut finished = agent.finish();
        let (own, rest): (Vec<Span>, Vec<Span>) =
            finished.spans.into_iter().partition(|span| span.path() == path);
        let kinds: BTreeSet<Kind> = own.iter().map(|span| span.kind).collect();
        assert_eq!((own.len(), kinds.len()), (2, 2), "{hooks}: {own:?}\nsonde said: {}", finished.log);
        for span in &own {
            assert_eq!(span.attribute("http.response.status_code"), answer.status.to_string(), "{span:?}");
        }
        finished.spans = rest;
        check(&format!("beside what is malformed ({hooks})"), &server, &calls, &finished);
    }
}

/// Garbage makes no span, and harms no other connection. What begins like a request and goes on as none, or ends before its
/// head does, is garbage too: nobody can have answered it.
fn garbage(families: &[String]) {
    let _gate = gate::enter();
    let server = servers::hyper(&Setting::default());
    let (listener, port) = listen();
    for hooks in families {
        let agent = Run::ports(&[server.port, port]).hooks(hooks).start();
        let before = agent.process.resident();
        let inputs = hostile();
        let handlers = inputs.iter().rev().map(|answer| {
            let answer = answer.clone();
            let handler: Box<dyn FnOnce(Connection) + Send> = Box::new(move |mut connection| {
                // The client may have gone by then.
                drop(connection.write(&answer));
                connection.finish_writing();
                drop(connection.read_rest());
            });
            handler
        });
        let echo = serve(listener.try_clone().expect("listener"), handlers.collect());
        for input in &inputs {
            let mut connection = Connection::to(port);
            connection.write(input).expect("written");
            connection.finish_writing();
            drop(connection.read_rest());
        }
        echo.join().expect("server");
        let calls = good(&server);
        grown(&format!("garbage ({hooks})"), before, &agent.process, 8 << 20);
        let finished = agent.finish();
        check(&format!("after garbage ({hooks})"), &server, &calls, &finished);
    }
}

/// Requests whose framing contradicts itself: each happened, so it may have a span, but no other may appear.
#[test]
#[ignore = "live: needs root, BPF and a built sonde"]
fn contradictory_framing() {
    let _gate = gate::enter();
    let server = servers::hyper(&Setting::default());
    let (listener, port) = listen();
    let agent = Run::ports(&[server.port, port]).start();
    let headers = [
        "Content-Length: -1\r\n",
        "Content-Length: 99999999999999999999999\r\n",
        "Content-Length: 5\r\nContent-Length: 6\r\n",
        "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n",
        "Transfer-Encoding: chunked, identity\r\n",
        "Transfer-Encoding: chunked\r\n: no name\r\n",
        "No colon here\r\n",
        "X: a\r\n folded\r\n",
        "Transfer-Encoding: chunked\r\nX: \u{1}\u{2}\r\n",
    ];
    let handlers = headers.iter().map(|_| {
        let handler: Box<dyn FnOnce(Connection) + Send> = Box::new(|mut connection| {
            drop(connection.write(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n"));
            connection.finish_writing();
            drop(connection.read_rest());
        });
        handler
    });
    let own = serve(listener, handlers.collect());
    for (index, lines) in headers.iter().enumerate() {
        let mut connection = Connection::to(port);
        let text = connection.head("POST", &format!("/hostile/{index}"), lines, 0);
        connection.write(text.as_bytes()).expect("written");
        connection.write(b"FFFFFFFFFFFFFFFFF\r\nGET /smuggled HTTP/1.1\r\n\r\n-5\r\n").expect("written");
        drop(connection.read_answer("POST", 4096));
    }
    own.join().expect("server");
    let calls = good(&server);
    let mut finished = agent.finish();
    finished.spans.retain(|span| {
        let hostile = span.path().starts_with("/hostile/");
        if hostile {
            assert_eq!(span.attribute("http.request.method"), "POST", "{span:?}");
        }
        !hostile
    });
    check("after contradictory framing", &server, &calls, &finished);
}

#[test]
#[ignore = "live: needs root, BPF and a built sonde"]
fn ten_thousand_silent_connections() {
    let _gate = gate::enter();
    let server = servers::hyper(&Setting::default());
    for hooks in gate::hook_families() {
        let agent = Run::ports(&[server.port]).hooks(&hooks).start();
        let mut calls = good(&server);
        let before = agent.process.resident();
        for _ in 0..100 {
            for _ in 0..100 {
                drop(TcpStream::connect(("127.0.0.1", server.port)).expect("connected"));
            }
            // An exchange behind them, so that the server's queue of connections never overflows.
            let path = format!("/hello/{}", fresh("o"));
            calls.push(Connection::to(server.port).exchange("GET", &path, "Connection: close\r\n", b""));
        }
        calls.extend(good(&server));
        grown(&format!("10,000 silent connections ({hooks})"), before, &agent.process, 4 << 20);
        check(&format!("silent connections ({hooks})"), &server, &calls, &agent.finish());
    }
}

#[test]
#[ignore = "live: needs root, BPF and a built sonde"]
fn heads_without_measure() {
    let _gate = gate::enter();
    let server = servers::hyper(&Setting::default());
    let (listener, port) = listen();
    for hooks in gate::hook_families() {
        let agent = Run::ports(&[server.port, port]).hooks(&hooks).start();
        let before = agent.process.resident();
        let sizes: [usize; 4] = [2_000, 20_000, 60_000, 10_000_000];
        let handlers = sizes.iter().map(|&size| {
            let handler: Box<dyn FnOnce(Connection) + Send> = Box::new(move |mut connection| {
                connection.skip_request(size).expect("the whole request");
                connection.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok").expect("written");
            });
            handler
        });
        let own = serve(listener.try_clone().expect("listener"), handlers.collect());
        let mut calls = Vec::new();
        for size in sizes {
            let mut connection = Connection::to(port);
            let path = format!("/long/{}", fresh("h"));
            let start = now();
            let frame = connection.head("GET", &path, "X-Padding: \r\n", 0).len();
            let filled = format!("X-Padding: {}\r\n", "p".repeat(size - frame));
            let text = connection.head("GET", &path, &filled, 0);
            connection.write(text.as_bytes()).expect("written");
            let answer = connection.read_answer("GET", 4096).expect("answered");
            calls.push(told("GET", &path, 0, answer, start));
        }
        own.join().expect("server");
        grown(&format!("a head of 10 MB ({hooks})"), before, &agent.process, 8 << 20);
        let after = good(&server);
        let mut finished = agent.finish();
        let (mut long, rest): (Vec<Span>, Vec<Span>) =
            finished.spans.into_iter().partition(|span| span.path().starts_with("/long/"));
        let beyond = &calls.last().expect("the longest").path;
        for span in long.iter_mut().filter(|span| span.path() == beyond) {
            assert_eq!(span.attributes.remove("sonde.quality").as_deref(), Some("truncated"), "{span:?}");
        }
        finished.spans = long;
        let mut report = Report::default();
        report.both_ends(port, &calls, &finished.spans);
        report.check(&format!("long heads ({hooks})"), &finished.log);
        finished.spans = rest;
        check(&format!("after long heads ({hooks})"), &server, &after, &finished);
    }
}

const TRACE: &str = "0af7651916cd43dd8448eb211c80319c";

#[test]
#[ignore = "live: needs root, BPF and a built sonde"]
fn malformed_traceparents() {
    let _gate = gate::enter();
    let server = servers::hyper(&Setting::default());
    let bad = [
        String::new(),
        "00".into(),
        format!("00-{TRACE}"),
        format!("00-{TRACE}-b7ad6b7169203331"),
        format!("00-{TRACE}-b7ad6b7169203331-0"),
        format!("00-{TRACE}-b7ad6b7169203331-01-more"),
        format!("00-{TRACE}-b7ad6b7169203331-01."),
        format!("ff-{TRACE}-b7ad6b7169203331-01"),
        format!("0x-{TRACE}-b7ad6b7169203331-01"),
        format!("00-{}-b7ad6b7169203331-01", TRACE.to_uppercase()),
        format!("00-{TRACE}-B7AD6B7169203331-01"),
        format!("00-{TRACE}-0000000000000000-01"),
        "00-00000000000000000000000000000000-b7ad6b7169203331-01".into(),
        format!("00-{}g-b7ad6b7169203331-01", &TRACE[1..]),
        format!("00_{TRACE}_b7ad6b7169203331_01"),
        format!("00-{TRACE}-b7ad6b7169203331-zz"),
        format!("cc-{TRACE}-b7ad6b7169203331-01more"),
        format!("00-{TRACE}-b7ad6b7169203331-01\r\ntraceparent: 00-{TRACE}-b7ad6b7169203332-01"),
        "x".repeat(5000),
    ];
    let good = [
        format!("00-{TRACE}-c7ad6b7169203301-01"),
        format!("00-{TRACE}-c7ad6b7169203302-00"),
        format!("  00-{TRACE}-c7ad6b7169203303-01\t"),
        format!("01-{TRACE}-c7ad6b7169203304-01"),
        format!("cc-{TRACE}-c7ad6b7169203305-01-and-more"),
    ];
    // One of them says that its trace is not sampled.
    let agent = Run::ports(&[server.port]).env("OTEL_TRACES_SAMPLER", "always_on").start();
    let mut connection = Connection::to(server.port);
    let mut send = |values: &[String], name: &str| -> Vec<Call> {
        let calls = values.iter().map(|value| {
            connection.exchange(
                "GET",
                &format!("/hello/{}", fresh("t")),
                &format!("{name}: {value}\r\n"),
                b"",
            )
        });
        calls.collect()
    };
    let mut calls = send(&bad, "traceparent");
    let accepted = send(&good, "TraceParent");
    let finished = agent.finish();
    let of = |call: &Call, kind: Kind| {
        let span = finished.spans.iter().find(|span| span.kind == kind && span.path() == call.path);
        span.unwrap_or_else(|| panic!("no {kind:?} span of {}\nsonde said: {}", call.path, finished.log))
    };
    let mut traces = BTreeSet::new();
    for (call, value) in calls.iter().zip(&bad) {
        let (client, server) = (of(call, Kind::Client), of(call, Kind::Server));
        assert!(
            traces.insert(&client.trace) && !client.trace.eq_ignore_ascii_case(TRACE),
            "{value:?}: {client:?}"
        );
        assert_eq!(client.parent, "", "{value:?}");
        assert_eq!((&server.trace, &server.parent), (&client.trace, &client.id), "{value:?} is no context");
    }
    for (call, value) in accepted.iter().zip(&good) {
        let id = &value.trim()[36..52];
        let (client, server) = (of(call, Kind::Client), of(call, Kind::Server));
        assert_eq!(
            (client.trace.as_str(), client.id.as_str()),
            (TRACE, id),
            "{value:?} is the CLIENT span's own"
        );
        assert_eq!((server.trace.as_str(), server.parent.as_str()), (TRACE, id), "{value:?}");
    }
    calls.extend(accepted);
    check("traceparents", &server, &calls, &finished);
}
