//! Parents: each span against the span that truly caused it, known by the id in the paths.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;

use crate::calls::id_of;
use crate::spans::{Kind, Span};

/// One span that every request of a scenario leaves, caused by the hop before it.
#[derive(Clone, Debug)]
pub struct Hop {
    /// What to call it in the table.
    pub label: String,
    /// Its kind.
    pub kind: Kind,
    /// The processes that it may belong to.
    pub pids: BTreeSet<u32>,
}

/// How many parents of one hop were found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Row {
    /// The hop.
    pub label: String,
    /// The span's parent is the span that caused it (none, for the first hop).
    pub right: usize,
    /// It has no parent.
    pub missing: usize,
    /// It has another parent, guessed or not.
    pub wrong: usize,
    /// There is no such span, or not exactly one.
    pub absent: usize,
}

/// The rows of one scenario.
#[derive(Clone, Debug, Default)]
pub struct Table {
    /// Name and row.
    pub rows: Vec<Row>,
    /// Some of what was wrong or absent.
    pub examples: Vec<String>,
}

impl Hop {
    /// A hop of these processes.
    #[must_use]
    pub fn new(label: impl Into<String>, kind: Kind, pids: impl IntoIterator<Item = u32>) -> Self {
        Self { label: label.into(), kind, pids: pids.into_iter().collect() }
    }
}

/// Counts, for each hop, whose parents are right. `roots` gives the trace and parent that the client sent for an id.
#[must_use]
pub fn tally(hops: &[Hop], ids: &[&str], spans: &[Span], roots: &BTreeMap<&str, (String, String)>) -> Table {
    let mut found: BTreeMap<(&str, usize), Vec<&Span>> = BTreeMap::new();
    for span in spans {
        let hop = hops.iter().position(|hop| hop.kind == span.kind && hop.pids.contains(&span.pid()));
        if let Some(hop) = hop {
            found.entry((id_of(span.path()), hop)).or_default().push(span);
        }
    }
    let mut table = Table::default();
    for (index, hop) in hops.iter().enumerate() {
        let mut row = Row { label: hop.label.clone(), ..Row::default() };
        for &id in ids {
            let one = |hop: usize| match found.get(&(id, hop)).map(Vec::as_slice) {
                Some([span]) => Some(*span),
                _ => None,
            };
            let Some(span) = one(index) else {
                row.absent += 1;
                let several = found.get(&(id, index)).map_or(0, Vec::len);
                table.example(format!("{}: {several} spans for {id}", hop.label));
                continue;
            };
            let cause = if index == 0 { None } else { one(index - 1) };
            let expected = match (index, cause, roots.get(id)) {
                (0, _, Some((trace, parent))) => Some((trace.as_str(), parent.as_str())),
                (0, _, None) => Some((span.trace.as_str(), "")),
                (_, Some(cause), _) => Some((cause.trace.as_str(), cause.id.as_str())),
                (_, None, _) => None,
            };
            if expected == Some((span.trace.as_str(), span.parent.as_str())) {
                row.right += 1;
            } else if span.parent.is_empty() {
                row.missing += 1;
            } else {
                row.wrong += 1;
                table.example(format!(
                    "{} {id}: trace {} parent {}, expected {expected:?}",
                    hop.label, span.trace, span.parent
                ));
            }
        }
        table.rows.push(row);
    }
    table
}

impl Table {
    fn example(&mut self, text: String) {
        if self.examples.len() < 8 {
            self.examples.push(text);
        }
    }

    /// The table as text.
    #[must_use]
    pub fn text(&self, what: &str) -> String {
        let mut text =
            format!("{what}\n  {:<34}{:>8}{:>9}{:>7}{:>8}\n", "span", "right", "missing", "wrong", "absent");
        for Row { label, right, missing, wrong, absent } in &self.rows {
            writeln!(text, "  {label:<34}{right:>8}{missing:>9}{wrong:>7}{absent:>8}")
                .expect("a string takes all");
        }
        text
    }

    /// Adds up one column.
    #[must_use]
    pub fn sum(&self, column: fn(&Row) -> usize) -> usize {
        self.rows.iter().map(column).sum()
    }

    /// Prints the table and ends the test if a parent is wrong, a span absent, or (where `all`) a parent missing.
    ///
    /// # Panics
    /// With examples.
    pub fn check(&self, what: &str, all: bool, log: &str) {
        println!("{}", self.text(what));
        let bad = self.sum(|row| row.wrong) + self.sum(|row| row.absent);
        assert!(
            bad == 0,
            "{what}: wrong parents or absent spans\n  {}\nsonde said: {log}",
            self.examples.join("\n  ")
        );
        if all {
            assert_eq!(self.sum(|row| row.missing), 0, "{what}: parents are missing\nsonde said: {log}");
        }
    }
}
