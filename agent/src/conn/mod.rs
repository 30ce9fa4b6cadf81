//! Connections: who they are, and their two byte streams put in order.

mod identity;
mod segment;

pub use identity::{Address, ConnKey, Ends, Pair};
pub use segment::{Nanos, Segment, Stamp};
pub use sonde_abi::{Direction, Role};
