//! The bounded queue before an output: full, it drops the oldest spans and counts them.

use std::collections::VecDeque;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use tokio::sync::Notify;

use super::batch::Piece;
use super::ledger::Ledger;

/// Estimated bytes of what is taken at once: OTLP backends take requests of 4 MiB by default, and no taker should hold more.
const TAKE_BYTES: usize = 2 << 20;

/// What may wait in a queue.
#[derive(Clone, Copy, Debug)]
pub(super) struct Limits {
    /// Spans.
    pub(super) spans: usize,
    /// Estimated bytes.
    pub(super) bytes: usize,
}

/// Spans that wait for one output. Any thread may add to it, one takes.
#[derive(Debug)]
pub(super) struct Queue {
    limits: Limits,
    state: Mutex<State>,
    blocking: Condvar,
    tasks: Notify,
    closing: Notify,
}

#[derive(Debug, Default)]
struct State {
    pieces: VecDeque<Piece>,
    spans: usize,
    bytes: usize,
    /// Spans at which the taker, unless the bytes suffice for it, wants to be woken; it sleeps only while this is `Some`.
    wake_at: Option<usize>,
    closed: Option<Instant>,
}

/// What a taker found.
#[derive(Debug)]
pub(super) struct Taken {
    /// Spans, oldest first.
    pub(super) pieces: Vec<Piece>,
    /// How many.
    pub(super) spans: usize,
    /// No more will come: deliver what is left until then.
    pub(super) closed: Option<Instant>,
}

impl Queue {
    pub(super) fn new(limits: Limits) -> Self {
        Self {
            limits,
            state: Mutex::default(),
            blocking: Condvar::new(),
            tasks: Notify::new(),
            closing: Notify::new(),
        }
    }

    /// Adds spans, dropping the oldest as far as the limits demand.
    pub(super) fn push(&self, piece: Piece, ledger: &Ledger) {
        let mut state = self.lock();
        if state.closed.is_some() {
            drop(state);
            ledger.dropped(piece.len() as u64);
            return;
        }
        state.spans += piece.len();
        state.bytes += piece.bytes;
        state.pieces.push_back(piece);
        let dropped = state.fit(self.limits);
        let wake = state.wake_at.is_some_and(|enough| state.has(enough));
        if wake {
            state.wake_at = None;
        }
        drop(state);
        if wake {
            self.wake();
        }
        if dropped > 0 {
            ledger.dropped(dropped as u64);
        }
    }

    /// No more spans will come; what is there should be delivered until the deadline.
    pub(super) fn close(&self, deadline: Instant) {
        let mut state = self.lock();
        state.closed = Some(deadline);
        state.wake_at = None;
        drop(state);
        self.wake();
        self.closing.notify_waiters();
    }

    /// Where no more spans will come: until when what is left should be delivered.
    pub(super) fn deadline(&self) -> Option<Instant> {
        self.lock().closed
    }

    /// Waits until no more spans will come.
    pub(super) async fn closed(&self) {
        // Enlisted before the look, so that a closing in between is not missed.
        let mut closing = std::pin::pin!(self.closing.notified());
        closing.as_mut().enable();
        if self.deadline().is_none() {
            closing.await;
        }
    }

    /// Forgets what waits, and says how many spans that were.
    pub(super) fn clear(&self) -> u64 {
        let mut state = self.lock();
        state.pieces.clear();
        state.bytes = 0;
        std::mem::take(&mut state.spans) as u64
    }

    /// Takes up to `max` spans, after waiting until there are `enough`, the queue is closed, or the time is over; without a
    /// time it waits on. The ledger has them as open before they leave the queue.
    pub(super) fn take(&self, max: usize, enough: usize, until: Option<Instant>, ledger: &Ledger) -> Taken {
        let mut state = self.lock();
        while !state.has(enough) && state.closed.is_none() {
            state.wake_at = Some(enough);
            state = match until {
                None => self.blocking.wait(state).unwrap_or_else(PoisonError::into_inner),
                Some(until) => {
                    let left = until.saturating_duration_since(Instant::now());
                    if left.is_zero() {
                        break;
                    }
                    self.blocking.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0
                }
            };
        }
        state.wake_at = None;
        state.take(max, ledger)
    }

    /// [`Queue::take`] for a task.
    pub(super) async fn take_async(
        &self,
        max: usize,
        enough: usize,
        until: Option<Instant>,
        ledger: &Ledger,
    ) -> Taken {
        loop {
            {
                let mut state = self.lock();
                let over = until.is_some_and(|until| until <= Instant::now());
                if state.has(enough) || state.closed.is_some() || over {
                    state.wake_at = None;
                    return state.take(max, ledger);
                }
                state.wake_at = Some(enough);
            }
            // A wake-up between the lock above and here is kept by `Notify`.
            match until {
                None => self.tasks.notified().await,
                Some(until) => {
                    let _ = tokio::time::timeout_at(until.into(), self.tasks.notified()).await;
                }
            }
        }
    }

    fn wake(&self) {
        self.blocking.notify_one();
        self.tasks.notify_one();
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// Drops the oldest spans until the limits hold; returns how many.
    fn fit(&mut self, limits: Limits) -> usize {
        let before = self.spans;
        while self.bytes > limits.bytes
            && let Some(oldest) = self.pieces.pop_front()
        {
            self.spans -= oldest.len();
            self.bytes -= oldest.bytes;
        }
        while self.spans > limits.spans
            && let Some(oldest) = self.pieces.front_mut()
        {
            let excess = self.spans - limits.spans;
            if excess < oldest.len() {
                oldest.split_front(excess);
                self.spans -= excess;
            } else if let Some(oldest) = self.pieces.pop_front() {
                self.spans -= oldest.len();
                self.bytes -= oldest.bytes;
            }
        }
        before - self.spans
    }

    /// There are so many spans, or as many as are taken at once.
    fn has(&self, enough: usize) -> bool {
        self.spans >= enough || self.bytes >= TAKE_BYTES
    }

    fn take(&mut self, max: usize, ledger: &Ledger) -> Taken {
        let mut pieces = Vec::new();
        let (mut spans, mut bytes) = (0, 0);
        while spans < max
            && bytes < TAKE_BYTES
            && let Some(front) = self.pieces.front_mut()
        {
            if front.len() > max - spans {
                bytes += front.bytes;
                pieces.push(front.split_front(max - spans));
                spans = max;
            } else if let Some(whole) = self.pieces.pop_front() {
                spans += whole.len();
                bytes += whole.bytes;
                self.bytes -= whole.bytes;
                pieces.push(whole);
            }
        }
        self.spans -= spans;
        ledger.took(spans as u64);
        Taken { pieces, spans, closed: self.closed }
    }
}
