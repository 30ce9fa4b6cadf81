//! `sonde run`.

use std::sync::Arc;
use std::time::Instant;

use tracing::{info, warn};

use super::Failure;
use super::live::{Live, Tap};
use crate::config::{Environment, Resolved, RunArgs};
use crate::conn::Nanos;
use crate::discover::Process;
use crate::enrich::Clock;
use crate::export::Outputs;
use crate::pipeline::Pipeline;
use crate::replay::Losses;
use crate::telemetry::{Counters, Summary};

/// Observes until a signal comes.
pub(super) fn run(args: &RunArgs) -> Result<(), Failure> {
    let resolved = Resolved::new(&args.outputs, &Environment::of_process())?;
    for warning in &resolved.warnings {
        warn!("{warning}");
    }
    let counters = Arc::new(Counters::default());
    let live = Live::load(&args.targets.targets(), args.hooks.hooks, Arc::clone(&counters))?;
    let outputs = Outputs::start(&resolved.outputs, &counters)?;
    let Export(outputs) = live.run(Export(outputs))?;
    outputs.shutdown(Instant::now() + resolved.outputs.batching.timeout);
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
