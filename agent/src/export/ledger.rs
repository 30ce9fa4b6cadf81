//! What became of the items, spans or data points, that one output took.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::telemetry::{Counters, Delivery, Lost, Signal};

/// Keeps account of one output's items: each that is taken from its queue is settled once, as delivered or as lost.
#[derive(Debug)]
pub(super) struct Ledger {
    counters: Arc<Counters>,
    /// Over OTLP: the signal whose deliveries are counted.
    signal: Option<Signal>,
    /// Taken from the queue and not settled yet.
    open: AtomicU64,
}

impl Ledger {
    /// Of an output that nobody confirms anything to: standard output, a file.
    pub(super) fn writing(counters: Arc<Counters>) -> Self {
        Self { counters, signal: None, open: AtomicU64::new(0) }
    }

    /// Of an OTLP output.
    pub(super) fn exporting(counters: Arc<Counters>, signal: Signal) -> Self {
        Self { counters, signal: Some(signal), open: AtomicU64::new(0) }
    }

    /// Items that the full queue dropped.
    pub(super) fn dropped(&self, n: u64) {
        self.count(Delivery::Dropped, n);
    }

    /// Items left the queue.
    pub(super) fn took(&self, n: u64) {
        self.open.fetch_add(n, Ordering::Relaxed);
    }

    /// A backend gave its last word on items, or there will be none.
    pub(super) fn settled(&self, outcome: Delivery, n: u64) {
        self.count(outcome, self.settle(n));
    }

    /// Items were written to where nobody confirms them.
    pub(super) fn written(&self, n: u64) {
        self.settle(n);
    }

    /// Items could not be delivered.
    pub(super) fn lost(&self, n: u64) {
        self.settled(Delivery::Undelivered, n);
    }

    /// The output did not end in time: whatever it holds, and what was in its queue, is lost. It settles nothing afterwards.
    pub(super) fn abandon(&self, queued: u64) {
        let held = self.open.swap(0, Ordering::Relaxed);
        self.count(Delivery::Undelivered, held + queued);
    }

    fn count(&self, outcome: Delivery, n: u64) {
        if let Some(signal) = self.signal {
            self.counters.deliver(signal, outcome, n);
        }
        // Data points are no spans: what became of them is counted above alone.
        let why = match (outcome, self.signal) {
            (_, Some(Signal::Metrics)) | (Delivery::Accepted, _) => return,
            (Delivery::Dropped, _) => Lost::QueueFull,
            (_, Some(Signal::Traces)) => Lost::ExportFailed,
            (_, None) => Lost::OutputFailed,
        };
        self.counters.lose(why, n);
    }

    /// How many of `n` were still open: all, unless the output was abandoned meanwhile.
    fn settle(&self, n: u64) -> u64 {
        let settle = |open: u64| Some(open.saturating_sub(n));
        match self.open.fetch_update(Ordering::Relaxed, Ordering::Relaxed, settle) {
            Ok(before) | Err(before) => before.min(n),
        }
    }
}
