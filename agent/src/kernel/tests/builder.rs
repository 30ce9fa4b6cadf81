//! Makes BTF, one type after the other.

/// A BTF under construction. Types refer to each other by the ids that the methods give; ids may be used before they exist.
pub(super) struct Builder {
    types: Vec<u8>,
    strings: Vec<u8>,
    count: u32,
}

impl Builder {
    pub(super) fn new() -> Self {
        Self { types: Vec::new(), strings: vec![0], count: 0 }
    }

    /// Any type: its kind, flag and number of elements as in `struct btf_type`, and the words that follow it.
    pub(super) fn raw(&mut self, name: &str, packed: u32, size_or_type: u32, tail: &[u32]) -> u32 {
        let name = self.text(name);
        for word in [name, packed, size_or_type].iter().chain(tail) {
            self.types.extend_from_slice(&word.to_ne_bytes());
        }
        self.count += 1;
        self.count
    }

    pub(super) fn int(&mut self, name: &str, bytes: u32) -> u32 {
        self.raw(name, 1 << 24, bytes, &[bytes * 8])
    }

    pub(super) fn pointer(&mut self, to: u32) -> u32 {
        self.raw("", 2 << 24, to, &[])
    }

    pub(super) fn array(&mut self, of: u32, length: u32) -> u32 {
        self.raw("", 3 << 24, 0, &[of, of, length])
    }

    pub(super) fn typedef(&mut self, name: &str, of: u32) -> u32 {
        self.raw(name, 8 << 24, of, &[])
    }

    pub(super) fn constant(&mut self, of: u32) -> u32 {
        self.raw("", 10 << 24, of, &[])
    }

    pub(super) fn function(&mut self, name: &str) -> u32 {
        self.raw(name, 12 << 24, 0, &[])
    }

    /// A structure with members of name, type and offset in bytes.
    pub(super) fn structure(&mut self, name: &str, size: u32, members: &[(&str, u32, u32)]) -> u32 {
        let members: Vec<_> = members.iter().map(|(name, ty, at)| (*name, *ty, at * 8)).collect();
        self.members(name, 4 << 24, size, &members)
    }

    /// A union, all of whose members begin at its start.
    pub(super) fn union(&mut self, name: &str, size: u32, members: &[(&str, u32)]) -> u32 {
        let members: Vec<_> = members.iter().map(|(name, ty)| (*name, *ty, 0)).collect();
        self.members(name, 5 << 24, size, &members)
    }

    /// Members of name, type and third word as it stands in the file.
    pub(super) fn members(&mut self, name: &str, kind: u32, size: u32, members: &[(&str, u32, u32)]) -> u32 {
        let mut tail = Vec::new();
        for (name, ty, place) in members {
            tail.extend([self.text(name), *ty, *place]);
        }
        self.raw(name, kind | u32::try_from(members.len()).unwrap(), size, &tail)
    }

    pub(super) fn finish(&self) -> Vec<u8> {
        let length = |section: &[u8]| u32::try_from(section.len()).unwrap();
        let mut bytes = 0xeb9f_u16.to_ne_bytes().to_vec();
        bytes.extend([1, 0]);
        for word in [24, 0, length(&self.types), length(&self.types), length(&self.strings)] {
            bytes.extend_from_slice(&word.to_ne_bytes());
        }
        bytes.extend_from_slice(&self.types);
        bytes.extend_from_slice(&self.strings);
        bytes
    }

    fn text(&mut self, text: &str) -> u32 {
        if text.is_empty() {
            return 0;
        }
        let at = u32::try_from(self.strings.len()).unwrap();
        self.strings.extend_from_slice(text.as_bytes());
        self.strings.push(0);
        at
    }
}

/// Structures and members as the kernel programs want them, at offsets that count up, without those that `omit` names
/// (`struct.member`, a structure, or `btf_trace_NAME`).
pub(super) fn kernel(omit: &[&str]) -> Vec<u8> {
    with(omit, &[])
}

/// That of a kernel which preempts the programs of tracepoints.
pub(super) fn kernel_that_preempts() -> Vec<u8> {
    with(&[], &["class_srcu_fast_notrace_t"])
}

fn with(omit: &[&str], typedefs: &[&str]) -> Vec<u8> {
    let mut btf = Builder::new();
    let widths = [1, 2, 4, 8].map(|bytes| (bytes, btf.int("int", bytes)));
    let address = {
        let word = widths[2].1;
        btf.array(word, 4)
    };
    let ty = |width: u32| widths.iter().find(|(bytes, _)| *bytes == width).map_or(address, |(_, id)| *id);
    let common = {
        let members = laid("sock_common", SOCK_COMMON, omit, ty);
        btf.structure("sock_common", 256, &members)
    };
    for (name, members) in STRUCTURES {
        if omit.contains(name) {
            continue;
        }
        let mut members = laid(name, members, omit, ty);
        if *name == "sock" && !omit.contains(&"sock.__sk_common") {
            members.push(("__sk_common", common, 0));
        }
        btf.structure(name, 4096, &members);
    }
    for tracepoint in super::super::Tracepoint::ALL {
        if !omit.contains(&tracepoint.name()) {
            btf.typedef(tracepoint.type_name(), 0);
        }
    }
    for name in typedefs {
        btf.typedef(name, 0);
    }
    btf.finish()
}

fn laid<'a>(
    structure: &str,
    members: &[(&'a str, u32)],
    omit: &[&str],
    ty: impl Fn(u32) -> u32,
) -> Vec<(&'a str, u32, u32)> {
    let mut at = 16;
    let mut laid = Vec::new();
    for (name, width) in members {
        at += 16;
        if !omit.contains(&format!("{structure}.{name}").as_str()) {
            laid.push((*name, ty(*width), at));
        }
    }
    laid
}

const SOCK_COMMON: &[(&str, u32)] = &[
    ("skc_daddr", 4),
    ("skc_rcv_saddr", 4),
    ("skc_dport", 2),
    ("skc_num", 2),
    ("skc_family", 2),
    ("skc_state", 1),
    ("skc_v6_daddr", 16),
    ("skc_v6_rcv_saddr", 16),
];

const STRUCTURES: &[(&str, &[(&str, u32)])] = &[
    ("task_struct", &[("pid", 4), ("tgid", 4), ("files", 8), ("real_parent", 8), ("mm", 8)]),
    ("mm_struct", &[("arg_start", 8), ("arg_end", 8)]),
    ("linux_binprm", &[("interp", 8)]),
    ("files_struct", &[("fdt", 8)]),
    ("fdtable", &[("max_fds", 4), ("fd", 8)]),
    ("file", &[("f_inode", 8), ("private_data", 8)]),
    ("inode", &[("i_mode", 2), ("i_ino", 8)]),
    ("socket", &[("type", 2), ("file", 8), ("sk", 8)]),
    ("sock", &[("sk_socket", 8), ("sk_type", 2), ("sk_protocol", 2), ("sk_err", 4), ("sk_shutdown", 1)]),
    ("inet_sock", &[("inet_sport", 2)]),
    (
        "tcp_sock",
        &[
            ("bytes_acked", 8),
            ("bytes_received", 8),
            ("snd_una", 4),
            ("write_seq", 4),
            ("rcv_nxt", 4),
            ("copied_seq", 4),
            ("tcp_mstamp", 8),
        ],
    ),
    ("unix_sock", &[("addr", 8), ("peer", 8)]),
    ("unix_address", &[("len", 4), ("name", 1)]),
];
