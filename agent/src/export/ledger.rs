//! What became of the spans that one output took.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::telemetry::{Counters, Lost};

/// Keeps account of one output's spans: each that is taken from its queue is settled once, as delivered or as lost.
#[derive(Debug)]
pub(super) struct Ledger {
    counters: Arc<Counters>,
    undelivered: Lost,
    /// Taken from the queue and not settled yet.
    open: AtomicU64,
}

impl Ledger {
    pub(super) fn new(counters: Arc<Counters>, undelivered: Lost) -> Self {
        Self { counters, undelivered, open: AtomicU64::new(0) }
    }

    /// Spans that the full queue dropped.
    pub(super) fn dropped(&self, n: u64) {
        self.counters.lose(Lost::QueueFull, n);
    }

    /// Spans left the queue.
    pub(super) fn took(&self, n: u64) {
        self.open.fetch_add(n, Ordering::Relaxed);
    }

    /// A backend accepted spans.
    pub(super) fn exported(&self, n: u64) {
        Counters::add(&self.counters.exported, self.settle(n));
    }

    /// Spans were written to where nobody confirms them.
    pub(super) fn written(&self, n: u64) {
        self.settle(n);
    }

    /// Spans could not be delivered.
    pub(super) fn lost(&self, n: u64) {
        self.counters.lose(self.undelivered, self.settle(n));
    }

    /// The output did not end in time: whatever it holds, and what was in its queue, is lost. It settles nothing afterwards.
    pub(super) fn abandon(&self, queued: u64) {
        let held = self.open.swap(0, Ordering::Relaxed);
        self.counters.lose(self.undelivered, held + queued);
    }

    /// How many of `n` were still open: all, unless the output was abandoned meanwhile.
    fn settle(&self, n: u64) -> u64 {
        let settle = |open: u64| Some(open.saturating_sub(n));
        match self.open.fetch_update(Ordering::Relaxed, Ordering::Relaxed, settle) {
            Ok(before) | Err(before) => before.min(n),
        }
    }
}
