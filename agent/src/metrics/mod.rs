//! RED metrics (rate, errors, duration), made from every span before any sampling.
//!
//! Part of the functional core: no clock, no I/O. Whoever asks says which time has passed.

mod histogram;
mod model;
mod red;

pub use histogram::Histogram;
pub use model::{
    Exemplar, ExponentialPoint, HistogramPoint, Instrument, Labels, Metric, MetricData, Number, NumberPoint,
    ResourceMetrics, Temporality, label,
};
pub use red::{Red, Row, Series, SeriesKey, Snapshot};
