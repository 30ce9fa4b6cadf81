//! Spans: how exchanges become them, which context they carry, and whose children they are.

pub mod build;
mod clock;
pub mod context;
mod contexts;
pub mod correlate;
mod http;
mod ids;
pub mod join;
mod labels;
mod model;
mod node;
pub mod parent;
mod process;
mod redact;
pub mod route;
pub mod sample;
mod scheduling;
mod sdk;
mod thread;
mod wording;

pub use build::{build, route};
pub use clock::Clock;
pub use correlate::{Correlator, CorrelatorConfig, Finished};
pub(crate) use http::rpc::{SYSTEM as RPC_SYSTEM, status_text as rpc_status};
pub use labels::{CallKind, CallLabels};
pub use model::{
    Attribute, AttributeValue, Attributes, ParentContext, ProcessId, Span, SpanContext, SpanId, SpanKind,
    SpanName, SpanStatus, TraceId, Value,
};
pub use redact::{QueryRules, QueryValues};
pub use route::{Route, RoutePattern, RouteRules, Routes};
pub use sample::Sampler;
pub use scheduling::Scheduling;
pub use sdk::{Notice, OnSdk};
pub use wording::{HttpNames, SpanLimits, Wording};
