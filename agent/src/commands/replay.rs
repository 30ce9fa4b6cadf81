//! `sonde replay`: a recording through the same pipeline, offline and without privileges.

use std::fs::File;
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use tracing::{info, warn};

use super::Failure;
use crate::config::{PortSet, ReplayArgs, RunArgs, Targets, WhenFull};
use crate::discover::Processes;
use crate::enrich::{Clock, Host};
use crate::export::Outputs;
use crate::pipeline::Pipeline;
use crate::replay::{Ending, Frame, KERNEL_LOSSES, Reader, RecordingError};
use crate::telemetry::{Counters, Summary};

/// Runs a recording to its end.
pub(super) fn run(args: &ReplayArgs, file: Option<&Path>) -> Result<(), Failure> {
    let run = RunArgs { outputs: args.outputs.clone(), ..RunArgs::default() };
    let mut config = super::configure(&run, file)?;
    config.outputs.when_full = WhenFull::Wait;
    let failed = |source| Failure::Recording { path: args.file.clone(), source };
    let file = File::open(&args.file).map_err(|source| failed(RecordingError::Io { offset: 0, source }))?;
    let mut reader = Reader::new(file).map_err(failed)?;
    let counters = Arc::new(Counters::default());
    let outputs = Outputs::start(&config.outputs, &counters)?;
    let header = reader.header();
    let clock = Clock::with_offset(header.clock_offset);
    // Processes of the recording are adopted; whatever else runs here under their ids has nothing to do with it.
    let processes = Processes::under("/nonexistent", 0, Targets::default(), Host::read());
    let mut pipeline =
        Pipeline::new(processes, PortSet::default(), clock, header.started, Arc::clone(&counters));
    pipeline.set_policy(config.policy);
    let outcome = feed(&mut reader, &mut pipeline, &counters, &outputs);
    pipeline.finish();
    outputs.spans(pipeline.take_spans());
    outputs.shutdown(Instant::now() + config.outputs.batching.timeout);
    if let Ending::Truncated { offset } = reader.ending() {
        warn!("{}: cut off behind byte {offset}; what stands before it was read", args.file.display());
    }
    info!("{}", Summary(&counters));
    outcome.map_err(failed)
}

fn feed(
    reader: &mut Reader<File>,
    pipeline: &mut Pipeline,
    counters: &Counters,
    outputs: &Outputs,
) -> Result<(), RecordingError> {
    while let Some(frame) = reader.frame()? {
        match frame {
            Frame::Record(bytes) => {
                if let Some(record) = pipeline.decode(bytes) {
                    pipeline.record(&record);
                }
            }
            Frame::Process(process) => pipeline.adopt(*process),
            Frame::Clock(clock) => pipeline.set_clock(clock),
            Frame::Losses(losses) => {
                for (why, total) in KERNEL_LOSSES.into_iter().zip(losses) {
                    counters.set_lost(why, total);
                }
            }
            Frame::Tick(watermark) => {
                pipeline.tick(watermark);
                outputs.spans(pipeline.take_spans());
            }
        }
    }
    Ok(())
}
