//! Whose child a call is: evidence in, verdict out. ARCHITECTURE.md, "Threads, tasks, parents".
//!
//! Rule 1 (the call carries the trace of a request) needs no waiting and is [`super::process::Process::in_trace`]. Here
//! stand rule 2 (the thread) and rule 4 (nothing else was open). Rule 3, hand-offs between threads, will come between
//! them: its evidence arrives after the reply, when the call has ended and the request has not, so [`Verdict::Wait`]
//! already leaves it the time.

use super::Scheduling;
use super::join::TOLERANCE;
use crate::conn::{Nanos, Stamp};
use crate::proto::ExchangeId;

#[cfg(test)]
mod tests;

/// The value of `sonde.parent.confidence` where the parent is the only request that was open.
pub const SINGLE_OPEN: &str = "single_open";

/// How long after an event a thread that runs to completion may begin a call for it.
pub const PROMPT: Nanos = 5_000_000;

/// How long after a loss of records an open request may be one that was never seen.
pub const LOSS_SHADOW: Nanos = 5_000_000_000;

/// A server exchange as far as it is a candidate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Served {
    /// Its name.
    pub id: ExchangeId,
    /// First byte of its request.
    pub first: Stamp,
    /// Last byte of its request that was read so far.
    pub requested: Stamp,
    /// First byte of its response, where there was one.
    pub responding: Option<Stamp>,
    /// Last byte of its response, once it has ended; for one that broke off, when that was known.
    pub end: Option<Stamp>,
    /// It broke off.
    pub failed: bool,
}

/// A call, and all that speaks for one request or another.
#[derive(Clone, Copy, Debug)]
pub struct Evidence {
    /// When and on which thread it began.
    pub begin: Stamp,
    /// When it ended, once it has.
    pub end: Option<Nanos>,
    /// The request that its thread worked for when it began.
    pub thread: Option<Served>,
    /// Later stamps have put another exchange between that request and the call, or the thread had a second request.
    pub contested: bool,
    /// The thread may have put off another request, which more will be known of.
    pub doubted: bool,
    /// The only request that was open in its process when it began.
    pub single: Option<Served>,
    /// Its thread serves requests itself.
    pub thread_serves: bool,
    /// How the process runs its requests.
    pub scheduling: Scheduling,
    /// Nothing has spoken against the process's threads.
    pub trusted: bool,
    /// All that may still speak against them has been seen.
    pub settled: bool,
    /// Records were lost shortly before or since: a request may be open that nobody saw.
    pub lossy: bool,
    /// Time is up: what is known must do.
    pub forced: bool,
}

/// What the evidence says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// More will be known when a candidate or the call has ended, or the rest has settled.
    Wait,
    /// The parent, and whether it is a guess.
    Parent {
        /// The server exchange.
        server: ExchangeId,
        /// Rule 4 alone speaks for it.
        guessed: bool,
    },
    /// No parent, or several.
    Nothing,
}

/// Judges a call.
#[must_use]
pub fn judge(evidence: &Evidence) -> Verdict {
    match by_thread(evidence) {
        Verdict::Nothing => by_elimination(evidence),
        verdict => verdict,
    }
}

/// Rule 2.
fn by_thread(evidence: &Evidence) -> Verdict {
    let Some(server) = evidence.thread.filter(|_| !evidence.contested) else { return Verdict::Nothing };
    let answered = server.end.is_some_and(|end| end.time <= evidence.begin.time);
    let complete = server.end.is_some() && evidence.settled;
    let (holds, complete) = match evidence.scheduling {
        Scheduling::Moving => (false, complete),
        Scheduling::Unknown => (evidence.trusted && stays(&server, evidence.begin.tid), complete),
        // A proxy's call for a request lies within it; one that outlives it may belong to a request nobody saw.
        Scheduling::RunToCompletion => {
            let over = evidence.end.is_some() || server.failed;
            let complete = server.end.is_some() && over && !evidence.doubted;
            (!evidence.lossy && !outlives(&server, evidence.end), complete)
        }
    };
    if !holds || answered {
        return Verdict::Nothing;
    }
    match (complete, evidence.forced) {
        (true, _) => Verdict::Parent { server: server.id, guessed: false },
        (false, false) => Verdict::Wait,
        // At the bound the request may still be open; then its process must have shown how it works.
        (false, true) if server.end.is_some() || evidence.settled => {
            Verdict::Parent { server: server.id, guessed: false }
        }
        (false, true) => Verdict::Nothing,
    }
}

/// Everything the exchange did, it did on this thread.
fn stays(server: &Served, tid: u32) -> bool {
    let end = server.end.filter(|_| !server.failed);
    let stamps = [Some(server.first), Some(server.requested), server.responding, end];
    stamps.iter().flatten().all(|stamp| stamp.tid == tid)
}

fn outlives(server: &Served, end: Option<Nanos>) -> bool {
    match (server.end, end) {
        (Some(outer), Some(inner)) if !server.failed => inner > outer.time.saturating_add(TOLERANCE),
        _ => false,
    }
}

/// Rule 4. Where threads are trusted, a thread that serves requests works for its own.
fn by_elimination(evidence: &Evidence) -> Verdict {
    let Some(server) = evidence.single.filter(|_| !evidence.lossy) else { return Verdict::Nothing };
    let foreign = evidence.scheduling == Scheduling::Unknown
        && evidence.trusted
        && evidence.thread_serves
        && server.requested.tid != evidence.begin.tid;
    let answered = server.end.is_some_and(|end| end.time <= evidence.begin.time);
    if foreign || answered || server.first.time > evidence.begin.time {
        return Verdict::Nothing;
    }
    match (server.end, evidence.end) {
        (Some(outer), Some(inner)) if inner <= outer.time => {
            Verdict::Parent { server: server.id, guessed: true }
        }
        (Some(_), Some(_)) => Verdict::Nothing,
        // The request is open still: so far the call lies inside it.
        (None, Some(_)) if evidence.forced => Verdict::Parent { server: server.id, guessed: true },
        _ if evidence.forced => Verdict::Nothing,
        _ => Verdict::Wait,
    }
}
