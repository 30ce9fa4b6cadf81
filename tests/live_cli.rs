//! The command line: what is wrong is said with a way out, by the exit code that the documentation gives.

use std::os::unix::fs::PermissionsExt;
use std::process::Command;

use sonde_tests::agent::command;
use sonde_tests::calls::fresh;
use sonde_tests::processes::run;
use sonde_tests::raw::{Connection, listen};
use sonde_tests::servers::{self, Setting};
use sonde_tests::{Run, gate};

#[test]
#[ignore = "live: needs root, BPF and a built sonde"]
fn wrong_arguments() {
    let _gate = gate::enter();
    let cases: &[(&[&str], &str)] = &[
        (&["run", "--prot", "80"], "--port"),
        (&["run", "--port", "http"], "http"),
        (&["run", "--port", "70000"], "70000"),
        (&["run", "--port", "90-80"], "90-80"),
        (&["run", "--pid", "-3"], "-3"),
        (&["run", "--output", "smoke"], "smoke"),
        (&["run", "--hooks", "fishing"], "lengths"),
        (&["run", "--exe", "[unclosed"], "[unclosed"),
        (&["fly"], "fly"),
        (&["replay"], "FILE"),
    ];
    for (args, hint) in cases {
        let (status, out, err) = command(args);
        assert_eq!(status, Some(2), "sonde {args:?}: {err}");
        assert!(err.contains(hint), "sonde {args:?} does not name {hint:?}: {err}");
        assert_eq!(out, "", "sonde {args:?}: errors go to standard error");
        assert!(!err.contains("panicked"), "sonde {args:?}: {err}");
    }
}

/// Values that the OpenTelemetry specification wants warned of and ignored are named; one that leaves nowhere to send is an
/// error.
#[test]
#[ignore = "live: needs root, BPF and a built sonde"]
fn wrong_environment() {
    let _gate = gate::enter();
    for (name, value) in [
        ("OTEL_EXPORTER_OTLP_PROTOCOL", "pigeon"),
        ("OTEL_EXPORTER_OTLP_TIMEOUT", "soon"),
        ("OTEL_EXPORTER_OTLP_COMPRESSION", "squash"),
    ] {
        let log = Run::ports(&[1]).arg("--output").arg("otlp").env(name, value).start().finish().log;
        assert!(log.lines().any(|line| line.contains(name) && line.contains(value)), "{name}={value}: {log}");
    }
    let (name, value) = ("OTEL_EXPORTER_OTLP_ENDPOINT", "not a url");
    let mut sonde = Command::new(gate::sonde_path());
    let (status, _, err) = run("sonde", sonde.args(["run", "--output", "otlp"]).env(name, value), "");
    assert_eq!(status.code(), Some(2), "{name}={value}: {err}");
    assert!(err.contains(name) && err.contains(value), "{name}={value} is not named: {err}");
}

/// With SONDE_LOG_FORMAT=json every line on standard error is a JSON object, the last one of a run that fails as well.
#[test]
#[ignore = "live: needs root, BPF and a built sonde"]
fn log_lines_as_json() {
    let _gate = gate::enter();
    let read = |line: &str| -> serde_json::Value {
        serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"))
    };
    let text = |line: &serde_json::Value, key: &str| line[key].as_str().unwrap_or_default().to_owned();
    let agent = Run::ports(&[1]).env("SONDE_LOG_FORMAT", "json").env("SONDE_LOG", "debug").start();
    let lines: Vec<_> = agent.finish().log.lines().map(read).collect();
    let said = |message: &str| lines.iter().find(|line| text(line, "message") == message).cloned();
    let observing = said("sonde is observing").expect("a line");
    assert_eq!(text(&observing, "level"), "INFO", "{observing}");
    assert!(!text(&observing, "hooks").is_empty(), "{observing}");
    assert!(lines.iter().all(|line| text(line, "timestamp").ends_with('Z')), "{lines:?}");
    assert!(lines.iter().any(|line| text(line, "message").contains("nothing lost")), "{lines:?}");

    let (status, _, err) = command(&["--log-format", "json", "--config", "/nonexistent", "run"]);
    assert_eq!(status, Some(2), "{err}");
    let line = read(err.trim_end());
    assert_eq!(text(&line, "level"), "ERROR", "{line}");
    assert!(text(&line, "message").contains("/nonexistent"), "{line}");
}

#[test]
#[ignore = "live: needs root, BPF and a built sonde"]
fn bad_recordings() {
    let _gate = gate::enter();
    let folder = tempfile::TempDir::new().expect("folder");
    for (name, content) in
        [("empty", &b""[..]), ("text", b"this is not a recording\n"), ("zeroes", &[0; 4096])]
    {
        let path = folder.path().join(name);
        std::fs::write(&path, content).expect("file");
        let (status, _, err) = command(&["replay", path.to_str().expect("text"), "--output", "none"]);
        assert!(matches!(status, Some(1 | 2)), "replay of {name}: {status:?} {err}");
        assert!(err.contains(name) && !err.contains("panicked"), "replay of {name}: {err}");
    }
}

#[test]
#[ignore = "live: needs root, BPF and a built sonde"]
fn without_privileges() {
    let _gate = gate::enter();
    // Its own folder may not be open to others.
    let folder = tempfile::TempDir::new().expect("folder");
    let sonde = folder.path().join("sonde");
    std::fs::copy(gate::sonde_path(), &sonde).expect("copy");
    std::fs::set_permissions(folder.path(), std::fs::Permissions::from_mode(0o755)).expect("mode");
    for args in [
        &["--reuid=65534", "--regid=65534", "--clear-groups", "--inh-caps=-all", "--bounding-set=-all"][..],
        // root in name only
        &["--inh-caps=-all", "--bounding-set=-all"][..],
    ] {
        let mut sonde_as = Command::new("setpriv");
        let (status, _, err) =
            run("sonde", sonde_as.args(args).arg(&sonde).args(["run", "--output", "none"]), "");
        assert_eq!(status.code(), Some(3), "{args:?}: {err}");
        let names = err.contains("CAP_BPF") || err.contains("CAP_SYS_ADMIN");
        assert!(names && err.contains("root"), "{args:?}: what is missing and what to do: {err}");
    }
}

#[test]
#[ignore = "live: needs root, BPF and a built sonde"]
fn without_btf() {
    let _gate = gate::enter();
    let hidden = "mount -t tmpfs none /sys/kernel/btf && exec \"$0\" run --output none";
    let mut apart = Command::new("unshare");
    apart.args(["--mount", "sh", "-c", hidden]).arg(gate::sonde_path());
    let (status, _, err) = run("sonde", &mut apart, "");
    assert_eq!(status.code(), Some(3), "{err}");
    assert!(err.contains("BTF"), "what is missing: {err}");
}

#[test]
#[ignore = "live: needs root, BPF and a built sonde"]
fn doctor() {
    let _gate = gate::enter();
    let (status, out, err) = command(&["doctor"]);
    assert_eq!(status, Some(0), "{err}");
    for word in
        ["Kernel", "type information", "Hooks", "lengths", "syscalls", "Clock", "no endpoint is configured"]
    {
        assert!(out.contains(word), "doctor does not speak of {word}: {out}");
    }
    println!("{out}");
    let (status, out, err) = command(&["doctor", "--json"]);
    assert_eq!(status, Some(0), "{err}");
    let found: serde_json::Value =
        serde_json::from_str(&out).unwrap_or_else(|error| panic!("{error}: {out}"));
    assert_eq!((&found["status"], &found["can_run"]), (&0.into(), &true.into()), "{out}");
}

/// Each process with its ports, what is exchanged with it, and whether it would be observed.
#[test]
#[ignore = "live: needs root, BPF and a built sonde"]
fn doctor_knows_the_processes() {
    let _gate = gate::enter();
    let server = servers::hyper(&Setting::default());
    let mut connection = Connection::to(server.port);
    connection.exchange("GET", &format!("/hello/{}", fresh("d")), "", b"");
    let (status, out, err) = command(&["doctor", "--json"]);
    assert_eq!(status, Some(0), "{err}");
    let found: serde_json::Value =
        serde_json::from_str(&out).unwrap_or_else(|error| panic!("{error}: {out}"));
    let processes = found["traffic"]["processes"].as_array().expect("processes");
    let of = |listens: bool| {
        processes.iter().find(|process| {
            let has = |list: &str, port: &dyn Fn(&serde_json::Value) -> bool| {
                process[list].as_array().is_some_and(|list| list.iter().any(port))
            };
            let listed = has("listens", &|port| *port == server.port);
            listed == listens && has("connections", &|at| at["port"] == server.port)
        })
    };
    let (served, called) = (of(true).expect("the server"), of(false).expect("this test"));
    for process in [served, called] {
        assert_eq!(process["observed"], true, "{process}");
        let carried = process["connections"].as_array().expect("connections");
        let carried = carried.iter().find(|at| at["port"] == server.port).expect("the connection");
        assert!(carried["bytes"].as_u64().is_some_and(|bytes| bytes > 100), "{process}");
    }
    assert_eq!(called["pid"], std::process::id());
}

/// Endpoints: one that works, one where nobody is, one that is no OTLP; the exit status tells them apart.
#[test]
#[ignore = "live: needs root, BPF and a built sonde"]
fn doctor_looks_at_endpoints() {
    let _gate = gate::enter();
    let server = servers::hyper(&Setting::default());
    let sink = sonde_tests::sink::Sink::start();
    let (closed, nobody) = listen();
    drop(closed);
    for protocol in ["grpc", "http/protobuf", "http/json"] {
        for (scheme, port, status, words) in [
            ("http", sink.port, 0, "takes"),
            ("http", nobody, 1, "nobody listens there"),
            ("https", sink.port, 1, "speak TLS"),
            ("http", server.port, 1, "empty export"),
        ] {
            let mut doctor = Command::new(gate::sonde_path());
            doctor
                .arg("doctor")
                .env("OTEL_EXPORTER_OTLP_ENDPOINT", format!("{scheme}://localhost:{port}"))
                .env("OTEL_EXPORTER_OTLP_PROTOCOL", protocol);
            let (ended, out, err) = run("sonde", &mut doctor, "");
            let lines: Vec<&str> = out.lines().filter(|line| line.contains("OTLP ")).collect();
            println!("{protocol} {scheme}: {lines:?}");
            assert_eq!(ended.code(), Some(status), "{protocol} {scheme}: {out}{err}");
            assert_eq!(lines.len(), 2, "{protocol}: traces and metrics: {out}");
            assert!(lines.iter().all(|line| line.contains(words)), "{protocol}: {words}: {lines:?}");
        }
    }
    let mut doctor = Command::new(gate::sonde_path());
    doctor.arg("doctor").env("OTEL_EXPORTER_OTLP_ENDPOINT", "no url");
    let (ended, out, _) = run("sonde", &mut doctor, "");
    assert_eq!(ended.code(), Some(2), "{out}");
}

#[test]
#[ignore = "live: needs root, BPF and a built sonde"]
fn endpoint_that_is_down() {
    let _gate = gate::enter();
    let server = servers::hyper(&Setting::default());
    for protocol in ["grpc", "http/protobuf"] {
        let (closed, port) = listen();
        drop(closed);
        let agent = Run::ports(&[server.port])
            .arg("--output")
            .arg("otlp")
            .env("OTEL_EXPORTER_OTLP_ENDPOINT", &format!("http://127.0.0.1:{port}"))
            .env("OTEL_EXPORTER_OTLP_PROTOCOL", protocol)
            .env("OTEL_EXPORTER_OTLP_TIMEOUT", "1000")
            .env("OTEL_BSP_SCHEDULE_DELAY", "100")
            .env("OTEL_BSP_EXPORT_TIMEOUT", "2000")
            .start();
        let mut connection = Connection::to(server.port);
        for _ in 0..300 {
            connection.exchange("GET", &format!("/sleep/5/{}", fresh("d")), "", b"");
        }
        let finished = agent.finish();
        assert_eq!(finished.spans.len(), 600, "the other output has everything");
        let said: Vec<&str> = finished.log.lines().filter(|line| line.contains(&port.to_string())).collect();
        println!("{protocol}:\n{}", finished.log);
        for signal in ["spans", "metrics"] {
            let of_it = said.iter().filter(|line| line.contains(&format!("cannot send {signal}"))).count();
            assert_eq!(of_it, 1, "{protocol}: said once of {signal}: {}", finished.log);
        }
        assert_eq!(said.len(), 2, "{protocol}: nothing else is said of it: {}", finished.log);
        assert!(finished.log.contains("export_failed"), "{protocol}: losses are counted: {}", finished.log);
    }
}
