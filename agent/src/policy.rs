//! What of the traffic becomes telemetry, and how it is put: everything that SIGHUP can change while Sonde runs.

use crate::proto::Capture;
use crate::span::{OnSdk, RouteRules, Sampler, Wording};

/// Rules for sampling, routes and privacy.
#[derive(Clone, Debug, Default)]
pub struct Policy {
    /// Which traces are exported.
    pub sampler: Sampler,
    /// What is kept of heads, and which paths are not exported.
    pub capture: Capture,
    /// Routes.
    pub routes: RouteRules,
    /// What spans say.
    pub wording: Wording,
    /// What becomes of the telemetry of processes that make their own.
    pub on_sdk: OnSdk,
}
