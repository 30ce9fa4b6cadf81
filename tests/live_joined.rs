//! Joined: a chain in which nobody sends a trace context is one trace with right parents; one that the client sends wins.

use std::collections::BTreeMap;

use sonde_tests::calls::{fresh, id_of};
use sonde_tests::chain::{Hop, tally};
use sonde_tests::clients::Client;
use sonde_tests::namespaces::{Nat, Place};
use sonde_tests::servers::{self, Server, Setting};
use sonde_tests::{Kind, Planned, Run, gate};

/// Client, nginx, gunicorn with Flask, a Python service.
struct Chain {
    nginx: Server,
    gunicorn: Server,
    service: Server,
    /// What the client calls.
    url: String,
    place: Place,
    ports: Vec<u16>,
}

impl Chain {
    fn loopback(workers: &str) -> Self {
        let service = servers::python(&Setting::default());
        let gunicorn = servers::gunicorn(workers, &Setting::calls(service.url()));
        let nginx = servers::nginx_proxy(&gunicorn.url(), false, &Setting::default());
        let ports = vec![nginx.port, gunicorn.port, service.port];
        Self { url: nginx.url(), nginx, gunicorn, service, place: Place::default(), ports }
    }

    fn unix(workers: &str) -> Self {
        let service = servers::python(&Setting::default());
        let gunicorn = servers::gunicorn_unix(workers, &Setting::calls(service.url()));
        let socket = gunicorn.socket.as_ref().expect("a unix socket").display().to_string();
        let nginx = servers::nginx_proxy(&format!("http://unix:{socket}:"), false, &Setting::default());
        let ports = vec![nginx.port, service.port];
        Self { url: nginx.url(), nginx, gunicorn, service, place: Place::default(), ports }
    }

    /// The client and gunicorn on one host, nginx and the service on the other: each hop crosses the router.
    fn nat(nat: &Nat, workers: &str) -> Self {
        let at = |place: &Place, address: &str, next: String| Setting {
            next,
            place: place.clone(),
            address: Some(address.to_owned()),
        };
        let service = servers::python(&at(&nat.right, Nat::RIGHT, String::new()));
        nat.expose_right(7003, service.port);
        let next = format!("http://{}:7003", Nat::ROUTER_LEFT);
        let gunicorn = servers::gunicorn(workers, &at(&nat.left, Nat::LEFT, next));
        nat.expose_left(7002, gunicorn.port);
        let next = format!("http://{}:7002", Nat::ROUTER_RIGHT);
        let nginx = servers::nginx_proxy(&next, false, &at(&nat.right, Nat::RIGHT, String::new()));
        nat.expose_right(7001, nginx.port);
        let ports = vec![7001, 7002, 7003, nginx.port, gunicorn.port, service.port];
        let url = format!("http://{}:7001", Nat::ROUTER_LEFT);
        Self { url, nginx, gunicorn, service, place: nat.left.clone(), ports }
    }

    fn observe(&self, hooks: &str) -> Run {
        let mut run = Run::ports(&self.ports).hooks(hooks);
        if self.gunicorn.socket.is_some() {
            // A unix socket has no port: its processes are named instead.
            for pid in self.nginx.process.group_of(3).into_iter().chain(self.gunicorn.process.group_of(3)) {
                run = run.arg("--pid").arg(pid.to_string());
            }
        }
        run
    }

    fn hops(&self) -> Vec<Hop> {
        let nginx = self.nginx.process.group();
        let gunicorn = self.gunicorn.process.group();
        vec![
            Hop::new("nginx SERVER", Kind::Server, nginx.clone()),
            Hop::new("nginx CLIENT -> gunicorn", Kind::Client, nginx),
            Hop::new("gunicorn SERVER", Kind::Server, gunicorn.clone()),
            Hop::new("gunicorn CLIENT -> service", Kind::Client, gunicorn),
            Hop::new("service SERVER", Kind::Server, self.service.process.group()),
        ]
    }

    /// Runs `count` calls, so many at once, and checks every span and parent of each.
    fn check(&self, what: &str, hooks: &str, client: Client, concurrency: usize, count: usize, sent: bool) {
        let what = format!(
            "{what}, {client:?} x{concurrency}{} ({hooks})",
            if sent { ", traceparent sent" } else { "" }
        );
        let agent = self.observe(hooks).start();
        let plan: Vec<Planned> = (0..count).map(|i| planned(i, sent)).collect();
        let calls = client.run_in(&self.place, &self.url, concurrency, &plan);
        assert!(calls.iter().all(|call| call.status == 200), "{what}: the chain itself works");
        let mut hops = self.hops();
        let finished = agent.finish();

        let ids: Vec<&str> = plan.iter().map(|call| id_of(&call.path)).collect();
        let mut roots = BTreeMap::new();
        for call in plan.iter().filter(|_| sent) {
            let traceparent = call.traceparent.as_deref().expect("it is sent");
            let parts: Vec<&str> = traceparent.split('-').collect();
            roots.insert(id_of(&call.path), (parts[1].to_owned(), parts[2].to_owned()));
        }
        if sent {
            // What the client wrote names its own CLIENT span: that is what the sent parent id is.
            for call in &plan {
                let span = finished.spans.iter().find(|span| {
                    span.kind == Kind::Client && span.path() == call.path && !is_of(span.pid(), &hops)
                });
                let span =
                    span.unwrap_or_else(|| panic!("{what}: no CLIENT span of the client for {}", call.path));
                let (trace, id) = &roots[id_of(&call.path)];
                assert_eq!((&span.trace, &span.id), (trace, id), "{what}: context of the CLIENT span");
            }
        } else {
            let own = finished.spans.iter().map(sonde_tests::Span::pid).filter(|&pid| !is_of(pid, &hops));
            hops.insert(
                0,
                Hop::new(format!("{client:?} CLIENT -> nginx"), Kind::Client, own.collect::<Vec<_>>()),
            );
        }
        let table = tally(&hops, &ids, &finished.spans, &roots);
        // A proxy passes the client's context on, which then names two hops: those below it are found by the join.
        table.check(&what, true, &finished.log);
        assert_eq!(finished.spans.len(), 6 * count, "{what}: spans of what did not happen");
        let traces: std::collections::BTreeSet<_> = finished.spans.iter().map(|span| &span.trace).collect();
        assert_eq!(traces.len(), count, "{what}: one trace for each request");
    }
}

fn is_of(pid: u32, hops: &[Hop]) -> bool {
    hops.iter().any(|hop| hop.pids.contains(&pid))
}

fn planned(index: usize, sent: bool) -> Planned {
    let call = Planned::get(format!("/call/{}", fresh("j")));
    if !sent {
        return call;
    }
    let trace = format!("{:016x}{:016x}", 0x4bf9_2f35_77b3_4da6_u64, index + 1);
    call.with_traceparent(format!("00-{trace}-{:016x}-01", 0x00f0_67aa_0ba9_0000_u64 + index as u64))
}

const SYNC: &str = "--worker-class sync --workers 2";
const THREADS: &str = "--worker-class gthread --workers 2 --threads 16";

#[test]
#[ignore = "live: needs root, BPF and a built sonde"]
fn over_loopback() {
    let _gate = gate::enter();
    for hooks in gate::hook_families() {
        let chain = Chain::loopback(SYNC);
        chain.check("loopback, sync", &hooks, Client::Curl, 1, 40, false);
        chain.check("loopback, sync", &hooks, Client::Requests, 64, 300, false);
    }
}

#[test]
#[ignore = "live: needs root, BPF and a built sonde"]
fn over_loopback_with_threads() {
    let _gate = gate::enter();
    for hooks in gate::hook_families() {
        let chain = Chain::loopback(THREADS);
        chain.check("loopback, gthread", &hooks, Client::Curl, 1, 40, false);
        chain.check("loopback, gthread", &hooks, Client::Curl, 64, 300, false);
    }
}

#[test]
#[ignore = "live: needs root, BPF and a built sonde"]
fn over_unix_socket() {
    let _gate = gate::enter();
    for hooks in gate::hook_families() {
        let chain = Chain::unix(SYNC);
        chain.check("unix socket", &hooks, Client::Curl, 1, 40, false);
        chain.check("unix socket", &hooks, Client::Requests, 64, 300, false);
    }
}

#[test]
#[ignore = "live: needs root, BPF and a built sonde"]
fn through_address_translation() {
    let _gate = gate::enter();
    for hooks in gate::hook_families() {
        let nat = Nat::new();
        let chain = Chain::nat(&nat, SYNC);
        chain.check("DNAT and masquerade", &hooks, Client::Curl, 1, 40, false);
        chain.check("DNAT and masquerade", &hooks, Client::Requests, 64, 300, false);
    }
}

#[test]
#[ignore = "live: needs root, BPF and a built sonde"]
fn sent_context_wins() {
    let _gate = gate::enter();
    let chain = Chain::loopback(SYNC);
    chain.check("loopback", &gate::hooks(), Client::Curl, 1, 40, true);
    chain.check("loopback", &gate::hooks(), Client::Requests, 64, 200, true);
}
