//! What the live scenarios are made of: a running `sonde`, real servers and clients, and the comparison of its spans with
//! what they say they did. Nothing here uses Sonde's own code: spans are read from its output as any consumer would.

pub mod agent;
pub mod apps;
pub mod backends;
pub mod calls;
pub mod captures;
pub mod chain;
pub mod clients;
pub mod compare;
pub mod durations;
pub mod frames;
pub mod gate;
pub mod groups;
pub mod grpc;
pub mod h2;
pub mod metrics;
pub mod namespaces;
pub mod processes;
pub mod raw;
pub mod recording;
pub mod resources;
pub mod rides;
pub mod sdk;
pub mod servers;
pub mod sink;
pub mod spans;
pub mod views;

pub use agent::{Agent, Finished, Run};
pub use calls::{Call, Planned};
pub use processes::Process;
pub use spans::{Kind, Span};
