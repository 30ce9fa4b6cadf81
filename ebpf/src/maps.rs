//! Maps and read-only settings that the agent shares with the programs.

use aya_ebpf::bindings::BPF_F_MMAPABLE;
use aya_ebpf::btf_maps::{Array, LruHashMap, PerCpuArray, ProgramArray, RingBuf, SkStorage};
use aya_ebpf::helpers::generated::bpf_get_smp_processor_id;
use aya_ebpf::macros::btf_map;
use sonde_abi::limits::{CONNECTIONS, RING_BYTES};
use sonde_abi::messages::Aside;
use sonde_abi::settings::{KernelCounter, Offsets, Selection};
use sonde_abi::start::PLACES;
use sonde_abi::{ConnState, ProcessState, Start};

use crate::frames::Work;
use crate::messages::Cursor;

/// Every record to the agent.
#[btf_map]
pub static RING: RingBuf<u8, { RING_BYTES as usize }> = RingBuf::new();

/// One byte of [`ProcessState`] for each thread group id, in pages. The agent maps it and writes its decisions; the size is
/// the running kernel's `pid_max`, set before loading.
#[btf_map]
pub static PROCESSES: Array<[u8; PAGE], 1024, { BPF_F_MMAPABLE as usize }> = Array::new();

/// Bytes in an element of [`PROCESSES`].
const PAGE: usize = 4096;

/// How processes began, by [`Start::place`]. Mapped, as [`COUNTERS`] is.
#[btf_map]
pub static STARTS: Array<Start, { PLACES as usize }, { BPF_F_MMAPABLE as usize }> = Array::new();

/// Bitmap of ports that select connections.
#[btf_map]
pub static PORTS: Array<u64, 1024> = Array::new();

/// Counters by [`KernelCounter`], an element for each processor; their number is set before loading. The agent maps it: while
/// a map is asked by a system call, the kernel runs no program of a perf event on that processor.
#[btf_map]
pub static COUNTERS: Array<[u64; KernelCounter::SLOTS], 1, { BPF_F_MMAPABLE as usize }> = Array::new();

/// State of sockets that a program holds typed.
#[btf_map]
pub static SOCKETS: SkStorage<ConnState> = SkStorage::new();

/// State of sockets that were found by walking from a descriptor, by address.
#[btf_map]
pub static CONNS: LruHashMap<u64, ConnState, { CONNECTIONS as usize }> = LruHashMap::new();

/// How far threads have come in calls that move several messages.
#[btf_map]
pub static CURSORS: LruHashMap<u32, Cursor, 1024> = LruHashMap::new();

/// The program of `sys_exit`, which calls itself for each message.
#[btf_map]
pub static NEXT_MESSAGE: ProgramArray<1> = ProgramArray::new();

/// The programs of [`crate::frames`] for what is sent, and for what is received.
#[btf_map]
pub static FRAMES_SENT: ProgramArray<1> = ProgramArray::new();

/// See [`FRAMES_SENT`].
#[btf_map]
pub static FRAMES_RECEIVED: ProgramArray<1> = ProgramArray::new();

/// What these programs leave for each other, by direction.
#[btf_map]
pub static WORK: PerCpuArray<Work, 2> = PerCpuArray::new();

/// What is known of streams whose connections have frames of others.
#[btf_map]
pub static ASIDE: Array<Aside, 1> = Array::new();

/// Where this kernel keeps what the programs read. Overridden and frozen before loading.
#[unsafe(no_mangle)]
static OFFSETS: Offsets = Offsets::NONE;

/// What to send. Overridden and frozen before loading.
#[unsafe(no_mangle)]
static SELECTION: Selection = Selection::ALL;

/// Reads one setting so that the compiler does not fold its initial value; the verifier folds the frozen one.
macro_rules! setting {
    ($static:ident, $field:ident) => {
        // SAFETY: a static of integers, aligned, never written after loading.
        unsafe { core::ptr::read_volatile(&raw const $static.$field) }
    };
}

/// Offset of a kernel structure's member, [`sonde_abi::settings::ABSENT`] where this kernel has none.
macro_rules! offset {
    ($field:ident) => {
        $crate::maps::offsets::$field()
    };
}
pub(crate) use offset;

/// Accessors of [`OFFSETS`], one for each member.
pub mod offsets {
    use super::OFFSETS;

    macro_rules! accessors {
        ($($field:ident)*) => {
            $(
                #[inline(always)]
                pub fn $field() -> u32 {
                    setting!(OFFSETS, $field)
                }
            )*
        };
    }
    accessors! {
        task_files task_tgid task_pid task_real_parent task_mm mm_arg_start mm_arg_end binprm_interp files_fdt fdt_fd fdt_max_fds file_inode file_private_data inode_ino inode_mode socket_sk socket_file
        sk_socket sk_type sk_protocol sk_err sk_shutdown skc_family skc_state skc_num inet_sport skc_dport skc_daddr skc_rcv_saddr
        skc_v6_daddr skc_v6_rcv_saddr tcp_bytes_acked tcp_bytes_received tcp_snd_una tcp_write_seq tcp_rcv_nxt
        tcp_copied_seq tcp_mstamp unix_peer unix_addr unix_addr_len unix_addr_name
    }
}

/// Whether ports select connections.
#[inline(always)]
pub fn by_port() -> bool {
    setting!(SELECTION, by_port) != 0
}

/// Whether processes select connections.
#[inline(always)]
pub fn by_process() -> bool {
    setting!(SELECTION, by_process) != 0
}

/// The agent's own thread group.
#[inline(always)]
pub fn own_tgid() -> u32 {
    setting!(SELECTION, own_tgid)
}

/// Adds to a counter of this processor.
#[inline(always)]
pub fn count(counter: KernelCounter) {
    // SAFETY: a helper without conditions.
    if let Some(counters) = COUNTERS.get_ptr_mut(unsafe { bpf_get_smp_processor_id() }) {
        // SAFETY: within the element of this processor, where a program stays until it ends. One that interrupts it may lose an
        // increment of it at worst.
        unsafe { *counters.cast::<u64>().add(counter as usize) += 1 };
    }
    #[cfg(feature = "log")]
    if !matches!(counter, KernelCounter::Chunks | KernelCounter::StatesMade | KernelCounter::StatesEnded) {
        log(counter);
    }
}

/// Says what was lost. Each event by itself, which no production node could bear: for those who look for a cause. A
/// function of its own: the stack of its callers has no room for it.
#[cfg(feature = "log")]
#[inline(never)]
fn log(counter: KernelCounter) {
    match counter {
        KernelCounter::Chunks | KernelCounter::StatesMade | KernelCounter::StatesEnded => {}
        KernelCounter::RingFull => aya_log_ebpf::debug!(&(), "ring full: a record is lost"),
        KernelCounter::UserFault => aya_log_ebpf::debug!(&(), "memory is not there: sent without payload"),
        KernelCounter::StateFull => aya_log_ebpf::debug!(&(), "no room for a socket's state: not observed"),
        KernelCounter::HeadTooLong => aya_log_ebpf::debug!(&(), "head too long: cut off"),
        KernelCounter::NoBuffer => aya_log_ebpf::debug!(&(), "no buffer to be seen: sent without payload"),
        KernelCounter::LeftAlone => aya_log_ebpf::debug!(&(), "not HTTP: left alone from here on"),
        KernelCounter::FarBuffer => aya_log_ebpf::debug!(&(), "too many buffers: the rest without payload"),
    }
}

/// The byte of a process, `None` for ids beyond `pid_max`.
#[inline(always)]
pub fn process(tgid: u32) -> Option<*mut u8> {
    let page = PROCESSES.get_ptr_mut(tgid >> 12)?;
    // SAFETY: the offset is below the size of the element.
    Some(unsafe { page.cast::<u8>().add((tgid & 4095) as usize) })
}

/// Whether a port is among the selected ones.
#[inline(always)]
pub fn port_selected(port: u16) -> bool {
    PORTS.get(u32::from(port) >> 6).is_some_and(|word| word >> (port & 63) & 1 != 0)
}

/// What the byte of a process not seen yet holds.
pub const UNKNOWN: u8 = ProcessState::Unknown as u8;
