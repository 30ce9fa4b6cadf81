//! A small world that knows the truth: processes that run their requests in different ways call each other, and what the
//! correlator makes of their exchanges is compared with who really called whom. Deterministic by seed.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap, HashSet, VecDeque};

use super::scene::{End, MS, Outcome, Scene, US};
use crate::conn::Nanos;
use crate::span::Scheduling;
use crate::telemetry::Lost;

/// `SplitMix64`.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let x = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        x ^ (x >> 31)
    }

    fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound.max(1)
    }

    fn percent(&mut self, chance: u64) -> bool {
        self.below(100) < chance
    }
}

/// How a process runs its requests.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Runtime {
    /// One thread for one request from its first to its last byte.
    Pool { threads: u32 },
    /// As `Pool`, but calls are made by threads of a second pool.
    HandOff { threads: u32 },
    /// One thread for all; a handler runs at each socket event.
    Loop,
    /// A handler may go on with any thread after each wait; `stays` percent of the time it does not.
    Moving { threads: u32, stays: u64 },
    /// As `Loop`, but a connect is followed by the request only at the next event.
    Proxy,
    /// As `Proxy`, but `defers` percent of the requests go on only at a later event, when a name was looked up or a place
    /// is free, and others have been read.
    Deferring { defers: u64 },
}

/// What a process does with the context of a request.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Propagation {
    /// Nothing.
    Silent,
    /// Sends on what it received.
    PassesOn,
    /// Writes a context of its own for each call, in the trace it received; `retries` percent are sent twice.
    Writes { retries: u64 },
}

#[derive(Clone, Copy)]
struct Service {
    runtime: Runtime,
    told: Option<Scheduling>,
    propagation: Propagation,
    /// Calls that a request makes, one after the other, and to whom.
    calls: u64,
    callee: Option<usize>,
}

impl Service {
    const fn new(runtime: Runtime, calls: u64, callee: Option<usize>) -> Self {
        Self { runtime, told: None, propagation: Propagation::Silent, calls, callee }
    }
}

/// One request on its way.
struct Request {
    service: usize,
    worker: u32,
    /// The caller's request, `None` for the load's own.
    caller: Option<usize>,
    /// Indices of the two ends.
    client: usize,
    server: usize,
    left: u64,
    call: Option<usize>,
    thread: u32,
    context: Option<(u64, u64)>,
    uploading: bool,
    retry: bool,
}

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Action {
    /// Load generator's thread starts anew.
    Load(u32),
    Arrive(usize),
    Uploaded(usize),
    /// A request that was put off goes on.
    Resumed(usize),
    /// The call's connection stands: the request can be written.
    Connected(usize),
    /// The response of a call can be read.
    Answered(usize),
}

struct World {
    random: Random,
    services: Vec<Service>,
    workers: u32,
    requests: Vec<Request>,
    ends: Vec<End>,
    truth: Vec<Option<usize>>,
    queue: BinaryHeap<Reverse<(Nanos, u64, Action)>>,
    sequence: u64,
    /// When threads are free again, by process and thread; pools: threads at rest, and requests that wait for one.
    free_at: HashMap<(u32, u32), Nanos>,
    resting: HashMap<usize, Vec<u32>>,
    backlog: HashMap<usize, VecDeque<usize>>,
    to_come: u64,
    carries: u64,
}

const LOAD: u32 = 9;

impl World {
    fn new(seed: u64, services: Vec<Service>, concurrency: u32, requests: u64) -> Self {
        let mut world = Self {
            random: Random(seed),
            resting: services.iter().enumerate().map(|(index, service)| (index, pool(service))).collect(),
            services,
            workers: 2,
            requests: Vec::new(),
            ends: Vec::new(),
            truth: Vec::new(),
            queue: BinaryHeap::new(),
            sequence: 0,
            free_at: HashMap::new(),
            backlog: HashMap::new(),
            to_come: requests,
            carries: 0,
        };
        for thread in 0..concurrency {
            world.at(MS + u64::from(thread) * 13 * US, Action::Load(thread));
        }
        world
    }

    fn at(&mut self, time: Nanos, action: Action) {
        self.sequence += 1;
        self.queue.push(Reverse((time, self.sequence, action)));
    }

    fn tgid(&self, service: usize, worker: u32) -> u32 {
        100 * (service as u32 + 1) + worker
    }

    fn run(&mut self) {
        while let Some(Reverse((time, _, action))) = self.queue.pop() {
            match action {
                Action::Load(thread) => self.load(thread, time),
                Action::Arrive(request) => self.arrive(request, time),
                Action::Uploaded(request) => self.on_thread(request, time, |world, now| {
                    let server = world.requests[request].server;
                    world.ends[server].times[1] = now;
                    world.ends[server].tids[1] = world.requests[request].thread;
                    world.proceed(request, now)
                }),
                Action::Resumed(request) => {
                    self.on_thread(request, time, |world, now| world.proceed(request, now));
                }
                Action::Connected(call) => {
                    let request = self.requests[call].caller.unwrap();
                    self.on_thread(request, time, |world, now| world.write(call, now));
                }
                Action::Answered(call) => self.answered(call, time),
            }
        }
    }

    /// Runs a handler of a request on the thread that its runtime gives it; the handler returns when it is done.
    fn on_thread(&mut self, request: usize, time: Nanos, act: impl FnOnce(&mut Self, Nanos) -> Nanos) {
        let Request { service, worker, thread, .. } = self.requests[request];
        let thread = match self.services[service].runtime {
            Runtime::Moving { threads, stays } if !self.random.percent(stays) => {
                1 + self.random.below(u64::from(threads)) as u32
            }
            _ => thread,
        };
        self.requests[request].thread = thread;
        let key = (self.tgid(service, worker), thread);
        let start = time.max(self.free_at.get(&key).copied().unwrap_or(0)) + US + self.random.below(3000);
        let done = act(self, start);
        self.free_at.insert(key, done + 500);
    }

    fn load(&mut self, thread: u32, time: Nanos) {
        if self.to_come == 0 {
            return;
        }
        self.to_come -= 1;
        let context =
            self.random.percent(self.carries).then(|| (self.random.next() | 1, self.random.next() | 1));
        let call = self.call(0, None, LOAD, thread, time, context);
        self.ends[self.requests[call].client].connect = Some((time, thread));
        self.write(call, time + 20 * US);
    }

    /// A call and the request that it is for its callee.
    fn call(
        &mut self,
        service: usize,
        caller: Option<usize>,
        tgid: u32,
        thread: u32,
        now: Nanos,
        context: Option<(u64, u64)>,
    ) -> usize {
        let conn = self.ends.len() as u32;
        let worker = self.random.below(u64::from(self.workers)) as u32;
        let worker = match self.services[service].runtime {
            Runtime::Loop | Runtime::Proxy | Runtime::Deferring { .. } => worker,
            _ => 0,
        };
        let mut client = End::client(tgid, thread, conn, [now; 4]);
        let mut server = End::server(self.tgid(service, worker), 0, conn, [now; 4]);
        if let Some((trace, span)) = context {
            let header = format!("00-{trace:032x}-{span:016x}-01");
            client = client.carrying(&header);
            server = server.carrying(&header);
        }
        let (client_index, server_index) = (self.ends.len(), self.ends.len() + 1);
        self.ends.extend([client, server]);
        self.truth.extend([caller.map(|caller| self.requests[caller].server), Some(client_index)]);
        let calls = self.services[service].calls;
        let left = if calls == 0 { 0 } else { self.random.below(calls) + 1 };
        self.requests.push(Request {
            service,
            worker,
            caller,
            client: client_index,
            server: server_index,
            left,
            call: None,
            thread: 1,
            context,
            uploading: self.random.percent(20),
            retry: false,
        });
        self.requests.len() - 1
    }

    /// The caller writes the request. Now and then its call returns long after the bytes have gone.
    fn write(&mut self, call: usize, now: Nanos) -> Nanos {
        let late =
            if self.random.percent(5) { self.random.below(190 * US) } else { self.random.below(3 * US) };
        let client = self.requests[call].client;
        let end = &mut self.ends[client];
        (end.times[0], end.times[1]) = (now + late, now + late);
        let wire = 2 * US + self.random.below(5 * US);
        self.at(now + wire, Action::Arrive(call));
        now + late
    }

    fn arrive(&mut self, request: usize, time: Nanos) {
        let service = self.requests[request].service;
        if matches!(self.services[service].runtime, Runtime::Pool { .. } | Runtime::HandOff { .. }) {
            match self.resting.get_mut(&service).and_then(Vec::pop) {
                Some(thread) => self.requests[request].thread = thread,
                None => return self.backlog.entry(service).or_default().push_back(request),
            }
        }
        self.on_thread(request, time, |world, now| {
            let (server, thread) = (world.requests[request].server, world.requests[request].thread);
            world.ends[server].tids = [thread; 4];
            (world.ends[server].times[0], world.ends[server].times[1]) = (now, now);
            if world.requests[request].uploading {
                let more = now + 20 * US + world.random.below(400 * US);
                world.at(more, Action::Uploaded(request));
                return now;
            }
            if let Runtime::Deferring { defers } = world.services[service].runtime
                && world.random.percent(defers)
            {
                let resumed = now + 5 * US + world.random.below(400 * US);
                world.at(resumed, Action::Resumed(request));
                return now;
            }
            world.proceed(request, now)
        });
    }

    /// The next call, or the response.
    fn proceed(&mut self, request: usize, now: Nanos) -> Nanos {
        let now = now + US + self.random.below(20 * US);
        let Request { service, worker, left, thread, context, .. } = self.requests[request];
        let Service { runtime, propagation, callee, .. } = self.services[service];
        if left == 0 {
            return self.respond(request, now);
        }
        let context = match (propagation, context) {
            (Propagation::Silent, _) | (_, None) => None,
            (Propagation::PassesOn, context) => context,
            (Propagation::Writes { .. }, Some((trace, _))) => Some((trace, self.random.next() | 1)),
        };
        let again = self.requests[request].call.filter(|_| std::mem::take(&mut self.requests[request].retry));
        let context = again.and_then(|call| self.requests[call].context).or(context);
        self.requests[request].left -= 1;
        let calls = match runtime {
            Runtime::HandOff { .. } => 1000 + self.random.below(4) as u32,
            _ => thread,
        };
        let tgid = self.tgid(service, worker);
        let call = self.call(callee.unwrap(), Some(request), tgid, calls, now, context);
        if let Propagation::Writes { retries } = propagation {
            self.requests[request].retry = self.requests[request].left > 0 && self.random.percent(retries);
        }
        self.requests[request].call = Some(call);
        let client = self.requests[call].client;
        let kept_alive = self.random.percent(30);
        if !kept_alive {
            self.ends[client].connect = Some((now, calls));
            if matches!(runtime, Runtime::Proxy | Runtime::Deferring { .. }) {
                let stands = now + 10 * US + self.random.below(100 * US);
                self.at(stands, Action::Connected(call));
                return now;
            }
        }
        self.write(call, now + US)
    }

    fn respond(&mut self, request: usize, now: Nanos) -> Nanos {
        let Request { service, caller, client, server, thread, .. } = self.requests[request];
        let late =
            if self.random.percent(5) { self.random.below(190 * US) } else { self.random.below(3 * US) };
        let end = &mut self.ends[server];
        (end.times[2], end.times[3]) = (now + late, now + late);
        (end.tids[2], end.tids[3]) = (thread, thread);
        let arrives = now + 3 * US + self.random.below(5 * US);
        match caller {
            Some(_) => self.at(arrives, Action::Answered(request)),
            None => {
                let end = &mut self.ends[client];
                (end.times[2], end.times[3]) =
                    (arrives.max(end.times[1]) + US, arrives.max(end.times[1]) + US);
                let (again, thread) = (end.times[3] + 10 * US + self.random.below(300 * US), end.tids[0]);
                self.at(again, Action::Load(thread));
            }
        }
        if matches!(self.services[service].runtime, Runtime::Pool { .. } | Runtime::HandOff { .. }) {
            self.resting.entry(service).or_default().push(thread);
            let key = (self.tgid(service, 0), thread);
            self.free_at.insert(key, now + late + US);
            if let Some(next) = self.backlog.get_mut(&service).and_then(VecDeque::pop_front) {
                self.at(now + late + 2 * US, Action::Arrive(next));
            }
        }
        now + late
    }

    fn answered(&mut self, call: usize, time: Nanos) {
        let request = self.requests[call].caller.unwrap();
        let client = self.requests[call].client;
        let time = time.max(self.ends[client].times[1]);
        self.on_thread(request, time, |world, now| {
            let thread = match world.services[world.requests[request].service].runtime {
                Runtime::HandOff { .. } => world.ends[client].tids[0],
                _ => world.requests[request].thread,
            };
            let end = &mut world.ends[client];
            (end.times[2], end.times[3]) = (now, now);
            (end.tids[2], end.tids[3]) = (thread, thread);
            world.proceed(request, now)
        });
    }
}

fn pool(service: &Service) -> Vec<u32> {
    match service.runtime {
        Runtime::Pool { threads } | Runtime::HandOff { threads } => (1..=threads).rev().collect(),
        _ => Vec::new(),
    }
}

/// How many parents of the calls of a service were right, missing and wrong, and of the requests the same.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Score {
    right: u32,
    missing: u32,
    wrong: u32,
}

impl Score {
    fn count(&mut self, truth: Option<usize>, found: Option<usize>) {
        match found {
            _ if truth == found => self.right += 1,
            None => self.missing += 1,
            Some(_) => self.wrong += 1,
        }
    }

    fn share(&self) -> f64 {
        100.0 * f64::from(self.right) / f64::from(self.right + self.missing + self.wrong).max(1.0)
    }
}

struct Trial {
    services: Vec<Service>,
    concurrency: u32,
    requests: u64,
    /// Percent of the load's requests that carry a context.
    carries: u64,
    /// Per thousand of the ends that are lost.
    lost: u64,
}

impl Trial {
    fn of(services: Vec<Service>, concurrency: u32) -> Self {
        Self { services, concurrency, requests: 300, carries: 0, lost: 0 }
    }

    /// Scores of the calls of each service, and of all requests.
    fn run(&self, name: &str, seed: u64) -> (Vec<Score>, Score) {
        let mut world = World::new(seed, self.services.clone(), self.concurrency, self.requests);
        world.carries = self.carries;
        world.run();
        let World { ends, truth, services, mut random, .. } = world;
        let kept: Vec<usize> = (0..ends.len()).filter(|_| random.below(1000) >= self.lost).collect();
        let mut scene = Scene::new(kept.iter().map(|&index| ends[index].clone()).collect());
        if self.lost > 0 {
            // The kernel side's counter of losses is read with each tick.
            scene.counters.lose(Lost::RingFull, (ends.len() - kept.len()) as u64);
        }
        for (index, service) in services.iter().enumerate() {
            for worker in 0..2 {
                let tgid = 100 * (index as u32 + 1) + worker;
                if let Some(told) = service.told {
                    scene = scene.runs(tgid, told);
                }
            }
        }
        let outcome = scene.play();
        let place: HashMap<usize, usize> = kept.iter().enumerate().map(|(new, &old)| (old, new)).collect();
        let by_span = spans(&outcome);
        let (mut calls, mut requests) = (vec![Score::default(); services.len()], Score::default());
        for (new, &old) in kept.iter().enumerate() {
            let truth = truth[old].and_then(|truth| place.get(&truth).copied());
            let context = &outcome.span(new).context;
            let parent = outcome.span(new).parent.as_ref();
            let found = parent.and_then(|parent| by_span.get(&(context.trace_id, parent.span_id)).copied());
            if ends[old].role == crate::conn::Role::Server {
                requests.count(truth, found);
            } else if ends[old].tgid != LOAD {
                calls[ends[old].tgid as usize / 100 - 1].count(truth, found);
            }
        }
        for (index, score) in calls.iter().enumerate().filter(|(_, score)| **score != Score::default()) {
            println!("{name}, seed {seed}, service {index}: {score:?}, {:.1} % right", score.share());
        }
        println!("{name}, seed {seed}, requests: {requests:?}, {:.1} % right", requests.share());
        assert_eq!(requests.wrong, 0, "{name}: wrong ends, seed {seed}");
        for score in &calls {
            assert_eq!(score.wrong, 0, "{name}: wrong parents, seed {seed}");
        }
        if self.lost == 0 {
            assert_eq!(outcome.correlator.held(), 0, "{name}: exchanges kept, seed {seed}");
        }
        (calls, requests)
    }
}

/// Every span by its id, which none shares.
fn spans(outcome: &Outcome) -> HashMap<(crate::span::TraceId, crate::span::SpanId), usize> {
    let mut ids = HashSet::new();
    let mut by_span = HashMap::new();
    for index in 0..outcome.spans.len() {
        let context = &outcome.span(index).context;
        assert!(ids.insert(context.span_id), "span id of exchange {index} repeats");
        by_span.insert((context.trace_id, context.span_id), index);
    }
    by_span
}

const PLAIN: Service = Service::new(Runtime::Pool { threads: 8 }, 0, None);

fn proxy() -> Service {
    Service { told: Some(Scheduling::RunToCompletion), ..Service::new(Runtime::Proxy, 1, Some(1)) }
}

const SEEDS: std::ops::Range<u64> = 1..6;

#[test]
fn thread_per_request() {
    for (seed, concurrency) in SEEDS.zip([1, 4, 8, 24, 64]) {
        let services = vec![Service::new(Runtime::Pool { threads: 8 }, 4, Some(1)), PLAIN];
        let (calls, requests) = Trial::of(services, concurrency).run("thread per request", seed);
        assert_eq!((calls[0].missing, requests.missing), (0, 0));
    }
}

#[test]
fn proxy_that_runs_to_completion() {
    for (seed, concurrency) in SEEDS.zip([1, 64, 64, 64, 128]) {
        let (calls, requests) = Trial::of(vec![proxy(), PLAIN], concurrency).run("proxy", seed);
        assert_eq!((calls[0].missing, requests.missing), (0, 0));
    }
}

#[test]
fn proxy_that_puts_requests_off() {
    for (seed, concurrency) in (1..25).zip([1, 2, 4, 8, 16, 64].into_iter().cycle()) {
        for defers in [5, 50, 100] {
            let queueing = Service { runtime: Runtime::Deferring { defers }, ..proxy() };
            let trial = Trial::of(vec![queueing, PLAIN], concurrency);
            let (calls, requests) =
                trial.run(&format!("proxy that puts {defers} % off, {concurrency} at once"), seed);
            assert_eq!(requests.missing, 0);
            if concurrency == 1 {
                assert_eq!(calls[0].missing, 0);
            }
        }
    }
}

#[test]
fn proxy_before_thread_pools() {
    for (seed, concurrency) in SEEDS.zip([1, 16, 64, 64, 64]) {
        let app = Service::new(Runtime::Pool { threads: 16 }, 3, Some(2));
        let (calls, requests) = Trial::of(vec![proxy(), app, PLAIN], concurrency).run("chain", seed);
        assert_eq!((calls[0].missing, calls[1].missing, requests.missing), (0, 0, 0));
    }
}

#[test]
fn event_loop() {
    for (seed, concurrency) in (1..9).zip([1, 1, 2, 3, 4, 8, 16, 64]) {
        for told in [None, Some(Scheduling::Moving)] {
            let node = Service { told, ..Service::new(Runtime::Loop, 3, Some(1)) };
            let trial = Trial::of(vec![node, PLAIN], concurrency);
            let (calls, requests) = trial.run(&format!("event loop, {concurrency} at once"), seed);
            assert_eq!(requests.missing, 0);
            if concurrency == 1 {
                assert_eq!(calls[0].missing, 0);
            }
        }
    }
}

#[test]
fn threads_that_requests_move_between() {
    for seed in 1..24 {
        let (concurrency, stays) = ([1, 2, 4, 16][seed as usize % 4], [0, 50, 90, 98][seed as usize / 4 % 4]);
        for told in [None, Some(Scheduling::Moving)] {
            let go = Service { told, ..Service::new(Runtime::Moving { threads: 4, stays }, 3, Some(1)) };
            let trial = Trial::of(vec![go, PLAIN], concurrency);
            let name = format!("moving, {stays} % stay, {concurrency} at once");
            let (calls, requests) = trial.run(&name, seed);
            assert_eq!(requests.missing, 0);
            // A response whose write returned late still counts as open when the next request is read.
            if concurrency == 1 {
                assert!(calls[0].share() > 99.0);
            }
        }
    }
}

/// Before a process has shown that its threads say nothing, they must not be believed either.
#[test]
fn the_first_requests_of_a_process() {
    for seed in 0..240 {
        let (concurrency, stays) = ([2, 3, 4, 8][seed as usize % 4], [50, 80, 95][seed as usize / 4 % 3]);
        let go = Service::new(Runtime::Moving { threads: 3, stays }, 3, Some(1));
        let trial = Trial { requests: 12, ..Trial::of(vec![go, PLAIN], concurrency) };
        trial.run("first requests", 1000 + seed);
    }
}

#[test]
fn calls_handed_to_other_threads() {
    for (seed, concurrency) in SEEDS.zip([1, 2, 4, 8, 16]) {
        let java = Service::new(Runtime::HandOff { threads: 8 }, 3, Some(1));
        let (calls, requests) = Trial::of(vec![java, PLAIN], concurrency).run("hand-off", seed);
        assert_eq!(requests.missing, 0);
        if concurrency == 1 {
            assert_eq!(calls[0].missing, 0);
        }
    }
}

#[test]
fn contexts_passed_on_written_and_sent_again() {
    for (seed, concurrency) in (1..9).zip([1, 4, 16, 64, 1, 4, 16, 64]) {
        for propagation in [Propagation::PassesOn, Propagation::Writes { retries: 30 }] {
            let front = Service { propagation: Propagation::PassesOn, ..proxy() };
            let app = Service {
                propagation,
                ..Service::new(Runtime::Moving { threads: 8, stays: 10 }, 3, Some(2))
            };
            let trial = Trial { carries: 100, ..Trial::of(vec![front, app, PLAIN], concurrency) };
            let (calls, requests) = trial.run("contexts", seed);
            assert_eq!((calls[0].missing, calls[1].missing, requests.missing), (0, 0, 0));
            let mixed = Trial { carries: 40, ..trial };
            assert_eq!(mixed.run("some contexts", seed).1.missing, 0);
        }
    }
}

#[test]
fn exchanges_that_were_never_seen() {
    for (seed, concurrency) in (1..11).zip([1, 2, 3, 4, 6, 8, 16, 32, 64, 64]) {
        let app = Service::new(Runtime::Pool { threads: 16 }, 3, Some(2));
        let moving = Service::new(Runtime::Moving { threads: 8, stays: 20 }, 3, Some(2));
        let looping = Service::new(Runtime::Loop, 3, Some(2));
        for middle in [app, moving, looping] {
            for lost in [5, 100, 500] {
                let services = vec![proxy(), middle, PLAIN];
                let trial = Trial { lost, requests: 120, ..Trial::of(services, concurrency) };
                trial.run(&format!("{lost} of 1000 lost"), seed);
            }
        }
    }
}
