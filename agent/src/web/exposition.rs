//! Metrics as Prometheus has them: OpenTelemetry specification, "Prometheus and OpenMetrics Compatibility".

use std::collections::BTreeMap;
use std::fmt::Write as _;

use opentelemetry_semantic_conventions::resource as key;

use crate::metrics::{ExponentialPoint, HistogramPoint, MetricData, Number, NumberPoint, ResourceMetrics};
use crate::span::{Attribute, Value};

/// How metrics are written down.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// Text format 0.0.4.
    Text,
    /// OpenMetrics 1.0, with exemplars.
    OpenMetrics,
    /// Length-delimited `io.prometheus.client.MetricFamily` messages, with native histograms.
    Protobuf,
}

impl Format {
    /// The best that the `Accept` header allows; text where it names nothing known.
    #[must_use]
    pub fn accepted(accept: &str) -> Self {
        let mut best = (Self::Text, 0_u32);
        for range in accept.split(',') {
            let mut parts = range.split(';').map(str::trim);
            let media = parts.next().unwrap_or_default();
            let parameters: BTreeMap<&str, &str> = parts.filter_map(|part| part.split_once('=')).collect();
            let is = |name: &str, value: &str| {
                parameters.get(name).is_some_and(|said| said.trim_matches('"') == value)
            };
            let format = match media {
                "application/vnd.google.protobuf"
                    if is("proto", "io.prometheus.client.MetricFamily") && is("encoding", "delimited") =>
                {
                    Self::Protobuf
                }
                "application/openmetrics-text"
                    if !parameters.contains_key("version") || is("version", "1.0.0") =>
                {
                    Self::OpenMetrics
                }
                "text/plain" | "text/*" | "*/*" => Self::Text,
                _ => continue,
            };
            let quality = parameters.get("q").and_then(|q| q.parse::<f64>().ok()).unwrap_or(1.0);
            // In thousandths, as RFC 9110 (section 12.4.2) has them.
            let quality = (quality.clamp(0.0, 1.0) * 1_000.0) as u32;
            if quality > best.1 {
                best = (format, quality);
            }
        }
        best.0
    }

    /// `Content-Type`.
    #[must_use]
    pub const fn media_type(self) -> &'static str {
        match self {
            Self::Text => "text/plain; version=0.0.4; charset=utf-8",
            Self::OpenMetrics => "application/openmetrics-text; version=1.0.0; charset=utf-8",
            Self::Protobuf => {
                "application/vnd.google.protobuf; proto=io.prometheus.client.MetricFamily; encoding=delimited"
            }
        }
    }
}

/// All samples of one name.
#[derive(Debug)]
pub(super) struct Family<'a> {
    /// With the unit, without `_total`.
    pub(super) name: String,
    /// A word for the unit; empty where there is none.
    pub(super) unit: &'static str,
    pub(super) help: &'a str,
    /// The metric's own name.
    pub(super) metric: &'a str,
    pub(super) kind: Kind,
    /// The labels of each resource with its points.
    pub(super) points: Vec<(&'a Labels, Points<'a>)>,
}

/// What the samples are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Counter,
    Gauge,
    Histogram,
    /// `target_info`.
    Info,
}

/// Points of one resource.
#[derive(Clone, Copy, Debug)]
pub(super) enum Points<'a> {
    Numbers(&'a [NumberPoint]),
    Histograms(&'a [HistogramPoint]),
    /// None: the labels say all.
    Info,
}

/// Names and values, in order.
pub(super) type Labels = Vec<(String, String)>;

/// A resource's labels, and those of its `target_info`.
#[derive(Debug)]
pub(super) struct Target {
    pub(super) labels: Labels,
    pub(super) described: Labels,
}

impl Target {
    /// One for each resource, in order.
    pub(super) fn all(all: &[ResourceMetrics]) -> Vec<Self> {
        all.iter().map(|one| Self::of(&one.resource.attributes)).collect()
    }

    /// `job` is the namespace and name of the service, `instance` its instance: as the specification maps them.
    fn of(attributes: &[Attribute]) -> Self {
        let find = |name: &str| attributes.iter().find(|attribute| attribute.key == name);
        let said = |name: &str| find(name).map(|found| written(found.value.borrowed())).unwrap_or_default();
        let (namespace, name) = (said(key::SERVICE_NAMESPACE), said(key::SERVICE_NAME));
        let job = if namespace.is_empty() { name } else { format!("{namespace}/{name}") };
        let target = vec![("instance".to_owned(), said(key::SERVICE_INSTANCE_ID)), ("job".to_owned(), job)];
        let target: Labels = target.into_iter().filter(|(_, value)| !value.is_empty()).collect();
        let identifying = [key::SERVICE_NAMESPACE, key::SERVICE_NAME, key::SERVICE_INSTANCE_ID];
        let rest = attributes.iter().filter(|attribute| !identifying.contains(&&*attribute.key));
        let mut described = target.clone();
        described.extend(labels(rest));
        let mut labels = target;
        labels.push(("otel_scope_name".to_owned(), env!("CARGO_PKG_NAME").to_owned()));
        labels.push(("otel_scope_version".to_owned(), env!("CARGO_PKG_VERSION").to_owned()));
        Self { labels, described }
    }
}

/// Families in the order of their names. Exponential points are not among them: [`super::protobuf`] alone has a place for
/// those, beside the explicit ones of the same series.
pub(super) fn families<'a>(all: &'a [ResourceMetrics], targets: &'a [Target]) -> Vec<Family<'a>> {
    let mut families: BTreeMap<String, Family<'a>> = BTreeMap::new();
    for (one, target) in all.iter().zip(targets) {
        for metric in &one.metrics {
            let (kind, points) = match &metric.data {
                MetricData::Sum { is_monotonic: true, points, .. } => {
                    (Kind::Counter, Points::Numbers(points))
                }
                MetricData::Sum { points, .. } | MetricData::Gauge(points) => {
                    (Kind::Gauge, Points::Numbers(points))
                }
                MetricData::Histogram { points, .. } => (Kind::Histogram, Points::Histograms(points)),
                MetricData::Exponential { .. } => continue,
            };
            let unit = unit(metric.instrument.unit);
            let name = name(metric.instrument.name, unit);
            let family = families.entry(name).or_insert_with_key(|name| Family {
                name: name.clone(),
                unit: if name.ends_with(unit) { unit } else { "" },
                help: metric.instrument.description,
                metric: metric.instrument.name,
                kind,
                points: Vec::new(),
            });
            family.points.push((&target.labels, points));
        }
    }
    let info = Family {
        name: "target".to_owned(),
        unit: "",
        help: "Target metadata",
        metric: "",
        kind: Kind::Info,
        points: targets.iter().map(|target| (&target.described, Points::Info)).collect(),
    };
    families.into_values().chain((!targets.is_empty()).then_some(info)).collect()
}

/// The word for a unit.
fn unit(unit: &str) -> &'static str {
    match unit {
        "s" => "seconds",
        "By" => "bytes",
        // Annotations such as {request}, and what has no unit.
        _ => "",
    }
}

/// A metric's name: what does not belong there becomes one `_`, the unit stands behind. `_total` is put there by the format.
fn name(name: &str, unit: &str) -> String {
    let mut made = String::with_capacity(name.len() + unit.len() + 1);
    for letter in name.chars() {
        let fits = letter.is_ascii_alphanumeric() || letter == ':';
        if fits {
            made.push(letter);
        } else if !made.ends_with('_') {
            made.push('_');
        }
    }
    if made.starts_with(|first: char| first.is_ascii_digit()) {
        made.insert(0, '_');
    }
    let total = made.strip_suffix("_total").map(str::len);
    made.truncate(total.unwrap_or(made.len()));
    if !unit.is_empty() && made != unit && !made.ends_with(&format!("_{unit}")) {
        made.push('_');
        made.push_str(unit);
    }
    made
}

/// Attributes as labels, in the order of their names. Values of names that become the same are joined by `;`.
pub(super) fn labels<'a>(attributes: impl IntoIterator<Item = &'a Attribute>) -> Labels {
    let mut named: Vec<(String, &Attribute)> =
        attributes.into_iter().map(|attribute| (label_name(&attribute.key), attribute)).collect();
    named.sort_by(|(a, first), (b, second)| a.cmp(b).then_with(|| first.key.cmp(&second.key)));
    let mut labels: Labels = Vec::with_capacity(named.len());
    for (name, attribute) in named {
        let value = written(attribute.value.borrowed());
        match labels.last_mut() {
            Some((last, values)) if *last == name => {
                values.push(';');
                values.push_str(&value);
            }
            _ => labels.push((name, value)),
        }
    }
    labels
}

fn label_name(name: &str) -> String {
    let fits = |letter: char| if letter.is_ascii_alphanumeric() || letter == '_' { letter } else { '_' };
    let mut made: String = name.chars().map(fits).collect();
    if made.starts_with(|first: char| first.is_ascii_digit()) || made.starts_with("__") || made.is_empty() {
        made.insert_str(0, "key_");
    }
    made
}

/// A value as text; lists as JSON.
fn written(value: Value<'_>) -> String {
    match value {
        Value::Str(text) => text.to_owned(),
        Value::Int(number) => number.to_string(),
        Value::Double(number) => number.to_string(),
        Value::Bool(truth) => truth.to_string(),
        Value::StrArray(texts) => {
            let mut list = String::from("[");
            for (at, text) in texts.iter().enumerate() {
                let comma = if at > 0 { "," } else { "" };
                // Writing to a string does not fail.
                let _ = write!(list, "{comma}{text:?}");
            }
            list.push(']');
            list
        }
    }
}

/// A number as a sample has it.
pub(super) fn sample(value: Number) -> f64 {
    match value {
        Number::Int(value) => value as f64,
        Number::Double(value) => value,
    }
}

/// The exponential points of the same series, by the place of their labels, which both share, and the metric's name.
pub(super) fn exponential(all: &[ResourceMetrics]) -> BTreeMap<(usize, &str), &ExponentialPoint> {
    let metrics = all.iter().flat_map(|one| &one.metrics);
    let points = metrics.flat_map(|metric| {
        let points: &[ExponentialPoint] = match &metric.data {
            MetricData::Exponential { points, .. } => points,
            _ => &[],
        };
        points.iter().map(|point| ((point.labels.as_ptr().addr(), metric.instrument.name), point))
    });
    points.collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metrics::label;

    #[test]
    fn the_best_format_that_is_accepted_is_taken() {
        // What Prometheus 3 sends with and without native histograms.
        let native = "application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;encoding=delimited;q=0.6,\
                      application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.5,\
                      application/openmetrics-text;version=0.0.1;q=0.4,text/plain;version=1.0.0;q=0.3,\
                      text/plain;version=0.0.4;q=0.2,*/*;q=0.1";
        assert_eq!(Format::accepted(native), Format::Protobuf);
        let classic = native.split_once(',').map_or("", |(_, rest)| rest);
        assert_eq!(Format::accepted(classic), Format::OpenMetrics);
        for plain in
            ["", "*/*", "text/html, */*;q=0.1", "application/vnd.google.protobuf", "text/plain;version=0.0.4"]
        {
            assert_eq!(Format::accepted(plain), Format::Text, "{plain}");
        }
        assert_eq!(Format::accepted("application/openmetrics-text;q=0, text/plain;q=0.1"), Format::Text);
    }

    #[test]
    fn names_carry_their_unit_once() {
        for (given, of, expected) in [
            ("http.server.request.duration", "s", "http_server_request_duration_seconds"),
            ("http.server.request.body.size", "By", "http_server_request_body_size_bytes"),
            ("rpc.client.call.duration", "s", "rpc_client_call_duration_seconds"),
            ("sonde.rpc.client.sent.messages", "{message}", "sonde_rpc_client_sent_messages"),
            ("sonde.lost", "{item}", "sonde_lost"),
            (
                "traces_service_graph_request_server_seconds",
                "s",
                "traces_service_graph_request_server_seconds",
            ),
            ("traces_spanmetrics_calls_total", "", "traces_spanmetrics_calls"),
            ("a..b--c", "", "a_b_c"),
            ("1.a", "", "_1_a"),
        ] {
            assert_eq!(name(given, unit(of)), expected);
        }
    }

    #[test]
    fn labels_that_become_the_same_are_joined() {
        let attributes =
            [label("a.b", "1"), label("z", 2), label("a_b", "3"), label("1x", true), label("__x", "y")];
        let text: Vec<String> =
            labels(&attributes).into_iter().map(|(name, value)| format!("{name}={value}")).collect();
        assert_eq!(text, ["a_b=1;3", "key_1x=true", "key___x=y", "z=2"]);
    }

    #[test]
    fn a_target_is_told_by_service_and_instance() {
        let attributes = [
            label(key::SERVICE_NAME, "shop"),
            label(key::SERVICE_NAMESPACE, "eu"),
            label(key::SERVICE_INSTANCE_ID, "i-1"),
            label(key::PROCESS_PID, 42),
        ];
        let target = Target::of(&attributes);
        let text = |labels: &Labels| {
            labels.iter().map(|(name, value)| format!("{name}={value}")).collect::<Vec<_>>()
        };
        let version = format!("otel_scope_version={}", env!("CARGO_PKG_VERSION"));
        assert_eq!(text(&target.labels), ["instance=i-1", "job=eu/shop", "otel_scope_name=sonde", &version]);
        assert_eq!(text(&target.described), ["instance=i-1", "job=eu/shop", "process_pid=42"]);
    }
}
