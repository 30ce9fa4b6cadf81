//! A client and a server that talk over TCP, and what the pipeline's core makes of their segments.

use std::sync::Arc;

use super::write::{Segment, endpoint};
use crate::capture::{Endpoint, Flags, Flows, Limits, Perspective, TcpSegment, Views};
use crate::conn::{self, Connections};
use crate::proto::{Call, Event, Failure, Quality};
use crate::telemetry::Counters;

/// Writes down what each side sends, in segments, as one who watches them in between sees it.
#[derive(Clone, Debug)]
pub(super) struct Conversation {
    pub(super) ends: [Endpoint; 2],
    /// Next sequence numbers, client first.
    pub(super) seq: [u32; 2],
    pub(super) segments: Vec<Segment>,
    time: u64,
}

/// Between two segments.
pub(super) const STEP: u64 = 100_000;

pub(super) const CLIENT: usize = 0;
pub(super) const SERVER: usize = 1;

impl Conversation {
    /// Up to the handshake.
    pub(super) fn open(seq: [u32; 2]) -> Self {
        let mut conversation = Self::joined(seq);
        conversation.handshake();
        conversation
    }

    /// Of which the beginning was not seen.
    pub(super) fn joined(seq: [u32; 2]) -> Self {
        let ends = [endpoint("10.0.0.1", 40_000), endpoint("10.0.0.2", 80)];
        Self { ends, seq, segments: Vec::new(), time: 1_700_000_000_000_000_000 }
    }

    pub(super) fn handshake(&mut self) {
        let syn = Flags { syn: true, ..Flags::default() };
        self.push(CLIENT, syn, &[]);
        self.segments.last_mut().unwrap().ack = None;
        self.seq[CLIENT] = self.seq[CLIENT].wrapping_add(1);
        self.push(SERVER, syn, &[]);
        self.seq[SERVER] = self.seq[SERVER].wrapping_add(1);
        self.push(CLIENT, Flags::default(), &[]);
    }

    /// Sends text in pieces of so many bytes.
    pub(super) fn say(&mut self, who: usize, text: &[u8], size: usize) -> &mut Self {
        for piece in text.chunks(size) {
            self.push(who, Flags::default(), piece);
            self.seq[who] = self.seq[who].wrapping_add(piece.len() as u32);
        }
        self
    }

    pub(super) fn push(&mut self, who: usize, flags: Flags, bytes: &[u8]) {
        let (from, to) = (self.ends[who], self.ends[1 - who]);
        let (seq, ack) = (self.seq[who], Some(self.seq[1 - who]));
        let time = self.now();
        let bytes = bytes.to_vec();
        self.segments.push(Segment { time, from, to, seq, ack, flags, stamp: None, bytes, missing: 0 });
    }

    pub(super) fn finish(&mut self, who: usize) {
        self.push(who, Flags { fin: true, ..Flags::default() }, &[]);
        self.seq[who] = self.seq[who].wrapping_add(1);
    }

    pub(super) fn reset(&mut self, who: usize) {
        self.push(who, Flags { rst: true, ..Flags::default() }, &[]);
    }

    pub(super) fn close(&mut self) {
        self.finish(CLIENT);
        self.finish(SERVER);
        self.push(CLIENT, Flags::default(), &[]);
    }

    pub(super) fn wait(&mut self, time: u64) {
        self.time += time;
    }

    fn now(&mut self) -> u64 {
        self.time += STEP;
        self.time
    }
}

/// What matters of an exchange.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Told {
    pub(super) target: String,
    pub(super) status: Option<u16>,
    pub(super) sizes: (Option<u64>, Option<u64>),
    pub(super) quality: Option<Quality>,
    pub(super) failure: Option<&'static str>,
    /// From its first to its last byte.
    pub(super) times: (u64, u64),
    pub(super) port: u16,
}

/// What came of segments.
pub(super) struct Outcome {
    pub(super) told: Vec<Told>,
    pub(super) counters: Arc<Counters>,
    /// Bytes that waited, at most.
    pub(super) held: usize,
}

pub(super) fn replay(segments: &[Segment]) -> Outcome {
    replay_within(segments, Limits::default())
}

pub(super) fn replay_within(segments: &[Segment], limits: Limits) -> Outcome {
    let counters = Arc::new(Counters::default());
    let mut flows = Flows::new(limits, Arc::clone(&counters));
    let mut connections = Connections::new(conn::Limits::in_order(), Arc::clone(&counters));
    let mut events = Vec::new();
    let mut held = 0;
    for segment in segments {
        let Segment { time, from, to, seq, ack, flags, stamp, ref bytes, missing } = *segment;
        let length = bytes.len() as u32 + missing;
        let segment = TcpSegment { time, from, to, seq, ack, flags, stamp, bytes, length };
        flows.segment(&segment, |record| connections.record(record, &mut events));
        held = held.max(flows.held());
        flows.tick(time, |record| connections.record(record, &mut events));
        connections.tick(time, &mut events);
    }
    flows.finish(|record| connections.record(record, &mut events));
    assert_eq!(flows.held(), 0, "nothing is kept of what is over");
    connections.finish(&mut events);
    let mut views = Views::new(Perspective::Client);
    let mut told = Vec::new();
    for event in events {
        views.each(event, |event| {
            let Event::End(exchange) = event else { return };
            let Call::Http(call) = &exchange.call;
            let conn::Address::Inet(local) = exchange.opening.ends.local else { panic!("an address") };
            let response = exchange.response.as_ref();
            let last = response.map_or(exchange.request.last, |response| response.last);
            told.push(Told {
                target: call.target.to_string(),
                status: call.status,
                sizes: (exchange.request.body_size, response.and_then(|response| response.body_size)),
                quality: exchange.quality,
                failure: exchange.failure.map(|failure| match failure {
                    Failure::ConnectionReset => "reset",
                    Failure::Closed => "closed",
                    Failure::Timeout => "timeout",
                    Failure::Stream(_) => "stream",
                }),
                times: (exchange.request.first.time, last.time),
                port: local.port(),
            });
        });
    }
    Outcome { told, counters, held }
}

pub(super) fn request(target: &str, body: usize) -> Vec<u8> {
    let head = format!("POST {target} HTTP/1.1\r\nHost: shop\r\nContent-Length: {body}\r\n\r\n");
    [head.as_bytes(), &vec![b'q'; body]].concat()
}

pub(super) fn response(status: u16, body: usize) -> Vec<u8> {
    let head = format!("HTTP/1.1 {status} So\r\nContent-Length: {body}\r\n\r\n");
    [head.as_bytes(), &vec![b'a'; body]].concat()
}
