//! Prometheus's text format 0.0.4, and OpenMetrics 1.0 ("Text format"), which differ in little.

use std::fmt::Write as _;

use super::exposition::{self, Family, Format, Kind, Labels, Points, Target, families};
use crate::metrics::{Exemplar, HistogramPoint, ResourceMetrics};

/// All families, each once.
pub(super) fn encode(all: &[ResourceMetrics], format: Format) -> String {
    let targets = Target::all(all);
    let mut writer = Writer { out: String::new(), is_open: format == Format::OpenMetrics };
    for family in families(all, &targets) {
        writer.family(&family);
    }
    if writer.is_open {
        writer.out.push_str("# EOF\n");
    }
    writer.out
}

struct Writer {
    out: String,
    /// OpenMetrics.
    is_open: bool,
}

impl Writer {
    fn family(&mut self, family: &Family<'_>) {
        let sample = match family.kind {
            Kind::Counter => format!("{}_total", family.name),
            Kind::Info => format!("{}_info", family.name),
            Kind::Gauge | Kind::Histogram => family.name.clone(),
        };
        // OpenMetrics names the family, the older format its samples.
        let named = if self.is_open { &family.name } else { &sample };
        let kind = match family.kind {
            Kind::Counter => "counter",
            Kind::Histogram => "histogram",
            Kind::Info if self.is_open => "info",
            Kind::Gauge | Kind::Info => "gauge",
        };
        // Writing to a string does not fail, here and below.
        let _ = writeln!(self.out, "# TYPE {named} {kind}");
        if self.is_open && !family.unit.is_empty() {
            let _ = writeln!(self.out, "# UNIT {named} {}", family.unit);
        }
        if !family.help.is_empty() {
            let _ = write!(self.out, "# HELP {named} ");
            escape(&mut self.out, family.help, self.is_open);
            self.out.push('\n');
        }
        for (target, points) in &family.points {
            match points {
                Points::Numbers(points) => {
                    for point in *points {
                        self.sample(&sample, "", target, &exposition::labels(point.labels.iter()), None);
                        self.value(exposition::sample(point.value));
                        self.out.push('\n');
                        if family.kind == Kind::Counter {
                            self.created(
                                &family.name,
                                target,
                                &exposition::labels(point.labels.iter()),
                                point.start,
                            );
                        }
                    }
                }
                Points::Histograms(points) => {
                    points.iter().for_each(|point| self.histogram(&sample, target, point));
                }
                Points::Info => {
                    self.sample(&sample, "", target, &Labels::new(), None);
                    self.out.push_str(" 1\n");
                }
            }
        }
    }

    fn histogram(&mut self, name: &str, target: &Labels, point: &HistogramPoint) {
        let labels = exposition::labels(point.labels.iter());
        let mut below = 0;
        let bounds = point.bounds.iter().copied().chain([f64::INFINITY]);
        let mut lower = f64::NEG_INFINITY;
        for (bound, count) in bounds.zip(&point.buckets) {
            below += count;
            self.sample(name, "_bucket", target, &labels, Some(bound));
            let _ = write!(self.out, " {below}");
            let within = |exemplar: &&Exemplar| exemplar.value > lower && exemplar.value <= bound;
            if self.is_open
                && let Some(exemplar) = point.exemplars.iter().find(within)
            {
                self.exemplar(exemplar);
            }
            self.out.push('\n');
            lower = bound;
        }
        self.sample(name, "_sum", target, &labels, None);
        self.value(point.sum);
        self.out.push('\n');
        self.sample(name, "_count", target, &labels, None);
        let _ = writeln!(self.out, " {}", point.count);
        self.created(name, target, &labels, point.start);
    }

    /// Since when it counts, which the older format has no place for.
    fn created(&mut self, name: &str, target: &Labels, labels: &Labels, start: u64) {
        if self.is_open && start > 0 {
            self.sample(name, "_created", target, labels, None);
            self.out.push(' ');
            self.time(start);
            self.out.push('\n');
        }
    }

    /// Seconds since the epoch.
    fn time(&mut self, nanos: u64) {
        let _ = write!(self.out, "{}.{:03}", nanos / 1_000_000_000, nanos / 1_000_000 % 1_000);
    }

    fn exemplar(&mut self, exemplar: &Exemplar) {
        self.out.push_str(" # {");
        if let Some((trace_id, span_id)) = exemplar.span {
            self.out.push_str("trace_id=\"");
            hex(&mut self.out, &trace_id.0);
            self.out.push_str("\",span_id=\"");
            hex(&mut self.out, &span_id.0);
            self.out.push('"');
        }
        self.out.push('}');
        self.value(exemplar.value);
        self.out.push(' ');
        self.time(exemplar.time);
    }

    fn sample(&mut self, name: &str, suffix: &str, target: &Labels, labels: &Labels, bound: Option<f64>) {
        let _ = write!(self.out, "{name}{suffix}{{");
        let mut comma = "";
        for (name, value) in target.iter().chain(labels) {
            let _ = write!(self.out, "{comma}{name}=\"");
            escape(&mut self.out, value, true);
            self.out.push('"');
            comma = ",";
        }
        if let Some(bound) = bound {
            let _ = write!(self.out, "{comma}le=\"");
            self.number(bound);
            self.out.push('"');
        }
        self.out.push('}');
    }

    fn value(&mut self, value: f64) {
        self.out.push(' ');
        self.number(value);
    }

    /// OpenMetrics wants bounds as floats: `1.0`, not `1`.
    fn number(&mut self, value: f64) {
        let _ = if value.is_infinite() {
            write!(self.out, "{}Inf", if value > 0.0 { '+' } else { '-' })
        } else if self.is_open {
            write!(self.out, "{value:?}")
        } else {
            write!(self.out, "{value}")
        };
    }
}

fn escape(out: &mut String, text: &str, quotes: bool) {
    for letter in text.chars() {
        match letter {
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '"' if quotes => out.push_str("\\\""),
            other => out.push(other),
        }
    }
}

pub(super) fn hex(out: &mut String, bytes: &[u8]) {
    for byte in bytes {
        let _ = write!(out, "{byte:02x}");
    }
}

#[cfg(test)]
pub(super) mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::enrich::Resource;
    use crate::metrics::{Instrument, Metric, MetricData, Number, NumberPoint, Temporality, label};
    use crate::span::{SpanId, TraceId};

    pub(in crate::web) const EPOCH: u64 = 1_795_254_067_123_456_789;

    pub(in crate::web) fn shop() -> Vec<ResourceMetrics> {
        let labels = |route: &str| {
            vec![label("http.route", route.to_owned()), label("http.request.method", "GET")].into()
        };
        let (start, time) = (EPOCH - 5, EPOCH);
        let duration = HistogramPoint {
            labels: labels("/a\"b\\c\nd"),
            start,
            time,
            count: 4,
            sum: 3.5,
            range: None,
            bounds: vec![0.005, 1.0],
            buckets: vec![1, 2, 1],
            exemplars: vec![Exemplar {
                time: EPOCH,
                value: 0.5,
                span: Some((TraceId([0xab; 16]), SpanId([1; 8]))),
            }],
        };
        let number =
            |value| NumberPoint { labels: vec![label("reason", "ring_full")].into(), start, time, value };
        let temporality = Temporality::Cumulative;
        let metric = |name, unit, data| Metric {
            instrument: Instrument { name, unit, description: "Some \"words\"." },
            data,
        };
        let metrics = vec![
            metric(
                "http.server.request.duration",
                "s",
                MetricData::Histogram { temporality, points: vec![duration] },
            ),
            metric(
                "sonde.lost",
                "{item}",
                MetricData::Sum { temporality, is_monotonic: true, points: vec![number(Number::Int(7))] },
            ),
            metric(
                "process.memory.usage",
                "By",
                MetricData::Sum { temporality, is_monotonic: false, points: vec![number(Number::Int(4096))] },
            ),
        ];
        let attributes =
            vec![label("service.name", "shop"), label("service.instance.id", "i"), label("host.name", "n")];
        vec![ResourceMetrics { resource: Arc::new(Resource { attributes }), metrics }]
    }

    fn written(format: Format) -> String {
        encode(&shop(), format).replace(env!("CARGO_PKG_VERSION"), "{version}")
    }

    #[test]
    fn text() {
        insta::assert_snapshot!(written(Format::Text));
    }

    #[test]
    fn open_metrics() {
        insta::assert_snapshot!(written(Format::OpenMetrics));
    }

    #[test]
    fn nothing_is_a_valid_exposition() {
        assert_eq!(
            (encode(&[], Format::Text).as_str(), encode(&[], Format::OpenMetrics).as_str()),
            ("", "# EOF\n")
        );
    }
}
