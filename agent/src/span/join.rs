//! The other end of an exchange, where it is on this node too: what names an exchange for both ends, and the exchanges
//! whose other end has not been seen yet. ARCHITECTURE.md, "Positions and the two ends of a connection".

use std::collections::HashMap;
use std::net::IpAddr;

use foldhash::fast::FixedState;

use crate::conn::{Address, Ends, Nanos, Pair, Role};
use crate::proto::{ExchangeId, Opening};

#[cfg(test)]
mod tests;

/// How far the stamps of the two ends may contradict each other: a reader can be stamped before the writer's call
/// returns (172 us at most in the trials).
pub const TOLERANCE: Nanos = 200_000;

/// Names an exchange for both of its ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct JoinKey {
    /// TCP: first sequence numbers, of the end that called connect first. Unix: addresses of the sockets, lower first.
    pair: (u64, u64),
    /// Where the request begins; [`RELATIVE`] where positions are relative to what each end saw first.
    position: u64,
}

const RELATIVE: u64 = u64::MAX;

/// The keys of one exchange: its own, and the one that the other end may have in mind where it is not known who called
/// connect.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Keys {
    /// The key that this end is filed under.
    pub own: JoinKey,
    /// What else the other end may be filed under.
    pub other: Option<JoinKey>,
}

impl Keys {
    /// The keys of an exchange; `None` where nothing names its connection.
    #[must_use]
    pub fn of(opening: &Opening) -> Option<Self> {
        match opening.ends.pair? {
            Pair::Tcp { local, peer } => Some(Self::tcp(local, peer, opening)),
            Pair::Unix { peer: 0, .. } => None,
            Pair::Unix { local, peer, late } => {
                let position = if late { RELATIVE } else { opening.position };
                let own = JoinKey { pair: (local.min(peer), local.max(peer)), position };
                let other = JoinKey { position: if late { opening.position } else { RELATIVE }, ..own };
                Some(Self { own, other: Some(other) })
            }
        }
    }

    fn tcp(local: u32, peer: u32, opening: &Opening) -> Self {
        let position = opening.position;
        // As the end that called connect: its own first number shows one too low, and what it writes one too high.
        let opened = |local: u32, peer: u32| JoinKey {
            pair: (seqs(local.wrapping_add(1), peer), 0),
            position: if opening.role == Role::Client { position.wrapping_sub(1) } else { position },
        };
        let accepted = |local: u32, peer: u32| JoinKey { pair: (seqs(peer, local), 0), position };
        match (opening.ends.role, opening.role) {
            (Some(Role::Client), Role::Client) => Self { own: opened(local, peer), other: None },
            (Some(Role::Server), Role::Server) => Self { own: accepted(local, peer), other: None },
            (None, Role::Client) => Self { own: opened(local, peer), other: Some(accepted(local, peer)) },
            (None, Role::Server) => Self { own: accepted(local, peer), other: Some(opened(local, peer)) },
            // Whoever writes the requests accepted the connection. The other end, where it does not know, takes itself
            // for the one that accepted, and misreads both numbers.
            (Some(Role::Server), Role::Client) => {
                let misread = JoinKey { pair: (seqs(local, peer.wrapping_sub(1)), 0), position };
                Self { own: accepted(local, peer), other: Some(misread) }
            }
            (Some(Role::Client), Role::Server) => {
                let misread = JoinKey {
                    pair: (seqs(peer.wrapping_add(1), local.wrapping_add(1)), 0),
                    position: position.wrapping_sub(1),
                };
                Self { own: opened(local, peer), other: Some(misread) }
            }
        }
    }
}

fn seqs(opener: u32, acceptor: u32) -> u64 {
    u64::from(opener) << 32 | u64::from(acceptor)
}

/// Whether the other end may be a process of this node: all but public IPv4 addresses that are not this end's own may
/// (pods of an IPv6 cluster have public addresses, and translated ones are private).
#[must_use]
pub fn may_be_local(ends: &Ends) -> bool {
    let (Address::Inet(local), Address::Inet(peer)) = (&ends.local, &ends.peer) else { return true };
    match peer.ip() {
        IpAddr::V4(ip) => {
            let shared = matches!(ip.octets(), [100, 64..=127, ..]);
            ip.is_private() || ip.is_loopback() || ip.is_link_local() || shared || local.ip() == peer.ip()
        }
        IpAddr::V6(_) => true,
    }
}

/// An end that waits for the other.
#[derive(Clone, Copy, Debug)]
struct Waiting {
    id: ExchangeId,
    role: Role,
    /// First byte of the request at this end.
    first: Nanos,
    /// Last byte at this end; [`Nanos::MAX`] while it is open.
    end: Nanos,
    /// Two of the same role were open under one relative key: which is which cannot be told.
    ambiguous: bool,
}

/// Ends whose other end has not been seen. Holds exchanges that the correlator holds, and is bounded by it.
#[derive(Debug, Default)]
pub(super) struct Joins {
    waiting: HashMap<JoinKey, Waiting, FixedState>,
}

impl Joins {
    /// Finds the other end, which then waits no longer, or files this one.
    pub(super) fn meet(
        &mut self,
        id: ExchangeId,
        role: Role,
        first: Nanos,
        keys: &Keys,
    ) -> Option<ExchangeId> {
        for key in [Some(keys.own), keys.other].into_iter().flatten() {
            let Some(there) = self.waiting.get(&key) else { continue };
            if there.role != role && !there.ambiguous && contains(key, there, role, first) {
                let found = there.id;
                self.waiting.remove(&key);
                return Some(found);
            }
        }
        let ambiguous = keys.own.position == RELATIVE
            && self.waiting.get(&keys.own).is_some_and(|there| there.role == role && there.end == Nanos::MAX);
        self.waiting.insert(keys.own, Waiting { id, role, first, end: Nanos::MAX, ambiguous });
        None
    }

    /// The exchange is over at this end.
    pub(super) fn ended(&mut self, id: ExchangeId, key: JoinKey, end: Nanos) {
        if let Some(there) = self.waiting.get_mut(&key).filter(|there| there.id == id) {
            there.end = end;
        }
    }

    /// The exchange waits no longer.
    pub(super) fn forget(&mut self, id: ExchangeId, key: JoinKey) {
        if self.waiting.get(&key).is_some_and(|there| there.id == id) {
            self.waiting.remove(&key);
        }
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.waiting.len()
    }
}

/// A server cannot read before the client wrote, and what names an exchange of TCP names no other one: their stamps do not
/// count, since a writer that loses its processor between its bytes and its stamp is stamped when it gets one again. Addresses
/// of unix sockets are used again, so there a server's request must also lie before the end of the client's exchange.
fn contains(key: JoinKey, there: &Waiting, role: Role, first: Nanos) -> bool {
    let is_unix = key.pair.1 != 0;
    if !is_unix {
        return true;
    }
    match role {
        Role::Server => {
            first.saturating_add(TOLERANCE) >= there.first && first <= there.end.saturating_add(TOLERANCE)
        }
        // The server was seen first: only the tolerance lies between.
        Role::Client => there.first.saturating_add(TOLERANCE) >= first,
    }
}
