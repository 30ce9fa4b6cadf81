//! The RED table: rate, errors and durations per service, kind and name.

use std::fmt::Write as _;
use std::time::Duration;

use super::style::{Colour, Style, duration, left, pad, right, visible};
use crate::metrics::Row;
use crate::span::SpanKind;

/// Rows shown at most; the busiest come first.
const ROWS: usize = 20;

/// Adds the table of what happened within `time`.
pub(super) fn write(out: &mut String, rows: &[Row], time: Duration, title: &str, style: Style) {
    let width = |of: fn(&Row) -> &str, least: usize, most: usize| {
        let widths = rows.iter().take(ROWS).map(|row| of(row).chars().count());
        widths.max().unwrap_or(0).clamp(least, most)
    };
    let service = width(|row| if row.kind.is_none() { "(others)" } else { &row.service }, 7, 24);
    let name = width(|row| &row.name, 4, 48);

    out.push('\n');
    style.paint(out, Colour::Bold, |out| {
        left(out, "service", service + 1);
        left(out, "kind", 7);
        left(out, "name", name + 1);
        for (head, width) in
            [("calls", 9), ("rate/s", 9), ("errors", 8), ("p50", 8), ("p95", 8), ("p99", 8), ("max", 8)]
        {
            right(out, head, width);
        }
    });
    out.push_str("  ");
    out.push_str(title);
    out.push('\n');
    for row in rows.iter().take(ROWS) {
        let used = visible(out, if row.kind.is_none() { "(others)" } else { &row.service }, service);
        pad(out, service + 1 - used);
        left(out, row.kind.map_or("", kind), 7);
        let used = visible(out, &row.name, name);
        pad(out, name + 1 - used);
        right(out, &row.calls.to_string(), 9);
        right(out, &rate(row.calls, time), 9);
        let errors = |out: &mut String| right(out, &row.errors.to_string(), 8);
        if row.errors > 0 {
            style.paint(out, Colour::Red, errors);
        } else {
            errors(out);
        }
        for nanos in row.durations {
            duration(out, nanos);
        }
        out.push('\n');
    }
    if rows.len() > ROWS {
        // Writing to a String cannot fail.
        let _ = writeln!(out, "... and {} more", rows.len() - ROWS);
    }
    out.push('\n');
}

fn kind(kind: SpanKind) -> &'static str {
    match kind {
        SpanKind::Server => "SERVER",
        SpanKind::Client => "CLIENT",
        SpanKind::Internal => "INTERN",
    }
}

fn rate(calls: u64, time: Duration) -> String {
    let seconds = time.as_secs_f64();
    if seconds <= 0.0 {
        return "-".to_owned();
    }
    let rate = calls as f64 / seconds;
    if rate < 100.0 { format!("{rate:.1}") } else { format!("{rate:.0}") }
}
