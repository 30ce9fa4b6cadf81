//! What is known of a process beside its exchanges: the resource that its spans carry.

mod resource;

pub use resource::Resource;
