//! What Sonde measures of itself, as metrics of its own resource.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use opentelemetry_semantic_conventions::{attribute as key, metric};
use procfs::process::Process;

use super::{Counters, Delivery, Evidence, LeftOut, Lost, Signal};
use crate::enrich::{Described, Host, Resource};
use crate::metrics::{Instrument, Labels, Metric, MetricData, Number, NumberPoint, Temporality, label};
use crate::span::ProcessId;

const fn instrument(name: &'static str, unit: &'static str, description: &'static str) -> Instrument {
    Instrument { name, unit, description }
}

const CHUNKS: Instrument = instrument("sonde.chunks", "{chunk}", "Records taken from the kernel's ring.");
const EXCHANGES: Instrument = instrument("sonde.exchanges", "{exchange}", "Exchanges seen to their end.");
const SPANS: Instrument = instrument("sonde.spans", "{span}", "Spans made.");
const LOST: Instrument = instrument("sonde.lost", "{item}", "What was lost, by reason.");
const LEFT_OUT: Instrument = instrument(
    "sonde.spans.left_out",
    "{span}",
    "Exchanges that are no spans, since their processes have their own or they export telemetry.",
);
const SDK_PROCESSES: Instrument =
    instrument("sonde.sdk.processes", "{process}", "Processes noticed to make telemetry of their own.");
const CONNECTIONS: Instrument = instrument("sonde.connections", "{connection}", "Connections known now.");
const PROBES: Instrument = instrument("sonde.probes", "{probe}", "Kernel programs, by state.");
const RUN: Instrument = instrument(
    "sonde.bpf.run.duration",
    "s",
    "Time that a kernel program ran, where kernel.bpf_stats_enabled is set.",
);
const EXPORT: Instrument = instrument("sonde.export", "{item}", "What became of the items sent over OTLP.");
const QUEUE_SIZE: Instrument =
    instrument("sonde.queue.size", "{item}", "Spans, or collections of metrics, that wait for an output.");
const QUEUE_LIMIT: Instrument = instrument(
    "sonde.queue.limit",
    "{item}",
    "Spans, or collections of metrics, that may wait for an output.",
);
const CPU: Instrument =
    instrument(metric::PROCESS_CPU_TIME, "s", "Total CPU seconds broken down by different CPU modes.");
const MEMORY: Instrument =
    instrument(metric::PROCESS_MEMORY_USAGE, "By", "The amount of physical memory in use.");

/// Labels and value of each point.
type Values = Vec<(Labels, Number)>;

/// Items in a queue and the most that it holds.
type Fill = Box<dyn Fn() -> (u64, u64) + Send>;

/// Reads the counters for whoever collects.
pub struct Own {
    resource: Arc<Resource>,
    counters: Arc<Counters>,
    queues: Vec<((&'static str, Signal), Fill)>,
    /// When counting began.
    start: u64,
    ticks_per_second: u64,
    page_size: u64,
    /// What deltas have told, and when.
    told: HashMap<(usize, &'static str, String), Number>,
    collected: HashMap<usize, u64>,
}

impl fmt::Debug for Own {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Own").field("resource", &self.resource).finish_non_exhaustive()
    }
}

impl Own {
    /// Counts from `now` on, in nanoseconds since the epoch.
    #[must_use]
    pub fn new(host: &Host, counters: Arc<Counters>, now: u64) -> Self {
        let started = Process::myself().and_then(|process| process.stat()).map_or(0, |stat| stat.starttime);
        let exe = std::env::current_exe().map(|path| path.display().to_string()).unwrap_or_default();
        let described = Described {
            id: ProcessId { tgid: std::process::id(), started },
            service_name: "sonde",
            service_version: Some(env!("CARGO_PKG_VERSION")),
            declared: &[],
            exe: &exe,
            executable_name: exe.rsplit('/').next().unwrap_or_default(),
            owner: "",
            runtime: None,
            runtime_version: None,
            container_id: None,
        };
        Self {
            resource: Arc::new(Resource::describe(host, &described)),
            counters,
            queues: Vec::new(),
            start: now,
            ticks_per_second: procfs::ticks_per_second(),
            page_size: procfs::page_size(),
            told: HashMap::new(),
            collected: HashMap::new(),
        }
    }

    /// Sonde's own resource.
    #[must_use]
    pub fn resource(&self) -> Arc<Resource> {
        Arc::clone(&self.resource)
    }

    /// Tells of the queue of an output for one signal from here on.
    pub fn watch(&mut self, output: &'static str, signal: Signal, fill: Fill) {
        self.queues.push(((output, signal), fill));
    }

    /// Everything, for one of the readers. `temporality` is that of counters; what goes up and down is always cumulative.
    pub fn collect(&mut self, reader: usize, temporality: Temporality, now: u64) -> Vec<Metric> {
        let read = |counter: &AtomicU64| Number::from(counter.load(Ordering::Relaxed));
        let Counters { records, exchanges, spans, connections, .. } = &*self.counters;
        let none = || Labels::from(Vec::new());
        let one = |key, value: &'static str| Labels::from(vec![label(key, value)]);
        let of_reason =
            Lost::ALL.into_iter().map(|why| (one("reason", why.reason()), self.counters.lost(why).into()));
        let left_out =
            LeftOut::ALL.map(|why| (one("reason", why.reason()), self.counters.left_out(why).into()));
        let noticed =
            Evidence::ALL.map(|shown| (one("evidence", shown.name()), self.counters.noticed(shown).into()));
        let deliveries =
            Signal::ALL.into_iter().flat_map(|signal| Delivery::ALL.map(|outcome| (signal, outcome)));
        let deliveries = deliveries.map(|(signal, outcome)| {
            let labels = Labels::from(vec![label("outcome", outcome.name()), label("signal", signal.name())]);
            (labels, self.counters.delivered(signal, outcome).into())
        });
        let programs = self.counters.programs();
        let runs = programs.iter().filter(|program| program.runs > 0).map(|program| {
            let seconds = program.run_nanos as f64 / 1e9;
            (Labels::from(vec![label("program", program.name.clone())]), Number::Double(seconds))
        });
        let (cpu, memory) = self.usage();
        let counters = vec![
            (CHUNKS, vec![(none(), read(records))]),
            (EXCHANGES, vec![(none(), read(exchanges))]),
            (SPANS, vec![(none(), read(spans))]),
            (LEFT_OUT, left_out.to_vec()),
            (SDK_PROCESSES, noticed.to_vec()),
            (LOST, of_reason.collect()),
            (EXPORT, deliveries.collect()),
            (RUN, runs.collect::<Vec<_>>()),
            (CPU, cpu),
        ];
        let probes = programs.iter().map(|program| {
            let state = if program.attached { "attached" } else { "failed" };
            (Labels::from(vec![label("hook", program.name.clone()), label("state", state)]), Number::Int(1))
        });
        let fills = self.queues.iter().map(|((output, signal), fill)| {
            let labels = vec![label("output", *output), label("signal", signal.name())];
            (Labels::from(labels), fill())
        });
        let (sizes, most): (Values, Values) = fills
            .map(|(labels, (size, limit))| ((Arc::clone(&labels), size.into()), (labels, limit.into())))
            .unzip();
        let levels = vec![
            (CONNECTIONS, vec![(none(), read(connections))]),
            (PROBES, probes.collect()),
            (QUEUE_SIZE, sizes),
            (QUEUE_LIMIT, most),
            (MEMORY, memory),
        ];
        let from = match temporality {
            Temporality::Cumulative => self.start,
            Temporality::Delta => self.collected.insert(reader, now).unwrap_or(self.start),
        };
        let mut metrics = Vec::new();
        for (instrument, values) in counters {
            let points: Vec<NumberPoint> = values
                .into_iter()
                .map(|(labels, value)| {
                    let value = match temporality {
                        Temporality::Cumulative => value,
                        Temporality::Delta => self.since_told(reader, instrument, &labels, value),
                    };
                    NumberPoint { labels, start: from, time: now, value }
                })
                .collect();
            if !points.is_empty() {
                metrics.push(Metric {
                    instrument,
                    data: MetricData::Sum { temporality, is_monotonic: true, points },
                });
            }
        }
        for (instrument, values) in levels {
            let points: Vec<NumberPoint> = values
                .into_iter()
                .map(|(labels, value)| NumberPoint { labels, start: self.start, time: now, value })
                .collect();
            let data = MetricData::Sum { temporality: Temporality::Cumulative, is_monotonic: false, points };
            if data.points() > 0 {
                metrics.push(Metric { instrument, data });
            }
        }
        metrics
    }

    fn since_told(
        &mut self,
        reader: usize,
        instrument: Instrument,
        labels: &Labels,
        value: Number,
    ) -> Number {
        let before = self.told.insert((reader, instrument.name, format!("{labels:?}")), value);
        match (value, before) {
            (Number::Int(now), Some(Number::Int(before))) => Number::Int(now.saturating_sub(before)),
            (Number::Double(now), Some(Number::Double(before))) => Number::Double(now - before),
            (value, _) => value,
        }
    }

    /// CPU seconds by mode, and resident bytes. Nothing where `/proc` is not to be read.
    fn usage(&self) -> (Values, Values) {
        let Ok(stat) = Process::myself().and_then(|process| process.stat()) else {
            return Default::default();
        };
        let seconds = |ticks: u64| Number::Double(ticks as f64 / self.ticks_per_second.max(1) as f64);
        let mode =
            |mode: &'static str, ticks| (Labels::from(vec![label(key::CPU_MODE, mode)]), seconds(ticks));
        let memory = (Labels::from(Vec::new()), Number::from(stat.rss * self.page_size));
        (vec![mode("system", stat.stime), mode("user", stat.utime)], vec![memory])
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::span::AttributeValue;
    use crate::telemetry::ProgramState;

    fn own() -> (Own, Arc<Counters>) {
        let counters = Arc::new(Counters::default());
        (Own::new(&Host::read(), Arc::clone(&counters), 5), counters)
    }

    fn value(metrics: &[Metric], name: &str, said: &[(&str, &str)]) -> Option<(u64, Number)> {
        let metric = metrics.iter().find(|metric| metric.instrument.name == name)?;
        let MetricData::Sum { points, .. } = &metric.data else { return None };
        let point = points.iter().find(|point| {
            said.iter().all(|(key, value)| {
                let is = |text: &AttributeValue| matches!(text, AttributeValue::Str(text) if text == value);
                point.labels.iter().any(|label| label.key == *key && is(&label.value))
            })
        })?;
        Some((point.start, point.value))
    }

    #[test]
    fn every_counter_is_told() {
        let (mut own, counters) = own();
        Counters::add(&counters.records, 12);
        counters.lose(Lost::RingFull, 3);
        counters.deliver(Signal::Metrics, Delivery::Refused, 4);
        counters.notice(Evidence::Context);
        counters.leave_out(LeftOut::Sdk);
        let programs = ["sock_send_length", "sys_exit"].map(|name| ProgramState {
            name: name.to_owned(),
            attached: name == "sys_exit",
            run_nanos: 500_000_000,
            runs: u64::from(name == "sys_exit"),
        });
        counters.set_programs(programs.to_vec());
        own.watch("otlp", Signal::Traces, Box::new(|| (7, 100)));
        own.watch("otlp", Signal::Metrics, Box::new(|| (2, 8)));
        let all = own.collect(0, Temporality::Cumulative, 9);
        assert_eq!(value(&all, "sonde.chunks", &[]), Some((5, Number::Int(12))));
        assert_eq!(value(&all, "sonde.lost", &[("reason", "ring_full")]), Some((5, Number::Int(3))));
        assert_eq!(value(&all, "sonde.lost", &[("reason", "queue_full")]), Some((5, Number::Int(0))));
        assert_eq!(value(&all, "sonde.spans.left_out", &[("reason", "sdk")]), Some((5, Number::Int(1))));
        assert_eq!(value(&all, "sonde.sdk.processes", &[("evidence", "context")]), Some((5, Number::Int(1))));
        let refused = [("signal", "metrics"), ("outcome", "refused")];
        assert_eq!(value(&all, "sonde.export", &refused), Some((5, Number::Int(4))));
        for (signal, size, limit) in [("traces", 7, 100), ("metrics", 2, 8)] {
            let said = [("output", "otlp"), ("signal", signal)];
            assert_eq!(value(&all, "sonde.queue.size", &said), Some((5, Number::Int(size))));
            assert_eq!(value(&all, "sonde.queue.limit", &said), Some((5, Number::Int(limit))));
        }
        let failed = [("hook", "sock_send_length"), ("state", "failed")];
        assert_eq!(value(&all, "sonde.probes", &failed), Some((5, Number::Int(1))));
        assert_eq!(
            value(&all, "sonde.bpf.run.duration", &[("program", "sys_exit")]),
            Some((5, Number::Double(0.5)))
        );
        assert_eq!(value(&all, "sonde.bpf.run.duration", &[("program", "sock_send_length")]), None);
        let Some((_, Number::Int(bytes))) = value(&all, "process.memory.usage", &[]) else {
            panic!("{all:?}")
        };
        assert!(bytes > 100_000, "{bytes}");
        assert!(value(&all, "process.cpu.time", &[("cpu.mode", "user")]).is_some());
        assert_eq!(own.resource().service_name(), "sonde");
    }

    #[test]
    fn deltas_tell_what_came_since_and_levels_stay_what_they_are() {
        let (mut own, counters) = own();
        for (records, now, expected) in [(12, 20, (5, 12)), (0, 30, (20, 0)), (4, 40, (30, 4))] {
            Counters::add(&counters.records, records);
            counters.connections.store(3, Ordering::Relaxed);
            let all = own.collect(0, Temporality::Delta, now);
            assert_eq!(value(&all, "sonde.chunks", &[]), Some((expected.0, Number::Int(expected.1))));
            assert_eq!(value(&all, "sonde.connections", &[]), Some((5, Number::Int(3))));
        }
        let all = own.collect(1, Temporality::Cumulative, 50);
        assert_eq!(value(&all, "sonde.chunks", &[]), Some((5, Number::Int(16))));
    }
}
