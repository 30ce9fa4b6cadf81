//! Late join: connections that were busy before Sonde came are seen from their next exchange on, and joined.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use sonde_tests::calls::{Call, fresh, id_of};
use sonde_tests::chain::{Hop, tally};
use sonde_tests::compare::Report;
use sonde_tests::raw::{Connection, now, told};
use sonde_tests::servers::{self, Setting};
use sonde_tests::{Kind, Run, Span, gate};

const THREADS: usize = 8;
const EACH: usize = 25;

/// One thread's connections, all busy: a request on each, then the answers, round after round.
fn rounds(port: u16, done: &AtomicU64, stop: &AtomicBool) -> Vec<Call> {
    let mut connections: Vec<Connection> = (0..EACH).map(|_| Connection::to(port)).collect();
    let mut calls = Vec::new();
    while !stop.load(Ordering::Relaxed) {
        let mut open = Vec::new();
        for connection in &mut connections {
            let path = format!("/hello/{}", fresh("l"));
            let start = now();
            connection.write(connection.head("GET", &path, "", 0).as_bytes()).expect("written");
            open.push((path, start));
        }
        for (connection, (path, start)) in connections.iter_mut().zip(open) {
            let answer = connection.read_answer("GET", 4096).expect("an answer");
            calls.push(told("GET", &path, 0, answer, start));
        }
        done.fetch_add(1, Ordering::Relaxed);
        // Busy, and below what saturates two cores.
        thread::sleep(Duration::from_millis(40));
    }
    calls
}

#[test]
#[ignore = "live: needs root, BPF and a built sonde"]
fn two_hundred_busy_connections() {
    let _gate = gate::enter();
    for hooks in gate::hook_families() {
        late(&hooks);
    }
}

fn late(hooks: &str) {
    let service = servers::hyper(&Setting::default());
    let nginx = servers::nginx_proxy(&service.url(), true, &Setting::default());
    let (done, stop) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicBool::new(false)));
    let workers: Vec<_> = (0..THREADS)
        .map(|_| {
            let (done, stop, port) = (Arc::clone(&done), Arc::clone(&stop), nginx.port);
            thread::spawn(move || rounds(port, &done, &stop))
        })
        .collect();
    let wait_rounds = |more: u64| {
        let until = done.load(Ordering::Relaxed) + more * THREADS as u64;
        while done.load(Ordering::Relaxed) < until {
            assert!(workers.iter().all(|worker| !worker.is_finished()), "a client ended early");
            thread::sleep(Duration::from_millis(10));
        }
    };
    wait_rounds(3);
    let agent = Run::ports(&[nginx.port, service.port]).hooks(hooks).start();
    let observing = now();
    wait_rounds(6);
    stop.store(true, Ordering::Relaxed);
    let calls: Vec<Call> = workers.into_iter().flat_map(|worker| worker.join().expect("client")).collect();
    let between = nginx.process.group();
    let finished = agent.finish();

    let (later, before): (Vec<Call>, Vec<Call>) = calls.into_iter().partition(|call| call.start > observing);
    println!(
        "late join ({hooks}): {} exchanges before or across the start, {} after",
        before.len(),
        later.len()
    );
    let ids: Vec<&str> = later.iter().map(|call| id_of(&call.path)).collect();
    let known: std::collections::BTreeSet<&str> = ids.iter().copied().collect();
    let mut of_later: Vec<Span> =
        finished.spans.iter().filter(|span| known.contains(id_of(span.path()))).cloned().collect();
    // Every span of a connection that is older than Sonde says so; nginx may have opened others to the service since.
    for span in &mut of_later {
        let quality = span.attributes.remove("sonde.quality").unwrap_or_default();
        let inner = span.kind == Kind::Server && !between.contains(&span.pid())
            || span.kind == Kind::Client && between.contains(&span.pid());
        assert!(
            quality == "joined" || inner && quality.is_empty(),
            "{quality:?}: {span:?}\nsonde said: {}",
            finished.log
        );
    }
    let mut report = Report::default();
    let outer: Vec<&Span> = of_later
        .iter()
        .filter(|span| {
            span.pid() == std::process::id() || span.kind == Kind::Server && between.contains(&span.pid())
        })
        .collect();
    report.compare("", Kind::Client, nginx.port, &later, &outer);
    report.compare("", Kind::Server, nginx.port, &later, &outer);
    report.unique_ids(&finished.spans);
    report.check(&format!("late join ({hooks})"), &finished.log);
    let hops = [
        Hop::new("client", Kind::Client, [std::process::id()]),
        Hop::new("nginx SERVER", Kind::Server, between.iter().copied()),
        Hop::new("nginx CLIENT -> service", Kind::Client, between.iter().copied()),
        Hop::new("service SERVER", Kind::Server, service.process.group()),
    ];
    let table = tally(&hops, &ids, &of_later, &BTreeMap::new());
    println!("{}", table.text(&format!("late join ({hooks})")));
    assert_eq!(table.sum(|row| row.wrong) + table.sum(|row| row.absent), 0, "{:?}", table.examples);
    for joined in [1, 3] {
        assert_eq!(table.rows[joined].right, ids.len(), "joined: {}", table.rows[joined].label);
    }
    // What began before Sonde came may be seen in part: then it says so, or it is whole.
    let earlier: std::collections::BTreeSet<&str> = before.iter().map(|call| id_of(&call.path)).collect();
    for span in finished.spans.iter().filter(|span| !known.contains(id_of(span.path()))) {
        let told = !span.attribute("sonde.quality").is_empty() || earlier.contains(id_of(span.path()));
        assert!(told, "a span of nothing known: {span:?}");
    }
}
