//! `sonde replay`: a recording or a capture through the same pipeline, offline and without privileges.

mod input;
mod progress;

use std::io::Read;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Instant;

use tracing::{info, warn};

use self::input::{CutOff, Input, Kind};
use self::progress::Progress;
use super::Failure;
use crate::capture::{self, CaptureError, Packets, Perspective, Tally, Tap};
use crate::config::{ConfigError, OutputSpec, PortSet, ReplayArgs, RunArgs, Targets, WhenFull};
use crate::conn::Nanos;
use crate::discover::Processes;
use crate::enrich::{Clock, Host};
use crate::export::Outputs;
use crate::pipeline::Pipeline;
use crate::policy::Policy;
use crate::replay::{Ending, Frame, KERNEL_LOSSES, Reader, RecordingError};
use crate::telemetry::{Counters, Summary};

/// How often the pipeline is told what time it is in a capture: by its own stamps, or by packets where these stand still.
const TICK: Nanos = 10_000_000;
const TICK_PACKETS: u64 = 4096;

/// Runs a recording or a capture to its end.
pub(super) fn run(args: &ReplayArgs, file: Option<&Path>) -> Result<(), Failure> {
    let run = RunArgs { outputs: args.outputs.clone(), policy: args.policy, ..RunArgs::default() };
    let mut config = super::configure(&run, file)?;
    config.outputs.when_full = WhenFull::Wait;
    // Nobody scrapes what ends by itself.
    config.outputs.metrics.listen = None;
    let unreadable = |source| Failure::Replay { path: args.file.clone(), what: format!("{source}") };
    let input = Input::open(&args.file).map_err(unreadable)?;
    let source = match (input.kind, args.perspective) {
        (Kind::Recording, Some(_)) => return Err(ConfigError::Perspective.into()),
        (Kind::Recording, None) => {
            let reader = Reader::new(CutOff(input.bytes));
            Source::Recording(reader.map_err(|source| recording(args, source))?)
        }
        (Kind::Capture, perspective) => {
            let packets = Packets::new(input.bytes).map_err(|source| captured(args, source))?;
            Source::Capture(packets, perspective.unwrap_or_default())
        }
        (Kind::Unknown(start, length), _) => {
            return Err(Failure::Replay { path: args.file.clone(), what: input::unknown(start, length) });
        }
    };
    let counters = Arc::new(Counters::default());
    let outputs = Outputs::start(&config.outputs, &counters)?;
    let on_stdout = config.outputs.outputs.iter().any(|spec| matches!(spec, OutputSpec::Console));
    let progress = Progress::new(input.total, on_stdout);
    let mut replay =
        Replay { outputs: &outputs, counters: &counters, policy: config.policy, progress, read: input.read };
    let outcome = match source {
        Source::Recording(mut reader) => replay.recording(args, &mut reader),
        Source::Capture(mut packets, perspective) => replay.capture(args, &mut packets, perspective),
    };
    replay.progress.clear();
    outputs.shutdown(Instant::now() + config.outputs.batching.timeout);
    info!("{}", Summary(&counters));
    outcome
}

enum Source {
    Recording(Reader<CutOff<Box<dyn Read>>>),
    Capture(Packets<Box<dyn Read>>, Perspective),
}

fn recording(args: &ReplayArgs, source: RecordingError) -> Failure {
    Failure::Recording { path: args.file.clone(), source }
}

fn captured(args: &ReplayArgs, source: CaptureError) -> Failure {
    Failure::Capture { path: args.file.clone(), source }
}

/// What both kinds of replay need.
struct Replay<'a> {
    outputs: &'a Outputs,
    counters: &'a Arc<Counters>,
    policy: Policy,
    progress: Progress,
    /// Bytes of the file that were read.
    read: Arc<std::sync::atomic::AtomicU64>,
}

impl Replay<'_> {
    fn recording(&mut self, args: &ReplayArgs, reader: &mut Reader<impl Read>) -> Result<(), Failure> {
        let header = reader.header();
        let clock = Clock::with_offset(header.clock_offset);
        // Processes of the recording are adopted; whatever else runs here under their ids has nothing to do with it.
        let processes = Processes::under("/nonexistent", 0, Targets::default(), Host::read());
        let counters = Arc::clone(self.counters);
        let mut pipeline = Pipeline::new(processes, PortSet::default(), clock, header.started, counters);
        pipeline.set_policy(self.policy.clone());
        let outcome = self.frames(reader, &mut pipeline);
        pipeline.finish();
        self.outputs.spans(pipeline.take_spans());
        outcome.map_err(|source| recording(args, source))?;
        warn_if_cut(args, reader.ending());
        Ok(())
    }

    fn frames(
        &mut self,
        reader: &mut Reader<impl Read>,
        pipeline: &mut Pipeline,
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
                    for (why, total) in KERNEL_LOSSES.into_iter().zip(losses.totals) {
                        self.counters.set_lost(why, total);
                    }
                    pipeline.lost(losses.until);
                }
                Frame::Tick(watermark) => {
                    pipeline.tick(watermark);
                    self.pass_on(pipeline);
                }
            }
        }
        Ok(())
    }

    fn capture(
        &mut self,
        args: &ReplayArgs,
        packets: &mut Packets<impl Read>,
        perspective: Perspective,
    ) -> Result<(), Failure> {
        let mut tap = Tap::new(capture::Limits::default(), Arc::clone(self.counters));
        let mut pipeline = None;
        let outcome = self.packets(packets, &mut tap, &mut pipeline, perspective);
        if let Some(mut pipeline) = pipeline {
            tap.finish(|record| pipeline.captured(record));
            pipeline.finish();
            self.outputs.spans(pipeline.take_spans());
        }
        self.progress.clear();
        outcome.map_err(|source| captured(args, source))?;
        warn_if_cut(args, packets.ending());
        say(args, &tap.tally())
    }

    fn packets(
        &mut self,
        packets: &mut Packets<impl Read>,
        tap: &mut Tap,
        pipeline: &mut Option<Pipeline>,
        perspective: Perspective,
    ) -> Result<(), CaptureError> {
        let (mut due, mut left) = (0, TICK_PACKETS);
        while let Some(packet) = packets.packet()? {
            let pipeline = pipeline.get_or_insert_with(|| {
                // Another capture has other ids, the same one the same again.
                let seed = packet.time.unwrap_or(0);
                let mut pipeline = Pipeline::of_capture(perspective, seed, Arc::clone(self.counters));
                pipeline.set_policy(self.policy.clone());
                pipeline
            });
            tap.packet(&packet, |record| pipeline.captured(record));
            left -= 1;
            if tap.latest() >= due || left == 0 {
                (due, left) = (tap.latest().saturating_add(TICK), TICK_PACKETS);
                tap.tick(|record| pipeline.captured(record));
                pipeline.tick(tap.latest());
                self.pass_on(pipeline);
            }
        }
        Ok(())
    }

    fn pass_on(&mut self, pipeline: &mut Pipeline) {
        self.outputs.spans(pipeline.take_spans());
        let spans = self.counters.spans.load(Ordering::Relaxed);
        self.progress.advance(self.read.load(Ordering::Relaxed), spans);
    }
}

/// What stands before the cut was read, and that is no failure.
fn warn_if_cut(args: &ReplayArgs, ending: Ending) {
    if let Ending::Truncated { offset } = ending {
        warn!("{}: cut off behind byte {offset}; what stands before it was read", args.file.display());
    }
}

/// Says what of a capture was read, and fails where none of it could be.
fn say(args: &ReplayArgs, tally: &Tally) -> Result<(), Failure> {
    let Tally { packets, segments, unknown_links, unknown_link, malformed, undated } = *tally;
    info!("{packets} packets, {segments} of them TCP");
    if unknown_links > 0 && unknown_links == packets {
        let what = format!(
            "none of its {packets} packets can be read: link type {unknown_link} is not known \
             (Ethernet, loopback, Linux cooked and raw IP are)"
        );
        return Err(Failure::Replay { path: args.file.clone(), what });
    }
    if unknown_links > 0 {
        warn!("{unknown_links} packets were left out: link type {unknown_link} is not known");
    }
    if malformed > 0 {
        warn!("{malformed} packets were left out: cut off within their headers, or contradicting themselves");
    }
    if undated > 0 {
        warn!("{undated} packets do not say when they were captured: durations are too short");
    }
    Ok(())
}
