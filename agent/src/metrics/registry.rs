//! All series of all processes, for as many readers as there are. Part of the functional core: times come with what is
//! recorded and with who collects.

use std::sync::Arc;

use hashbrown::{HashMap, HashTable};

use super::instruments::{self, MEASURES};
use super::series::{self, Key, Measured, Point, Series, Stream, Wanted};
use super::{Metric, MetricData, ResourceMetrics, Temporality};
use crate::enrich::Resource;
use crate::span::{CallKind, CallLabels, ProcessId, Span};

/// How many kinds of calls there are.
const KINDS: usize = CallKind::ALL.len();

/// What is counted, for whom, and where it ends.
#[derive(Clone, Debug)]
pub struct RegistryConfig {
    /// How values are counted.
    pub streams: Vec<Stream>,
    /// Who collects, each from one stream.
    pub readers: Vec<Reader>,
    /// What may become an exemplar.
    pub exemplars: ExemplarFilter,
    /// The limits.
    pub limits: MetricLimits,
}

/// Who collects.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reader {
    /// Place of its stream in [`RegistryConfig::streams`].
    pub stream: usize,
    /// It asks when it likes, or no more at all, and is told of the latest exemplar of each bucket however often it asks.
    /// Others are told of an exemplar once, and of everything before it is forgotten.
    pub is_scraper: bool,
}

/// `OTEL_METRICS_EXEMPLAR_FILTER`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ExemplarFilter {
    /// Calls whose span is exported.
    #[default]
    TraceBased,
    /// All calls. Only those whose span is exported say which one it is.
    AlwaysOn,
    /// None.
    AlwaysOff,
}

/// What is kept at most.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MetricLimits {
    /// Series of one metric and one process. What comes past it is counted in a series labelled `otel.metric.overflow`.
    pub series: usize,
    /// Series of all processes. The same happens.
    pub all_series: usize,
    /// Processes. What comes past it is counted in the overflow series of one resource for all others.
    pub processes: usize,
    /// Nanoseconds after which a series is forgotten that nothing was added to. Where it comes back, it starts anew.
    pub idle: u64,
    /// The same where its process has ended, and everyone who still asks was told of it once more.
    pub ended: u64,
}

/// Nanoseconds after which a scraper that has not asked is not waited for.
const SCRAPER_GONE: u64 = 5 * 60 * 1_000_000_000;

impl Default for MetricLimits {
    fn default() -> Self {
        Self {
            series: 2_000,
            all_series: 10_000,
            processes: 1_024,
            idle: 15 * 60 * 1_000_000_000,
            // As long as a call waits for its parent.
            ended: 30 * 1_000_000_000,
        }
    }
}

/// All series.
#[derive(Debug)]
pub struct Registry {
    streams: Vec<Stream>,
    readers: Vec<ReaderState>,
    exemplars: ExemplarFilter,
    limits: MetricLimits,
    /// Where a process's series stand; those of processes past the limit share one place.
    places: HashMap<ProcessId, usize, foldhash::fast::FixedState>,
    processes: Vec<Process>,
    others: Arc<Resource>,
    others_place: Option<usize>,
    /// Series kept, those of overflow apart.
    kept: usize,
    /// Numbers of series given out.
    numbered: u64,
    /// Collections begun.
    cycle: u32,
    /// The latest collection of any reader: what is counted first from here on was zero then.
    collected: u64,
}

#[derive(Debug)]
struct ReaderState {
    reader: Reader,
    temporality: Temporality,
    /// Its last collection, and the cycle that this one began.
    previous: u64,
    since: u32,
    /// The collection under way: since when exemplars count.
    current: Option<u32>,
}

#[derive(Debug)]
struct Process {
    resource: Arc<Resource>,
    id: Option<ProcessId>,
    series: HashTable<Box<Series>>,
    overflow: [Option<Box<Series>>; KINDS],
    /// Series of each kind in `series`.
    of_kind: [usize; KINDS],
    /// When anything was last added.
    last: u64,
    /// It is known to have ended since that cycle.
    ended: Option<u32>,
}

impl Registry {
    /// An empty one. What comes past the limit of processes is counted under the resource `others`.
    #[must_use]
    pub fn new(config: &RegistryConfig, others: Arc<Resource>) -> Self {
        let readers = config.readers.iter().map(|reader| ReaderState {
            reader: *reader,
            temporality: config.streams.get(reader.stream).map_or(Temporality::Cumulative, |s| s.temporality),
            previous: 0,
            since: 0,
            current: None,
        });
        Self {
            streams: config.streams.clone(),
            readers: readers.collect(),
            exemplars: config.exemplars,
            limits: config.limits,
            places: HashMap::default(),
            processes: Vec::new(),
            others,
            others_place: None,
            kept: 0,
            numbered: 0,
            cycle: 1,
            collected: 0,
        }
    }

    /// Counts the call of a span, whether or not that is sampled. `exported`: the span leaves Sonde, so an exemplar may name it.
    pub fn record(&mut self, resource: &Arc<Resource>, span: &Span, exported: bool) {
        if let Some(labels) = span.attributes.call_labels() {
            let named = exported.then_some((span.context.trace_id, span.context.span_id));
            self.record_call(resource, span.process, &labels, (span.start, span.end), named);
        }
    }

    /// Counts a call with given labels, from its start to its end in nanoseconds since the epoch.
    pub fn record_call(
        &mut self,
        resource: &Arc<Resource>,
        id: ProcessId,
        labels: &CallLabels<'_>,
        (start, end): (u64, u64),
        named: Option<(crate::span::TraceId, crate::span::SpanId)>,
    ) {
        let exemplar = match self.exemplars {
            ExemplarFilter::AlwaysOff => None,
            ExemplarFilter::TraceBased => named.map(|named| (Some(named), self.cycle)),
            ExemplarFilter::AlwaysOn => Some((named, self.cycle)),
        };
        let duration = end.saturating_sub(start);
        let [first, second] = labels.sizes;
        let values = [Some(duration), first, second];
        let measured = Measured { values, time: end, exemplar };
        let place = self.place(resource, id);
        let Some(process) = self.processes.get_mut(place) else { return };
        (process.last, process.ended) = (process.last.max(end), None);
        let hash = series::hash(labels);
        if let Some(series) = process.series.find_mut(hash, |series| series.key.is(labels)) {
            return series.record(&measured, &self.streams);
        }
        let kind = labels.kind as usize;
        let from = start.max(self.collected);
        let (Some(of_kind), Some(overflow)) = (process.of_kind.get_mut(kind), process.overflow.get_mut(kind))
        else {
            return;
        };
        let fits = *of_kind < self.limits.series && self.kept < self.limits.all_series;
        if fits && process.id.is_some() {
            self.numbered += 1;
            let mut series = Box::new(Series::new(Key::of(labels), self.numbered, from));
            series.record(&measured, &self.streams);
            process.series.insert_unique(hash, series, |series| series::hash_kept(&series.key));
            *of_kind += 1;
            self.kept += 1;
            return;
        }
        let series = overflow.get_or_insert_with(|| {
            self.numbered += 1;
            Box::new(Series::new(Key { kind: labels.kind, told: None }, self.numbered, from))
        });
        series.record(&measured, &self.streams);
    }

    /// Processes and series that are kept, those of overflow apart.
    #[must_use]
    pub fn size(&self) -> (usize, usize) {
        (self.processes.len(), self.kept)
    }

    /// Processes that nothing was added to for [`MetricLimits::ended`], and of which it is not known whether they have ended.
    #[must_use]
    pub fn quiet(&self, now: u64) -> Vec<ProcessId> {
        let is_quiet = |process: &&Process| {
            process.ended.is_none() && now.saturating_sub(process.last) > self.limits.ended
        };
        self.processes.iter().filter(is_quiet).filter_map(|process| process.id).collect()
    }

    /// These processes have ended: they are forgotten once everyone was told of them.
    pub fn ended(&mut self, ids: &[ProcessId]) {
        for id in ids {
            if let Some(process) = self.places.get(id).and_then(|&place| self.processes.get_mut(place)) {
                process.ended = Some(self.cycle);
            }
        }
    }

    /// The next process's metrics for a reader, up to `now`; begin with a cursor of 0. `None` ends the collection, and what was
    /// idle for long is forgotten then. Between two calls others may record: no one has to wait for a whole collection.
    pub fn collect(&mut self, reader: usize, now: u64, cursor: &mut usize) -> Option<ResourceMetrics> {
        let state = self.readers.get_mut(reader)?;
        let since = *state.current.get_or_insert_with(|| {
            let since = state.since;
            self.cycle = self.cycle.wrapping_add(1);
            state.since = self.cycle;
            since
        });
        let wanted = Wanted {
            stream: state.reader.stream,
            temporality: state.temporality,
            from: state.previous,
            until: now,
            since: if state.reader.is_scraper { 0 } else { since },
        };
        while let Some(process) = self.processes.get_mut(*cursor) {
            *cursor += 1;
            let metrics = process.collect(&wanted);
            if !metrics.is_empty() {
                return Some(ResourceMetrics { resource: Arc::clone(&process.resource), metrics });
            }
        }
        state.current = None;
        state.previous = now.max(state.previous);
        self.collected = self.collected.max(now);
        self.expire(now);
        None
    }

    /// Forgets what nothing was added to for long, or whose process has ended, unless somebody has yet to be told of it.
    fn expire(&mut self, now: u64) {
        let Self { streams, readers, limits, processes, places, .. } = self;
        let all_told_since = |cycle: u32| {
            readers.iter().all(|state| {
                let is_gone = state.reader.is_scraper && now.saturating_sub(state.previous) > SCRAPER_GONE;
                // Collections follow one another: one that began later and is not over would be this one.
                is_gone || state.since > cycle
            })
        };
        for process in processes.iter_mut() {
            let is_over = process.ended.is_some_and(all_told_since);
            let idle = if is_over { 0 } else { limits.idle };
            let is_idle =
                |series: &Series| now.saturating_sub(series.last) > idle && !series.has_untold(streams);
            let of_kind = &mut process.of_kind;
            process.series.retain(|series| {
                let keep = !is_idle(series);
                if !keep && let Some(count) = of_kind.get_mut(series.key.kind as usize) {
                    *count -= 1;
                }
                keep
            });
            for overflow in &mut process.overflow {
                if overflow.as_ref().is_some_and(|series| is_idle(series)) {
                    *overflow = None;
                }
            }
        }
        let before = processes.len();
        processes
            .retain(|process| !process.series.is_empty() || process.overflow.iter().any(Option::is_some));
        self.kept = processes.iter().map(|process| process.series.len()).sum();
        if processes.len() < before {
            // Of two places of one process the later one counts.
            let placed = processes.iter().enumerate();
            *places = placed.filter_map(|(place, process)| Some((process.id?, place))).collect();
            self.others_place = processes.iter().position(|process| process.id.is_none());
        }
    }

    /// Where the series of a process stand. One that turns out to be another service starts anew: the series of another
    /// resource are other series.
    fn place(&mut self, resource: &Arc<Resource>, id: ProcessId) -> usize {
        if let Some(&place) = self.places.get(&id)
            && let Some(process) = self.processes.get_mut(place)
        {
            if Arc::ptr_eq(&process.resource, resource) {
                return place;
            }
            if process.resource == *resource {
                process.resource = Arc::clone(resource);
                return place;
            }
        }
        // A span of what it was before may come late.
        let is_same = |process: &Process| process.id == Some(id) && process.resource == *resource;
        if self.places.contains_key(&id)
            && let Some(place) = self.processes.iter().position(is_same)
        {
            self.places.insert(id, place);
            return place;
        }
        let place = self.processes.len();
        if place < self.limits.processes {
            self.processes.push(Process::new(Arc::clone(resource), Some(id)));
            self.places.insert(id, place);
            return place;
        }
        *self.others_place.get_or_insert_with(|| {
            self.processes.push(Process::new(Arc::clone(&self.others), None));
            place
        })
    }
}

impl Process {
    fn new(resource: Arc<Resource>, id: Option<ProcessId>) -> Self {
        Self {
            resource,
            id,
            series: HashTable::new(),
            overflow: [const { None }; KINDS],
            of_kind: [0; KINDS],
            last: 0,
            ended: None,
        }
    }

    fn collect(&mut self, wanted: &Wanted) -> Vec<Metric> {
        let overflow = self.overflow.iter_mut().flatten();
        let mut all: Vec<&mut Box<Series>> = self.series.iter_mut().chain(overflow).collect();
        all.sort_unstable_by_key(|series| series.number);
        let mut metrics = Vec::new();
        for kind in CallKind::ALL {
            for instrument in 0..MEASURES {
                let (mut explicit, mut exponential) = (Vec::new(), Vec::new());
                for series in all.iter_mut().filter(|series| series.key.kind == kind) {
                    match series.point(instrument, wanted) {
                        Some(Point::Histogram(point)) => explicit.push(point),
                        Some(Point::Exponential(point)) => exponential.push(point),
                        None => {}
                    }
                }
                let temporality = wanted.temporality;
                let data = if !explicit.is_empty() {
                    MetricData::Histogram { temporality, points: explicit }
                } else if !exponential.is_empty() {
                    MetricData::Exponential { temporality, points: exponential }
                } else {
                    continue;
                };
                if let Some(distribution) = instruments::of(kind).get(instrument) {
                    metrics.push(Metric { instrument: distribution.instrument, data });
                }
            }
        }
        metrics
    }
}

#[cfg(test)]
#[path = "registry_tests.rs"]
mod tests;
