//! How a process runs its requests, as far as parent finding cares.

/// What a thread says about the request that it works for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Scheduling {
    /// Not known: a thread stands for its request until the process shows that requests move between threads or share one.
    #[default]
    Unknown,
    /// One thread serves many requests, and each handler runs to completion at one event (nginx, HAProxy): what the thread
    /// does next, it does for the request whose bytes it moved last.
    RunToCompletion,
    /// Requests move between threads or share one (Go, Node, tokio, asyncio, virtual threads): threads say nothing.
    Moving,
}
