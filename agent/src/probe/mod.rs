//! The kernel programs, loaded and attached. The only module that names aya, and with `ebpf` and `abi` the only place
//! with `unsafe`.

mod attach;
#[cfg(feature = "log")]
mod log;
mod processes;
mod ring;
mod starts;

pub use attach::{Attached, Place, ProbeError, Probes, Settings};
pub use processes::ProcessStates;
pub use ring::Ring;
pub use starts::ProcessStarts;

/// Gives memory that start-up took back to the system: what the allocator would keep (5 MB for the kernel's types).
#[expect(unsafe_code, reason = "malloc_trim(3)")]
pub fn release_memory() {
    // SAFETY: no conditions; other threads may allocate meanwhile.
    unsafe { libc::malloc_trim(0) };
}
