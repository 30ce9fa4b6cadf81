//! The bounded queue before an output. Full, it drops the oldest spans and counts them, or lets whoever adds wait.

use std::collections::VecDeque;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use tokio::sync::Notify;

use super::batch::Piece;
use super::ledger::Ledger;
use crate::config::WhenFull;

/// Estimated bytes of what is taken at once: OTLP backends take requests of 4 MiB by default, and no taker should hold more.
const TAKE_BYTES: usize = 2 << 20;

/// What may wait in a queue.
#[derive(Clone, Copy, Debug)]
pub(super) struct Limits {
    /// Spans.
    pub(super) spans: usize,
    /// Estimated bytes.
    pub(super) bytes: usize,
    /// What happens at the limits.
    pub(super) when_full: WhenFull,
}

/// Spans that wait for one output. Any thread may add to it, one takes.
#[derive(Debug)]
pub(super) struct Queue {
    limits: Limits,
    state: Mutex<State>,
    blocking: Condvar,
    room: Condvar,
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
            room: Condvar::new(),
            tasks: Notify::new(),
            closing: Notify::new(),
        }
    }

    /// Adds spans. Where the limits demand it, drops the oldest or waits for room.
    pub(super) fn push(&self, piece: Piece, ledger: &Ledger) {
        let mut state = self.lock();
        if self.limits.when_full == WhenFull::Wait {
            let is_full = |state: &mut State| !state.fits(&piece, self.limits) && state.closed.is_none();
            state = self.room.wait_while(state, is_full).unwrap_or_else(PoisonError::into_inner);
        }
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
        self.room.notify_all();
        self.closing.notify_waiters();
    }

    /// Where no more spans will come: until when what is left should be delivered.
    pub(super) fn deadline(&self) -> Option<Instant> {
        self.lock().closed
    }

    /// Whether a quarter of each limit is still free: nothing will be dropped soon.
    pub(super) fn has_room(&self) -> bool {
        let state = self.lock();
        state.spans <= self.limits.spans / 4 * 3 && state.bytes <= self.limits.bytes / 4 * 3
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
        self.leave(state, max, ledger)
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
                    return self.leave(state, max, ledger);
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

    fn leave(&self, mut state: MutexGuard<'_, State>, max: usize, ledger: &Ledger) -> Taken {
        let taken = state.take(max, ledger);
        drop(state);
        if taken.spans > 0 {
            self.room.notify_all();
        }
        taken
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
    /// Whether there is room for spans; an empty queue has room for any.
    fn fits(&self, piece: &Piece, limits: Limits) -> bool {
        self.spans == 0
            || self.spans + piece.len() <= limits.spans && self.bytes + piece.bytes <= limits.bytes
    }

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

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::enrich::Resource;
    use crate::export::batch::pieces;
    use crate::export::fixtures::{resource, span};
    use crate::telemetry::{Counters, Lost};

    struct Rig {
        queue: Queue,
        ledger: Ledger,
        counters: Arc<Counters>,
        /// Every span that is alive holds it once more.
        resource: Arc<Resource>,
        produced: u64,
    }

    impl Rig {
        fn new(spans: usize, bytes: usize, when_full: WhenFull) -> Self {
            let counters = Arc::new(Counters::default());
            Self {
                queue: Queue::new(Limits { spans, bytes, when_full }),
                ledger: Ledger::writing(Arc::clone(&counters)),
                counters,
                resource: Arc::new(resource("a")),
                produced: 0,
            }
        }

        fn spans(&mut self, n: u64, text: usize) -> Vec<Piece> {
            let from = self.produced;
            self.produced += n;
            pieces(
                (from..self.produced)
                    .map(|at| {
                        let mut span = span("GET", at, at);
                        span.context.trace_state = "x".repeat(text).into();
                        (Arc::clone(&self.resource), span)
                    })
                    .collect(),
            )
        }

        fn push(&mut self, n: u64, text: usize) {
            for piece in self.spans(n, text) {
                self.queue.push(piece, &self.ledger);
            }
        }

        fn alive(&self) -> usize {
            Arc::strong_count(&self.resource) - 1
        }

        fn take(&self, max: usize) -> Vec<u64> {
            let taken = self.queue.take(max, 0, None, &self.ledger);
            let starts: Vec<u64> =
                taken.pieces.iter().flat_map(Piece::items).map(|(_, span)| span.start).collect();
            assert_eq!(starts.len(), taken.spans);
            starts
        }
    }

    #[test]
    fn the_oldest_spans_beyond_the_number_are_dropped_and_counted() {
        let mut rig = Rig::new(1_000, usize::MAX, WhenFull::Drop);
        for n in [300, 300, 300, 300, 5, 2_000, 1] {
            rig.push(n, 0);
        }
        assert_eq!(rig.counters.lost(Lost::QueueFull), 2_206);
        // Pieces of 256: of the oldest one some may be alive and not wait any more.
        assert!(rig.alive() < 1_000 + 256, "{}", rig.alive());
        assert_eq!(rig.take(usize::MAX), (2_206..3_206).collect::<Vec<_>>());
        assert_eq!(rig.alive(), 0);
    }

    #[test]
    fn memory_is_bounded_however_large_spans_are() {
        let mut rig = Rig::new(1_000_000, 1 << 20, WhenFull::Drop);
        for _ in 0..100 {
            rig.push(10, 50_000);
            assert!(rig.alive() * 50_000 <= 1 << 20, "{} alive", rig.alive());
        }
        let left = rig.take(usize::MAX);
        assert!(left.len() >= 10, "{left:?}");
        assert_eq!(rig.counters.lost(Lost::QueueFull) + left.len() as u64, 1_000);
        assert_eq!(left.last(), Some(&999));
    }

    #[test]
    fn spans_are_taken_in_order_and_no_more_than_asked_for() {
        let mut rig = Rig::new(10_000, usize::MAX, WhenFull::Drop);
        rig.push(700, 0);
        assert_eq!(rig.take(10), (0..10).collect::<Vec<_>>());
        assert_eq!(rig.take(500), (10..510).collect::<Vec<_>>());
        assert_eq!(rig.take(500), (510..700).collect::<Vec<_>>());
        assert_eq!(rig.take(500), [0; 0]);
        rig.push(100, 50_000);
        assert!(rig.take(100).len() * 50_000 <= TAKE_BYTES + (256 << 10));
    }

    #[test]
    fn who_waits_for_room_loses_nothing() {
        let mut rig = Rig::new(1_000, usize::MAX, WhenFull::Wait);
        let many = rig.spans(10_000, 0);
        std::thread::scope(|scope| {
            let rig = &rig;
            scope.spawn(move || many.into_iter().for_each(|piece| rig.queue.push(piece, &rig.ledger)));
            let mut next = 0;
            while next < 10_000 {
                let taken = rig.queue.take(100, 1, None, &rig.ledger);
                for (_, span) in taken.pieces.iter().flat_map(Piece::items) {
                    assert_eq!(span.start, next);
                    next += 1;
                }
            }
        });
        assert_eq!((rig.counters.lost(Lost::QueueFull), rig.alive()), (0, 0));
    }

    #[test]
    fn a_closed_queue_takes_no_more_and_lets_nobody_wait() {
        let mut rig = Rig::new(10, usize::MAX, WhenFull::Wait);
        rig.push(10, 0);
        rig.queue.close(Instant::now());
        rig.push(10, 0);
        assert_eq!(rig.counters.lost(Lost::QueueFull), 10);
        let taken = rig.queue.take(100, 100, None, &rig.ledger);
        assert_eq!((taken.spans, taken.closed.is_some()), (10, true));
        assert_eq!(rig.queue.clear(), 0);
    }
}
