//! One live scenario that needs little of its machine, for the emulated kernels of the lab: nginx, a proxied Python service
//! and a client of its own, each request true span for span and joined. `sonde-tests-lab SONDE [HOOKS]`

use std::collections::BTreeMap;
use std::path::Path;
use std::process::ExitCode;

use sonde_tests::calls::{Call, fresh, id_of};
use sonde_tests::chain::{Hop, tally};
use sonde_tests::compare::Report;
use sonde_tests::raw::Connection;
use sonde_tests::servers::{Setting, nginx_proxy, python};
use sonde_tests::{Kind, Run, gate};

fn main() -> ExitCode {
    let mut args = std::env::args().skip(1);
    let Some(sonde) = args.next() else {
        eprintln!("usage: sonde-tests-lab SONDE [auto|lengths|syscalls]");
        return ExitCode::from(2);
    };
    gate::set_sonde_path(Path::new(&sonde));
    let hooks = args.next().unwrap_or_else(|| "auto".into());

    let service = python(&Setting::default());
    let nginx = nginx_proxy(&service.url(), false, &Setting::default());
    let agent = Run::ports(&[nginx.port, service.port]).hooks(&hooks).start();
    let calls = workload(nginx.port);
    let pids = (nginx.process.group(), service.process.group());
    let finished = agent.finish();

    let own = [std::process::id()];
    let hops = [
        Hop::new("client", Kind::Client, own),
        Hop::new("nginx", Kind::Server, pids.0.iter().copied()),
        Hop::new("nginx to service", Kind::Client, pids.0.iter().copied()),
        Hop::new("service", Kind::Server, pids.1),
    ];
    let ids: Vec<&str> = calls.iter().map(|call| id_of(&call.path)).collect();
    let table = tally(&hops, &ids, &finished.spans, &BTreeMap::new());
    print!("{}", table.text("chain"));

    // nginx passes several chunks on by one call, or none.
    let mut truth = Report::without_sizes_of(&["/stream/"]);
    let near: Vec<_> = finished
        .spans
        .iter()
        .filter(|span| hops[0].pids.contains(&span.pid()) || is_nginx_server(span, &hops))
        .collect();
    truth.compare("", Kind::Client, nginx.port, &calls, &near);
    truth.compare("", Kind::Server, nginx.port, &calls, &near);
    truth.unique_ids(&finished.spans);

    let mut passed = true;
    let mut verdict = |what: &str, good: bool, detail: &str| {
        println!("{} {what}: {detail}", if good { "PASS" } else { "FAIL" });
        passed &= good;
    };
    verdict("truth", truth.count() == 0, &truth.text());
    let spans = format!("{} for {} requests", finished.spans.len(), calls.len());
    verdict("count", finished.spans.len() == 4 * calls.len(), &spans);
    let bad = table.sum(|row| row.wrong) + table.sum(|row| row.absent) + table.sum(|row| row.missing);
    verdict("joined", bad == 0, &table.examples.join("; "));
    if !passed {
        println!("sonde said:\n{}", finished.log);
        return ExitCode::FAILURE;
    }
    ExitCode::SUCCESS
}

fn is_nginx_server(span: &sonde_tests::Span, hops: &[Hop]) -> bool {
    span.kind == Kind::Server && hops[1].pids.contains(&span.pid())
}

/// Requests one after the other on one connection, and each on its own.
fn workload(port: u16) -> Vec<Call> {
    let mut calls = Vec::new();
    let mut kept = Connection::to(port);
    for i in 0..40 {
        let path = match i % 4 {
            0 => format!("/hello/{}", fresh("k")),
            1 => format!("/bytes/{}/{}", 1000 * i, fresh("k")),
            2 => format!("/status/404/{}", fresh("k")),
            _ => format!("/stream/{}/{}", 100 * i, fresh("k")),
        };
        calls.push(kept.exchange("GET", &path, "", b""));
        calls.push(kept.exchange("POST", &format!("/echo/{}", fresh("p")), "", &vec![b'b'; 100 * i + 1]));
        let close = "Connection: close\r\n";
        calls.push(Connection::to(port).exchange("GET", &format!("/hello/{}", fresh("c")), close, b""));
    }
    calls
}
