//! What names a connection, and what its two ends are called.

use std::net::SocketAddr;
use std::sync::Arc;

use sonde_abi::{ChunkHeader, Family, LifeHeader, Role, record};

use crate::conn::Stamp;

/// Names one socket of this node for as long as it lives: the address of its `struct sock`, and what tells incarnations
/// at the same address apart (TCP: both first sequence numbers; unix: the inode number).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ConnKey {
    /// Address of the kernel's `struct sock`.
    pub sock: u64,
    /// Incarnation at that address.
    pub generation: u64,
}

impl ConnKey {
    /// The socket of a chunk.
    #[must_use]
    pub fn of_chunk(header: &ChunkHeader) -> Self {
        Self { sock: header.sock, generation: generation(header.first_local, header.first_peer) }
    }

    /// The socket of an event.
    #[must_use]
    pub fn of_life(header: &LifeHeader) -> Self {
        Self { sock: header.sock, generation: generation(header.first_local, header.first_peer) }
    }
}

fn generation(local: u32, peer: u32) -> u64 {
    u64::from(local) << 32 | u64::from(peer)
}

/// Names a connection for both of its ends, whatever address translation lies between.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Pair {
    /// First sequence numbers as this end's kernel shows them, own first. The end that called connect shows its own one
    /// lower, and its write positions one higher, than the other end sees them.
    Tcp {
        /// Own.
        local: u32,
        /// The other end's.
        peer: u32,
    },
    /// Addresses of the two `struct sock`, own first. `late`: counting began after the connection did, so positions of
    /// the two ends may differ by what was under way then.
    Unix {
        /// Own.
        local: u64,
        /// The other end's, 0 where it is not known.
        peer: u64,
        /// Positions are relative.
        late: bool,
    },
}

/// Address of one end.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Address {
    /// TCP.
    Inet(SocketAddr),
    /// Path of a unix socket ('@' first for an abstract name), empty where unnamed or unknown.
    Unix(Arc<str>),
}

/// A connection as one of its ends sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ends {
    /// This end's address.
    pub local: Address,
    /// The other end's address, as this end sees it.
    pub peer: Address,
    /// Names the connection for both ends; `None` where the kernel shows no positions.
    pub pair: Option<Pair>,
    /// Who called connect, as the kernel saw it; `None` for a connection older than Sonde.
    pub role: Option<Role>,
}

impl Ends {
    /// Before the first chunk.
    #[must_use]
    pub fn unknown() -> Self {
        let unknown = Address::Unix(Arc::from(""));
        Self { local: unknown.clone(), peer: unknown, pair: None, role: None }
    }

    /// Reads the addresses of a chunk. The path of a unix socket comes in a record of its own.
    #[must_use]
    pub fn of_chunk(header: &ChunkHeader) -> Self {
        let has_position = header.flags & record::flags::POSITION != 0;
        let role = header.role();
        match header.family() {
            Some(Family::Unix) | None => {
                let pair = Pair::Unix {
                    local: header.sock,
                    peer: u64::from_ne_bytes(first(&header.peer)),
                    late: header.flags & record::flags::LATE != 0,
                };
                let unnamed = Address::Unix(Arc::from(""));
                Self { local: unnamed.clone(), peer: unnamed, pair: has_position.then_some(pair), role }
            }
            Some(family) => {
                let pair = Pair::Tcp { local: header.first_local, peer: header.first_peer };
                Self {
                    local: inet(family, &header.local, header.local_port),
                    peer: inet(family, &header.peer, header.peer_port),
                    pair: has_position.then_some(pair),
                    role,
                }
            }
        }
    }
}

/// What a connection's exchanges say of it.
#[derive(Clone, Debug)]
pub struct Identity {
    /// Its name.
    pub key: ConnKey,
    /// When and on which thread the process called connect; taken by the first exchange.
    pub connect: Option<Stamp>,
    ends: Arc<Ends>,
    /// Path of a unix socket, until the role says whose it is.
    path: Option<Arc<str>>,
}

impl Identity {
    /// A connection known by these ends.
    #[must_use]
    pub fn new(key: ConnKey, ends: Ends) -> Self {
        Self { key, connect: None, ends: Arc::new(ends), path: None }
    }

    /// The ends, as the connection's first chunk shows them.
    pub fn set_ends(&mut self, ends: Ends) {
        self.ends = Arc::new(ends);
    }

    /// The path that the kernel knows of a unix socket: the listener's, whichever end this is.
    pub fn set_path(&mut self, path: &[u8]) {
        self.path = Some(String::from_utf8_lossy(path).into());
    }

    /// The ends, seen by a process of that role: the path of a unix socket belongs to the server.
    #[must_use]
    pub fn ends_as(&mut self, role: Role) -> Arc<Ends> {
        if let Some(path) = self.path.take() {
            let ends = Arc::make_mut(&mut self.ends);
            match role {
                Role::Server => ends.local = Address::Unix(path),
                Role::Client => ends.peer = Address::Unix(path),
            }
        }
        Arc::clone(&self.ends)
    }

    /// It is a unix socket.
    #[must_use]
    pub fn is_unix(&self) -> bool {
        matches!(self.ends.local, Address::Unix(_))
    }
}

fn inet(family: Family, bytes: &[u8; 16], port: u16) -> Address {
    let ip = match family {
        Family::Inet4 => std::net::IpAddr::from(first::<4>(bytes)),
        // An IPv4 peer of a dual-stack socket is shown as the IPv4 address that it is.
        _ => std::net::Ipv6Addr::from(*bytes).to_canonical(),
    };
    Address::Inet(SocketAddr::new(ip, port))
}

fn first<const N: usize>(bytes: &[u8; 16]) -> [u8; N] {
    bytes.first_chunk::<N>().copied().unwrap_or([0; N])
}
