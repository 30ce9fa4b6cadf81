//! How long the two spans of a request say it took, against what its client measured: by how much, and where that lies.

use std::collections::BTreeMap;

use crate::calls::Call;
use crate::spans::{Kind, Span};

/// One line of the table: the requests of one server.
pub struct Row {
    name: String,
    /// Microseconds, sorted: each of `COLUMNS`.
    columns: [Vec<i64>; COLUMNS.len()],
}

/// What is compared. Both spans are stamped by one clock, so it is known what lies between them.
const COLUMNS: [&str; 5] =
    ["CLIENT - measured", "SERVER - measured", "SERVER - CLIENT", "on the way there", "on the way back"];

impl Row {
    /// Compares each call that has one span of each kind.
    #[must_use]
    pub fn of(name: &str, calls: &[Call], spans: &[Span]) -> Self {
        let mut by_path: BTreeMap<(Kind, &str), &Span> = BTreeMap::new();
        for span in spans {
            by_path.insert((span.kind, span.path()), span);
        }
        let mut columns: [Vec<i64>; COLUMNS.len()] = Default::default();
        for call in calls {
            let find = |kind| by_path.get(&(kind, call.path.as_str()));
            let (Some(client), Some(server)) = (find(Kind::Client), find(Kind::Server)) else { continue };
            let measured = call.end.saturating_sub(call.start);
            let differences = [
                micros(client.duration(), measured),
                micros(server.duration(), measured),
                micros(server.duration(), client.duration()),
                micros(server.start, client.start),
                micros(client.end, server.end),
            ];
            for (column, difference) in columns.iter_mut().zip(differences) {
                column.push(difference);
            }
        }
        columns.iter_mut().for_each(|column| column.sort_unstable());
        Self { name: name.to_owned(), columns }
    }

    /// How many calls were compared.
    #[must_use]
    pub fn count(&self) -> usize {
        self.columns[0].len()
    }
}

/// The rows, in microseconds: the median of each difference, and what 99 of a hundred are below in absolute value.
pub fn print(title: &str, rows: &[Row]) {
    println!("{title}; microseconds, p50 and p99 of the absolute value");
    println!("{:42} {:>8} {}", "", "requests", COLUMNS.map(|name| format!("{name:>18}")).join(" "));
    for row in rows {
        let cells =
            row.columns.each_ref().map(|column| format!("{:>9} {:>8}", at(column, 50), absolute(column)));
        println!("{:42} {:>8} {}", row.name, row.count(), cells.join(" "));
    }
}

fn micros(a: u64, b: u64) -> i64 {
    let signed = |time: u64| i64::try_from(time).unwrap_or(i64::MAX);
    (signed(a) - signed(b)) / 1000
}

fn at(sorted: &[i64], percent: usize) -> i64 {
    sorted.get(sorted.len().saturating_sub(1) * percent / 100).copied().unwrap_or(0)
}

fn absolute(column: &[i64]) -> i64 {
    let mut sorted: Vec<i64> = column.iter().map(|difference| difference.abs()).collect();
    sorted.sort_unstable();
    at(&sorted, 99)
}
