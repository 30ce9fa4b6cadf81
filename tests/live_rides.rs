//! What rides on HTTP/1 connections: WebSocket sessions, streams that last, gRPC-Web.

use std::collections::BTreeMap;

use sonde_tests::backends::comes;
use sonde_tests::calls::fresh;
use sonde_tests::clients::Client as HttpClient;
use sonde_tests::compare::Report;
use sonde_tests::raw::Connection;
use sonde_tests::rides::{self, Client, Close, Op, Planned, Server, Told};
use sonde_tests::{Finished, Kind, Run, Span, gate, metrics, servers};

/// The spans of one session, by who has them.
struct Session<'a> {
    handshake: &'a Span,
    session: Option<&'a Span>,
}

/// The handshakes of a path at one kind of end, each with the session below it. There is nothing else.
fn sessions<'a>(finished: &'a Finished, kind: Kind, path: &str) -> Vec<Session<'a>> {
    let of_path = |span: &&Span| span.path() == path;
    let handshakes = finished.spans.iter().filter(of_path).filter(|span| span.kind == kind);
    handshakes
        .map(|handshake| {
            let below = |span: &&Span| span.kind == Kind::Internal && span.parent == handshake.id;
            let below: Vec<&Span> = finished.spans.iter().filter(below).collect();
            assert!(below.len() <= 1, "{kind:?} {path} has {} sessions", below.len());
            Session { handshake, session: below.first().copied() }
        })
        .collect()
}

#[derive(Default)]
struct Counts {
    sessions: usize,
    messages: usize,
    unknown: usize,
}

/// Compares both ends of a session with what its client says of it. `hops`: how often it was passed on.
fn compare(
    finished: &Finished,
    planned: &Planned,
    told: &Told,
    (hops, exact): (usize, bool),
    counts: &mut Counts,
) {
    for kind in [Kind::Client, Kind::Server] {
        let found = sessions(finished, kind, &told.path);
        assert_eq!(found.len(), hops + 1, "{kind:?} handshakes of {}: {}", told.path, finished.log);
        for Session { handshake, session } in found {
            let what = format!("{kind:?} {}: {:?}", told.path, session.map(|span| &span.attributes));
            assert_eq!(handshake.attribute("http.response.status_code"), "101", "{what}");
            assert!(!handshake.error, "{what}");
            let span = session.unwrap_or_else(|| panic!("{what}: no session\n{}", finished.log));
            counts.sessions += 1;
            assert_eq!((&span.trace, span.pid()), (&handshake.trace, handshake.pid()), "{what}");
            assert!(span.start >= handshake.start && span.end >= handshake.end, "{what}");
            assert_eq!(span.attribute("network.protocol.name"), "websocket", "{what}");
            let route = handshake.attribute("http.route");
            let name = if route.is_empty() { "websocket".to_owned() } else { format!("websocket {route}") };
            assert_eq!((&span.name, span.attribute("http.route")), (&name, route), "{what}");
            let (to, from) = if kind == Kind::Client { ("sent", "received") } else { ("received", "sent") };
            let number = |way: &str, of: &str| span.number(&format!("sonde.websocket.{way}.{of}"));
            for (way, messages) in [(to, &told.sent), (from, &told.received)] {
                match number(way, "messages") {
                    Some(number) => {
                        assert_eq!(number, messages.len() as i64, "{way} {what}");
                        counts.messages += 1;
                    }
                    None => counts.unknown += 1,
                }
            }
            let (sent, received) = told.bytes();
            let closed = matches!(planned.close, Close::Client(_) | Close::Server(_));
            if exact {
                assert_eq!(number(to, "bytes"), Some(sent as i64), "{to} {what}");
                if closed {
                    assert_eq!(number(from, "bytes"), Some(received as i64), "{from} {what}");
                }
            }
            let code = told.code.map(|code| code.to_string()).unwrap_or_default();
            let said = span.attribute("sonde.websocket.close.code");
            let error = span.attribute("error.type");
            if said.is_empty() && !code.is_empty() {
                // The frame that closed came behind frames that nobody saw: nothing may be made of that.
                assert_eq!((error, span.error), ("", false), "{what}");
                continue;
            }
            assert_eq!(said, code, "{what}");
            let errors: &[&str] = match planned.close {
                Close::Client(1000 | 3000..) | Close::Server(1000 | 1001 | 3000..) => &[""],
                Close::Client(_) | Close::Server(_) => &[code.as_str()],
                Close::Drop | Close::Reset => &["closed", "connection_reset"],
            };
            let known = number("sent", "messages").is_some() && number("received", "messages").is_some();
            let unsure = !closed && !known && error.is_empty();
            assert!(errors.contains(&error) || unsure, "{what}");
            assert_eq!(span.error, !error.is_empty(), "{what}");
        }
    }
}

fn plan(server: &Server, large: bool) -> Vec<Planned> {
    let planned = |ops: &[Op], close| Planned {
        path: format!("{}{}", server.prefix, fresh("w")),
        ops: ops.to_vec(),
        close,
    };
    let mut plan = vec![
        planned(&[], Close::Client(1000)),
        planned(
            &[Op::Echo(0), Op::Echo(1), Op::Echo(125), Op::Echo(126), Op::Echo(3000)],
            Close::Client(1000),
        ),
        planned(&[Op::Echo(10); 20], Close::Client(4001)),
        planned(&[Op::Echo(5), Op::Push(300, 40)], Close::Client(1000)),
        planned(&[Op::Push(3, 2000)], Close::Server(1000)),
        planned(&[Op::Echo(7)], Close::Server(1011)),
        planned(&[], Close::Server(3999)),
        planned(&[Op::Echo(7)], Close::Drop),
        planned(&[Op::Echo(7)], Close::Reset),
    ];
    if large {
        plan.push(planned(&[Op::Echo(70_000), Op::Push(2, 1 << 20)], Close::Client(1000)));
    }
    plan
}

fn servers() -> Vec<Server> {
    vec![rides::websockets(), rides::uvicorn(), rides::node(), rides::go("gorilla"), rides::go("coder")]
}

#[test]
#[ignore = "live: needs root, BPF and a built sonde"]
fn websocket_sessions() {
    let _gate = gate::enter();
    for server in servers() {
        for hooks in gate::hook_families() {
            for client in Client::ALL {
                // gorilla cuts what it sends into frames of 4 KiB.
                let plan = plan(&server, client != Client::Go);
                let agent = Run::ports(&[server.port]).hooks(&hooks).start();
                let told = client.run(server.port, false, &plan);
                let finished = agent.finish();
                let mut counts = Counts::default();
                for (planned, told) in plan.iter().zip(&told) {
                    compare(&finished, planned, told, (0, true), &mut counts);
                }
                let all = finished.spans.len();
                assert_eq!(all, plan.len() * 4, "spans of what did not happen");
                assert!(finished.log.contains("nothing lost"), "{}", finished.log);
                println!(
                    "{client:?} at {} ({hooks}): {} sessions as told, {} counts of messages right, {} unknown",
                    server.process.name, counts.sessions, counts.messages, counts.unknown
                );
            }
        }
    }
}

#[test]
#[ignore = "live: needs root, BPF and a built sonde"]
fn websocket_sessions_that_are_compressed() {
    let _gate = gate::enter();
    for server in [rides::uvicorn(), rides::node()] {
        for client in Client::ALL {
            let plan = plan(&server, client != Client::Go);
            let agent = Run::ports(&[server.port]).start();
            let told = client.run(server.port, true, &plan);
            let finished = agent.finish();
            let mut counts = Counts::default();
            for (planned, told) in plan.iter().zip(&told) {
                // How long a message is then, only the connection knows; both ends say the same of it.
                compare(&finished, planned, told, (0, false), &mut counts);
                if matches!(planned.close, Close::Drop | Close::Reset) {
                    continue;
                }
                let bytes = |kind, way: &str| {
                    let found = sessions(&finished, kind, &told.path);
                    found[0].session.and_then(|span| span.number(&format!("sonde.websocket.{way}.bytes")))
                };
                assert_eq!(bytes(Kind::Client, "sent"), bytes(Kind::Server, "received"), "{}", told.path);
                assert_eq!(bytes(Kind::Client, "received"), bytes(Kind::Server, "sent"), "{}", told.path);
            }
            println!(
                "{client:?} at {}, compressed: {} sessions, {} counts of messages right, {} unknown",
                server.process.name, counts.sessions, counts.messages, counts.unknown
            );
        }
    }
}

#[test]
#[ignore = "live: needs root, BPF and a built sonde"]
fn websocket_sessions_through_nginx() {
    let _gate = gate::enter();
    for server in [rides::uvicorn(), rides::go("gorilla")] {
        let location = format!(
            "location / {{ proxy_pass http://127.0.0.1:{}; proxy_http_version 1.1; proxy_read_timeout 600s;\n\
             proxy_set_header Upgrade $http_upgrade; proxy_set_header Connection upgrade;\n\
             proxy_set_header Host $host:$server_port; }}",
            server.port
        );
        let nginx = servers::nginx("", &location, &servers::Setting::default());
        for hooks in gate::hook_families() {
            let plan = plan(&server, true);
            let agent = Run::ports(&[server.port, nginx.port]).hooks(&hooks).start();
            let told = Client::Python.run(nginx.port, false, &plan);
            let finished = agent.finish();
            let mut counts = Counts::default();
            for (planned, told) in plan.iter().zip(&told) {
                compare(&finished, planned, told, (1, true), &mut counts);
                let traces: BTreeMap<&str, usize> = [Kind::Client, Kind::Server]
                    .iter()
                    .flat_map(|&kind| sessions(&finished, kind, &told.path))
                    .map(|session| (session.handshake.trace.as_str(), 1))
                    .collect();
                assert_eq!(traces.len(), 1, "{} is one trace", told.path);
            }
            assert_eq!(finished.spans.len(), plan.len() * 8, "spans of what did not happen");
            println!(
                "nginx before {} ({hooks}): {} sessions as told, {} counts of messages right, {} unknown",
                server.process.name, counts.sessions, counts.messages, counts.unknown
            );
        }
    }
}

/// Sessions of 400 turns. Returns how many of their ends have a span.
fn long_sessions(hooks: &str) -> (usize, usize) {
    let server = rides::websockets();
    let planned = |_| Planned {
        path: format!("{}{}", server.prefix, fresh("w")),
        ops: vec![Op::Echo(10); 200],
        close: Close::Client(1000),
    };
    let plan: Vec<Planned> = (0..10).map(planned).collect();
    let agent = Run::ports(&[server.port]).hooks(hooks).start();
    let told = Client::Python.run(server.port, false, &plan);
    let finished = agent.finish();
    let mut found = 0;
    for told in &told {
        for (kind, [to, from]) in [(Kind::Client, ["sent", "received"]), (Kind::Server, ["received", "sent"])]
        {
            let ends = sessions(&finished, kind, &told.path);
            assert_eq!(ends.len(), 1, "{}", told.path);
            assert_eq!(ends[0].handshake.attribute("http.response.status_code"), "101");
            let Some(span) = ends[0].session else { continue };
            found += 1;
            let (sent, received) = told.bytes();
            for (way, bytes) in [(to, sent), (from, received)] {
                let key = format!("sonde.websocket.{way}.bytes");
                assert_eq!(span.number(&key), Some(bytes as i64), "{:?}", span.attributes);
                let messages = span.number(&format!("sonde.websocket.{way}.messages"));
                assert!(matches!(messages, None | Some(200)), "{:?}", span.attributes);
            }
            assert!(!span.error, "{:?}", span.attributes);
        }
    }
    println!("long sessions ({hooks}): {found} of {} told, each with all of its bytes", 2 * plan.len());
    (found, 2 * plan.len())
}

#[test]
#[ignore = "live: needs root, BPF and a built sonde"]
fn long_websocket_sessions_are_not_told_wrong() {
    let _gate = gate::enter();
    for hooks in gate::hook_families() {
        let _ = long_sessions(&hooks);
    }
}

#[test]
#[ignore = "live: needs root, BPF and a built sonde"]
fn long_websocket_sessions() {
    let _gate = gate::enter();
    for hooks in gate::hook_families() {
        let (found, all) = long_sessions(&hooks);
        assert_eq!(found, all, "sessions that are told");
    }
}

#[test]
#[ignore = "live: needs root, BPF and a built sonde"]
fn grpc_web() {
    let _gate = gate::enter();
    let server = rides::grpc_web();
    let calls = [
        ("Check", ""),
        ("Check", "shop"),
        ("Check", "nowhere"),
        ("Miss", ""),
        ("Check", ""),
        ("Watch", "shop"),
    ];
    for hooks in gate::hook_families() {
        for format in ["binary", "text"] {
            let agent = Run::ports(&[server.port]).hooks(&hooks).start();
            let told = rides::web_calls(server.port, format, &calls);
            let finished = agent.finish();
            for kind in [Kind::Client, Kind::Server] {
                let mut spans: Vec<&Span> = finished.spans.iter().filter(|span| span.kind == kind).collect();
                spans.sort_by_key(|span| span.start);
                assert_eq!(spans.len(), told.len(), "{kind:?}: {spans:#?}");
                for (span, (told, (_, service))) in spans.iter().zip(told.iter().zip(calls)) {
                    check_web_call(kind, span, told, service);
                }
            }
            println!("gRPC-Web, {format} ({hooks}): {} calls as told at both ends", told.len());
        }
    }
}

fn check_web_call(kind: Kind, span: &Span, told: &rides::WebCall, service: &str) {
    let what = format!("{kind:?} {told:?}: {span:#?}");
    assert_eq!(span.attribute("rpc.system.name"), "grpc", "{what}");
    assert_eq!(span.attribute("network.protocol.version"), "1.1", "{what}");
    assert_eq!(span.attribute("sonde.quality"), "", "{what}");
    let full = format!("grpc.health.v1.Health/{}", told.method);
    // What the server does not have is no method.
    let (name, method) = if told.code == Some(12) { ("grpc", "_OTHER") } else { (&*full, &*full) };
    assert_eq!((&*span.name, span.attribute("rpc.method")), (name, method), "{what}");
    let (sent, received) = if kind == Kind::Client { ("sent", "received") } else { ("received", "sent") };
    let number = |way: &str, of: &str| span.number(&format!("sonde.rpc.{way}.{of}"));
    let request = if service.is_empty() { 0 } else { service.len() as i64 + 2 };
    // Node writes head and body from buffers of their own by one call, of which the head alone is copied.
    if kind == Kind::Server || number(sent, "messages").is_some() {
        assert_eq!((number(sent, "messages"), number(sent, "bytes")), (Some(1), Some(request)), "{what}");
    }
    let error = span.attribute("error.type");
    assert_eq!(span.error, !error.is_empty(), "{what}");
    let Some(code) = told.code else {
        // Given up by the client: the server may have said so of it, to nobody.
        let status = span.attribute("rpc.response.status_code");
        assert!(status.is_empty() || kind == Kind::Server && status == "CANCELLED", "{what}");
        assert!(number(received, "messages").is_some_and(|n| n >= told.messages as i64), "{what}");
        return assert!(["closed", "connection_reset"].contains(&error), "{what}");
    };
    let name =
        ["OK", "", "", "", "", "NOT_FOUND", "", "", "", "", "", "", "UNIMPLEMENTED"][usize::from(code)];
    assert_eq!(span.attribute("rpc.response.status_code"), name, "{what}");
    assert_eq!(number(received, "messages"), Some(told.messages as i64), "{what}");
    let fails = code != 0 && (kind == Kind::Client || code == 12);
    assert_eq!(error, if fails { name } else { "" }, "{what}");
}

fn streaming() -> Vec<Server> {
    vec![rides::uvicorn(), rides::flask(), rides::node(), rides::go("gorilla")]
}

/// Ten events 30 ms apart, and answers that are 300 ms in coming.
#[test]
#[ignore = "live: needs root, BPF and a built sonde"]
fn streams_last_until_their_end() {
    let _gate = gate::enter();
    for server in streaming() {
        for hooks in gate::hook_families() {
            let path = |n: usize| {
                if n.is_multiple_of(3) {
                    format!("/wait/300/{}", fresh("s"))
                } else {
                    format!("/events/10/30/{}", fresh("s"))
                }
            };
            let plan: Vec<_> = (0..24).map(|n| sonde_tests::Planned::get(path(n))).collect();
            let agent = Run::ports(&[server.port]).hooks(&hooks).start();
            let mut calls = Vec::new();
            for client in [HttpClient::Curl, HttpClient::Requests, HttpClient::Node, HttpClient::Go] {
                let plan: Vec<_> = plan
                    .iter()
                    .map(|one| sonde_tests::Planned::get(format!("{}{client:?}", one.path)))
                    .collect();
                calls.extend(client.run(&format!("http://127.0.0.1:{}", server.port), 8, &plan));
            }
            let finished = agent.finish();
            let mut report = Report::default();
            report.both_ends(server.port, &calls, &finished.spans);
            for span in &finished.spans {
                // The server slept so long between the first byte and the last.
                assert!(
                    span.duration() >= 270_000_000,
                    "{:?} {}: {} ns",
                    span.kind,
                    span.path(),
                    span.duration()
                );
            }
            report.check(&format!("streams of {} ({hooks})", server.process.name), &finished.log);
        }
    }
}

/// Streams without end, which the client leaves.
#[test]
#[ignore = "live: needs root, BPF and a built sonde"]
fn streams_that_the_client_leaves() {
    let _gate = gate::enter();
    for server in streaming() {
        for hooks in gate::hook_families() {
            let agent = Run::ports(&[server.port]).hooks(&hooks).start();
            let mut read = BTreeMap::new();
            for _ in 0..8 {
                let path = format!("/events/0/20/{}", fresh("l"));
                let mut connection = Connection::to(server.port);
                connection.write(connection.head("GET", &path, "", 0).as_bytes()).expect("written");
                read.insert(path, stream_read(&mut connection, 5));
            }
            // Its end notices with one of the next events.
            let told = |agent: &sonde_tests::Agent| agent.spans().len() >= 2 * read.len();
            assert!(comes(|| told(&agent)), "{} of {} spans", agent.spans().len(), 2 * read.len());
            let finished = agent.finish();
            for (path, bytes) in &read {
                for kind in [Kind::Client, Kind::Server] {
                    let spans: Vec<&Span> = finished
                        .spans
                        .iter()
                        .filter(|span| span.kind == kind && span.path() == path)
                        .collect();
                    assert_eq!(spans.len(), 1, "{kind:?} {path}");
                    let what = format!("{kind:?} {path}: {:?}", spans[0].attributes);
                    assert_eq!(spans[0].attribute("http.response.status_code"), "200", "{what}");
                    let error = spans[0].attribute("error.type");
                    // A handler of Go's that is told so returns, which ends its stream in order.
                    let ends =
                        kind == Kind::Server && server.process.name.starts_with("go") && error.is_empty();
                    assert!(["closed", "connection_reset"].contains(&error) || ends, "{what}");
                    assert_eq!(spans[0].error, !ends, "{what}");
                    let size = spans[0].number("http.response.body.size");
                    let bytes = *bytes as i64;
                    // The server may have written more than was read, and that as well only in full.
                    let right = if kind == Kind::Client { size == Some(bytes) } else { size >= Some(bytes) };
                    assert!(size.is_none() || right, "{what}: {bytes} bytes were read");
                    assert!(spans[0].duration() >= 80_000_000, "{what}");
                }
            }
            assert_eq!(finished.spans.len(), 2 * read.len(), "spans of what did not happen");
            println!(
                "{} ({hooks}): {} streams left, both ends as they were",
                server.process.name,
                read.len()
            );
        }
    }
}

/// Reads so many events of a stream and whole chunks. Returns the bytes of their content.
fn stream_read(connection: &mut Connection, events: usize) -> u64 {
    let content = |text: &str| {
        let mut rest = text.split_once("\r\n\r\n")?.1;
        let mut content = 0;
        while !rest.is_empty() {
            let (size, behind) = rest.split_once("\r\n")?;
            let size = usize::from_str_radix(size, 16).ok()?;
            content += size as u64;
            rest = behind.get(size + 2..)?;
        }
        Some(content)
    };
    let text =
        connection.read_until(|text| text.matches("data: ").count() >= events && content(text).is_some());
    content(&text).expect("whole chunks")
}

/// What is under way when Sonde ends has no span: nobody knows how it goes on.
#[test]
#[ignore = "live: needs root, BPF and a built sonde"]
fn streams_under_way_when_sonde_ends() {
    let _gate = gate::enter();
    for server in streaming() {
        let agent = Run::ports(&[server.port]).start();
        let mut open = Vec::new();
        for _ in 0..5 {
            let mut connection = Connection::to(server.port);
            let head = connection.head("GET", &format!("/events/0/20/{}", fresh("u")), "", 0);
            connection.write(head.as_bytes()).expect("written");
            stream_read(&mut connection, 2);
            open.push(connection);
        }
        let path = format!("/wait/1/{}", fresh("d"));
        let done = HttpClient::Curl.run(
            &format!("http://127.0.0.1:{}", server.port),
            1,
            &[sonde_tests::Planned::get(path)],
        );
        let finished = agent.finish();
        let mut report = Report::default();
        report.both_ends(server.port, &done, &finished.spans);
        report.check(&format!("streams of {} under way", server.process.name), &finished.log);
        assert!(finished.log.contains("10 more under way"), "{}", finished.log);
        assert!(finished.log.contains("nothing lost"), "{}", finished.log);
    }
}

/// Streams that are open at once: what this process may open, each descriptor being one, is 20,000 where this was written.
const OPEN: usize = 10_000;
/// How many end at once: more than the ring holds need not be told.
const WAVE: usize = 500;

#[test]
#[ignore = "live: needs root, BPF and a built sonde"]
fn thousands_of_open_streams() {
    let _gate = gate::enter();
    let server = rides::go("gorilla");
    let agent = Run::ports(&[server.port]).start();
    let before = agent.process.resident();
    let mut open = Vec::new();
    for n in 0..OPEN {
        let mut connection = Connection::to(server.port);
        let head = connection.head("GET", &format!("/hold/{}/h{n}", n / WAVE), "", 0);
        connection.write(head.as_bytes()).expect("written");
        connection.read_until(|text| text.contains("held"));
        open.push(connection);
    }
    let held = agent.process.resident().saturating_sub(before);
    let path = format!("/wait/1/{}", fresh("d"));
    let done = HttpClient::Curl.run(
        &format!("http://127.0.0.1:{}", server.port),
        1,
        &[sonde_tests::Planned::get(path)],
    );
    // Nothing of an open stream is told.
    assert!(comes(|| agent.spans().len() == 2 * done.len()), "{} spans", agent.spans().len());
    let mut release = Connection::to(server.port);
    for (number, wave) in open.chunks_mut(WAVE).enumerate() {
        assert_eq!(release.exchange("GET", &format!("/release/{number}"), "", b"").status, 200);
        for connection in wave {
            connection.read_until(|text| text.ends_with("0\r\n\r\n"));
        }
        // No faster than they are written: what an output loses is not what is shown here.
        let told = 2 * (done.len() + (number + 1) * (WAVE + 1));
        if !comes(|| agent.count() >= told) {
            panic!("{} of {told} spans: {}", agent.count(), agent.finish().log);
        }
    }
    drop(open);
    let all = OPEN + OPEN / WAVE + done.len();
    let finished = agent.finish();
    let streams: Vec<&Span> =
        finished.spans.iter().filter(|span| span.path().starts_with("/hold/")).collect();
    assert!(streams.len() == 2 * OPEN, "{} spans: {}", streams.len(), finished.log);
    for span in &streams {
        let said = (span.attribute("http.response.status_code"), span.attribute("http.response.body.size"));
        assert_eq!((said, span.error), (("200", "12"), false), "{:?}", span.attributes);
    }
    let points = metrics::totals(&metrics::of_requests(&finished.metrics));
    for metric in ["http.server.request.duration", "http.client.request.duration"] {
        let counted: u64 =
            points.iter().filter(|((name, ..), _)| name == metric).map(|(_, point)| point.count).sum();
        assert_eq!(counted, all as u64, "{metric}");
    }
    let each = held / (2 * OPEN as u64);
    println!(
        "{OPEN} open streams, both ends: {} KiB of memory, {each} bytes for each end; all told and counted",
        held >> 10
    );
    assert!(each < 6 << 10, "{each} bytes for each end of an open stream");
}
