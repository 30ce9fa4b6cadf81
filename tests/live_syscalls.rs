//! Every system call that moves bytes of a socket counts right: over IPv4, IPv6 and unix sockets, through duplicated,
//! inherited and passed descriptors, with partial, peeked and thrown-away bytes.

use std::process::Command;

use sonde_tests::compare::Report;
use sonde_tests::processes::{free_port, output};
use sonde_tests::{Call, Kind, Run, apps, gate};

/// How many ways syscalls.py has.
const WAYS: usize = 24;

#[test]
#[ignore = "live: needs root, BPF and a built sonde"]
fn ways_to_move_bytes() {
    let _gate = gate::enter();
    let folder = tempfile::TempDir::new().expect("folder");
    // A program of its own, so that no other Python on this machine is observed.
    let python = folder.path().join("sonde-test-python");
    std::fs::copy("/usr/bin/python3", &python).expect("copy");
    let mut report = Report::default();
    for hooks in gate::hook_families() {
        for family in ["tcp", "tcp6", "unix"] {
            let port = free_port();
            let socket = folder.path().join(format!("{hooks}.sock"));
            let address = if family == "unix" { socket.display().to_string() } else { port.to_string() };
            let run = if family == "unix" {
                Run::bare("run").arg("--exe").arg(&python)
            } else {
                Run::ports(&[port])
            };
            let agent = run.hooks(&hooks).start();
            // Some machines let nobody attach to the ends of kernel functions, which `lengths` needs to see splices.
            let splices = !agent.said.iter().any(|line| line.contains("spliced_"));
            let without: &[&str] = if family == "unix" && !splices { &["send/splice"] } else { &[] };
            let mut command = Command::new(&python);
            command
                .env("PYTHONHOME", "/usr")
                .arg(apps::sources().join("python/syscalls.py"))
                .args([family, &address])
                .args(without);
            let calls: Vec<Call> = output("syscalls.py", &mut command, "")
                .lines()
                .map(|line| serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}")))
                .collect();
            assert_eq!(calls.len(), WAYS - without.len(), "{family}: every way was gone");
            let mut finished = agent.finish();
            for span in &mut finished.spans {
                if family == "unix" {
                    // A unix socket has no port of its own: what the request names stands there for the client.
                    span.attributes.remove("server.port");
                    span.attributes.insert("network.peer.port".into(), "0".into());
                    span.attributes.insert("client.address".into(), "a path".into());
                    span.attributes.insert("server.port".into(), "0".into());
                }
                if !splices && span.path().starts_with("/send/splice/") {
                    // The end of the body went by unseen: all that is not known is when.
                    assert_eq!(span.attributes.remove("sonde.quality").as_deref(), Some("gap"));
                }
            }
            let port = if family == "unix" { 0 } else { port };
            let what = format!("{family} ({hooks}{})", if splices { "" } else { ", splices unseen" });
            let spans: Vec<_> = finished.spans.iter().collect();
            report.compare(&what, Kind::Client, port, &calls, &spans);
            report.compare(&what, Kind::Server, port, &calls, &spans);
            report.unique_ids(&finished.spans);
            println!("{what}: {} spans, differences so far: {}", finished.spans.len(), report.count());
        }
    }
    report.check("system calls", "");
}
