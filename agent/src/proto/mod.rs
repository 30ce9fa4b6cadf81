//! Protocols: from ordered bytes to exchanges.
//!
//! One folder a protocol. Parsers are passive: they see what both ends wrote, may begin anywhere and may miss bytes. They
//! never panic, tell *incomplete* from *invalid*, and hold bounded state per connection.

pub mod capture;
mod exchange;
pub mod grpc;
mod http;
pub mod http1;
pub mod http2;
pub mod otlp;
mod parser;
pub mod propagation;
pub mod websocket;

pub use capture::{Capture, CapturedHeader};
pub use exchange::{
    Call, Event, Exchange, ExchangeId, Failure, Message, Milestone, Opening, Quality, TraceHeaders,
};
pub use http::{HttpCall, Upgrade};
pub use parser::{Context, Ending, Onset, Parser};
