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

    /// Takes out the traces that have waited long enough, in the order of their starts, and shows each row of them with its
    /// depth, from the top of its tree to the bottom.
    pub(super) fn due(&mut self, now: Instant, show: impl FnMut(usize, &Row)) {
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
        self.take(Some(horizon), show);
    }

    /// Takes out everything.
    pub(super) fn all(&mut self, show: impl FnMut(usize, &Row)) {
        self.take(None, show);
    }

    /// Takes out what is due at a moment, or everything.
    fn take(&mut self, horizon: Option<Instant>, mut show: impl FnMut(usize, &Row)) {
        let is_due = |trace: &Trace| horizon.is_none_or(|horizon| trace.due <= horizon);
        let mut taken: Vec<Trace> =
            self.open.extract_if(|_, trace| is_due(trace)).map(|(_, trace)| trace).collect();
        for trace in &mut taken {
            self.held -= trace.rows.len();
            trace.rows.sort_by_key(|row| (row.start, row.id));
        }
        taken.sort_by_key(|trace| trace.rows.first().map(|row| (row.start, row.trace)));
        for trace in &taken {
            walk(&trace.rows, &mut show);
        }
    }
}

/// Shows rows, sorted by start, below their parents. What has no parent among them is a top; what lies on a circle of
/// parents, which only broken input makes, is one too.
fn walk(rows: &[Row], show: &mut impl FnMut(usize, &Row)) {
    match rows {
        [only] => return show(0, only),
        // Both ends of one exchange: by far the most frequent tree.
        [top, below] if top.is_parent_of(below) && !below.is_parent_of(top) => {
            show(0, top);
            return show(1, below);
        }
        _ => {}
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

    let tops = children.iter().take_while(|(parent, _)| parent.is_none()).map(|(_, at)| *at);
    let mut shown = vec![false; rows.len()];
    let mut stack = Vec::new();
    // After the tops every row, for those on circles: what was shown is not shown again.
    for top in tops.chain(0..rows.len()) {
        stack.push((0, top));
        while let Some((depth, at)) = stack.pop() {
            let (Some(row), Some(seen)) = (rows.get(at), shown.get_mut(at)) else { continue };
            if std::mem::replace(seen, true) {
                continue;
            }
            show(depth, row);
            let first = children.partition_point(|(parent, _)| *parent < Some(at));
            let below = children.iter().skip(first).take_while(|(parent, _)| *parent == Some(at));
            let from = stack.len();
            stack.extend(below.map(|(_, child)| (depth + 1, *child)));
            stack.get_mut(from..).unwrap_or_default().reverse();
        }
    }
}

impl Row {
    fn is_parent_of(&self, other: &Self) -> bool {
        other.parent.is_some_and(|(id, _)| id == self.id)
    }
}
