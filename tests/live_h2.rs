//! HTTP/2 without TLS: every stream of every server and client is one SERVER and one CLIENT span that tell of it truly.

use std::collections::BTreeMap;
use std::io::Read;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::Signal;
use sonde_tests::calls::fresh;
use sonde_tests::compare::Report;
use sonde_tests::h2::clients::{Client, h2load};
use sonde_tests::h2::eye::{Eye, Seen};
use sonde_tests::h2::mixed;
use sonde_tests::h2::wire::{
    self, ACK, DATA, END_HEADERS, END_STREAM, GET, HEADERS, OK, PING, PREFACE, SETTINGS, frame,
};
use sonde_tests::processes::PATIENCE;
use sonde_tests::raw::{Connection, listen, now, serve};
use sonde_tests::servers::{self, Server, Setting};
use sonde_tests::{Call, Kind, Planned, Span, gate};

/// Compares both ends of what `work` tells with all that each eye sees.
fn seen(what: &str, port: u16, work: impl Fn() -> Vec<Call>) {
    for eye in Eye::all() {
        let watch = eye.open(&[port]);
        let calls = work();
        let seen = watch.finish();
        let mut report = Report::of_version("2");
        report.both_ends(port, &calls, &seen.spans);
        report.check(&format!("{what} ({eye})"), &seen.log);
    }
}

/// Each client makes `count` requests of all sorts, one at a time and thirty-two at a time; with `large`, some of a few MiB.
fn matrix(server: &Server, clients: &[Client], count: usize, large: bool) {
    for &client in clients {
        seen(&format!("{client:?} -> {}", server.process.name), server.port, || {
            let mut calls = client.run(&server.url(), 1, &mixed(count / 3, false));
            calls.extend(client.run(&server.url(), 32, &mixed(count, large)));
            calls
        });
    }
}

#[test]
#[ignore = "live: needs root, BPF and a built sonde"]
fn go_h2c() {
    let _gate = gate::enter();
    let server = servers::go_h2(&Setting::default());
    matrix(&server, &[Client::Go, Client::Httpx, Client::Curl], 210, true);
    matrix(&server, &[Client::Node], 210, false);
}

#[test]
#[ignore = "live: needs root, BPF and a built sonde"]
fn node_http2() {
    let _gate = gate::enter();
    let clients = [Client::Node, Client::Go, Client::Curl, Client::Nghttp(&[])];
    matrix(&servers::node_h2(&Setting::default()), &clients, 210, false);
}

#[test]
#[ignore = "live: needs root, BPF and a built sonde"]
fn hypercorn() {
    let _gate = gate::enter();
    let clients = [Client::Httpx, Client::Go, Client::Node, Client::Curl];
    matrix(&servers::hypercorn(&Setting::default()), &clients, 140, false);
}

#[test]
#[ignore = "live: needs root, BPF and a built sonde"]
fn rust_hyper() {
    let _gate = gate::enter();
    let clients = [Client::Go, Client::Curl, Client::Nghttp(&["--padding=100"])];
    matrix(&servers::hyper_h2(&Setting::default()), &clients, 210, true);
}

/// Node writes more frames by one call than the kernel side looks at.
#[test]
#[ignore = "live: needs root, BPF and a built sonde"]
fn bodies_of_mebibytes_by_node() {
    let _gate = gate::enter();
    matrix(&servers::go_h2(&Setting::default()), &[Client::Node], 210, true);
    matrix(&servers::node_h2(&Setting::default()), &[Client::Node, Client::Go], 210, true);
}

fn gets(count: usize) -> Vec<Planned> {
    (0..count).map(|i| Planned::get(format!("/bytes/{}/{}", 1 + i * 1237 % 50_000, fresh("g")))).collect()
}

/// A connection that this client upgrades by a first request without a body, then others on it.
fn upgraded(client: Client, server: &Server) {
    seen(&format!("{client:?} -> {}", server.process.name), server.port, || {
        let mut calls = client.run(&server.url(), 1, &gets(1));
        let mut plan = gets(40);
        // nghttp upgrades by OPTIONS where it has a body to send, and hypercorn upgrades nothing that has one.
        plan.extend(if client == Client::CurlUpgrade { mixed(80, false) } else { gets(40) });
        calls.extend(client.run(&server.url(), 1, &plan));
        calls
    });
}

/// HTTP/1 that becomes HTTP/2: what a connection begins with is its stream 1.
#[test]
#[ignore = "live: needs root, BPF and a built sonde"]
fn upgrades() {
    let _gate = gate::enter();
    let server = servers::go_h2(&Setting::default());
    matrix(&server, &[Client::Java], 140, true);
    for client in [Client::Nghttp(&["--upgrade"]), Client::CurlUpgrade] {
        upgraded(client, &server);
    }
}

/// hypercorn speaks HTTP/2 right behind its 101, before it has read the client's preface.
#[test]
#[ignore = "live: needs root, BPF and a built sonde"]
fn upgrades_of_a_server_that_goes_first() {
    let _gate = gate::enter();
    let server = servers::hypercorn(&Setting::default());
    for client in [Client::Nghttp(&["--upgrade"]), Client::CurlUpgrade] {
        upgraded(client, &server);
    }
}

/// The answer of a stream, in the calls that write it: `:status 200`, and a body in frames.
fn answer(stream: u32, body: usize) -> Vec<Vec<u8>> {
    let mut calls = vec![frame(HEADERS, END_HEADERS, stream, OK)];
    calls.extend(vec![b'd'; body].chunks(16_384).map(|part| frame(DATA, 0, stream, part)));
    calls.push(frame(DATA, END_STREAM, stream, b""));
    calls
}

/// All that a server says before its client's preface, in calls that cut it in one of several ways.
fn said_first(how: usize, body: usize) -> Vec<Vec<u8>> {
    let head = b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n\r\n";
    let settings = frame(SETTINGS, 0, 0, &[0, 3, 0, 0, 0, 100, 0, 4, 0, 1, 0, 0]);
    let answer = answer(1, body);
    let first = [&head[..], &settings].concat();
    match how {
        0 => [vec![head.to_vec(), settings], answer].concat(),
        1 => [vec![first], answer].concat(),
        2 => vec![first, answer.concat()],
        3 => vec![head[..50].to_vec(), head[50..].to_vec(), [settings, answer.concat()].concat()],
        _ => vec![[first, answer.concat()].concat()],
    }
}

/// What a server says behind its 101, before it has heard of HTTP/2, is written and read by calls that cut it in every way.
#[test]
#[ignore = "live: needs root, BPF and a built sonde"]
fn upgrades_cut_anywhere() {
    let _gate = gate::enter();
    let mut cases = Vec::new();
    for how in 0..5 {
        for body in [1, 500, 3000, 40_000] {
            cases.extend([100, 1024, 16_384, 1 << 20].map(|piece| (how, body, piece)));
        }
    }
    for eye in Eye::all() {
        let (listener, port) = listen();
        let (say, said) = mpsc::channel();
        let handlers = cases.iter().map(|&(how, body, _)| -> Box<dyn FnOnce(Connection) + Send> {
            let say = say.clone();
            Box::new(move |mut connection| {
                connection.read_request().expect("a request");
                for call in said_first(how, body) {
                    connection.write(&call).expect("written");
                }
                say.send(()).expect("the client waits");
                // The preface looks like the head of a request.
                connection.read_request_head().expect("a preface");
                connection.read_until(|text| text.ends_with("of stream 3"));
                let second = [frame(SETTINGS, ACK, 0, b""), answer(3, body).concat()].concat();
                connection.write(&second).expect("written");
                drop(connection.read_rest());
            })
        });
        let watch = eye.open(&[port]);
        let server = serve(listener, handlers.collect());
        let mut calls = Vec::new();
        for &(how, body, piece) in &cases {
            let mut connection = Connection::to(port);
            let tell = |path: &str, start| Call {
                method: "GET".into(),
                path: path.into(),
                status: 200,
                sent: 0,
                received: body as u64,
                start,
                end: now(),
                pid: std::process::id(),
            };
            let [first, second] = ["one", "three"].map(|name| format!("/{name}/{}", fresh("u")));
            let start = now();
            let fields =
                "Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABk\r\n";
            connection.write(connection.head("GET", &first, fields, 0).as_bytes()).expect("written");
            // By then all of it waits to be read, and what is read by a call depends on its buffer alone.
            said.recv().expect("the server says so");
            let length = said_first(how, body).concat().len();
            for end in (0..length).step_by(piece).skip(1).chain([length]) {
                connection.read_ahead(end).expect("read");
            }
            calls.push(tell(&first, start));
            let start = now();
            let fields = [GET, &wire::path(&second)].concat();
            let preface = [PREFACE, &frame(SETTINGS, 0, 0, b"")].concat();
            let request =
                [frame(HEADERS, END_HEADERS, 3, &fields), frame(DATA, END_STREAM, 3, b"of stream 3")]
                    .concat();
            connection.write(&[preface, request].concat()).expect("written");
            connection.skip_request(length).expect("there already");
            connection
                .skip_request(frame(SETTINGS, ACK, 0, b"").len() + answer(3, body).concat().len())
                .expect("read");
            calls.push(Call { sent: 11, ..tell(&second, start) });
        }
        server.join().expect("server");
        let seen = watch.finish();
        let mut report = Report::of_version("2");
        report.both_ends(port, &calls, &seen.spans);
        report.check(&format!("upgrades cut anywhere ({eye})"), &seen.log);
    }
}

/// Three requests behind many short frames, all by one call, and the same of their answers: of a call so many are looked at together,
/// and so many bytes, and either ends anywhere.
#[test]
#[ignore = "live: needs root, BPF and a built sonde"]
fn many_frames_by_one_call() {
    const STREAMS: [u32; 3] = [1, 3, 5];
    let _gate = gate::enter();
    let cases: Vec<_> = (30..=70).flat_map(|frames| [20, 100, 230].map(|length| (frames, length))).collect();
    let pings = |count: usize| frame(PING, 0, 0, &[7; 8]).repeat(count);
    let path = |case: usize, stream: u32| {
        let (_, length) = cases[case];
        let name = format!("/{}/{case}/{stream}/", std::process::id());
        format!("{name:x<length$}")
    };
    let asked = |case: usize| {
        let requests = STREAMS.map(|stream| {
            let fields = [GET, &wire::path(&path(case, stream))].concat();
            frame(HEADERS, END_HEADERS | END_STREAM, stream, &fields)
        });
        [pings(cases[case].0), requests.concat()].concat()
    };
    let answered = |case: usize| {
        [pings(cases[case].0), STREAMS.map(|stream| answer(stream, 50).concat()).concat()].concat()
    };
    let preface = [PREFACE, &frame(SETTINGS, 0, 0, b"")].concat();
    for eye in Eye::all() {
        let (listener, port) = listen();
        let handlers = (0..cases.len()).map(|case| -> Box<dyn FnOnce(Connection) + Send> {
            let (asked, answered) = (preface.len() + asked(case).len(), answered(case));
            Box::new(move |mut connection| {
                connection.skip_request(asked).expect("requests");
                connection.write(&answered).expect("written");
                drop(connection.read_rest());
            })
        });
        let watch = eye.open(&[port]);
        let server = serve(listener, handlers.collect());
        let mut calls = Vec::new();
        for case in 0..cases.len() {
            let mut connection = Connection::to(port);
            connection.write(&preface).expect("written");
            let start = now();
            connection.write(&asked(case)).expect("written");
            connection.skip_request(answered(case).len()).expect("answers");
            calls.extend(STREAMS.map(|stream| Call {
                method: "GET".into(),
                path: path(case, stream),
                status: 200,
                sent: 0,
                received: 50,
                start,
                end: now(),
                pid: std::process::id(),
            }));
        }
        server.join().expect("server");
        let seen = watch.finish();
        let mut report = Report::of_version("2");
        report.both_ends(port, &calls, &seen.spans);
        report.check(&format!("many frames by one call ({eye})"), &seen.log);
    }
}

/// Header blocks in many frames, padding in all of them, priorities, streams that are pushed, and trailers, by nghttp2.
#[test]
#[ignore = "live: needs root, BPF and a built sonde"]
fn nghttpd_with_everything() {
    let _gate = gate::enter();
    let args =
        ["--padding=200", "--trailer=x-sum: 7", "--push=/page.html=/pushed.txt,/again.txt", "--workers=2"];
    let server = servers::nghttpd(&args, &Setting::default());
    let file = |name: &str, size: usize| {
        std::fs::write(server.folder().join(name), vec![b'f'; size]).expect("file");
        Planned::get(format!("/{name}"))
    };
    file("pushed.txt", 3000);
    file("again.txt", 30);
    let pushing = [file("page.html", 500)];
    let plan = || -> Vec<Planned> {
        let of = |i: usize| match i % 5 {
            0 => Planned::post(format!("/up/{}", fresh("n")), 1 + i * 977 % 40_000),
            1 => Planned::post(format!("/up/{}", fresh("n")), 1),
            2 => Planned { method: "HEAD", ..file(&fresh("n"), 100 + i) },
            3 => Planned::get(format!("/none/{}", fresh("n"))),
            _ => file(&fresh("n"), 1 + i * 6151 % 200_000),
        };
        (0..120).map(of).collect()
    };
    let all = Client::Nghttp(&["--padding=255", "--continuation"]);
    let small = Client::Nghttp(&["--header-table-size=128", "--header-table-size=4096", "--no-dep"]);
    for client in [all, small, Client::Nghttp(&["--trailer=x-sent: 1"]), Client::Go, Client::Curl] {
        seen(&format!("{client:?} -> nghttpd"), server.port, || client.run(&server.url(), 16, &plan()));
    }
    seen("pushed by nghttpd", server.port, || all.run(&server.url(), 1, &pushing));
}

const PAGES: &str = "location /bytes/ { rewrite ^/bytes/([0-9]+)/ /$1.bin break; } location /hello/ { return 200 'hello\n'; }\n\
                     location /status/404/ { return 404; } location /status/500/ { return 500; }\n\
                     location /status/204/ { return 204; } location /same/ { return 304; }";

/// Files by sendfile, short answers, and others passed on to a service that speaks HTTP/1.
fn through_nginx(clients: &[Client]) {
    let service = servers::hyper(&Setting::default());
    let pages = format!("{PAGES} location / {{ proxy_pass {}; }}", service.url());
    let server = servers::nginx_h2("", &pages, &Setting::default());
    let plan = |count: usize| -> Vec<Planned> {
        let mut plan = mixed(count, true);
        // This nginx (1.22) closes a connection on which a request has trailers.
        plan.retain(|call| !call.path.starts_with("/trailers/"));
        for call in plan.iter().filter(|call| call.path.starts_with("/bytes/")) {
            let number = call.path.split('/').nth(2).expect("a size");
            let size = number.parse().expect("a number");
            std::fs::write(server.folder().join(format!("www/{number}.bin")), vec![b'z'; size])
                .expect("file");
        }
        plan
    };
    for client in clients {
        seen(&format!("{client:?} -> nginx"), server.port, || {
            let mut calls = client.run(&server.url(), 1, &plan(70));
            calls.extend(client.run(&server.url(), 32, &plan(210)));
            calls
        });
    }
}

#[test]
#[ignore = "live: needs root, BPF and a built sonde"]
fn nginx() {
    let _gate = gate::enter();
    through_nginx(&[Client::Go, Client::Curl, Client::Nghttp(&[])]);
}

/// asyncio reads up to 256 KiB by one call, which is more than the kernel side looks at.
#[test]
#[ignore = "live: needs root, BPF and a built sonde"]
fn reads_of_a_quarter_mebibyte() {
    let _gate = gate::enter();
    through_nginx(&[Client::Httpx]);
}

/// nginx says GOAWAY after so many requests, and the client opens another connection.
#[test]
#[ignore = "live: needs root, BPF and a built sonde"]
fn goaway() {
    let _gate = gate::enter();
    let pages = format!("keepalive_requests 7; {PAGES}");
    let server = servers::nginx_h2("", &pages, &Setting::default());
    let plan = |count: usize| -> Vec<Planned> {
        (0..count).map(|_| Planned::get(format!("/hello/{}", fresh("a")))).collect()
    };
    seen("GOAWAY, Go -> nginx", server.port, || Client::Go.run(&server.url(), 1, &plan(100)));
}

/// What nginx logs of a request: the client's port, and what was done.
fn logged(line: &str) -> (u16, Call) {
    let fields: Vec<&str> = line.split('\t').collect();
    let [port, method, path, status, sent, received] = fields[..] else { panic!("nginx: {line:?}") };
    let call = Call {
        method: method.into(),
        path: path.into(),
        status: status.parse().expect("status"),
        sent: sent.parse().unwrap_or(0),
        received: received.parse().expect("bytes"),
        start: 0,
        end: 0,
        pid: 0,
    };
    (port.parse().expect("port"), call)
}

/// Sixty-four streams at a time on each of eight connections. nginx's log is the truth: each connection asks for the same paths.
#[test]
#[ignore = "live: needs root, BPF and a built sonde"]
fn h2load_with_512_streams() {
    let _gate = gate::enter();
    let format = "log_format told '$remote_port\t$request_method\t$request_uri\t$status\t$content_length\t$body_bytes_sent';";
    // Half of the pages sleep, so that streams stay open and a debug build of Sonde keeps up.
    let service = servers::hyper(&Setting::default());
    let pages = format!(
        "access_log access.log told; http2_max_concurrent_streams 256; {PAGES}\n\
         location /sleep/ {{ proxy_pass {}; }}",
        service.url()
    );
    let server = servers::nginx_h2(format, &pages, &Setting::default());
    let log = server.folder().join("access.log");
    for size in [20_usize, 2_000, 20_000] {
        std::fs::write(server.folder().join(format!("www/{size}.bin")), vec![b'z'; size]).expect("file");
    }
    let mut before = 0;
    for eye in Eye::all() {
        let paths: Vec<String> = (0..350)
            .map(|i| match i % 10 {
                5.. => format!("/sleep/200/{}", fresh("p")),
                0 => format!("/bytes/20/{}", fresh("p")),
                1 => format!("/bytes/2000/{}", fresh("p")),
                2 => format!("/bytes/20000/{}", fresh("p")),
                3 => format!("/status/404/{}", fresh("p")),
                _ => format!("/hello/{}", fresh("p")),
            })
            .collect();
        let watch = eye.open(&[server.port]);
        h2load(&server.url(), 8, 64, &paths);
        let lines = lines_of(&log, before + 8 * paths.len());
        let seen = watch.finish();
        let mut by_port: BTreeMap<u16, Vec<Call>> = BTreeMap::new();
        for (port, call) in lines[before..].iter().map(|line| logged(line)) {
            by_port.entry(port).or_default().push(call);
        }
        before = lines.len();
        let mut report = Report::of_version("2");
        for (kind, own) in [(Kind::Server, "network.peer.port"), (Kind::Client, "network.local.port")] {
            for (&port, calls) in &by_port {
                let of_port: Vec<&Span> =
                    seen.spans.iter().filter(|span| span.number(own) == Some(port.into())).collect();
                report.compare(&format!("port {port}"), kind, server.port, calls, &of_port);
            }
        }
        report.unique_ids(&seen.spans);
        report.check(&format!("h2load, 8 connections of 64 streams ({eye})"), &seen.log);
        assert_eq!((by_port.len(), seen.spans.len()), (8, 16 * paths.len()), "{eye}: {}", seen.log);
    }
}

/// The lines of a log once there are so many: nginx writes one when a request is over, which its client may know before.
fn lines_of(log: &Path, count: usize) -> Vec<String> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let text = std::fs::read_to_string(log).unwrap_or_default();
        let lines: Vec<String> = text.lines().map(str::to_owned).collect();
        if lines.len() >= count && text.ends_with('\n') {
            assert_eq!(lines.len(), count, "{}", log.display());
            return lines;
        }
        assert!(Instant::now() < deadline, "{} of {count} lines in {}", lines.len(), log.display());
        thread::sleep(Duration::from_millis(20));
    }
}

/// The one span of a kind and path.
fn one<'a>(seen: &'a Seen, kind: Kind, path: &str) -> &'a Span {
    let found: Vec<&Span> =
        seen.spans.iter().filter(|span| span.kind == kind && span.path() == path).collect();
    assert_eq!(found.len(), 1, "{kind:?} spans of {path}\nsonde said: {}", seen.log);
    found[0]
}

/// Streams that their client resets in the middle, and those that their server gives up.
#[test]
#[ignore = "live: needs root, BPF and a built sonde"]
fn reset_in_the_middle() {
    let _gate = gate::enter();
    let go = servers::go_h2(&Setting::default());
    let node = servers::node_h2(&Setting::default());
    for (client, server) in [(Client::Go, &go), (Client::Node, &go), (Client::Go, &node)] {
        for eye in Eye::all() {
            let plan: Vec<Planned> = (0..60)
                .map(|i| match i % 3 {
                    // Node's server in this test ends what it began.
                    0 if server.port == go.port => Planned::get(format!("/endless/{}", fresh("r"))),
                    0 | 1 => Planned::get(format!("/abort/{}/{}", 1 + i * 331 % 9000, fresh("r"))),
                    _ => Planned::get(format!("/hello/{}", fresh("r"))),
                })
                .collect();
            let watch = eye.open(&[server.port]);
            let calls = client.run(&server.url(), 16, &plan);
            let seen = watch.finish();
            let what = format!("reset, {client:?} -> {} ({eye})", server.process.name);
            let (whole, broken): (Vec<&Call>, Vec<&Call>) =
                calls.iter().partition(|call| call.path.starts_with("/hello/"));
            for call in whole.iter().chain(&broken) {
                let error = match call.path.split('/').nth(1) {
                    Some("endless") => "CANCEL",
                    Some("abort") => "INTERNAL_ERROR",
                    _ => "",
                };
                for kind in [Kind::Server, Kind::Client] {
                    let span = one(&seen, kind, &call.path);
                    assert_eq!(span.attribute("http.response.status_code"), "200", "{what}: {span:?}");
                    assert_eq!(span.attribute("error.type"), error, "{what}: {span:?}");
                    assert_eq!(span.error, !error.is_empty(), "{what}: {span:?}");
                    assert_eq!(span.attribute("sonde.quality"), "", "{what}: {span:?}");
                    let size = span.number("http.response.body.size").expect("a size");
                    let received = i64::try_from(call.received).expect("small");
                    // Of what a client gave up, more was on its way than it has read.
                    let right = if error == "CANCEL" { size >= received } else { size == received };
                    assert!(right, "{what}: {size} of {received} bytes: {span:?}");
                }
            }
            assert_eq!(seen.spans.len(), 2 * calls.len(), "{what}: {}", seen.log);
            println!("{what}: {} whole and {} broken off, as they were", whole.len(), broken.len());
        }
    }
}

/// A server that dies within an answer.
#[test]
#[ignore = "live: needs root, BPF and a built sonde"]
fn killed_in_the_middle() {
    let _gate = gate::enter();
    for eye in Eye::all() {
        let server = servers::go_h2(&Setting::default());
        let watch = eye.open(&[server.port]);
        let path = format!("/endless/{}", fresh("k"));
        let mut command = Command::new("curl");
        command.args(["--disable", "--silent", "--no-buffer", "--http2-prior-knowledge"]);
        command.arg(format!("{}{path}", server.url())).stdin(Stdio::null()).stdout(Stdio::piped());
        let mut curl = command.spawn().expect("curl");
        let mut stdout = curl.stdout.take().expect("piped");
        stdout.read_exact(&mut [0; 3000]).expect("the answer has begun");
        server.process.signal(Signal::KILL);
        std::io::copy(&mut stdout, &mut std::io::sink()).expect("the rest");
        assert!(!curl.wait().expect("curl").success());
        let seen = watch.finish();
        for kind in [Kind::Server, Kind::Client] {
            let span = one(&seen, kind, &path);
            assert_eq!(span.attribute("http.response.status_code"), "200", "{eye}: {span:?}");
            let error = span.attribute("error.type");
            assert!(["closed", "connection_reset"].contains(&error) && span.error, "{eye}: {span:?}");
            println!("killed in the middle ({eye}): {kind:?} {error}");
        }
        assert_eq!(seen.spans.len(), 2, "{eye}: {}", seen.log);
    }
}
