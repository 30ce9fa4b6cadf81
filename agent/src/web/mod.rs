//! One listener for those who ask: metrics for Prometheus, and whether Sonde is alive and observing. Off unless configured.
//!
//! [`exposition`] turns metrics into families as Prometheus has them, [`text`] and [`protobuf`] write them down, [`server`]
//! answers.

mod exposition;
mod protobuf;
mod server;
mod text;

pub use exposition::Format;
pub use server::{Pages, Server, ServerError};
