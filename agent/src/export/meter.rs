//! Everything that is measured, between the thread that makes spans and those that export metrics.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

use super::Item;
use crate::config::MetricsConfig;
use crate::discover;
use crate::enrich::{Host, Resource};
use crate::metrics::{
    Aggregation, Metric, MetricLimits, Reader, Registry, RegistryConfig, ResourceMetrics, SpanMetrics,
    Stream, Temporality,
};
use crate::telemetry::{Counters, Own, Signal};
use crate::web::Pages;

/// Counts, and tells whoever collects.
#[derive(Debug)]
pub(super) struct Meter {
    registry: Mutex<Registry>,
    derived: Option<Mutex<SpanMetrics>>,
    own: Option<Mutex<Own>>,
    /// One collection at a time: a collection forgets what was idle, which must not happen under another one.
    collecting: Mutex<()>,
    push: Option<ReaderOf>,
    pull: Option<(ReaderOf, ReaderOf)>,
    /// A replay has the times of its recording: up to the end of its last span.
    replayed: bool,
    latest: AtomicU64,
    counters: Arc<Counters>,
}

/// A place among the registry's readers, and how its counters of other kinds are told.
#[derive(Clone, Copy, Debug)]
struct ReaderOf {
    place: usize,
    counters: Temporality,
}

impl Meter {
    /// For outputs that are pushed to, and for scrapers.
    pub(super) fn new(
        config: &MetricsConfig,
        (pushed, pulled): (bool, bool),
        replayed: bool,
        counters: &Arc<Counters>,
    ) -> Self {
        let (mut streams, mut readers): (Vec<Stream>, Vec<Reader>) = (Vec::new(), Vec::new());
        let mut add = |stream: Stream, is_scraper: bool, counters: Temporality| {
            let known = streams.iter().position(|known| {
                // A delta is forgotten when it is told: nobody else may read it.
                *known == stream && stream.temporality == Temporality::Cumulative
            });
            let place = known.unwrap_or(streams.len());
            if known.is_none() {
                streams.push(stream);
            }
            readers.push(Reader { stream: place, is_scraper });
            ReaderOf { place: readers.len() - 1, counters }
        };
        let cumulative = |aggregation| Stream { temporality: Temporality::Cumulative, aggregation };
        let push = pushed.then(|| add(config.stream, false, config.counters));
        let pull = pulled.then(|| {
            let explicit = add(cumulative(Aggregation::Explicit), true, Temporality::Cumulative);
            (explicit, add(cumulative(Aggregation::Exponential), true, Temporality::Cumulative))
        });
        let host = Host::read();
        let own = Own::new(&host, Arc::clone(counters), now());
        let others = Arc::new(Resource::others(&host));
        let registry =
            RegistryConfig { streams, readers, exemplars: config.exemplars, limits: MetricLimits::default() };
        Self {
            registry: Mutex::new(Registry::new(&registry, others)),
            derived: config.span_metrics.then(|| Mutex::new(SpanMetrics::default())),
            own: (!replayed).then(|| Mutex::new(own)),
            collecting: Mutex::new(()),
            push,
            pull,
            replayed,
            latest: AtomicU64::new(0),
            counters: Arc::clone(counters),
        }
    }

    /// Counts spans, sampled or not. `exported`: the sampled ones leave Sonde.
    pub(super) fn record(&self, spans: &[Item], exported: bool) {
        if self.push.is_none() && self.pull.is_none() {
            return;
        }
        let mut registry = lock(&self.registry);
        let measured = || spans.iter().filter(|(_, span)| span.measured);
        for (resource, span) in measured() {
            registry.record(resource, span, exported && span.context.is_sampled());
        }
        drop(registry);
        if let Some(derived) = &self.derived {
            let mut derived = lock(derived);
            for (resource, span) in measured() {
                derived.record(resource.service_name(), span);
            }
        }
        if self.replayed {
            let latest = spans.iter().map(|(_, span)| span.end).max().unwrap_or(0);
            self.latest.fetch_max(latest, Ordering::Relaxed);
        }
    }

    /// What the outputs are sent; empty where there is nothing to tell.
    pub(super) fn pushed(&self) -> Vec<ResourceMetrics> {
        self.push.map(|reader| self.collect(reader, true)).unwrap_or_default()
    }

    /// How many items of a signal wait for an output, and how many may, is told from here on.
    pub(super) fn watch(
        &self,
        output: &'static str,
        signal: Signal,
        fill: impl Fn() -> (u64, u64) + Send + 'static,
    ) {
        if let Some(own) = &self.own {
            lock(own).watch(output, signal, Box::new(fill));
        }
    }

    fn collect(&self, reader: ReaderOf, with_own: bool) -> Vec<ResourceMetrics> {
        let _alone = lock(&self.collecting);
        let now = if self.replayed { self.latest.load(Ordering::Relaxed) } else { now() };
        if !self.replayed {
            let quiet = lock(&self.registry).quiet(now);
            let ended: Vec<_> = quiet.into_iter().filter(|id| !discover::is_alive(*id)).collect();
            lock(&self.registry).ended(&ended);
        }
        let mut all = Vec::new();
        let mut cursor = 0;
        // The lock is taken for one process at a time: who makes spans waits no longer than for that.
        loop {
            let one = lock(&self.registry).collect(reader.place, now, &mut cursor);
            match one {
                Some(one) => all.push(one),
                None => break,
            }
        }
        if !with_own {
            return all;
        }
        let mut metrics: Vec<Metric> = Vec::new();
        if let Some(derived) = &self.derived {
            metrics.extend(lock(derived).collect(reader.place, reader.counters, now));
        }
        match &self.own {
            Some(own) => {
                let mut own = lock(own);
                metrics.extend(own.collect(reader.place, reader.counters, now));
                all.push(ResourceMetrics { resource: own.resource(), metrics });
            }
            None if metrics.is_empty() => {}
            None => {
                all.push(ResourceMetrics { resource: Arc::new(Resource::others(&Host::read())), metrics });
            }
        }
        all
    }
}

impl Pages for Meter {
    fn metrics(&self, native: bool) -> Option<(Vec<ResourceMetrics>, Vec<ResourceMetrics>)> {
        let (explicit, exponential) = self.pull?;
        let first = self.collect(explicit, true);
        Some((first, if native { self.collect(exponential, false) } else { Vec::new() }))
    }

    fn is_ready(&self) -> bool {
        self.counters.observing.load(Ordering::Relaxed)
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Nanoseconds since the epoch.
fn now() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_nanos()).unwrap_or(u64::MAX)
}
