//! gRPC: every call of every library is one SERVER and one CLIENT span that tell of it truly.

use std::collections::BTreeMap;
use std::io::Write;
use std::net::TcpStream;
use std::process::Command;
use std::thread;
use std::time::{SystemTime, UNIX_EPOCH};

use rustix::process::Signal;
use sonde_tests::calls::fresh;
use sonde_tests::captures::Tcpdump;
use sonde_tests::compare::Report;
use sonde_tests::grpc::compare::{ID, Pair, SHOW_ID};
use sonde_tests::grpc::programs::{self, Library, Server};
use sonde_tests::grpc::raw::{Contents, Random};
use sonde_tests::grpc::session::Session;
use sonde_tests::grpc::{Call, Planned, mixed};
use sonde_tests::h2::wire::{
    self, DATA, END_HEADERS, END_STREAM, HEADERS, OK, POST, PREFACE, SETTINGS, frame,
};
use sonde_tests::namespaces::Place;
use sonde_tests::processes::{Process, free_port, output};
use sonde_tests::raw::{Connection, listen, serve};
use sonde_tests::views::{View, Views};
use sonde_tests::{Kind, Run, Span, gate};

/// Each server with its own client and that of another library.
const PAIRS: [[Library; 2]; 10] = {
    use Library::{Go, Java, Node, Python, Tonic};
    [
        [Python, Python],
        [Python, Go],
        [Node, Node],
        [Node, Java],
        [Java, Java],
        [Java, Go],
        [Go, Go],
        [Go, Tonic],
        [Tonic, Tonic],
        [Tonic, Python],
    ]
};

fn pair<'a>(server: &Server, client: Library, plan: &'a [Planned], calls: &'a [Call]) -> Pair<'a> {
    Pair {
        plan,
        calls,
        port: server.port,
        server: Some(server.process.pid()),
        user_agent: client.user_agent(),
        cancels: server.library == Library::Tonic,
    }
}

/// So many calls of every kind from client to server, under each hook family.
fn echo(pairs: &[[Library; 2]], calls: usize, at_once: usize) {
    let mut differing = Vec::new();
    for hooks in gate::hook_families() {
        for &[server, client] in pairs {
            let server = server.serve();
            let agent = Run::ports(&[server.port]).env(SHOW_ID.0, SHOW_ID.1).hooks(&hooks).start();
            let plan = mixed(calls);
            let calls = client.call(server.port, at_once, 1, &plan);
            let finished = agent.finish();
            let mut report = Report::default();
            let pair = pair(&server, client, &plan, &calls);
            pair.both_ends(&mut report, &finished.spans);
            let what = format!("{client:?} -> {:?} ({hooks})", server.library);
            println!("{what}: {}", report.text());
            if report.count() > 0 {
                differing.push(format!("{what}: {}", finished.log));
            }
        }
    }
    assert!(differing.is_empty(), "differences: {}", differing.join("\n"));
}

#[test]
#[ignore = "live: needs root, BPF and a built sonde"]
fn echo_at_sixty_four_in_flight() {
    let _gate = gate::enter();
    echo(&PAIRS, 400, 64);
}

/// Several messages in one frame that is not copied whole, and messages in several frames.
#[test]
#[ignore = "live: needs root, BPF and a built sonde"]
fn counts_of_one_call_after_the_other() {
    let _gate = gate::enter();
    let pairs = [Library::Python, Library::Go, Library::Node, Library::Java, Library::Tonic];
    echo(&pairs.map(|library| [library, library]), 80, 1);
}

/// The same where frames of many streams stand between those of one.
#[test]
#[ignore = "live: needs root, BPF and a built sonde"]
fn counts_of_messages_among_other_streams() {
    let _gate = gate::enter();
    echo(&[[Library::Java, Library::Java], [Library::Tonic, Library::Tonic]], 640, 64);
}

/// Streams of two raw peers: messages in frames of any size and any order, moved by calls of any length.
#[test]
#[ignore = "live: needs root, BPF and a built sonde"]
fn messages_cut_anywhere() {
    const ROUNDS: u64 = 6;
    const MOST: usize = 40_000;
    let _gate = gate::enter();
    let streams: Vec<u32> = (0..40).map(|i| 2 * i + 1).collect();
    let id = |round: u64, stream: u32| format!("raw-{}-{round}-{stream}", std::process::id());
    let each =
        |one: &dyn Fn(u32) -> Vec<u8>| streams.iter().flat_map(|&stream| one(stream)).collect::<Vec<_>>();
    let asked = |round: u64| {
        let heads = each(&|stream| {
            let fields = [
                POST,
                &wire::path("/test.Raw/Chat"),
                &wire::field("content-type", "application/grpc"),
                &wire::field(ID.rsplit('.').next().expect("a name"), &id(round, stream)),
            ];
            frame(HEADERS, END_HEADERS, stream, &fields.concat())
        });
        let contents = Contents::of(&streams, &mut Random::new(round));
        let ends = each(&|stream| frame(DATA, END_STREAM, stream, b""));
        let settings = frame(SETTINGS, 0, 0, b"");
        ([PREFACE, &settings, &heads, &contents.frames, &ends].concat(), contents.counts)
    };
    let answered = |round: u64| {
        let heads = each(&|stream| {
            let fields = [OK, &wire::field("content-type", "application/grpc")].concat();
            frame(HEADERS, END_HEADERS, stream, &fields)
        });
        let contents = Contents::of(&streams, &mut Random::new(ROUNDS + round));
        let ends = each(&|stream| {
            frame(HEADERS, END_HEADERS | END_STREAM, stream, &wire::field("grpc-status", "0"))
        });
        let settings = frame(SETTINGS, 0, 0, b"");
        ([&settings[..], &heads, &contents.frames, &ends].concat(), contents.counts)
    };
    let write = |connection: &mut Connection, bytes: &[u8], random: &mut Random| {
        let mut left = bytes;
        while !left.is_empty() {
            let (call, rest) = left.split_at(left.len().min(1 + random.below(MOST)));
            connection.write(call).expect("the other end reads");
            left = rest;
        }
    };
    let read = |connection: &mut Connection, bytes: usize, random: &mut Random| {
        let mut end = 0;
        while end < bytes {
            end = bytes.min(end + 1 + random.below(MOST));
            connection.read_ahead(end).expect("the other end writes");
        }
    };
    let rounds: Vec<_> = (0..ROUNDS).map(|round| (round, asked(round), answered(round))).collect();
    let (listener, port) = listen();
    let views = Views::start(&[port], &[SHOW_ID]);
    let handlers = rounds.iter().map(|(round, asked, answered)| -> Box<dyn FnOnce(Connection) + Send> {
        let (round, asked, answered) = (*round, asked.0.len(), answered.0.clone());
        Box::new(move |mut connection| {
            let mut random = Random::new(round);
            read(&mut connection, asked, &mut random);
            write(&mut connection, &answered, &mut random);
            drop(connection.read_rest());
        })
    });
    let server = serve(listener, handlers.collect());
    for (round, asked, answered) in &rounds {
        let mut random = Random::new(ROUNDS + round);
        let mut connection = Connection::to(port);
        write(&mut connection, &asked.0, &mut random);
        read(&mut connection, answered.0.len(), &mut random);
    }
    server.join().expect("server");
    for view in views.finish() {
        let mut report = Report::default();
        for (round, asked, answered) in &rounds {
            let counts = asked.1.iter().zip(&answered.1);
            for (&stream, (&sent, &received)) in streams.iter().zip(counts) {
                for kind in [Kind::Client, Kind::Server] {
                    let id = id(*round, stream);
                    let is_it = |span: &&Span| span.kind == kind && span.attribute(ID) == id;
                    let [span] = view.spans.iter().filter(is_it).collect::<Vec<_>>()[..] else {
                        report.problem(format!("{kind:?} {id} has not one span"));
                        continue;
                    };
                    let count = |way: &str| {
                        ["messages", "bytes"].map(|what| span.attribute(&format!("sonde.rpc.{way}.{what}")))
                    };
                    let ways = if kind == Kind::Client { ["sent", "received"] } else { ["received", "sent"] };
                    let told = ways.map(count);
                    let expected =
                        [sent, received].map(|(messages, bytes)| [messages, bytes].map(|n| n.to_string()));
                    if told != expected || !span.attribute("sonde.quality").is_empty() {
                        report.problem(format!("{kind:?} {id} tells {told:?}, not {expected:?}: {span:?}"));
                    }
                }
            }
        }
        let expected = 2 * streams.len() * ROUNDS as usize;
        report.expect(expected);
        assert_eq!(view.spans.len(), expected, "{}: no other spans", view.name);
        report.check(&format!("messages cut anywhere ({})", view.name), &view.log);
    }
}

/// Node writes what its peer takes at once by one call, and grpcio takes megabytes: more frames than one call's worth.
#[test]
#[ignore = "live: needs root, BPF and a built sonde"]
fn megabytes_by_one_call() {
    let _gate = gate::enter();
    echo(&[[Library::Python, Library::Node]], 640, 64);
}

/// What tcpdump saw of the same, replayed from either end and from both.
#[test]
#[ignore = "live: needs root and a built sonde"]
fn echo_as_captured() {
    let _gate = gate::enter();
    for [server, client] in PAIRS {
        let server = server.serve();
        let tcpdump = Tcpdump::start(&Place::default(), "lo", &[], &format!("tcp port {}", server.port));
        let plan = mixed(640);
        let calls = client.call(server.port, 64, 1, &plan);
        let last = fresh("last");
        let mut stream = TcpStream::connect(("127.0.0.1", server.port)).expect("a listener");
        stream.write_all(last.as_bytes()).expect("written");
        let capture = tcpdump.finish(&last, 1);
        let pair = Pair { server: None, ..pair(&server, client, &plan, &calls) };
        for (perspective, kind) in [("client", Kind::Client), ("server", Kind::Server)] {
            let (spans, log) = capture.replay_with(&capture.file, perspective, &[SHOW_ID]);
            let mut report = Report::default();
            pair.compare(&mut report, kind, &spans);
            report.unique_ids(&spans);
            report.check(&format!("{client:?} -> {:?}, {perspective}", server.library), &log);
            assert_eq!(spans.len(), calls.len(), "no other spans");
        }
        let (spans, log) = capture.replay_with(&capture.file, "both", &[SHOW_ID]);
        let mut report = Report::default();
        pair.both_ends(&mut report, &spans);
        report.check(&format!("{client:?} -> {:?}, both", server.library), &log);
    }
}

/// A server and a client of each library, and what they did.
type Done = Vec<(Server, Vec<Planned>, Vec<Call>)>;

/// Compares what each view has of them.
fn compare(what: &str, done: &Done, views: &[View]) {
    for view in views {
        let mut report = Report::default();
        for (server, plan, calls) in done {
            let mine: Vec<Span> = of_port(&view.spans, server.port).cloned().collect();
            let pid = view.is_live().then(|| server.process.pid());
            let pair = pair(server, server.library, plan, calls);
            Pair { server: pid, ..pair }.both_ends(&mut report, &mine);
        }
        report.check(&format!("{what} ({})", view.name), &view.log);
    }
}

/// The spans of connections to a port.
fn of_port(spans: &[Span], port: u16) -> impl Iterator<Item = &Span> {
    let port = i64::from(port);
    spans.iter().filter(move |span| {
        let key = if span.kind == Kind::Server { "network.local.port" } else { "network.peer.port" };
        span.number(key) == Some(port)
    })
}

/// For half a minute, a message each way every 30 ms, with each library at the same time.
#[test]
#[ignore = "live: needs root, BPF and a built sonde"]
fn a_stream_of_thirty_seconds_is_one_span() {
    let _gate = gate::enter();
    let servers = Library::ALL.map(Library::serve);
    let ports = servers.each_ref().map(|server| server.port);
    let views = Views::start(&ports, &[SHOW_ID]);
    let clients = servers.map(|server| {
        thread::spawn(move || {
            let chat = Planned::to(3, "Chat", 20).sending(1000).wishing(1001, 30, 0, 0);
            let plan = vec![Planned { pause: 30, ..chat }];
            let calls = server.library.call(server.port, 1, 1, &plan);
            (server, plan, calls)
        })
    });
    let done: Done = clients.into_iter().map(|client| client.join().expect("a client")).collect();
    for (server, _, calls) in &done {
        assert!(
            matches!(calls[..], [Call { sent: 1000, received: 1000, code: 0, .. }]),
            "{:?}",
            server.library
        );
    }
    let views = views.finish();
    for view in &views {
        for span in &view.spans {
            assert!(span.duration() >= 29_900_000_000, "{}: {span:?}", view.name);
        }
    }
    compare("streams of 30 s", &done, &views);
}

/// The process of a server is killed while a call streams, with each library.
#[test]
#[ignore = "live: needs root, BPF and a built sonde"]
fn a_server_that_dies_in_mid_stream() {
    let _gate = gate::enter();
    let servers = Library::ALL.map(Library::serve);
    let ports = servers.each_ref().map(|server| server.port);
    let views = Views::start(&ports, &[SHOW_ID]);
    let broken: Vec<(Library, u16, Call)> = servers
        .into_iter()
        .map(|server| {
            let mut client = Session::start(server.library, server.port, 2, 1);
            let chat = Planned::to(5, "Chat", 20).sending(100_000).wishing(100_000, 30, 0, 0);
            client.make(&[Planned { pause: 10, ..chat }]);
            // By the time that these are over, messages have gone to and fro.
            let others: Vec<Planned> =
                (0..10).map(|_| Planned::to(6, "Unary", 5).wishing(0, 5, 0, 30)).collect();
            client.make(&others);
            assert!(others.iter().all(|_| client.ended().code == 0), "{:?}", server.library);
            server.process.signal(Signal::KILL);
            let call = client.ended();
            assert!(call.code != 0 && call.received > 1, "{call:?}");
            (server.library, server.port, call)
        })
        .collect();
    for view in views.finish() {
        for (library, port, call) in &broken {
            let spans: Vec<&Span> =
                of_port(&view.spans, *port).filter(|span| span.attribute(ID) == call.id).collect();
            for kind in [Kind::Client, Kind::Server] {
                let what = format!("{library:?}, {kind:?} ({})\nsonde said: {}", view.name, view.log);
                let of_kind: Vec<_> = spans.iter().filter(|span| span.kind == kind).collect();
                let [span] = of_kind[..] else { panic!("{what}: {of_kind:?}") };
                let reason = span.attribute("error.type");
                assert!(span.error && ["closed", "connection_reset"].contains(&reason), "{what}: {span:?}");
                assert_eq!(span.attribute("rpc.response.status_code"), "", "{what}: nobody said one");
                assert_eq!(span.name, call.method, "{what}");
                if kind == Kind::Client {
                    let count = |way: &str| span.number(&format!("sonde.rpc.{way}.messages")).unwrap_or(-1);
                    let (sent, received) = (call.sent.cast_signed(), call.received.cast_signed());
                    let right = (1..=sent).contains(&count("sent")) && count("received") >= received;
                    assert!(right, "{what}: {call:?}: {span:?}");
                }
                println!("{library:?}, {kind:?} ({}): {reason}", view.name);
            }
        }
    }
}

/// etcd, with its own client: puts, gets, transactions, deletions, a watch and a lease.
#[test]
#[ignore = "live: needs root, BPF and a built sonde"]
fn etcd_with_its_own_client() {
    let _gate = gate::enter();
    let (port, peers) = (free_port(), free_port());
    let folder = tempfile::TempDir::new().expect("a folder for etcd");
    let url = |port: u16| format!("http://127.0.0.1:{port}");
    let mut command = Command::new("etcd");
    command.arg("--data-dir").arg(folder.path());
    for (flag, port) in [
        ("--listen-client-urls", port),
        ("--advertise-client-urls", port),
        ("--listen-peer-urls", peers),
        ("--initial-advertise-peer-urls", peers),
    ] {
        command.args([flag.to_owned(), url(port)]);
    }
    command.args(["--initial-cluster".to_owned(), format!("default={}", url(peers))]);
    let mut etcd = Process::start("etcd", &mut command);
    etcd.wait_port(port);
    let views = Views::start(&[port], &[SHOW_ID]);
    let mut client = Command::new(programs::go().join("etcd"));
    client.args([port.to_string(), "16".into(), "200".into()]);
    let calls = programs::read(&output("etcd's client", &mut client, ""));
    let mut methods: BTreeMap<&str, usize> = BTreeMap::new();
    for call in &calls {
        *methods.entry(&call.method).or_default() += 1;
    }
    println!("etcd: {methods:?}");
    let planned =
        |call: &Call| Planned { id: call.id.clone(), method: call.method.clone(), ..Planned::default() };
    let plan: Vec<Planned> = calls.iter().map(planned).collect();
    for view in views.finish() {
        let mut report = Report::default();
        let server = view.is_live().then(|| etcd.pid());
        let pair = Pair { plan: &plan, calls: &calls, port, server, user_agent: "grpc-go/", cancels: false };
        pair.both_ends(&mut report, &view.spans);
        report.check(&format!("etcd ({})", view.name), &view.log);
    }
}

/// Connections that are busy when Sonde comes.
const BUSY: usize = 25;

/// How much is known of calls that were made after Sonde came, on connections that were there before.
#[derive(Default)]
struct Known {
    calls: usize,
    /// Spans by kind, and how many of them name their method.
    spans: BTreeMap<Kind, [usize; 2]>,
    wrong: Vec<String>,
}

impl Known {
    /// Compares the spans of one client. Its connections carry one call at a time, so the port and the time tell which call a
    /// span is of, whatever it knows itself.
    fn count(&mut self, calls: &[Call], since: u64, spans: &[Span]) {
        let mut by_port: BTreeMap<i64, Vec<&Call>> = BTreeMap::new();
        for call in calls {
            by_port.entry(call.port.into()).or_default().push(call);
        }
        self.calls += calls.iter().filter(|call| call.start > since).count();
        let mut seen: BTreeMap<(Kind, i64, u64), usize> = BTreeMap::new();
        for span in spans {
            let key = if span.kind == Kind::Server { "network.peer.port" } else { "network.local.port" };
            let port = span.number(key).unwrap_or(0);
            let Some(of_port) = by_port.get(&port) else { continue };
            let shared = |call: &&&Call| call.end.min(span.end).saturating_sub(call.start.max(span.start));
            let call = of_port.iter().max_by_key(shared).expect("a port has calls");
            if call.start <= since {
                continue;
            }
            *seen.entry((span.kind, port, call.start)).or_default() += 1;
            let [all, named] = self.spans.entry(span.kind).or_default();
            *all += 1;
            let methods = [span.attribute("rpc.method"), span.path().trim_start_matches('/')];
            *named += usize::from(methods.contains(&&*call.method));
            let wrong = |found: &str, right: &str| !found.is_empty() && found != right;
            if methods.iter().any(|method| wrong(method, &call.method))
                || wrong(span.attribute("rpc.response.status_code"), "OK")
                || wrong(span.attribute("http.response.status_code"), "200")
                || wrong(span.attribute(ID), &call.id)
                || span.attribute("sonde.quality") != if of_port[0].start <= since { "joined" } else { "" }
                || span.error
            {
                self.wrong.push(format!(
                    "{} {} is not {:?} {} {:?}",
                    call.method, call.id, span.kind, span.name, span.attributes
                ));
            }
        }
        for call in calls.iter().filter(|call| call.start > since) {
            for kind in [Kind::Client, Kind::Server] {
                let count = seen.get(&(kind, call.port.into(), call.start)).copied().unwrap_or(0);
                if count != 1 {
                    self.wrong.push(format!("{count} {kind:?} spans of {call:?}"));
                }
            }
        }
    }

    fn row(&self, what: &str) -> String {
        let share = |kind| {
            let [all, named] = self.spans.get(&kind).copied().unwrap_or_default();
            format!("{all:>7} {named:>7}")
        };
        format!("{what:<18}{:>7} {} {}", self.calls, share(Kind::Client), share(Kind::Server))
    }
}

/// A call on each connection, all at once: the first client's ids are new and their methods differ, the second's are the same
/// ever and again.
fn round(clients: &mut [Session; 2]) -> [Vec<Call>; 2] {
    let [varied, same] = clients;
    varied.make(&(0..BUSY).map(|i| Planned::to(i % 16, "Where", i)).collect::<Vec<_>>());
    same.make(&vec![Planned { id: "same".into(), ..Planned::to(3, "Where", 10) }; BUSY]);
    clients.each_mut().map(|client| (0..BUSY).map(|_| client.ended()).collect())
}

/// Fifty busy connections of each library's client to its server: half of them carry something new with every call, so that
/// their tables turn over, and half never do. What stands in tables from before and is never said again, nobody can know.
#[test]
#[ignore = "live: needs root, BPF and a built sonde"]
fn connections_older_than_sonde() {
    let _gate = gate::enter();
    let mut rows = Vec::new();
    let mut wrong = Vec::new();
    for library in Library::ALL {
        let server = library.serve();
        let mut clients = [(); 2].map(|()| Session::start(library, server.port, BUSY, BUSY));
        let mut calls = [Vec::new(), Vec::new()];
        let mut rounds = |count: usize| {
            for _ in 0..count {
                for (all, of_round) in calls.iter_mut().zip(round(&mut clients)) {
                    all.extend(of_round);
                }
            }
        };
        rounds(5);
        let views = Views::start(&[server.port], &[SHOW_ID]);
        let since = SystemTime::now().duration_since(UNIX_EPOCH).expect("later").as_nanos() as u64;
        rounds(20);
        for view in views.finish() {
            for (calls, what) in calls.iter().zip(["varied", "the same"]) {
                let mut known = Known::default();
                known.count(calls, since, &view.spans);
                rows.push(known.row(&format!("{library:?}, {what}")) + &format!("  {}", view.name));
                wrong.extend(
                    known.wrong.into_iter().map(|text| format!("{library:?} ({}): {text}", view.name)),
                );
            }
        }
        for client in clients {
            assert_eq!(client.finish().len(), 0);
        }
    }
    println!("{:<18}{:>7} {:>7} {:>7} {:>7} {:>7}", "", "calls", "CLIENT", "named", "SERVER", "named");
    println!("{}", rows.join("\n"));
    let some: Vec<_> = wrong.iter().take(20).collect();
    assert!(wrong.is_empty(), "{} are wrong:\n{some:#?}", wrong.len());
}
