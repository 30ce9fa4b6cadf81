//! The kernel programs, loaded and attached. The only module that names aya, and with `ebpf` and `abi` the only place
//! with `unsafe`.

mod attach;
#[cfg(feature = "log")]
mod log;
mod mapping;
mod memory;
mod processes;
mod ring;
mod starts;

pub use attach::{Attached, Place, ProbeError, Probes, Settings};
pub use memory::release as release_memory;
pub use processes::ProcessStates;
pub use ring::Ring;
pub use starts::ProcessStarts;
