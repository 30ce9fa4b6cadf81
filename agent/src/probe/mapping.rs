//! Memory of a map, shared with the kernel programs.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::ptr::NonNull;

/// Part of a map. Unmapped when dropped.
pub(super) struct Mapping {
    start: NonNull<u8>,
    len: usize,
}

impl Mapping {
    /// Maps `len` bytes of a map from `offset` on, which a page must begin at.
    ///
    /// # Errors
    /// Those of mmap(2).
    pub(super) fn new(map: BorrowedFd<'_>, offset: usize, len: usize, writable: bool) -> io::Result<Self> {
        let protection = libc::PROT_READ | if writable { libc::PROT_WRITE } else { 0 };
        let offset = libc::off_t::try_from(offset).map_err(io::Error::other)?;
        let start = mmap(map.as_raw_fd(), offset, len, protection)?;
        Ok(Self { start, len })
    }

    /// The object at `offset`, or `None` where it would reach past the end.
    ///
    /// Only for types that any bytes are a value of, and that are atomic: the other side may write at any time.
    fn at<T>(&self, offset: usize) -> Option<NonNull<T>> {
        let end = offset.checked_add(size_of::<T>())?;
        (end <= self.len && offset.is_multiple_of(align_of::<T>())).then_some(())?;
        Some(self.byte(offset)?.cast())
    }

    /// One of the kernel's words.
    #[expect(unsafe_code, reason = "memory shared with the kernel")]
    pub(super) fn word<T: Word>(&self, offset: usize) -> Option<&T> {
        // SAFETY: within the mapping, which lives as long as `self`, and aligned to its type, for a mapping begins at a page;
        // any bytes are a `Word`, and it is atomic.
        self.at(offset).map(|word| unsafe { word.as_ref() })
    }

    /// Bytes that nobody changes.
    ///
    /// # Safety
    /// Neither the kernel nor anybody else may write to them while the slice lives.
    #[expect(unsafe_code, reason = "memory shared with the kernel")]
    pub(super) unsafe fn bytes(&self, offset: usize, len: usize) -> Option<&[u8]> {
        let end = offset.checked_add(len)?;
        let first = self.byte(offset).filter(|_| end <= self.len)?;
        // SAFETY: within the mapping, which lives as long as `self`; that nobody writes is the caller's promise.
        Some(unsafe { std::slice::from_raw_parts(first.as_ptr(), len) })
    }

    #[expect(unsafe_code, reason = "memory shared with the kernel")]
    fn byte(&self, offset: usize) -> Option<NonNull<u8>> {
        // SAFETY: within the mapping.
        (offset < self.len).then(|| unsafe { self.start.add(offset) })
    }
}

impl Drop for Mapping {
    #[expect(unsafe_code, reason = "munmap(2)")]
    fn drop(&mut self) {
        // SAFETY: mapped in `new` with this length; no reference outlives `self`.
        unsafe { libc::munmap(self.start.as_ptr().cast(), self.len) };
    }
}

#[expect(unsafe_code, reason = "memory shared with the kernel")]
// SAFETY: memory of the process that any thread may use.
unsafe impl Send for Mapping {}

/// Atomics that any bytes are a value of.
#[expect(unsafe_code, reason = "vouches for its types")]
/// # Safety
/// Of the type any bytes must be a value, and all access to it atomic.
pub(super) unsafe trait Word {}
#[expect(unsafe_code, reason = "vouches for its types")]
// SAFETY: an atomic integer.
unsafe impl Word for std::sync::atomic::AtomicU8 {}
#[expect(unsafe_code, reason = "vouches for its types")]
// SAFETY: an atomic integer.
unsafe impl Word for std::sync::atomic::AtomicU32 {}
#[expect(unsafe_code, reason = "vouches for its types")]
// SAFETY: an atomic integer.
unsafe impl Word for std::sync::atomic::AtomicU64 {}

#[expect(unsafe_code, reason = "mmap(2)")]
fn mmap(fd: i32, offset: libc::off_t, len: usize, protection: i32) -> io::Result<NonNull<u8>> {
    // SAFETY: a new mapping at an address that the kernel chooses.
    let address = unsafe { libc::mmap(std::ptr::null_mut(), len, protection, libc::MAP_SHARED, fd, offset) };
    if address == libc::MAP_FAILED {
        return Err(io::Error::last_os_error());
    }
    NonNull::new(address.cast()).ok_or_else(|| io::Error::other("mapped at zero"))
}
