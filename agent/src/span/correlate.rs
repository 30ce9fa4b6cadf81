//! From exchanges to spans with a context and a parent: finds the other end of an exchange ([`super::join`]), decides
//! whose child a call is ([`super::parent`]), and holds every exchange until its own span and those above are decided.
//!
//! Waiting is counted in record time, and bounded:
//! - a server exchange waits for its other end [`CorrelatorConfig::join_wait`] past its beginning, that of a process which
//!   met other ends lately [`CorrelatorConfig::join_wait_met`], and not at all where its request names its parent, or where
//!   it can have no other end on this node;
//! - a call waits for the requests that may be its parent, [`CorrelatorConfig::parent_wait`] past its own beginning at most;
//! - an exchange waits for those above it, which end their own waiting as above;
//! - one that lacks the size of a body waits for its other end to tell it, [`CorrelatorConfig::join_wait`] past its own end;
//! - at [`CorrelatorConfig::max_waiting`] exchanges or [`CorrelatorConfig::max_waiting_bytes`] the oldest undecided are
//!   decided with what is known, and counted as [`Lost::WaitingFull`]; so are open exchanges given up past
//!   [`CorrelatorConfig::max_held`].

use std::collections::{HashMap, HashSet, VecDeque};
use std::net::SocketAddr;
use std::sync::Arc;

use foldhash::fast::FixedState;

use self::followed::Sessions;
use self::losses::Losses;
use super::contexts::Contexts;
use super::ids::Ids;
use super::join::Joins;
use super::node::{Above, Candidate, Link, Node, Nodes, Trace};
use super::process::Process;
use super::sdk::Shown;
use super::thread::{Mark, Reading};
use super::{Notice, OnSdk, ParentContext, Sampler, Scheduling, SpanContext, parent};
use crate::conn::{Nanos, Role, Stamp};
use crate::proto::{Event, Exchange, ExchangeId, Milestone};
use crate::telemetry::{Counters, Lost};

mod begin;
mod decide;
mod doubt;
mod followed;
mod losses;
#[cfg(test)]
mod sampled;
#[cfg(test)]
mod scene;
mod sdk;
#[cfg(test)]
mod sim;
mod sizes;
#[cfg(test)]
mod tests;
#[cfg(test)]
mod traced;

/// Processes with state at most; at the limit idle ones are forgotten, those whose scheduling was told last.
const PROCESSES: usize = 16_384;

/// A process whose requests came from this node not longer ago than this is taken for one whose next ones do, too.
const MET: Nanos = 10_000_000_000;

/// Calls that broke off before their other end read the request, kept as its parent at most; at the limit the oldest goes.
const LINGERING: usize = 4096;

/// Bounds of the correlator, and the seed of its ids.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CorrelatorConfig {
    /// Which traces are sampled.
    pub sampler: Sampler,
    /// Ids are a function of this and of the exchange: random for a live run, that of the recording for a replay.
    pub seed: u64,
    /// How long a server exchange waits for its other end's record once its own head is known.
    pub join_wait: Nanos,
    /// The same where its process has met other ends within [`MET`]: the client's record is due, and late on a busy machine.
    pub join_wait_met: Nanos,
    /// How long a call waits for other requests of its process to show how its threads work.
    pub settle_wait: Nanos,
    /// How long a call waits for the requests that may be its parent, from its beginning.
    pub parent_wait: Nanos,
    /// Ended exchanges that wait at most.
    pub max_waiting: usize,
    /// Bytes in them at most, estimated.
    pub max_waiting_bytes: usize,
    /// Exchanges tell which process has them, so that what else it does and on which thread is evidence. Else only what they
    /// carry counts.
    pub processes: bool,
    /// What becomes of the spans and metrics of processes that make their own. Where exchanges do not tell whose they are, no
    /// process is known for one.
    pub on_sdk: OnSdk,
    /// Requests that export telemetry are spans of those that serve them; of those that make them they never are.
    pub exports_served: bool,
    /// Exchanges held at most, those that have not ended among them; past it the oldest of these are given up.
    pub max_held: usize,
}

impl Default for CorrelatorConfig {
    fn default() -> Self {
        Self {
            sampler: Sampler::default(),
            seed: 0,
            join_wait: 20_000_000,
            join_wait_met: 250_000_000,
            settle_wait: 250_000_000,
            parent_wait: 30_000_000_000,
            max_waiting: 32_768,
            max_waiting_bytes: 32 << 20,
            max_held: 131_072,
            processes: true,
            on_sdk: OnSdk::default(),
            exports_served: false,
        }
    }
}

/// An exchange with everything that its span needs from others.
#[derive(Clone, Debug)]
pub struct Finished {
    /// The exchange.
    pub exchange: Box<Exchange>,
    /// Its span's identity.
    pub context: SpanContext,
    /// The span above.
    pub parent: Option<ParentContext>,
    /// What the parent rests on where it is a guess (`sonde.parent.confidence`).
    pub confidence: Option<&'static str>,
    /// Start of the span, on the kernel's clock.
    pub start: Nanos,
    /// End of the span, not before `start`.
    pub end: Nanos,
    /// The process whose span it is.
    pub tgid: u32,
    /// It is not exported as a span, whatever is sampled.
    pub left_out: bool,
    /// It counts in metrics.
    pub measured: bool,
}

/// Turns events into finished exchanges. Functional: its clock is the largest stamp it has seen or was told.
#[derive(Debug)]
pub struct Correlator {
    config: CorrelatorConfig,
    counters: Arc<Counters>,
    ids: Ids,
    now: Nanos,
    nodes: Nodes,
    joins: Joins,
    contexts: Contexts,
    processes: HashMap<u32, Process, FixedState>,
    /// Server exchanges in the order in which they stop waiting for their other end.
    join_queue: VecDeque<(Nanos, ExchangeId)>,
    /// Those of them that wait longer, likewise.
    met_queue: VecDeque<(Nanos, ExchangeId)>,
    /// Calls that wait for their process to settle.
    settle_queue: VecDeque<(Nanos, ExchangeId)>,
    /// Undecided calls.
    parent_queue: VecDeque<(Nanos, ExchangeId)>,
    /// Emitted calls that are kept for their other end.
    linger_queue: VecDeque<(Nanos, ExchangeId)>,
    /// Exchanges whose span waits for the other end to tell a size.
    size_queue: VecDeque<(Nanos, ExchangeId)>,
    undecided: usize,
    waiting: usize,
    waiting_bytes: usize,
    sessions: Sessions,
    losses: Losses,
    notices: Vec<Notice>,
    /// Where exports go, as far as that was seen.
    receivers: HashSet<SocketAddr, FixedState>,
    /// A process has shown something of its own tracing, or an export was seen: not everything is exported.
    leaves_out: bool,
    /// Decisions that the next tick may still speak against.
    tick_queue: Vec<ExchangeId>,
}

impl Correlator {
    /// An empty one.
    #[must_use]
    pub fn new(config: CorrelatorConfig, counters: Arc<Counters>) -> Self {
        Self {
            ids: Ids::new(config.seed),
            contexts: Contexts::new(config.seed),
            config,
            counters,
            now: 0,
            nodes: Nodes::default(),
            joins: Joins::default(),
            processes: HashMap::default(),
            join_queue: VecDeque::new(),
            met_queue: VecDeque::new(),
            settle_queue: VecDeque::new(),
            parent_queue: VecDeque::new(),
            linger_queue: VecDeque::new(),
            size_queue: VecDeque::new(),
            undecided: 0,
            waiting: 0,
            waiting_bytes: 0,
            sessions: Sessions::default(),
            losses: Losses::default(),
            notices: Vec::new(),
            receivers: HashSet::default(),
            leaves_out: false,
            tick_queue: Vec::new(),
        }
    }

    /// Takes one event; exchanges whose spans are decided by it go to `out`.
    pub fn event(&mut self, event: Event, out: &mut Vec<Finished>) {
        match event {
            Event::Begin(opening) => {
                self.advance(opening.first.time);
                match opening.role {
                    Role::Server => self.begin_server(&opening, out),
                    Role::Client => self.begin_client(&opening, out),
                }
            }
            Event::Milestone { id, what, stamp } => {
                self.advance(stamp.time);
                self.milestone(id, what, stamp, out);
            }
            Event::End(exchange) => {
                let last =
                    exchange.response.map_or(exchange.request.last.time, |response| response.last.time);
                self.advance(last);
                self.end(exchange, out);
            }
            Event::Followed { id, session } => self.followed(id, session, out),
        }
        self.expire(out);
    }

    /// Samples by another rule from here on: traces that have begun keep theirs.
    pub fn set_sampler(&mut self, sampler: Sampler) {
        self.config.sampler = sampler;
    }

    /// Says how a process runs its requests. Until then that is [`Scheduling::Unknown`].
    pub fn scheduling(&mut self, tgid: u32, scheduling: Scheduling) {
        self.process(tgid).schedule(scheduling);
    }

    /// A process has ended; its id may be used again.
    pub fn process_ended(&mut self, tgid: u32) {
        let Some(process) = self.processes.get_mut(&tgid) else { return };
        process.gone = true;
        process.shown = Shown::default();
        if process.is_idle() {
            self.processes.remove(&tgid);
        }
    }

    /// Says that all records up to `now` have been seen.
    pub fn tick(&mut self, now: Nanos, out: &mut Vec<Finished>) {
        self.advance(now);
        let lost = [
            Lost::RingFull,
            Lost::ProgramSkipped,
            Lost::BadRecord,
            Lost::KernelStateFull,
            Lost::ConnectionsFull,
        ];
        let total = lost.iter().map(|&why| self.counters.lost(why)).sum();
        self.losses.tick(now, total);
        for id in std::mem::take(&mut self.tick_queue) {
            self.decide(id, false, out);
        }
        self.shed(out);
        self.expire(out);
    }

    /// The kernel side was found to have lost more, when that was counted at `until`: with the next tick.
    pub fn lost(&mut self, until: Nanos) {
        self.losses.counted(until);
    }

    /// Decides everything that waits with what is known. Exchanges that have not ended stay.
    pub fn flush(&mut self, out: &mut Vec<Finished>) {
        while let Some((_, id)) = self.parent_queue.pop_front() {
            self.decide(id, true, out);
        }
        while let Some(id) = self.next_joining() {
            self.stop_joining(id, out);
        }
        while let Some((_, id)) = self.size_queue.pop_front() {
            self.stop_awaiting(id, out);
        }
        self.settle_queue.clear();
    }

    /// Exchanges that have not ended.
    #[must_use]
    pub fn open(&self) -> usize {
        self.nodes.open()
    }

    /// Sessions that have not ended.
    #[must_use]
    pub fn sessions(&self) -> usize {
        self.sessions.open()
    }

    /// Exchanges held: open, waiting, or kept for others.
    #[must_use]
    pub fn held(&self) -> usize {
        self.nodes.len()
    }

    fn advance(&mut self, time: Nanos) {
        self.now = self.now.max(time);
    }

    fn process(&mut self, tgid: u32) -> &mut Process {
        if self.processes.len() >= PROCESSES && !self.processes.contains_key(&tgid) {
            self.processes.retain(|_, process| {
                !process.is_idle() || process.scheduling != Scheduling::Unknown || !process.shown.is_nothing()
            });
            if self.processes.len() >= PROCESSES {
                self.processes.retain(|_, process| !process.is_idle());
            }
        }
        self.processes.entry(tgid).or_default()
    }

    fn milestone(&mut self, id: ExchangeId, what: Milestone, stamp: Stamp, out: &mut Vec<Finished>) {
        let Some(node) = self.nodes.find_mut(id) else { return };
        let (role, tgid, before, other) = (node.role, node.tgid, node.requested, node.other);
        match what {
            Milestone::Requested { .. } => node.requested = stamp,
            Milestone::Responding => node.responding = Some(stamp),
        }
        if let Milestone::Requested { body_size: Some(size) } = what {
            self.learn_sizes(id, Some(size), None);
            self.await_sizes(other, out);
        }
        if role == Role::Client {
            self.mark_call(id, Some(stamp), what == Milestone::Responding);
            return;
        }
        let Some(process) = self.processes.get_mut(&tgid) else { return };
        let read = matches!(what, Milestone::Requested { .. });
        if stamp != before {
            process.mark(stamp, |time| Mark { time, owner: id, served: true, read });
        }
        let Some(thread) = process.watch(before.tid, stamp.time) else { return };
        match what {
            Milestone::Responding => drop(thread.leaves(id)),
            Milestone::Requested { .. } if stamp.tid == before.tid => thread.completes(id),
            Milestone::Requested { .. } => {
                let moved = thread.leaves(id);
                if let (Some(reading), Some(thread)) = (moved, process.watch(stamp.tid, stamp.time)) {
                    thread.reads(Reading { complete: true, ..reading }).for_each(drop);
                }
            }
        }
    }

    fn end(&mut self, exchange: Box<Exchange>, out: &mut Vec<Finished>) {
        let id = exchange.opening.id;
        let now = self.now;
        let Some(node) = self.nodes.find_mut(id).filter(|node| node.end.is_none()) else { return };
        let last = exchange.response.map_or(exchange.request.last, |response| response.last);
        node.failed = exchange.failure.is_some();
        node.requested = exchange.request.last;
        node.responding = exchange.response.map(|response| response.first).or(node.responding);
        // What broke off did so when that was noticed, long after its last byte perhaps.
        let failed = exchange.failed.unwrap_or(now).max(last.time);
        let end = if node.failed { Stamp { time: failed, ..last } } else { last };
        node.end = Some(end);
        let (role, tgid, first, shared) = (node.role, node.tgid, node.first, node.shared);
        let (other, key) = (node.other, node.keys.filter(|_| node.filed).map(|keys| keys.own));
        self.waiting += 1;
        let weight = size_of::<Node>() + exchange.weight();
        self.waiting_bytes += weight;
        if let Some(key) = key {
            self.joins.ended(id, key, end.time);
        }
        if let (Some(response), Some(other)) =
            (exchange.response, other.and_then(|other| self.nodes.find_mut(other)))
        {
            other.other_end = Some(response.last.time);
        }
        let mut calls = Vec::new();
        if let Some(node) = self.nodes.find_mut(id) {
            calls = std::mem::take(&mut node.calls);
            node.exchange = Some(exchange);
            node.weight = weight;
        }
        match role {
            Role::Server => self.served(id, tgid, first, last, end.time, shared),
            Role::Client => {
                self.called(id, end.time);
                self.mark_call(id, Some(last), true);
                self.decide(id, false, out);
            }
        }
        self.end_sizes(id);
        self.await_sizes(other, out);
        self.settle(id, out);
        for call in calls {
            self.decide(call, false, out);
        }
        self.relieve(out);
    }

    /// Takes a server exchange that has ended off its process's books.
    fn served(
        &mut self,
        id: ExchangeId,
        tgid: u32,
        first: Stamp,
        last: Stamp,
        end: Nanos,
        shared: Option<Nanos>,
    ) {
        let Some(process) = self.processes.get_mut(&tgid) else { return };
        process.close(id, first.time, end);
        let Some(node) = self.nodes.find(id) else { return };
        if let Some(exchange) = &node.exchange {
            process.learn(exchange, shared);
            if exchange.response.is_some() {
                process.mark(last, |time| Mark { time, owner: id, served: true, read: false });
            }
        }
        if let Some(thread) = process.watch(node.requested.tid, last.time) {
            thread.leaves(id);
        }
        if process.gone && process.is_idle() {
            self.processes.remove(&tgid);
        }
    }

    /// Files a stamp of a call with its thread.
    fn mark_call(&mut self, id: ExchangeId, stamp: Option<Stamp>, read: bool) {
        let (Some(node), Some(stamp)) = (self.nodes.find(id), stamp) else { return };
        let (owner, served) = match node.link {
            Link::Under { node: server, .. } if !node.guessed => (server, true),
            _ => (id, false),
        };
        if let Some(process) = self.processes.get_mut(&stamp.tgid) {
            process.mark(stamp, |time| Mark { time, owner, served, read });
        }
    }
}
