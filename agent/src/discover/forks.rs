//! Processes that were forked by a known one and have not been looked at themselves.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use super::Process;
use crate::conn::Nanos;

/// Forks that are remembered. Past it the oldest is forgotten: that child is known only if it still lives when it moves bytes.
const REMEMBERED: usize = 4096;

/// Where a process comes from.
#[derive(Clone, Debug)]
pub(super) struct Fork {
    /// What the process that forked it was then.
    pub(super) parent: Arc<Process>,
    /// When.
    pub(super) time: Nanos,
}

/// By the child's id. An id that is used again replaces what was remembered of it.
#[derive(Debug, Default)]
pub(super) struct Forks {
    forks: HashMap<u32, Fork, foldhash::fast::RandomState>,
    /// In the order in which they came; may name forks that were taken, or replaced since.
    order: VecDeque<(u32, Nanos)>,
}

impl Forks {
    pub(super) fn add(&mut self, child: u32, fork: Fork) {
        self.order.push_back((child, fork.time));
        self.forks.insert(child, fork);
        while self.order.len() > REMEMBERED {
            let Some((child, time)) = self.order.pop_front() else { return };
            if self.forks.get(&child).is_some_and(|fork| fork.time == time) {
                self.forks.remove(&child);
            }
        }
    }

    /// The parent of a process, or of the one that forked it.
    pub(super) fn parent(&self, child: u32) -> Option<Arc<Process>> {
        self.forks.get(&child).map(|fork| Arc::clone(&fork.parent))
    }

    pub(super) fn take(&mut self, child: u32) -> Option<Fork> {
        self.forks.remove(&child)
    }
}
