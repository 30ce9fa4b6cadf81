//! Spans to an OTLP endpoint: batched, repeated where the specification allows it, and accounted for to the last one.

mod encode;
mod outcome;
mod transport;

pub(crate) use transport::USER_AGENT;

use std::collections::hash_map::RandomState;
use std::hash::BuildHasher;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use outcome::Outcome;
use tokio::runtime::Runtime;
use tokio::task::JoinSet;
use tokio::time::{sleep_until, timeout, timeout_at};
use transport::Transport;

use super::OutputError;
use super::batch::Piece;
use super::ledger::Ledger;
use super::queue::{Queue, Taken};
use crate::config::{Batching, Otlp};

/// Batches that are on their way at once: over a network, one at a time would be bound by its latency.
const IN_FLIGHT: usize = 4;

/// First wait after a failure. Each further one is half as long again, up to [`BACKOFF_MOST`].
const BACKOFF_FIRST: Duration = Duration::from_secs(1);

/// Longest wait between two attempts, unless the backend asks for more.
const BACKOFF_MOST: Duration = Duration::from_secs(10);

/// Sends spans to one endpoint.
#[derive(Debug)]
pub(super) struct Exporter {
    /// A single thread: the work is small, and a pool would cost more memory than the rest of the exporter.
    runtime: Runtime,
    batching: Batching,
    sender: Arc<Sender>,
}

#[derive(Debug)]
struct Sender {
    transport: Transport,
    /// The endpoint as it is named in messages.
    name: String,
    timeout: Duration,
    batching: Batching,
    backoff_first: Duration,
    state: Mutex<State>,
}

/// What is known of the endpoint, over all batches.
#[derive(Debug)]
struct State {
    health: Health,
    /// The backend asked for silence until then.
    silent_until: Option<Instant>,
    said_partial: bool,
}

/// Each change is said once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Health {
    Up,
    Down,
    Refusing,
}

impl Exporter {
    pub(super) fn new(otlp: &Otlp, batching: Batching) -> Result<Self, OutputError> {
        Self::with_backoff(otlp, batching, BACKOFF_FIRST)
    }

    fn with_backoff(otlp: &Otlp, batching: Batching, first: Duration) -> Result<Self, OutputError> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .max_blocking_threads(1)
            .build()
            .map_err(OutputError::Thread)?;
        let transport = {
            let _within = runtime.enter();
            Transport::new(otlp)?
        };
        let uri = otlp.endpoint.uri();
        let sender = Arc::new(Sender {
            transport,
            name: format!("{}:{}", uri.host().unwrap_or_default(), port(uri)),
            timeout: otlp.timeout,
            batching,
            backoff_first: first,
            state: Mutex::new(State { health: Health::Up, silent_until: None, said_partial: false }),
        });
        Ok(Self { runtime, batching, sender })
    }

    /// Sends spans until the queue is closed and empty.
    pub(super) fn run(self, queue: &Arc<Queue>, ledger: &Arc<Ledger>) {
        let Self { runtime, batching, sender } = self;
        runtime.block_on(async {
            let mut flights = JoinSet::new();
            loop {
                while flights.try_join_next().is_some() {}
                if flights.len() >= IN_FLIGHT {
                    flights.join_next().await;
                }
                // The delay counts from the first span of a batch on.
                let first = queue.take_async(0, 1, None, ledger).await;
                let until = first.closed.is_none().then(|| Instant::now() + batching.delay);
                let Taken { pieces, spans, closed } =
                    queue.take_async(batching.batch, batching.batch, until, ledger).await;
                if spans > 0 {
                    let (sender, queue, ledger) =
                        (Arc::clone(&sender), Arc::clone(queue), Arc::clone(ledger));
                    flights
                        .spawn(async move { sender.deliver(&pieces, spans as u64, &queue, &ledger).await });
                } else if closed.is_some() {
                    break;
                }
            }
            while flights.join_next().await.is_some() {}
        });
        // Whatever a task that panicked had taken.
        ledger.abandon(0);
    }
}

impl Sender {
    /// Sends a batch, repeatedly where that may help, until it is accepted, refused or out of time; settles its spans.
    async fn deliver(&self, pieces: &[Piece], spans: u64, queue: &Queue, ledger: &Ledger) {
        let deadline = Instant::now() + self.batching.timeout;
        let mut backoff = self.backoff_first;
        loop {
            let now = Instant::now();
            let end = queue.deadline();
            let silent_until = self.lock().silent_until.filter(|until| *until > now);
            if now >= deadline || silent_until.zip(end).is_some_and(|(until, end)| until >= end) {
                return ledger.lost(spans);
            }
            if let Some(until) = silent_until {
                pause(queue, until.min(deadline)).await;
                continue;
            }
            let attempt = timeout(self.timeout.min(deadline - now), self.transport.send(pieces)).await;
            match attempt.unwrap_or_else(|_| Outcome::unanswered("no answer in time")) {
                Outcome::Accepted(answer) => {
                    let rejected = answer.rejected.min(spans);
                    ledger.exported(spans - rejected);
                    ledger.lost(rejected);
                    return self.accepted(rejected, &answer.message);
                }
                Outcome::Refused(why) => {
                    ledger.lost(spans);
                    return self.changed(Health::Refusing, &why);
                }
                Outcome::Retry { after, why } => {
                    let wait = after.unwrap_or_else(|| jittered(backoff));
                    backoff = (backoff * 3 / 2).min(BACKOFF_MOST.max(self.backoff_first));
                    let was_down = self.failed(after, &why);
                    if was_down && end.is_some() {
                        // Nobody wants to wait at the end for an endpoint that had been down before.
                        return ledger.lost(spans);
                    }
                    pause(queue, (Instant::now() + wait).min(deadline)).await;
                }
            }
        }
    }

    fn accepted(&self, rejected: u64, message: &str) {
        self.changed(Health::Up, "");
        let has_news = rejected > 0 || !message.is_empty();
        if has_news && !std::mem::replace(&mut self.lock().said_partial, true) {
            tracing::warn!("{} rejects some spans, {rejected} this time: {message:?}", self.name);
        }
    }

    /// Notes that an attempt failed; says whether the endpoint was down before.
    fn failed(&self, after: Option<Duration>, why: &str) -> bool {
        let mut state = self.lock();
        let was_down = state.health == Health::Down;
        if let Some(after) = after {
            let until = Instant::now() + after;
            state.silent_until = Some(state.silent_until.map_or(until, |known| known.max(until)));
        }
        drop(state);
        self.changed(Health::Down, why);
        was_down
    }

    /// Says what is new about the endpoint.
    fn changed(&self, health: Health, why: &str) {
        let before = std::mem::replace(&mut self.lock().health, health);
        if before == health {
            return;
        }
        match health {
            Health::Up => tracing::info!("{} takes spans again", self.name),
            Health::Down => tracing::warn!(
                "cannot send spans to {}: {why}; trying again, what cannot wait is counted as queue_full or export_failed",
                self.name
            ),
            Health::Refusing => {
                tracing::error!("{} refuses spans: {why}; they are counted as export_failed", self.name);
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Waits. The end of the run cuts the wait short, for one more attempt, unless it had begun before.
async fn pause(queue: &Queue, until: Instant) {
    if queue.deadline().is_some() {
        sleep_until(until.into()).await;
    } else {
        let _ = timeout_at(until.into(), queue.closed()).await;
    }
}

fn port(uri: &http::Uri) -> u16 {
    uri.port_u16().unwrap_or(if uri.scheme() == Some(&http::uri::Scheme::HTTPS) { 443 } else { 80 })
}

/// Between half of the wait and all of it, so that many agents do not come back at once.
fn jittered(wait: Duration) -> Duration {
    // A fresh `RandomState` is as random as one needs here.
    let random = RandomState::new().hash_one(0) % 1_024;
    wait / 2 + wait.mul_f64(random as f64 / 2_048.0)
}

#[cfg(test)]
mod tests;
