//! gRPC: every call of every library is one SERVER and one CLIENT span that tell of it truly.

use std::io::Write;
use std::net::TcpStream;

use sonde_tests::calls::fresh;
use sonde_tests::captures::Tcpdump;
use sonde_tests::compare::Report;
use sonde_tests::grpc::compare::{Pair, SHOW_ID};
use sonde_tests::grpc::programs::Library;
use sonde_tests::grpc::{Call, Planned, mixed};
use sonde_tests::namespaces::Place;
use sonde_tests::{Kind, Run, gate};

/// Each server with its own client and that of the next library.
fn pairs() -> impl Iterator<Item = [Library; 2]> {
    let next = Library::ALL.into_iter().cycle().skip(1);
    Library::ALL.into_iter().zip(next).flat_map(|(library, next)| [[library, library], [library, next]])
}

fn pair<'a>(
    server: &sonde_tests::grpc::programs::Server,
    client: Library,
    plan: &'a [Planned],
    calls: &'a [Call],
) -> Pair<'a> {
    Pair {
        plan,
        calls,
        port: server.port,
        server: Some(server.process.pid()),
        user_agent: client.user_agent(),
        cancels: server.library == Library::Tonic,
    }
}

#[test]
#[ignore = "live: needs root, BPF and a built sonde"]
fn echo_at_sixty_four_in_flight() {
    let _gate = gate::enter();
    for hooks in gate::hook_families() {
        for [server, client] in pairs() {
            let server = server.serve();
            let agent = Run::ports(&[server.port]).env(SHOW_ID.0, SHOW_ID.1).hooks(&hooks).start();
            let plan = mixed(640);
            let calls = client.call(server.port, 64, 1, &plan);
            let finished = agent.finish();
            let mut report = Report::default();
            pair(&server, client, &plan, &calls).both_ends(&mut report, &finished.spans);
            report.check(&format!("{client:?} -> {:?} ({hooks})", server.library), &finished.log);
        }
    }
}

/// What tcpdump saw of the same, replayed.
#[test]
#[ignore = "live: needs root and a built sonde"]
fn echo_as_captured() {
    let _gate = gate::enter();
    for [server, client] in pairs() {
        let server = server.serve();
        let tcpdump = Tcpdump::start(&Place::default(), "lo", &[], &format!("tcp port {}", server.port));
        let plan = mixed(640);
        let calls = client.call(server.port, 64, 1, &plan);
        let last = fresh("last");
        TcpStream::connect(("127.0.0.1", server.port))
            .and_then(|mut it| it.write_all(last.as_bytes()))
            .expect("sent");
        let capture = tcpdump.finish(&last);
        for (perspective, kind) in [("client", Kind::Client), ("server", Kind::Server)] {
            let (spans, log) = capture.replay_with(&capture.file, perspective, &[SHOW_ID]);
            let mut report = Report::default();
            let pair = Pair { server: None, ..pair(&server, client, &plan, &calls) };
            pair.compare(&mut report, kind, &spans);
            report.unique_ids(&spans);
            report.check(&format!("{client:?} -> {:?}, {perspective}", server.library), &log);
            assert_eq!(spans.len(), calls.len(), "no other spans");
        }
        let (spans, log) = capture.replay_with(&capture.file, "both", &[SHOW_ID]);
        let mut report = Report::default();
        let pair = Pair { server: None, ..pair(&server, client, &plan, &calls) };
        pair.both_ends(&mut report, &spans);
        report.check(&format!("{client:?} -> {:?}, both", server.library), &log);
    }
}
