//! Processes whose cost the kernel tells.

use std::fs::{self, File};
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use crate::process::show;

/// How long Sonde may take to attach, an emulated machine included.
const START: Duration = Duration::from_secs(120);

/// CPU time of a process and of its threads, ended ones too: `utime + stime` of `/proc/PID/stat`, in seconds. The kernel
/// scales the two so that their sum is what the scheduler counted; the unit is a hundredth of a second.
pub(super) fn cpu(pid: u32) -> Result<f64> {
    let path = format!("/proc/{pid}/stat");
    let stat = fs::read_to_string(&path).with_context(|| path.clone())?;
    // The name in parentheses may hold anything; field 3 follows it.
    let after = stat.rsplit_once(") ").context("a process without a name")?.1;
    let fields: Vec<&str> = after.split(' ').collect();
    let ticks =
        |index: usize| -> Result<f64> { Ok(fields.get(index).context("a short stat line")?.parse()?) };
    Ok((ticks(11)? + ticks(12)?) / 100.0)
}

/// A line of `/proc/PID/status` that counts KiB, in MiB: `VmRSS`, `VmHWM`.
pub(super) fn memory(pid: u32, line: &str) -> Result<f64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
    let value = status.lines().find_map(|text| text.strip_prefix(line)?.strip_prefix(':'));
    let kib: f64 = value.context("no such line of memory")?.trim().trim_end_matches(" kB").parse()?;
    Ok(kib / 1024.0)
}

/// How `sonde run` is started.
pub(super) struct Observe {
    pub(super) sonde: PathBuf,
    /// What `--hooks` says.
    pub(super) hooks: String,
    /// What `--output` says.
    pub(super) output: String,
    /// The client's spans too, not the server's alone.
    pub(super) both_ends: bool,
}

/// A running `sonde run`. Killed when dropped.
pub(super) struct Sonde {
    child: Child,
    /// Seconds from its start until it observed: by the clock, and of CPU.
    pub(super) start: (f64, f64),
    started: Instant,
}

impl Sonde {
    /// Starts it for nginx on this port, what it prints to `to`, and waits until it observes.
    pub(super) fn start(how: &Observe, port: u16, to: Stdio) -> Result<Self> {
        let mut command = Command::new(&how.sonde);
        command.args(["run", "--hooks", &how.hooks, "--output", &how.output]);
        if how.both_ends {
            command.args(["--port", &port.to_string()]);
        } else {
            command.args(["--exe", "nginx"]);
        }
        command.stdin(Stdio::null()).stdout(to).stderr(Stdio::piped());
        let started = Instant::now();
        let mut child = command.spawn().with_context(|| format!("cannot start {}", show(&command)))?;
        let errors = child.stderr.take().context("no standard error")?;
        let mut sonde = Self { child, start: (0.0, 0.0), started };
        let (observing, wait) = mpsc::channel();
        // Reads on to the end, so that sonde never waits for us.
        thread::spawn(move || {
            let mut said = String::new();
            for line in BufReader::new(errors).lines().map_while(Result::ok) {
                said.push_str(&line);
                said.push('\n');
                if line.contains("sonde is observing") {
                    drop(observing.send(Ok(Instant::now())));
                }
            }
            drop(observing.send(Err(said)));
        });
        match wait.recv_timeout(START) {
            Ok(Ok(at)) => sonde.start = (at.duration_since(started).as_secs_f64(), cpu(sonde.pid())?),
            Ok(Err(said)) => bail!("sonde ended before it observed:\n{said}"),
            Err(_) => bail!("sonde does not observe after {} s", START.as_secs()),
        }
        Ok(sonde)
    }

    pub(super) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Since it was started, by the clock and of CPU.
    pub(super) fn since_start(&self) -> Result<(f64, f64)> {
        Ok((self.started.elapsed().as_secs_f64(), cpu(self.pid())?))
    }

    /// What it prints, if that was piped.
    pub(super) fn stdout(&mut self) -> Result<ChildStdout> {
        self.child.stdout.take().context("the output of sonde is not piped")
    }

    /// Ends it in good order, so that every span is out.
    pub(super) fn stop(mut self) -> Result<()> {
        terminate(&mut self.child)
    }
}

impl Drop for Sonde {
    fn drop(&mut self) {
        // It may have ended already, and then there is nothing to do.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

/// SIGTERM, and until it is gone.
pub(super) fn terminate(child: &mut Child) -> Result<()> {
    crate::process::check(Command::new("kill").args(["-TERM", &child.id().to_string()]))?;
    child.wait()?;
    Ok(())
}

/// How many SERVER spans stand in a file of OTLP/JSON Lines.
pub(super) fn server_spans(path: &Path) -> Result<u64> {
    let mut count = 0;
    for line in BufReader::new(File::open(path)?).split(b'\n') {
        let line = line?;
        count += String::from_utf8_lossy(&line).matches("\"kind\":2").count() as u64;
    }
    Ok(count)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn our_own_cost_is_told() {
        let own = std::process::id();
        assert!(cpu(own).unwrap() >= 0.0);
        assert!(memory(own, "VmRSS").unwrap() > 0.5);
        assert!(memory(own, "VmNone").is_err());
    }
}
