//! Who moved the bytes: the socket, its addresses, and where in the stream a chunk stands.

mod position;

use aya_ebpf::helpers::generated::bpf_probe_read_kernel;
use sonde_abi::conn::state_flags;
use sonde_abi::settings::ABSENT;
use sonde_abi::{ChunkHeader, ConnState, Direction, Family};

use crate::access::{Access, Kernel, probe};
use crate::maps::{self, offset};

const AF_UNIX: u16 = 1;
const AF_INET: u16 = 2;
const AF_INET6: u16 = 10;
const IPPROTO_TCP: u16 = 6;
const SOCK_STREAM: u16 = 1;

/// A stream socket that may be observed. What it is, is read again where it is needed: a load costs one instruction, and what
/// the verifier knows of a number that is carried along costs it a path for each.
#[derive(Clone, Copy)]
pub struct Socket {
    /// Address of `struct sock`.
    pub sock: Kernel,
}

impl Socket {
    /// The socket, if it is TCP or a unix stream.
    #[inline(always)]
    pub fn of<A: Access>(sock: Kernel) -> Option<Self> {
        let socket = Self { sock };
        // SAFETY: the offsets are those of `struct sock`.
        let (kind, protocol) =
            unsafe { (A::load::<u16>(sock, offset!(sk_type)), A::load::<u16>(sock, offset!(sk_protocol))) };
        let observed = match socket.family::<A>() {
            AF_UNIX => kind == SOCK_STREAM && offset!(unix_peer) != ABSENT,
            AF_INET | AF_INET6 => protocol == IPPROTO_TCP,
            _ => false,
        };
        observed.then_some(socket)
    }

    #[inline(always)]
    fn family<A: Access>(&self) -> u16 {
        // SAFETY: a member of `struct sock_common`, which begins `struct sock`.
        unsafe { A::load::<u16>(self.sock, offset!(skc_family)) }
    }

    /// Whether it is a unix socket.
    #[inline(always)]
    pub fn is_unix<A: Access>(&self) -> bool {
        self.family::<A>() == AF_UNIX
    }

    /// Own port and the other end's, in host order.
    #[inline(always)]
    fn ports<A: Access>(&self) -> (u16, u16) {
        // SAFETY: members of `struct sock_common`.
        unsafe {
            let local = match A::load::<u16>(self.sock, offset!(skc_num)) {
                0 => self.returned_port::<A>(),
                port => port,
            };
            (local, u16::from_be(A::load::<u16>(self.sock, offset!(skc_dport))))
        }
    }

    /// Own port of a socket that is closed, and may still be read: its number was given back.
    #[inline(always)]
    fn returned_port<A: Access>(&self) -> u16 {
        if offset!(inet_sport) == ABSENT {
            return 0;
        }
        let Some(tcp) = A::tcp(self.sock) else { return 0 };
        // SAFETY: a member of `struct inet_sock`, which begins `struct tcp_sock`.
        u16::from_be(unsafe { A::load::<u16>(tcp, offset!(inet_sport)) })
    }

    /// Whether the port of either end is selected.
    #[inline(always)]
    pub fn port_selected<A: Access>(&self) -> bool {
        if !maps::by_port() || self.is_unix::<A>() {
            return false;
        }
        let (local, peer) = self.ports::<A>();
        maps::port_selected(local) || maps::port_selected(peer)
    }

    /// Whether a read of nothing means that the other end will send no more.
    #[inline(always)]
    pub fn has_ended<A: Access>(&self) -> bool {
        const RCV_SHUTDOWN: u8 = 1;
        // SAFETY: a member of `struct sock`; on kernels where it is wider than a byte, this is its lowest one.
        unsafe { A::load::<u8>(self.sock, offset!(sk_shutdown)) & RCV_SHUTDOWN != 0 }
    }

    /// Whether the state is that of another socket that stood at the same address. TCP sockets take theirs along when they
    /// close; unix sockets are told apart by their inode.
    #[inline(always)]
    pub fn is_replaced<A: Access>(&self, state: &ConnState) -> bool {
        state.flags & state_flags::NAMED != 0
            && self.is_unix::<A>()
            && state.first_local != inode::<A>(self.sock)
    }

    /// Where in the stream a chunk stands. Names the connection first, if this is its first chunk.
    #[inline(always)]
    pub fn place<A: Access>(&self, state: &mut ConnState, chunk: &Extent) -> Option<Place> {
        if self.is_unix::<A>() {
            return self.place_unix::<A>(state, chunk);
        }
        position::of_tcp::<A>(self.sock, state, chunk)
    }

    /// How far a TCP connection has come that is changing its state.
    #[inline(always)]
    pub fn reached<A: Access>(&self, state: &ConnState) -> Reached {
        position::reached::<A>(self.sock, state).unwrap_or(Reached { written: 0, read: 0, all: false })
    }

    #[inline(always)]
    fn place_unix<A: Access>(&self, state: &mut ConnState, chunk: &Extent) -> Option<Place> {
        let unix = A::unix(self.sock)?;
        if state.flags & state_flags::NAMED == 0 {
            state.flags |= state_flags::NAMED;
            state.first_local = inode::<A>(self.sock);
        }
        // A probe read, since a typed load gives a pointer, and the verifier lets nobody compute with its bits.
        // SAFETY: a member of `struct unix_sock`.
        let peer = unsafe { probe::<u64>(unix.add(offset!(unix_peer) as usize)) };
        if peer != 0 {
            state.peer = peer;
        }
        let length = u64::from(chunk.length);
        // Two threads that write one socket at once would have to agree on an order anyway: no atomics needed.
        let position = if chunk.direction == Direction::Write {
            state.written += length;
            state.written - length
        } else {
            state.read += length;
            state.read - length
        };
        Some(Place { position, queued_us: 0 })
    }

    /// Writes the connection's part of a chunk's header into its record: names and addresses.
    ///
    /// # Safety
    /// `header` points to room for one.
    #[inline(always)]
    pub unsafe fn describe<A: Access>(&self, state: &ConnState, header: *mut ChunkHeader) {
        // SAFETY: fields of a header that the caller vouches for; members of `struct sock_common`.
        unsafe {
            (*header).first_local = state.first_local;
            (*header).first_peer = state.first_peer;
            (*header).role = state.role;
            let local = (&raw mut (*header).local).cast::<u64>();
            let peer = (&raw mut (*header).peer).cast::<u64>();
            let family = self.family::<A>();
            if family == AF_UNIX {
                (*header).family = Family::Unix as u8;
                (*header).local_port = 0;
                (*header).peer_port = 0;
                write_low(local, 0);
                write_low(peer, state.peer);
                return;
            }
            let (local_port, peer_port) = self.ports::<A>();
            (*header).local_port = local_port;
            (*header).peer_port = peer_port;
            if family == AF_INET {
                (*header).family = Family::Inet4 as u8;
                write_low(local, u64::from(A::load::<u32>(self.sock, offset!(skc_rcv_saddr))));
                write_low(peer, u64::from(A::load::<u32>(self.sock, offset!(skc_daddr))));
            } else {
                (*header).family = Family::Inet6 as u8;
                // Probe reads also where loads are typed: the verifier takes no 16 bytes at once.
                let from = self.sock.add(offset!(skc_v6_rcv_saddr) as usize);
                bpf_probe_read_kernel(local.cast(), 16, from.cast());
                let from = self.sock.add(offset!(skc_v6_daddr) as usize);
                bpf_probe_read_kernel(peer.cast(), 16, from.cast());
            }
        }
    }
}

/// Writes an address of up to eight bytes, the rest zero.
///
/// # Safety
/// Sixteen bytes at `to` may be written.
#[inline(always)]
unsafe fn write_low(to: *mut u64, value: u64) {
    // SAFETY: as the caller vouches.
    unsafe {
        to.write(value);
        to.add(1).write(0);
    }
}

/// What is known of a chunk before its place.
#[derive(Clone, Copy)]
pub struct Extent {
    /// Which way.
    pub direction: Direction,
    /// How many bytes.
    pub length: u32,
    /// Bytes that the same call moved after them.
    pub behind: u32,
    /// When.
    pub time_ns: u64,
}

/// How far both directions have come; zeros where it is not known.
#[derive(Clone, Copy)]
pub struct Reached {
    /// Position behind the last byte that the process wrote.
    pub written: u64,
    /// Position behind the last byte that it read.
    pub read: u64,
    /// It has read everything up to the other end's FIN.
    pub all: bool,
}

/// Where in the stream a chunk stands.
#[derive(Clone, Copy)]
pub struct Place {
    /// Bytes that the direction carried before.
    pub position: u64,
    /// Reads: microseconds since the last packet came.
    pub queued_us: u32,
}

/// Inode number of the socket: `sock.sk_socket->file->f_inode->i_ino`, 0 where any of them is missing.
#[inline(always)]
fn inode<A: Access>(sock: Kernel) -> u32 {
    // SAFETY: each offset belongs to the structure that the pointer before it leads to; a zero pointer reads as zero.
    unsafe {
        let socket: u64 = A::load(sock, offset!(sk_socket));
        let file: u64 = probe((socket as Kernel).add(offset!(socket_file) as usize));
        let inode: u64 = probe((file as Kernel).add(offset!(file_inode) as usize));
        probe::<u64>((inode as Kernel).add(offset!(inode_ino) as usize)) as u32
    }
}
