//! Spans and metrics to OTLP endpoints: batched, repeated where the specification allows it, and accounted for to the last one.
//!
//! [`payload::Payload`] is what a signal has to say of itself: how many items, how it is written, how it is halved. Everything
//! else is the same for all signals: [`sender`] decides what becomes of a batch, [`transport`] sends bytes.

mod encode;
mod outcome;
pub(super) mod payload;
mod sender;
mod transport;
pub(super) mod waiting;

pub(crate) use transport::USER_AGENT;

use std::sync::Arc;
use std::time::{Duration, Instant};

use payload::{Payload, Spans};
use sender::{BACKOFF_FIRST, Sender};
use tokio::runtime::Runtime;
use tokio::task::JoinSet;
use transport::Transport;
use waiting::Mailbox;

use super::OutputError;
use super::ledger::Ledger;
use super::queue::{Queue, Taken};
use crate::config::{Batching, Otlp};
use crate::telemetry::Signal;

/// Batches of spans that are on their way at once: over a network, one at a time would be bound by its latency.
const IN_FLIGHT: usize = 4;

/// Sends one signal to one endpoint.
#[derive(Debug)]
pub(super) struct Exporter {
    /// A single thread: the work is small, and a pool would cost more memory than the rest of the exporter.
    runtime: Runtime,
    sender: Arc<Sender>,
}

impl Exporter {
    /// Prepares an exporter; connects nowhere yet. `patience` bounds all attempts with one batch.
    ///
    /// # Errors
    /// When a certificate cannot be used.
    pub(super) fn new(otlp: &Otlp, signal: Signal, patience: Duration) -> Result<Self, OutputError> {
        Self::with_backoff(otlp, signal, patience, BACKOFF_FIRST)
    }

    fn with_backoff(
        otlp: &Otlp,
        signal: Signal,
        patience: Duration,
        first: Duration,
    ) -> Result<Self, OutputError> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .max_blocking_threads(1)
            .build()
            .map_err(OutputError::Thread)?;
        let transport = {
            let _within = runtime.enter();
            Transport::new(otlp, signal)?
        };
        let uri = otlp.endpoint.uri();
        let name = format!("{}:{}", uri.host().unwrap_or_default(), otlp.endpoint.port());
        let sender = Arc::new(Sender::new(transport, signal, name, (otlp.timeout, patience), first));
        Ok(Self { runtime, sender })
    }

    /// Sends spans until the queue is closed and empty.
    pub(super) fn run_spans(self, batching: Batching, queue: &Arc<Queue>, ledger: &Arc<Ledger>) {
        let Self { runtime, sender } = self;
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
                    flights.spawn(async move { sender.deliver(Spans(pieces), &*queue, &ledger).await });
                } else if closed.is_some() {
                    break;
                }
            }
            while flights.join_next().await.is_some() {}
        });
        // Whatever a task that panicked had taken.
        ledger.abandon(0);
    }

    #[cfg_attr(not(test), expect(dead_code, reason = "metrics, the one collected signal, are not wired yet"))]
    /// Sends what is collected at intervals, one batch after the other, until the mailbox is closed and empty.
    pub(super) fn run_collected<P: Payload>(self, mailbox: &Mailbox<P>, ledger: &Ledger) {
        let Self { runtime, sender } = self;
        runtime.block_on(async {
            while let Some(batch) = mailbox.take(ledger).await {
                sender.deliver(batch, mailbox, ledger).await;
            }
        });
    }
}

#[cfg(test)]
mod tests;
