//! HTTP/2: connections older than Sonde, the two ends of a stream, contexts in header blocks, and what only looks like it.

use std::collections::{BTreeMap, BTreeSet};

use sonde_tests::calls::{fresh, id_of};
use sonde_tests::chain::{Hop, tally};
use sonde_tests::compare::Report;
use sonde_tests::h2::busy::Busy;
use sonde_tests::h2::clients::Client;
use sonde_tests::h2::eye::{Eye, Seen};
use sonde_tests::h2::mixed;
use sonde_tests::h2::wire::{CONTINUATION, DATA, END_HEADERS, END_STREAM, HEADERS, PREFACE, SETTINGS, frame};
use sonde_tests::raw::{Connection, listen, noise, now, serve};
use sonde_tests::servers::{self, Server, Setting};
use sonde_tests::{Call, Kind, Planned, Run, Span, gate};

/// One client library's row of the table.
struct Row {
    what: String,
    /// Exchanges behind the start, with paths that come once and with those that come again.
    later: [usize; 2],
    /// Those of them with a span that knows its path.
    known: BTreeMap<Kind, [usize; 2]>,
}

/// Which exchange of the client's a span is: the size of its body says it, whatever is known of the path.
fn size(span: &Span) -> Option<u64> {
    span.number("http.request.body.size")?.try_into().ok()
}

/// Half of the paths of the exchanges come but once, half of them again and again.
fn is_repeated(call: &Call) -> bool {
    call.path.starts_with("/echo/again")
}

/// Fifty connections of a client, each with two streams at a time, are busy when the eye opens.
fn late(eye: &Eye, client: Client, server: &Server, pause_ms: u32) -> Row {
    let what = format!("{client:?} -> {} ({eye})", server.process.name);
    let mut busy = Busy::start(client, &server.url(), 50, 2, pause_ms);
    // Every connection has carried something by then, and every path that comes again has come.
    busy.wait(50 * 12);
    let watch = eye.open(&[server.port]);
    let observing = now();
    busy.wait(50 * 32);
    let calls = busy.finish();
    let seen = watch.finish();
    let ports: BTreeSet<&str> = seen.spans.iter().map(|span| span.attribute("network.peer.port")).collect();
    let told = "ports of the server and of the connections";
    assert_eq!(ports.len(), 51, "{what}: {told} in {} spans\nsonde said: {}", seen.spans.len(), seen.log);
    compare(&what, server, &calls, observing, &seen)
}

fn compare(what: &str, server: &Server, calls: &[Call], observing: u64, seen: &Seen) -> Row {
    let mut report = Report::default();
    let mut known: BTreeMap<Kind, [usize; 2]> = BTreeMap::new();
    let by_size: BTreeMap<u64, &Call> = calls.iter().map(|call| (call.sent, call)).collect();
    assert_eq!(by_size.len(), calls.len(), "{what}: exchanges that cannot be told apart");
    let mut spans: BTreeMap<(Kind, u64), &Span> = BTreeMap::new();
    for span in &seen.spans {
        let Some(call) = size(span).and_then(|size| by_size.get(&size)) else {
            report.problem(format!("a span of nothing known: {span:?}"));
            continue;
        };
        if !span.path().is_empty() && span.path() != call.path {
            report.problem(format!("{:?} {}: path {:?}", span.kind, call.path, span.path()));
        }
        if spans.insert((span.kind, call.sent), span).is_some() {
            report.problem(format!("{:?} {} twice", span.kind, call.path));
        }
    }
    let later: Vec<&Call> = calls.iter().filter(|call| call.start > observing).collect();
    for call in &later {
        let [client, server_span] =
            [Kind::Client, Kind::Server].map(|kind| spans.get(&(kind, call.sent)).copied());
        for (kind, span) in [(Kind::Client, client), (Kind::Server, server_span)] {
            let Some(span) = span else {
                report.problem(format!("{kind:?} {} of {} bytes has no span", call.path, call.sent));
                continue;
            };
            let mut expect = |key: &str, expected: &str| {
                if span.attribute(key) != expected {
                    report.problem(format!(
                        "{kind:?} {}: {key} is {:?}, not {expected:?}",
                        call.path,
                        span.attribute(key)
                    ));
                }
            };
            expect("http.request.method", &call.method);
            expect("http.response.status_code", &call.status.to_string());
            expect("http.response.body.size", &call.received.to_string());
            expect("network.protocol.version", "2");
            expect("sonde.quality", "joined");
            expect("error.type", "");
            let port = if kind == Kind::Client { "network.peer.port" } else { "network.local.port" };
            expect(port, &server.port.to_string());
            known.entry(kind).or_default()[usize::from(is_repeated(call))] +=
                usize::from(!span.path().is_empty());
        }
        if let (Some(client), Some(server)) = (client, server_span)
            && (&server.trace, &server.parent) != (&client.trace, &client.id)
        {
            report.problem(format!("{}: the ends are not joined", call.path));
        }
    }
    report.unique_ids(&seen.spans);
    report.check(&format!("late join, {what}: {} exchanges after", later.len()), &seen.log);
    let again = later.iter().filter(|call| is_repeated(call)).count();
    Row { what: what.into(), later: [later.len() - again, again], known }
}

/// Prints the share of spans that know their path, by client library.
fn print(rows: &[Row]) {
    println!(
        "late join on 50 connections: spans with their path, of paths that come once and of those that come again"
    );
    println!("  {:<44}{:>9}{:>18}{:>18}", "", "exchanges", "CLIENT", "SERVER");
    for Row { what, later, known } in rows {
        let share = |kind: Kind| {
            let known = known.get(&kind).copied().unwrap_or_default();
            let of = |at: usize| 100.0 * known[at] as f64 / later[at].max(1) as f64;
            format!("{:.1} % {:.1} %", of(0), of(1))
        };
        println!(
            "  {what:<44}{:>9}{:>18}{:>18}",
            later.iter().sum::<usize>(),
            share(Kind::Client),
            share(Kind::Server)
        );
    }
}

#[test]
#[ignore = "live: needs root, BPF and a built sonde"]
fn fifty_busy_connections() {
    let _gate = gate::enter();
    let setting = Setting::default();
    let upstream = servers::hyper(&setting);
    let nginx = servers::nginx_h2("", &format!("location / {{ proxy_pass {}; }}", upstream.url()), &setting);
    let (go, hyper) = (servers::go_h2(&setting), servers::hyper_h2(&setting));
    let nghttpd = servers::nghttpd(&[], &setting);
    let mut rows = Vec::new();
    for eye in Eye::all() {
        for (client, server, pause_ms) in [
            (Client::Go, &go, 100),
            (Client::Go, &nginx, 150),
            (Client::Node, &hyper, 100),
            (Client::Node, &nghttpd, 100),
            (Client::Httpx, &go, 250),
            (Client::Java, &go, 120),
        ] {
            rows.push(late(&eye, client, server, pause_ms));
        }
    }
    print(&rows);
}

/// Requests with a `traceparent` of their own, each another.
fn with_contexts(count: usize) -> Vec<Planned> {
    let context =
        |i: usize| format!("00-{:032x}-{:016x}-01", 0x4bf9_2f35_0000_0000_u128 + i as u128, 0xf067_0000 + i);
    mixed(count, false)
        .into_iter()
        .enumerate()
        .map(|(i, call)| call.with_traceparent(context(i + 1)))
        .collect()
}

/// A context that a process writes itself is that of its CLIENT span, and the SERVER span's parent. Where none is written, the
/// SERVER span hangs under the CLIENT span of its stream.
#[test]
#[ignore = "live: needs root, BPF and a built sonde"]
fn both_ends_of_a_stream() {
    let _gate = gate::enter();
    let setting = Setting::default();
    let (go, hyper) = (servers::go_h2(&setting), servers::hyper_h2(&setting));
    for (client, server) in [
        (Client::Go, &hyper),
        (Client::Node, &go),
        (Client::Httpx, &go),
        (Client::Java, &go),
        (Client::Nghttp(&[]), &hyper),
        (Client::Curl, &hyper),
    ] {
        for eye in Eye::all() {
            for sent in [false, true] {
                if sent && matches!(client, Client::Nghttp(_)) {
                    continue;
                }
                let plan = if sent { with_contexts(200) } else { mixed(200, false) };
                let watch = eye.open(&[server.port]);
                let calls = client.run(&server.url(), 16, &plan);
                let seen = watch.finish();
                let what = format!("{client:?} -> {}, contexts sent: {sent} ({eye})", server.process.name);
                let mut report = Report::of_version("2");
                report.both_ends(server.port, &calls, &seen.spans);
                joined(&mut report, &plan, &seen);
                report.check(&what, &seen.log);
            }
        }
    }
}

/// What the ends of each exchange say of their place in a trace.
fn joined(report: &mut Report, plan: &[Planned], seen: &Seen) {
    let of = |kind: Kind| -> BTreeMap<&str, &Span> {
        let spans = seen.spans.iter().filter(|span| span.kind == kind);
        spans.map(|span| (span.path(), span)).collect()
    };
    let (clients, servers) = (of(Kind::Client), of(Kind::Server));
    for call in plan {
        let path = call.path.as_str();
        let (Some(client), Some(server)) = (clients.get(path), servers.get(path)) else { continue };
        if (&server.trace, &server.parent) != (&client.trace, &client.id) {
            report.problem(format!("{path}: the ends are not joined"));
        }
        if !client.parent.is_empty() {
            report.problem(format!("{path}: the CLIENT span has a parent"));
        }
        if let Some(context) = &call.traceparent {
            let parts: Vec<&str> = context.split('-').collect();
            if (client.trace.as_str(), client.id.as_str()) != (parts[1], parts[2]) {
                report.problem(format!(
                    "{path}: sent {context}, the CLIENT span is {} {}",
                    client.trace, client.id
                ));
            }
        }
    }
}

/// A client, what stands between, and the service that this calls: parents are right or missing, never wrong.
#[test]
#[ignore = "live: needs root, BPF and a built sonde"]
fn chains() {
    let _gate = gate::enter();
    let setting = Setting::default();
    let http1 = servers::hyper(&setting);
    let http2 = servers::hyper_h2(&setting);
    let rewrite =
        format!("location /call/ {{ rewrite ^/call/(.*) /hello/$1 break; proxy_pass {}; }}", http1.url());
    let nginx = servers::nginx_h2("", &rewrite, &setting);
    let go = servers::go_h2(&Setting::calls(http2.url()));
    let node = servers::node_h2(&Setting::calls(http2.url()));
    for eye in Eye::live() {
        for (between, service) in [(&nginx, &http1), (&go, &http2), (&node, &http2)] {
            for (concurrency, count) in [(1, 100), (16, 300)] {
                for sent in [false, true] {
                    chain(&eye, between, service, concurrency, count, sent);
                }
            }
        }
    }
}

fn chain(eye: &Eye, between: &Server, service: &Server, concurrency: usize, count: usize, sent: bool) {
    let plan: Vec<Planned> = with_contexts(count)
        .into_iter()
        .map(|call| Planned { method: "GET", path: format!("/call/{}", fresh("c")), body: 0, ..call })
        .map(|call| if sent { call } else { Planned { traceparent: None, ..call } })
        .collect();
    let watch = eye.open(&[between.port, service.port]);
    let calls = Client::Go.run(&between.url(), concurrency, &plan);
    assert!(calls.iter().all(|call| call.status == 200), "the chain itself works");
    let (middle, last) = (between.process.group(), service.process.group());
    let seen = watch.finish();
    let client: BTreeSet<u32> = calls.iter().map(|call| call.pid).collect();
    let hops = [
        Hop::new("client", Kind::Client, client),
        Hop::new("SERVER between", Kind::Server, middle.iter().copied()),
        Hop::new("CLIENT between -> service", Kind::Client, middle),
        Hop::new("service SERVER", Kind::Server, last),
    ];
    let ids: Vec<&str> = plan.iter().map(|call| id_of(&call.path)).collect();
    let context = if sent { ", contexts sent" } else { "" };
    let what =
        format!("Go -> {} -> {} x{concurrency}{context} ({eye})", between.process.name, service.process.name);
    let table = tally(&hops, &ids, &seen.spans, &BTreeMap::new());
    // One request at a time leaves no doubt.
    table.check(&what, concurrency == 1, &seen.log);
    assert_eq!(seen.spans.len(), 4 * count, "{what}: {}", seen.log);
    if sent {
        for call in &plan {
            let parts: Vec<&str> = call.traceparent.as_deref().expect("sent").split('-').collect();
            let span = seen.spans.iter().find(|span| span.id == parts[2] && span.trace == parts[1]);
            let span = span.unwrap_or_else(|| panic!("{what}: no span has the context {parts:?}"));
            assert_eq!(id_of(span.path()), id_of(&call.path), "{what}");
        }
    }
}

/// A frame of yamux: version, type, flags, stream, length.
fn yamux(kind: u8, flags: u16, stream: u32, length: u32, payload: &[u8]) -> Vec<u8> {
    [&[0, kind][..], &flags.to_be_bytes(), &stream.to_be_bytes(), &length.to_be_bytes(), payload].concat()
}

/// What is not HTTP/2, each with a reason to be mistaken for it.
fn lookalikes() -> Vec<Vec<u8>> {
    let settings = frame(SETTINGS, 0, 0, &[0, 3, 0, 0, 0, 100]);
    let mut all: Vec<Vec<u8>> = (3..PREFACE.len()).step_by(3).map(|cut| PREFACE[..cut].to_vec()).collect();
    for seed in 0..20_u64 {
        let noise = noise(seed * 104_729 + 7, 100 + 1999 * seed as usize);
        all.push([PREFACE, &noise].concat());
        all.push([PREFACE, &settings, &noise].concat());
        all.push(noise);
    }
    // A multiplexer: many streams, small frames.
    let mut bytes = Vec::new();
    for i in 0..2000_u32 {
        let stream = 1 + 2 * (i % 50);
        bytes.extend(yamux(1, 1, stream, 0, b""));
        bytes.extend(yamux(0, 0, stream, 9, b"some data"));
        bytes.extend(yamux(2, 1, 0, i, b""));
    }
    all.push(bytes);
    // Zeros are frames of nothing, and a length before each message is the beginning of one.
    all.push(vec![0; 300_000]);
    all.push((0..3000_u32).flat_map(|i| [&[0, 0, 9][..], &i.to_be_bytes(), b"hello"].concat()).collect());
    // Frames beyond doubt, on streams that nobody opened.
    all.push((0..500_u32).flat_map(|i| frame(DATA, 0, 2 * i + 1, b"payload")).collect());
    // A header block whose encoding is broken, and one that never ends.
    let broken = frame(HEADERS, END_HEADERS | END_STREAM, 1, &[0xff; 40]);
    all.push([PREFACE, &settings, &broken, &frame(DATA, END_STREAM, 1, b"x")].concat());
    let mut endless = [PREFACE, &settings, &frame(HEADERS, END_STREAM, 1, &[0x82])].concat();
    endless.extend((0..64).flat_map(|_| frame(CONTINUATION, 0, 1, &noise(5, 16_000))));
    all.push(endless);
    all
}

/// Nothing of it becomes a span, makes Sonde grow, or harms another connection.
#[test]
#[ignore = "live: needs root, BPF and a built sonde"]
fn what_is_not_http2() {
    let _gate = gate::enter();
    let server = servers::go_h2(&Setting::default());
    let (listener, port) = listen();
    for eye in Eye::all() {
        let inputs = lookalikes();
        let agent = match &eye {
            Eye::Hooks(family) => Ok(Run::ports(&[server.port, port]).hooks(family).start()),
            Eye::Capture => Err(eye.open(&[server.port, port])),
        };
        let before = agent.as_ref().map_or(0, |agent| agent.process.resident());
        let handlers = inputs.iter().rev().map(|answer| {
            let answer = answer.clone();
            let handler: Box<dyn FnOnce(Connection) + Send> = Box::new(move |mut connection| {
                let writer = connection.clone_of();
                let writing = std::thread::spawn(move || {
                    let mut writer = writer;
                    // The client may have gone by then.
                    drop(writer.write(&answer));
                    writer.finish_writing();
                });
                drop(connection.read_rest());
                writing.join().expect("writer");
            });
            handler
        });
        let answering = serve(listener.try_clone().expect("listener"), handlers.collect());
        for input in &inputs {
            let mut connection = Connection::to(port);
            let mut writer = connection.clone_of();
            let input = input.clone();
            let writing = std::thread::spawn(move || {
                for piece in input.chunks(1000) {
                    drop(writer.write(piece));
                }
                writer.finish_writing();
            });
            drop(connection.read_rest());
            writing.join().expect("writer");
        }
        answering.join().expect("server");
        let calls = Client::Go.run(&server.url(), 8, &mixed(60, false));
        let seen = match agent {
            Ok(agent) => {
                let grown = agent.process.resident().saturating_sub(before);
                println!("not HTTP/2 ({eye}): sonde grew by {} KiB from {} KiB", grown >> 10, before >> 10);
                assert!(grown < 8 << 20, "{eye}: sonde grew by {grown} bytes");
                let finished = agent.finish();
                Seen { spans: finished.spans, log: finished.log }
            }
            Err(watch) => watch.finish(),
        };
        let mut report = Report::of_version("2");
        report.both_ends(server.port, &calls, &seen.spans);
        report.check(&format!("beside {} connections that are not HTTP/2 ({eye})", inputs.len()), &seen.log);
    }
}
