//! The way of a byte, from a record to a span with its resource. One thread runs it, live or in a replay; what it does
//! depends on the records, the processes it was told and the ticks alone.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::sync::Arc;

use sonde_abi::{LifeEvent, Record, record};

use crate::capture::{Perspective, Views};
use crate::config::{PortSet, Targets};
use crate::conn::{Connections, Limits, Nanos, Role};
use crate::discover::{Decision, Process, Processes};
use crate::enrich::{Clock, Host};
use crate::export::{self, Item};
use crate::policy::Policy;
use crate::proto::{Call, Event};
use crate::span::{self, Correlator, CorrelatorConfig, Finished, ProcessId, Route, Routes, Wording};
use crate::telemetry::{Counters, Lost};

/// When a process is looked at again, after it was first seen: its event loop or its threads may have been started later.
const RECHECKS: [Nanos; 3] = [1_000_000_000, 5_000_000_000, 30_000_000_000];

/// Processes that wait to be looked at again at most; one more is not looked at again.
const RECHECKS_WAITING: usize = 16_384;

/// Room for events that is kept from one record to the next.
const KEPT_EVENTS: usize = 256;

/// Room for spans that is made in advance, at most.
const KEPT_SPANS: usize = 1024;

/// Everything between the ring and the outputs.
#[derive(Debug)]
pub struct Pipeline {
    processes: Processes,
    ports: PortSet,
    connections: Connections,
    correlator: Correlator,
    routes: Routes,
    wording: Arc<Wording>,
    clock: Clock,
    /// The records are of a capture: they know ends of connections instead of processes.
    views: Option<Views>,
    /// Processes that have a successor whose first record has not come yet.
    leaving: Vec<Arc<Process>>,
    counters: Arc<Counters>,
    rechecks: Rechecks,
    /// Processes about which something else was found out since the last [`Pipeline::recheck`].
    changed: Vec<Arc<Process>>,
    events: Vec<Event>,
    finished: Vec<Finished>,
    spans: Vec<Item>,
}

impl Pipeline {
    /// An empty one. `ports` are those that the kernel side selects connections by.
    #[must_use]
    pub fn new(
        processes: Processes,
        ports: PortSet,
        clock: Clock,
        seed: u64,
        counters: Arc<Counters>,
    ) -> Self {
        let config = CorrelatorConfig { seed, ..CorrelatorConfig::default() };
        let limits = Limits::default();
        Self::with(processes, ports, clock, (limits, config, None), counters)
    }

    /// An empty one for the records of a capture, which are in order and stamped by the calendar.
    #[must_use]
    pub fn of_capture(perspective: Perspective, seed: u64, counters: Arc<Counters>) -> Self {
        let nobody = Processes::under("/nonexistent", 0, Targets::default(), Host::default());
        // The spans of another perspective are others.
        let seed = seed ^ (perspective as u64) << 62;
        let config = CorrelatorConfig { seed, processes: false, ..CorrelatorConfig::default() };
        let of_ends = (Limits::in_order(), config, Some(Views::new(perspective)));
        Self::with(nobody, PortSet::default(), Clock::with_offset(0), of_ends, counters)
    }

    fn with(
        processes: Processes,
        ports: PortSet,
        clock: Clock,
        (limits, config, views): (Limits, CorrelatorConfig, Option<Views>),
        counters: Arc<Counters>,
    ) -> Self {
        Self {
            processes,
            ports,
            connections: Connections::new(limits, Arc::clone(&counters)),
            correlator: Correlator::new(config, Arc::clone(&counters)),
            routes: Routes::default(),
            wording: Arc::default(),
            clock,
            views,
            leaving: Vec::new(),
            counters,
            rechecks: Rechecks::default(),
            changed: Vec::new(),
            events: Vec::new(),
            finished: Vec::new(),
            spans: Vec::new(),
        }
    }

    /// Follows a policy from here on: what has begun keeps what was decided of it, what was learned stays.
    pub fn set_policy(&mut self, policy: Policy) {
        let Policy { sampler, capture, routes, wording } = policy;
        self.connections.set_capture(capture);
        self.correlator.set_sampler(sampler);
        self.routes.set_rules(routes);
        self.wording = Arc::new(wording);
    }

    /// Observes other processes and connections from here on. Returns the processes for which that changes something, and the
    /// ids of those that nothing is known of.
    pub fn set_targets(&mut self, targets: Targets) -> (Vec<Arc<Process>>, Vec<u32>) {
        self.ports = targets.ports.clone();
        (self.processes.set_targets(targets), self.processes.strangers())
    }

    /// Reads a record of the ring; `None` where it is none, which is counted.
    pub fn decode<'a>(&self, bytes: &'a [u8]) -> Option<Record<'a>> {
        Counters::add(&self.counters.records, 1);
        let record = Record::decode(bytes);
        if record.is_err() {
            self.counters.lose(Lost::BadRecord, 1);
        }
        record.ok()
    }

    /// Finds out what the process of a record is, where it is not known or may have become another one. Returns it then.
    /// Live runs only: a replay is told.
    pub fn meet(&mut self, record: &Record<'_>) -> Option<Arc<Process>> {
        let header = match record {
            Record::Chunk(header, _) => header,
            Record::Life(header, _) => {
                if header.event() == Some(LifeEvent::Forked) {
                    self.processes.forked(header.tgid, header.first_peer, header.time_ns);
                }
                return None;
            }
        };
        let announced = header.flags & record::flags::NEW_PROCESS != 0;
        let before = self.processes.known(header.tgid).cloned();
        if before.is_some() && !announced {
            return None;
        }
        let process = if header.flags & record::flags::FORKED == 0 {
            self.processes.identify(header.tgid)
        } else {
            self.processes.identify_forked(header.tgid)
        };
        if !before.as_ref().is_some_and(|before| Arc::ptr_eq(before, &process)) {
            self.succeed(before, &process);
            self.correlator.scheduling(header.tgid, process.scheduling);
            self.rechecks.add(header.time_ns, header.tgid);
        }
        Some(process)
    }

    /// Whether a record is of a process that is observed, or of a connection that its port selects.
    #[must_use]
    pub fn wants(&self, record: &Record<'_>) -> bool {
        let Record::Chunk(header, _) = record else { return true };
        let process = self.processes.known(header.tgid);
        process.is_none_or(|process| process.decision == Decision::Observed)
            || self.ports.contains(header.local_port)
            || self.ports.contains(header.peer_port)
    }

    /// Takes a process as a recording describes it.
    pub fn adopt(&mut self, process: Process) {
        let before = self.processes.known(process.id.tgid).cloned();
        self.succeed(before, &process);
        self.correlator.scheduling(process.id.tgid, process.scheduling);
        self.processes.adopt(Arc::new(process));
    }

    /// What was learnt of a process says nothing of the one that has its id now, or of the program that replaced it.
    fn succeed(&mut self, before: Option<Arc<Process>>, now: &Process) {
        let Some(before) = before else { return };
        if before.id != now.id || before.exe != now.exe {
            self.correlator.process_ended(now.id.tgid);
        }
        if before.resource != now.resource {
            self.leaving.push(before);
        }
    }

    /// Sets the clock that spans are dated with.
    pub fn set_clock(&mut self, clock: Clock) {
        self.clock = clock;
    }

    /// Takes a record.
    pub fn record(&mut self, record: &Record<'_>) {
        if let Record::Chunk(header, _) = record {
            for before in self.leaving.drain(..) {
                self.processes.succeeded(before, header.time_ns);
            }
        }
        self.connections.record(record, &mut self.events);
        self.correlate();
    }

    /// Takes a record that was made of packets.
    pub fn captured(&mut self, record: &Record<'_>) {
        Counters::add(&self.counters.records, 1);
        self.record(record);
    }

    /// The kernel side was found to have lost more, when that was counted at `until`. Before the tick that is to know of it.
    pub fn lost(&mut self, until: Nanos) {
        self.correlator.lost(until);
    }

    /// Every record stamped before `now` has been taken. Decides what has waited long enough.
    pub fn tick(&mut self, now: Nanos) {
        self.connections.tick(now, &mut self.events);
        self.correlate();
        self.correlator.tick(now, &mut self.finished);
        self.build();
    }

    /// Looks again at processes whose time has come; those that turn out otherwise are returned.
    pub fn recheck(&mut self, now: Nanos) -> Vec<Arc<Process>> {
        let mut changed = std::mem::take(&mut self.changed);
        while let Some(tgid) = self.rechecks.due(now) {
            if let Some(process) = self.processes.recheck(tgid) {
                self.correlator.scheduling(tgid, process.scheduling);
                changed.push(process);
            }
        }
        changed
    }

    /// No more records come: decides everything with what is known.
    pub fn finish(&mut self) {
        self.connections.finish(&mut self.events);
        self.correlate();
        self.correlator.flush(&mut self.finished);
        self.build();
    }

    /// The spans made since the last call.
    pub fn take_spans(&mut self) -> Vec<Item> {
        // The next ones will be about as many: room for them that grows step by step is most of what is asked of the allocator.
        let next = Vec::with_capacity(self.spans.len().min(KEPT_SPANS));
        std::mem::replace(&mut self.spans, next)
    }

    fn correlate(&mut self) {
        let Self { events, correlator, finished, views, .. } = self;
        for event in events.drain(..) {
            match views {
                Some(views) => views.each(event, |event| correlator.event(event, finished)),
                None => correlator.event(event, finished),
            }
        }
        // After a loss many connections speak at once; that memory is not kept.
        self.events.shrink_to(KEPT_EVENTS);
        self.build();
    }

    fn build(&mut self) {
        for finished in self.finished.drain(..) {
            let (resource, process) = if let Some(views) = &mut self.views {
                let unseen = ProcessId { tgid: 0, started: 0 };
                (views.resource(&finished.exchange.opening.ends), unseen)
            } else if is_own_export(&finished) {
                self.changed.extend(self.processes.exclude_backend(finished.tgid));
                continue;
            } else {
                let process = match self.processes.at(finished.tgid, last_moved(&finished)) {
                    Some(process) => Arc::clone(process),
                    // Only the other thread groups of a shared connection come here: none of their chunks was a first one.
                    None => self.processes.identify(finished.tgid),
                };
                (Arc::clone(&process.resource), process.id)
            };
            let route = match span::route(&finished.exchange, resource.service_name(), &mut self.routes) {
                Route::Known(route) => Some(route),
                Route::Unknown => None,
                Route::Overflow => {
                    self.counters.lose(Lost::RoutesFull, 1);
                    None
                }
            };
            let sampled = finished.context.is_sampled();
            Counters::add(if sampled { &self.counters.spans } else { &self.counters.unsampled }, 1);
            self.spans.push((resource, span::build(finished, self.clock, process, route, &self.wording)));
        }
    }
}

/// When the last byte of an exchange was seen: whoever had the process's id then moved it.
fn last_moved(finished: &Finished) -> Nanos {
    let request = finished.exchange.request.last.time;
    finished.exchange.response.map_or(request, |response| response.last.time.max(request))
}

/// Whom to look at again and when, the earliest first.
#[derive(Debug, Default)]
struct Rechecks(BinaryHeap<Reverse<(Nanos, u32)>>);

impl Rechecks {
    /// A process was first seen at this time.
    fn add(&mut self, seen: Nanos, tgid: u32) {
        for delay in RECHECKS {
            if self.0.len() < RECHECKS_WAITING {
                self.0.push(Reverse((seen.saturating_add(delay), tgid)));
            }
        }
    }

    /// The next one whose time has come.
    fn due(&mut self, now: Nanos) -> Option<u32> {
        self.0.peek().filter(|Reverse((due, _))| *due <= now)?;
        self.0.pop().map(|Reverse((_, tgid))| tgid)
    }
}

/// A backend on this node serves Sonde's exports: spans of that would be exported in turn, without end.
fn is_own_export(finished: &Finished) -> bool {
    let Call::Http(call) = &finished.exchange.call;
    // Over gRPC the library's own name follows.
    let is_ours = |agent: &str| agent.starts_with(export::USER_AGENT);
    finished.exchange.opening.role == Role::Server && call.user_agent.as_deref().is_some_and(is_ours)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Nanos = 1_000_000_000;

    #[test]
    fn each_look_has_its_time() {
        let mut rechecks = Rechecks::default();
        rechecks.add(0, 1);
        rechecks.add(2 * SECOND, 2);
        let mut looks = Vec::new();
        for second in 0..40 {
            while let Some(tgid) = rechecks.due(second * SECOND) {
                looks.push((second, tgid));
            }
        }
        assert_eq!(looks, [(1, 1), (3, 2), (5, 1), (7, 2), (30, 1), (32, 2)]);
    }

    #[test]
    fn looks_are_bounded() {
        let mut rechecks = Rechecks::default();
        (0..20_000).for_each(|tgid| rechecks.add(0, tgid));
        assert_eq!(rechecks.0.len(), RECHECKS_WAITING);
    }
}
