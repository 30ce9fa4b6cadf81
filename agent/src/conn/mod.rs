//! Connections: who they are, and their two byte streams put in order.

mod forgotten;
mod identity;
mod parting;
mod reassembly;
mod recency;
mod segment;
mod table;

pub use forgotten::Begins;
pub use identity::{Address, ConnKey, Ends, Identity, Pair};
pub use reassembly::{Bounds, Reassembly};
pub(crate) use recency::Recency;
pub use segment::{Nanos, Segment, Stamp};
pub use sonde_abi::{Direction, Role};
pub use table::{Connections, Limits};

#[cfg(test)]
mod tests;
