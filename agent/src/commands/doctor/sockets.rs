//! The TCP sockets of this network namespace, with the bytes that each has carried: the kernel's socket diagnostics
//! (sock_diag(7)), which need no privilege and make no connection.

use rustix::io::Errno;
use rustix::net::{
    AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, netlink, recv, sendto, socket_with,
};

/// `SOCK_DIAG_BY_FAMILY` (linux/sock_diag.h).
const BY_FAMILY: u16 = 20;
/// `NLMSG_ERROR`, `NLMSG_DONE`, and `NLM_F_REQUEST | NLM_F_DUMP` (linux/netlink.h).
const ERROR: u16 = 2;
const DONE: u16 = 3;
const REQUEST_DUMP: u16 = 0x1 | 0x300;
/// `INET_DIAG_INFO` (linux/inet_diag.h): `struct tcp_info`.
const INFO: u16 = 2;
/// `TCP_LISTEN`, and `TCP_TIME_WAIT`, whose sockets belong to no process any more (include/net/tcp_states.h).
const LISTEN: u8 = 10;
const TIME_WAIT: u8 = 6;
/// A message's own header, and `struct inet_diag_msg` behind it.
const HEADER: usize = 16;
const MESSAGE: usize = 72;
/// `tcpi_bytes_acked` and `tcpi_bytes_received` within `struct tcp_info`, since Linux 4.1.
const BYTES_ACKED: usize = 120;
const BYTES_RECEIVED: usize = 128;
/// Sockets that are looked at; a node with more has them counted as not looked at.
const SOCKETS: usize = 200_000;

/// A TCP socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Socket {
    /// By which `/proc/PID/fd` names it.
    pub(super) inode: u32,
    pub(super) is_listening: bool,
    pub(super) local_port: u16,
    pub(super) remote_port: u16,
    /// Bytes in both directions so far.
    pub(super) bytes: u64,
}

/// All of them.
///
/// # Errors
/// Where the kernel does not say.
pub(super) fn all() -> Result<Vec<Socket>, Errno> {
    let mut sockets = Vec::new();
    for family in [AddressFamily::INET, AddressFamily::INET6] {
        dump(family, &mut sockets)?;
    }
    Ok(sockets)
}

fn dump(family: AddressFamily, sockets: &mut Vec<Socket>) -> Result<(), Errno> {
    let diag = Some(netlink::SOCK_DIAG);
    let socket = socket_with(AddressFamily::NETLINK, SocketType::RAW, SocketFlags::CLOEXEC, diag)?;
    let kernel = netlink::SocketAddrNetlink::new(0, 0);
    sendto(&socket, &request(family), SendFlags::empty(), &kernel)?;
    let mut buffer = vec![0; 64 << 10];
    loop {
        let (_, read) = recv(&socket, buffer.as_mut_slice(), RecvFlags::empty())?;
        if read_messages(buffer.get(..read).unwrap_or_default(), sockets)? || sockets.len() > SOCKETS {
            return Ok(());
        }
    }
}

/// `struct nlmsghdr` and `struct inet_diag_req_v2`, for every socket but those in `TIME_WAIT`.
fn request(family: AddressFamily) -> Vec<u8> {
    const IPPROTO_TCP: u8 = 6;
    let states: u32 = !(1 << TIME_WAIT);
    let mut body = vec![u8::try_from(family.as_raw()).unwrap_or(0), IPPROTO_TCP, 1 << (INFO - 1), 0];
    body.extend(states.to_ne_bytes());
    // Of no socket in particular.
    body.extend([0; 48]);
    let length = u32::try_from(HEADER + body.len()).unwrap_or(0);
    let mut message = Vec::with_capacity(HEADER + body.len());
    message.extend(length.to_ne_bytes());
    message.extend(BY_FAMILY.to_ne_bytes());
    message.extend(REQUEST_DUMP.to_ne_bytes());
    message.extend([0; 8]);
    message.extend(body);
    message
}

/// Reads what one call brought; says whether that was the end.
fn read_messages(mut bytes: &[u8], sockets: &mut Vec<Socket>) -> Result<bool, Errno> {
    while let (Some(length), Some(kind)) = (u32_at(bytes, 0), u16_at(bytes, 4)) {
        let length = length as usize;
        let Some(message) = bytes.get(HEADER..length) else { return Err(Errno::BADMSG) };
        match kind {
            DONE => return Ok(true),
            ERROR => {
                let code = u32_at(message, 0).unwrap_or(0).cast_signed();
                return Err(Errno::from_raw_os_error(-code));
            }
            BY_FAMILY => sockets.extend(socket(message)),
            _ => {}
        }
        bytes = bytes.get(length.next_multiple_of(4)..).unwrap_or_default();
    }
    Ok(false)
}

/// `struct inet_diag_msg` and its attributes.
fn socket(message: &[u8]) -> Option<Socket> {
    let port = |at: usize| message.get(at..at + 2)?.try_into().ok().map(u16::from_be_bytes);
    let mut found = Socket {
        inode: u32_at(message, 68)?,
        is_listening: *message.get(1)? == LISTEN,
        local_port: port(4)?,
        remote_port: port(6)?,
        bytes: 0,
    };
    let mut rest = message.get(MESSAGE..)?;
    while let (Some(length), Some(kind)) = (u16_at(rest, 0), u16_at(rest, 2)) {
        let length = usize::from(length).max(4);
        if kind == INFO && !found.is_listening {
            let info = rest.get(4..length).unwrap_or_default();
            found.bytes = u64_at(info, BYTES_ACKED)?.saturating_add(u64_at(info, BYTES_RECEIVED)?);
        }
        rest = rest.get(length.next_multiple_of(4)..).unwrap_or_default();
    }
    Some(found)
}

fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    bytes.get(at..at + 2)?.try_into().ok().map(u16::from_ne_bytes)
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    bytes.get(at..at + 4)?.try_into().ok().map(u32::from_ne_bytes)
}

fn u64_at(bytes: &[u8], at: usize) -> Option<u64> {
    bytes.get(at..at + 8)?.try_into().ok().map(u64::from_ne_bytes)
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::net::{TcpListener, TcpStream};

    use super::*;

    #[test]
    fn a_connection_is_found_at_both_ends_with_its_bytes() {
        for address in ["127.0.0.1:0", "[::1]:0"] {
            let Ok(listener) = TcpListener::bind(address) else { continue };
            let port = listener.local_addr().unwrap().port();
            let mut client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
            let (mut server, _) = listener.accept().unwrap();
            client.write_all(&[1; 1_000]).unwrap();
            server.read_exact(&mut [0; 1_000]).unwrap();
            server.write_all(&[2; 500]).unwrap();
            client.read_exact(&mut [0; 500]).unwrap();
            let sockets = all().unwrap();
            let of = |fits: &dyn Fn(&Socket) -> bool| sockets.iter().filter(|socket| fits(socket)).count();
            assert_eq!(of(&|socket| socket.is_listening && socket.local_port == port), 1);
            // What was acknowledged may come a moment later than what was read.
            let open = |socket: &Socket| !socket.is_listening && socket.bytes >= 500 && socket.inode > 0;
            assert_eq!(of(&|socket| open(socket) && socket.local_port == port), 1);
            assert_eq!(of(&|socket| open(socket) && socket.remote_port == port), 1);
        }
    }

    #[test]
    fn what_is_cut_off_or_odd_is_no_socket() {
        let mut sockets = Vec::new();
        assert_eq!(read_messages(&[], &mut sockets), Ok(false));
        let of = |length: u32, kind: u16, body: &[u8]| {
            [&length.to_ne_bytes()[..], &kind.to_ne_bytes(), &[0; 10], body].concat()
        };
        assert_eq!(read_messages(&of(17, BY_FAMILY, &[0]), &mut sockets), Ok(false));
        assert_eq!(read_messages(&of(500, BY_FAMILY, &[0; 72]), &mut sockets), Err(Errno::BADMSG));
        assert_eq!(read_messages(&of(3, BY_FAMILY, &[0; 72]), &mut sockets), Err(Errno::BADMSG));
        assert_eq!(read_messages(&of(20, ERROR, &(-13_i32).to_ne_bytes()), &mut sockets), Err(Errno::ACCESS));
        assert_eq!(read_messages(&of(20, DONE, &[0; 4]), &mut sockets), Ok(true));
        assert_eq!(sockets, []);
    }
}
