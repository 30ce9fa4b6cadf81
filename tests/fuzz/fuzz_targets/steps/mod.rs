//! What the targets share that feed connections step by step.

use std::collections::{HashMap, HashSet};

use sonde::proto::{Call, Event, ExchangeId, Milestone, Upgrade};
use sonde_abi::ChunkHeader;

/// What the chunks of all steps say alike.
pub fn header(sock: u64, direction: u8, now: u64) -> ChunkHeader {
    ChunkHeader {
        kind: 1,
        direction,
        time_ns: now,
        sock,
        tgid: 1,
        tid: 2,
        first_local: 1,
        first_peer: 2,
        local_port: 80,
        peer_port: 4000,
        ..ChunkHeader::default()
    }
}

/// What is left of the bytes that describe the steps.
pub struct Input<'a>(pub &'a [u8]);

impl<'a> Input<'a> {
    pub fn byte(&mut self) -> Option<u8> {
        let (&byte, rest) = self.0.split_first()?;
        self.0 = rest;
        Some(byte)
    }

    pub fn bytes(&mut self, n: usize) -> &'a [u8] {
        let (bytes, rest) = self.0.split_at(n.min(self.0.len()));
        self.0 = rest;
        bytes
    }
}

/// One `Begin`, each milestone once at most, one `End`, in that order, and behind a handshake one session.
pub fn check(events: &[Event]) {
    let mut open: HashMap<ExchangeId, Vec<_>> = HashMap::new();
    let mut handed = HashSet::new();
    for event in events {
        match event {
            Event::Begin(opening) => assert!(open.insert(opening.id, Vec::new()).is_none()),
            Event::Milestone { id, what, .. } => {
                let seen = open.get_mut(id).expect("a milestone of an open exchange");
                assert!(!seen.contains(what));
                seen.push(*what);
            }
            Event::End(exchange) => {
                let seen = open.remove(&exchange.opening.id).expect("the end of an open exchange");
                assert_eq!(seen.contains(&Milestone::Responding), exchange.response.is_some());
                let Call::Http(call) = &exchange.call;
                if call.upgraded == Some(Upgrade::WebSocket) {
                    assert!(handed.insert(exchange.opening.id));
                }
            }
            Event::Followed { id, .. } => assert!(handed.remove(id), "a session behind its handshake"),
        }
    }
    assert!(handed.is_empty(), "sessions that nobody heard of again");
}
