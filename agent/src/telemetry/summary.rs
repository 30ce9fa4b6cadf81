//! What is said when a run ends: how much went through, and each loss with its reason.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};

use super::{Counters, Delivery, LeftOut, Lost, Signal};

/// Shows the counters as a few lines: one for what went through, one for each kind of loss.
#[derive(Debug)]
pub struct Summary<'a>(pub &'a Counters);

impl fmt::Display for Summary<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let Counters { records, exchanges, spans, unsampled, under_way, .. } = self.0;
        let (records, exchanges, spans) = (read(records), read(exchanges), read(spans));
        write!(f, "{records} records, {exchanges} exchanges, {spans} spans")?;
        if read(unsampled) > 0 {
            write!(f, ", {} more not sampled", read(unsampled))?;
        }
        if read(under_way) > 0 {
            write!(f, ", {} more under way", read(under_way))?;
        }
        for (why, words) in [
            (LeftOut::Sdk, "left to their processes' own tracing"),
            (LeftOut::Export, "exports of telemetry"),
        ] {
            if self.0.left_out(why) > 0 {
                write!(f, ", {} {words}", self.0.left_out(why))?;
            }
        }
        for (signal, unit) in [(Signal::Traces, ""), (Signal::Metrics, " data points")] {
            let accepted = self.0.delivered(signal, Delivery::Accepted);
            if accepted > 0 {
                write!(f, ", {accepted}{unit} exported")?;
            }
        }
        let mut losses = Lost::ALL.into_iter().filter(|why| self.0.lost(*why) > 0).peekable();
        let points = |outcome| self.0.delivered(Signal::Metrics, outcome);
        let mut unsent = Delivery::ALL
            .into_iter()
            .filter(|outcome| *outcome != Delivery::Accepted && points(*outcome) > 0)
            .peekable();
        if losses.peek().is_none() && unsent.peek().is_none() {
            return f.write_str(", nothing lost");
        }
        for why in losses {
            write!(f, "\n  lost: {} {} ({})", self.0.lost(why), words(why), why.reason())?;
        }
        for outcome in unsent {
            write!(f, "\n  lost: {} data points of metrics ({})", points(outcome), outcome.name())?;
        }
        Ok(())
    }
}

/// What is counted, and why it is lost.
const fn words(why: Lost) -> &'static str {
    match why {
        Lost::RingFull => "records: the ring from the kernel was full",
        Lost::ProgramSkipped => {
            "calls: a program was still at work on that processor, and the kernel skipped it"
        }
        Lost::UserFault => "records without payload: the process's memory could not be read",
        Lost::KernelStateFull => "sockets without state: the kernel side's table was full",
        Lost::KernelStateEvicted => {
            "sockets' states: the kernel side's table was full, their connections were joined anew"
        }
        Lost::HeadTooLong => "heads cut off: longer than what is captured",
        Lost::NoBuffer => "calls without payload: the hook cannot see their buffers",
        Lost::FarBuffer => {
            "calls with more buffers, frames or chunks than are looked at: their bodies have no size, their frames were not read"
        }
        Lost::LeftAlone => "connections left alone: nothing on them was answered as HTTP",
        Lost::BadRecord => "records: they could not be decoded",
        Lost::ConnectionsFull => "connections forgotten: too many at once",
        Lost::Reassembly => "holes in connections: bytes before them never came",
        Lost::Desync => "times a parser lost its place: bytes were missing or made no sense",
        Lost::ExchangesFull => "exchanges: too many open at once on one connection",
        Lost::ParserPanic => "connections given up: their parser failed (please report)",
        Lost::WaitingFull => "exchanges decided early: too many waited for their parent",
        Lost::RoutesFull => "routes: too many for one service, or too many services",
        Lost::QueueFull => "spans: an output did not keep up and its queue was full",
        Lost::ExportFailed => "spans: the OTLP endpoint refused them or did not answer in time",
        Lost::OutputFailed => "spans: standard output or a file could not be written",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_run_without_losses_says_so() {
        let counters = Counters::default();
        Counters::add(&counters.records, 12);
        Counters::add(&counters.exchanges, 4);
        Counters::add(&counters.spans, 3);
        assert_eq!(Summary(&counters).to_string(), "12 records, 4 exchanges, 3 spans, nothing lost");
    }

    #[test]
    fn each_loss_is_said_with_its_reason() {
        let counters = Counters::default();
        counters.deliver(Signal::Traces, Delivery::Accepted, 7);
        counters.deliver(Signal::Metrics, Delivery::Accepted, 9);
        counters.deliver(Signal::Metrics, Delivery::Refused, 4);
        (0..3).for_each(|_| counters.leave_out(LeftOut::Sdk));
        counters.leave_out(LeftOut::Export);
        counters.lose(Lost::QueueFull, 5);
        counters.set_lost(Lost::RingFull, 2);
        assert_eq!(
            Summary(&counters).to_string(),
            "0 records, 0 exchanges, 0 spans, 3 left to their processes' own tracing, 1 exports of telemetry, 7 exported, 9 data points exported\n  \
             lost: 2 records: the ring from the kernel was full (ring_full)\n  \
             lost: 5 spans: an output did not keep up and its queue was full (queue_full)\n  \
             lost: 4 data points of metrics (refused)"
        );
    }
}
