//! Calls, errors and durations per service, span kind, span name and outcome.

use std::hash::BuildHasher;
use std::sync::Arc;

use foldhash::fast::FixedState;
use hashbrown::HashTable;

use super::Histogram;
use crate::span::{Span, SpanKind, SpanName, SpanStatus};

/// What calls are told apart by.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SeriesKey {
    /// `service.name`; empty in the overflow series.
    pub service: Arc<str>,
    /// Span kind; `None` in the overflow series.
    pub kind: Option<SpanKind>,
    /// Span name; empty in the overflow series.
    pub name: SpanName,
    /// The span's status is an error.
    pub error: bool,
}

/// What is known of the calls of one key.
#[derive(Clone, Debug)]
pub struct Series {
    /// Whose calls.
    pub key: SeriesKey,
    /// How long they took; its count is the number of calls.
    pub durations: Histogram,
    /// Longest duration since the snapshot before, in nanoseconds.
    longest: u64,
}

/// Aggregates spans, in no more series than allowed: past the limit, calls of new keys share one overflow series for those
/// that failed and one for those that did not (`otel.metric.overflow` in exported metrics).
#[derive(Debug)]
pub struct Red {
    limit: usize,
    index: HashTable<usize>,
    series: Vec<Series>,
    overflow: [Option<usize>; 2],
}

impl Red {
    /// At most `limit` series beside the two for overflow.
    #[must_use]
    pub fn new(limit: usize) -> Self {
        Self { limit, index: HashTable::new(), series: Vec::new(), overflow: [None; 2] }
    }

    /// Counts one span of a service, unless it is of no call.
    pub fn record(&mut self, service: &str, span: &Span) {
        if span.kind == SpanKind::Internal {
            return;
        }
        let error = matches!(span.status, SpanStatus::Error(_));
        let nanos = span.end.saturating_sub(span.start);
        let at = self.find(service, span, error);
        if let Some(series) = self.series.get_mut(at) {
            series.durations.record(nanos);
            series.longest = series.longest.max(nanos);
        }
    }

    /// All series since the beginning, in the order of their first call.
    #[must_use]
    pub fn series(&self) -> &[Series] {
        &self.series
    }

    /// The state now, to be compared with a later one. Longest durations count from snapshot to snapshot.
    pub fn snapshot(&mut self) -> Snapshot {
        let snapshot = Snapshot { series: self.series.clone() };
        for series in &mut self.series {
            series.longest = 0;
        }
        snapshot
    }

    fn find(&mut self, service: &str, span: &Span, error: bool) -> usize {
        let (kind, name) = (span.kind, &span.name);
        let hash = hash(service, Some(kind), name, error);
        let Self { limit, index, series, overflow } = self;
        let same = |&at: &usize| {
            series.get(at).is_some_and(|Series { key, .. }| {
                key.error == error && key.kind == Some(kind) && key.name == *name && *key.service == *service
            })
        };
        if let Some(&at) = index.find(hash, same) {
            return at;
        }
        let at = series.len();
        if index.len() < *limit {
            let key = SeriesKey { service: Arc::from(service), kind: Some(kind), name: name.clone(), error };
            series.push(Series { key, durations: Histogram::default(), longest: 0 });
            index.insert_unique(hash, at, |&at| {
                series
                    .get(at)
                    .map_or(0, |Series { key, .. }| self::hash(&key.service, key.kind, &key.name, key.error))
            });
            return at;
        }
        let [ok, failed] = overflow;
        *if error { failed } else { ok }.get_or_insert_with(|| {
            let key = SeriesKey { service: Arc::from(""), kind: None, name: SpanName::from(""), error };
            series.push(Series { key, durations: Histogram::default(), longest: 0 });
            at
        })
    }
}

/// The hash needs no secret seed: the number of series is bounded, so the worst collisions cost a bounded walk.
fn hash(service: &str, kind: Option<SpanKind>, name: &SpanName, error: bool) -> u64 {
    FixedState::default().hash_one((service, kind, name, error))
}

/// The series at one moment.
#[derive(Clone, Debug, Default)]
pub struct Snapshot {
    series: Vec<Series>,
}

/// Calls of one service, kind and name, whatever their outcome: a row of the RED table.
#[derive(Clone, Debug, PartialEq)]
pub struct Row {
    /// `service.name`; empty in the overflow row.
    pub service: Arc<str>,
    /// Span kind; `None` in the overflow row.
    pub kind: Option<SpanKind>,
    /// Span name; empty in the overflow row.
    pub name: String,
    /// Calls.
    pub calls: u64,
    /// Those of them that failed.
    pub errors: u64,
    /// Durations below which half, 95 % and 99 % of the calls are, and the longest, in nanoseconds. The first three are as
    /// exact as [`Histogram::ERROR`] says, the last is exact.
    pub durations: [u64; 4],
}

impl Snapshot {
    /// What was called after `earlier`, a snapshot of the same [`Red`]; busiest first. `Snapshot::default()` stands for the
    /// beginning.
    #[must_use]
    pub fn since(&self, earlier: &Self) -> Vec<Row> {
        let mut counted: Vec<(&SeriesKey, Histogram, u64)> = Vec::with_capacity(self.series.len());
        for (at, series) in self.series.iter().enumerate() {
            let mut durations = series.durations.clone();
            let mut longest = durations.max();
            if let Some(before) = earlier.series.get(at) {
                durations.subtract(&before.durations);
                longest = series.longest;
            }
            if durations.count() > 0 {
                counted.push((&series.key, durations, longest));
            }
        }
        counted.sort_by(|(a, ..), (b, ..)| a.without_outcome().cmp(&b.without_outcome()));
        let mut rows: Vec<Row> = counted
            .chunk_by(|(a, ..), (b, ..)| a.without_outcome() == b.without_outcome())
            .filter_map(Row::of)
            .collect();
        rows.sort_by_key(|row| std::cmp::Reverse(row.calls));
        rows
    }
}

impl SeriesKey {
    fn without_outcome(&self) -> (&str, Option<SpanKind>, &SpanName) {
        (&self.service, self.kind, &self.name)
    }
}

impl Row {
    /// Joins the series of a key's outcomes.
    fn of(outcomes: &[(&SeriesKey, Histogram, u64)]) -> Option<Self> {
        let (key, ..) = outcomes.first()?;
        let mut durations = Histogram::default();
        let (mut errors, mut longest) = (0, 0);
        for (outcome, counted, max) in outcomes {
            durations.add(counted);
            errors += if outcome.error { counted.count() } else { 0 };
            longest = longest.max(*max);
        }
        let quantile = |q| durations.quantile(q).min(longest);
        Some(Self {
            service: key.service.clone(),
            kind: key.kind,
            name: key.name.to_string(),
            calls: durations.count(),
            errors,
            durations: [quantile(0.5), quantile(0.95), quantile(0.99), longest],
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::export::fixtures::span;

    fn red(limit: usize, calls: &[(&str, &'static str, u64, bool)]) -> Red {
        let mut red = Red::new(limit);
        record(&mut red, calls);
        red
    }

    fn record(red: &mut Red, calls: &[(&str, &'static str, u64, bool)]) {
        for &(service, name, nanos, error) in calls {
            let mut span = span(name, 1_000, 1_000 + nanos);
            if error {
                span.status = SpanStatus::Error("".into());
            }
            red.record(service, &span);
        }
    }

    fn brief(rows: &[Row]) -> Vec<(&str, &str, u64, u64, u64)> {
        rows.iter().map(|row| (&*row.service, &*row.name, row.calls, row.errors, row.durations[3])).collect()
    }

    #[test]
    fn outcomes_are_separate_series_and_one_row() {
        let mut red = red(10, &[("a", "GET", 5, false), ("a", "GET", 9, true), ("b", "GET", 7, false)]);
        assert_eq!(red.series().len(), 3);
        let snapshot = red.snapshot();
        let rows = snapshot.since(&Snapshot::default());
        assert_eq!(brief(&rows), [("a", "GET", 2, 1, 9), ("b", "GET", 1, 0, 7)]);
    }

    #[test]
    fn a_window_holds_what_came_after_the_snapshot_before() {
        let mut red = red(10, &[("a", "GET", 900, false), ("b", "GET", 7, false)]);
        let first = red.snapshot();
        record(&mut red, &[("a", "GET", 5, false), ("c", "PUT", 6, true)]);
        let second = red.snapshot();
        assert_eq!(brief(&second.since(&first)), [("a", "GET", 1, 0, 5), ("c", "PUT", 1, 1, 6)]);
        let all = second.since(&Snapshot::default());
        assert_eq!(brief(&all), [("a", "GET", 2, 0, 900), ("b", "GET", 1, 0, 7), ("c", "PUT", 1, 1, 6)]);
        assert_eq!(red.snapshot().since(&second), []);
    }

    #[test]
    fn series_are_bounded_and_the_rest_still_counted() {
        let names = ["a", "b", "c", "d", "e"];
        let calls: Vec<_> =
            names.into_iter().flat_map(|name| [(name, "GET", 3, false), (name, "GET", 4, true)]).collect();
        let mut red = red(4, &calls);
        assert_eq!(red.series().len(), 6);
        let rows = red.snapshot().since(&Snapshot::default());
        assert_eq!(rows.iter().map(|row| row.calls).sum::<u64>(), 10);
        let overflow = rows.iter().find(|row| row.kind.is_none()).unwrap();
        assert_eq!((overflow.calls, overflow.errors), (6, 3));
    }
}
