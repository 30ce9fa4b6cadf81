//! The buffers of a call, in the memory of the process. Read only.

use aya_ebpf::helpers::generated::bpf_probe_read_user;
use core::mem::MaybeUninit;
use sonde_abi::limits::IOVECS;
use sonde_abi::settings::KernelCounter;

use crate::access::negative;
use crate::maps::count;

/// One contiguous buffer: `struct iovec` as it lies in memory.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct Buffer {
    /// Where it begins.
    pub base: u64,
    /// How long it is.
    pub len: u64,
}

/// Where a call's bytes are: one buffer, or `struct iovec[count]`. Two plain numbers rather than an enumeration: the verifier
/// follows each variant by itself.
#[derive(Clone, Copy)]
pub struct Source {
    /// Of the buffer or of the vector; 0 where the bytes are not in the memory of the process, or not known where.
    pub address: u64,
    /// Buffers in the vector, [`ONE`] for a plain buffer.
    pub count: u64,
}

/// [`Source::count`] of a plain buffer.
pub const ONE: u64 = u64::MAX;

impl Source {
    /// Not to be seen.
    pub const NONE: Self = Self { address: 0, count: ONE };

    /// The same, of which the verifier knows nothing where `nothing` is [`crate::access::nothing`].
    #[inline(always)]
    pub fn hidden(self, nothing: u64) -> Self {
        Self { address: self.address ^ nothing, count: self.count ^ nothing }
    }

    /// How many buffers there are. No vector is as long as [`ONE`] says.
    #[inline(always)]
    pub fn buffers(&self) -> u64 {
        let plain = negative(self.count);
        self.count & !plain | plain & 1
    }

    /// Whether there is nothing to read.
    #[inline(always)]
    pub fn is_none(&self) -> bool {
        self.address == 0
    }
}

/// `struct msghdr` up to what is needed of it (sendmsg(2)).
#[repr(C)]
#[derive(Clone, Copy, Default)]
struct Msghdr {
    name: u64,
    name_len: u64,
    iov: u64,
    iov_len: u64,
}

/// The buffers that a `struct msghdr` names.
#[inline(always)]
pub fn of_msghdr(address: u64) -> Source {
    match read::<Msghdr>(address) {
        Some(message) => Source { address: message.iov, count: message.iov_len },
        None => Source::NONE,
    }
}

/// The buffer with this number, `None` past the last one that is looked at.
#[inline(always)]
pub fn buffer(source: Source, index: u64) -> Option<Buffer> {
    if source.count == ONE {
        return plain(source, index);
    }
    if index >= source.count {
        return None;
    }
    if index >= IOVECS as u64 {
        count(KernelCounter::FarBuffer);
        return None;
    }
    nth(source, index)
}

/// The only buffer of a call that takes one.
#[inline(always)]
fn plain(source: Source, index: u64) -> Option<Buffer> {
    (index == 0 && source.address != 0).then_some(Buffer { base: source.address, len: u64::MAX })
}

/// The buffer with this number in a vector; whether there are as many is the caller's concern.
#[inline(always)]
pub fn nth(source: Source, index: u64) -> Option<Buffer> {
    read(source.address.wrapping_add(index * size_of::<Buffer>() as u64))
}

/// The last eight of the bytes that end `left` behind the beginning of a buffer, where they are in it or in the next.
#[inline(always)]
pub fn tail(source: Source, index: u64, mut left: u64) -> Option<u64> {
    // Any of them, however far.
    let nth = |index| if index < source.count { nth(source, index) } else { None };
    let mut last = if source.count == ONE { plain(source, index)? } else { nth(index)? };
    if left > last.len {
        left -= last.len;
        last = nth(index + 1)?;
        if left > last.len {
            return None;
        }
    }
    read(last.base.wrapping_add(left).wrapping_sub(8))
}

/// Reads from the process, `None` where the memory is not there.
#[inline(always)]
pub fn read<T: Copy>(from: u64) -> Option<T> {
    let mut value = MaybeUninit::<T>::uninit();
    // SAFETY: writes exactly the size of `T`; the helper checks the address.
    let failed =
        unsafe { bpf_probe_read_user(value.as_mut_ptr().cast(), size_of::<T>() as u32, from as *const _) };
    // SAFETY: filled by the helper, and every `T` used is made of integers.
    (failed == 0).then(|| unsafe { value.assume_init() })
}
