//! Who moved the bytes: the socket, its addresses, and where in the stream a chunk stands.

mod position;

use sonde_abi::conn::state_flags;
use sonde_abi::record::flags;
use sonde_abi::settings::ABSENT;
use sonde_abi::{ChunkHeader, ConnState, Direction, Family};

use crate::access::{Access, Kernel, probe};
use crate::maps::{self, offset};

const AF_UNIX: u16 = 1;
const AF_INET: u16 = 2;
const AF_INET6: u16 = 10;
const IPPROTO_TCP: u16 = 6;
const SOCK_STREAM: u16 = 1;

/// A stream socket that may be observed.
#[derive(Clone, Copy)]
pub struct Socket {
    /// Address of `struct sock`.
    pub sock: Kernel,
    /// Its family.
    pub family: Family,
    /// Own port, 0 for unix sockets.
    pub local_port: u16,
    /// The other end's port, 0 for unix sockets.
    pub peer_port: u16,
}

impl Socket {
    /// Reads what a socket is; `None` for anything but TCP and unix stream sockets.
    #[inline(always)]
    pub fn of<A: Access>(sock: Kernel) -> Option<Self> {
        // SAFETY: the offsets are those of `struct sock` and its `struct sock_common`.
        let family = unsafe { A::load::<u16>(sock, offset!(skc_family)) };
        let unnamed = Self { sock, family: Family::Unix, local_port: 0, peer_port: 0 };
        if family == AF_UNIX {
            // SAFETY: as above.
            let kind = unsafe { A::load::<u16>(sock, offset!(sk_type)) };
            return (kind == SOCK_STREAM && offset!(unix_peer) != ABSENT).then_some(unnamed);
        }
        if family != AF_INET && family != AF_INET6 {
            return None;
        }
        // SAFETY: as above.
        if unsafe { A::load::<u16>(sock, offset!(sk_protocol)) } != IPPROTO_TCP {
            return None;
        }
        let family = if family == AF_INET { Family::Inet4 } else { Family::Inet6 };
        // SAFETY: as above.
        let local_port = unsafe { A::load::<u16>(sock, offset!(skc_num)) };
        // SAFETY: as above.
        let peer_port = u16::from_be(unsafe { A::load::<u16>(sock, offset!(skc_dport)) });
        Some(Self { family, local_port, peer_port, ..unnamed })
    }

    /// Whether the port of either end is selected.
    #[inline(always)]
    pub fn port_selected(&self) -> bool {
        maps::by_port() && (maps::port_selected(self.local_port) || maps::port_selected(self.peer_port))
    }

    /// Whether a read of nothing means that the other end will send no more.
    #[inline(always)]
    pub fn has_ended<A: Access>(&self) -> bool {
        const RCV_SHUTDOWN: u8 = 1;
        // SAFETY: a member of `struct sock`; on kernels where it is wider than a byte, this is its lowest one.
        unsafe { A::load::<u8>(self.sock, offset!(sk_shutdown)) & RCV_SHUTDOWN != 0 }
    }

    /// Fills in the connection's part of a chunk's header: names, addresses, position.
    #[inline(always)]
    pub fn describe<A: Access>(&self, state: &mut ConnState, header: &mut ChunkHeader) -> Option<()> {
        header.sock = self.sock as u64;
        header.family = self.family as u8;
        header.role = state.role;
        header.local_port = self.local_port;
        header.peer_port = self.peer_port;
        match self.family {
            Family::Unix => self.describe_unix::<A>(state, header)?,
            Family::Inet4 => {
                // SAFETY: members of `struct sock_common`.
                unsafe {
                    write4(&mut header.local, A::load(self.sock, offset!(skc_rcv_saddr)));
                    write4(&mut header.peer, A::load(self.sock, offset!(skc_daddr)));
                }
                position::of_tcp::<A>(self.sock, state, header)?;
            }
            Family::Inet6 => {
                // A probe read also where loads are typed: the verifier takes no 16 bytes at once.
                // SAFETY: members of `struct sock_common`.
                unsafe {
                    header.local = probe(self.sock.add(offset!(skc_v6_rcv_saddr) as usize));
                    header.peer = probe(self.sock.add(offset!(skc_v6_daddr) as usize));
                }
                position::of_tcp::<A>(self.sock, state, header)?;
            }
        }
        header.first_local = state.first_local;
        header.first_peer = state.first_peer;
        header.flags |= flags::POSITION;
        Some(())
    }

    #[inline(always)]
    fn describe_unix<A: Access>(&self, state: &mut ConnState, header: &mut ChunkHeader) -> Option<()> {
        let unix = A::unix(self.sock)?;
        if state.flags & state_flags::NAMED == 0 {
            state.flags |= state_flags::NAMED;
            state.first_local = inode::<A>(self.sock);
        }
        // SAFETY: a member of `struct unix_sock`.
        let peer = unsafe { A::load::<u64>(unix, offset!(unix_peer)) };
        if peer != 0 {
            state.peer = peer;
        }
        write8(&mut header.peer, state.peer);
        let length = u64::from(header.length);
        // Two threads that write one socket at once would have to agree on an order anyway: no atomics needed.
        header.position = if header.direction == Direction::Write as u8 {
            state.written += length;
            state.written - length
        } else {
            state.read += length;
            state.read - length
        };
        Some(())
    }
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

#[inline(always)]
fn write4(to: &mut [u8; 16], value: u32) {
    // SAFETY: four of sixteen bytes; the array needs no alignment, the write is unaligned.
    unsafe { to.as_mut_ptr().cast::<u32>().write_unaligned(value) };
}

#[inline(always)]
fn write8(to: &mut [u8; 16], value: u64) {
    // SAFETY: eight of sixteen bytes, unaligned.
    unsafe { to.as_mut_ptr().cast::<u64>().write_unaligned(value) };
}
