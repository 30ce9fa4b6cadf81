//! When connections begin and end: `inet_sock_set_state`.
//!
//! Who called connect is kept in the socket's state and told before the connection's first chunk, so that a connection
//! without a byte costs no record. FIN and the end are told where HTTP was seen.

use aya_ebpf::bindings::BPF_RB_NO_WAKEUP;
use aya_ebpf::helpers::bpf_get_current_pid_tgid;
use aya_ebpf::helpers::generated::{bpf_ktime_get_ns, bpf_probe_read_kernel, bpf_ringbuf_output};
use aya_ebpf::macros::btf_tracepoint;
use aya_ebpf::programs::BtfTracePointContext;
use sonde_abi::conn::{mode, state_flags};
use sonde_abi::limits::UNIX_PATH;
use sonde_abi::settings::{ABSENT, KernelCounter};
use sonde_abi::{ConnState, LifeEvent, LifeHeader, RecordKind, Role};

use crate::access::{Access, Kernel, Typed, Walked};
use crate::maps::{CONNS, RING, count, offset};
use crate::processes::{self, Verdict};

const TCP_SYN_SENT: i32 = 2;
const TCP_FIN_WAIT1: i32 = 4;
const TCP_CLOSE: i32 = 7;
const TCP_LAST_ACK: i32 = 9;

/// `inet_sock_set_state(const struct sock *sk, int oldstate, int newstate)` beside the `lengths` family.
#[btf_tracepoint(function = "inet_sock_set_state")]
pub fn set_state_typed(ctx: BtfTracePointContext) -> i32 {
    let _ = set_state::<Typed>(ctx.arg(0), ctx.arg(2));
    0
}

/// The same beside the `syscalls` family.
#[btf_tracepoint(function = "inet_sock_set_state")]
pub fn set_state_walked(ctx: BtfTracePointContext) -> i32 {
    let sock: Kernel = ctx.arg(0);
    let new_state = ctx.arg(2);
    let _ = set_state::<Walked>(sock, new_state);
    if new_state == TCP_CLOSE {
        let _ = CONNS.remove(&(sock as u64));
    }
    0
}

#[inline(always)]
fn set_state<A: Access>(sock: Kernel, new_state: i32) -> Option<()> {
    match new_state {
        TCP_SYN_SENT => connect::<A>(sock),
        TCP_FIN_WAIT1 | TCP_LAST_ACK => tell::<A>(sock, LifeEvent::Finished),
        TCP_CLOSE => tell::<A>(sock, LifeEvent::Closed),
        _ => None,
    }
}

/// The calling thread connects.
#[inline(always)]
fn connect<A: Access>(sock: Kernel) -> Option<()> {
    let id = bpf_get_current_pid_tgid();
    if processes::judge((id >> 32) as u32) == Verdict::Drop {
        return None;
    }
    let state = A::state(sock)?;
    // SAFETY: a map value; the socket has just been made, nobody else uses it.
    let state = unsafe { &mut *state };
    // A socket that was connected before begins anew.
    *state = ConnState {
        // SAFETY: a helper without arguments.
        connect_time: unsafe { bpf_ktime_get_ns() },
        connect_tgid: (id >> 32) as u32,
        connect_tid: id as u32,
        role: Role::Client as u8,
        ..ConnState::default()
    };
    Some(())
}

#[inline(always)]
fn tell<A: Access>(sock: Kernel, event: LifeEvent) -> Option<()> {
    let state = A::known(sock)?;
    // SAFETY: a map value, read only.
    let state = unsafe { &*state };
    if state.mode != mode::HTTP1 {
        return None;
    }
    // SAFETY: a member of `struct sock`.
    let error = unsafe { A::load::<u32>(sock, offset!(sk_err)) } as u16;
    // SAFETY: a helper without arguments.
    let time_ns = unsafe { bpf_ktime_get_ns() };
    let header = LifeHeader { event: event as u8, error, time_ns, ..life(sock, state) };
    output(&header, LifeHeader::LEN as u64)
}

/// Tells who called connect, before the first chunk of a connection.
#[inline(always)]
pub fn opened(sock: Kernel, state: &ConnState) {
    let header = LifeHeader {
        event: LifeEvent::Open as u8,
        time_ns: state.connect_time,
        tgid: state.connect_tgid,
        tid: state.connect_tid,
        ..life(sock, state)
    };
    output(&header, LifeHeader::LEN as u64);
}

/// A unix socket's name in a record.
#[repr(C)]
struct Name {
    header: LifeHeader,
    path: [u8; UNIX_PATH],
}

/// Tells the path of a unix connection, before its first chunk: its own (the end that accepted shares the listener's), else
/// the other end's.
#[inline(always)]
pub fn named<A: Access>(sock: Kernel, state: &ConnState) -> Option<()> {
    if offset!(unix_addr) == ABSENT {
        return None;
    }
    let address = unix_address::<A>(A::unix(sock)? as u64).or_else(|| unix_address_walked(state.peer))?;
    /// Bytes of `sun_family` before the path.
    const FAMILY: u32 = 2;
    let mut name = Name { header: life(sock, state), path: [0; UNIX_PATH] };
    // SAFETY: members of `struct unix_address`; a probe read survives any address.
    let length = unsafe { crate::access::probe::<u32>((address as Kernel).wrapping_add(offset!(unix_addr_len) as usize)) };
    if length <= FAMILY {
        return None;
    }
    let length = if length - FAMILY > UNIX_PATH as u32 { UNIX_PATH as u32 } else { length - FAMILY };
    let from = (address as Kernel).wrapping_add(offset!(unix_addr_name) as usize + FAMILY as usize);
    // SAFETY: the size of the array; names are kept in blocks of at least that size or end at a fault, which is told apart.
    let failed = unsafe { bpf_probe_read_kernel(name.path.as_mut_ptr().cast(), length, from.cast()) };
    if failed != 0 {
        return None;
    }
    name.header.event = LifeEvent::UnixName as u8;
    name.header.length = length;
    output(&name, size_of::<Name>() as u64)
}

#[inline(always)]
fn unix_address<A: Access>(unix: u64) -> Option<u64> {
    // SAFETY: a member of `struct unix_sock`.
    let address = unsafe { A::load::<u64>(unix as Kernel, offset!(unix_addr)) };
    (address != 0).then_some(address)
}

#[inline(always)]
fn unix_address_walked(unix: u64) -> Option<u64> {
    if unix == 0 {
        return None;
    }
    unix_address::<Walked>(unix)
}

#[inline(always)]
fn life(sock: Kernel, state: &ConnState) -> LifeHeader {
    LifeHeader {
        kind: RecordKind::Life as u8,
        event: 0,
        error: 0,
        length: 0,
        time_ns: 0,
        sock: sock as u64,
        first_local: state.first_local,
        first_peer: state.first_peer,
        tgid: 0,
        tid: 0,
    }
}

#[inline(always)]
fn output<T>(record: &T, size: u64) -> Option<()> {
    let ring = (&raw const RING).cast_mut().cast();
    // SAFETY: `size` bytes of an initialised record.
    let failed = unsafe { bpf_ringbuf_output(ring, core::ptr::from_ref(record).cast_mut().cast(), size, u64::from(BPF_RB_NO_WAKEUP)) };
    if failed != 0 {
        count(KernelCounter::RingFull);
        return None;
    }
    Some(())
}

/// What is told once for a connection, before its first chunk.
#[inline(always)]
pub fn introduce<A: Access>(sock: Kernel, unix: bool, state: &mut ConnState) {
    state.flags |= state_flags::OPENED;
    if state.connect_time != 0 {
        opened(sock, state);
    }
    if unix {
        let _ = named::<A>(sock, state);
    }
}
