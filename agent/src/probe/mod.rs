//! The kernel programs, loaded and attached. The only module that names aya, and with `ebpf` and `abi` the only place
//! with `unsafe`.

mod attach;
mod processes;
mod ring;

pub use attach::{Attached, ProbeError, Probes, Settings};
pub use processes::ProcessStates;
pub use ring::Ring;
