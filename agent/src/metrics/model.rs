//! Metrics as they are exported, independent of any wire format. OpenTelemetry specification, "Metrics Data Model".

use std::borrow::Cow;
use std::sync::Arc;

use crate::enrich::Resource;
use crate::span::{Attribute, SpanId, TraceId};

/// What one process, or Sonde itself, has measured up to a moment.
#[derive(Clone, Debug, PartialEq)]
pub struct ResourceMetrics {
    /// Who.
    pub resource: Arc<Resource>,
    /// Each name once; none without points.
    pub metrics: Vec<Metric>,
}

impl ResourceMetrics {
    /// Data points.
    #[must_use]
    pub fn points(&self) -> usize {
        self.metrics.iter().map(|metric| metric.data.points()).sum()
    }
}

/// What is measured, and how it is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Instrument {
    /// Name, from the semantic conventions where they have one.
    pub name: &'static str,
    /// Unit as UCUM writes it; empty where the name says it.
    pub unit: &'static str,
    /// One sentence.
    pub description: &'static str,
}

/// One instrument with its data points.
#[derive(Clone, Debug, PartialEq)]
pub struct Metric {
    /// What is measured.
    pub instrument: Instrument,
    /// The points, of one kind.
    pub data: MetricData,
}

/// Data points of one kind.
#[derive(Clone, Debug, PartialEq)]
pub enum MetricData {
    /// Values that are as they are.
    Gauge(Vec<NumberPoint>),
    /// Values that add up.
    Sum {
        /// What the points cover.
        temporality: Temporality,
        /// They never go down.
        is_monotonic: bool,
        /// The points.
        points: Vec<NumberPoint>,
    },
    /// Distributions in buckets with given bounds.
    Histogram {
        /// What the points cover.
        temporality: Temporality,
        /// The points.
        points: Vec<HistogramPoint>,
    },
    /// Distributions in buckets whose width grows with the values.
    Exponential {
        /// What the points cover.
        temporality: Temporality,
        /// The points.
        points: Vec<ExponentialPoint>,
    },
}

impl MetricData {
    /// How many there are.
    #[must_use]
    pub fn points(&self) -> usize {
        match self {
            Self::Gauge(points) | Self::Sum { points, .. } => points.len(),
            Self::Histogram { points, .. } => points.len(),
            Self::Exponential { points, .. } => points.len(),
        }
    }
}

/// What a point covers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Temporality {
    /// All since the start of its series.
    #[default]
    Cumulative,
    /// What came since the point before.
    Delta,
}

/// What tells the points of a metric apart: attributes, each key once, in a fixed order.
pub type Labels = Arc<[Attribute]>;

/// One number.
#[derive(Clone, Debug, PartialEq)]
pub struct NumberPoint {
    /// Whose.
    pub labels: Labels,
    /// Nanoseconds since the Unix epoch from which on it counts; 0 for a gauge.
    pub start: u64,
    /// Nanoseconds since the Unix epoch up to which it counts.
    pub time: u64,
    /// The number.
    pub value: Number,
}

/// Integer or not.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Number {
    /// Integer.
    Int(i64),
    /// Floating point.
    Double(f64),
}

impl From<u64> for Number {
    fn from(value: u64) -> Self {
        Self::Int(i64::try_from(value).unwrap_or(i64::MAX))
    }
}

/// A distribution in buckets with given bounds.
#[derive(Clone, Debug, PartialEq)]
pub struct HistogramPoint {
    /// Whose.
    pub labels: Labels,
    /// Nanoseconds since the Unix epoch from which on it counts.
    pub start: u64,
    /// Nanoseconds since the Unix epoch up to which it counts.
    pub time: u64,
    /// Values counted.
    pub count: u64,
    /// Their sum.
    pub sum: f64,
    /// The least and the greatest of them; `None` where there are none.
    pub range: Option<(f64, f64)>,
    /// Upper, inclusive bounds of the buckets, rising; the last bucket has none.
    pub bounds: Vec<f64>,
    /// Values in each bucket: one more than bounds.
    pub buckets: Vec<u64>,
    /// Some of the values.
    pub exemplars: Vec<Exemplar>,
}

/// A distribution in buckets of a base that is a power of two: bucket `i` holds what is above `base^i` and at most
/// `base^(i+1)`, where `base` is `2^(2^-scale)`. Values below zero are never measured.
#[derive(Clone, Debug, PartialEq)]
pub struct ExponentialPoint {
    /// Whose.
    pub labels: Labels,
    /// Nanoseconds since the Unix epoch from which on it counts.
    pub start: u64,
    /// Nanoseconds since the Unix epoch up to which it counts.
    pub time: u64,
    /// Values counted.
    pub count: u64,
    /// Their sum.
    pub sum: f64,
    /// The least and the greatest of them; `None` where there are none.
    pub range: Option<(f64, f64)>,
    /// Resolution.
    pub scale: i32,
    /// Values that are zero.
    pub zeros: u64,
    /// Index of the first bucket.
    pub offset: i32,
    /// Values in each bucket.
    pub buckets: Vec<u64>,
    /// Some of the values.
    pub exemplars: Vec<Exemplar>,
}

/// One of the values that were measured.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Exemplar {
    /// Nanoseconds since the Unix epoch.
    pub time: u64,
    /// The value.
    pub value: f64,
    /// The span that was measured, where it was exported.
    pub span: Option<(TraceId, SpanId)>,
}

/// An attribute of a label set.
#[must_use]
pub fn label(key: &'static str, value: impl Into<crate::span::AttributeValue>) -> Attribute {
    Attribute { key: Cow::Borrowed(key), value: value.into() }
}
