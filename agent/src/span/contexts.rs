//! Contexts met lately, to tell a context that a process wrote itself from one that it only passes on or uses again.

use std::collections::HashMap;
use std::hash::BuildHasher;

use foldhash::fast::FixedState;

use super::context::TraceContext;
use super::join::{JoinKey, TOLERANCE};
use crate::conn::Nanos;

/// Contexts remembered at least; at twice as many the older half is forgotten, and a context met again after that counts
/// as new.
const REMEMBERED: usize = 65_536;

/// What is remembered of a context.
#[derive(Clone, Copy, Debug, Default)]
struct Met {
    /// When a server of this node first received it, 0 never.
    received: Nanos,
    /// Hash of the exchange in which it was received; 0 where nothing names that.
    exchange: u64,
    /// A client span has taken its span id.
    taken: bool,
}

/// Contexts met lately, in two generations.
#[derive(Debug)]
pub(super) struct Contexts {
    hasher: FixedState,
    young: HashMap<u64, Met, FixedState>,
    old: HashMap<u64, Met, FixedState>,
}

impl Contexts {
    /// Contexts come from outside: a seed of its own keeps them from being chosen to collide.
    pub(super) fn new(seed: u64) -> Self {
        let hasher = FixedState::with_seed(seed);
        Self { hasher, young: HashMap::default(), old: HashMap::default() }
    }

    /// A server received it. Says whether it had been met before, so that it may have been passed on.
    pub(super) fn received(&mut self, context: &TraceContext, key: Option<JoinKey>, time: Nanos) -> bool {
        let exchange = self.exchange(key);
        let (met, known) = self.meet(context);
        if met.received == 0 {
            (met.received, met.exchange) = (time.max(1), exchange);
        }
        known
    }

    /// A client sends it. Says whether the client's span may take the span id: nobody received it before (but the other
    /// end of this very exchange), and no other span took it.
    pub(super) fn take(&mut self, context: &TraceContext, key: Option<JoinKey>, time: Nanos) -> bool {
        let exchange = self.exchange(key);
        let (met, _) = self.meet(context);
        let margin = if exchange == 0 || met.exchange == 0 { TOLERANCE } else { 0 };
        let other_end = exchange != 0 && met.exchange == exchange;
        let passed_on = met.received != 0 && !other_end && met.received.saturating_add(margin) < time;
        !passed_on && !std::mem::replace(&mut met.taken, true)
    }

    fn exchange(&self, key: Option<JoinKey>) -> u64 {
        key.map_or(0, |key| self.hasher.hash_one(key).max(1))
    }

    fn meet(&mut self, context: &TraceContext) -> (&mut Met, bool) {
        let name = self.hasher.hash_one((context.trace_id, context.parent_id));
        if self.young.len() >= REMEMBERED && !self.young.contains_key(&name) {
            std::mem::swap(&mut self.young, &mut self.old);
            self.young.clear();
        }
        let before = self.old.get(&name).copied();
        let known = before.is_some() || self.young.contains_key(&name);
        (self.young.entry(name).or_insert(before.unwrap_or_default()), known)
    }
}
