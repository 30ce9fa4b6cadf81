//! What one thread did lately: the evidence of the parent rules that trust threads.

use std::collections::VecDeque;

use crate::conn::{ConnKey, Nanos};
use crate::proto::ExchangeId;

/// Requests read and not answered that one thread is known to have; of an event loop with more the oldest are forgotten,
/// which costs evidence against the loop, not truth: it has been shown by then.
const READING: usize = 64;

/// A socket event of a thread.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Mark {
    /// End of the call that moved the bytes.
    pub(super) time: Nanos,
    /// Whose bytes: a server exchange where that is known (its own, or the parent of the call), else the call.
    pub(super) owner: ExchangeId,
    /// `owner` is a server exchange.
    pub(super) served: bool,
    /// Bytes came in, so that the thread may act on them.
    pub(super) read: bool,
}

/// A request that a thread has read and nobody has answered.
#[derive(Clone, Copy, Debug)]
pub(super) struct Reading {
    pub(super) id: ExchangeId,
    pub(super) conn: ConnKey,
    /// When its first byte was read.
    pub(super) first: Nanos,
    /// Its last byte has been read.
    pub(super) complete: bool,
}

/// One thread of a process.
#[derive(Debug, Default)]
pub(super) struct Thread {
    /// In order of time.
    marks: VecDeque<Mark>,
    /// Nothing is known of the thread up to here.
    forgotten: Nanos,
    reading: Vec<Reading>,
    /// It has read a request.
    pub(super) serves: bool,
}

impl Thread {
    /// Files a mark, within `limit` marks. A thread's marks come in order, but for stamps that are told late (the first
    /// byte of a head in pieces, a connect).
    pub(super) fn mark(&mut self, mark: Mark, limit: usize) {
        let later = self.marks.iter().rev().take_while(|known| known.time > mark.time).count();
        self.marks.insert(self.marks.len() - later, mark);
        if self.marks.len() > limit
            && let Some(oldest) = self.marks.pop_front()
        {
            self.forgotten = oldest.time;
        }
    }

    /// The last mark up to `time` that is not `own`.
    pub(super) fn before(&self, time: Nanos, own: ExchangeId) -> Option<Mark> {
        self.marks.iter().rev().find(|mark| mark.time <= time && mark.owner != own).copied()
    }

    /// Whether marks as old as `time` are still known.
    pub(super) const fn remembers(&self, time: Nanos) -> bool {
        time > self.forgotten
    }

    /// Time of the last mark.
    pub(super) fn last(&self) -> Nanos {
        self.marks.back().map_or(0, |mark| mark.time)
    }

    /// The thread has begun to read a request. Returns the requests of other connections that it had read completely and
    /// left unanswered.
    pub(super) fn reads(&mut self, reading: Reading) -> impl Iterator<Item = ExchangeId> + '_ {
        self.serves = true;
        if self.reading.len() >= READING {
            self.reading.remove(0);
        }
        self.reading.push(reading);
        let left = move |known: &&Reading| {
            known.complete && known.conn != reading.conn && known.first < reading.first
        };
        self.reading.iter().filter(left).map(|known| known.id)
    }

    /// The request's last byte has been read.
    pub(super) fn completes(&mut self, id: ExchangeId) {
        if let Some(reading) = self.reading.iter_mut().find(|reading| reading.id == id) {
            reading.complete = true;
        }
    }

    /// The request is answered, or given up, or read by another thread.
    pub(super) fn leaves(&mut self, id: ExchangeId) -> Option<Reading> {
        let index = self.reading.iter().position(|reading| reading.id == id)?;
        Some(self.reading.swap_remove(index))
    }

    /// Other requests than `server` that the thread had read completely at `time` and nobody has answered.
    pub(super) fn unanswered(
        &self,
        server: ExchangeId,
        time: Nanos,
    ) -> impl Iterator<Item = ExchangeId> + '_ {
        let other = move |known: &&Reading| known.complete && known.id != server && known.first <= time;
        self.reading.iter().filter(other).map(|known| known.id)
    }

    /// Whether the thread had another unanswered request than `server` at `time`.
    pub(super) fn is_torn(&self, server: ExchangeId, time: Nanos) -> bool {
        self.reading.iter().any(|reading| reading.id != server && reading.first <= time)
    }
}
