//! Parents, by runtime: of a service's calls, how many hang under the request that caused them. None may hang under another.

use std::collections::BTreeMap;

use sonde_tests::calls::{fresh, id_of};
use sonde_tests::chain::{Hop, Table, tally};
use sonde_tests::clients::Client;
use sonde_tests::servers::{self, Server, Setting};
use sonde_tests::{Kind, Planned, Run, gate};

/// Calls through `make`'s server to a service, one at a time and 64 at a time. One at a time all parents are right; in
/// any case none is wrong, and `least` of a hundred are right with 64 at a time.
fn check(least: usize, make: impl Fn(&Setting) -> Server) {
    let _gate = gate::enter();
    let service = servers::hyper(&Setting::default());
    let server = make(&Setting::calls(service.url()));
    let name = server.process.name.clone();
    for hooks in gate::hook_families() {
        let (alone, log) = run(&server, &service, &hooks, 1, 50);
        alone.check(&format!("{name} x1 ({hooks})"), true, &log);
        let (crowd, log) = run(&server, &service, &hooks, 64, 640);
        crowd.check(&format!("{name} x64 ({hooks})"), false, &log);
        let calls = &crowd.rows[2];
        assert!(
            calls.right * 100 >= least * 640,
            "{name} x64: {} of 640 parents found, {least} % expected",
            calls.right
        );
        let joined = &crowd.rows[3];
        assert_eq!(joined.right, 640, "{name} x64: the service's spans hang under the calls");
    }
}

fn run(server: &Server, service: &Server, hooks: &str, concurrency: usize, count: usize) -> (Table, String) {
    let agent = Run::ports(&[server.port, service.port]).hooks(hooks).start();
    let plan: Vec<Planned> = (0..count).map(|_| Planned::get(format!("/call/{}", fresh("r")))).collect();
    let calls = Client::Go.run(&server.url(), concurrency, &plan);
    assert!(calls.iter().all(|call| call.status == 200), "the service itself works");
    let between = server.process.group();
    let finished = agent.finish();
    let mut hops = vec![
        Hop::new("server", Kind::Server, between.clone()),
        Hop::new("its call", Kind::Client, between),
        Hop::new("next server", Kind::Server, service.process.group()),
    ];
    let own = finished.spans.iter().map(sonde_tests::Span::pid);
    let own: Vec<u32> = own.filter(|pid| !hops.iter().any(|hop| hop.pids.contains(pid))).collect();
    hops.insert(0, Hop::new("client", Kind::Client, own));
    let ids: Vec<&str> = plan.iter().map(|call| id_of(&call.path)).collect();
    assert_eq!(finished.spans.len(), 4 * count, "spans of what did not happen\nsonde said: {}", finished.log);
    (tally(&hops, &ids, &finished.spans, &BTreeMap::new()), finished.log)
}

#[test]
#[ignore = "live: needs root, BPF and a built sonde"]
fn flask_sync() {
    check(99, |setting| servers::gunicorn("--worker-class sync --workers 2", setting));
}

#[test]
#[ignore = "live: needs root, BPF and a built sonde"]
fn flask_threads() {
    check(99, |setting| servers::gunicorn("--worker-class gthread --workers 1 --threads 32", setting));
}

#[test]
#[ignore = "live: needs root, BPF and a built sonde"]
fn python_thread_per_connection() {
    check(99, servers::python);
}

#[test]
#[ignore = "live: needs root, BPF and a built sonde"]
fn fastapi() {
    check(0, servers::uvicorn);
}

#[test]
#[ignore = "live: needs root, BPF and a built sonde"]
fn node() {
    check(0, |setting| servers::node("http", setting));
}

#[test]
#[ignore = "live: needs root, BPF and a built sonde"]
fn java_pool_calling_on_its_own_thread() {
    check(0, |setting| servers::java(32, "url", setting));
}

#[test]
#[ignore = "live: needs root, BPF and a built sonde"]
fn java_pool_calling_by_http_client() {
    check(0, |setting| servers::java(32, "httpclient", setting));
}

#[test]
#[ignore = "live: needs root, BPF and a built sonde"]
fn go() {
    check(0, servers::go);
}

#[test]
#[ignore = "live: needs root, BPF and a built sonde"]
fn rust() {
    check(0, servers::hyper);
}
