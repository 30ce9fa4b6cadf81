//! An exchange while its span is being decided.

use std::collections::HashMap;

use foldhash::fast::FixedState;

use super::context::TraceContext;
use super::join::Keys;
use super::parent::Served;
use super::{ParentContext, SpanId, TraceId};
use crate::conn::{Nanos, Role, Stamp};
use crate::proto::otlp::Export;
use crate::proto::{Exchange, ExchangeId};

/// What a thread does at once, it does within this time, by stamps that may be late.
const AT_ONCE: Nanos = 1_000_000;

/// What the span hangs on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Link {
    /// Not decided.
    Open,
    /// Nothing.
    Root,
    /// The span that the request names (server exchanges).
    Remote,
    /// The span of another exchange, by its id; `same_process` for a call below the request it was made for.
    Under { node: ExchangeId, span: SpanId, same_process: bool },
}

/// The nearest span above that is exported, and whether a guess lies between.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Above {
    pub(super) parent: Option<ParentContext>,
    pub(super) guessed: bool,
}

/// What the spans of one trace share.
#[derive(Clone, Debug)]
pub(super) struct Trace {
    pub(super) id: TraceId,
    pub(super) flags: u8,
    pub(super) state: Box<str>,
}

/// The request that a call's thread worked for when the call began.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Candidate {
    pub(super) server: ExchangeId,
    /// Where that was looked up.
    pub(super) at: Stamp,
    /// Time and owner of the mark that said so: another mark in its place speaks against it.
    pub(super) mark: (Nanos, ExchangeId),
    /// Since when it was seen what the thread does, for that to say so.
    pub(super) since: Nanos,
}

/// A call as the request knows it that it seems to be made for.
#[derive(Clone, Copy, Debug)]
pub(super) struct Called {
    pub(super) call: ExchangeId,
    /// Its connect, or its first byte.
    pub(super) begin: Nanos,
    /// [`Nanos::MAX`] until it has ended.
    pub(super) end: Nanos,
    /// It can be made for no other one.
    pub(super) certain: bool,
}

/// One exchange.
#[derive(Debug)]
pub(super) struct Node {
    pub(super) role: Role,
    pub(super) tgid: u32,
    pub(super) first: Stamp,
    /// Last byte of the request that is known.
    pub(super) requested: Stamp,
    pub(super) responding: Option<Stamp>,
    /// Calls: connect where the connection was opened for it, else the first byte.
    pub(super) begin: Stamp,
    pub(super) end: Option<Stamp>,
    pub(super) failed: bool,
    pub(super) span: SpanId,
    /// Is counted, but not exported, and neither is what hangs below it.
    pub(super) excluded: bool,
    /// It exports telemetry.
    pub(super) export: Option<Export>,
    /// The context in its request.
    pub(super) carried: Option<Box<TraceContext>>,
    /// `span` is the one that `carried` names (calls).
    pub(super) taken: bool,
    pub(super) keys: Option<Keys>,
    /// Filed with the joins, and kept for them.
    pub(super) filed: bool,
    /// First and last byte at the other end, as far as known: arrival of the request for a call.
    pub(super) other_start: Option<Nanos>,
    pub(super) other_end: Option<Nanos>,
    /// Bytes in the bodies, as far as either end has told.
    pub(super) request_size: Option<u64>,
    pub(super) response_size: Option<u64>,
    /// The span waits for the other end to tell a size.
    pub(super) awaits_sizes: bool,
    /// The other end, where it is on this node.
    pub(super) other: Option<ExchangeId>,
    pub(super) link: Link,
    pub(super) guessed: bool,
    /// Known before the link for a call that carries a context.
    pub(super) trace: Option<Trace>,
    /// The trace has been taken from the link, or compared with it.
    pub(super) linked: bool,
    /// The span above that is exported, as it was known then.
    pub(super) above: Above,
    pub(super) thread: Option<Candidate>,
    pub(super) single: Option<ExchangeId>,
    /// Nothing is awaited any more that could speak against the process's threads.
    pub(super) settled: bool,
    /// Requests: calls that wait for its end.
    pub(super) calls: Vec<ExchangeId>,
    /// Requests of threads that run to completion: the calls that seem to be made for it.
    pub(super) called: Vec<Called>,
    /// Calls of such threads: other requests that they may have been made for, unless each had a call under way.
    pub(super) doubts: Vec<ExchangeId>,
    /// Exchanges that wait for its trace.
    pub(super) below: Vec<ExchangeId>,
    /// Undecided calls that have it as a candidate.
    pub(super) pins: u32,
    /// Requests: when its thread read another connection's request after this one was complete.
    pub(super) shared: Option<Nanos>,
    pub(super) exchange: Option<Box<Exchange>>,
    /// Bytes that it and the exchange hold, estimated.
    pub(super) weight: usize,
    pub(super) emitted: bool,
}

impl Node {
    /// As a candidate for the parent of a call.
    pub(super) fn served(&self, id: ExchangeId) -> Served {
        let Self { first, requested, responding, end, failed, .. } = *self;
        Served { id, first, requested, responding, end, failed }
    }

    /// Start of a call's span: its first byte, but not after that arrived at the other end.
    pub(super) fn start(&self) -> Nanos {
        self.first.time.min(self.other_start.unwrap_or(Nanos::MAX))
    }

    /// Sizes of the request's and the response's body.
    pub(super) const fn sizes(&self) -> (Option<u64>, Option<u64>) {
        (self.request_size, self.response_size)
    }

    /// Takes the sizes that are not known yet.
    pub(super) fn take_sizes(&mut self, (request, response): (Option<u64>, Option<u64>)) {
        self.request_size = self.request_size.or(request);
        self.response_size = self.response_size.or(response);
    }

    /// At `time` its bytes were still coming, or it was being answered.
    pub(super) fn was_moving(&self, time: Nanos) -> bool {
        self.requested.time > time || self.responding.is_some_and(|stamp| stamp.time <= time)
    }

    /// The calls that seem to be made for it and were under way at `time`, give or take [`AT_ONCE`].
    pub(super) fn calling(&self, time: Nanos) -> impl Iterator<Item = &Called> {
        self.called.iter().filter(move |called| {
            called.begin <= time.saturating_add(AT_ONCE) && time <= called.end.saturating_add(AT_ONCE)
        })
    }

    /// Nothing refers to it any more.
    pub(super) const fn is_spent(&self) -> bool {
        self.emitted && self.pins == 0 && !self.filed
    }
}

/// The exchanges that the correlator holds. Boxed: within the table they would take half a kilobyte for each of its free
/// places too.
#[derive(Debug, Default)]
pub(super) struct Nodes {
    by_id: HashMap<u64, Box<Node>, FixedState>,
}

impl Nodes {
    pub(super) fn insert(&mut self, id: ExchangeId, node: Node) {
        self.by_id.insert(id.0, Box::new(node));
    }

    pub(super) fn find(&self, id: ExchangeId) -> Option<&Node> {
        self.by_id.get(&id.0).map(|node| &**node)
    }

    pub(super) fn find_mut(&mut self, id: ExchangeId) -> Option<&mut Node> {
        self.by_id.get_mut(&id.0).map(|node| &mut **node)
    }

    /// Forgets it where nothing refers to it.
    pub(super) fn release(&mut self, id: ExchangeId) {
        if self.find(id).is_some_and(Node::is_spent) {
            self.by_id.remove(&id.0);
        }
    }

    /// Forgets it, whatever refers to it.
    pub(super) fn remove(&mut self, id: ExchangeId) -> Option<Box<Node>> {
        self.by_id.remove(&id.0)
    }

    /// The first of those that have not ended, in the order in which they began.
    pub(super) fn oldest_open(&self, count: usize) -> Vec<ExchangeId> {
        let open = self.by_id.iter().filter(|(_, node)| node.end.is_none());
        let mut ids: Vec<ExchangeId> = open.map(|(&id, _)| ExchangeId(id)).collect();
        ids.sort_unstable();
        ids.truncate(count);
        ids
    }

    /// How many have not ended.
    pub(super) fn open(&self) -> usize {
        self.by_id.values().filter(|node| node.end.is_none()).count()
    }

    pub(super) fn len(&self) -> usize {
        self.by_id.len()
    }
}
