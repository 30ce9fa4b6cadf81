//! Shapes of traffic that no well-behaved client makes, each true span for span.

use std::io::Write;
use std::sync::mpsc;
use std::thread;

use sonde_tests::calls::fresh;
use sonde_tests::clients::Client;
use sonde_tests::compare::Report;
use sonde_tests::raw::{Answer, Connection, listen, now, serve, told};
use sonde_tests::servers::{self, Server, Setting};
use sonde_tests::{Call, Finished, Kind, Planned, Run, Span, gate};

/// Compares both ends of these calls with all spans of the run.
fn check(what: &str, port: u16, calls: &[Call], finished: &Finished) {
    let mut report = Report::default();
    report.both_ends(port, calls, &finished.spans);
    report.check(what, &finished.log);
}

fn one<'a>(finished: &'a Finished, kind: Kind, path: &str) -> &'a Span {
    let found: Vec<&Span> =
        finished.spans.iter().filter(|span| span.kind == kind && span.path() == path).collect();
    let all: Vec<_> =
        finished.spans.iter().map(|span| (span.kind, span.path(), span.attribute("error.type"))).collect();
    assert_eq!(
        found.len(),
        1,
        "{kind:?} spans of {path}: {all:?}
sonde said: {}",
        finished.log
    );
    found[0]
}

/// Checks both spans of an exchange that broke off.
fn broke(finished: &Finished, path: &str, client: (&str, &str), server: &[&str]) {
    let span = one(finished, Kind::Client, path);
    assert_eq!(
        (span.attribute("http.response.status_code"), span.attribute("error.type"), span.error),
        (client.0, client.1, true),
        "CLIENT {path}: {:?}",
        span.attributes
    );
    let span = one(finished, Kind::Server, path);
    let error = span.attribute("error.type");
    assert!(server.contains(&error), "SERVER {path}: error.type {error:?}, not one of {server:?}");
}

fn pipelined(server: &Server, calls: &mut Vec<Call>, count: usize) {
    let mut connection = Connection::to(server.port);
    let start = now();
    let plan: Vec<String> = (0..count).map(|i| format!("/bytes/{}/{}", 1 + i * 700, fresh("q"))).collect();
    let all: String = plan.iter().map(|path| connection.head("GET", path, "", 0)).collect();
    connection.write(all.as_bytes()).expect("written");
    for path in plan {
        let answer = connection.read_answer("GET", 4096).expect("answered");
        calls.push(told("GET", &path, 0, answer, start));
    }
}

#[test]
#[ignore = "live: needs root, BPF and a built sonde"]
fn pipelined_requests() {
    let _gate = gate::enter();
    let locations = "rewrite ^/bytes/([0-9]+)/ /$1.txt break;";
    let nginx = servers::nginx("", locations, &Setting::default());
    for i in 0..40_usize {
        let size = 1 + i * 700;
        std::fs::write(nginx.folder().join(format!("www/{size}.txt")), vec![b'p'; size]).expect("file");
    }
    for hooks in gate::hook_families() {
        for server in [servers::go(&Setting::default()), servers::hyper(&Setting::default())] {
            let agent = Run::ports(&[server.port, nginx.port]).hooks(&hooks).start();
            let mut calls = Vec::new();
            for count in [2, 40] {
                pipelined(&server, &mut calls, count);
            }
            check(
                &format!("pipelined, {} ({hooks})", server.process.name),
                server.port,
                &calls,
                &agent.finish(),
            );
        }
        let agent = Run::ports(&[nginx.port]).hooks(&hooks).start();
        let mut calls = Vec::new();
        for count in [2, 40] {
            pipelined(&nginx, &mut calls, count);
        }
        check(&format!("pipelined, nginx ({hooks})"), nginx.port, &calls, &agent.finish());
    }
}

#[test]
#[ignore = "live: needs root, BPF and a built sonde"]
fn byte_by_byte() {
    let _gate = gate::enter();
    let server = servers::hyper(&Setting::default());
    let (listener, own_port) = listen();
    for hooks in gate::hook_families() {
        let agent = Run::ports(&[server.port]).hooks(&hooks).start();
        let mut calls = Vec::new();
        let mut connection = Connection::to(server.port);
        for i in 0..6 {
            let (path, body) = (format!("/echo/{}", fresh("b")), vec![b'b'; i * 20]);
            let start = now();
            let method = if i > 0 { "POST" } else { "GET" };
            connection
                .write_bytewise(connection.head(method, &path, "", body.len()).as_bytes())
                .expect("written");
            connection.write_bytewise(&body).expect("written");
            let answer = connection.read_answer(method, 1).expect("answered");
            calls.push(told(method, &path, body.len() as u64, answer, start));
        }
        check(
            &format!("request written and response read by bytes ({hooks})"),
            server.port,
            &calls,
            &agent.finish(),
        );
    }
    // A server that writes its responses by bytes, chunked and with a length.
    let agent = Run::ports(&[own_port]).start();
    let answers = [
        "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello",
        "HTTP/1.1 404 No\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n2;x=y\r\nde\r\n0\r\nTrailer: t\r\n\r\n",
    ];
    let handler = move |mut connection: Connection| {
        for answer in answers {
            connection.read_request().expect("a request");
            connection.write_bytewise(answer.as_bytes()).expect("written");
        }
    };
    let server = serve(listener, vec![Box::new(handler)]);
    let mut connection = Connection::to(own_port);
    let calls = [0, 1].map(|_| connection.exchange("GET", &format!("/own/{}", fresh("b")), "", b""));
    server.join().expect("server");
    check("response written by bytes", own_port, &calls, &agent.finish());
}

/// Each answer is cut in two once behind each of its bytes: by the server's writes, or by the client's reads.
#[test]
#[ignore = "live: needs root, BPF and a built sonde"]
fn answers_cut_anywhere() {
    const ANSWERS: [&str; 3] = [
        "HTTP/1.1 200 OK\r\nContent-Length: 40\r\n\r\n0123456789012345678901234567890123456789",
        "HTTP/1.1 404 No\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n2;x=y\r\nde\r\n0\r\nTrailer: t\r\n\r\n",
        "HTTP/1.1 201 Yes\r\nTransfer-Encoding: chunked\r\n\r\n14\r\n01234567890123456789\r\n1\r\nx\r\n0\r\n\r\n",
    ];
    let _gate = gate::enter();
    for hooks in gate::hook_families() {
        let (listener, port) = listen();
        let agent = Run::ports(&[port]).hooks(&hooks).start();
        let plan: Vec<(&str, usize, bool)> = ANSWERS
            .iter()
            .flat_map(|answer| {
                (1..answer.len()).flat_map(move |at| [(*answer, at, false), (*answer, at, true)])
            })
            .collect();
        let (has_read, read) = mpsc::channel();
        let planned = plan.clone();
        let handler = move |mut connection: Connection| {
            for (answer, at, by_server) in planned {
                let (first, rest) = answer.as_bytes().split_at(if by_server { at } else { answer.len() });
                connection.read_request().expect("a request");
                connection.write(first).expect("written");
                read.recv().expect("a client");
                connection.write(rest).expect("written");
            }
        };
        let server = serve(listener, vec![Box::new(handler)]);
        let mut connection = Connection::to(port);
        let mut calls = Vec::new();
        for (_, at, _) in plan {
            let (path, start) = (format!("/cut/{}", fresh("c")), now());
            connection.write(connection.head("GET", &path, "", 0).as_bytes()).expect("written");
            connection.read_ahead(at).expect("the first part");
            has_read.send(()).expect("a server");
            let answer = connection.read_answer("GET", 65_536).expect("answered");
            calls.push(told("GET", &path, 0, answer, start));
        }
        server.join().expect("server");
        check(&format!("answers cut anywhere ({hooks})"), port, &calls, &agent.finish());
    }
}

#[test]
#[ignore = "live: needs root, BPF and a built sonde"]
fn bodies_up_and_down() {
    let _gate = gate::enter();
    for hooks in gate::hook_families() {
        for server in [servers::go(&Setting::default()), servers::python(&Setting::default())] {
            let agent = Run::ports(&[server.port]).hooks(&hooks).start();
            let mut calls = Vec::new();
            let mut connection = Connection::to(server.port);
            for size in [1, 1023, 1024, 1025, 65_535, 1_000_000, 0] {
                calls.push(connection.exchange(
                    "POST",
                    &format!("/echo/{}", fresh("u")),
                    "",
                    &vec![b'u'; size],
                ));
            }
            // Chunked up, with an extension and a trailer, in one write and in many.
            for pieces in [false, true] {
                let path = format!("/echo/chunked/{}", fresh("u"));
                let start = now();
                let text = connection.head("POST", &path, "Transfer-Encoding: chunked\r\n", 0)
                    + &format!("5\r\nhello\r\n1000\r\n{}\r\n0\r\nTrailer: t\r\n\r\n", "c".repeat(0x1000));
                match pieces {
                    false => connection.write(text.as_bytes()).expect("written"),
                    true => text
                        .as_bytes()
                        .chunks(100)
                        .for_each(|piece| connection.write(piece).expect("written")),
                }
                let answer = connection.read_answer("POST", 65_536).expect("answered");
                calls.push(told("POST", &path, 5 + 0x1000, answer, start));
            }
            calls.push(connection.exchange("GET", &format!("/stream/300000/{}", fresh("u")), "", b""));
            // More than a megabyte makes curl ask first: 100 Continue, then the body.
            let plan = [Planned::post(format!("/echo/{}", fresh("u")), 1_500_000)];
            calls.extend(Client::Curl.run(&server.url(), 1, &plan));
            let finished = agent.finish();
            let mut report = Report::default();
            report.both_ends(server.port, &calls, &finished.spans);
            report.check(&format!("bodies, {} ({hooks})", server.process.name), &finished.log);
        }
    }
}

#[test]
#[ignore = "live: needs root, BPF and a built sonde"]
fn broken_off() {
    let _gate = gate::enter();
    let server = servers::python(&Setting::default());
    let (listener, own_port) = listen();
    let agent = Run::ports(&[server.port, own_port]).start();
    let ids: Vec<String> = (0..4).map(|_| fresh("x")).collect();

    // The server resets, closes, or stops within a body; or it answers before it has read the body.
    let handlers: Vec<Box<dyn FnOnce(Connection) + Send>> = vec![
        Box::new(|mut connection| {
            connection.read_request().expect("a request");
            connection.abort();
        }),
        Box::new(|mut connection| {
            connection.read_request().expect("a request");
        }),
        Box::new(|mut connection| {
            connection.read_request().expect("a request");
            connection.write(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nonly this").expect("written");
        }),
        Box::new(|mut connection| {
            connection.read_request_head().expect("a head");
            connection
                .write(b"HTTP/1.1 413 Too Large\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
                .expect("written");
            connection.finish_writing();
            drop(connection.read_rest());
        }),
    ];
    let own = serve(listener, handlers);
    for id in &ids[..3] {
        let mut connection = Connection::to(own_port);
        connection.write(connection.head("GET", &format!("/own/{id}"), "", 0).as_bytes()).expect("written");
        connection.read_answer("GET", 4096).expect_err("it breaks off");
    }
    let mut connection = Connection::to(own_port);
    let early = format!("/own/{}", ids[3]);
    connection.write(connection.head("POST", &early, "", 500_000).as_bytes()).expect("written");
    connection.write(&[b'e'; 1000]).expect("written");
    let answer = connection.read_answer("POST", 4096).expect("an early answer");
    assert_eq!(answer, Answer { status: 413, body: 0, closes: true });
    drop(connection);
    own.join().expect("server");
    let after = Connection::to(server.port).exchange("GET", &format!("/hello/{}", fresh("x")), "", b"");
    let finished = agent.finish();

    let own = |id: &str| format!("/own/{id}");
    broke(&finished, &own(&ids[0]), ("", "connection_reset"), &["closed", "connection_reset"]);
    broke(&finished, &own(&ids[1]), ("", "closed"), &["closed"]);
    broke(&finished, &own(&ids[2]), ("200", "closed"), &["closed"]);
    for kind in [Kind::Client, Kind::Server] {
        assert_eq!(one(&finished, kind, &early).attribute("http.response.status_code"), "413", "{kind:?}");
        assert_eq!(one(&finished, kind, &after.path).attribute("error.type"), "", "{kind:?}");
    }
    assert_eq!(finished.spans.len(), 10, "{:#?}", finished.spans);
}

#[test]
#[ignore = "live: needs root, BPF and a built sonde"]
fn client_gives_up_within_the_answer() {
    let _gate = gate::enter();
    let server = servers::python(&Setting::default());
    let agent = Run::ports(&[server.port]).start();
    // By a reset, and by closing with bytes unread, which resets too.
    let gone = [(); 2].map(|()| format!("/stream/30000000/{}", fresh("x")));
    for (path, abort) in gone.iter().zip([true, false]) {
        let mut connection = Connection::to(server.port);
        connection.write(connection.head("GET", path, "", 0).as_bytes()).expect("written");
        connection.read_request_head().expect("the answer's head");
        connection.wait_for_bytes().expect("more of the answer");
        if abort {
            connection.abort();
        }
    }
    let finished = agent.finish();
    for path in &gone {
        broke(&finished, path, ("200", "closed"), &["connection_reset"]);
    }
    assert_eq!(finished.spans.len(), 4, "{:#?}", finished.spans);
}

#[test]
#[ignore = "live: needs root, BPF and a built sonde"]
fn ends_without_length_and_upgrades() {
    let _gate = gate::enter();
    let (listener, port) = listen();
    let agent = Run::ports(&[port]).start();
    let handlers: Vec<Box<dyn FnOnce(Connection) + Send>> = vec![
        Box::new(|mut connection| {
            connection.read_request().expect("a request");
            connection.write(b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n").expect("written");
            connection.write(&[b'z'; 5000]).expect("written");
        }),
        Box::new(|mut connection| {
            connection.read_request().expect("a request");
            connection
                .write(b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: echo\r\nConnection: Upgrade\r\n\r\n")
                .expect("written");
            connection.write(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n").expect("written");
            drop(connection.read_rest());
        }),
        Box::new(|mut connection| {
            connection.read_request().expect("a request");
            connection.write(b"HTTP/1.1 200 Connection established\r\n\r\n").expect("written");
            drop(connection.read_rest());
        }),
        Box::new(|mut connection| {
            connection.read_request().expect("a request");
            connection.write(b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n").expect("written");
            connection.write(b"HTTP/1.1 204 No Content\r\n\r\n").expect("written");
            connection.read_request().expect("a request");
            connection.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok").expect("written");
        }),
    ];
    let server = serve(listener, handlers);
    let mut calls = Vec::new();
    calls.push(Connection::to(port).exchange("GET", &format!("/own/{}", fresh("e")), "", b""));
    // After the upgrade the bytes are another protocol's, even where they look like this one's.
    let mut connection = Connection::to(port);
    let upgrade = "Upgrade: echo\r\nConnection: Upgrade\r\n";
    let path = format!("/own/{}", fresh("e"));
    let start = now();
    connection.write(connection.head("GET", &path, upgrade, 0).as_bytes()).expect("written");
    let answer = connection.read_answer("GET", 4096).expect("an answer");
    calls.push(told("GET", &path, 0, answer, start));
    connection.write(connection.head("GET", "/not/http", "", 0).as_bytes()).expect("written");
    drop(connection);
    let mut connection = Connection::to(port);
    connection.write(b"CONNECT tunnel.test:443 HTTP/1.1\r\nHost: tunnel.test:443\r\n\r\n").expect("written");
    connection.read_answer("HEAD", 4096).expect("an answer");
    connection.write(connection.head("GET", "/not/http", "", 0).as_bytes()).expect("written");
    drop(connection);
    let mut connection = Connection::to(port);
    calls.push(connection.exchange("PURGE", &format!("/own/{}", fresh("e")), "", b""));
    calls.push(connection.exchange("GET", &format!("/own/{}", fresh("e")), "", b""));
    drop(connection);
    server.join().expect("server");
    let mut finished = agent.finish();

    let (tunnels, rest): (Vec<Span>, Vec<Span>) =
        finished.spans.into_iter().partition(|span| span.attribute("http.request.method") == "CONNECT");
    finished.spans = rest;
    assert_eq!(tunnels.len(), 2, "{tunnels:#?}");
    assert!(tunnels.iter().all(|span| span.attribute("http.response.status_code") == "200"), "{tunnels:#?}");
    for span in &mut finished.spans {
        // An extension method: `_OTHER` with the original beside it.
        if span.attribute("http.request.method") == "_OTHER" {
            assert_eq!(span.attribute("http.request.method_original"), "PURGE");
            span.attributes.insert("http.request.method".into(), "PURGE".into());
            assert!(span.name.starts_with("HTTP"), "name of an unknown method: {:?}", span.name);
            span.name = "PURGE".into();
        }
    }
    check("no length, upgrades, 1xx", port, &calls, &finished);
}

/// One connection written by several threads: a head in two halves by two, a body by a third.
#[test]
#[ignore = "live: needs root, BPF and a built sonde"]
fn shared_connection() {
    let _gate = gate::enter();
    let server = servers::hyper(&Setting::default());
    let agent = Run::ports(&[server.port]).start();
    let stream = std::net::TcpStream::connect(("127.0.0.1", server.port)).expect("connected");
    stream.set_nodelay(true).expect("TCP_NODELAY");
    let mut calls = Vec::new();
    for _ in 0..20 {
        let path = format!("/echo/{}", fresh("s"));
        let start = now();
        let text = Connection::over(stream.try_clone().expect("a descriptor")).head("POST", &path, "", 50);
        let (first, second) = text.split_at(text.len() / 2);
        for part in [first.as_bytes(), second.as_bytes(), &[b's'; 50]] {
            let mut other = stream.try_clone().expect("a second descriptor");
            let part = part.to_vec();
            thread::spawn(move || other.write_all(&part).expect("written")).join().expect("writer");
        }
        let mut reader = Connection::over(stream.try_clone().expect("a third descriptor"));
        let answer = reader.read_answer("POST", 4096).expect("answered");
        calls.push(told("POST", &path, 50, answer, start));
    }
    check("one connection, many threads and descriptors", server.port, &calls, &agent.finish());
}

/// A gigabyte each way, without growth.
#[test]
#[ignore = "live: needs root, BPF and a built sonde"]
fn gigabytes() {
    const GIGABYTE: u64 = 1 << 30;
    let _gate = gate::enter();
    let nginx = servers::nginx("", "rewrite ^ /giga.bin break;", &Setting::default());
    let file = std::fs::File::create(nginx.folder().join("www/giga.bin")).expect("file");
    file.set_len(GIGABYTE).expect("a sparse file");
    let (listener, port) = listen();
    for hooks in gate::hook_families() {
        let agent = Run::ports(&[nginx.port, port]).hooks(&hooks).start();
        let before = agent.process.resident();
        let down = Connection::to(nginx.port).exchange("GET", &format!("/down/{}", fresh("g")), "", b"");
        assert_eq!(down.received, GIGABYTE);
        let handler = |mut connection: Connection| {
            connection.read_request().expect("a request");
            connection.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok").expect("written");
        };
        let server = serve(listener.try_clone().expect("listener"), vec![Box::new(handler)]);
        let mut connection = Connection::to(port);
        let path = format!("/up/{}", fresh("g"));
        let start = now();
        let text =
            format!("POST {path} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nContent-Length: {GIGABYTE}\r\n\r\n");
        connection.write(text.as_bytes()).expect("written");
        let block = vec![b'g'; 1 << 20];
        for _ in 0..GIGABYTE >> 20 {
            connection.write(&block).expect("written");
        }
        let answer = connection.read_answer("POST", 4096).expect("answered");
        let up = told("POST", &path, GIGABYTE, answer, start);
        server.join().expect("server");
        let grown = agent.process.resident().saturating_sub(before);
        println!("gigabytes ({hooks}): sonde grew by {} KiB from {} KiB", grown >> 10, before >> 10);
        let mut finished = agent.finish();
        let (ups, downs): (Vec<Span>, Vec<Span>) =
            finished.spans.into_iter().partition(|span| span.path().starts_with("/up/"));
        finished.spans = downs;
        check(&format!("a gigabyte down ({hooks})"), nginx.port, &[down], &finished);
        finished.spans = ups;
        check(&format!("a gigabyte up ({hooks})"), port, &[up], &finished);
        assert!(grown < 8 << 20, "sonde grew by {grown} bytes");
    }
}
