//! What ids meant before: spans are made after their process may have ended, or begun another program.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use super::Process;
use crate::conn::Nanos;

/// How many are remembered. Past it the oldest is forgotten: a span of it that is made so late is taken for its successor's.
const REMEMBERED: usize = 1024;

/// Processes by id and the time up to which the id meant them.
#[derive(Debug, Default)]
pub(super) struct Former {
    by_id: HashMap<u32, Vec<(Nanos, Arc<Process>)>, foldhash::fast::RandomState>,
    order: VecDeque<u32>,
}

impl Former {
    /// From this time on the id means another one.
    pub(super) fn add(&mut self, process: Arc<Process>, until: Nanos) {
        let tgid = process.id.tgid;
        self.by_id.entry(tgid).or_default().push((until, process));
        self.order.push_back(tgid);
        while self.order.len() > REMEMBERED {
            let Some(oldest) = self.order.pop_front() else { return };
            if let Some(of_id) = self.by_id.get_mut(&oldest) {
                of_id.remove(0);
                if of_id.is_empty() {
                    self.by_id.remove(&oldest);
                }
            }
        }
    }

    /// Which process the id meant at that time, where that is not the one that it means now.
    pub(super) fn at(&self, tgid: u32, time: Nanos) -> Option<&Arc<Process>> {
        let of_id = self.by_id.get(&tgid)?;
        of_id.iter().find(|(until, _)| time < *until).map(|(_, process)| process)
    }
}
