//! What is known of one process: which requests it is serving, and whether its threads stand for requests.

use std::collections::{HashMap, VecDeque};

use foldhash::fast::FixedState;

use super::sdk::Shown;
use super::thread::{Mark, Thread};
use super::{Scheduling, SpanId, TraceId};
use crate::conn::{Nanos, Stamp};
use crate::proto::{Exchange, ExchangeId, Quality};

/// Threads of one process at most. At the limit those quiet for [`QUIET`] are forgotten; where none is, new threads give
/// no evidence.
const THREADS: usize = 4096;
const QUIET: Nanos = 10_000_000_000;

/// Marks kept of a thread that serves one request at a time.
const MARKS: usize = 64;
/// Marks kept of a thread that serves many: between a connect and the first byte written lie the events of all others.
const MARKS_SHARED: usize = 1024;

/// Ended exchanges of which is known when they were open, for calls that began before they ended. For times before those
/// that are known, several count as open.
const ENDED: usize = 256;

/// Exchanges that stayed on one thread each before a process counts as proven.
const PROVEN: u32 = 64;

/// A server exchange that has not ended.
#[derive(Clone, Copy, Debug)]
pub(super) struct Open {
    pub(super) id: ExchangeId,
    /// When its first byte was read.
    pub(super) first: Nanos,
    /// The context that came with it.
    pub(super) context: Option<(TraceId, SpanId)>,
}

/// How many server exchanges were open at a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Opened {
    /// None.
    Nothing,
    /// One, which still is.
    One(ExchangeId),
    /// One, which has ended.
    Past,
    /// More than one, or not known.
    Several,
}

/// One process.
#[derive(Debug)]
pub(super) struct Process {
    pub(super) scheduling: Scheduling,
    /// No exchange has shown that requests leave their thread or share it.
    pub(super) trusted: bool,
    /// Exchanges that stayed on one thread.
    stayed: u32,
    pub(super) open: Vec<Open>,
    /// First and last byte of exchanges that have ended, in order of their end.
    ended: VecDeque<(Nanos, Nanos)>,
    /// Ends up to here are forgotten.
    forgotten: Nanos,
    threads: HashMap<u32, Thread, FixedState>,
    /// Calls whose parent is not decided.
    pub(super) undecided: usize,
    /// The process has ended; what it left open ends with its connections.
    pub(super) gone: bool,
    /// When one of its requests met its other end last.
    pub(super) met: Option<Nanos>,
    /// What it was seen to do of tracing itself.
    pub(super) shown: Shown,
}

impl Default for Process {
    fn default() -> Self {
        Self {
            scheduling: Scheduling::default(),
            trusted: true,
            stayed: 0,
            open: Vec::new(),
            ended: VecDeque::new(),
            forgotten: 0,
            threads: HashMap::default(),
            undecided: 0,
            gone: false,
            met: None,
            shown: Shown::default(),
        }
    }
}

impl Process {
    /// Whether threads are worth watching.
    pub(super) const fn watches_threads(&self) -> bool {
        match self.scheduling {
            Scheduling::Unknown => self.trusted,
            Scheduling::RunToCompletion => true,
            Scheduling::Moving => false,
        }
    }

    pub(super) fn schedule(&mut self, scheduling: Scheduling) {
        self.scheduling = scheduling;
        // Whoever is told of now is not the one that has ended.
        self.gone = false;
        if !self.watches_threads() {
            self.threads = HashMap::default();
        }
    }

    /// Nothing is under way: forgetting the process loses only what its threads have shown.
    pub(super) fn is_idle(&self) -> bool {
        self.open.is_empty() && self.undecided == 0
    }

    pub(super) fn thread(&self, tid: u32) -> Option<&Thread> {
        self.threads.get(&tid)
    }

    /// The thread, where threads are watched and there is room for it.
    pub(super) fn watch(&mut self, tid: u32, now: Nanos) -> Option<&mut Thread> {
        if !self.watches_threads() {
            return None;
        }
        if self.threads.len() >= THREADS && !self.threads.contains_key(&tid) {
            self.threads.retain(|_, thread| thread.last().saturating_add(QUIET) > now);
            if self.threads.len() >= THREADS {
                return None;
            }
        }
        Some(self.threads.entry(tid).or_default())
    }

    pub(super) fn mark(&mut self, stamp: Stamp, mark: impl FnOnce(Nanos) -> Mark) {
        let limit = if self.scheduling == Scheduling::RunToCompletion { MARKS_SHARED } else { MARKS };
        if let Some(thread) = self.watch(stamp.tid, stamp.time) {
            thread.mark(mark(stamp.time), limit);
        }
    }

    /// How many server exchanges were open at `time`.
    pub(super) fn open_at(&self, time: Nanos) -> Opened {
        let ended = self.ended.iter().rev().filter(|(first, end)| *first <= time && time < *end);
        let past = if time < self.forgotten { 2 } else { ended.take(2).count() };
        let mut now = self.open.iter().filter(|open| open.first <= time).map(|open| open.id);
        match (past, now.next(), now.next()) {
            (0, None, _) => Opened::Nothing,
            (0, Some(id), None) => Opened::One(id),
            (1, None, _) => Opened::Past,
            _ => Opened::Several,
        }
    }

    /// Whether a server exchange besides `but` that was open at `time` is open still.
    pub(super) fn others_open(&self, time: Nanos, but: ExchangeId) -> bool {
        self.open.iter().any(|open| open.first <= time && open.id != but)
    }

    /// Whether an open exchange came with another span of this trace. With this very one comes what a process calls itself.
    pub(super) fn serves_above(&self, (trace, span): (TraceId, SpanId)) -> bool {
        self.open.iter().any(|open| open.context.is_some_and(|(id, parent)| id == trace && parent != span))
    }

    /// The open exchange that came with this trace id; of several the one whose own context is passed on.
    pub(super) fn in_trace(&self, context: (TraceId, SpanId), time: Nanos) -> Option<ExchangeId> {
        let same = |open: &&Open| {
            open.first <= time && open.context.is_some_and(|(trace_id, _)| trace_id == context.0)
        };
        only(self.open.iter().filter(same))
            .or_else(|| only(self.open.iter().filter(|open| same(open) && open.context == Some(context))))
            .map(|open| open.id)
    }

    /// A server exchange has ended.
    pub(super) fn close(&mut self, id: ExchangeId, first: Nanos, end: Nanos) {
        if let Some(index) = self.open.iter().position(|open| open.id == id) {
            self.open.swap_remove(index);
        }
        self.ended.push_back((first, end));
        if self.ended.len() > ENDED
            && let Some((_, end)) = self.ended.pop_front()
        {
            self.forgotten = self.forgotten.max(end);
        }
    }

    /// A server exchange will not be seen to end.
    pub(super) fn abandon(&mut self, id: ExchangeId) {
        self.open.retain(|open| open.id != id);
        for thread in self.threads.values_mut() {
            thread.leaves(id);
        }
    }

    /// Learns from an exchange that has ended: `shared` is when its thread read the request of another connection after
    /// this one's was complete.
    pub(super) fn learn(&mut self, exchange: &Exchange, shared: Option<Nanos>) {
        let Some(response) = &exchange.response else { return };
        let told = exchange.quality != Some(Quality::Gap);
        if !told || exchange.failure.is_some() || self.scheduling != Scheduling::Unknown || !self.trusted {
            return;
        }
        let request = &exchange.request;
        let tid = request.last.tid;
        let stayed = [request.first, response.first, response.last].iter().all(|stamp| stamp.tid == tid);
        if !stayed || shared.is_some_and(|time| time < response.first.time) {
            self.trusted = false;
            self.threads = HashMap::default();
        } else {
            self.stayed = self.stayed.saturating_add(1);
        }
    }

    /// So many exchanges stayed on their threads that the next one that does not is not waited for.
    pub(super) const fn is_proven(&self) -> bool {
        self.stayed >= PROVEN
    }

    /// At least one exchange stayed on its thread.
    pub(super) const fn has_stayed(&self) -> bool {
        self.stayed > 0
    }
}

fn only<T>(mut items: impl Iterator<Item = T>) -> Option<T> {
    let first = items.next()?;
    items.next().is_none().then_some(first)
}
