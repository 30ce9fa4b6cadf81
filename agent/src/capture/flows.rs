//! All connections of a capture: segments in, the records of one end of each out.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;

use sonde_abi::record::{RecordKind, flags};
use sonde_abi::{ChunkHeader, Direction, Family, LifeEvent, LifeHeader, Record, Role};

use super::flow::{Belongs, Flow, Handshake, Move};
use super::segment::{Endpoint, TcpSegment};
use crate::conn::{Nanos, Recency};
use crate::telemetry::{Counters, Lost};

/// `ECONNRESET` (asm-generic/errno.h), as a connection's end tells it.
const ECONNRESET: u16 = 104;

/// How often connections that are silent are looked for.
const SWEEP: Nanos = 1_000_000_000;

/// What [`Flows`] keeps at most.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Connections. Past it the one that was silent for longest is forgotten, and joined anew if it moves again.
    pub connections: usize,
    /// Segments of one connection that wait for what is missing before them.
    pub pieces: usize,
    /// Bytes of them.
    pub bytes: usize,
    /// How long they wait for what nobody has acknowledged.
    pub patience: Nanos,
    /// Bytes that wait on all connections together. Past it nothing more waits.
    pub held: usize,
    /// A connection that is over, or never carried data, is forgotten after so long without a segment.
    pub over: Nanos,
    /// Any other.
    pub silent: Nanos,
}

impl Default for Limits {
    fn default() -> Self {
        const SECOND: Nanos = 1_000_000_000;
        Self {
            connections: 65_536,
            pieces: 1024,
            bytes: 2 << 20,
            patience: 30 * SECOND,
            held: 64 << 20,
            over: 120 * SECOND,
            silent: 3600 * SECOND,
        }
    }
}

/// The connections of a capture.
#[derive(Debug)]
pub struct Flows {
    limits: Limits,
    counters: Arc<Counters>,
    by_ends: HashMap<(Endpoint, Endpoint), u32, foldhash::fast::RandomState>,
    /// The flow that stands for a connection which may be captured under several addresses.
    by_handshake: HashMap<Handshake, u32, foldhash::fast::RandomState>,
    flows: Recency<Flow>,
    /// Those that miss something.
    waiting: Vec<u32>,
    held: usize,
    incarnations: u64,
    next_sweep: Nanos,
}

impl Flows {
    /// None yet.
    #[must_use]
    pub fn new(limits: Limits, counters: Arc<Counters>) -> Self {
        Self {
            limits,
            counters,
            by_ends: HashMap::default(),
            by_handshake: HashMap::default(),
            flows: Recency::default(),
            waiting: Vec::new(),
            held: 0,
            incarnations: 0,
            next_sweep: 0,
        }
    }

    /// Takes a segment; `to` gets the records that follow from it.
    pub fn segment(&mut self, segment: &TcpSegment<'_>, mut to: impl FnMut(&Record<'_>)) {
        let key = (segment.from.min(segment.to), segment.from.max(segment.to));
        let known = self.by_ends.get(&key).copied();
        let belongs = known.and_then(|slot| self.flows.get_mut(slot)).map(|flow| flow.belongs(segment));
        let slot = match (known, belongs) {
            (Some(slot), Some(Belongs::Here)) => slot,
            (_, Some(Belongs::Nowhere)) => return,
            (known, _) => {
                let Some(flow) = Flow::of(segment, self.incarnations + 1) else { return };
                self.incarnations += 1;
                if let Some(slot) = known {
                    self.drive(slot, |flow, to| flow.replace(segment.time, to), &mut to);
                    self.remove(slot, &mut to);
                }
                self.make_room(&mut to);
                let slot = self.flows.insert(flow);
                self.by_ends.insert(key, slot);
                slot
            }
        };
        self.flows.touch(slot);
        let limits = self.limits;
        let starved = self.held > limits.held;
        if self.flows.get_mut(slot).is_some_and(|flow| flow.echo) {
            return;
        }
        self.drive(slot, |flow, to| flow.segment(segment, &limits, starved, to), &mut to);
        if segment.flags.syn {
            self.recognise(slot);
        }
    }

    /// Of two flows with the same handshake the one that began first is told, unless the other has spoken.
    fn recognise(&mut self, slot: u32) {
        let Some(flow) = self.flows.get_mut(slot) else { return };
        let (Some(handshake), incarnation) = (flow.handshake(), flow.incarnation) else { return };
        let other = self.by_handshake.get(&handshake).copied().filter(|&other| other != slot);
        match other.and_then(|other| self.flows.get_mut(other)) {
            Some(other) if other.incarnation > incarnation && !other.spoke => other.echo = true,
            Some(_) => {
                if let Some(flow) = self.flows.get_mut(slot) {
                    flow.echo = true;
                }
                return;
            }
            None => {}
        }
        self.by_handshake.insert(handshake, slot);
    }

    /// Takes the time of the latest segments: gives up what has been missing for too long, and forgets what is over.
    pub fn tick(&mut self, now: Nanos, mut to: impl FnMut(&Record<'_>)) {
        let limits = self.limits;
        let mut waiting = std::mem::take(&mut self.waiting);
        waiting.retain(|&slot| {
            self.drive(slot, |flow, to| flow.expire(now, &limits, to), &mut to);
            let Some(flow) = self.flows.get_mut(slot) else { return false };
            flow.listed = flow.waits();
            flow.listed
        });
        self.waiting.append(&mut waiting);
        if now >= self.next_sweep {
            self.next_sweep = now.saturating_add(SWEEP);
            self.sweep(now, &mut to);
        }
    }

    /// The capture is over: what waits will not be completed.
    pub fn finish(&mut self, mut to: impl FnMut(&Record<'_>)) {
        while let Some(slot) = self.flows.oldest() {
            self.remove(slot, &mut to);
        }
    }

    /// Bytes that wait.
    #[must_use]
    pub fn held(&self) -> usize {
        self.held
    }

    /// Runs a connection and makes records of what it says.
    fn drive(
        &mut self,
        slot: u32,
        run: impl FnOnce(&mut Flow, &mut dyn FnMut(Move<'_>)),
        to: &mut impl FnMut(&Record<'_>),
    ) {
        let Some(flow) = self.flows.get_mut(slot) else { return };
        let before = flow.held_bytes();
        let origin = Origin { ends: flow.ends, incarnation: flow.incarnation, fresh: flow.fresh };
        run(flow, &mut |moved| origin.record(moved, to));
        self.held = self.held.saturating_sub(before) + flow.held_bytes();
        if flow.waits() && !std::mem::replace(&mut flow.listed, true) {
            self.waiting.push(slot);
        }
    }

    fn remove(&mut self, slot: u32, to: &mut impl FnMut(&Record<'_>)) {
        self.drive(slot, |flow, to| flow.flush(to), to);
        let Some(flow) = self.flows.remove(slot) else { return };
        self.held = self.held.saturating_sub(flow.held_bytes());
        let (here, there) = flow.ends;
        self.by_ends.remove(&(here.min(there), here.max(there)));
        if let Some(handshake) = flow.handshake().filter(|by| self.by_handshake.get(by) == Some(&slot)) {
            self.by_handshake.remove(&handshake);
        }
        if flow.listed {
            self.waiting.retain(|&waiting| waiting != slot);
        }
    }

    fn make_room(&mut self, to: &mut impl FnMut(&Record<'_>)) {
        if self.flows.len() >= self.limits.connections
            && let Some(oldest) = self.flows.oldest()
        {
            if self.flows.get_mut(oldest).is_some_and(|flow| flow.spoke && !flow.closed) {
                self.counters.lose(Lost::ConnectionsFull, 1);
            }
            self.remove(oldest, to);
        }
    }

    fn sweep(&mut self, now: Nanos, to: &mut impl FnMut(&Record<'_>)) {
        let Limits { over, silent, .. } = self.limits;
        let mut next = self.flows.oldest();
        while let Some(slot) = next {
            next = self.flows.newer(slot);
            let Some(flow) = self.flows.get_mut(slot) else { return };
            let silence = now.saturating_sub(flow.last_seen);
            if silence <= over.min(silent) {
                // Those behind it were heard of later.
                return;
            }
            if silence > if flow.closed || flow.echo || !flow.spoke { over } else { silent } {
                self.remove(slot, to);
            }
        }
    }
}

/// What all records of a connection share.
#[derive(Clone, Copy)]
struct Origin {
    ends: (Endpoint, Endpoint),
    incarnation: u64,
    fresh: bool,
}

impl Origin {
    fn record(&self, moved: Move<'_>, to: &mut impl FnMut(&Record<'_>)) {
        match moved {
            Move::Bytes { direction, position, length, bytes, time } => {
                let header = self.chunk(direction, position, length, bytes, time);
                to(&Record::Chunk(header, bytes));
            }
            Move::Lost { direction, position, time } => {
                to(&Record::Chunk(self.chunk(direction, position, 0, &[], time), &[]));
            }
            Move::Ended { direction, position, time } => {
                let mut header = self.chunk(direction, position, 0, &[], time);
                header.flags |= flags::END;
                to(&Record::Chunk(header, &[]));
            }
            Move::Closed { reset, time } => {
                let error = if reset { ECONNRESET } else { 0 };
                to(&Record::Life(self.life(LifeEvent::Closed, error, time), &[]));
            }
        }
    }

    fn chunk(
        &self,
        direction: Direction,
        position: u64,
        length: u32,
        bytes: &[u8],
        time_ns: Nanos,
    ) -> ChunkHeader {
        let (here, there) = self.ends;
        let (first_local, first_peer) = self.name();
        // The end that opens counts its SYN among what it wrote, as the kernel shows it.
        let syn = u64::from(self.fresh && direction == Direction::Write);
        ChunkHeader {
            kind: RecordKind::Chunk as u8,
            direction: direction as u8,
            flags: flags::POSITION | if self.fresh { 0 } else { flags::LATE },
            captured: u32::try_from(bytes.len()).unwrap_or(length).min(length),
            time_ns,
            sock: self.incarnation,
            position: position + syn,
            length,
            queued_us: 0,
            tgid: 0,
            tid: 0,
            first_local,
            first_peer,
            local_port: here.port,
            peer_port: there.port,
            family: if here.ip.is_ipv4() { Family::Inet4 } else { Family::Inet6 } as u8,
            role: if self.fresh { Role::Client as u8 } else { 0 },
            reserved: 0,
            tail: [0; 8],
            local: octets(here.ip),
            peer: octets(there.ip),
        }
    }

    fn life(&self, event: LifeEvent, error: u16, time_ns: Nanos) -> LifeHeader {
        let (first_local, first_peer) = self.name();
        LifeHeader {
            kind: RecordKind::Life as u8,
            event: event as u8,
            error,
            length: 0,
            flags: 0,
            time_ns,
            sock: self.incarnation,
            first_local,
            first_peer,
            tgid: 0,
            tid: 0,
            // What is missing shows in the packets.
            written: 0,
            read: 0,
        }
    }

    /// Stands for the first sequence numbers: names the connection for both of its ends, and no other one.
    const fn name(&self) -> (u32, u32) {
        ((self.incarnation >> 32) as u32, self.incarnation as u32)
    }
}

fn octets(ip: IpAddr) -> [u8; 16] {
    let mut octets = [0; 16];
    match ip {
        IpAddr::V4(ip) => {
            for (octet, of) in octets.iter_mut().zip(ip.octets()) {
                *octet = of;
            }
        }
        IpAddr::V6(ip) => octets = ip.octets(),
    }
    octets
}
