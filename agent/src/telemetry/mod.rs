//! What Sonde says of itself.

mod counters;
mod summary;

pub use counters::{Counters, Delivery, Lost, Signal};
pub use summary::Summary;
