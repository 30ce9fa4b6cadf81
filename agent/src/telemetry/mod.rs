//! What Sonde says of itself.

mod counters;
mod own;
mod summary;

pub use counters::{Counters, Delivery, Lost, ProgramState, Signal};
pub use own::Own;
pub use summary::Summary;
