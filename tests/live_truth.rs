//! Truth: every request of every scenario is one SERVER and one CLIENT span that tell of it truly, and there are no others.

use std::fs;

use sonde_tests::calls::{fresh, id_of, mixed};
use sonde_tests::clients::{Client, wrk};
use sonde_tests::compare::Report;
use sonde_tests::servers::{self, Server, Setting};
use sonde_tests::{Call, Kind, Planned, Run, durations, gate};

/// Each client makes `count` requests of all sorts, one at a time and sixteen at a time.
fn matrix(server: &Server, clients: &[Client], count: usize, report: fn() -> Report) {
    for hooks in gate::hook_families() {
        for &client in clients {
            let agent = Run::ports(&[server.port]).hooks(&hooks).start();
            let mut calls = client.run(&server.url(), 1, &mixed(count / 3));
            calls.extend(client.run(&server.url(), 16, &mixed(count)));
            let finished = agent.finish();
            let mut report = report();
            report.both_ends(server.port, &calls, &finished.spans);
            report.check(&format!("{client:?} -> {} ({hooks})", server.process.name), &finished.log);
        }
    }
}

#[test]
#[ignore = "live: needs root, BPF and a built sonde"]
fn python_http_server() {
    let _gate = gate::enter();
    matrix(&servers::python(&Setting::default()), &[Client::Curl, Client::Requests], 240, Report::default);
}

#[test]
#[ignore = "live: needs root, BPF and a built sonde"]
fn gunicorn_sync() {
    let _gate = gate::enter();
    let server = servers::gunicorn("--worker-class sync --workers 2", &Setting::default());
    matrix(&server, &[Client::Requests, Client::Java], 150, Report::default);
}

#[test]
#[ignore = "live: needs root, BPF and a built sonde"]
fn gunicorn_threads() {
    let _gate = gate::enter();
    let server = servers::gunicorn("--worker-class gthread --workers 1 --threads 16", &Setting::default());
    matrix(&server, &[Client::Curl, Client::Node], 200, Report::default);
}

#[test]
#[ignore = "live: needs root, BPF and a built sonde"]
fn uvicorn_fastapi() {
    let _gate = gate::enter();
    matrix(&servers::uvicorn(&Setting::default()), &[Client::Httpx, Client::Go], 200, Report::default);
}

#[test]
#[ignore = "live: needs root, BPF and a built sonde"]
fn node_http() {
    let _gate = gate::enter();
    matrix(&servers::node("http", &Setting::default()), &[Client::Node, Client::Curl], 300, Report::default);
}

#[test]
#[ignore = "live: needs root, BPF and a built sonde"]
fn node_express() {
    let _gate = gate::enter();
    matrix(&servers::node("express", &Setting::default()), &[Client::Requests], 300, Report::default);
}

#[test]
#[ignore = "live: needs root, BPF and a built sonde"]
fn java_http_server() {
    let _gate = gate::enter();
    matrix(&servers::java(16, "url", &Setting::default()), &[Client::Java, Client::Go], 300, Report::default);
}

#[test]
#[ignore = "live: needs root, BPF and a built sonde"]
fn go_net_http() {
    let _gate = gate::enter();
    matrix(&servers::go(&Setting::default()), &[Client::Go, Client::Httpx], 300, Report::default);
}

#[test]
#[ignore = "live: needs root, BPF and a built sonde"]
fn rust_hyper() {
    let _gate = gate::enter();
    matrix(&servers::hyper(&Setting::default()), &[Client::Curl, Client::Node], 300, Report::default);
}

#[test]
#[ignore = "live: needs root, BPF and a built sonde"]
fn sizes_of_chunked_bodies() {
    let setting = Setting::default();
    chunked(|| {
        vec![
            servers::python(&setting),
            servers::gunicorn("--worker-class sync --workers 2", &setting),
            servers::gunicorn("--worker-class gthread --workers 1 --threads 16", &setting),
            servers::uvicorn(&setting),
            servers::java(16, "url", &setting),
            servers::go(&setting),
            servers::node("http", &setting),
            servers::node("express", &setting),
            servers::hyper(&setting),
        ]
    });
}

/// Bodies of one to twenty-five chunks, from each server.
fn chunked(servers: impl Fn() -> Vec<Server>) {
    let _gate = gate::enter();
    let mut report = Report::default();
    for hooks in gate::hook_families() {
        for server in servers() {
            let agent = Run::ports(&[server.port]).hooks(&hooks).start();
            let plan: Vec<Planned> =
                (0..40).map(|i| Planned::get(format!("/stream/{}/{}", 1 + i * 613, fresh("s")))).collect();
            let calls = Client::Curl.run(&server.url(), 4, &plan);
            let finished = agent.finish();
            let before = report.count();
            report.both_ends(server.port, &calls, &finished.spans);
            println!("chunked, {} ({hooks}): {} differences", server.process.name, report.count() - before);
        }
    }
    report.check("sizes of chunked bodies", "");
}

/// How far the durations of either span lie from what the client measured, one request at a time and sixteen, with a service
/// that sleeps, so that the processors have time. Asserts that each request has both; the times are for reading.
#[test]
#[ignore = "live: needs root, BPF and a built sonde"]
fn durations_against_the_clients() {
    let _gate = gate::enter();
    let setting = Setting::default();
    let service = servers::hyper(&setting);
    let proxied = service.url();
    // One after another: together they would be busy with each other.
    let servers: [&dyn Fn() -> Server; 7] = [
        &|| servers::nginx_proxy(&proxied, true, &setting),
        &|| servers::gunicorn("--worker-class gthread --workers 1 --threads 16", &setting),
        &|| servers::uvicorn(&setting),
        &|| servers::node("http", &setting),
        &|| servers::java(16, "url", &setting),
        &|| servers::go(&setting),
        &|| servers::hyper(&setting),
    ];
    for hooks in gate::hook_families() {
        let (mut alone, mut crowd) = (Vec::new(), Vec::new());
        for server in servers {
            let server = server();
            for (rows, concurrency, count) in [(&mut alone, 1, 60), (&mut crowd, 16, 640)] {
                let agent = Run::ports(&[server.port]).hooks(&hooks).start();
                let plan: Vec<Planned> =
                    (0..count).map(|_| Planned::get(format!("/sleep/20/{}", fresh("d")))).collect();
                let calls = Client::Go.run(&server.url(), concurrency, &plan);
                let finished = agent.finish();
                let row = durations::Row::of(&server.process.name, &calls, &finished.spans);
                assert_eq!(row.count(), count, "{}\nsonde said: {}", server.process.name, finished.log);
                rows.push(row);
            }
        }
        durations::print(&format!("durations, one at a time ({hooks})"), &alone);
        durations::print(&format!("durations, sixteen at a time ({hooks})"), &crowd);
    }
}

/// nginx serving files by sendfile: any size, HEAD, 304, 404, kept and closed connections.
#[test]
#[ignore = "live: needs root, BPF and a built sonde"]
fn nginx_files() {
    let _gate = gate::enter();
    let locations = "location /big/ { rewrite ^ /big.bin break; } location /small/ { rewrite ^ /small.txt break; }\n\
                     location /same/ { return 304; } location /gone/ { return 204; } location /say/ { return 200 'said'; }";
    let server = servers::nginx("", locations, &Setting::default());
    let www = server.folder().join("www");
    fs::write(www.join("big.bin"), vec![b'z'; 5_000_000]).expect("file");
    fs::write(www.join("small.txt"), "small\n").expect("file");
    let plan = |count: usize| -> Vec<Planned> {
        let pages = ["/small/", "/say/", "/small/", "/none/", "/same/", "/gone/", "/small/", "/big/"];
        (0..count)
            .map(|i| {
                let method = if i % 5 == 4 { "HEAD" } else { "GET" };
                Planned { method, ..Planned::get(format!("{}{}", pages[i % pages.len()], fresh("f"))) }
            })
            .collect()
    };
    for hooks in gate::hook_families() {
        let agent = Run::ports(&[server.port]).hooks(&hooks).start();
        let mut calls: Vec<Call> = Client::Curl.run(&server.url(), 1, &plan(80));
        calls.extend(Client::Curl.run(&server.url(), 16, &plan(320)));
        calls.extend(Client::Go.run(&server.url(), 16, &plan(320)));
        let finished = agent.finish();
        let mut report = Report::default();
        report.both_ends(server.port, &calls, &finished.spans);
        report.check(&format!("files of nginx ({hooks})"), &finished.log);
    }
}

/// Thousands of requests through a proxy: as many spans as wrk counted, but for those that it cut off at its end. The
/// service sleeps a little, so that the machine is not saturated.
#[test]
#[ignore = "live: needs root, BPF and a built sonde"]
fn wrk_through_nginx() {
    let _gate = gate::enter();
    let service = servers::hyper(&Setting::default());
    let server = servers::nginx_proxy(&service.url(), true, &Setting::default());
    for hooks in gate::hook_families() {
        let agent = Run::ports(&[server.port]).hooks(&hooks).start();
        let path = format!("/sleep/3/{}", fresh("w"));
        let load = wrk(&format!("{}{path}", server.url()), 16, 3);
        let finished = agent.finish();
        for kind in [Kind::Server, Kind::Client] {
            let good = finished.spans.iter().filter(|span| {
                span.kind == kind
                    && span.path() == path
                    && id_of(span.path()) == id_of(&path)
                    && span.attribute("http.response.status_code") == "200"
                    && span.number("http.response.body.size") == Some(6)
            });
            let good = good.count() as u64;
            let all = finished.spans.iter().filter(|span| span.kind == kind).count() as u64;
            println!("wrk ({hooks}): {} requests, {good} good {kind:?} spans of {all}", load.requests);
            let cut = load.requests..=load.requests + load.connections;
            assert!(
                cut.contains(&good) && cut.contains(&all),
                "{kind:?}: {load:?}\nsonde said: {}",
                finished.log
            );
        }
    }
}
