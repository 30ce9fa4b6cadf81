//! Captures: what tcpdump saw of a workload, replayed, is what the workload did, from either end and from both.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;

use sonde_tests::agent::command;
use sonde_tests::calls::{Call, fresh, mixed};
use sonde_tests::captures::{Capture, Tcpdump};
use sonde_tests::clients::Client;
use sonde_tests::compare::Report;
use sonde_tests::namespaces::{Nat, Place};
use sonde_tests::processes::output;
use sonde_tests::servers::{self, Server, Setting};
use sonde_tests::{Kind, Planned, Span, gate};

/// Makes requests. Returns what answers the last of them, too.
fn workload(place: &Place, url: &str, clients: &[Client], count: usize) -> (Vec<Call>, String) {
    let mut calls = Vec::new();
    for client in clients {
        calls.extend(client.run_in(place, url, 8, &mixed(count)));
    }
    let id = fresh("last");
    let last = Planned::get(format!("/hello/{id}"));
    calls.extend(Client::Curl.run_in(place, url, 1, std::slice::from_ref(&last)));
    (calls, format!("hello {id}"))
}

/// Spans from each perspective against the calls.
fn check(what: &str, capture: &Capture, file: &Path, port: u16, calls: &[Call]) {
    for (perspective, kind) in [("client", Kind::Client), ("server", Kind::Server)] {
        let (spans, log) = capture.replay(file, perspective);
        let mut report = Report::default();
        report.compare(what, kind, port, calls, &spans.iter().collect::<Vec<_>>());
        report.unique_ids(&spans);
        assert!(log.contains("nothing lost"), "{what}: {log}");
        assert_eq!(spans.len(), calls.len(), "{what}, {perspective}: no other spans");
        report.check(&format!("{what}, {perspective}"), &log);
    }
    let (spans, log) = capture.replay(file, "both");
    let mut report = Report::default();
    report.both_ends(port, calls, &spans);
    report.check(&format!("{what}, both"), &log);
    assert_eq!(spans.len(), 2 * calls.len(), "{what}: no other spans");
    paired(what, &spans);
}

/// Each SERVER span hangs under the CLIENT span of the same request, and both last as long.
fn paired(what: &str, spans: &[Span]) {
    let clients: BTreeMap<&str, &Span> =
        spans.iter().filter(|span| span.kind == Kind::Client).map(|span| (span.path(), span)).collect();
    for server in spans.iter().filter(|span| span.kind == Kind::Server) {
        let client = clients[server.path()];
        assert_eq!((&server.trace, &server.parent), (&client.trace, &client.id), "{what}: {}", server.path());
        assert_eq!((server.start, server.end), (client.start, client.end), "{what}: {}", server.path());
        assert_eq!(client.parent, "", "{what}: {}", client.path());
        assert_eq!(server.resource["service.name"], "unknown_service");
        assert!(!server.resource.contains_key("host.name"), "{what}: it is not known which host it is");
    }
}

fn loopback(server: &Server, interface: &str, args: &[&str], clients: &[Client]) -> (Capture, Vec<Call>) {
    let filter = format!("tcp port {}", server.port);
    let tcpdump = Tcpdump::start(&Place::default(), interface, args, &filter);
    let (calls, last) = workload(&Place::default(), &server.url(), clients, 200);
    (tcpdump.finish(&last, 1), calls)
}

#[test]
#[ignore = "live: needs root and a built sonde"]
fn loopback_and_every_format() {
    let _gate = gate::enter();
    let server = servers::hyper(&Setting::default());
    let (capture, calls) = loopback(&server, "lo", &[], &[Client::Go, Client::Requests, Client::Curl]);
    check("lo", &capture, &capture.file, server.port, &calls);
    check("gzip", &capture, &capture.packed(), server.port, &calls);
    for (what, args) in [
        ("pcapng", &["-F", "pcapng"][..]),
        ("nanoseconds", &["-F", "nsecpcap"]),
        ("raw IP", &["-F", "pcap", "-C", "14", "-T", "rawip"]),
    ] {
        let file = capture.edited(&what.replace(' ', "-"), args);
        check(what, &capture, &file, server.port, &calls);
    }
    // The same packets on two interfaces.
    let twice = capture.file.with_extension("twice");
    let mut mergecap = Command::new("mergecap");
    mergecap.arg("-w").arg(&twice).args([&capture.file, &capture.edited("other", &["-F", "pcapng"])]);
    output("mergecap", &mut mergecap, "");
    check("every packet twice", &capture, &twice, server.port, &calls);
    cut_off_and_broken(&capture, calls.len());
    unreadable(&capture);
}

/// What stands before the damage is told, and where the damage is.
fn cut_off_and_broken(capture: &Capture, calls: usize) {
    let whole = std::fs::read(&capture.file).expect("capture");
    let path = capture.file.with_extension("damaged");
    let replay = |bytes: &[u8]| {
        std::fs::write(&path, bytes).expect("write");
        command(&["replay", path.to_str().expect("text"), "--output", "json"])
    };
    let (status, out, err) = replay(&whole[..whole.len() - 5]);
    assert!(status == Some(0) && err.contains("cut off behind byte"), "{status:?} {err}");
    assert!(spans_in(&out) >= calls - 1, "{err}");
    let (status, out, err) = replay(&[&whole[..], &[0xFF; 16]].concat());
    let offset = format!("capture broken at byte {}", whole.len());
    assert!(status == Some(1) && err.contains(&offset), "{status:?} {err}");
    assert_eq!(spans_in(&out), calls, "{err}");
    // Nothing of it can be read: Wi-Fi.
    let (status, _, err) = replay(&[&whole[..20], &[127, 0, 0, 0], &whole[24..]].concat());
    assert!(status == Some(1) && err.contains("link type 127"), "{status:?} {err}");
}

/// Spans in lines of JSON. Exemplars of metrics name spans, too.
fn spans_in(out: &str) -> usize {
    let lines = out.lines().filter(|line| line.starts_with("{\"resourceSpans\""));
    lines.map(|line| line.matches("\"spanId\"").count()).sum()
}

/// Files that are no captures, and a flag that is not for recordings.
fn unreadable(capture: &Capture) {
    let path = capture.file.with_extension("other");
    let text = path.to_str().expect("text");
    for (content, args, code, hint) in [
        (&b""[..], &[][..], 1, "empty"),
        (b"%PDF-1.7 and so on", &[], 1, "neither a recording of Sonde"),
        (b"\x28\xb5\x2f\xfd and so on", &[], 1, "zstd"),
        (b"SONDEREC and so on", &["--perspective", "both"], 2, "leave --perspective out"),
    ] {
        std::fs::write(&path, content).expect("write");
        let (status, _, err) = command(&[&["replay", text, "--output", "none"], args].concat());
        assert!(status == Some(code) && err.contains(hint), "{hint}: {status:?} {err}");
    }
}

#[test]
#[ignore = "live: needs root and a built sonde"]
fn any_device_cooked_both_ways() {
    let _gate = gate::enter();
    let server = servers::python(&Setting::default());
    for kind in ["LINUX_SLL", "LINUX_SLL2"] {
        let (capture, calls) = loopback(&server, "any", &["-y", kind], &[Client::Httpx, Client::Node]);
        check(kind, &capture, &capture.file, server.port, &calls);
    }
}

#[test]
#[ignore = "live: needs root and a built sonde"]
fn a_short_snapshot_length_keeps_what_heads_tell() {
    let _gate = gate::enter();
    let server = servers::hyper(&Setting::default());
    let filter = format!("tcp port {}", server.port);
    let tcpdump = Tcpdump::start(&Place::default(), "lo", &["-s", "96"], &filter);
    let (calls, _) = workload(&Place::default(), &server.url(), &[Client::Curl], 200);
    // Answers are cut, so a further request says that those before it are all there.
    let next = Planned::get(format!("/hello/{}", fresh("next")));
    drop(Client::Curl.run(&server.url(), 1, std::slice::from_ref(&next)));
    let capture = tcpdump.finish(&next.path, 1);
    let (mut spans, log) = capture.replay(&capture.file, "client");
    spans.retain(|span| span.path() != next.path);
    assert_eq!(spans.len(), calls.len(), "{log}");
    for call in &calls {
        let span = spans.iter().find(|span| span.path() == call.path);
        let span = span.unwrap_or_else(|| panic!("no span of {}", call.path));
        assert_eq!(span.attribute("http.request.method"), call.method, "{}", call.path);
        let status = span.attribute("http.response.status_code");
        let marked = !span.attribute("sonde.quality").is_empty();
        assert!(status == call.status.to_string() || status.is_empty() && marked, "{}: {status}", call.path);
    }
}

/// Between hosts, with segments that the card cuts up, and at the router, which sees everything under two pairs of addresses.
#[test]
#[ignore = "live: needs root and a built sonde"]
fn hosts_and_the_router_between_them() {
    let _gate = gate::enter();
    let nat = Nat::new();
    let setting =
        Setting { place: nat.right.clone(), address: Some(Nat::RIGHT.into()), ..Setting::default() };
    let server = servers::python(&setting);
    nat.expose_right(7001, server.port);
    let url = format!("http://{}:7001", Nat::ROUTER_LEFT);
    let either = format!("tcp port 7001 or tcp port {}", server.port);
    let left = Tcpdump::start(&nat.left, "eth0", &[], "tcp port 7001");
    let router = Tcpdump::start(&nat.router, "any", &[], &either);
    let right = Tcpdump::start(&nat.right, "eth0", &[], &format!("tcp port {}", server.port));
    let (calls, last) = workload(&nat.left, &url, &[Client::Go, Client::Curl], 200);
    for (what, tcpdump, times) in [("client's host", left, 1), ("router", router, 2)] {
        let capture = tcpdump.finish(&last, times);
        check(what, &capture, &capture.file, 7001, &calls);
        let (spans, _) = capture.replay(&capture.file, "client");
        assert!(spans.iter().all(|span| span.resource["host.ip"].contains(Nat::LEFT)), "{what}");
    }
    let capture = right.finish(&last, 1);
    let (spans, log) = capture.replay(&capture.file, "server");
    assert_eq!(spans.len(), calls.len(), "{log}");
    assert!(spans.iter().all(|span| span.resource["host.ip"].contains(Nat::RIGHT)), "server's host");
    assert!(spans.iter().all(|span| span.number("network.local.port") == Some(server.port.into())));
}

/// A capture that began in the middle, ends in the middle, and lacks packets tells nothing wrong.
#[test]
#[ignore = "live: needs root and a built sonde"]
fn what_a_capture_lacks_is_marked() {
    let _gate = gate::enter();
    let server = servers::hyper(&Setting::default());
    let (capture, calls) = loopback(&server, "lo", &[], &[Client::Go, Client::Requests]);
    let mut capinfos = Command::new("capinfos");
    let table = output("capinfos", capinfos.args(["-T", "-r", "-m", "-c"]).arg(&capture.file), "");
    let count: usize = table.trim().rsplit(',').next().and_then(|count| count.parse().ok()).expect("packets");
    // Every 37th packet, and the first and last tenth.
    let dropped: Vec<String> = (1..count / 37).map(|n| (n * 37).to_string()).collect();
    let (first, last) = (format!("1-{}", count / 10), format!("{}-{count}", count - count / 10));
    let mut args: Vec<&str> = dropped.iter().map(String::as_str).collect();
    args.extend([first.as_str(), last.as_str()]);
    let file = gapped(&capture, &args);
    let (spans, log) = capture.replay(&file, "client");
    let by_path: BTreeMap<&str, &Call> = calls.iter().map(|call| (call.path.as_str(), call)).collect();
    let mut whole = 0;
    for span in &spans {
        let call = by_path.get(span.path()).unwrap_or_else(|| panic!("{span:?} of what did not happen"));
        let status = span.attribute("http.response.status_code");
        assert!(status.is_empty() || status == call.status.to_string(), "{span:?} is not {call:?}");
        let quality = span.attribute("sonde.quality");
        let broke_off = !span.attribute("error.type").is_empty() && call.status < 400;
        assert!(!quality.is_empty() || broke_off || !status.is_empty(), "{span:?}");
        // Those of a connection that had begun are right, and say that it had.
        whole += usize::from(matches!(quality, "" | "joined") && !status.is_empty());
    }
    println!("{} of {} calls have spans, {whole} whole: {log}", spans.len(), calls.len());
    assert!(spans.len() > calls.len() / 2 && whole > calls.len() / 4, "{log}");
}

/// editcap names the packets to leave out behind the output.
fn gapped(capture: &Capture, packets: &[&str]) -> PathBuf {
    let to = capture.file.with_extension("gapped");
    output("editcap", Command::new("editcap").arg(&capture.file).arg(&to).args(packets), "");
    to
}
