//! Two ways to read kernel memory: loads that the verifier checks by type, and probe reads.

use aya_ebpf::bindings::{BPF_NOEXIST, BPF_SK_STORAGE_GET_F_CREATE};
use aya_ebpf::helpers::generated::{
    bpf_probe_read_kernel, bpf_sk_storage_get, bpf_skc_to_tcp_sock, bpf_skc_to_unix_sock,
};
use core::mem::MaybeUninit;
use core::ptr;
use sonde_abi::ConnState;
use sonde_abi::settings::KernelCounter;

use crate::maps::{CONNS, SOCKETS, count};

/// Address in kernel memory.
pub type Kernel = *const u8;

/// How a hook family reads what a socket pointer leads to, and where it keeps a socket's state.
pub trait Access {
    /// State is found by the socket's address, which may be another socket's by now.
    const BY_ADDRESS: bool;

    /// Reads a member. Memory that is gone reads as zero.
    ///
    /// # Safety
    /// `base` points to the structure that `offset` was resolved for.
    unsafe fn load<T: Copy + Default>(base: Kernel, offset: u32) -> T;

    /// The `struct tcp_sock` of a TCP socket.
    fn tcp(sock: Kernel) -> Option<Kernel>;

    /// The `struct unix_sock` of a unix socket.
    fn unix(sock: Kernel) -> Option<Kernel>;

    /// The state of a socket, made (zeroed) where there is none.
    fn state(sock: Kernel) -> Option<*mut ConnState>;

    /// The state of a socket, if there is one.
    fn known(sock: Kernel) -> Option<*mut ConnState>;
}

/// The socket came typed from a tracepoint: checked loads, socket storage.
pub struct Typed;

impl Access for Typed {
    const BY_ADDRESS: bool = false;

    #[inline(always)]
    unsafe fn load<T: Copy + Default>(base: Kernel, offset: u32) -> T {
        // SAFETY: the verifier knows the type behind `base` and turns the load into one that survives a fault.
        unsafe { ptr::read_volatile(base.add(offset as usize).cast()) }
    }

    #[inline(always)]
    fn tcp(sock: Kernel) -> Option<Kernel> {
        // SAFETY: a typed socket, as the helper wants.
        let tcp = unsafe { bpf_skc_to_tcp_sock(sock.cast_mut().cast()) };
        (!tcp.is_null()).then_some(tcp.cast())
    }

    #[inline(always)]
    fn unix(sock: Kernel) -> Option<Kernel> {
        // SAFETY: a typed socket, as the helper wants.
        let unix = unsafe { bpf_skc_to_unix_sock(sock.cast_mut().cast()) };
        (!unix.is_null()).then_some(unix.cast())
    }

    #[inline(always)]
    fn state(sock: Kernel) -> Option<*mut ConnState> {
        let state = storage(sock, u64::from(BPF_SK_STORAGE_GET_F_CREATE));
        if state.is_none() {
            count(KernelCounter::StateFull);
        }
        state
    }

    #[inline(always)]
    fn known(sock: Kernel) -> Option<*mut ConnState> {
        storage(sock, 0)
    }
}

#[inline(always)]
fn storage(sock: Kernel, flags: u64) -> Option<*mut ConnState> {
    let map = (&raw const SOCKETS).cast_mut().cast();
    // SAFETY: a typed socket; aya-ebpf's own method takes contexts of socket address programs only.
    let state = unsafe { bpf_sk_storage_get(map, sock.cast_mut().cast(), ptr::null_mut(), flags) };
    (!state.is_null()).then_some(state.cast())
}

/// The socket was found by walking: probe reads, a hash by address.
pub struct Walked;

impl Access for Walked {
    const BY_ADDRESS: bool = true;

    #[inline(always)]
    unsafe fn load<T: Copy + Default>(base: Kernel, offset: u32) -> T {
        // SAFETY: the helper checks the address.
        unsafe { probe(base.add(offset as usize)) }
    }

    #[inline(always)]
    fn tcp(sock: Kernel) -> Option<Kernel> {
        Some(sock)
    }

    #[inline(always)]
    fn unix(sock: Kernel) -> Option<Kernel> {
        Some(sock)
    }

    #[inline(always)]
    fn state(sock: Kernel) -> Option<*mut ConnState> {
        let key = sock as u64;
        if let Some(state) = CONNS.get_ptr_mut(&key) {
            return Some(state);
        }
        if CONNS.insert(&key, &NEW, u64::from(BPF_NOEXIST)).is_ok() {
            count(KernelCounter::StatesMade);
        }
        let state = CONNS.get_ptr_mut(&key);
        if state.is_none() {
            count(KernelCounter::StateFull);
        }
        state
    }

    #[inline(always)]
    fn known(sock: Kernel) -> Option<*mut ConnState> {
        CONNS.get_ptr_mut(&(sock as u64))
    }
}

/// Of a socket of which nothing is known. A static, since on the stack there is no room for it.
static NEW: ConnState = ConnState::NEW;

/// Reads kernel memory at any address; zero where it cannot be read.
///
/// # Safety
/// None beyond reading what the address holds: the helper survives faults.
#[inline(always)]
pub unsafe fn probe<T: Copy + Default>(from: Kernel) -> T {
    let mut value = MaybeUninit::<T>::uninit();
    // SAFETY: writes exactly the size of `T`.
    let failed =
        unsafe { bpf_probe_read_kernel(value.as_mut_ptr().cast(), size_of::<T>() as u32, from.cast()) };
    if failed != 0 {
        return T::default();
    }
    // SAFETY: filled by the helper, and every `T` used is an integer or an array of integers.
    unsafe { value.assume_init() }
}

/// The same number, of which the compiler knows nothing: it drops no comparison that the verifier needs, and makes no branch
/// of arithmetic. A real move, since an empty statement breaks BTF line information.
#[inline(always)]
pub fn opaque(number: u64) -> u64 {
    let mut number = number;
    // SAFETY: changes nothing.
    unsafe { core::arch::asm!("{0} = {0}", inout(reg) number, options(nomem, nostack, preserves_flags)) };
    number
}

/// All ones where a number, as a signed one, is below zero. The compiler makes a branch of what it sees to be such a mask.
#[inline(always)]
pub fn negative(number: u64) -> u64 {
    opaque((opaque(number).cast_signed() >> 63).cast_unsigned())
}

/// The smaller of two numbers below 2^63, without a branch.
#[inline(always)]
pub fn least(a: u64, b: u64) -> u64 {
    let difference = a.wrapping_sub(b);
    b.wrapping_add(difference & negative(difference))
}

/// Zero, of which the verifier knows nothing: numbers that are combined with it become unknown to it, and paths that differ
/// in nothing else become one. `unknown` is any number that it knows nothing of.
#[inline(always)]
pub fn nothing(unknown: u64) -> u64 {
    unknown ^ opaque(unknown)
}

/// Keeps a length below its bound where the verifier can see it. The compiler may know the bound already.
#[inline(always)]
pub fn bounded(len: u64, most: u64) -> u64 {
    let len = opaque(len);
    if len > most { most } else { len }
}
