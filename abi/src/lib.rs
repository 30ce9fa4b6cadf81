//! What crosses the ring between the kernel programs and the agent, and the logic that both sides run.
//!
//! `no_std` and without dependencies, so that one definition serves `ebpf` (target `bpfel-unknown-none`) and `agent`, and
//! so that everything in it is tested and fuzzed on the host. It knows no protocol beyond what decides whether a payload is worth
//! copying: first bytes ([`sniff`]), and where frames begin ([`frames`]) and chunks ([`chunks`]).
#![no_std]

pub mod chunks;
pub mod conn;
pub mod frames;
pub mod limits;
mod masks;
pub mod messages;
pub mod record;
pub mod settings;
pub mod sniff;
pub mod start;

pub use conn::{ConnState, ProcessState};
pub use record::{
    ChunkHeader, DecodeError, Direction, Family, LifeEvent, LifeHeader, Part, Record, RecordKind, Role,
};
pub use start::Start;
