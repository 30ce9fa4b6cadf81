//! Exchanges written down for tests: who did what when, turned into the events that parsers would send.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;

use crate::conn::{Address, ConnKey, Ends, Nanos, Pair, Role, Stamp};
use crate::proto::HttpCall;
use crate::proto::otlp::Export;
use crate::proto::{
    Call, Event, Exchange, ExchangeId, Failure, Message, Milestone, Opening, Quality, TraceHeaders,
};
use crate::span::{Correlator, CorrelatorConfig, Finished, OnSdk, Scheduling};
use crate::telemetry::Counters;

/// Microseconds on the kernel's clock.
pub(super) const US: Nanos = 1000;
pub(super) const MS: Nanos = 1_000_000;

/// One end of an exchange. Times are in nanoseconds; each of the four stamps has its thread.
#[derive(Clone, Debug)]
pub(super) struct End {
    pub(super) role: Role,
    pub(super) tgid: u32,
    /// Names the connection for both ends.
    pub(super) conn: u32,
    pub(super) position: u64,
    pub(super) tids: [u32; 4],
    pub(super) times: [Nanos; 4],
    pub(super) connect: Option<(Nanos, u32)>,
    pub(super) traceparent: Option<String>,
    pub(super) failure: Option<Failure>,
    pub(super) quality: Option<Quality>,
    pub(super) unix: bool,
    pub(super) late: bool,
    pub(super) roles_known: bool,
    /// The connection lies between this process and one elsewhere.
    pub(super) remote: bool,
    /// Its path is one that is not exported.
    pub(super) excluded: bool,
    /// It exports telemetry.
    pub(super) export: Option<Export>,
    /// Bytes of the request's and the response's body, as this end knows them.
    pub(super) sizes: [Option<u64>; 2],
    /// The head came whole only then.
    pub(super) begun: Option<Nanos>,
}

impl End {
    pub(super) fn new(role: Role, tgid: u32, tid: u32, conn: u32, times: [Nanos; 4]) -> Self {
        Self {
            role,
            tgid,
            conn,
            position: 0,
            tids: [tid; 4],
            times,
            connect: None,
            traceparent: None,
            failure: None,
            quality: None,
            unix: false,
            late: false,
            roles_known: true,
            remote: false,
            excluded: false,
            export: None,
            sizes: [Some(0); 2],
            begun: None,
        }
    }

    pub(super) fn server(tgid: u32, tid: u32, conn: u32, times: [Nanos; 4]) -> Self {
        Self::new(Role::Server, tgid, tid, conn, times)
    }

    pub(super) fn client(tgid: u32, tid: u32, conn: u32, times: [Nanos; 4]) -> Self {
        Self::new(Role::Client, tgid, tid, conn, times)
    }

    pub(super) fn carrying(mut self, traceparent: &str) -> Self {
        self.traceparent = Some(traceparent.to_owned());
        self
    }

    fn stamp(&self, index: usize) -> Stamp {
        let time = self.times[index];
        Stamp { time, arrival: time, tgid: self.tgid, tid: self.tids[index] }
    }

    fn pair(&self) -> Pair {
        let (opener, acceptor) = (self.conn * 2 + 1_000_001, self.conn * 2 + 2);
        let (one, two) =
            (0xffff_8880_0000_0000 + u64::from(opener), 0xffff_8880_0000_0000 + u64::from(acceptor));
        match (self.role, self.unix) {
            (Role::Client, false) => Pair::Tcp { local: opener - 1, peer: acceptor },
            (Role::Server, false) => Pair::Tcp { local: acceptor, peer: opener },
            (Role::Client, true) => Pair::Unix { local: one, peer: two, late: self.late },
            (Role::Server, true) => Pair::Unix { local: two, peer: one, late: self.late },
        }
    }

    fn opening(&self, id: ExchangeId) -> Opening {
        let (here, there) =
            (Ipv4Addr::LOCALHOST, if self.remote { [93, 184, 216, 34] } else { [127, 0, 0, 1] });
        let address = |ip: Ipv4Addr, port| {
            if self.unix {
                Address::Unix(Arc::from("/run/a.sock"))
            } else {
                Address::Inet(SocketAddr::from((ip, port)))
            }
        };
        let (own, other) = if self.role == Role::Server { (8080, 40_000) } else { (40_000, 8080) };
        let ends = Ends {
            local: address(here, own),
            peer: address(Ipv4Addr::from(there), other),
            pair: Some(self.pair()),
            role: self.roles_known.then_some(self.role),
        };
        let opened = u64::from(self.role == Role::Client && !self.unix);
        let traceparent = self.traceparent.iter().map(|value| Box::from(value.as_bytes())).collect();
        Opening {
            id,
            conn: ConnKey { sock: u64::from(self.conn) * 2 + opened, generation: 1 },
            ends: Arc::new(ends),
            role: self.role,
            first: self.stamp(0),
            position: self.position + opened,
            connect: self.connect.map(|(time, tid)| Stamp { time, arrival: time, tgid: self.tgid, tid }),
            trace: Some(Box::new(TraceHeaders { traceparent, ..TraceHeaders::default() })),
            excluded: self.excluded,
            export: self.export,
        }
    }

    /// The events with the times at which their records come.
    pub(super) fn events(&self, id: ExchangeId) -> [(Nanos, Event); 4] {
        let opening = self.opening(id);
        let milestone = |what, index| Event::Milestone { id, what, stamp: self.stamp(index) };
        let message =
            |first, last, body_size| Message { first: self.stamp(first), last: self.stamp(last), body_size };
        let [sent, received] = self.sizes;
        let call = HttpCall {
            method: "GET".into(),
            target: "/".into(),
            version: 1,
            status: Some(200),
            ..HttpCall::default()
        };
        let exchange = Exchange {
            opening: opening.clone(),
            request: message(0, 1, sent),
            response: self.failure.is_none().then(|| message(2, 3, received)),
            failure: self.failure,
            failed: self.failure.map(|_| self.times[3]),
            quality: self.quality,
            call: Call::Http(call),
        };
        let begun = self.begun.unwrap_or(self.times[0]);
        [
            (begun, Event::Begin(opening)),
            (self.times[1].max(begun), milestone(Milestone::Requested { body_size: self.sizes[0] }, 1)),
            (self.times[2], milestone(Milestone::Responding, 2)),
            (self.times[3], Event::End(Box::new(exchange))),
        ]
    }
}

/// Several exchanges and how their processes work.
pub(super) struct Scene {
    pub(super) ends: Vec<End>,
    pub(super) scheduling: Vec<(u32, Scheduling)>,
    pub(super) config: CorrelatorConfig,
    pub(super) counters: Arc<Counters>,
    /// What is added to the time at which a record comes, for each exchange.
    pub(super) delay: Box<dyn FnMut(usize) -> Nanos>,
}

/// What became of the exchanges of a scene: in the order of its `ends`.
pub(super) struct Outcome {
    pub(super) spans: Vec<Option<Finished>>,
    /// In the order in which they came out, with the time at which they did.
    pub(super) order: Vec<(usize, Nanos)>,
    pub(super) correlator: Correlator,
}

impl Scene {
    pub(super) fn new(ends: Vec<End>) -> Self {
        // The processes that write contexts here export nothing: their spans are what is compared.
        let config = CorrelatorConfig { seed: 42, on_sdk: OnSdk::Keep, ..CorrelatorConfig::default() };
        Self { ends, scheduling: Vec::new(), config, counters: Arc::default(), delay: Box::new(|_| 0) }
    }

    pub(super) fn runs(mut self, tgid: u32, scheduling: Scheduling) -> Self {
        self.scheduling.push((tgid, scheduling));
        self
    }

    /// Plays the records in order of their time, with a tick each millisecond, and five seconds of silence at the end.
    pub(super) fn play(mut self) -> Outcome {
        let mut records = Vec::new();
        for (index, end) in self.ends.iter().enumerate() {
            let delay = (self.delay)(index);
            for (time, event) in end.events(ExchangeId(index as u64 + 1)) {
                let due = if matches!(event, Event::Begin(_)) {
                    time + delay
                } else {
                    time.max(end.times[0] + delay)
                };
                records.push((due, event));
            }
        }
        records.sort_by_key(|(time, _)| *time);
        let mut correlator = Correlator::new(self.config, Arc::clone(&self.counters));
        for &(tgid, scheduling) in &self.scheduling {
            correlator.scheduling(tgid, scheduling);
        }
        let mut outcome = Outcome { spans: vec![None; self.ends.len()], order: Vec::new(), correlator };
        let mut now = 0;
        for (time, event) in records {
            // The reader tells how far it is, in silence too.
            while now > 0 && time > now + MS {
                now += if time > now + 200 * MS { 100 * MS } else { MS };
                outcome.step(now, |correlator, out| correlator.tick(now, out));
            }
            outcome.step(time, |correlator, out| correlator.tick(time, out));
            now = time;
            outcome.step(time, |correlator, out| correlator.event(event, out));
        }
        for _ in 0..50 {
            now += 100 * MS;
            outcome.step(now, |correlator, out| correlator.tick(now, out));
        }
        outcome
    }
}

impl Outcome {
    fn step(&mut self, time: Nanos, act: impl FnOnce(&mut Correlator, &mut Vec<Finished>)) {
        let mut out = Vec::new();
        act(&mut self.correlator, &mut out);
        for finished in out {
            let index = finished.exchange.opening.id.0 as usize - 1;
            assert!(self.spans[index].is_none(), "exchange {index} came out twice");
            self.order.push((index, time));
            self.spans[index] = Some(finished);
        }
    }

    pub(super) fn span(&self, index: usize) -> &Finished {
        self.spans[index].as_ref().unwrap_or_else(|| panic!("exchange {index} never came out"))
    }

    /// The exchange whose span is the parent of this one's.
    pub(super) fn parent(&self, index: usize) -> Option<usize> {
        let parent = self.span(index).parent.as_ref()?;
        let found = self.spans.iter().position(|span| {
            span.as_ref().is_some_and(|span| {
                span.context.span_id == parent.span_id
                    && span.context.trace_id == self.span(index).context.trace_id
            })
        });
        Some(found.unwrap_or(usize::MAX))
    }
}
