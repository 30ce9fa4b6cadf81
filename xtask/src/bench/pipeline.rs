//! The agent's core on one core: nginx under wrk, and under h2load with HTTP/2 and with gRPC's messages and headers, is recorded on
//! this machine, and each recording run through the core again and again by `tests/bench`. Nothing of a kernel or an output is in
//! the figures, but where they say so.

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use anyhow::{Context, Result, bail};

use super::measured::terminate;
use super::server::{Nginx, Scratch};
use crate::{build, process, workspace};

/// Few enough that the recording has no holes, and that it fits into memory beside itself.
const CLIENTS: u32 = 8;
const SECONDS: u32 = 2;
/// Connections of h2load, streams that each has open, and requests.
const CONNECTIONS: u32 = 8;
const STREAMS: u32 = 16;
const REQUESTS: u32 = 40_000;

/// What is recorded.
#[derive(Clone, Copy)]
enum Workload {
    Http1,
    Http2,
    Grpc,
}

pub(super) fn bench(args: &[String]) -> Result<()> {
    let mut sonde = workspace::sonde();
    let mut args = args.iter();
    while let Some(arg) = args.next() {
        match arg.as_str() {
            "--sonde" => sonde = args.next().context("--sonde wants a file")?.into(),
            _ => bail!("usage: cargo xtask bench pipeline [--sonde FILE]"),
        }
    }
    if !sonde.is_file() {
        bail!("no {}; `cargo xtask build` makes it", sonde.display());
    }
    let mut cargo = build::host_cargo();
    process::check(cargo.args(["build", "--locked", "--release", "--package", "sonde-bench"]))?;
    let scratch = Scratch::new()?;
    for (workload, outputs) in [
        (Workload::Http1, &["core", "json", "console"][..]),
        (Workload::Http2, &["core", "json"]),
        (Workload::Grpc, &["core", "json"]),
    ] {
        let recording = scratch.0.join(format!("recording.{}", workload as u8));
        record(&sonde, &scratch.0, &recording, workload)?;
        for what in outputs {
            // One core for all threads: what an output costs is in its figure.
            let mut command = Command::new("taskset");
            command.args(["-c", "0"]).arg(workspace::target().join("release/sonde-bench"));
            process::check(command.arg(&recording).arg(what).stdout(Stdio::null()))?;
        }
        fs::remove_file(recording)?;
    }
    Ok(())
}

/// Records nginx under load.
fn record(sonde: &Path, folder: &Path, recording: &Path, workload: Workload) -> Result<()> {
    let nginx = Nginx::start(folder)?;
    let mut command = Command::new(sonde);
    command.arg("record").arg(recording).args(["--yes", "--port", &nginx.ports()]);
    let mut recorder = Recorder(command.stdin(Stdio::null()).stderr(Stdio::piped()).spawn()?);
    let mut errors = BufReader::new(recorder.0.stderr.take().context("no standard error")?).lines();
    let mut said = String::new();
    while !said.contains("sonde is observing") {
        let Some(line) = errors.next().transpose()? else { bail!("sonde does not record:\n{said}") };
        said.push_str(&line);
        said.push('\n');
    }
    match workload {
        Workload::Http1 => {
            let load = nginx.load(CLIENTS, SECONDS)?;
            eprintln!("recorded: nginx `return 200`, wrk -t1 -c{CLIENTS}, {:.0} requests", load.requests);
        }
        Workload::Http2 => load_over_http2(&nginx, None)?,
        Workload::Grpc => {
            // One message of 20 bytes behind its prefix.
            let message = folder.join("message");
            fs::write(&message, [&[0, 0, 0, 0, 20][..], &[7; 20]].concat())?;
            load_over_http2(&nginx, Some(&message))?;
        }
    }
    terminate(&mut recorder.0)?;
    // What was lost is said there.
    for line in errors {
        eprintln!("  {}", line?);
    }
    Ok(())
}

/// Puts nginx under h2load, whose requests are calls of gRPC where there is a file with their message.
fn load_over_http2(nginx: &Nginx, message: Option<&Path>) -> Result<()> {
    let mut h2load = Command::new("h2load");
    h2load.args(["-t1", &format!("-c{CONNECTIONS}"), &format!("-m{STREAMS}"), &format!("-n{REQUESTS}")]);
    let what = if let Some(message) = message {
        h2load.args(["-H", "content-type: application/grpc", "-H", "te: trailers", "-d"]).arg(message);
        h2load.arg(nginx.over_http2("/echo.Echo/Unary"));
        "gRPC, answered by nginx"
    } else {
        h2load.arg(nginx.over_http2("/hello"));
        "HTTP/2, nginx `return 200`"
    };
    let said = process::output(&mut h2load)?;
    if !said.contains(&format!(" {REQUESTS} succeeded")) {
        bail!("h2load said:\n{said}");
    }
    eprintln!("recorded: {what}, h2load -c{CONNECTIONS} -m{STREAMS}, {REQUESTS} requests");
    Ok(())
}

/// `sonde record`. Killed when dropped before its end.
struct Recorder(Child);

impl Drop for Recorder {
    fn drop(&mut self) {
        // It may have ended already, and then there is nothing to do.
        drop(self.0.kill());
        drop(self.0.wait());
    }
}
