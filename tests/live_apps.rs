//! The applications themselves: each client and server does what the scenarios rely on, without Sonde.

use sonde_tests::calls::{fresh, mixed};
use sonde_tests::clients::Client;
use sonde_tests::namespaces::Nat;
use sonde_tests::raw::Connection;
use sonde_tests::servers::{self, Server, Setting};
use sonde_tests::{Planned, gate};

/// Two clients against the server: each answer has the status and the size that its page prescribes.
fn check(server: &Server, turn: usize) {
    for client in [Client::ALL[turn % 6], Client::ALL[(turn + 1) % 6]] {
        let plan = mixed(40);
        let calls = client.run(&server.url(), 8, &plan);
        for call in &calls {
            let what = format!("{client:?} -> {}: {call:?}", server.process.name);
            let parts: Vec<&str> = call.path.split('/').collect();
            let size: u64 = parts[2].parse().unwrap_or(0);
            match parts[1] {
                "echo" => {
                    assert!(call.status == 200 && call.received == call.sent && call.sent > 0, "{what}");
                }
                "bytes" | "stream" => assert_eq!((call.status, call.received), (200, size), "{what}"),
                "status" => assert_eq!(u64::from(call.status), size, "{what}"),
                "nothing" => assert_eq!(call.status, 404, "{what}"),
                _ => assert!(call.status == 200 && call.received > 0, "{what}"),
            }
        }
    }
    if !server.process.name.contains("sync") {
        Connection::to(server.port).exchange("POST", &format!("/echo/{}", fresh("a")), "", &[b'x'; 1000]);
    }
}

#[test]
#[ignore = "live: installs and starts real software"]
fn every_client_and_every_server() {
    let _gate = gate::turn();
    let service = servers::hyper(&Setting::default());
    let next = Setting::calls(service.url());
    let all: [&dyn Fn() -> Server; 9] = [
        &|| servers::python(&next),
        &|| servers::gunicorn("--worker-class sync --workers 2", &next),
        &|| servers::gunicorn("--worker-class gthread --workers 1 --threads 16", &next),
        &|| servers::uvicorn(&next),
        &|| servers::node("http", &next),
        &|| servers::node("express", &next),
        &|| servers::java(8, "httpclient", &next),
        &|| servers::go(&next),
        &|| servers::hyper(&next),
    ];
    for (turn, start) in all.into_iter().enumerate() {
        let server = start();
        check(&server, turn);
        let plan: Vec<Planned> = (0..10).map(|_| Planned::get(format!("/call/{}", fresh("n")))).collect();
        let calls = Client::Go.run(&server.url(), 4, &plan);
        assert!(
            calls.iter().all(|call| call.status == 200 && call.received > 8),
            "{}: {calls:?}",
            server.process.name
        );
        println!("{} works", server.process.name);
    }
}

#[test]
#[ignore = "live: installs and starts real software"]
fn chains_work() {
    let _gate = gate::turn();
    let plan = || (0..64).map(|_| Planned::get(format!("/call/{}", fresh("n")))).collect::<Vec<_>>();
    let workers = "--worker-class sync --workers 2";
    let service = servers::python(&Setting::default());
    let gunicorn = servers::gunicorn_unix(workers, &Setting::calls(service.url()));
    let socket = gunicorn.socket.as_ref().expect("a unix socket").display().to_string();
    let nginx = servers::nginx_proxy(&format!("http://unix:{socket}:"), false, &Setting::default());
    let calls = Client::Requests.run(&nginx.url(), 64, &plan());
    assert!(calls.iter().all(|call| call.status == 200), "{calls:?}");

    let nat = Nat::new();
    let setting =
        Setting { place: nat.right.clone(), address: Some(Nat::RIGHT.into()), ..Setting::default() };
    let service = servers::python(&setting);
    nat.expose_right(7001, service.port);
    let url = format!("http://{}:7001", Nat::ROUTER_LEFT);
    let calls = Client::Curl.run_in(&nat.left, &url, 16, &mixed(30));
    assert!(calls.iter().all(|call| call.status > 0), "{calls:?}");
}
