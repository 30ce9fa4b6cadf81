//! Sonde, the agent: from the records of the kernel programs to OpenTelemetry spans.
//!
//! The way of a byte is one type after the other: `abi::Record` → [`conn::Segment`] → [`proto::Exchange`] →
//! [`span::Span`] → OTLP. `conn`, `proto`, `span` and `metrics` are a functional core: bytes and time stamps in, values
//! out, without a clock, I/O, tokio or aya.

pub mod capture;
pub mod commands;
pub mod config;
pub mod conn;
pub mod discover;
pub mod enrich;
pub mod export;
pub mod kernel;
pub mod metrics;
pub mod pipeline;
pub mod probe;
pub mod proto;
pub mod replay;
pub mod span;
pub mod telemetry;
pub mod web;
