//! The kernel programs, loaded and attached. The only module that names aya, and with `ebpf` and `abi` the only place
//! with `unsafe`.

mod attach;
mod counters;
mod error;
#[cfg(feature = "log")]
mod log;
mod mapping;
mod memory;
mod perf;
mod processes;
mod programs;
mod ring;
mod starts;

pub use attach::{Attached, Probes, Settings};
pub use error::ProbeError;
pub use memory::release as release_memory;
pub use perf::may_have_perf_events;
pub use processes::ProcessStates;
pub use programs::Place;
pub use ring::Ring;
pub use starts::ProcessStarts;
