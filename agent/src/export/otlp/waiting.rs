//! Where items wait before they are sent: the queue of spans, and the mailbox of what is collected at intervals.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use tokio::sync::Notify;

use super::super::ledger::Ledger;
use super::super::queue::Queue;
use super::payload::Payload;

/// What the sender wants to know of the place where its items wait.
pub(super) trait Waiting: Send + Sync + 'static {
    /// Where no more items will come: until when what is left should be delivered.
    fn deadline(&self) -> Option<Instant>;

    /// Waits until no more items will come.
    fn closed(&self) -> impl Future<Output = ()> + Send;

    /// Whether nothing is near to being dropped for want of room, so that what cannot be sent now may be kept.
    fn has_room(&self) -> bool;
}

impl Waiting for Queue {
    fn deadline(&self) -> Option<Instant> {
        Queue::deadline(self)
    }

    fn closed(&self) -> impl Future<Output = ()> + Send {
        Queue::closed(self)
    }

    fn has_room(&self) -> bool {
        Queue::has_room(self)
    }
}

/// Batches of a signal that is collected at intervals. Full, it drops the oldest and counts their items. Any thread may add to
/// it, one takes.
#[derive(Debug)]
pub(in crate::export) struct Mailbox<P> {
    /// Batches that wait at most.
    limit: usize,
    state: Mutex<State<P>>,
    filled: Notify,
    closing: Notify,
}

#[derive(Debug)]
struct State<P> {
    waiting: VecDeque<P>,
    closed: Option<Instant>,
}

impl<P: Payload> Mailbox<P> {
    /// An empty one for at most `limit` batches.
    pub(in crate::export) fn new(limit: usize) -> Self {
        Self {
            limit,
            state: Mutex::new(State { waiting: VecDeque::new(), closed: None }),
            filled: Notify::new(),
            closing: Notify::new(),
        }
    }

    /// Adds a batch.
    pub(in crate::export) fn push(&self, batch: P, ledger: &Ledger) {
        let mut state = self.lock();
        let mut dropped = 0;
        if state.closed.is_some() {
            dropped = batch.items();
        } else {
            state.waiting.push_back(batch);
            while state.waiting.len() > self.limit
                && let Some(oldest) = state.waiting.pop_front()
            {
                dropped += oldest.items();
            }
        }
        drop(state);
        self.filled.notify_one();
        if dropped > 0 {
            ledger.dropped(dropped);
        }
    }

    /// No more batches will come; what is there should be delivered until the deadline.
    pub(in crate::export) fn close(&self, deadline: Instant) {
        self.lock().closed = Some(deadline);
        self.filled.notify_one();
        self.closing.notify_waiters();
    }

    /// Batches that wait, and the most that may.
    pub(in crate::export) fn fill(&self) -> (u64, u64) {
        (self.lock().waiting.len() as u64, self.limit as u64)
    }

    /// Forgets what waits, and says how many items that were.
    pub(in crate::export) fn clear(&self) -> u64 {
        self.lock().waiting.drain(..).map(|batch| batch.items()).sum()
    }

    /// The oldest batch, waited for; `None` when no more will come. The ledger has it as open before it leaves.
    pub(super) async fn take(&self, ledger: &Ledger) -> Option<P> {
        loop {
            {
                let mut state = self.lock();
                if let Some(batch) = state.waiting.pop_front() {
                    ledger.took(batch.items());
                    return Some(batch);
                }
                if state.closed.is_some() {
                    return None;
                }
            }
            // A wake-up between the lock above and here is kept by `Notify`.
            self.filled.notified().await;
        }
    }

    fn lock(&self) -> MutexGuard<'_, State<P>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<P: Payload> Waiting for Mailbox<P> {
    fn deadline(&self) -> Option<Instant> {
        self.lock().closed
    }

    async fn closed(&self) {
        // Enlisted before the look, so that a closing in between is not missed.
        let mut closing = std::pin::pin!(self.closing.notified());
        closing.as_mut().enable();
        if self.deadline().is_none() {
            closing.await;
        }
    }

    /// A later collection waits behind: the earlier one gives way.
    fn has_room(&self) -> bool {
        self.lock().waiting.is_empty()
    }
}
