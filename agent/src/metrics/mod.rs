//! Metrics: rate, errors and durations (RED) of every exchange, before any sampling.
//!
//! [`Registry`] counts for the outputs that export metrics, [`Red`] for the console's table. Part of the functional core: no
//! clock, no I/O. Whoever asks says which time has passed.

mod explicit;
mod exponential;
mod histogram;
mod instruments;
mod model;
mod red;
mod registry;
mod series;
mod span_metrics;
mod totals;

pub use explicit::Explicit;
pub use exponential::Exponential;
pub use histogram::Histogram;
pub use instruments::Distribution;
pub use model::{
    Exemplar, ExponentialPoint, HistogramPoint, Instrument, Labels, Metric, MetricData, Number, NumberPoint,
    ResourceMetrics, Temporality, label,
};
pub use red::{Red, Row, Series, SeriesKey, Snapshot};
pub use registry::{ExemplarFilter, MetricLimits, Reader, Registry, RegistryConfig};
pub use series::{Aggregation, OVERFLOW, Stream};
pub use span_metrics::SpanMetrics;
