//! What is known of an exchange when it begins: its context, its other end, and who may be its parent.

use super::Correlator;
use super::Finished;
use crate::conn::{Role, Stamp};
use crate::proto::{ExchangeId, Opening};
use crate::span::join::{self, Keys};
use crate::span::node::{Above, Candidate, Link, Node};
use crate::span::process::{Open, Opened, Process};
use crate::span::thread::{Mark, Reading};
use crate::span::{Scheduling, SpanId, TraceId, context, parent};

impl Correlator {
    pub(super) fn begin_server(&mut self, opening: &Opening, out: &mut Vec<Finished>) {
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
        // Only a context met before may have been passed on, and its parent be another than the one it names.
        let waits = node.filed && (node.carried.is_none() || met) && join::may_be_local(&opening.ends);
        if node.filed {
            self.join_queue.push_back((self.now.saturating_add(self.config.join_wait), id));
        }
        let shared = self.serve(opening, context);
        self.learn_receiver(opening);
        self.watch_request(&node);
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
    fn serve(&mut self, opening: &Opening, context: Option<(TraceId, SpanId)>) -> Vec<ExchangeId> {
        let (id, first, conn) = (opening.id, opening.first, opening.conn);
        let process = self.process(first.tgid);
        process.open.push(Open { id, first: first.time, context });
        process.mark(first, |time| Mark { time, owner: id, served: true, read: true });
        match process.watch(first.tid, first.time) {
            Some(thread) => thread.reads(Reading { id, conn, first: first.time, complete: false }).collect(),
            None => Vec::new(),
        }
    }

    pub(super) fn begin_client(&mut self, opening: &Opening, out: &mut Vec<Finished>) {
        let (id, first) = (opening.id, opening.first);
        let mut node = self.node(opening);
        let keys = node.keys;
        if let Some(carried) = &node.carried {
            if self.contexts.take(carried, keys.map(|keys| keys.own), first.time) {
                (node.span, node.taken) = (carried.parent_id, true);
            }
            node.trace = Some(self.carried_trace(carried, node.excluded));
        }
        self.learn_receiver(opening);
        self.watch_call(&node);
        let partner = keys.and_then(|keys| self.joins.meet(id, Role::Client, first.time, &keys));
        node.filed = keys.is_some() && partner.is_none();
        self.nodes.insert(id, node);
        if let Some(partner) = partner {
            self.join(id, partner);
            self.settle(partner, out);
        }
        self.seek_parent(id);
        let begin = self.nodes.find(id).map(|node| node.begin).filter(|&begin| begin != first);
        self.mark_call(id, begin, false);
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
            excluded: opening.excluded,
            export: self.export(opening),
            carried: opening.trace.as_deref().and_then(context::parse).map(Box::new),
            taken: false,
            keys: Keys::of(opening),
            filed: false,
            other_start: None,
            other_end: None,
            request_size: None,
            response_size: None,
            awaits_sizes: false,
            other: None,
            link: Link::Open,
            guessed: false,
            trace: None,
            linked: false,
            above: Above::default(),
            thread: None,
            single: None,
            settled: false,
            calls: Vec::new(),
            called: Vec::new(),
            doubts: Vec::new(),
            below: Vec::new(),
            pins: 0,
            shared: None,
            exchange: None,
            weight: 0,
            emitted: false,
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
        let runs_to_completion = process.scheduling == Scheduling::RunToCompletion;
        if let Some(server) = context.and_then(|context| process.in_trace(context, first.time)) {
            if runs_to_completion {
                self.calls_for(server, id, begin.time, true);
            }
            return self.link_to_server(id, server, false);
        }
        if !self.config.processes {
            return self.link(id, Link::Root, false);
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
        let mut thread = thread.filter(|candidate| Some(candidate.server) != partner);
        let mut doubts = Vec::new();
        if let Some(candidate) = thread.filter(|_| runs_to_completion) {
            match self.doubts(process, candidate) {
                Some(others) => doubts = others,
                None => thread = None,
            }
        }
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
        for &other in &doubts {
            if let Some(other) = self.nodes.find_mut(other) {
                other.pins += 1;
            }
        }
        if let Some(candidate) = thread.filter(|_| runs_to_completion) {
            self.calls_for(candidate.server, id, begin.time, doubts.is_empty());
        }
        if let Some(node) = self.nodes.find_mut(id) {
            (node.thread, node.single, node.doubts) = (thread, single, doubts);
        }
    }

    /// The request that a thread worked for at a time.
    fn candidate(&self, process: &Process, call: ExchangeId, at: Stamp) -> Option<Candidate> {
        let thread = process.thread(at.tid)?;
        let mark = thread.before(at.time, call)?;
        let (server, since) = if mark.served {
            (mark.owner, mark.time)
        } else {
            let before = self.nodes.find(mark.owner)?;
            match (before.link, before.thread) {
                (Link::Under { node, .. }, _) if !before.guessed => (node, mark.time),
                (Link::Open, Some(candidate)) => (candidate.server, candidate.since),
                _ => return None,
            }
        };
        let holds = match process.scheduling {
            Scheduling::RunToCompletion => mark.read && at.time - mark.time <= parent::PROMPT,
            _ => !thread.is_torn(server, at.time),
        };
        let held =
            self.nodes.find(server).is_some_and(|server| server.end.is_none_or(|end| end.time > at.time));
        (holds && held).then_some(Candidate { server, at, mark: (mark.time, mark.owner), since })
    }
}
