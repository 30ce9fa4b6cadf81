//! What is known beside the exchanges: the node, the resource that a process's spans carry, and what time it is.

mod clock;
mod host;
mod resource;

pub use clock::Clock;
pub use host::Host;
pub use resource::{Described, Resource};
