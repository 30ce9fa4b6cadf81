//! From exchanges to spans with a context and a parent: finds the other end of an exchange ([`super::join`]), decides
//! whose child a call is ([`super::parent`]), and holds every exchange until its own span and those above are decided.
//!
//! Waiting is counted in record time, and bounded:
//! - a server exchange waits for its other end [`CorrelatorConfig::join_wait`] past its first byte, and not at all where
//!   its request names its parent, or where it can have no other end on this node;
//! - a call waits for the requests that may be its parent, [`CorrelatorConfig::parent_wait`] past its own beginning at most;
//! - an exchange waits for those above it, which end their own waiting as above;
//! - at [`CorrelatorConfig::max_waiting`] exchanges or [`CorrelatorConfig::max_waiting_bytes`] the oldest undecided are
//!   decided with what is known, and counted as [`Lost::WaitingFull`].

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use foldhash::fast::FixedState;

use super::context;
use super::contexts::Contexts;
use super::ids::Ids;
use super::join::{self, Joins, Keys};
use super::node::{Candidate, Link, Node, Nodes, Trace};
use super::process::{Open, Opened, Process};
use super::thread::{Mark, Reading};
use super::{ParentContext, Scheduling, SpanContext, parent};
use crate::conn::{Nanos, Role, Stamp};
use crate::proto::{Event, Exchange, ExchangeId, Milestone, Opening};
use crate::telemetry::{Counters, Lost};

mod decide;
#[cfg(test)]
mod scene;
#[cfg(test)]
mod sim;
#[cfg(test)]
mod tests;

/// Processes with state at most; at the limit idle ones are forgotten.
const PROCESSES: usize = 16_384;

/// Calls that broke off before their other end read the request, kept as its parent at most; at the limit the oldest goes.
const LINGERING: usize = 4096;

/// Bounds of the correlator, and the seed of its ids.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CorrelatorConfig {
    /// Ids are a function of this and of the exchange: random for a live run, that of the recording for a replay.
    pub seed: u64,
    /// How long a server exchange waits for its other end's record, from its first byte.
    pub join_wait: Nanos,
    /// How long a call waits for other requests of its process to show how its threads work.
    pub settle_wait: Nanos,
    /// How long a call waits for the requests that may be its parent, from its beginning.
    pub parent_wait: Nanos,
    /// Ended exchanges that wait at most.
    pub max_waiting: usize,
    /// Bytes in them at most, estimated.
    pub max_waiting_bytes: usize,
}

impl Default for CorrelatorConfig {
    fn default() -> Self {
        Self {
            seed: 0,
            join_wait: 5_000_000,
            settle_wait: 250_000_000,
            parent_wait: 30_000_000_000,
            max_waiting: 32_768,
            max_waiting_bytes: 32 << 20,
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
    /// Calls that wait for their process to settle.
    settle_queue: VecDeque<(Nanos, ExchangeId)>,
    /// Undecided calls.
    parent_queue: VecDeque<(Nanos, ExchangeId)>,
    /// Emitted calls that are kept for their other end.
    linger_queue: VecDeque<(Nanos, ExchangeId)>,
    undecided: usize,
    waiting: usize,
    waiting_bytes: usize,
    /// Records lost so far, and when that last rose.
    losses: u64,
    last_loss: Option<Nanos>,
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
            settle_queue: VecDeque::new(),
            parent_queue: VecDeque::new(),
            linger_queue: VecDeque::new(),
            undecided: 0,
            waiting: 0,
            waiting_bytes: 0,
            losses: 0,
            last_loss: None,
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
                self.milestone(id, what, stamp);
            }
            Event::End(exchange) => {
                let last =
                    exchange.response.map_or(exchange.request.last.time, |response| response.last.time);
                self.advance(last);
                self.end(exchange, out);
            }
        }
        self.expire(out);
    }

    /// Says how a process runs its requests. Until then that is [`Scheduling::Unknown`].
    pub fn scheduling(&mut self, tgid: u32, scheduling: Scheduling) {
        self.process(tgid).schedule(scheduling);
    }

    /// A process has ended; its id may be used again.
    pub fn process_ended(&mut self, tgid: u32) {
        let Some(process) = self.processes.get_mut(&tgid) else { return };
        process.gone = true;
        if process.is_idle() {
            self.processes.remove(&tgid);
        }
    }

    /// Says that all records up to `now` have been seen.
    pub fn tick(&mut self, now: Nanos, out: &mut Vec<Finished>) {
        self.advance(now);
        let lost = [Lost::RingFull, Lost::BadRecord, Lost::KernelStateFull, Lost::ConnectionsFull];
        let losses = lost.iter().map(|&why| self.counters.lost(why)).sum();
        if losses != self.losses {
            self.losses = losses;
            self.last_loss = Some(self.now);
        }
        self.expire(out);
    }

    /// Decides everything that waits with what is known. Exchanges that have not ended stay.
    pub fn flush(&mut self, out: &mut Vec<Finished>) {
        while let Some((_, id)) = self.parent_queue.pop_front() {
            self.decide(id, true, out);
        }
        while let Some((_, id)) = self.join_queue.pop_front() {
            self.stop_joining(id, out);
        }
        self.settle_queue.clear();
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
            self.processes.retain(|_, process| !process.is_idle());
        }
        self.processes.entry(tgid).or_default()
    }

    fn begin_server(&mut self, opening: &Opening, out: &mut Vec<Finished>) {
        let (id, first) = (opening.id, opening.first);
        let mut node = self.node(opening);
        let context = node.carried.as_ref().map(|carried| (carried.trace_id, carried.parent_id));
        let keys = node.keys;
        let met = node
            .carried
            .as_ref()
            .is_some_and(|carried| self.contexts.received(carried, keys.map(|keys| keys.own), first.time));
        let partner = keys.and_then(|keys| self.joins.meet(id, Role::Server, first.time, &keys));
        node.filed = keys.is_some() && partner.is_none();
        let waits =
            node.filed && if node.carried.is_some() { met } else { join::may_be_local(&opening.ends) };
        if node.filed {
            self.join_queue.push_back((first.time.saturating_add(self.config.join_wait), id));
        }
        let shared = self.serve(opening, context);
        self.nodes.insert(id, node);
        for other in shared {
            if let Some(other) = self.nodes.find_mut(other) {
                other.shared.get_or_insert(first.time);
            }
        }
        if let Some(partner) = partner {
            self.join(partner, id);
        } else if !waits {
            self.stand_alone(id);
        }
        self.settle(id, out);
    }

    /// Notes in its process that a request is being served. Returns the requests that its thread had left unanswered.
    fn serve(
        &mut self,
        opening: &Opening,
        context: Option<(super::TraceId, super::SpanId)>,
    ) -> Vec<ExchangeId> {
        let (id, first, conn) = (opening.id, opening.first, opening.conn);
        let process = self.process(first.tgid);
        process.open.push(Open { id, first: first.time, context });
        process.mark(first, |time| Mark { time, owner: id, served: true, read: true });
        match process.watch(first.tid, first.time) {
            Some(thread) => thread.reads(Reading { id, conn, first: first.time, complete: false }).collect(),
            None => Vec::new(),
        }
    }

    fn begin_client(&mut self, opening: &Opening, out: &mut Vec<Finished>) {
        let (id, first) = (opening.id, opening.first);
        let mut node = self.node(opening);
        let keys = node.keys;
        if let Some(carried) = &node.carried {
            if self.contexts.take(carried, keys.map(|keys| keys.own), first.time) {
                (node.span, node.taken) = (carried.parent_id, true);
            }
            let state = carried.trace_state.clone();
            node.trace = Some(Trace { id: carried.trace_id, flags: carried.flags, state });
        }
        let partner = keys.and_then(|keys| self.joins.meet(id, Role::Client, first.time, &keys));
        node.filed = keys.is_some() && partner.is_none();
        self.nodes.insert(id, node);
        if let Some(partner) = partner {
            self.join(id, partner);
            self.settle(partner, out);
        }
        self.seek_parent(id);
        self.mark_call(id, self.nodes.find(id).map(|node| node.begin), false);
        self.mark_call(id, Some(first), false);
        self.settle(id, out);
    }

    fn node(&self, opening: &Opening) -> Node {
        let Opening { id, first, connect, .. } = *opening;
        let own_connect = connect.filter(|connect| connect.tgid == first.tgid && connect.time <= first.time);
        Node {
            role: opening.role,
            tgid: first.tgid,
            first,
            requested: first,
            responding: None,
            begin: own_connect.unwrap_or(first),
            end: None,
            failed: false,
            span: self.ids.span(id),
            carried: context::parse(&opening.trace).map(Box::new),
            taken: false,
            keys: Keys::of(opening),
            filed: false,
            other_start: None,
            other_end: None,
            other: None,
            link: Link::Open,
            guessed: false,
            trace: None,
            linked: false,
            thread: None,
            single: None,
            settled: false,
            calls: Vec::new(),
            below: Vec::new(),
            pins: 0,
            shared: None,
            exchange: None,
            emitted: false,
        }
    }

    fn milestone(&mut self, id: ExchangeId, what: Milestone, stamp: Stamp) {
        let Some(node) = self.nodes.find_mut(id) else { return };
        let (role, tgid, before) = (node.role, node.tgid, node.requested);
        match what {
            Milestone::Requested => node.requested = stamp,
            Milestone::Responding => node.responding = Some(stamp),
        }
        if role == Role::Client {
            self.mark_call(id, Some(stamp), what == Milestone::Responding);
            return;
        }
        let Some(process) = self.processes.get_mut(&tgid) else { return };
        let read = what == Milestone::Requested;
        if stamp != before {
            process.mark(stamp, |time| Mark { time, owner: id, served: true, read });
        }
        let Some(thread) = process.watch(before.tid, stamp.time) else { return };
        match what {
            Milestone::Responding => drop(thread.leaves(id)),
            Milestone::Requested if stamp.tid == before.tid => thread.completes(id),
            Milestone::Requested => {
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
        let end = if node.failed { Stamp { time: now, ..last } } else { last };
        node.end = Some(end);
        let (role, tgid, first, shared) = (node.role, node.tgid, node.first, node.shared);
        let (other, key) = (node.other, node.keys.filter(|_| node.filed).map(|keys| keys.own));
        self.waiting += 1;
        self.waiting_bytes += weight(&exchange);
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
        }
        match role {
            Role::Server => self.served(id, tgid, first, last, end.time, shared),
            Role::Client => {
                self.mark_call(id, Some(last), true);
                self.decide(id, false, out);
            }
        }
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

    /// Gathers what can be known of a call's parent when it begins.
    fn seek_parent(&mut self, id: ExchangeId) {
        let Some(node) = self.nodes.find(id) else { return };
        let (tgid, begin, first) = (node.tgid, node.begin, node.first);
        let context = node.carried.as_ref().map(|carried| (carried.trace_id, carried.parent_id));
        let partner = node.other;
        let Some(process) = self.processes.get(&tgid) else { return self.link(id, Link::Root, false) };
        let single = match (process.open_at(begin.time), process.open_at(first.time)) {
            (Opened::Nothing, Opened::Nothing) => return self.link(id, Link::Root, false),
            (Opened::One(at_begin), Opened::One(at_first)) if at_begin == at_first => Some(at_begin),
            _ => None,
        };
        if let Some(server) = context.and_then(|context| process.in_trace(context, first.time)) {
            return self.link_to_server(id, server, false);
        }
        let thread = match process.scheduling {
            Scheduling::RunToCompletion => self.candidate(process, id, begin),
            // A connection may be opened for one request and used for another: both must speak for the same.
            _ => self.candidate(process, id, first).filter(|candidate| {
                begin == first
                    || begin.tid == first.tid
                        && self.candidate(process, id, begin).map(|of| of.server) == Some(candidate.server)
            }),
        };
        // The other end of this very call is no candidate (a process that calls itself).
        let thread = thread.filter(|candidate| Some(candidate.server) != partner);
        let single = single.filter(|&server| Some(server) != partner);
        if thread.is_none() && single.is_none() {
            return self.link(id, Link::Root, false);
        }
        if let Some(process) = self.processes.get_mut(&tgid) {
            process.undecided += 1;
        }
        self.undecided += 1;
        self.parent_queue.push_back((self.now.saturating_add(self.config.parent_wait), id));
        for server in [thread.map(|candidate| candidate.server), single].into_iter().flatten() {
            if let Some(server) = self.nodes.find_mut(server) {
                server.pins += 1;
                server.calls.push(id);
            }
        }
        if let Some(node) = self.nodes.find_mut(id) {
            (node.thread, node.single) = (thread, single);
        }
    }

    /// The request that a thread worked for at a time.
    fn candidate(&self, process: &Process, call: ExchangeId, at: Stamp) -> Option<Candidate> {
        let thread = process.thread(at.tid)?;
        let mark = thread.before(at.time, call)?;
        let server = if mark.served {
            Some(mark.owner)
        } else {
            let before = self.nodes.find(mark.owner)?;
            match before.link {
                Link::Under { node, .. } if !before.guessed => Some(node),
                Link::Open => before.thread.map(|candidate| candidate.server),
                _ => None,
            }
        }?;
        let holds = match process.scheduling {
            Scheduling::RunToCompletion => mark.read && at.time - mark.time <= parent::PROMPT,
            _ => !thread.is_torn(server, at.time),
        };
        let held =
            self.nodes.find(server).is_some_and(|server| server.end.is_none_or(|end| end.time > at.time));
        (holds && held).then_some(Candidate { server, at, mark: (mark.time, mark.owner) })
    }
}

/// Bytes that an exchange holds, estimated.
fn weight(exchange: &Exchange) -> usize {
    let crate::proto::Call::Http1(call) = &exchange.call;
    let texts = [&call.host, &call.user_agent, &call.forwarded_for, &call.forwarded_proto];
    let texts = texts.iter().filter_map(|text| text.as_ref()).map(|text| text.len()).sum::<usize>();
    let trace = &exchange.opening.trace;
    let headers = [&trace.traceparent, &trace.tracestate, &trace.baggage];
    let headers = headers.iter().flat_map(|values| values.iter()).map(|value| value.len()).sum::<usize>();
    size_of::<Exchange>() + size_of::<Node>() + call.method.len() + call.target.len() + texts + headers
}
