//! The agent's core on one core: nginx under wrk is recorded on this machine, and the recording run through the core again
//! and again by `tests/bench`. Nothing of a kernel or an output is in the figures, but where they say so.

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
    let recording = scratch.0.join("recording");
    record(&sonde, &scratch.0, &recording)?;
    for what in ["core", "json", "console"] {
        // One core for all threads: what an output costs is in its figure.
        let mut command = Command::new("taskset");
        command.args(["-c", "0"]).arg(workspace::target().join("release/sonde-bench"));
        process::check(command.arg(&recording).arg(what).stdout(Stdio::null()))?;
    }
    Ok(())
}

/// Records nginx under wrk.
fn record(sonde: &Path, folder: &Path, recording: &Path) -> Result<()> {
    let nginx = Nginx::start(folder)?;
    let mut command = Command::new(sonde);
    command.arg("record").arg(recording).args(["--yes", "--port", &nginx.port.to_string()]);
    let mut recorder = Recorder(command.stdin(Stdio::null()).stderr(Stdio::piped()).spawn()?);
    let mut errors = BufReader::new(recorder.0.stderr.take().context("no standard error")?).lines();
    let mut said = String::new();
    while !said.contains("sonde is observing") {
        let Some(line) = errors.next().transpose()? else { bail!("sonde does not record:\n{said}") };
        said.push_str(&line);
        said.push('\n');
    }
    let load = nginx.load(CLIENTS, SECONDS)?;
    eprintln!("recorded: nginx `return 200`, wrk -t1 -c{CLIENTS}, {:.0} requests", load.requests);
    terminate(&mut recorder.0)?;
    // What was lost is said there.
    for line in errors {
        eprintln!("  {}", line?);
    }
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
