//! The console: one line per span, children below their parents, and a RED table now and then.

mod row;
mod style;
mod table;
mod traces;

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use row::{Row, Widths};
use style::Style;
use traces::Traces;

use super::batch::Piece;
use super::ledger::Ledger;
use super::queue::Queue;
use super::sink::Sink;
use crate::metrics::{Red, Snapshot};

/// Time between two RED tables.
const TABLE: Duration = Duration::from_secs(10);

/// Spans that are taken from the queue at once, and that wake the thread before its time.
const TAKE: usize = 512;

/// Shortest time between two looks at the queue while spans keep coming: each look costs a switch of threads.
const TICK: Duration = Duration::from_millis(20);

/// What the console shows, without the thread that shows it.
#[derive(Debug)]
pub(super) struct Console {
    style: Style,
    widths: Widths,
    traces: Traces,
    red: Arc<Mutex<Red>>,
    begun: Option<Instant>,
    /// Spans of the past are shown: the first start and the last end among them count as time, not when they are shown.
    past: Option<(u64, u64)>,
    shown: (Snapshot, Option<Instant>),
    buffer: String,
    /// Spans whose lines are in the buffer.
    lines: u64,
}

impl Console {
    /// `replayed`: spans of the past are shown, as fast as they come. Then there is one table, over the time they tell of.
    pub(super) fn new(colours: bool, replayed: bool, red: Arc<Mutex<Red>>) -> Self {
        Self {
            past: replayed.then_some((u64::MAX, 0)),
            style: Style { colours },
            widths: Widths::default(),
            traces: Traces::default(),
            red,
            begun: None,
            shown: (Snapshot::default(), None),
            buffer: String::new(),
            lines: 0,
        }
    }

    /// Shows spans until the queue is closed and empty.
    pub(super) fn run(mut self, queue: &Queue, ledger: &Ledger, mut sink: Sink) {
        loop {
            let now = Instant::now();
            let (enough, until) = match self.traces.next_due() {
                None => (1, self.next_table()),
                Some(due) => (TAKE, Some(due.max(now + TICK))),
            };
            let taken = queue.take(TAKE, enough, until, ledger);
            let now = Instant::now();
            self.take(&taken.pieces, now);
            drop(taken.pieces);
            let is_over = taken.closed.is_some() && taken.spans == 0;
            if is_over {
                self.finish(now);
            }
            self.flush(&mut sink, ledger);
            if is_over {
                return;
            }
        }
    }

    /// Takes spans in, and writes what is due.
    fn take(&mut self, pieces: &[Piece], now: Instant) {
        for (resource, span) in pieces.iter().flat_map(Piece::items) {
            if let Some((first, last)) = &mut self.past {
                (*first, *last) = (span.start.min(*first), span.end.max(*last));
            }
            self.traces.insert(Row::of(resource, span), now);
        }
        if !pieces.is_empty() && self.begun.is_none() {
            self.begun = Some(now);
            self.shown.1 = Some(now);
        }
        let Self { traces, buffer, widths, style, lines, .. } = self;
        traces.due(now, |depth, row| {
            row.write(buffer, depth, widths, *style);
            *lines += 1;
        });
        if self.next_table().is_some_and(|table| table <= now) {
            self.table(now);
        }
    }

    /// Writes all that is held, and the table of the whole time.
    fn finish(&mut self, now: Instant) {
        let Self { traces, buffer, widths, style, lines, .. } = self;
        traces.all(|depth, row| {
            row.write(buffer, depth, widths, *style);
            *lines += 1;
        });
        let Some(begun) = self.begun else { return };
        let rows = self.snapshot().since(&Snapshot::default());
        let time = match self.past {
            Some((first, last)) => Duration::from_nanos(last.saturating_sub(first)),
            None => now.saturating_duration_since(begun),
        };
        let title = format!("in all, {:.1} s", time.as_secs_f64());
        table::write(&mut self.buffer, &rows, time, &title, self.style);
    }

    fn next_table(&self) -> Option<Instant> {
        self.shown.1.filter(|_| self.past.is_none()).map(|shown| shown + TABLE)
    }

    /// The table of what came since the one before; none where nothing came, and none again until something does.
    fn table(&mut self, now: Instant) {
        let snapshot = self.snapshot();
        let (before, since) = std::mem::replace(&mut self.shown, (snapshot, Some(now)));
        let rows = self.shown.0.since(&before);
        let time = since.map_or(TABLE, |since| now.saturating_duration_since(since));
        if !rows.is_empty() {
            let title = format!("last {:.0} s", time.as_secs_f64());
            table::write(&mut self.buffer, &rows, time, &title, self.style);
        }
    }

    fn snapshot(&self) -> Snapshot {
        self.red.lock().unwrap_or_else(PoisonError::into_inner).snapshot()
    }

    fn flush(&mut self, sink: &mut Sink, ledger: &Ledger) {
        if !self.buffer.is_empty() {
            sink.write(self.buffer.as_bytes(), std::mem::take(&mut self.lines), ledger);
            self.buffer.clear();
        }
    }
}

#[cfg(test)]
mod tests;
