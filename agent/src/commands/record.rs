//! `sonde record`: the stream of records as it left the kernel, in a file.

use std::fs::File;
use std::io::IsTerminal;
use std::io::Write as _;
use std::path::Path;
use std::sync::Arc;

use tracing::{error, info};

use super::Failure;
use super::live::{Kernel, Live, Tap};
use crate::config::{Config, Environment, RecordArgs};
use crate::conn::Nanos;
use crate::discover::Process;
use crate::enrich::Clock;
use crate::pipeline::Pipeline;
use crate::replay::{Header, Losses, RecordingError, Writer};
use crate::telemetry::{Counters, Summary};

/// Records until a signal comes.
pub(super) fn run(args: &RecordArgs, file: Option<&Path>) -> Result<(), Failure> {
    let config = Config::observing(&args.targets, &args.hooks, &Environment::with_config(file)?)?;
    consent(args)?;
    let counters = Arc::new(Counters::default());
    let kernel = Kernel::look(config.hooks)?;
    let failed = |source| Failure::Recording { path: args.file.clone(), source };
    // Before the programs are loaded: a file that cannot be written should not cost that.
    let file = File::create(&args.file).map_err(|source| failed(RecordingError::Io { offset: 0, source }))?;
    let live = Live::load(kernel, &config.targets, false, Arc::clone(&counters))?;
    let header = Header {
        sonde: env!("CARGO_PKG_VERSION").into(),
        kernel: live.kernel.clone(),
        host: live.host.clone(),
        hooks: live.family.name().into(),
        started: Clock::monotonic(),
        clock_offset: live.clock.offset(),
    };
    let writer = Writer::new(file, &header).map_err(failed)?;
    let recorder = live.run(Recorder { writer: Some(writer), failure: None }, |_| {})?;
    info!("{}", Summary(&counters));
    match recorder {
        Recorder { failure: Some(source), .. } => Err(failed(source)),
        Recorder { writer: Some(writer), .. } => writer.finish().map(|_| ()).map_err(failed),
        Recorder { writer: None, failure: None } => Ok(()),
    }
}

/// A recording holds what the processes said to each other: nobody makes one by accident.
fn consent(args: &RecordArgs) -> Result<(), Failure> {
    const WHAT: &str =
        "the recording will hold requests and responses as they were, passwords and personal data included";
    if args.yes {
        return Ok(());
    }
    if !std::io::stdin().is_terminal() {
        return Err(Failure::Refusing(format!("{WHAT}\n  hint: if that is what you want, add --yes")));
    }
    eprint!("{WHAT}. Record? [y/N] ");
    let _ = std::io::stderr().flush();
    let mut answer = String::new();
    let _ = std::io::stdin().read_line(&mut answer);
    if answer.trim().eq_ignore_ascii_case("y") {
        Ok(())
    } else {
        Err(Failure::Refusing("not recorded".into()))
    }
}

/// Writes everything that a replay needs. After a failure it writes no more; the run goes on until it is ended.
struct Recorder {
    writer: Option<Writer<File>>,
    failure: Option<RecordingError>,
}

impl Recorder {
    fn write(&mut self, write: impl FnOnce(&mut Writer<File>) -> Result<(), RecordingError>) {
        let Some(writer) = &mut self.writer else { return };
        if let Err(why) = write(writer) {
            error!("nothing more is recorded: {why}");
            self.writer = None;
            self.failure = Some(why);
        }
    }
}

impl Tap for Recorder {
    fn process(&mut self, process: &Process) {
        self.write(|writer| writer.process(process));
    }

    fn record(&mut self, bytes: &[u8]) {
        self.write(|writer| writer.record(bytes));
    }

    fn losses(&mut self, losses: &Losses) {
        self.write(|writer| writer.losses(losses));
    }

    fn clock(&mut self, clock: Clock) {
        self.write(|writer| writer.clock(clock));
    }

    fn ticked(&mut self, watermark: Nanos, pipeline: &mut Pipeline) {
        drop(pipeline.take_spans());
        if watermark != Nanos::MAX {
            self.write(|writer| writer.tick(watermark));
        }
    }
}
