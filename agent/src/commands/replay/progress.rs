//! How far a replay is: one line on a terminal, written again and again, and nothing anywhere else.

use std::io::{IsTerminal, Write};
use std::time::{Duration, Instant};

/// How often the line is written.
const INTERVAL: Duration = Duration::from_millis(200);

const MIB: f64 = 1_048_576.0;

/// The line.
pub(super) struct Progress {
    /// Bytes of the file, 0 where that is not known.
    total: u64,
    began: Instant,
    next: Instant,
    shown: bool,
    wanted: bool,
}

impl Progress {
    /// Nothing is shown before the first interval is over, and nothing at all where spans scroll by on the same terminal.
    pub(super) fn new(total: u64, spans_on_stdout: bool) -> Self {
        let began = Instant::now();
        let wanted = std::io::stderr().is_terminal() && !(spans_on_stdout && std::io::stdout().is_terminal());
        Self { total, began, next: began + INTERVAL, shown: false, wanted }
    }

    /// So much was read and made.
    pub(super) fn advance(&mut self, read: u64, spans: u64) {
        if !self.wanted {
            return;
        }
        let now = Instant::now();
        if now < self.next {
            return;
        }
        self.next = now + INTERVAL;
        self.shown = true;
        let line = line(read, self.total, now - self.began, spans);
        // A terminal that is gone is no reason to stop.
        let mut stderr = std::io::stderr().lock();
        drop(write!(stderr, "\r{line}\x1b[K").and_then(|()| stderr.flush()));
    }

    /// Takes the line away.
    pub(super) fn clear(&mut self) {
        if std::mem::take(&mut self.shown) {
            drop(write!(std::io::stderr(), "\r\x1b[K"));
        }
    }
}

fn line(read: u64, total: u64, passed: Duration, spans: u64) -> String {
    let mib = read as f64 / MIB;
    let rate = mib / passed.as_secs_f64().max(0.001);
    if total == 0 {
        return format!("{mib:.0} MiB read, {rate:.0} MiB/s, {spans} spans");
    }
    let percent = 100.0 * read as f64 / total as f64;
    format!("{percent:3.0} % of {:.0} MiB, {rate:.0} MiB/s, {spans} spans", total as f64 / MIB)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_line_says_how_far_it_is() {
        let second = Duration::from_secs(2);
        assert_eq!(line(100 << 20, 400 << 20, second, 7), " 25 % of 400 MiB, 50 MiB/s, 7 spans");
        assert_eq!(line(100 << 20, 0, second, 7), "100 MiB read, 50 MiB/s, 7 spans");
    }
}
