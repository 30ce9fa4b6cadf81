//! Doubts about a thread that runs to completion: it may have put a request off.
//!
//! What such a thread does next is for the request that it read last. But a proxy may wait for a name, a limit or a free place
//! before it calls, and read other requests meanwhile: then a call is taken to be made for the last one read, while the
//! one that it is made for goes without. So a call is only believed where every other request that the thread had read, and not
//! answered, had a call under way that is believed in turn. A call that went to the wrong request always leaves one without:
//! of the requests that were put off, the one that was read first, since only the call of a request read before it
//! could be mistaken for its own.

use super::Correlator;
use crate::conn::Nanos;
use crate::proto::ExchangeId;
use crate::span::node::{Called, Candidate, Link, Node};
use crate::span::process::Process;

/// Requests that speak against a candidate at most; with more it is none.
const DOUBTS: usize = 64;

/// Calls of one request that are remembered; later ones are not known to have been under way.
const CALLS: usize = 16;

/// Calls that are followed at most to find out whether one is to be believed.
const FOLLOWED: usize = 256;

/// Whether a thread had put a request off.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum PutOff {
    /// None.
    No,
    /// One at least.
    Yes,
    /// More is to come that may tell: a call whose connection stands is told of with its first byte.
    Perhaps,
}

impl Correlator {
    /// Requests besides the candidate that its thread had read, with neither answer nor call. `None` for too many.
    pub(super) fn doubts(&self, process: &Process, candidate: Candidate) -> Option<Vec<ExchangeId>> {
        let Candidate { server, at, .. } = candidate;
        let Some(thread) = process.thread(at.tid) else { return Some(Vec::new()) };
        let idle = |other: &ExchangeId| {
            self.nodes.find(*other).is_some_and(|node| {
                !node.was_moving(at.time) && !node.calling(at.time).any(|called| called.certain)
            })
        };
        let doubts: Vec<_> = thread.unanswered(server, at.time).filter(idle).take(DOUBTS + 1).collect();
        (doubts.len() <= DOUBTS).then_some(doubts)
    }

    /// Whether one of the requests that a call is in doubt about had been put off when the call began.
    pub(super) fn put_off(&self, call: &Node) -> PutOff {
        let mut followed: Vec<ExchangeId> = Vec::new();
        let mut next: Vec<(ExchangeId, Nanos)> = Vec::new();
        let mut perhaps = false;
        let mut doubtful = Some(call);
        loop {
            if let Some(call) = doubtful {
                next.extend(call.doubts.iter().map(|&request| (request, call.begin.time)));
            }
            let Some((request, time)) = next.pop() else { break };
            let Some(request) = self.nodes.find(request) else { return PutOff::Yes };
            doubtful = None;
            if request.was_moving(time) || request.calling(time).any(|called| called.certain) {
                continue;
            }
            // Which of several is the one does not matter: one that is wrong leaves another request without.
            match request.calling(time).next() {
                Some(called) if followed.contains(&called.call) => {}
                Some(_) if followed.len() >= FOLLOWED => return PutOff::Yes,
                Some(called) => {
                    followed.push(called.call);
                    doubtful = self.nodes.find(called.call);
                }
                None if request.called.is_empty() && request.end.is_none() => perhaps = true,
                None => return PutOff::Yes,
            }
        }
        if perhaps { PutOff::Perhaps } else { PutOff::No }
    }

    /// Notes with a request a call that seems to be made for it; `certain` where no other request may be meant.
    pub(super) fn calls_for(&mut self, server: ExchangeId, call: ExchangeId, begin: Nanos, certain: bool) {
        if let Some(server) = self.nodes.find_mut(server).filter(|server| server.called.len() < CALLS) {
            server.called.push(Called { call, begin, end: Nanos::MAX, certain });
        }
    }

    /// A call has ended.
    pub(super) fn called(&mut self, call: ExchangeId, end: Nanos) {
        let Some(node) = self.nodes.find(call) else { return };
        let server = match (node.link, node.thread) {
            (Link::Under { node, .. }, _) => node,
            (_, Some(candidate)) => candidate.server,
            _ => return,
        };
        if let Some(called) = self.noted(server, call) {
            called.end = end;
        }
    }

    /// A call is made for this request and for no other.
    pub(super) fn calls_surely(&mut self, call: ExchangeId, server: ExchangeId) {
        if let Some(called) = self.noted(server, call) {
            called.certain = true;
        }
    }

    /// A call cannot be said to be made for the request that it seemed to be made for.
    pub(super) fn calls_for_another(&mut self, call: ExchangeId) {
        let candidate = self.nodes.find(call).and_then(|node| node.thread);
        if let Some(server) = candidate.and_then(|candidate| self.nodes.find_mut(candidate.server)) {
            server.called.retain(|called| called.call != call);
        }
    }

    fn noted(&mut self, server: ExchangeId, call: ExchangeId) -> Option<&mut Called> {
        self.nodes.find_mut(server)?.called.iter_mut().find(|called| called.call == call)
    }
}
