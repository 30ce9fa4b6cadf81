//! What Sonde says of itself.

mod counters;
mod own;
mod seldom;
mod summary;

pub use counters::{Counters, Delivery, Evidence, LeftOut, Lost, ProgramState, Signal};
pub use own::Own;
pub use seldom::Seldom;
pub use summary::Summary;
