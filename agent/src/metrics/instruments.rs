//! The instruments of the semantic conventions that Sonde records, and how their values are counted.

use opentelemetry_semantic_conventions::metric;

use super::Instrument;
use crate::span::CallKind;

/// What is recorded of every call of one kind, in this order.
pub(super) const MEASURES: usize = 3;

/// An instrument whose values are distributed into buckets. Values are integers of a small unit, of which the instrument's unit
/// has `per_unit`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Distribution {
    /// Name, unit, description.
    pub instrument: Instrument,
    /// Upper bounds of the buckets, in the small unit.
    pub bounds: &'static [u64],
    /// How many of the small unit make one.
    pub per_unit: f64,
}

impl Distribution {
    /// The bounds in the instrument's unit.
    #[must_use]
    pub fn bounds_in_units(&self) -> Vec<f64> {
        self.bounds.iter().map(|bound| *bound as f64 / self.per_unit).collect()
    }
}

/// Bounds that the conventions advise for durations of requests, in nanoseconds: 5 ms to 10 s.
const DURATIONS: &[u64] = &[
    5_000_000,
    10_000_000,
    25_000_000,
    50_000_000,
    75_000_000,
    100_000_000,
    250_000_000,
    500_000_000,
    750_000_000,
    1_000_000_000,
    2_500_000_000,
    5_000_000_000,
    7_500_000_000,
    10_000_000_000,
];

/// Bounds of the SDK specification where none are advised, as for the sizes of bodies.
const DEFAULTS: &[u64] = &[0, 5, 10, 25, 50, 75, 100, 250, 500, 750, 1_000, 2_500, 5_000, 7_500, 10_000];

const fn seconds(name: &'static str, description: &'static str) -> Distribution {
    Distribution { instrument: Instrument { name, unit: "s", description }, bounds: DURATIONS, per_unit: 1e9 }
}

const fn bytes(name: &'static str, description: &'static str) -> Distribution {
    Distribution { instrument: Instrument { name, unit: "By", description }, bounds: DEFAULTS, per_unit: 1.0 }
}

const fn messages(name: &'static str, description: &'static str) -> Distribution {
    let instrument = Instrument { name, unit: "{message}", description };
    Distribution { instrument, bounds: DEFAULTS, per_unit: 1.0 }
}

/// What is recorded of an HTTP server's calls.
const HTTP_SERVER: [Distribution; MEASURES] = [
    seconds(metric::HTTP_SERVER_REQUEST_DURATION, "Duration of HTTP server requests."),
    bytes(metric::HTTP_SERVER_REQUEST_BODY_SIZE, "Size of HTTP server request bodies."),
    bytes(metric::HTTP_SERVER_RESPONSE_BODY_SIZE, "Size of HTTP server response bodies."),
];

/// What is recorded of an HTTP client's calls.
const HTTP_CLIENT: [Distribution; MEASURES] = [
    seconds(metric::HTTP_CLIENT_REQUEST_DURATION, "Duration of HTTP client requests."),
    bytes(metric::HTTP_CLIENT_REQUEST_BODY_SIZE, "Size of HTTP client request bodies."),
    bytes(metric::HTTP_CLIENT_RESPONSE_BODY_SIZE, "Size of HTTP client response bodies."),
];

/// What is recorded of an RPC server's calls. The conventions have no name any more for how many messages a call has.
const RPC_SERVER: [Distribution; MEASURES] = [
    seconds(metric::RPC_SERVER_CALL_DURATION, "Duration of incoming remote procedure calls."),
    messages("sonde.rpc.server.sent.messages", "Messages that the server sent in a call."),
    messages("sonde.rpc.server.received.messages", "Messages that the server received in a call."),
];

/// What is recorded of an RPC client's calls.
const RPC_CLIENT: [Distribution; MEASURES] = [
    seconds(metric::RPC_CLIENT_CALL_DURATION, "Duration of outgoing remote procedure calls."),
    messages("sonde.rpc.client.sent.messages", "Messages that the client sent in a call."),
    messages("sonde.rpc.client.received.messages", "Messages that the client received in a call."),
];

/// What is recorded of the calls of one kind.
#[must_use]
pub(super) const fn of(kind: CallKind) -> &'static [Distribution; MEASURES] {
    match kind {
        CallKind::HttpServer => &HTTP_SERVER,
        CallKind::HttpClient => &HTTP_CLIENT,
        CallKind::RpcServer => &RPC_SERVER,
        CallKind::RpcClient => &RPC_CLIENT,
    }
}
