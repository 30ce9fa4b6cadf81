//! Sends one batch after the other to one endpoint: again where the specification allows it, in halves where the backend finds
//! it too large. What becomes of each item is settled in the ledger, and what is new about the endpoint is said.

use std::collections::hash_map::RandomState;
use std::hash::BuildHasher;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::time::{sleep_until, timeout, timeout_at};

use super::super::ledger::Ledger;
use super::outcome::Outcome;
use super::payload::Payload;
use super::transport::Transport;
use super::waiting::Waiting;
use crate::telemetry::{Delivery, Seldom, Signal};

/// First wait after a failure. Each further one is half as long again, up to [`BACKOFF_MOST`].
pub(super) const BACKOFF_FIRST: Duration = Duration::from_secs(1);

/// Longest wait between two attempts, unless the backend asks for more.
const BACKOFF_MOST: Duration = Duration::from_secs(10);

#[derive(Debug)]
pub(super) struct Sender {
    transport: Transport,
    signal: Signal,
    /// The endpoint as it is named in messages.
    name: String,
    /// Bound of one attempt.
    timeout: Duration,
    /// Bound of all attempts with one batch, while others want its place.
    patience: Duration,
    backoff_first: Duration,
    state: Mutex<State>,
}

/// What is known of the endpoint, over all batches.
#[derive(Debug)]
pub(super) struct State {
    pub(super) health: Health,
    /// The backend asked for silence until then.
    pub(super) silent_until: Option<Instant>,
    down: Seldom,
    refusing: Seldom,
    partial: Seldom,
    /// Items rejected since that was last said.
    rejected: u64,
    /// Trouble was said and its end was not.
    said: bool,
}

/// Each change is said once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Health {
    Up,
    Down,
    Refusing,
}

/// What is left to do with a batch after it could not be delivered as it was.
enum Next<P> {
    Done,
    Halves(P, P),
}

impl Sender {
    pub(super) fn new(
        transport: Transport,
        signal: Signal,
        name: String,
        (timeout, patience): (Duration, Duration),
        backoff_first: Duration,
    ) -> Self {
        let state = State {
            health: Health::Up,
            silent_until: None,
            down: Seldom::default(),
            refusing: Seldom::default(),
            partial: Seldom::default(),
            rejected: 0,
            said: false,
        };
        Self {
            transport,
            signal,
            name,
            timeout: timeout.min(patience),
            patience,
            backoff_first,
            state: Mutex::new(state),
        }
    }

    /// Sends a batch until each of its items is accepted, refused or out of time; settles them.
    pub(super) async fn deliver<P: Payload>(&self, payload: P, waiting: &impl Waiting, ledger: &Ledger) {
        // Halves of halves: never more than one for each halving of the number of items.
        let mut left = vec![payload];
        let deadline = Instant::now() + self.patience;
        while let Some(payload) = left.pop() {
            if let Next::Halves(front, back) = self.deliver_whole(payload, deadline, waiting, ledger).await {
                left.push(back);
                left.push(front);
            }
        }
    }

    async fn deliver_whole<P: Payload>(
        &self,
        payload: P,
        mut deadline: Instant,
        waiting: &impl Waiting,
        ledger: &Ledger,
    ) -> Next<P> {
        let items = payload.items();
        let lost = |outcome| {
            ledger.settled(outcome, items);
            Next::Done
        };
        let request = match self.transport.request(payload.encode(self.transport.encoding())) {
            Ok(request) => request,
            Err(error) => {
                self.changed(Health::Refusing, &format!("cannot compress: {error}"));
                return lost(Delivery::Refused);
            }
        };
        let mut backoff = self.backoff_first;
        loop {
            let now = Instant::now();
            let end = waiting.deadline();
            if end.is_none() && now >= deadline && waiting.has_room() {
                // Nothing is won by giving it up: a backend that was away for some minutes shall not cost a span.
                deadline = now + self.patience;
            }
            let silent_until = self.lock().silent_until.filter(|until| *until > now);
            if now >= deadline || silent_until.zip(end).is_some_and(|(until, end)| until >= end) {
                return lost(Delivery::Undelivered);
            }
            if let Some(until) = silent_until {
                pause(waiting, until.min(deadline)).await;
                continue;
            }
            let attempt = timeout(self.timeout.min(deadline - now), self.transport.send(&request)).await;
            match attempt.unwrap_or_else(|_| Outcome::unanswered("no answer in time")) {
                Outcome::Accepted(answer) => {
                    let rejected = answer.rejected.min(items);
                    ledger.settled(Delivery::Accepted, items - rejected);
                    ledger.settled(Delivery::Rejected, rejected);
                    self.accepted(rejected, &answer.message);
                    return Next::Done;
                }
                Outcome::Refused(why) => {
                    self.changed(Health::Refusing, &why);
                    return lost(Delivery::Refused);
                }
                Outcome::TooLarge(why) => match payload.split() {
                    Ok((front, back)) => {
                        tracing::debug!("{} finds {items} {} too much: {why}", self.name, P::SIGNAL.items());
                        return Next::Halves(front, back);
                    }
                    Err(_) => {
                        self.changed(Health::Refusing, &why);
                        return lost(Delivery::TooLarge);
                    }
                },
                Outcome::Retry { after, why } => {
                    let wait = after.unwrap_or_else(|| jittered(backoff));
                    backoff = (backoff * 3 / 2).min(BACKOFF_MOST.max(self.backoff_first));
                    let was_down = self.failed(after, &why);
                    if was_down && end.is_some() {
                        // Nobody wants to wait at the end for an endpoint that had been down before.
                        return lost(Delivery::Undelivered);
                    }
                    pause(waiting, (Instant::now() + wait).min(deadline)).await;
                }
            }
        }
    }

    fn accepted(&self, rejected: u64, message: &str) {
        self.changed(Health::Up, "");
        if rejected == 0 && message.is_empty() {
            return;
        }
        let mut state = self.lock();
        state.rejected += rejected;
        if state.partial.again(Instant::now()) {
            let rejected = std::mem::take(&mut state.rejected);
            drop(state);
            let items = self.signal.items();
            tracing::warn!(
                "{} takes requests but not all {items} in them, {rejected} rejected: {message:?}",
                self.name
            );
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

    /// Says what is new about the endpoint, any one thing once a minute at most.
    fn changed(&self, health: Health, why: &str) {
        let mut state = self.lock();
        let before = std::mem::replace(&mut state.health, health);
        if before == health {
            return;
        }
        let now = Instant::now();
        let say = match health {
            Health::Up => std::mem::take(&mut state.said),
            Health::Down => state.down.again(now),
            Health::Refusing => state.refusing.again(now),
        };
        state.said |= say && health != Health::Up;
        drop(state);
        if !say {
            return;
        }
        let (name, items) = (&self.name, self.signal.items());
        match health {
            Health::Up => tracing::info!("{name} takes {items} again"),
            Health::Down => tracing::warn!(
                "cannot send {items} to {name}: {why}; trying again, what cannot wait is counted as queue_full or export_failed"
            ),
            Health::Refusing => {
                tracing::error!("{name} refuses {items}: {why}; they are counted as export_failed");
            }
        }
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Waits. The end of the run cuts the wait short, for one more attempt, unless it had begun before.
async fn pause(waiting: &impl Waiting, until: Instant) {
    if waiting.deadline().is_some() {
        sleep_until(until.into()).await;
    } else {
        let _ = timeout_at(until.into(), waiting.closed()).await;
    }
}

/// Between half of the wait and all of it, so that many agents do not come back at once.
fn jittered(wait: Duration) -> Duration {
    // A fresh `RandomState` is as random as one needs here.
    let random = RandomState::new().hash_one(0) % 1_024;
    wait / 2 + wait.mul_f64(random as f64 / 2_048.0)
}
