//! When records were lost. Nobody knows which: between two countings some were, of any process.

use std::collections::VecDeque;

use crate::conn::Nanos;

/// Spans of time that are kept; past it the two oldest become one.
const KEPT: usize = 256;

/// When records were lost, as far as the counters tell.
#[derive(Debug, Default)]
pub(super) struct Losses {
    total: u64,
    /// Later than the first, and not after the second number; in order, without overlap.
    spans: VecDeque<(Nanos, Nanos)>,
    /// When the kernel's counters were read last that told of more.
    counted: Nanos,
    /// All up to here are known.
    known: Nanos,
}

impl Losses {
    /// The kernel's counters told of more at this time.
    pub(super) fn counted(&mut self, until: Nanos) {
        self.counted = self.counted.max(until);
    }

    /// All records stamped before `now` have been taken, and so many were lost in all.
    pub(super) fn tick(&mut self, now: Nanos, total: u64) {
        if total != std::mem::replace(&mut self.total, total) {
            self.add(self.known, self.counted.max(now));
        }
        self.known = self.known.max(now);
    }

    fn add(&mut self, from: Nanos, until: Nanos) {
        match self.spans.back_mut() {
            Some(last) if from <= last.1 => last.1 = last.1.max(until),
            _ => self.spans.push_back((from, until)),
        }
        if self.spans.len() > KEPT
            && let Some((from, _)) = self.spans.pop_front()
            && let Some(next) = self.spans.front_mut()
        {
            next.0 = from;
        }
    }

    /// What was lost up to `time` is known.
    pub(super) const fn are_known(&self, time: Nanos) -> bool {
        time <= self.known
    }

    /// When records were lost last.
    pub(super) fn last(&self) -> Option<Nanos> {
        self.spans.back().map(|(_, until)| *until)
    }

    /// Records stamped between the two times may be missing.
    pub(super) fn between(&self, from: Nanos, until: Nanos) -> bool {
        self.spans.iter().rev().any(|span| span.0 <= until && from <= span.1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn between_two_countings() {
        let mut losses = Losses::default();
        losses.tick(100, 0);
        assert!(losses.are_known(100) && !losses.are_known(101) && losses.last().is_none());
        // The reader is behind: what was lost is later than what it has read.
        losses.counted(250);
        losses.tick(200, 3);
        assert_eq!(losses.last(), Some(250));
        for (from, until, lost) in
            [(0, 90, false), (0, 110, true), (120, 130, true), (240, 300, true), (260, 300, false)]
        {
            assert_eq!(losses.between(from, until), lost, "{from} to {until}");
        }
        losses.tick(300, 3);
        losses.tick(400, 4);
        assert!(losses.between(310, 320) && !losses.between(260, 290));
    }

    #[test]
    fn too_many_become_fewer_and_none_is_forgotten() {
        let mut losses = Losses::default();
        for i in 1..2_000 {
            losses.tick(i * 100, i / 2);
        }
        assert!(losses.spans.len() <= KEPT);
        assert!(losses.between(150, 160), "long ago");
        assert!(losses.between(0, Nanos::MAX));
    }
}
