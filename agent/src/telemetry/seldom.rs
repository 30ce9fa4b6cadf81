//! A bound on how often one thing is said.

use std::time::{Duration, Instant};

/// Any one warning comes this often at most.
const EVERY: Duration = Duration::from_secs(60);

/// When something was last said.
#[derive(Debug, Default)]
pub struct Seldom(Option<Instant>);

impl Seldom {
    /// Whether it may be said now; from now on it was.
    pub fn again(&mut self, now: Instant) -> bool {
        let may = self.0.is_none_or(|then| now.duration_since(then) >= EVERY);
        if may {
            self.0 = Some(now);
        }
        may
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn once_a_minute() {
        let (mut seldom, now) = (Seldom::default(), Instant::now());
        let said: Vec<u64> =
            (0..180).filter(|second| seldom.again(now + Duration::from_secs(*second))).collect();
        assert_eq!(said, [0, 60, 120]);
    }
}
