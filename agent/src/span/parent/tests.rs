//! Which evidence decides about a parent.

use super::{Evidence, Served, TOLERANCE, Verdict, judge};
use crate::conn::Stamp;
use crate::proto::ExchangeId;
use crate::span::Scheduling;

fn stamp(time: u64, tid: u32) -> Stamp {
    Stamp { time, arrival: time, tgid: 1, tid }
}

/// Read at 100 and answered at 900 by thread 7.
fn served(id: u64) -> Served {
    Served {
        id: ExchangeId(id),
        first: stamp(100, 7),
        requested: stamp(110, 7),
        responding: Some(stamp(900, 7)),
        end: Some(stamp(910, 7)),
        failed: false,
    }
}

fn open(id: u64) -> Served {
    Served { responding: None, end: None, ..served(id) }
}

/// A call of thread 7 from 200 to 300 for a request that it had read, in a process of which nothing else is known.
fn evidence() -> Evidence {
    Evidence {
        begin: stamp(200, 7),
        end: Some(300),
        thread: Some(served(1)),
        contested: false,
        doubted: false,
        single: None,
        thread_serves: true,
        scheduling: Scheduling::Unknown,
        trusted: true,
        settled: true,
        lossy: false,
        forced: false,
    }
}

const BY_THREAD: Verdict = Verdict::Parent { server: ExchangeId(1), guessed: false };
const GUESS: Verdict = Verdict::Parent { server: ExchangeId(2), guessed: true };

fn check(name: &str, expect: Verdict, change: impl FnOnce(&mut Evidence)) {
    let mut evidence = evidence();
    change(&mut evidence);
    assert_eq!(judge(&evidence), expect, "{name}");
}

#[test]
fn a_thread_that_serves_one_request_at_a_time() {
    check("plain", BY_THREAD, |_| ());
    check("the call has not ended", BY_THREAD, |e| e.end = None);
    check("the call outlives the request", BY_THREAD, |e| e.end = Some(5000));
    check("records were lost", BY_THREAD, |e| e.lossy = true);
    check("no candidate", Verdict::Nothing, |e| e.thread = None);
    check("the request has not ended", Verdict::Wait, |e| e.thread = Some(open(1)));
    check("others may still speak against threads", Verdict::Wait, |e| e.settled = false);
    check("another exchange in between", Verdict::Nothing, |e| e.contested = true);
    check("trust lost", Verdict::Nothing, |e| e.trusted = false);
    check("trust lost, request open", Verdict::Nothing, |e| {
        (e.trusted, e.thread) = (false, Some(open(1)));
    });
    check("answered before", Verdict::Nothing, |e| e.begin = stamp(911, 7));
    check("answered in that moment", Verdict::Nothing, |e| e.begin = stamp(910, 7));
    check("the response still streams", BY_THREAD, |e| e.begin = stamp(905, 7));
    check("read by another thread", Verdict::Nothing, |e| {
        e.thread = Some(Served { requested: stamp(110, 8), ..served(1) });
    });
    check("first byte read by another thread", Verdict::Nothing, |e| {
        e.thread = Some(Served { first: stamp(100, 8), ..served(1) });
    });
    check("answered by another thread", Verdict::Nothing, |e| {
        e.thread = Some(Served { responding: Some(stamp(900, 8)), ..served(1) });
    });
    check("finished by another thread", Verdict::Nothing, |e| {
        e.thread = Some(Served { end: Some(stamp(910, 8)), ..served(1) });
    });
    check("being answered by another thread", Verdict::Nothing, |e| {
        e.thread = Some(Served { responding: Some(stamp(900, 8)), ..open(1) });
    });
    check("broke off, as another thread noticed", BY_THREAD, |e| {
        e.thread = Some(Served { responding: None, end: Some(stamp(910, 8)), failed: true, ..served(1) });
    });
}

#[test]
fn a_thread_at_the_bound() {
    check("request open, process has shown how it works", BY_THREAD, |e| {
        (e.thread, e.forced) = (Some(open(1)), true);
    });
    check("request open, process has shown nothing", Verdict::Nothing, |e| {
        (e.thread, e.forced, e.settled) = (Some(open(1)), true, false);
    });
    check("request ended", BY_THREAD, |e| (e.forced, e.settled) = (true, false));
    check("contested", Verdict::Nothing, |e| (e.forced, e.contested) = (true, true));
}

#[test]
fn a_thread_that_runs_to_completion() {
    let proxy = |change: fn(&mut Evidence)| {
        move |e: &mut Evidence| {
            e.scheduling = Scheduling::RunToCompletion;
            change(e);
        }
    };
    check("plain", BY_THREAD, proxy(|_| ()));
    check("needs no trust", BY_THREAD, proxy(|e| (e.trusted, e.settled) = (false, false)));
    check("request open", Verdict::Wait, proxy(|e| e.thread = Some(open(1))));
    check("call open", Verdict::Wait, proxy(|e| e.end = None));
    check("ends with the request", BY_THREAD, proxy(|e| e.end = Some(910 + TOLERANCE)));
    check("outlives the request", Verdict::Nothing, proxy(|e| e.end = Some(911 + TOLERANCE)));
    check(
        "outlives a request that broke off",
        BY_THREAD,
        proxy(|e| {
            e.end = Some(911 + TOLERANCE);
            e.thread = Some(Served { failed: true, ..served(1) });
        }),
    );
    check(
        "call open, request broke off",
        BY_THREAD,
        proxy(|e| {
            e.end = None;
            e.thread = Some(Served { failed: true, ..served(1) });
        }),
    );
    check("records were lost", Verdict::Nothing, proxy(|e| e.lossy = true));
    check("another exchange in between", Verdict::Nothing, proxy(|e| e.contested = true));
    check(
        "at the bound",
        BY_THREAD,
        proxy(|e| {
            e.thread = Some(open(1));
            e.forced = true;
        }),
    );
}

#[test]
fn threads_that_say_nothing() {
    check("moving", Verdict::Nothing, |e| e.scheduling = Scheduling::Moving);
}

#[test]
fn the_only_request_that_was_open() {
    let alone = |change: fn(&mut Evidence)| {
        move |e: &mut Evidence| {
            (e.thread, e.single, e.scheduling) = (None, Some(served(2)), Scheduling::Moving);
            change(e);
        }
    };
    check("plain", GUESS, alone(|_| ()));
    check("request open", Verdict::Wait, alone(|e| e.single = Some(open(2))));
    check("call open", Verdict::Wait, alone(|e| e.end = None));
    check("ends with the request", GUESS, alone(|e| e.end = Some(910)));
    check("outlives the request", Verdict::Nothing, alone(|e| e.end = Some(911)));
    check("answered before", Verdict::Nothing, alone(|e| e.begin = stamp(911, 7)));
    check("began before", Verdict::Nothing, alone(|e| e.begin = stamp(99, 7)));
    check("records were lost", Verdict::Nothing, alone(|e| e.lossy = true));
    check("request open at the bound", GUESS, alone(|e| (e.single, e.forced) = (Some(open(2)), true)));
    check("call open at the bound", Verdict::Nothing, alone(|e| (e.end, e.forced) = (None, true)));
    check("none", Verdict::Nothing, alone(|e| e.single = None));
    check("another thread", GUESS, alone(|e| e.begin = stamp(200, 9)));
    check(
        "unknown, a thread that serves no requests",
        GUESS,
        alone(|e| {
            (e.scheduling, e.begin, e.thread_serves) = (Scheduling::Unknown, stamp(200, 9), false);
        }),
    );
    check(
        "unknown, a thread that serves others",
        Verdict::Nothing,
        alone(|e| {
            (e.scheduling, e.begin) = (Scheduling::Unknown, stamp(200, 9));
        }),
    );
    check(
        "threads not trusted",
        GUESS,
        alone(|e| {
            (e.scheduling, e.trusted, e.begin) = (Scheduling::Unknown, false, stamp(200, 9));
        }),
    );
    check(
        "the thread's own request is stronger",
        BY_THREAD,
        alone(|e| {
            (e.scheduling, e.thread) = (Scheduling::Unknown, Some(served(1)));
        }),
    );
}
