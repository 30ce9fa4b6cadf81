//! Positions of a TCP stream, as the kernel itself counts them.
//!
//! The first sequence number of each end is taken once, at the connection's first chunk, and kept. From then on a position
//! is the distance of `write_seq` or `copied_seq` from it, which is 32 bits wide, widened by the 64-bit counter nearby. So
//! one number is read that must be exact, and no two numbers that softirq could change in between.

use sonde_abi::conn::state_flags;
use sonde_abi::{ConnState, Direction};

use super::{Extent, Place, Reached};
use crate::access::{Access, Kernel};
use crate::maps::offset;

const TCP_ESTABLISHED: u8 = 1;
const TCP_CLOSE: u8 = 7;
/// States in which the other end's FIN has been received: TIME_WAIT, CLOSE_WAIT, LAST_ACK, CLOSING (`tcp_states.h`).
const FIN_RECEIVED: u32 = 1 << 6 | 1 << 8 | 1 << 9 | 1 << 11;
const EPIPE: u32 = 32;
/// States in which this end's FIN has been sent: FIN_WAIT1, FIN_WAIT2, TIME_WAIT, LAST_ACK, CLOSING.
const FIN_SENT: u32 = 1 << 4 | 1 << 5 | 1 << 6 | 1 << 9 | 1 << 11;

/// The place of a chunk.
#[inline(always)]
pub fn of_tcp<A: Access>(sock: Kernel, state: &mut ConnState, chunk: &Extent) -> Option<Place> {
    let tcp = A::tcp(sock)?;
    if state.flags & state_flags::NAMED == 0 {
        name::<A>(tcp, state);
    }
    let length = u64::from(chunk.length) + u64::from(chunk.behind);
    // SAFETY: members of `struct tcp_sock`.
    unsafe {
        if chunk.direction == Direction::Write {
            let near: u64 = A::load(tcp, offset!(tcp_bytes_acked));
            let low = A::load::<u32>(tcp, offset!(tcp_write_seq)).wrapping_sub(state.first_local);
            return Some(Place { position: widen(low, near).wrapping_sub(length), queued_us: 0 });
        }
        let near: u64 = A::load(tcp, offset!(tcp_bytes_received));
        let copied = A::load::<u32>(tcp, offset!(tcp_copied_seq)).wrapping_sub(consumed_fin::<A>(sock, tcp));
        let low = copied.wrapping_sub(state.first_peer);
        let queued_us = queued(chunk.time_ns, A::load(tcp, offset!(tcp_mstamp)));
        Some(Place { position: widen(low, near).wrapping_sub(length), queued_us })
    }
}

/// How far a connection has come that changes its state: what `sk_state` holds is the old one still, and the FIN that the new
/// one stands for has not been counted.
#[inline(always)]
pub fn reached<A: Access>(sock: Kernel, state: &ConnState) -> Option<Reached> {
    if state.flags & state_flags::NAMED == 0 {
        return None;
    }
    let tcp = A::tcp(sock)?;
    // SAFETY: members of `struct sock_common` and `struct tcp_sock`.
    unsafe {
        let sent = FIN_SENT >> (A::load::<u8>(sock, offset!(skc_state)) & 31) & 1;
        let written = A::load::<u32>(tcp, offset!(tcp_write_seq)).wrapping_sub(sent);
        let fin = consumed_fin::<A>(sock, tcp);
        let copied = A::load::<u32>(tcp, offset!(tcp_copied_seq)).wrapping_sub(fin);
        Some(Reached {
            written: widen(written.wrapping_sub(state.first_local), A::load(tcp, offset!(tcp_bytes_acked))),
            read: widen(copied.wrapping_sub(state.first_peer), A::load(tcp, offset!(tcp_bytes_received))),
            all: fin != 0,
        })
    }
}

/// 1 where `copied_seq` counts the other end's FIN: a read that meets it takes it along with the last bytes.
///
/// # Safety
/// `sock` and `tcp` are the socket's.
#[inline(always)]
unsafe fn consumed_fin<A: Access>(sock: Kernel, tcp: Kernel) -> u32 {
    // SAFETY: members of `struct sock_common`, `struct sock` and `struct tcp_sock`.
    unsafe {
        let tcp_state = A::load::<u8>(sock, offset!(skc_state));
        if tcp_state == TCP_ESTABLISHED {
            return 0;
        }
        // Closed on both sides in order, or by a reset that came behind the FIN (`tcp_reset` says that by this error).
        let error = A::load::<u32>(sock, offset!(sk_err));
        let closed = tcp_state == TCP_CLOSE && (error == 0 || error == EPIPE);
        if !closed && FIN_RECEIVED >> (tcp_state & 31) & 1 == 0 {
            return 0;
        }
        let copied = A::load::<u32>(tcp, offset!(tcp_copied_seq));
        u32::from(copied == A::load::<u32>(tcp, offset!(tcp_rcv_nxt)))
    }
}

/// Takes both first sequence numbers.
#[inline(always)]
fn name<A: Access>(tcp: Kernel, state: &mut ConnState) {
    // SAFETY: members of `struct tcp_sock` and `struct sock_common`.
    unsafe {
        let mut tries = 0;
        // A packet may come in between the two reads: once more, then take what there is.
        while tries < 2 {
            let acked: u64 = A::load(tcp, offset!(tcp_bytes_acked));
            let received: u64 = A::load(tcp, offset!(tcp_bytes_received));
            state.first_local = A::load::<u32>(tcp, offset!(tcp_snd_una)).wrapping_sub(acked as u32);
            state.first_peer = A::load::<u32>(tcp, offset!(tcp_rcv_nxt)).wrapping_sub(received as u32);
            let again: u64 = A::load(tcp, offset!(tcp_bytes_acked));
            let again_received: u64 = A::load(tcp, offset!(tcp_bytes_received));
            if again == acked && again_received == received {
                break;
            }
            tries += 1;
        }
    }
    state.flags |= state_flags::NAMED;
}

/// The 64-bit number that ends in `low` and is nearest to `near`.
#[inline(always)]
fn widen(low: u32, near: u64) -> u64 {
    let distance = low.wrapping_sub(near as u32);
    // Sign extension by hand: an i32 cast makes the compiler emit what version 3 of the instruction set lacks.
    let extended = ((u64::from(distance)) << 32).cast_signed() >> 32;
    near.wrapping_add(extended.cast_unsigned())
}

/// Microseconds since the last packet came, 0 where the clocks do not fit.
#[inline(always)]
fn queued(now_ns: u64, arrived_us: u64) -> u32 {
    // The kernel's stamp is in microseconds; division by a constant is a multiplication for the compiler, not for BPF:
    // compare in nanoseconds, divide only what is left.
    let arrived = arrived_us.wrapping_mul(1000);
    if arrived >= now_ns || now_ns - arrived > 60_000_000_000 {
        return 0;
    }
    ((now_ns - arrived) / 1000) as u32
}
