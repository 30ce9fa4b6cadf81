//! The two ways through the core: as the agent goes it, and stage after stage, to see what each of them costs.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use sonde::config::PortSet;
use sonde::config::Targets;
use sonde::conn::{Connections, Limits};
use sonde::discover::Processes;
use sonde::enrich::Host;
use sonde::export::Outputs;
use sonde::pipeline::Pipeline;
use sonde::span::{self, Correlator, CorrelatorConfig, ProcessId};
use sonde::telemetry::Counters;
use sonde_abi::Record;

use crate::allocations::Allocations;
use crate::cpu;
use crate::script::{Script, Step};

/// The agent's own way.
pub(crate) struct Whole {
    pipeline: Pipeline,
    counters: Arc<Counters>,
}

impl Whole {
    pub(crate) fn new(script: &Script, counters: Arc<Counters>) -> Self {
        let processes = Processes::under("/nonexistent", 0, Targets::default(), Host::read());
        let seed = script.header.started;
        let mut pipeline =
            Pipeline::new(processes, PortSet::default(), script.clock(), seed, Arc::clone(&counters));
        for process in &script.processes {
            pipeline.adopt(process.clone());
        }
        Self { pipeline, counters }
    }

    /// Runs one repetition; returns how many spans it made. They go to `outputs`, where there are any.
    pub(crate) fn round(&mut self, script: &Script, outputs: Option<&Outputs>) -> u64 {
        self.steps(&script.steps, script, outputs)
    }

    /// Runs the first half of a repetition.
    pub(crate) fn half(&mut self, script: &Script) {
        self.steps(script.steps.get(..script.steps.len() / 2).unwrap_or_default(), script, None);
    }

    fn steps(&mut self, steps: &[Step], script: &Script, outputs: Option<&Outputs>) -> u64 {
        let before = self.counters.spans.load(Ordering::Relaxed);
        for step in steps {
            match step {
                Step::Record(range) => {
                    let bytes = script.bytes.get(range.clone()).unwrap_or_default();
                    if let Some(record) = self.pipeline.decode(bytes) {
                        self.pipeline.record(&record);
                    }
                }
                Step::Tick(watermark) => {
                    self.pipeline.tick(*watermark);
                    let spans = self.pipeline.take_spans();
                    match outputs {
                        Some(outputs) => outputs.spans(spans),
                        None => drop(spans),
                    }
                }
            }
        }
        self.counters.spans.load(Ordering::Relaxed) - before
    }
}

/// What one stage took.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Cost {
    pub(crate) time: Duration,
    pub(crate) allocations: Allocations,
}

/// The stages, in order: their names, and what they took in one repetition.
pub(crate) const STAGES: [&str; 5] =
    ["decode", "conn + proto", "span: correlate", "span: build", "letting spans go"];

/// Stage after stage over all records between two ticks.
pub(crate) struct Staged {
    connections: Connections,
    correlator: Correlator,
    clock: span::Clock,
    processes: Vec<ProcessId>,
    costs: [Cost; 5],
    /// Count allocations; times mean nothing then.
    counts: bool,
}

impl Staged {
    pub(crate) fn new(script: &Script) -> Self {
        let counters = Arc::new(Counters::default());
        let config = CorrelatorConfig { seed: script.header.started, ..CorrelatorConfig::default() };
        let mut correlator = Correlator::new(config, Arc::clone(&counters));
        for process in &script.processes {
            correlator.scheduling(process.id.tgid, process.scheduling);
        }
        Self {
            connections: Connections::new(Limits::default(), counters),
            correlator,
            clock: script.clock(),
            processes: script.processes.iter().map(|process| process.id).collect(),
            costs: [Cost::default(); 5],
            counts: false,
        }
    }

    /// Runs one repetition; returns how many spans it made, and what each stage took.
    pub(crate) fn round(&mut self, script: &Script, counts: bool) -> (u64, [Cost; 5]) {
        self.costs = [Cost::default(); 5];
        self.counts = counts;
        let (mut records, mut events, mut finished) = (Vec::new(), Vec::new(), Vec::new());
        let mut spans = Vec::new();
        let mut made = 0;
        for between in script.steps.chunk_by(|step, _| matches!(step, Step::Record(_))) {
            self.stage(0, |_| {
                records.extend(between.iter().filter_map(|step| {
                    let Step::Record(range) = step else { return None };
                    Record::decode(script.bytes.get(range.clone())?).ok()
                }));
            });
            let watermark = match between.last() {
                Some(Step::Tick(watermark)) => *watermark,
                _ => 0,
            };
            self.stage(1, |stages| {
                for record in records.drain(..) {
                    stages.connections.record(&record, &mut events);
                }
                stages.connections.tick(watermark, &mut events);
            });
            self.stage(2, |stages| {
                for event in events.drain(..) {
                    stages.correlator.event(event, &mut finished);
                }
                stages.correlator.tick(watermark, &mut finished);
            });
            let wording = Arc::default();
            self.stage(3, |stages| {
                for finished in finished.drain(..) {
                    let process = stages.processes.iter().find(|process| process.tgid == finished.tgid);
                    let process = process.copied().unwrap_or(ProcessId { tgid: finished.tgid, started: 0 });
                    spans.push(span::build(finished, stages.clock, process, None, &wording));
                }
            });
            made += spans.len() as u64;
            self.stage(4, |_| spans.clear());
        }
        (made, self.costs)
    }

    fn stage(&mut self, stage: usize, run: impl FnOnce(&mut Self)) {
        let begun = cpu();
        let allocations = if self.counts {
            Allocations::of(|| run(self))
        } else {
            run(self);
            Allocations::default()
        };
        if let Some(cost) = self.costs.get_mut(stage) {
            cost.time += cpu() - begun;
            cost.allocations += allocations;
        }
    }
}
