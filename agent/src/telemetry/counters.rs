//! Counters of what happened and of every loss, shared by all threads. Each loss has a reason and is counted where it
//! happens; the summary at exit and the self metrics read them here.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

/// Why something was lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(usize)]
pub enum Lost {
    /// A record did not fit into the full ring.
    RingFull,
    /// The kernel did not run a program, since it was running already on that processor.
    ProgramSkipped,
    /// A record's payload could not be read from the process.
    UserFault,
    /// The kernel side could not keep state for a socket.
    KernelStateFull,
    /// The kernel side's table of sockets was full: the state used least recently was dropped, and its connection joined anew.
    KernelStateEvicted,
    /// A head was longer than what is captured of it.
    HeadTooLong,
    /// Bytes went through a call whose buffers the hook cannot see.
    NoBuffer,
    /// A call had more buffers than are looked at, and one past them was worth reading.
    FarBuffer,
    /// Nothing on a connection was answered as HTTP: the kernel side looks at it no more.
    LeftAlone,
    /// A record from the ring could not be decoded.
    BadRecord,
    /// Too many connections: the one idle for longest was forgotten.
    ConnectionsFull,
    /// Bytes arrived out of order and the hole before them was not filled within its bound.
    Reassembly,
    /// Bytes inside framing were missing or made no sense; the parser found its place again later.
    Desync,
    /// Too many exchanges open at once on one connection.
    ExchangesFull,
    /// A parser panicked; its connection was given up.
    ParserPanic,
    /// Too many exchanges waiting for their parent: the oldest was decided with what was known.
    WaitingFull,
    /// A request may have a route, but its service, or all of them, have as many as they may.
    RoutesFull,
    /// The exporter's queue was full: the oldest spans were dropped.
    QueueFull,
    /// The backend refused spans, or gave no answer in time.
    ExportFailed,
    /// An output could not be written.
    OutputFailed,
}

impl Lost {
    /// All reasons, in order.
    pub const ALL: [Self; 20] = [
        Self::RingFull,
        Self::ProgramSkipped,
        Self::UserFault,
        Self::KernelStateFull,
        Self::KernelStateEvicted,
        Self::HeadTooLong,
        Self::NoBuffer,
        Self::FarBuffer,
        Self::LeftAlone,
        Self::BadRecord,
        Self::ConnectionsFull,
        Self::Reassembly,
        Self::Desync,
        Self::ExchangesFull,
        Self::ParserPanic,
        Self::WaitingFull,
        Self::RoutesFull,
        Self::QueueFull,
        Self::ExportFailed,
        Self::OutputFailed,
    ];

    /// The `reason` attribute of the metric `sonde.lost`.
    #[must_use]
    pub const fn reason(self) -> &'static str {
        match self {
            Self::RingFull => "ring_full",
            Self::ProgramSkipped => "program_skipped",
            Self::UserFault => "user_fault",
            Self::KernelStateFull => "kernel_state_full",
            Self::KernelStateEvicted => "kernel_state_evicted",
            Self::HeadTooLong => "head_too_long",
            Self::NoBuffer => "no_buffer",
            Self::FarBuffer => "far_buffer",
            Self::LeftAlone => "left_alone",
            Self::BadRecord => "bad_record",
            Self::ConnectionsFull => "connections_full",
            Self::Reassembly => "reassembly",
            Self::Desync => "desync",
            Self::ExchangesFull => "exchanges_full",
            Self::ParserPanic => "parser_panic",
            Self::WaitingFull => "waiting_full",
            Self::RoutesFull => "routes_full",
            Self::QueueFull => "queue_full",
            Self::ExportFailed => "export_failed",
            Self::OutputFailed => "output_failed",
        }
    }
}

/// What leaves Sonde over OTLP.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(usize)]
pub enum Signal {
    /// Spans.
    Traces,
    /// Data points.
    Metrics,
}

impl Signal {
    /// All signals, in order.
    pub const ALL: [Self; 2] = [Self::Traces, Self::Metrics];

    /// The `signal` attribute of the metric `sonde.export`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Traces => "traces",
            Self::Metrics => "metrics",
        }
    }

    /// What it consists of, for messages.
    #[must_use]
    pub const fn items(self) -> &'static str {
        match self {
            Self::Traces => "spans",
            Self::Metrics => "metrics",
        }
    }
}

/// What became of an item, a span or a data point, that was to leave over OTLP. Each has exactly one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(usize)]
pub enum Delivery {
    /// The backend took it.
    Accepted,
    /// The backend took the request and said that it left this out (partial success).
    Rejected,
    /// The backend refused the request, in a way that sending it again would not change.
    Refused,
    /// Too large for the backend even alone.
    TooLarge,
    /// There was no answer in time, repetitions included, or the run ended before there was one.
    Undelivered,
    /// The queue before the output was full.
    Dropped,
}

impl Delivery {
    /// All outcomes, in order.
    pub const ALL: [Self; 6] =
        [Self::Accepted, Self::Rejected, Self::Refused, Self::TooLarge, Self::Undelivered, Self::Dropped];

    /// The `outcome` attribute of the metric `sonde.export`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Accepted => "accepted",
            Self::Rejected => "rejected",
            Self::Refused => "refused",
            Self::TooLarge => "too_large",
            Self::Undelivered => "undelivered",
            Self::Dropped => "dropped",
        }
    }
}

/// What shows that a process makes telemetry of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Evidence {
    /// It exports spans.
    Traces,
    /// It exports metrics.
    Metrics,
    /// It exports logs.
    Logs,
    /// The contexts that it writes name spans which Sonde has not made.
    Context,
}

impl Evidence {
    /// All of it, in order.
    pub const ALL: [Self; 4] = [Self::Traces, Self::Metrics, Self::Logs, Self::Context];

    /// The `evidence` attribute of the metric `sonde.sdk.processes`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Traces => "traces",
            Self::Metrics => "metrics",
            Self::Logs => "logs",
            Self::Context => "context",
        }
    }
}

/// Why an exchange is no span, though nothing was lost of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum LeftOut {
    /// Its process has spans of its own.
    Sdk,
    /// It is an export of telemetry.
    Export,
}

impl LeftOut {
    /// All reasons, in order.
    pub const ALL: [Self; 2] = [Self::Sdk, Self::Export];

    /// The `reason` attribute of the metric `sonde.spans.left_out`.
    #[must_use]
    pub const fn reason(self) -> &'static str {
        match self {
            Self::Sdk => "sdk",
            Self::Export => "otlp_export",
        }
    }
}

/// A program of the kernel side.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProgramState {
    /// Its name.
    pub name: String,
    /// It runs; else it could not be attached.
    pub attached: bool,
    /// Nanoseconds that it has run, and how often: 0 unless `kernel.bpf_stats_enabled` is set.
    pub run_nanos: u64,
    /// How often.
    pub runs: u64,
}

/// Everything that is counted. Relaxed atomics: each number is exact, several read together may be a moment apart.
#[derive(Debug, Default)]
pub struct Counters {
    /// Records taken from the ring.
    pub records: AtomicU64,
    /// Exchanges seen to their end.
    pub exchanges: AtomicU64,
    /// Spans made.
    pub spans: AtomicU64,
    /// Spans that were counted, but not exported: not sampled, or of an excluded path.
    pub unsampled: AtomicU64,
    /// Exchanges, and sessions behind one, that had not ended when the run did: no span tells of them.
    pub under_way: AtomicU64,
    /// Connections known now.
    pub connections: AtomicU64,
    /// The kernel programs are attached and the ring is read.
    pub observing: AtomicBool,
    programs: Mutex<Vec<ProgramState>>,
    lost: [AtomicU64; Lost::ALL.len()],
    deliveries: [[AtomicU64; Delivery::ALL.len()]; Signal::ALL.len()],
    noticed: [AtomicU64; Evidence::ALL.len()],
    left_out: [AtomicU64; LeftOut::ALL.len()],
}

impl Counters {
    /// Counts `n` losses for one reason.
    pub fn lose(&self, why: Lost, n: u64) {
        count(self.lost.get(why as usize), n);
    }

    /// Sets a loss that is counted elsewhere (by the kernel side) to its total.
    pub fn set_lost(&self, why: Lost, total: u64) {
        if let Some(counter) = self.lost.get(why as usize) {
            counter.store(total, Ordering::Relaxed);
        }
    }

    /// Losses so far for one reason.
    #[must_use]
    pub fn lost(&self, why: Lost) -> u64 {
        total(self.lost.get(why as usize))
    }

    /// Counts what became of `n` items of a signal: the metric `sonde.export`.
    pub fn deliver(&self, signal: Signal, outcome: Delivery, n: u64) {
        count(self.delivery(signal, outcome), n);
    }

    /// Items of a signal so far that this became of.
    #[must_use]
    pub fn delivered(&self, signal: Signal, outcome: Delivery) -> u64 {
        total(self.delivery(signal, outcome))
    }

    fn delivery(&self, signal: Signal, outcome: Delivery) -> Option<&AtomicU64> {
        self.deliveries.get(signal as usize)?.get(outcome as usize)
    }

    /// Counts a process that has shown this.
    pub fn notice(&self, evidence: Evidence) {
        count(self.noticed.get(evidence as usize), 1);
    }

    /// Processes so far that have shown this.
    #[must_use]
    pub fn noticed(&self, evidence: Evidence) -> u64 {
        total(self.noticed.get(evidence as usize))
    }

    /// Counts an exchange that is no span.
    pub fn leave_out(&self, why: LeftOut) {
        count(self.left_out.get(why as usize), 1);
    }

    /// Exchanges so far that are no spans for this reason.
    #[must_use]
    pub fn left_out(&self, why: LeftOut) -> u64 {
        total(self.left_out.get(why as usize))
    }

    /// Sets what is known of the kernel programs.
    pub fn set_programs(&self, programs: Vec<ProgramState>) {
        *self.programs.lock().unwrap_or_else(PoisonError::into_inner) = programs;
    }

    /// What is known of the kernel programs.
    #[must_use]
    pub fn programs(&self) -> Vec<ProgramState> {
        self.programs.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Adds to a counter.
    pub fn add(counter: &AtomicU64, n: u64) {
        counter.fetch_add(n, Ordering::Relaxed);
    }
}

/// Adds to one counter of several.
fn count(counter: Option<&AtomicU64>, n: u64) {
    if let Some(counter) = counter {
        Counters::add(counter, n);
    }
}

/// What one counter of several says.
fn total(counter: Option<&AtomicU64>) -> u64 {
    counter.map_or(0, |counter| counter.load(Ordering::Relaxed))
}
