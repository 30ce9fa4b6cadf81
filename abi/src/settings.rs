//! What the agent tells the kernel programs before they are loaded: frozen read-only data.

/// An offset that this kernel does not have. Branches on it vanish when the program is loaded.
pub const ABSENT: u32 = u32::MAX;

/// Offsets in bytes into kernel structures, read from the running kernel's BTF; [`ABSENT`] where a member is missing.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Offsets {
    /// `task_struct.files`
    pub task_files: u32,
    /// `task_struct.tgid`
    pub task_tgid: u32,
    /// `task_struct.pid`
    pub task_pid: u32,
    /// `task_struct.real_parent`
    pub task_real_parent: u32,
    /// `task_struct.mm`
    pub task_mm: u32,
    /// `mm_struct.arg_start`
    pub mm_arg_start: u32,
    /// `mm_struct.arg_end`
    pub mm_arg_end: u32,
    /// `linux_binprm.interp`
    pub binprm_interp: u32,
    /// `files_struct.fdt`
    pub files_fdt: u32,
    /// `fdtable.fd`
    pub fdt_fd: u32,
    /// `fdtable.max_fds`
    pub fdt_max_fds: u32,
    /// `file.f_inode`
    pub file_inode: u32,
    /// `file.private_data`
    pub file_private_data: u32,
    /// `inode.i_ino`
    pub inode_ino: u32,
    /// `inode.i_mode`
    pub inode_mode: u32,
    /// `socket.sk`
    pub socket_sk: u32,
    /// `socket.type`
    pub socket_type: u32,
    /// `socket.file`
    pub socket_file: u32,
    /// `sock.sk_socket`
    pub sk_socket: u32,
    /// `sock.sk_type`
    pub sk_type: u32,
    /// `sock.sk_protocol`
    pub sk_protocol: u32,
    /// `sock.sk_err`
    pub sk_err: u32,
    /// `sock.sk_shutdown`
    pub sk_shutdown: u32,
    /// `sock_common.skc_family`
    pub skc_family: u32,
    /// `sock_common.skc_state`
    pub skc_state: u32,
    /// `sock_common.skc_num` (own port, host order)
    pub skc_num: u32,
    /// `inet_sock.inet_sport` (own port, network order; stays when `skc_num` is given back)
    pub inet_sport: u32,
    /// `sock_common.skc_dport` (peer's port, network order)
    pub skc_dport: u32,
    /// `sock_common.skc_daddr`
    pub skc_daddr: u32,
    /// `sock_common.skc_rcv_saddr`
    pub skc_rcv_saddr: u32,
    /// `sock_common.skc_v6_daddr`
    pub skc_v6_daddr: u32,
    /// `sock_common.skc_v6_rcv_saddr`
    pub skc_v6_rcv_saddr: u32,
    /// `tcp_sock.bytes_acked`
    pub tcp_bytes_acked: u32,
    /// `tcp_sock.bytes_received`
    pub tcp_bytes_received: u32,
    /// `tcp_sock.snd_una`
    pub tcp_snd_una: u32,
    /// `tcp_sock.write_seq`
    pub tcp_write_seq: u32,
    /// `tcp_sock.rcv_nxt`
    pub tcp_rcv_nxt: u32,
    /// `tcp_sock.copied_seq`
    pub tcp_copied_seq: u32,
    /// `tcp_sock.tcp_mstamp` (microseconds of `CLOCK_MONOTONIC` when the last packet came or went)
    pub tcp_mstamp: u32,
    /// `unix_sock.peer`
    pub unix_peer: u32,
    /// `unix_sock.addr`
    pub unix_addr: u32,
    /// `unix_address.len`
    pub unix_addr_len: u32,
    /// `unix_address.name`
    pub unix_addr_name: u32,
}

impl Offsets {
    /// No member known: what the object holds until the agent overrides it.
    pub const NONE: Self = Self {
        task_files: ABSENT,
        task_tgid: ABSENT,
        task_pid: ABSENT,
        task_real_parent: ABSENT,
        task_mm: ABSENT,
        mm_arg_start: ABSENT,
        mm_arg_end: ABSENT,
        binprm_interp: ABSENT,
        files_fdt: ABSENT,
        fdt_fd: ABSENT,
        fdt_max_fds: ABSENT,
        file_inode: ABSENT,
        file_private_data: ABSENT,
        inode_ino: ABSENT,
        inode_mode: ABSENT,
        socket_sk: ABSENT,
        socket_type: ABSENT,
        socket_file: ABSENT,
        sk_socket: ABSENT,
        sk_type: ABSENT,
        sk_protocol: ABSENT,
        sk_err: ABSENT,
        sk_shutdown: ABSENT,
        skc_family: ABSENT,
        skc_state: ABSENT,
        skc_num: ABSENT,
        inet_sport: ABSENT,
        skc_dport: ABSENT,
        skc_daddr: ABSENT,
        skc_rcv_saddr: ABSENT,
        skc_v6_daddr: ABSENT,
        skc_v6_rcv_saddr: ABSENT,
        tcp_bytes_acked: ABSENT,
        tcp_bytes_received: ABSENT,
        tcp_snd_una: ABSENT,
        tcp_write_seq: ABSENT,
        tcp_rcv_nxt: ABSENT,
        tcp_copied_seq: ABSENT,
        tcp_mstamp: ABSENT,
        unix_peer: ABSENT,
        unix_addr: ABSENT,
        unix_addr_len: ABSENT,
        unix_addr_name: ABSENT,
    };
}

/// How the kernel programs select what they send.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Selection {
    /// 1: a connection is observed where either end's port is set in the `PORTS` bitmap, whatever its process is.
    pub by_port: u32,
    /// 1: connections of processes count, but for those that the agent excluded (which one it wants it says by excluding
    /// the others; what an undecided process does is sent). 0: only `by_port` selects.
    pub by_process: u32,
    /// The agent's own thread group, never observed.
    pub own_tgid: u32,
    /// Largest process id plus one (`/proc/sys/kernel/pid_max`): bytes in the `PROCESSES` map.
    pub pid_max: u32,
}

impl Selection {
    /// Everything is sent.
    pub const ALL: Self = Self { by_port: 0, by_process: 1, own_tgid: 0, pid_max: 4_194_304 };
}

/// Counters that the kernel side keeps per processor, by index.
#[repr(u32)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KernelCounter {
    /// Chunk records sent.
    Chunks = 0,
    /// Records lost because the ring was full.
    RingFull = 1,
    /// Payload bytes that could not be read from the process (page not present, bad pointer).
    UserFault = 2,
    /// Socket state could not be created (map full, no memory).
    StateFull = 3,
    /// A head was longer than [`crate::limits::HEAD_BYTES`].
    HeadTooLong = 4,
    /// Bytes went through a call whose buffers the hook cannot see (io_uring, sendfile, splice, 32-bit programs).
    NoBuffer = 5,
    /// Connections left alone for good after a bounded look.
    LeftAlone = 6,
    /// Calls of which a buffer past the [`crate::limits::IOVECS`]th would have been worth reading.
    FarBuffer = 7,
    /// States made in the hash of the `syscalls` family. Nobody tells what its limit pushes out: what was made and neither
    /// ended nor has room was.
    StatesMade = 8,
    /// States removed from it since their socket was closed.
    StatesEnded = 9,
}

impl KernelCounter {
    /// Room for the counters of a processor: whole cache lines, which no other processor writes.
    pub const SLOTS: usize = 16;
}

const _: () =
    assert!((KernelCounter::StatesEnded as usize) < KernelCounter::SLOTS, "the last counter has room");
