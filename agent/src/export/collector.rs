//! Metrics at intervals, and once more at the end: collected once, told to every output alike.

use std::sync::{Arc, Mutex, PoisonError, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use super::OutputError;
use super::json;
use super::ledger::Ledger;
use super::meter::Meter;
use super::otlp::{Exporter, Mailbox, Metrics};
use super::sink::Sink;
use crate::metrics::ResourceMetrics;

/// Collections that wait for one endpoint at most. With cumulative points the newest says all; deltas of some minutes are kept.
const WAITING: usize = 8;

/// Who is told of metrics.
#[derive(Debug)]
pub(super) enum Taker {
    /// A line of JSON each time.
    Json(Arc<Mutex<Sink>>, Ledger),
    /// An endpoint, with a thread of its own.
    Otlp {
        mailbox: Arc<Mailbox<Metrics>>,
        ledger: Arc<Ledger>,
        /// Hangs up when the thread ends.
        ended: mpsc::Receiver<()>,
    },
}

/// The thread that collects.
#[derive(Debug)]
pub(super) struct Collector {
    /// Until when everything has to be delivered.
    end: mpsc::Sender<Instant>,
    ended: mpsc::Receiver<()>,
}

impl Taker {
    pub(super) fn otlp(exporter: Exporter, ledger: Ledger) -> Result<Self, OutputError> {
        let (mailbox, ledger) = (Arc::new(Mailbox::new(WAITING)), Arc::new(ledger));
        let (hold, ended) = mpsc::channel::<()>();
        let (there, ledger_there) = (Arc::clone(&mailbox), Arc::clone(&ledger));
        thread::Builder::new()
            .name("sonde-otlp-m".to_owned())
            .spawn(move || {
                let _hold = hold;
                exporter.run_collected(&there, &ledger_there);
            })
            .map_err(OutputError::Thread)?;
        Ok(Self::Otlp { mailbox, ledger, ended })
    }

    fn take(&self, all: &Arc<Vec<ResourceMetrics>>) {
        match self {
            Self::Json(sink, ledger) => {
                let mut line = Vec::new();
                json::metrics::encode(all, &mut line);
                line.push(b'\n');
                let points = all.iter().map(|one| one.points() as u64).sum();
                ledger.took(points);
                sink.lock().unwrap_or_else(PoisonError::into_inner).write(&line, points, ledger);
            }
            Self::Otlp { mailbox, ledger, .. } => mailbox.push(Metrics(Arc::clone(all)), ledger),
        }
    }

    fn close(&self, deadline: Instant) {
        if let Self::Otlp { mailbox, .. } = self {
            mailbox.close(deadline);
        }
    }

    fn finish(self, deadline: Instant) {
        if let Self::Otlp { mailbox, ledger, ended } = self {
            let left = deadline.saturating_duration_since(Instant::now());
            // Nothing is ever sent: either the thread ends, or the time is over.
            if ended.recv_timeout(left) == Err(mpsc::RecvTimeoutError::Timeout) {
                ledger.abandon(mailbox.clear());
            }
        }
    }
}

impl Collector {
    /// Collects at an interval, and at the end; without an interval at the end alone.
    pub(super) fn start(
        meter: Arc<Meter>,
        takers: Vec<Taker>,
        interval: Option<Duration>,
    ) -> Result<Self, OutputError> {
        let (end, ending) = mpsc::channel();
        let (hold, ended) = mpsc::channel::<()>();
        thread::Builder::new()
            .name("sonde-metrics".to_owned())
            .spawn(move || {
                let _hold = hold;
                run(&meter, takers, interval, &ending);
            })
            .map_err(OutputError::Thread)?;
        Ok(Self { end, ended })
    }

    /// Collects for the last time. Returns when all is delivered or the deadline is over.
    pub(super) fn finish(self, deadline: Instant) {
        // Where the thread has failed there is nothing to wait for.
        if self.end.send(deadline).is_ok() {
            let left = deadline.saturating_duration_since(Instant::now());
            let _ = self.ended.recv_timeout(left + Duration::from_millis(100));
        }
    }
}

fn run(meter: &Meter, takers: Vec<Taker>, interval: Option<Duration>, ending: &mpsc::Receiver<Instant>) {
    let begun = Instant::now();
    let mut cycle = 1_u32;
    let deadline = loop {
        let asked = match interval {
            None => ending.recv().map_err(|_| mpsc::RecvTimeoutError::Disconnected),
            Some(interval) => {
                // Counted from the beginning: what a collection takes does not add up.
                let next = begun + interval.saturating_mul(cycle);
                ending.recv_timeout(next.saturating_duration_since(Instant::now()))
            }
        };
        match asked {
            Ok(deadline) => break deadline,
            // The outputs were dropped: starting one of them failed.
            Err(mpsc::RecvTimeoutError::Disconnected) => break Instant::now(),
            Err(mpsc::RecvTimeoutError::Timeout) => {
                tell(meter, &takers);
                cycle = cycle.saturating_add(1);
            }
        }
    };
    tell(meter, &takers);
    takers.iter().for_each(|taker| taker.close(deadline));
    takers.into_iter().for_each(|taker| taker.finish(deadline));
}

fn tell(meter: &Meter, takers: &[Taker]) {
    let all = Arc::new(meter.pushed());
    if !all.is_empty() {
        takers.iter().for_each(|taker| taker.take(&all));
    }
}
