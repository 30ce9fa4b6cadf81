//! The kernel programs, loaded and attached. The only module that names aya, and with `ebpf` and `abi` the only place
//! with `unsafe`.

mod attach;
mod counters;
#[cfg(feature = "log")]
mod log;
mod perf;
mod processes;
mod programs;
mod ring;
mod shared;

pub use attach::{Attached, ProbeError, Probes, Settings};
pub use perf::may_have_perf_events;
pub use processes::ProcessStates;
pub use programs::Place;
pub use ring::Ring;

/// Gives memory that start-up took back to the system: what the allocator would keep (5 MB for the kernel's types).
#[expect(unsafe_code, reason = "malloc_trim(3)")]
pub fn release_memory() {
    // SAFETY: no conditions; other threads may allocate meanwhile.
    unsafe { libc::malloc_trim(0) };
}
