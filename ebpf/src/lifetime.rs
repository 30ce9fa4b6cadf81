//! When connections begin and end: `inet_sock_set_state`.
//!
//! Who called connect is kept in the socket's state and told before the connection's first chunk, so that a connection
//! without a byte costs no record. FIN and the end are told where HTTP was seen.

use aya_ebpf::bindings::BPF_RB_NO_WAKEUP;
use aya_ebpf::helpers::bpf_get_current_pid_tgid;
use aya_ebpf::helpers::generated::{
    bpf_ktime_get_ns, bpf_probe_read_kernel, bpf_ringbuf_discard, bpf_ringbuf_output, bpf_ringbuf_reserve,
    bpf_ringbuf_submit,
};
use aya_ebpf::macros::btf_tracepoint;
use aya_ebpf::programs::BtfTracePointContext;
use sonde_abi::conn::{mode, state_flags};
use sonde_abi::limits::UNIX_PATH;
use sonde_abi::record::life_flags;
use sonde_abi::settings::{ABSENT, KernelCounter};
use sonde_abi::{ConnState, LifeEvent, LifeHeader, RecordKind, Role};

use crate::access::{Access, Kernel, Typed, Walked, bounded, probe};
use crate::conn::{Reached, Socket};
use crate::maps::{CONNS, RING, count, offset};
use crate::processes::{self, Verdict};

const TCP_ESTABLISHED: i32 = 1;
const TCP_SYN_SENT: i32 = 2;
const TCP_SYN_RECV: i32 = 3;
const TCP_FIN_WAIT1: i32 = 4;
const TCP_CLOSE: i32 = 7;
const TCP_LAST_ACK: i32 = 9;

/// `inet_sock_set_state(const struct sock *sk, int oldstate, int newstate)` where sockets are typed.
#[btf_tracepoint(function = "inet_sock_set_state")]
#[inline(always)]
pub fn set_state_typed(ctx: BtfTracePointContext) -> i32 {
    let _ = set_state::<Typed>(ctx.arg(0), ctx.arg(2));
    0
}

/// The same where they are not.
#[btf_tracepoint(function = "inet_sock_set_state")]
#[inline(always)]
pub fn set_state_walked(ctx: BtfTracePointContext) -> i32 {
    walk_state(ctx.arg(0), ctx.arg(1), ctx.arg(2));
    0
}

/// A socket, found by its address, changes its state. To be told twice of one change is no harm.
#[inline(always)]
pub fn walk_state(sock: Kernel, old_state: i32, new_state: i32) {
    let _ = set_state::<Walked>(sock, new_state);
    // A process that still reads or writes a closed socket makes its state anew, which must not become that of the next
    // socket at this address. The end that calls connect begins with a state of its own.
    let accepted = new_state == TCP_ESTABLISHED && old_state == TCP_SYN_RECV;
    if (new_state == TCP_CLOSE || accepted) && CONNS.remove(&(sock as u64)).is_ok() {
        count(KernelCounter::StatesEnded);
    }
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
    if state.mode != mode::HTTP1 && state.mode != mode::HTTP2 {
        return None;
    }
    // SAFETY: a member of `struct sock`.
    let error = unsafe { A::load::<u32>(sock, offset!(sk_err)) } as u16;
    // SAFETY: a helper without arguments.
    let time_ns = unsafe { bpf_ktime_get_ns() };
    let Reached { written, read, all } = Socket { sock }.reached::<A>(state);
    let flags = if all { life_flags::READ_ALL } else { 0 };
    let header = LifeHeader { event: event as u8, error, flags, time_ns, written, read, ..life(sock, state) };
    output(&header, LifeHeader::LEN as u64)
}

/// Tells who called connect, before the first chunk of a connection.
#[inline(always)]
fn opened(sock: Kernel, state: &ConnState) {
    let header = LifeHeader {
        event: LifeEvent::Open as u8,
        time_ns: state.connect_time,
        tgid: state.connect_tgid,
        tid: state.connect_tid,
        ..life(sock, state)
    };
    output(&header, LifeHeader::LEN as u64);
}

/// Tells that a process has forked another one.
#[inline(always)]
pub fn forked(child: u32, parent: u32) -> Option<()> {
    // SAFETY: a helper without arguments.
    let time_ns = unsafe { bpf_ktime_get_ns() };
    let header = LifeHeader {
        kind: RecordKind::Life as u8,
        event: LifeEvent::Forked as u8,
        error: 0,
        length: 0,
        flags: 0,
        time_ns,
        sock: 0,
        first_local: 0,
        first_peer: parent,
        tgid: child,
        tid: child,
        written: 0,
        read: 0,
    };
    output(&header, LifeHeader::LEN as u64)
}

/// Bytes of the record that carries a unix socket's name.
const NAME: usize = LifeHeader::LEN + UNIX_PATH;

/// Tells the path of a unix connection, before its first chunk: its own (the end that accepted shares the listener's), else
/// the other end's.
#[inline(always)]
fn named<A: Access>(sock: Kernel, state: &ConnState) -> Option<()> {
    /// Bytes of `sun_family` before the path.
    const FAMILY: u32 = 2;
    if offset!(unix_addr) == ABSENT {
        return None;
    }
    let address = match unix_address(A::unix(sock)? as u64) {
        0 => unix_address(state.peer),
        own => own,
    };
    if address == 0 {
        return None;
    }
    let address = address as Kernel;
    // SAFETY: members of `struct unix_address`; a probe read survives any address.
    let length = unsafe { probe::<u32>(address.wrapping_add(offset!(unix_addr_len) as usize)) };
    if length <= FAMILY {
        return None;
    }
    let length = bounded(u64::from(length - FAMILY), UNIX_PATH as u64);
    let from = address.wrapping_add(offset!(unix_addr_name) as usize + FAMILY as usize);
    let ring = (&raw const RING).cast_mut().cast();
    // SAFETY: written below and submitted or given back once. The path is read into what is left behind the header.
    unsafe {
        let record = bpf_ringbuf_reserve(ring, NAME as u64, 0).cast::<u8>();
        if record.is_null() {
            count(KernelCounter::RingFull);
            return None;
        }
        if bpf_probe_read_kernel(record.add(LifeHeader::LEN).cast(), length as u32, from.cast()) != 0 {
            bpf_ringbuf_discard(record.cast(), u64::from(BPF_RB_NO_WAKEUP));
            return None;
        }
        let header =
            LifeHeader { event: LifeEvent::UnixName as u8, length: length as u16, ..life(sock, state) };
        record.cast::<LifeHeader>().write(header);
        bpf_ringbuf_submit(record.cast(), u64::from(BPF_RB_NO_WAKEUP));
    }
    Some(())
}

/// Address of the name of a unix socket, 0 where it has none.
#[inline(always)]
fn unix_address(unix: u64) -> u64 {
    if unix == 0 {
        return 0;
    }
    // A probe read in both families: the pointer is computed with.
    // SAFETY: a member of `struct unix_sock`.
    unsafe { probe::<u64>((unix as Kernel).wrapping_add(offset!(unix_addr) as usize)) }
}

#[inline(always)]
fn life(sock: Kernel, state: &ConnState) -> LifeHeader {
    LifeHeader {
        kind: RecordKind::Life as u8,
        event: 0,
        error: 0,
        length: 0,
        flags: 0,
        time_ns: 0,
        sock: sock as u64,
        first_local: state.first_local,
        first_peer: state.first_peer,
        tgid: 0,
        tid: 0,
        written: 0,
        read: 0,
    }
}

#[inline(always)]
fn output<T>(record: &T, size: u64) -> Option<()> {
    let ring = (&raw const RING).cast_mut().cast();
    // SAFETY: `size` bytes of an initialised record.
    let failed = unsafe {
        bpf_ringbuf_output(
            ring,
            core::ptr::from_ref(record).cast_mut().cast(),
            size,
            u64::from(BPF_RB_NO_WAKEUP),
        )
    };
    if failed != 0 {
        count(KernelCounter::RingFull);
        return None;
    }
    Some(())
}

/// Tells once of a connection, before its first chunk. Apart, for its stack.
#[inline(always)]
pub fn introduce<A: Access>(socket: &Socket, state: &mut ConnState) {
    state.flags |= state_flags::OPENED;
    if state.connect_time != 0 {
        opened(socket.sock, state);
    }
    if socket.is_unix::<A>() {
        let _ = named::<A>(socket.sock, state);
    }
}
