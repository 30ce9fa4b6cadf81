//! Every key of the configuration file, in one list. A key and its environment variable are two names of one value: what
//! the file says stands in for the variable where that is not set, and is read by the same code.
//!
//! A new key is one line here, a description in `deploy/sonde.yaml` (a test compares the two), and a call that reads it:
//! [`super::reading::Reading::value`] with the key's path and its variable.

use self::Reload::{Live, Restart};

/// A key of the configuration file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Key {
    /// Its path, sections joined by dots.
    pub path: &'static str,
    /// The environment variable that sets the same and wins over the file.
    pub variable: &'static str,
    /// How its value is written.
    pub kind: Kind,
    /// When a change counts.
    pub reload: Reload,
}

/// How a value is written in the file, and the text that its variable has for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Any scalar, as it is.
    Text,
    /// A whole number from 0 on.
    Number,
    /// A share from 0 to 1.
    Ratio,
    /// `true` or `false`.
    Switch,
    /// A number with a unit, such as `500ms`, `5s`, `2m`; `0` needs none. In the variable: milliseconds.
    Duration,
    /// A number with a unit, such as `64KiB` or `10MB`. In the variable: bytes.
    Size,
    /// A list of scalars. In the variable: joined by commas, or a JSON array.
    List,
    /// Names with a scalar each. In the variable: `name=value` pairs joined by commas, values percent-encoded.
    Pairs,
    /// Names with a list each. In the variable: a JSON object.
    Table,
}

/// When a changed value counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reload {
    /// From the next SIGHUP on.
    Live,
    /// From the next start on.
    Restart,
}

const fn key(path: &'static str, variable: &'static str, kind: Kind, reload: Reload) -> Key {
    Key { path, variable, kind, reload }
}

/// All of them, in the order of the annotated file.
pub const KEYS: &[Key] = &[
    key("targets.ports", "SONDE_TARGETS_PORTS", Kind::List, Live),
    key("targets.exes", "SONDE_TARGETS_EXES", Kind::List, Live),
    key("targets.pids", "SONDE_TARGETS_PIDS", Kind::List, Live),
    key("targets.services", "SONDE_TARGETS_SERVICES", Kind::List, Live),
    key("hooks", "SONDE_HOOKS", Kind::Text, Restart),
    key("outputs", "SONDE_OUTPUTS", Kind::List, Restart),
    key("otlp.endpoint", "OTEL_EXPORTER_OTLP_ENDPOINT", Kind::Text, Restart),
    key("otlp.protocol", "OTEL_EXPORTER_OTLP_PROTOCOL", Kind::Text, Restart),
    key("otlp.headers", "OTEL_EXPORTER_OTLP_HEADERS", Kind::Pairs, Restart),
    key("otlp.compression", "OTEL_EXPORTER_OTLP_COMPRESSION", Kind::Text, Restart),
    key("otlp.timeout", "OTEL_EXPORTER_OTLP_TIMEOUT", Kind::Duration, Restart),
    key("otlp.certificate", "OTEL_EXPORTER_OTLP_CERTIFICATE", Kind::Text, Restart),
    key("otlp.client_certificate", "OTEL_EXPORTER_OTLP_CLIENT_CERTIFICATE", Kind::Text, Restart),
    key("otlp.client_key", "OTEL_EXPORTER_OTLP_CLIENT_KEY", Kind::Text, Restart),
    key("otlp.insecure", "OTEL_EXPORTER_OTLP_INSECURE", Kind::Switch, Restart),
    key("otlp.traces.endpoint", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", Kind::Text, Restart),
    key("otlp.traces.protocol", "OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", Kind::Text, Restart),
    key("otlp.traces.headers", "OTEL_EXPORTER_OTLP_TRACES_HEADERS", Kind::Pairs, Restart),
    key("otlp.traces.compression", "OTEL_EXPORTER_OTLP_TRACES_COMPRESSION", Kind::Text, Restart),
    key("otlp.traces.timeout", "OTEL_EXPORTER_OTLP_TRACES_TIMEOUT", Kind::Duration, Restart),
    key("otlp.traces.certificate", "OTEL_EXPORTER_OTLP_TRACES_CERTIFICATE", Kind::Text, Restart),
    key(
        "otlp.traces.client_certificate",
        "OTEL_EXPORTER_OTLP_TRACES_CLIENT_CERTIFICATE",
        Kind::Text,
        Restart,
    ),
    key("otlp.traces.client_key", "OTEL_EXPORTER_OTLP_TRACES_CLIENT_KEY", Kind::Text, Restart),
    key("otlp.traces.insecure", "OTEL_EXPORTER_OTLP_TRACES_INSECURE", Kind::Switch, Restart),
    key("otlp.metrics.endpoint", "OTEL_EXPORTER_OTLP_METRICS_ENDPOINT", Kind::Text, Restart),
    key("otlp.metrics.protocol", "OTEL_EXPORTER_OTLP_METRICS_PROTOCOL", Kind::Text, Restart),
    key("otlp.metrics.headers", "OTEL_EXPORTER_OTLP_METRICS_HEADERS", Kind::Pairs, Restart),
    key("otlp.metrics.compression", "OTEL_EXPORTER_OTLP_METRICS_COMPRESSION", Kind::Text, Restart),
    key("otlp.metrics.timeout", "OTEL_EXPORTER_OTLP_METRICS_TIMEOUT", Kind::Duration, Restart),
    key("otlp.metrics.certificate", "OTEL_EXPORTER_OTLP_METRICS_CERTIFICATE", Kind::Text, Restart),
    key(
        "otlp.metrics.client_certificate",
        "OTEL_EXPORTER_OTLP_METRICS_CLIENT_CERTIFICATE",
        Kind::Text,
        Restart,
    ),
    key("otlp.metrics.client_key", "OTEL_EXPORTER_OTLP_METRICS_CLIENT_KEY", Kind::Text, Restart),
    key("otlp.metrics.insecure", "OTEL_EXPORTER_OTLP_METRICS_INSECURE", Kind::Switch, Restart),
    key("batch.delay", "OTEL_BSP_SCHEDULE_DELAY", Kind::Duration, Restart),
    key("batch.queue", "OTEL_BSP_MAX_QUEUE_SIZE", Kind::Number, Restart),
    key("batch.size", "OTEL_BSP_MAX_EXPORT_BATCH_SIZE", Kind::Number, Restart),
    key("batch.timeout", "OTEL_BSP_EXPORT_TIMEOUT", Kind::Duration, Restart),
    key("metrics.interval", "OTEL_METRIC_EXPORT_INTERVAL", Kind::Duration, Restart),
    key("metrics.timeout", "OTEL_METRIC_EXPORT_TIMEOUT", Kind::Duration, Restart),
    key("metrics.temporality", "OTEL_EXPORTER_OTLP_METRICS_TEMPORALITY_PREFERENCE", Kind::Text, Restart),
    key("metrics.histogram", "OTEL_EXPORTER_OTLP_METRICS_DEFAULT_HISTOGRAM_AGGREGATION", Kind::Text, Restart),
    key("metrics.exemplars", "OTEL_METRICS_EXEMPLAR_FILTER", Kind::Text, Restart),
    key("metrics.span_metrics", "SONDE_METRICS_SPAN_METRICS", Kind::Switch, Restart),
    key("listen", "SONDE_LISTEN", Kind::Text, Restart),
    key("on_sdk", "SONDE_ON_SDK", Kind::Text, Live),
    key("sampler.type", "OTEL_TRACES_SAMPLER", Kind::Text, Live),
    key("sampler.ratio", "OTEL_TRACES_SAMPLER_ARG", Kind::Ratio, Live),
    key("routes.learn", "SONDE_ROUTES_LEARN", Kind::Switch, Live),
    key("routes.limit", "SONDE_ROUTES_LIMIT", Kind::Number, Live),
    key("routes.patterns", "SONDE_ROUTES_PATTERNS", Kind::Table, Live),
    key("routes.templates", "SONDE_ROUTES_TEMPLATES", Kind::Table, Live),
    key("privacy.excluded_paths", "SONDE_PRIVACY_EXCLUDED_PATHS", Kind::List, Live),
    key("privacy.query.values", "SONDE_PRIVACY_QUERY_VALUES", Kind::Text, Live),
    key("privacy.query.allowed_keys", "SONDE_PRIVACY_QUERY_ALLOWED_KEYS", Kind::List, Live),
    key("privacy.headers.request", "SONDE_PRIVACY_HEADERS_REQUEST", Kind::List, Live),
    key("privacy.headers.response", "SONDE_PRIVACY_HEADERS_RESPONSE", Kind::List, Live),
    key("privacy.headers.sensitive", "SONDE_PRIVACY_HEADERS_SENSITIVE", Kind::List, Live),
    key("limits.span_attributes", "OTEL_SPAN_ATTRIBUTE_COUNT_LIMIT", Kind::Number, Live),
    key("limits.attribute_length", "OTEL_ATTRIBUTE_VALUE_LENGTH_LIMIT", Kind::Number, Live),
    key("propagators", "OTEL_PROPAGATORS", Kind::List, Live),
    key("semconv", "OTEL_SEMCONV_STABILITY_OPT_IN", Kind::List, Live),
];

/// The key of a path.
pub(super) fn by_path(path: &str) -> Option<&'static Key> {
    KEYS.iter().find(|key| key.path == path)
}

/// What can stand directly under a section (empty for the top): names of keys and of further sections, each once.
pub(super) fn below(section: &str) -> Vec<&'static str> {
    let mut names: Vec<&'static str> = Vec::new();
    for key in KEYS {
        let rest = match section {
            "" => Some(key.path),
            _ => key.path.strip_prefix(section).and_then(|rest| rest.strip_prefix('.')),
        };
        if let Some(name) = rest.and_then(|rest| rest.split('.').next())
            && !names.contains(&name)
        {
            names.push(name);
        }
    }
    names
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn paths_and_variables_name_one_key_each() {
        let paths: HashSet<_> = KEYS.iter().map(|key| key.path).collect();
        let variables: HashSet<_> = KEYS.iter().map(|key| key.variable).collect();
        assert_eq!((paths.len(), variables.len()), (KEYS.len(), KEYS.len()));
        for key in KEYS {
            assert!(key.variable.starts_with("OTEL_") || key.variable.starts_with("SONDE_"), "{key:?}");
            let nested = KEYS.iter().any(|other| other.path.starts_with(&format!("{}.", key.path)));
            assert!(!nested, "{} is a key and a section", key.path);
        }
    }
}
