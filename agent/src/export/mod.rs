//! Outputs: where spans and metrics go.
//!
//! Each output has a thread and a bounded queue of its own, so that none can hold up the pipeline or another output. What
//! an output cannot take is dropped oldest first and counted; what it took and could not deliver is counted too, so that
//! delivered and lost spans add up to those made, per output.

mod batch;
mod collector;
mod console;
#[cfg(test)]
pub(crate) mod fixtures;
mod json;
mod ledger;
mod meter;
mod otlp;
mod queue;
mod sink;
mod text;
mod wire;

use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError, mpsc};
use std::thread;
use std::time::Instant;

pub use batch::Item;
use collector::{Collector, Taker};
use ledger::Ledger;
use meter::Meter;
pub(crate) use otlp::USER_AGENT;
pub use otlp::{Checked, Reached, check};
use queue::{Limits, Queue};
use sink::Sink;

use crate::config::{OutputSpec, OutputsConfig, WhenFull};
use crate::metrics::Red;
use crate::telemetry::{Counters, Signal};
use crate::web::{Server, ServerError};

/// Series of the console's RED table at most.
const RED_SERIES: usize = 2_000;

/// Bytes of spans that may wait for one output, estimated. Spans of usual size meet the limit of their number first.
const QUEUE_BYTES: usize = 16 << 20;

/// Spans that may wait to be written to standard output or a file: what comes within a tenth of a second of full load, and
/// less than five megabytes.
const WRITER_QUEUE: usize = 6_144;

/// Why an output could not be started.
#[derive(Debug, thiserror::Error)]
pub enum OutputError {
    /// A file cannot be written.
    #[error("cannot write {path}: {source}")]
    File {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Standard output is not there.
    #[error("cannot write to standard output: {0}")]
    Stdout(io::Error),
    /// The certificates to trust cannot be used.
    #[error("cannot use the certificates in {path}: {problem}")]
    Certificate {
        /// Their file.
        path: PathBuf,
        /// Why.
        problem: String,
    },
    /// The OTLP client cannot be set up.
    #[error("cannot set up OTLP: {0}")]
    Otlp(String),
    /// The listener for scrapers and health cannot be bound.
    #[error(transparent)]
    Listen(#[from] ServerError),
    /// No thread.
    #[error("cannot start a thread: {0}")]
    Thread(io::Error),
}

/// The outputs at work.
#[derive(Debug)]
pub struct Outputs {
    running: Vec<Running>,
    /// Aggregated for whoever shows it; `None` where nobody does.
    red: Option<Arc<Mutex<Red>>>,
    meter: Arc<Meter>,
    /// Spans leave Sonde.
    exported: bool,
    collector: Option<Collector>,
    /// Answers until it is dropped.
    _web: Option<Server>,
}

#[derive(Debug)]
struct Running {
    queue: Arc<Queue>,
    ledger: Arc<Ledger>,
    /// Hangs up when the thread ends.
    ended: mpsc::Receiver<()>,
}

impl Outputs {
    /// Starts the outputs.
    ///
    /// # Errors
    /// When a file cannot be opened, a certificate not be read or a thread not be started. An endpoint that does not answer
    /// is none: it is said when the first spans cannot be sent.
    pub fn start(config: &OutputsConfig, counters: &Arc<Counters>) -> Result<Self, OutputError> {
        let replayed = config.when_full == WhenFull::Wait;
        let pushed = config.metrics.outputs.iter().any(|output| *output != OutputSpec::Console);
        let meter =
            Arc::new(Meter::new(&config.metrics, (pushed, config.metrics.pulled), replayed, counters));
        let mut outputs = Self::bare(Arc::clone(&meter), !config.outputs.is_empty());
        let mut sinks = Sinks::default();
        let limits = |spans| Limits { spans, bytes: QUEUE_BYTES, when_full: config.when_full };
        for output in &config.outputs {
            match output {
                OutputSpec::Console => {
                    let red = Arc::new(Mutex::new(Red::new(RED_SERIES)));
                    outputs.red = Some(Arc::clone(&red));
                    let (sink, is_terminal) = Sink::stdout().map_err(OutputError::Stdout)?;
                    let console = console::Console::new(is_terminal && !config.plain, replayed, red);
                    let ledger = Ledger::writing(Arc::clone(counters));
                    outputs.spawn("console", limits(WRITER_QUEUE), ledger, |queue, ledger| {
                        console.run(&queue, &ledger, sink);
                    })?;
                }
                OutputSpec::Json(file) => {
                    let sink = sinks.open(file.as_deref())?;
                    let ledger = Ledger::writing(Arc::clone(counters));
                    outputs.spawn("json", limits(WRITER_QUEUE), ledger, move |queue, ledger| {
                        json::run(&queue, &ledger, &sink);
                    })?;
                }
                OutputSpec::Otlp => {
                    let Some(otlp) = &config.otlp else { continue };
                    let batching = config.batching;
                    let exporter = otlp::Exporter::new(otlp, Signal::Traces, batching.timeout)?;
                    let ledger = Ledger::exporting(Arc::clone(counters), Signal::Traces);
                    outputs.spawn("otlp", limits(batching.queue), ledger, move |queue, ledger| {
                        exporter.run_spans(batching, &queue, &ledger);
                    })?;
                }
                OutputSpec::None => {}
            }
        }
        if pushed {
            let interval = (!replayed).then_some(config.metric_reading.interval);
            let mut takers = Vec::new();
            for output in &config.metrics.outputs {
                match output {
                    OutputSpec::Json(file) => {
                        let ledger = Ledger::writing(Arc::clone(counters));
                        takers.push(Taker::Json(sinks.open(file.as_deref())?, ledger));
                    }
                    OutputSpec::Otlp => {
                        let Some(otlp) = &config.otlp_metrics else { continue };
                        let patience = config.metric_reading.timeout;
                        let exporter = otlp::Exporter::new(otlp, Signal::Metrics, patience)?;
                        let ledger = Ledger::exporting(Arc::clone(counters), Signal::Metrics);
                        let taker = Taker::otlp(exporter, ledger)?;
                        if let Taker::Otlp { mailbox, .. } = &taker {
                            let watched = Arc::clone(mailbox);
                            outputs.meter.watch("otlp", Signal::Metrics, move || watched.fill());
                        }
                        takers.push(taker);
                    }
                    OutputSpec::Console | OutputSpec::None => {}
                }
            }
            outputs.collector = Some(Collector::start(Arc::clone(&meter), takers, interval)?);
        }
        if let Some(address) = config.metrics.listen {
            let server = Server::start(address, meter)?;
            tracing::info!("answering /metrics, /healthz and /readyz on {}", server.address());
            outputs._web = Some(server);
        }
        Ok(outputs)
    }

    fn bare(meter: Arc<Meter>, exported: bool) -> Self {
        Self { running: Vec::new(), red: None, meter, exported, collector: None, _web: None }
    }

    /// Hands finished spans to every output. Waits for none of them, unless [`OutputsConfig::when_full`] says so.
    ///
    /// Metrics are made of all of them; what is not sampled goes no further.
    pub fn spans(&self, mut spans: Vec<Item>) {
        if spans.is_empty() {
            return;
        }
        self.meter.record(&spans, self.exported);
        if let Some(red) = &self.red {
            let mut red = red.lock().unwrap_or_else(PoisonError::into_inner);
            for (resource, span) in spans.iter().filter(|(_, span)| span.measured) {
                red.record(resource.service_name(), span);
            }
        }
        spans.retain(|(_, span)| span.context.is_sampled());
        if self.running.is_empty() || spans.is_empty() {
            return;
        }
        for piece in batch::pieces(spans) {
            for output in &self.running {
                output.queue.push(piece.clone(), &output.ledger);
            }
        }
    }

    /// Lets every output deliver what it has, until the deadline. What is not delivered then is counted as lost.
    pub fn shutdown(mut self, deadline: Instant) {
        for output in &self.running {
            output.queue.close(deadline);
        }
        // Beside the spans: where their endpoint is dead, that takes all the time there is.
        if let Some(collector) = self.collector.take() {
            collector.finish(deadline);
        }
        for output in std::mem::take(&mut self.running) {
            let left = deadline.saturating_duration_since(Instant::now());
            // Nothing is ever sent: either the thread ends, or the time is over.
            if output.ended.recv_timeout(left) == Err(mpsc::RecvTimeoutError::Timeout) {
                output.ledger.abandon(output.queue.clear());
            }
        }
    }

    fn spawn(
        &mut self,
        name: &'static str,
        limits: Limits,
        ledger: Ledger,
        run: impl FnOnce(Arc<Queue>, Arc<Ledger>) + Send + 'static,
    ) -> Result<(), OutputError> {
        let queue = Arc::new(Queue::new(limits));
        let ledger = Arc::new(ledger);
        let (hold, ended) = mpsc::channel::<()>();
        let (queue_there, ledger_there) = (Arc::clone(&queue), Arc::clone(&ledger));
        thread::Builder::new()
            .name(format!("sonde-{name}"))
            .spawn(move || {
                let _hold = hold;
                run(queue_there, ledger_there);
            })
            .map_err(OutputError::Thread)?;
        let watched = Arc::clone(&queue);
        self.meter.watch(name, Signal::Traces, move || watched.fill());
        self.running.push(Running { queue, ledger, ended });
        Ok(())
    }
}

/// Places to write lines to. Spans and metrics that go to the same one share it, so that each line stays whole.
#[derive(Default)]
struct Sinks(Vec<(Option<PathBuf>, Arc<Mutex<Sink>>)>);

impl Sinks {
    fn open(&mut self, file: Option<&Path>) -> Result<Arc<Mutex<Sink>>, OutputError> {
        if let Some((_, sink)) = self.0.iter().find(|(known, _)| known.as_deref() == file) {
            return Ok(Arc::clone(sink));
        }
        let sink = match file {
            None => Sink::stdout().map_err(OutputError::Stdout)?.0,
            Some(path) => {
                Sink::append(path).map_err(|source| OutputError::File { path: path.to_owned(), source })?
            }
        };
        let sink = Arc::new(Mutex::new(sink));
        self.0.push((file.map(Path::to_owned), Arc::clone(&sink)));
        Ok(sink)
    }
}

impl Drop for Outputs {
    /// Without a [`Outputs::shutdown`], where starting one of them failed, the others end on their own.
    fn drop(&mut self) {
        for output in &self.running {
            output.queue.close(Instant::now());
        }
    }
}

#[cfg(test)]
mod tests;
