//! Holds the spans of a trace for a moment, so that it can be shown as a tree: children end, and so arrive, before their
//! parents.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use super::row::Row;
use crate::span::{SpanId, TraceId};

/// What a trace waits for after its top has come: spans of other processes that are decided a little later.
const GRACE: Duration = Duration::from_millis(50);

/// Longest time that a span waits.
const HOLD: Duration = Duration::from_secs(1);

/// Spans held at most. Past it the traces that came first are shown as they are.
const HELD: usize = 2_048;

/// Traces whose spans are still coming in.
#[derive(Debug, Default)]
pub(super) struct Traces {
    open: HashMap<TraceId, Trace, foldhash::fast::RandomState>,
    held: usize,
}

#[derive(Debug)]
struct Trace {
    due: Instant,
    has_top: bool,
    rows: Vec<Row>,
}

/// A span's row and its depth below the top of its tree.
pub(super) type Branch = (usize, Row);

impl Traces {
    /// Takes a span.
    pub(super) fn insert(&mut self, row: Row, now: Instant) {
        let is_top = row.parent.is_none_or(|(_, is_remote)| is_remote);
        let trace = self.open.entry(row.trace).or_insert_with(|| Trace {
            due: now + HOLD,
            has_top: false,
            rows: Vec::with_capacity(2),
        });
        if is_top && !trace.has_top {
            trace.has_top = true;
            trace.due = trace.due.min(now + GRACE);
        }
        trace.rows.push(row);
        self.held += 1;
    }

    /// When the next trace has waited long enough.
    pub(super) fn next_due(&self) -> Option<Instant> {
        self.open.values().map(|trace| trace.due).min()
    }

    /// Takes out the traces that have waited long enough, in the order of their starts, each as a tree from top to bottom.
    pub(super) fn due(&mut self, now: Instant) -> Vec<Branch> {
        let mut horizon = now;
        if self.held > HELD {
            // As many of the first ones as bring it to half, so that this is not repeated for every span.
            let mut dues: Vec<(Instant, usize)> =
                self.open.values().map(|trace| (trace.due, trace.rows.len())).collect();
            dues.sort_unstable();
            let mut left = self.held;
            for (due, rows) in dues {
                if left <= HELD / 2 {
                    break;
                }
                left -= rows;
                horizon = horizon.max(due);
            }
        }
        self.take(Some(horizon))
    }

    /// Takes out everything.
    pub(super) fn all(&mut self) -> Vec<Branch> {
        self.take(None)
    }

    /// Takes out what is due at a moment, or everything.
    fn take(&mut self, horizon: Option<Instant>) -> Vec<Branch> {
        let is_due = |trace: &Trace| horizon.is_none_or(|horizon| trace.due <= horizon);
        let mut taken: Vec<Trace> =
            self.open.extract_if(|_, trace| is_due(trace)).map(|(_, trace)| trace).collect();
        for trace in &mut taken {
            self.held -= trace.rows.len();
            trace.rows.sort_by_key(|row| (row.start, row.id));
        }
        taken.sort_by_key(|trace| trace.rows.first().map(|row| (row.start, row.trace)));
        taken.into_iter().flat_map(|trace| tree(trace.rows)).collect()
    }
}

/// Puts rows, sorted by start, under their parents. What has no parent among them is a top; what lies on a circle of parents,
/// which only broken input makes, is one too.
fn tree(rows: Vec<Row>) -> Vec<Branch> {
    if rows.len() == 1 {
        return rows.into_iter().map(|row| (0, row)).collect();
    }
    let mut by_id: Vec<(SpanId, usize)> = rows.iter().enumerate().map(|(at, row)| (row.id, at)).collect();
    by_id.sort_unstable();
    let parent = |row: &Row| {
        let (id, _) = row.parent?;
        let at = by_id.binary_search_by_key(&id, |(id, _)| *id).ok()?;
        by_id.get(at).map(|(_, at)| *at)
    };
    // Sorted by parent, and within it by start; tops come first.
    let mut children: Vec<(Option<usize>, usize)> =
        rows.iter().enumerate().map(|(at, row)| (parent(row), at)).collect();
    children.sort_unstable();

    let mut rows: Vec<Option<Row>> = rows.into_iter().map(Some).collect();
    let mut branches = Vec::with_capacity(rows.len());
    let mut walk = |from: usize, rows: &mut [Option<Row>]| {
        let mut stack = vec![(0, from)];
        while let Some((depth, at)) = stack.pop() {
            let Some(row) = rows.get_mut(at).and_then(Option::take) else { continue };
            branches.push((depth, row));
            let first = children.partition_point(|(parent, _)| *parent < Some(at));
            let below = children.iter().skip(first).take_while(|(parent, _)| *parent == Some(at));
            let from = stack.len();
            stack.extend(below.map(|(_, child)| (depth + 1, *child)));
            stack.get_mut(from..).unwrap_or_default().reverse();
        }
    };
    for (_, top) in children.iter().take_while(|(parent, _)| parent.is_none()) {
        walk(*top, &mut rows);
    }
    for at in 0..rows.len() {
        walk(at, &mut rows);
    }
    branches
}
