//! `sonde run`.

use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use tracing::info;

use super::Failure;
use super::live::{Kernel, Live, Tap};
use super::reload::Reloading;
use crate::config::RunArgs;
use crate::conn::Nanos;
use crate::discover::Process;
use crate::enrich::Clock;
use crate::export::Outputs;
use crate::pipeline::Pipeline;
use crate::replay::Losses;
use crate::telemetry::{Counters, Summary};

/// Observes until a signal comes.
pub(super) fn run(args: &RunArgs, file: Option<&Path>) -> Result<(), Failure> {
    let config = super::configure(args, file)?;
    let counters = Arc::new(Counters::default());
    let kernel = Kernel::look(config.hooks)?;
    // Before the programs are loaded: an output that cannot be opened should not cost that.
    let outputs = Outputs::start(&config.outputs, &counters)?;
    // Flags are what they are; a file may be read again.
    let may_change = file.is_some() && args.targets.targets().is_everything();
    let mut live = Live::load(kernel, &config.targets, may_change, Arc::clone(&counters))?;
    live.follow(config.policy.clone());
    let mut reloading = Reloading::new(args.clone(), file.map(Path::to_owned), &config);
    let Export(outputs) = live.run(Export(outputs), |follow| reloading.reload(follow))?;
    outputs.shutdown(Instant::now() + config.outputs.batching.timeout);
    info!("{}", Summary(&counters));
    Ok(())
}

/// Hands spans to the outputs.
struct Export(Outputs);

impl Tap for Export {
    fn process(&mut self, _: &Process) {}
    fn record(&mut self, _: &[u8]) {}
    fn losses(&mut self, _: &Losses) {}
    fn clock(&mut self, _: Clock) {}

    fn ticked(&mut self, _: Nanos, pipeline: &mut Pipeline) {
        self.0.spans(pipeline.take_spans());
    }
}
