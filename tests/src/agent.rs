//! A running `sonde`.

use std::ffi::OsString;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};

use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest;
use tempfile::TempDir;

use crate::gate;
use crate::metrics;
use crate::processes::{Process, run};
use crate::spans::{self, Span};

/// How to start it.
pub struct Run {
    subcommand: Vec<OsString>,
    args: Vec<OsString>,
    env: Vec<(String, String)>,
    hooks: String,
    stdout: Option<PathBuf>,
}

/// It, observing. Killed when dropped.
pub struct Agent {
    /// The process.
    pub process: Process,
    /// Lines that it said before it observed.
    pub said: Vec<String>,
    json: PathBuf,
    _folder: TempDir,
}

/// What it left behind.
pub struct Finished {
    /// Every span of its JSON output.
    pub spans: Vec<Span>,
    /// Every line of metrics there.
    pub metrics: Vec<ExportMetricsServiceRequest>,
    /// Its standard error.
    pub log: String,
    /// How it ended.
    pub status: ExitStatus,
}

impl Run {
    /// `sonde run` for the connections of these ports.
    #[must_use]
    pub fn ports(ports: &[u16]) -> Self {
        let mut run = Self::bare("run");
        for port in ports {
            run = run.arg("--port").arg(port.to_string());
        }
        run
    }

    /// `sonde SUBCOMMAND`, nothing selected.
    #[must_use]
    pub fn bare(subcommand: &str) -> Self {
        Self {
            subcommand: vec![subcommand.into()],
            args: Vec::new(),
            env: Vec::new(),
            hooks: gate::hooks(),
            stdout: None,
        }
    }

    /// `sonde record FILE`.
    #[must_use]
    pub fn record(file: &Path, ports: &[u16]) -> Self {
        let mut run = Self::ports(ports);
        run.subcommand = vec!["record".into(), file.into(), "--yes".into()];
        run
    }

    /// With one more argument.
    #[must_use]
    pub fn arg(mut self, arg: impl Into<OsString>) -> Self {
        self.args.push(arg.into());
        self
    }

    /// With an environment variable.
    #[must_use]
    pub fn env(mut self, name: &str, value: &str) -> Self {
        self.env.push((name.into(), value.into()));
        self
    }

    /// With its standard output in a file.
    #[must_use]
    pub fn stdout(mut self, file: &Path) -> Self {
        self.stdout = Some(file.to_owned());
        self
    }

    /// With a hook family.
    #[must_use]
    pub fn hooks(mut self, hooks: &str) -> Self {
        self.hooks = hooks.into();
        self
    }

    /// Starts it and waits until it observes.
    #[must_use]
    pub fn start(self) -> Agent {
        let folder = TempDir::new().expect("a folder for the output");
        let json = folder.path().join("spans.jsonl");
        let mut command = Command::new(gate::sonde_path());
        command.args(&self.subcommand).args(&self.args).arg("--hooks").arg(&self.hooks);
        if self.subcommand.len() == 1 {
            command.arg("--output").arg(format!("json:{}", json.display()));
        }
        command.envs(self.env).current_dir(folder.path());
        let stdout = self.stdout.map_or_else(Stdio::null, |file| File::create(file).expect("file").into());
        let mut process = Process::start_into("sonde", &mut command, stdout);
        let said = process.wait_line("sonde is observing");
        Agent { process, said, json, _folder: folder }
    }
}

impl Agent {
    /// Ends it with SIGTERM and reads what it left behind.
    ///
    /// # Panics
    /// When it was dead already, or does not end as it should.
    #[must_use]
    pub fn finish(mut self) -> Finished {
        assert!(self.process.is_alive(), "sonde died: {}", self.process.wait().1);
        let Self { process, said: _, json, _folder } = self;
        let (status, log) = process.terminate();
        assert!(status.success(), "sonde ended with {status}: {log}");
        let (mut spans, mut metrics) = (Vec::new(), Vec::new());
        if json.is_file() {
            (spans, metrics) = (spans::read(&json), metrics::requests(&json));
        }
        Finished { spans, metrics, log, status }
    }

    /// How many spans it has written so far, without a look at them.
    #[must_use]
    pub fn count(&self) -> usize {
        let text = std::fs::read_to_string(&self.json).unwrap_or_default();
        let lines = text.lines().filter(|line| line.starts_with("{\"resourceSpans\""));
        lines.map(|line| line.matches("\"traceId\"").count()).sum()
    }

    /// The spans that it has written so far.
    #[must_use]
    pub fn spans(&self) -> Vec<Span> {
        if self.json.is_file() { spans::read(&self.json) } else { Vec::new() }
    }
}

/// Runs `sonde` with these arguments to its end, and gives its status, standard output and standard error.
///
/// # Panics
/// When it cannot be started or does not end.
#[must_use]
pub fn command(args: &[&str]) -> (Option<i32>, String, String) {
    let (status, out, err) = run("sonde", Command::new(gate::sonde_path()).args(args), "");
    (status.code(), out, err)
}
