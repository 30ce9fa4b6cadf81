//! Where connections had come to that were forgotten while they lived. The kernel side says of a connection once where its chunks
//! begin; of one that is heard of without that, records were lost, unless it stands here.

use std::collections::HashMap;

use super::{ConnKey, Direction};

/// How many places are kept, twice.
const KEPT: usize = 32_768;

/// By [`Direction`]: where what is known of a connection begins.
pub type Begins = [u64; 2];

/// Places, the older ones of which go.
#[derive(Debug, Default)]
pub(super) struct Forgotten {
    newer: Places,
    older: Places,
    /// Some went: a connection that does not stand here may have been forgotten all the same.
    incomplete: bool,
}

type Places = HashMap<ConnKey, Begins, foldhash::fast::RandomState>;

impl Forgotten {
    /// A connection is forgotten that may live on.
    pub(super) fn add(&mut self, key: ConnKey, begins: Begins) {
        if self.newer.len() >= KEPT {
            self.incomplete |= !self.older.is_empty();
            self.older = std::mem::take(&mut self.newer);
        }
        self.newer.insert(key, begins);
    }

    /// Where a connection begins of which the kernel side has said nothing: where it was forgotten, else with its first byte.
    /// `None` where it may have been forgotten longer ago.
    pub(super) fn take(&mut self, key: ConnKey) -> Option<Begins> {
        let known = self.newer.remove(&key).or_else(|| self.older.remove(&key));
        known.or((!self.incomplete).then_some([0; 2]))
    }

    /// A connection is gone.
    pub(super) fn remove(&mut self, key: ConnKey) {
        self.newer.remove(&key);
        self.older.remove(&key);
    }
}

/// One of a pair.
pub(super) fn of<T>([write, read]: [T; 2], direction: Direction) -> T {
    match direction {
        Direction::Write => write,
        Direction::Read => read,
    }
}

/// The end that called connect counts its SYN among the bytes that it wrote: its first byte stands at one.
pub(super) const fn is_syn(begin: u64, position: u64, direction: Direction) -> bool {
    begin == 0 && position == 1 && matches!(direction, Direction::Write)
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn key(sock: u64) -> ConnKey {
        ConnKey { sock, generation: 1 }
    }

    #[test]
    fn what_is_not_kept_any_more_is_not_known_to_begin_anywhere() {
        let mut forgotten = Forgotten::default();
        for sock in 0..2 * KEPT as u64 {
            forgotten.add(key(sock), [sock, 7]);
        }
        assert_eq!(forgotten.take(key(3)), Some([3, 7]));
        assert_eq!(forgotten.take(key(3)), Some([0, 0]), "it was told, and lost");
        forgotten.remove(key(4));
        assert_eq!(forgotten.take(key(4)), Some([0, 0]));
        forgotten.add(key(u64::MAX), [1, 1]);
        assert_eq!(forgotten.take(key(5)), None);
        assert_eq!(forgotten.take(key(2 * KEPT as u64 - 1)), Some([2 * KEPT as u64 - 1, 7]));
    }
}
