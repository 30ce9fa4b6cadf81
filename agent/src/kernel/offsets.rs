//! Where this kernel keeps the members that the kernel programs read, and what Sonde goes without where one is missing.

use std::fmt;

use sonde_abi::settings::{ABSENT, Offsets};

use super::btf::{Btf, NoMember, Sort};

/// What a member is needed for. Without it that much is off, and nothing else.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Part {
    /// Naming a socket: its family, state, ports and IPv4 addresses. Nothing works without.
    Sockets,
    /// Finding the socket of a file descriptor, which the `syscalls` hooks do on each call.
    Descriptors,
    /// IPv6 addresses.
    Ipv6,
    /// TCP positions and first sequence numbers: late joins, gaps, and the two ends of one connection.
    Positions,
    /// Own port of a connection that is closed already.
    ClosedPorts,
    /// How long bytes waited before they were read.
    Arrival,
    /// Which connections were reset.
    Resets,
    /// Which reads of nothing are the end of a stream.
    Ends,
    /// unix stream sockets: the other end and the incarnation.
    Unix,
    /// Paths of unix sockets.
    UnixNames,
    /// What a process was that ended before it was looked at.
    Programs,
}

impl Part {
    /// What is not seen without it.
    #[must_use]
    pub const fn without(self) -> &'static str {
        match self {
            Self::Sockets => "no connection can be named: nothing is observed",
            Self::Descriptors => "the hook family `syscalls` cannot find sockets",
            Self::Ipv6 => "IPv6 connections show no addresses",
            Self::Positions => "no joining of a connection's two ends, and no gap is noticed",
            Self::ClosedPorts => "what is read after a connection's close shows its own port as 0",
            Self::Arrival => "a server's spans start when it read the request, not when the request arrived",
            Self::Resets => "a reset connection is reported as closed",
            Self::Ends => "a stream's end is seen when its socket goes, not when it is read",
            Self::Unix => "unix sockets are not joined to their other end",
            Self::UnixNames => "unix sockets show no paths",
            Self::Programs => "a process that ends before it is looked at has no name",
        }
    }
}

/// A member that this kernel does not have where Sonde looks for it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Missing {
    /// What is off.
    pub part: Part,
    /// The structure.
    pub structure: &'static str,
    /// Why there is no offset.
    pub why: NoMember,
}

impl fmt::Display for Missing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.why {
            NoMember::NoStruct(_) => write!(f, "{}: {}", self.why, self.part.without()),
            why => write!(f, "struct {} {why}: {}", self.structure, self.part.without()),
        }
    }
}

/// All offsets that this kernel has, and what is missing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Resolved {
    /// For the kernel programs' read-only data.
    pub offsets: Offsets,
    /// Members without an offset, in the order of [`Offsets`].
    pub missing: Vec<Missing>,
}

impl Resolved {
    /// Whether every member of a part has its offset.
    #[must_use]
    pub fn has(&self, part: Part) -> bool {
        self.missing.iter().all(|missing| missing.part != part)
    }
}

/// The structures that [`resolve`] wants the ids of, in its order.
pub const STRUCTURES: [(Sort, &str); 14] = [
    (Sort::Struct, "task_struct"),
    (Sort::Struct, "mm_struct"),
    (Sort::Struct, "linux_binprm"),
    (Sort::Struct, "files_struct"),
    (Sort::Struct, "fdtable"),
    (Sort::Struct, "file"),
    (Sort::Struct, "inode"),
    (Sort::Struct, "socket"),
    (Sort::Struct, "sock"),
    (Sort::Struct, "sock_common"),
    (Sort::Struct, "inet_sock"),
    (Sort::Struct, "tcp_sock"),
    (Sort::Struct, "unix_sock"),
    (Sort::Struct, "unix_address"),
];

/// Looks every member up. `structures` are the ids that [`Btf::find`] gave for [`STRUCTURES`].
#[must_use]
pub fn resolve(btf: &Btf<'_>, structures: &[Option<u32>]) -> Resolved {
    let mut offsets = Offsets::NONE;
    let mut missing = Vec::new();
    for field in FIELDS {
        match field.find(btf, structures) {
            Ok(offset) => *(field.place)(&mut offsets) = offset,
            Err((structure, why)) => missing.push(Missing { part: field.part, structure, why }),
        }
    }
    Resolved { offsets, missing }
}

struct Field {
    place: fn(&mut Offsets) -> &mut u32,
    part: Part,
    /// Bytes that the kernel programs read there; 0 where they take what there is.
    width: u32,
    /// Where kernels keep it: structure and path, newest first.
    paths: &'static [(&'static str, &'static str)],
}

impl Field {
    fn find(&self, btf: &Btf<'_>, structures: &[Option<u32>]) -> Result<u32, (&'static str, NoMember)> {
        let mut first_failure = None;
        for &(structure, path) in self.paths {
            let id = STRUCTURES
                .iter()
                .zip(structures)
                .find_map(|((_, name), id)| id.filter(|_| *name == structure));
            let found = match id {
                Some(id) => btf.member(id, path),
                None => Err(NoMember::NoStruct(structure.into())),
            };
            let why = match found {
                Ok(member) => match member.width {
                    Some(found) if self.width != 0 && found != self.width => {
                        NoMember::Width { path: path.into(), found, expected: self.width }
                    }
                    // The sentinel itself cannot be an offset: no kernel structure is 4 GiB long.
                    _ if member.offset == ABSENT => NoMember::Depth(path.into()),
                    _ => return Ok(member.offset),
                },
                Err(why) => why,
            };
            first_failure.get_or_insert((structure, why));
        }
        Err(first_failure.unwrap_or(("", NoMember::Missing(String::new()))))
    }
}

/// In the order of [`Offsets`]. `sk_type` and `sk_protocol` were bitfields before 5.6, which Sonde does not serve.
const FIELDS: &[Field] = &[
    Field {
        place: |o| &mut o.task_files,
        part: Part::Descriptors,
        width: 8,
        paths: &[("task_struct", "files")],
    },
    Field {
        place: |o| &mut o.task_tgid,
        part: Part::Descriptors,
        width: 4,
        paths: &[("task_struct", "tgid")],
    },
    Field { place: |o| &mut o.task_pid, part: Part::Descriptors, width: 4, paths: &[("task_struct", "pid")] },
    Field {
        place: |o| &mut o.task_real_parent,
        part: Part::Programs,
        width: 8,
        paths: &[("task_struct", "real_parent")],
    },
    Field { place: |o| &mut o.task_mm, part: Part::Programs, width: 8, paths: &[("task_struct", "mm")] },
    Field {
        place: |o| &mut o.mm_arg_start,
        part: Part::Programs,
        width: 8,
        paths: &[("mm_struct", "arg_start")],
    },
    Field {
        place: |o| &mut o.mm_arg_end,
        part: Part::Programs,
        width: 8,
        paths: &[("mm_struct", "arg_end")],
    },
    Field {
        place: |o| &mut o.binprm_interp,
        part: Part::Programs,
        width: 8,
        paths: &[("linux_binprm", "interp")],
    },
    Field {
        place: |o| &mut o.files_fdt,
        part: Part::Descriptors,
        width: 8,
        paths: &[("files_struct", "fdt")],
    },
    Field { place: |o| &mut o.fdt_fd, part: Part::Descriptors, width: 8, paths: &[("fdtable", "fd")] },
    Field {
        place: |o| &mut o.fdt_max_fds,
        part: Part::Descriptors,
        width: 4,
        paths: &[("fdtable", "max_fds")],
    },
    Field { place: |o| &mut o.file_inode, part: Part::Descriptors, width: 8, paths: &[("file", "f_inode")] },
    Field {
        place: |o| &mut o.file_private_data,
        part: Part::Descriptors,
        width: 8,
        paths: &[("file", "private_data")],
    },
    Field { place: |o| &mut o.inode_ino, part: Part::Unix, width: 8, paths: &[("inode", "i_ino")] },
    Field { place: |o| &mut o.inode_mode, part: Part::Descriptors, width: 2, paths: &[("inode", "i_mode")] },
    Field { place: |o| &mut o.socket_sk, part: Part::Descriptors, width: 8, paths: &[("socket", "sk")] },
    Field { place: |o| &mut o.socket_type, part: Part::Descriptors, width: 2, paths: &[("socket", "type")] },
    Field { place: |o| &mut o.socket_file, part: Part::Unix, width: 8, paths: &[("socket", "file")] },
    Field { place: |o| &mut o.sk_socket, part: Part::Unix, width: 8, paths: &[("sock", "sk_socket")] },
    Field { place: |o| &mut o.sk_type, part: Part::Sockets, width: 2, paths: &[("sock", "sk_type")] },
    Field { place: |o| &mut o.sk_protocol, part: Part::Sockets, width: 2, paths: &[("sock", "sk_protocol")] },
    Field { place: |o| &mut o.sk_err, part: Part::Resets, width: 4, paths: &[("sock", "sk_err")] },
    Field { place: |o| &mut o.sk_shutdown, part: Part::Ends, width: 0, paths: &[("sock", "sk_shutdown")] },
    Field { place: |o| &mut o.skc_family, part: Part::Sockets, width: 2, paths: SKC_FAMILY },
    Field { place: |o| &mut o.skc_state, part: Part::Sockets, width: 1, paths: SKC_STATE },
    Field { place: |o| &mut o.skc_num, part: Part::Sockets, width: 2, paths: SKC_NUM },
    Field {
        place: |o| &mut o.inet_sport,
        part: Part::ClosedPorts,
        width: 2,
        paths: &[("inet_sock", "inet_sport")],
    },
    Field { place: |o| &mut o.skc_dport, part: Part::Sockets, width: 2, paths: SKC_DPORT },
    Field { place: |o| &mut o.skc_daddr, part: Part::Sockets, width: 4, paths: SKC_DADDR },
    Field { place: |o| &mut o.skc_rcv_saddr, part: Part::Sockets, width: 4, paths: SKC_RCV_SADDR },
    Field { place: |o| &mut o.skc_v6_daddr, part: Part::Ipv6, width: 16, paths: SKC_V6_DADDR },
    Field { place: |o| &mut o.skc_v6_rcv_saddr, part: Part::Ipv6, width: 16, paths: SKC_V6_RCV_SADDR },
    Field {
        place: |o| &mut o.tcp_bytes_acked,
        part: Part::Positions,
        width: 8,
        paths: &[("tcp_sock", "bytes_acked")],
    },
    Field {
        place: |o| &mut o.tcp_bytes_received,
        part: Part::Positions,
        width: 8,
        paths: &[("tcp_sock", "bytes_received")],
    },
    Field {
        place: |o| &mut o.tcp_snd_una,
        part: Part::Positions,
        width: 4,
        paths: &[("tcp_sock", "snd_una")],
    },
    Field {
        place: |o| &mut o.tcp_write_seq,
        part: Part::Positions,
        width: 4,
        paths: &[("tcp_sock", "write_seq")],
    },
    Field {
        place: |o| &mut o.tcp_rcv_nxt,
        part: Part::Positions,
        width: 4,
        paths: &[("tcp_sock", "rcv_nxt")],
    },
    Field {
        place: |o| &mut o.tcp_copied_seq,
        part: Part::Positions,
        width: 4,
        paths: &[("tcp_sock", "copied_seq")],
    },
    Field {
        place: |o| &mut o.tcp_mstamp,
        part: Part::Arrival,
        width: 8,
        paths: &[("tcp_sock", "tcp_mstamp")],
    },
    Field { place: |o| &mut o.unix_peer, part: Part::Unix, width: 8, paths: &[("unix_sock", "peer")] },
    Field { place: |o| &mut o.unix_addr, part: Part::UnixNames, width: 8, paths: &[("unix_sock", "addr")] },
    Field {
        place: |o| &mut o.unix_addr_len,
        part: Part::UnixNames,
        width: 4,
        paths: &[("unix_address", "len")],
    },
    Field {
        place: |o| &mut o.unix_addr_name,
        part: Part::UnixNames,
        width: 0,
        paths: &[("unix_address", "name")],
    },
];

// `struct sock` begins with its `sock_common`; should one of the two be renamed, the other still leads there.
const SKC_FAMILY: &[(&str, &str)] = &[("sock", "__sk_common.skc_family"), ("sock_common", "skc_family")];
const SKC_STATE: &[(&str, &str)] = &[("sock", "__sk_common.skc_state"), ("sock_common", "skc_state")];
const SKC_NUM: &[(&str, &str)] = &[("sock", "__sk_common.skc_num"), ("sock_common", "skc_num")];
const SKC_DPORT: &[(&str, &str)] = &[("sock", "__sk_common.skc_dport"), ("sock_common", "skc_dport")];
const SKC_DADDR: &[(&str, &str)] = &[("sock", "__sk_common.skc_daddr"), ("sock_common", "skc_daddr")];
const SKC_RCV_SADDR: &[(&str, &str)] =
    &[("sock", "__sk_common.skc_rcv_saddr"), ("sock_common", "skc_rcv_saddr")];
const SKC_V6_DADDR: &[(&str, &str)] =
    &[("sock", "__sk_common.skc_v6_daddr"), ("sock_common", "skc_v6_daddr")];
const SKC_V6_RCV_SADDR: &[(&str, &str)] =
    &[("sock", "__sk_common.skc_v6_rcv_saddr"), ("sock_common", "skc_v6_rcv_saddr")];
