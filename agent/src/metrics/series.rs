//! One series: what is counted of the calls that share their labels.

use std::hash::BuildHasher;
use std::sync::Arc;

use foldhash::fast::FixedState;
use opentelemetry_semantic_conventions::attribute as key;

use super::explicit::{self, Explicit};
use super::exponential::Exponential;
use super::instruments::{self, Distribution, MEASURES};
use super::{Exemplar, ExponentialPoint, HistogramPoint, Labels, Temporality, label};
use crate::span::{Attribute, CallKind, CallLabels, RPC_SYSTEM, rpc_status};

/// The label of the series that those past a limit share.
pub const OVERFLOW: &str = "otel.metric.overflow";

/// How values are counted for one or more readers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stream {
    /// What its points cover.
    pub temporality: Temporality,
    /// In which buckets.
    pub aggregation: Aggregation,
}

/// Buckets of a histogram.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Aggregation {
    /// With the bounds that the conventions advise.
    #[default]
    Explicit,
    /// Base-2 exponential ones.
    Exponential,
}

/// One call, measured.
#[derive(Clone, Copy, Debug)]
pub(super) struct Measured {
    /// Duration in nanoseconds, and the sizes: in the order of [`instruments::of`].
    pub(super) values: [Option<u64>; MEASURES],
    /// Nanoseconds since the epoch at which it ended.
    pub(super) time: u64,
    /// The exemplar that it may become; the cycle in which it was measured.
    pub(super) exemplar: Option<(Option<(crate::span::TraceId, crate::span::SpanId)>, u32)>,
}

/// What is counted under one set of labels.
#[derive(Debug)]
pub(super) struct Series {
    pub(super) key: Key,
    pub(super) labels: Labels,
    /// Rises from series to series: the order in which they are told.
    pub(super) number: u64,
    /// Nanoseconds since the epoch from which on it counts.
    pub(super) start: u64,
    /// When it was last added to.
    pub(super) last: u64,
    measures: [Option<Box<Measure>>; MEASURES],
}

/// [`CallLabels`], kept; without them: the series of what is past a limit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Key {
    pub(super) kind: CallKind,
    pub(super) told: Option<Told>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Told {
    method: Box<str>,
    scheme: Box<str>,
    address: Box<str>,
    port: Option<u16>,
    status: Option<u32>,
    version: &'static str,
    route: Box<str>,
    error: Box<str>,
}

/// The values of one instrument.
#[derive(Debug)]
struct Measure {
    counts: Vec<Counts>,
    /// The latest value of each bucket of the explicit bounds, whatever the buckets that are told.
    exemplars: Vec<Kept>,
}

#[derive(Debug)]
enum Counts {
    Explicit(Explicit),
    Exponential(Exponential),
}

#[derive(Clone, Copy, Debug)]
struct Kept {
    bucket: usize,
    cycle: u32,
    exemplar: Exemplar,
}

/// Which points a reader wants of a series.
#[derive(Clone, Copy, Debug)]
pub(super) struct Wanted {
    /// Which of the streams.
    pub(super) stream: usize,
    pub(super) temporality: Temporality,
    /// The time span that its points cover; the start is that of the series where it began later.
    pub(super) from: u64,
    pub(super) until: u64,
    /// Exemplars that are not older.
    pub(super) since: u32,
}

/// The points of one instrument.
pub(super) enum Point {
    Histogram(HistogramPoint),
    Exponential(ExponentialPoint),
}

impl Series {
    pub(super) fn new(key: Key, number: u64, start: u64) -> Self {
        let labels = key.labels();
        Self { key, labels, number, start, last: start, measures: [None, None, None] }
    }

    /// Counts a call.
    pub(super) fn record(&mut self, measured: &Measured, streams: &[Stream]) {
        self.last = self.last.max(measured.time);
        let distributions = instruments::of(self.key.kind);
        for ((slot, distribution), value) in self.measures.iter_mut().zip(distributions).zip(measured.values)
        {
            let Some(value) = value else { continue };
            let measure = slot.get_or_insert_with(|| Box::new(Measure::new(distribution, streams)));
            measure.record(value, distribution, measured);
        }
    }

    /// The points of an instrument that a reader wants; `None` where there is nothing to tell. What a delta has told is forgotten.
    pub(super) fn point(&mut self, instrument: usize, wanted: &Wanted) -> Option<Point> {
        let distribution = instruments::of(self.key.kind).get(instrument)?;
        let measure = self.measures.get_mut(instrument)?.as_deref_mut()?;
        let counts = measure.counts.get_mut(wanted.stream)?;
        if counts.count() == 0 {
            return None;
        }
        let per_unit = distribution.per_unit;
        let in_units = |(least, greatest): (u64, u64)| (least as f64 / per_unit, greatest as f64 / per_unit);
        let labels = Arc::clone(&self.labels);
        let start = match wanted.temporality {
            Temporality::Cumulative => self.start,
            Temporality::Delta => self.start.max(wanted.from),
        };
        let time = wanted.until.max(self.last);
        let exemplars = measure.exemplars.iter().filter(|kept| kept.cycle >= wanted.since);
        let exemplars = exemplars.map(|kept| kept.exemplar).collect();
        let point = match counts {
            Counts::Explicit(counts) => Point::Histogram(HistogramPoint {
                labels,
                start,
                time,
                count: counts.count(),
                sum: counts.sum() as f64 / per_unit,
                range: counts.range().map(in_units),
                bounds: distribution.bounds_in_units(),
                buckets: counts.buckets().to_vec(),
                exemplars,
            }),
            Counts::Exponential(counts) => {
                let (offset, buckets) = counts.buckets();
                Point::Exponential(ExponentialPoint {
                    labels,
                    start,
                    time,
                    count: counts.count(),
                    sum: counts.sum() as f64 / per_unit,
                    range: counts.range().map(in_units),
                    scale: counts.scale(),
                    zeros: counts.zeros(),
                    offset,
                    buckets: buckets.to_vec(),
                    exemplars,
                })
            }
        };
        if wanted.temporality == Temporality::Delta {
            counts.clear();
        }
        Some(point)
    }

    /// Whether a delta has something to tell yet.
    pub(super) fn has_untold(&self, streams: &[Stream]) -> bool {
        self.measures.iter().flatten().any(|measure| {
            let deltas = measure.counts.iter().zip(streams);
            deltas
                .into_iter()
                .any(|(counts, stream)| stream.temporality == Temporality::Delta && counts.count() > 0)
        })
    }
}

impl Measure {
    fn new(distribution: &Distribution, streams: &[Stream]) -> Self {
        let counts = streams.iter().map(|stream| match stream.aggregation {
            Aggregation::Explicit => Counts::Explicit(Explicit::new(distribution.bounds.len())),
            Aggregation::Exponential => Counts::Exponential(Exponential::default()),
        });
        Self { counts: counts.collect(), exemplars: Vec::new() }
    }

    fn record(&mut self, value: u64, distribution: &Distribution, measured: &Measured) {
        let bucket = explicit::bucket(distribution.bounds, value);
        for counts in &mut self.counts {
            match counts {
                Counts::Explicit(counts) => counts.record(bucket, value),
                Counts::Exponential(counts) => counts.record(value, distribution.per_unit),
            }
        }
        let Some((span, cycle)) = measured.exemplar else { return };
        let value = value as f64 / distribution.per_unit;
        let kept = Kept { bucket, cycle, exemplar: Exemplar { time: measured.time, value, span } };
        match self.exemplars.iter_mut().find(|kept| kept.bucket == bucket) {
            Some(slot) => *slot = kept,
            None => self.exemplars.push(kept),
        }
    }
}

impl Counts {
    fn count(&self) -> u64 {
        match self {
            Self::Explicit(counts) => counts.count(),
            Self::Exponential(counts) => counts.count(),
        }
    }

    fn clear(&mut self) {
        match self {
            Self::Explicit(counts) => counts.clear(),
            Self::Exponential(counts) => counts.clear(),
        }
    }
}

impl Key {
    pub(super) fn of(labels: &CallLabels<'_>) -> Self {
        let told = Told {
            method: Box::from(labels.method),
            scheme: Box::from(&*labels.scheme),
            address: Box::from(&*labels.address),
            port: labels.port,
            status: labels.status,
            version: labels.version,
            route: Box::from(labels.route),
            error: Box::from(labels.error),
        };
        Self { kind: labels.kind, told: Some(told) }
    }

    pub(super) fn is(&self, labels: &CallLabels<'_>) -> bool {
        self.kind == labels.kind
            && self.told.as_ref().is_some_and(|told| {
                told.status == labels.status
                    && told.port == labels.port
                    && told.version == labels.version
                    && *told.method == *labels.method
                    && *told.route == *labels.route
                    && *told.error == *labels.error
                    && *told.address == *labels.address
                    && *told.scheme == *labels.scheme
            })
    }

    /// As attributes, in the order of their names.
    fn labels(&self) -> Labels {
        let Some(told) = &self.told else { return Labels::from(vec![label(OVERFLOW, true)]) };
        let mut labels: Vec<Attribute> = Vec::with_capacity(7);
        let mut text = |key, value: &str| {
            if !value.is_empty() {
                labels.push(label(key, value.to_owned()));
            }
        };
        text(key::ERROR_TYPE, &told.error);
        text(key::NETWORK_PROTOCOL_VERSION, told.version);
        text(key::SERVER_ADDRESS, &told.address);
        text(key::URL_SCHEME, &told.scheme);
        match self.kind {
            CallKind::HttpServer => text(key::HTTP_ROUTE, &told.route),
            CallKind::HttpClient => text(key::URL_TEMPLATE, &told.route),
            CallKind::RpcServer | CallKind::RpcClient => text(key::RPC_SYSTEM_NAME, RPC_SYSTEM),
        }
        match self.kind {
            CallKind::HttpServer | CallKind::HttpClient => text(key::HTTP_REQUEST_METHOD, &told.method),
            CallKind::RpcServer | CallKind::RpcClient => text(key::RPC_METHOD, &told.method),
        }
        match (self.kind, told.status) {
            (_, None) => {}
            (CallKind::HttpServer | CallKind::HttpClient, Some(status)) => {
                labels.push(label(key::HTTP_RESPONSE_STATUS_CODE, i64::from(status)));
            }
            (CallKind::RpcServer | CallKind::RpcClient, Some(status)) => {
                labels.push(label(key::RPC_RESPONSE_STATUS_CODE, rpc_status(status).into_owned()));
            }
        }
        if let Some(port) = told.port {
            labels.push(label(key::SERVER_PORT, i64::from(port)));
        }
        labels.sort_unstable_by(|a, b| a.key.cmp(&b.key));
        Labels::from(labels)
    }
}

/// The hash needs no secret seed: the number of series is bounded, so the worst collisions cost a bounded walk.
pub(super) fn hash(labels: &CallLabels<'_>) -> u64 {
    let numbers = (labels.kind, labels.status, labels.port, labels.version);
    FixedState::default().hash_one((
        numbers,
        labels.method,
        labels.route,
        labels.error,
        &*labels.address,
        &*labels.scheme,
    ))
}

/// The hash of a kept key, as [`hash`] has it.
pub(super) fn hash_kept(key: &Key) -> u64 {
    key.told.as_ref().map_or(0, |told| {
        let numbers = (key.kind, told.status, told.port, told.version);
        FixedState::default().hash_one((
            numbers,
            &*told.method,
            &*told.route,
            &*told.error,
            &*told.address,
            &*told.scheme,
        ))
    })
}
