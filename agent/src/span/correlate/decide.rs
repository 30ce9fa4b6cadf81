//! Deciding and letting go: the second half of the correlator.

use std::borrow::Cow;

use super::doubt::PutOff;
use super::{Above, Candidate, Correlator, Finished, LINGERING, Link, MET, Node, Trace, parent, sizes};
use crate::conn::{Nanos, Role};
use crate::proto::{ExchangeId, Quality};
use crate::span::context::TraceContext;
use crate::span::join::TOLERANCE;
use crate::span::parent::{Evidence, LOSS_SHADOW, Served, Verdict};
use crate::span::process::Process;
use crate::span::sample::SAMPLED;
use crate::span::{Scheduling, SpanContext};
use crate::telemetry::Lost;

/// Flags of traces that begin here: sampled, and the id is random (W3C Trace Context level 2, section 3.2.2.5.2).
const OWN_FLAGS: u8 = 0x03;

/// Links that are followed upwards before a link is made, so that none leads back to itself.
const DEPTH: usize = 64;

impl Correlator {
    /// Decides what has waited long enough.
    pub(super) fn expire(&mut self, out: &mut Vec<Finished>) {
        while let Some(&(deadline, id)) = self.join_queue.front() {
            if deadline > self.now {
                break;
            }
            self.join_queue.pop_front();
            if self.is_due(id) {
                let longer = self.config.join_wait_met.saturating_sub(self.config.join_wait);
                self.met_queue.push_back((deadline.saturating_add(longer), id));
            } else {
                self.stop_joining(id, out);
            }
        }
        while let Some(&(deadline, id)) = self.met_queue.front() {
            if deadline > self.now && self.is_due(id) {
                break;
            }
            self.met_queue.pop_front();
            self.stop_joining(id, out);
        }
        while let Some(&(deadline, id)) = self.size_queue.front() {
            let awaited = self.nodes.find(id).is_some_and(|node| node.awaits_sizes);
            if awaited && deadline > self.now {
                break;
            }
            self.size_queue.pop_front();
            self.stop_awaiting(id, out);
        }
        while let Some(&(deadline, id)) = self.settle_queue.front() {
            if deadline > self.now {
                break;
            }
            self.settle_queue.pop_front();
            if let Some(node) = self.nodes.find_mut(id) {
                node.settled = true;
            }
            self.decide(id, false, out);
        }
        while let Some(&(deadline, id)) = self.parent_queue.front() {
            let open = self.nodes.find(id).is_some_and(|node| node.link == Link::Open);
            if open && deadline > self.now {
                break;
            }
            self.parent_queue.pop_front();
            self.decide(id, true, out);
        }
        while let Some(&(deadline, id)) = self.linger_queue.front() {
            if deadline > self.now && self.linger_queue.len() <= LINGERING {
                break;
            }
            self.linger_queue.pop_front();
            self.unfile(id);
        }
        // Behind a call that waits long lie others that have been decided.
        if self.parent_queue.len() > 2 * self.undecided + 1024 {
            let nodes = &self.nodes;
            self.parent_queue.retain(|&(_, id)| nodes.find(id).is_some_and(|node| node.link == Link::Open));
        }
    }

    /// Keeps the waiting within their bounds.
    pub(super) fn relieve(&mut self, out: &mut Vec<Finished>) {
        while self.waiting > self.config.max_waiting || self.waiting_bytes > self.config.max_waiting_bytes {
            if let Some((_, id)) = self.size_queue.pop_front() {
                self.stop_awaiting(id, out);
            } else if let Some((_, id)) = self.parent_queue.pop_front() {
                if self.nodes.find(id).is_some_and(|node| node.link == Link::Open) {
                    self.counters.lose(Lost::WaitingFull, 1);
                    self.decide(id, true, out);
                }
            } else if let Some(id) = self.next_joining() {
                if self.nodes.find(id).is_some_and(|node| node.link == Link::Open) {
                    self.counters.lose(Lost::WaitingFull, 1);
                }
                self.stop_joining(id, out);
            } else {
                return;
            }
        }
    }

    /// Gives up the oldest exchanges whose end never came, where too many are held.
    pub(super) fn shed(&mut self, out: &mut Vec<Finished>) {
        if self.nodes.len() <= self.config.max_held {
            return;
        }
        for id in self.nodes.oldest_open(self.config.max_held / 4) {
            self.counters.lose(Lost::WaitingFull, 1);
            self.decide(id, true, out);
            self.stop_joining(id, out);
            let Some(node) = self.nodes.remove(id) else { continue };
            if let Some(process) = self.processes.get_mut(&node.tgid) {
                process.abandon(id);
            }
            for call in node.calls {
                self.decide(call, true, out);
            }
        }
    }

    /// Takes the server exchange that waits longest for its other end.
    pub(super) fn next_joining(&mut self) -> Option<ExchangeId> {
        self.met_queue.pop_front().or_else(|| self.join_queue.pop_front()).map(|(_, id)| id)
    }

    /// Whether a server exchange still lacks its other end, which is likely on this node.
    fn is_due(&self, id: ExchangeId) -> bool {
        let node = self.nodes.find(id).filter(|node| node.filed && node.link == Link::Open);
        node.and_then(|node| self.processes.get(&node.tgid))
            .and_then(|process| process.met)
            .is_some_and(|met| self.now <= met.saturating_add(MET))
    }

    /// A server exchange waits for its other end no longer.
    pub(super) fn stop_joining(&mut self, id: ExchangeId, out: &mut Vec<Finished>) {
        self.stand_alone(id);
        self.unfile(id);
        self.await_sizes(Some(id), out);
        self.settle(id, out);
    }

    /// Takes an exchange out of the joins.
    fn unfile(&mut self, id: ExchangeId) {
        let Some(node) = self.nodes.find_mut(id) else { return };
        if std::mem::take(&mut node.filed)
            && let Some(keys) = node.keys
        {
            self.joins.forget(id, keys.own);
        }
        self.nodes.release(id);
    }

    /// The other end of a server exchange is not on this node, or was not seen.
    pub(super) fn stand_alone(&mut self, id: ExchangeId) {
        let Some(node) = self.nodes.find_mut(id).filter(|node| node.link == Link::Open) else { return };
        node.link = if node.carried.is_some() { Link::Remote } else { Link::Root };
    }

    /// The two ends of one exchange have met.
    pub(super) fn join(&mut self, client: ExchangeId, server: ExchangeId) {
        let Some(there) = self.nodes.find_mut(server) else { return };
        there.filed = false;
        there.other = Some(client);
        let carries = there.carried.is_some();
        let (arrival, read, end) = (there.first.arrival.min(there.first.time), there.first.time, there.end);
        let Some(here) = self.nodes.find_mut(client) else { return self.stand_alone(server) };
        here.filed = false;
        here.other = Some(server);
        // An arrival long before the bytes were written is the arrival of something else; that they were read is certain.
        here.other_start = Some(arrival.max(here.first.time.saturating_sub(TOLERANCE)).min(read));
        here.other_end = end.map(|end| end.time);
        let (taken, start, end) = (here.taken, here.start(), here.end);
        let known = here.carried.is_some();
        let span = here.span;
        if let Some(there) = self.nodes.find_mut(server) {
            there.other_start = Some(start);
            there.other_end = end.map(|end| end.time);
        }
        // A context that the caller wrote for this very request names the caller's span already.
        if carries && (taken || !known) {
            self.stand_alone(server);
        } else if self.nodes.find(server).is_some_and(|there| there.link == Link::Open) {
            self.link(server, Link::Under { node: client, span, same_process: false }, false);
        }
        self.share_sizes(client, server);
        if let Some(process) = self.nodes.find(server).and_then(|there| self.processes.get_mut(&there.tgid)) {
            process.met = Some(self.now);
        }
        self.nodes.release(server);
    }

    pub(super) fn link_to_server(&mut self, call: ExchangeId, server: ExchangeId, guessed: bool) {
        let link = match self.nodes.find(server) {
            Some(there) => Link::Under { node: server, span: there.span, same_process: true },
            None => Link::Root,
        };
        self.link(call, link, guessed);
    }

    /// Decides what a span hangs on.
    pub(super) fn link(&mut self, id: ExchangeId, link: Link, guessed: bool) {
        let link = if self.leads_back(id, link) { Link::Root } else { link };
        let Some(node) = self.nodes.find_mut(id) else { return };
        // Nobody's request is what telemetry is exported for.
        let link = if guessed && node.export.is_some() { Link::Root } else { link };
        node.link = link;
        node.guessed = guessed && link != Link::Root;
        if let Link::Under { node: above, .. } = link
            && let Some(above) = self.nodes.find_mut(above)
            && above.trace.is_none()
        {
            above.below.push(id);
        }
    }

    fn leads_back(&self, id: ExchangeId, mut link: Link) -> bool {
        for _ in 0..DEPTH {
            let Link::Under { node, .. } = link else { return false };
            if node == id {
                return true;
            }
            // What is above a span that has its trace does not change any more.
            let Some(above) = self.nodes.find(node).filter(|above| !above.linked) else { return false };
            link = above.link;
        }
        true
    }

    /// Judges an undecided call, `forced` to be done with it.
    pub(super) fn decide(&mut self, id: ExchangeId, forced: bool, out: &mut Vec<Finished>) {
        let Some(node) = self.nodes.find(id) else { return };
        if node.role != Role::Client || node.link != Link::Open {
            return;
        }
        let Some(process) = self.processes.get(&node.tgid) else { return };
        let evidence = self.evidence(id, node, process, forced);
        let unsettled = (!evidence.settled || evidence.doubted)
            && evidence.thread.is_some_and(|server| server.end.is_some());
        match parent::judge(&evidence) {
            Verdict::Wait => {
                // The candidate has ended: now only the other requests of that time may speak against it.
                if unsettled {
                    let deadline = self.now.saturating_add(self.config.settle_wait);
                    self.settle_queue.push_back((deadline, id));
                }
            }
            // Records that would speak against it may have been lost, which the next tick knows.
            Verdict::Parent { .. } if !forced && !self.losses.are_known(node.first.time) => {
                self.tick_queue.push(id);
            }
            Verdict::Parent { server, guessed } => {
                self.calls_surely(id, server);
                self.link_to_server(id, server, guessed);
                self.decided(id, out);
            }
            Verdict::Nothing => {
                self.calls_for_another(id);
                self.link(id, Link::Root, false);
                self.decided(id, out);
            }
        }
    }

    fn evidence(&self, id: ExchangeId, node: &Node, process: &Process, forced: bool) -> Evidence {
        let served = |server: ExchangeId| -> Option<Served> { Some(self.nodes.find(server)?.served(server)) };
        let thread = node.thread.and_then(|candidate| served(candidate.server));
        let lossy =
            self.losses.last().is_some_and(|loss| loss.saturating_add(LOSS_SHADOW) >= node.begin.time);
        // The end of that request may be among what was lost, and the beginning of the thread's next one.
        let cut =
            node.thread.is_some_and(|candidate| self.losses.between(candidate.since, candidate.at.time));
        let begin = match process.scheduling {
            Scheduling::RunToCompletion => node.begin,
            _ => node.first,
        };
        let put_off = if node.doubts.is_empty() { PutOff::No } else { self.put_off(node) };
        let last_word = node.settled || forced;
        Evidence {
            begin,
            end: node.end.map(|end| end.time),
            thread,
            contested: node.thread.is_some_and(|candidate| contested(process, id, candidate))
                || put_off == PutOff::Yes
                || put_off == PutOff::Perhaps && last_word,
            doubted: put_off == PutOff::Perhaps && !last_word,
            single: node.single.and_then(served),
            thread_serves: process.thread(node.first.tid).is_some_and(|thread| thread.serves),
            scheduling: process.scheduling,
            // Where records are missing, so may be those that speak against the threads.
            trusted: process.trusted && !cut && (!lossy || process.is_proven()),
            settled: node.settled
                || if forced { process.has_stayed() } else { process.is_proven() }
                || thread.is_some_and(|server| {
                    !process.others_open(node.first.time, server.id) && server.end.is_some()
                }),
            lossy,
            forced,
        }
    }

    /// Lets go of what a call that is now decided held on to.
    fn decided(&mut self, id: ExchangeId, out: &mut Vec<Finished>) {
        self.undecided = self.undecided.saturating_sub(1);
        let Some(node) = self.nodes.find_mut(id) else { return };
        let candidates = [node.thread.take().map(|candidate| candidate.server), node.single.take()];
        let doubts = std::mem::take(&mut node.doubts);
        let tgid = node.tgid;
        self.settle(id, out);
        for server in candidates.into_iter().flatten().chain(doubts) {
            if let Some(server) = self.nodes.find_mut(server) {
                server.pins = server.pins.saturating_sub(1);
            }
            self.nodes.release(server);
        }
        if let Some(process) = self.processes.get_mut(&tgid) {
            process.undecided = process.undecided.saturating_sub(1);
            if process.gone && process.is_idle() {
                self.processes.remove(&tgid);
            }
        }
    }

    /// Gives an exchange its trace where that is known by now, emits it where it has ended, and goes on with those below.
    pub(super) fn settle(&mut self, id: ExchangeId, out: &mut Vec<Finished>) {
        self.take_trace(id);
        // Allocates only where something hangs below.
        let mut next = Vec::new();
        let mut current = Some(id);
        while let Some(id) = current {
            if let Some(node) = self.nodes.find_mut(id) {
                let ready = node.linked && node.end.is_some() && !node.emitted && !node.awaits_sizes;
                if node.trace.is_some() && !node.below.is_empty() {
                    // Before this one may be forgotten.
                    for below in std::mem::take(&mut node.below) {
                        self.take_trace(below);
                        next.push(below);
                    }
                }
                if ready {
                    self.emit(id, out);
                }
            }
            current = next.pop();
        }
    }

    fn take_trace(&mut self, id: ExchangeId) {
        let Some(node) = self.nodes.find(id).filter(|node| !node.linked) else { return };
        let fresh = || {
            let id = self.ids.trace(id);
            let flags = self.config.sampler.flags(id, None, OWN_FLAGS);
            Trace { id, flags: unless_excluded(flags, node.excluded), state: Box::default() }
        };
        let carried = || Some(self.carried_trace(node.carried.as_ref()?, node.excluded));
        let (trace, link) = match node.link {
            Link::Open => return,
            Link::Root => (node.trace.clone().unwrap_or_else(fresh), Link::Root),
            Link::Remote => (carried().unwrap_or_else(fresh), Link::Remote),
            Link::Under { node: above, .. } => match self.nodes.find(above).map(|above| &above.trace) {
                // Not decided; this one is among those below it.
                Some(None) => return,
                Some(Some(above)) => match &node.trace {
                    // It carries another trace: the process began that one, and hung nothing on the request.
                    Some(own) if own.id != above.id => (own.clone(), Link::Root),
                    Some(own) => (own.clone(), node.link),
                    None => {
                        let flags = unless_excluded(above.flags, node.excluded);
                        (Trace { flags, ..above.clone() }, node.link)
                    }
                },
                None => (node.trace.clone().unwrap_or_else(fresh), Link::Root),
            },
        };
        if let Some(node) = self.nodes.find_mut(id) {
            (node.trace, node.link, node.linked) = (Some(trace), link, true);
        }
        if let Some(above) = self.nodes.find(id).and_then(|node| self.above(node))
            && let Some(node) = self.nodes.find_mut(id)
        {
            node.above = above;
        }
    }

    /// The trace of a request that names it, as it is sampled here.
    pub(super) fn carried_trace(&self, carried: &TraceContext, excluded: bool) -> Trace {
        let sampler = &self.config.sampler;
        let flags = sampler.flags(carried.trace_id, Some(carried.flags), OWN_FLAGS);
        let state = match sampler.state(&carried.trace_state) {
            Cow::Borrowed(_) => carried.trace_state.clone(),
            Cow::Owned(state) => state.into(),
        };
        Trace { id: carried.trace_id, flags: unless_excluded(flags, excluded), state }
    }

    fn emit(&mut self, id: ExchangeId, out: &mut Vec<Finished>) {
        let Some(node) = self.nodes.find(id) else { return };
        // What was learned of the process above since, where that is still known.
        let above = self.above(node);
        let (left_out, measured) = (self.left_out(node), self.is_measured(node.tgid));
        let Some(node) = self.nodes.find_mut(id) else { return };
        let (Some(mut exchange), Some(trace)) = (node.exchange.take(), &node.trace) else { return };
        sizes::fill(&mut exchange, node.sizes());
        node.emitted = true;
        self.waiting = self.waiting.saturating_sub(1);
        self.waiting_bytes = self.waiting_bytes.saturating_sub(node.weight);
        let Above { parent, guessed } = above.unwrap_or_else(|| node.above.clone());
        let trace_state = trace.state.clone();
        let context = SpanContext { trace_id: trace.id, span_id: node.span, flags: trace.flags, trace_state };
        let (start, end) = times(node, &exchange);
        let confidence = (guessed && parent.is_some()).then_some(parent::SINGLE_OPEN);
        let tgid = node.tgid;
        // A server may yet read what its client gave up on; a server is kept until its other end's record is due.
        let lingers = node.filed && node.role == Role::Client && node.failed;
        let stays = node.filed && (lingers || node.role == Role::Server);
        if lingers {
            self.linger_queue.push_back((self.now.saturating_add(self.config.parent_wait), id));
        }
        if stays {
            self.nodes.release(id);
        } else {
            self.unfile(id);
        }
        let session = self.sessions.told(id, &exchange, &context, left_out.is_some());
        if let Some(why) = left_out {
            self.counters.leave_out(why);
        }
        let left_out = left_out.is_some();
        out.push(Finished { exchange, context, parent, confidence, start, end, tgid, left_out, measured });
        if let Some(session) = session {
            self.followed(id, Some(session), out);
        }
    }
}

const fn unless_excluded(flags: u8, excluded: bool) -> u8 {
    if excluded { flags & !SAMPLED } else { flags }
}

/// Whether another mark has come to stand where the candidate's was.
fn contested(process: &Process, call: ExchangeId, candidate: Candidate) -> bool {
    let Some(thread) = process.thread(candidate.at.tid).filter(|thread| thread.remembers(candidate.mark.0))
    else {
        return false;
    };
    let now = thread.before(candidate.at.time, call);
    now.is_none_or(|mark| (mark.time, mark.owner) != candidate.mark)
}

/// First and last byte; where both ends are known, the call encloses what it called. Their stamps may contradict that by
/// the tolerance: a call's stamp is the return of a write whose bytes were read before.
fn times(node: &Node, exchange: &crate::proto::Exchange) -> (Nanos, Nanos) {
    let answered = exchange.response.is_some();
    let last = exchange.response.map_or(exchange.request.last.time, |response| response.last.time);
    // What broke off lasted until that was noticed, unless bytes are missing that would say so.
    let broken = node.end.filter(|_| node.failed && matches!(exchange.quality, None | Some(Quality::Joined)));
    let last = broken.map_or(last, |end| end.time.max(last));
    let (start, end) = match node.role {
        Role::Client => {
            let start = node.start();
            let other_end = node.other_end.filter(|_| answered && !node.failed).unwrap_or(0);
            (start, if other_end <= last.saturating_add(TOLERANCE) { last.max(other_end) } else { last })
        }
        Role::Server => {
            // What was written on this node has arrived, however long it then waits to be accepted and read.
            let start = node.other_start.unwrap_or(node.first.arrival);
            let reader = node.other_end.filter(|&end| !node.failed && last <= end.saturating_add(TOLERANCE));
            (start, last.min(reader.unwrap_or(Nanos::MAX)))
        }
    };
    (start, end.max(start))
}
