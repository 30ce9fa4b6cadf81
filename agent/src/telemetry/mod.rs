//! What Sonde says of itself.

mod counters;

pub use counters::{Counters, Lost};
