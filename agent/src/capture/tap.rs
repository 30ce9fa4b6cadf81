//! From packets to the records of the connections in them, with an account of what was read.

use std::sync::Arc;

use sonde_abi::Record;

use super::{Dissector, Flows, Limits, Packet, Unread};
use crate::conn::Nanos;
use crate::telemetry::Counters;

/// What became of the packets of a capture.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// All packets.
    pub packets: u64,
    /// Those with a TCP segment.
    pub segments: u64,
    /// Those whose link type is not read, and the last such type.
    pub unknown_links: u64,
    /// The last of these types.
    pub unknown_link: u16,
    /// Those cut off within their headers, or with headers that contradict themselves.
    pub malformed: u64,
    /// Those that do not say when they were captured.
    pub undated: u64,
}

/// Everything between packets and records.
#[derive(Debug)]
pub struct Tap {
    dissector: Dissector,
    flows: Flows,
    tally: Tally,
    latest: Nanos,
}

impl Tap {
    /// An empty one.
    #[must_use]
    pub fn new(limits: Limits, counters: Arc<Counters>) -> Self {
        Self {
            dissector: Dissector::default(),
            flows: Flows::new(limits, counters),
            tally: Tally::default(),
            latest: 0,
        }
    }

    /// Takes the next packet; `to` gets the records that follow from it.
    pub fn packet(&mut self, packet: &Packet<'_>, to: impl FnMut(&Record<'_>)) {
        self.tally.packets += 1;
        self.tally.undated += u64::from(packet.time.is_none());
        self.latest = self.latest.max(packet.time.unwrap_or(0));
        match self.dissector.segment(packet) {
            Ok(segment) => {
                self.tally.segments += 1;
                self.flows.segment(&segment, to);
            }
            Err(Unread::Link) => {
                self.tally.unknown_links += 1;
                self.tally.unknown_link = packet.link;
            }
            Err(Unread::Malformed) => self.tally.malformed += 1,
            Err(Unread::NotTcp | Unread::Fragment) => {}
        }
    }

    /// Gives up what has been missing for too long by now; see [`Tap::latest`].
    pub fn tick(&mut self, to: impl FnMut(&Record<'_>)) {
        self.flows.tick(self.latest, to);
    }

    /// No more packets come.
    pub fn finish(&mut self, to: impl FnMut(&Record<'_>)) {
        self.flows.finish(to);
    }

    /// The latest stamp of a packet.
    #[must_use]
    pub const fn latest(&self) -> Nanos {
        self.latest
    }

    /// What was read so far.
    #[must_use]
    pub const fn tally(&self) -> Tally {
        self.tally
    }

    /// Bytes that wait for what is missing before them.
    #[must_use]
    pub fn held(&self) -> usize {
        self.flows.held()
    }
}
