//! What Sonde says of itself.

mod counters;
mod summary;

pub use counters::{Counters, Lost};
pub use summary::Summary;
