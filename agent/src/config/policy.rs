//! Sampling, routes, privacy and limits: what SIGHUP can change.

use std::collections::BTreeMap;
use std::str::FromStr;

use super::cli::{self, PolicyArgs};
use super::environment;
use super::reading::{Reading, Source};
use super::targets::ServiceGlob;
use crate::policy::Policy;
use crate::proto::Capture;
use crate::proto::capture::{HeaderNames, PathGlobs};
use crate::proto::propagation::{Propagator, Propagators};
use crate::span::sample::{Ratio, Root};
use crate::span::{
    HttpNames, OnSdk, QueryRules, QueryValues, RoutePattern, RouteRules, Sampler, SpanLimits, Wording,
};

/// Probes of orchestrators and scrapes: they come by themselves, and all are alike.
const EXCLUDED: [&str; 4] = ["/health*", "/livez*", "/ready*", "/metrics"];

/// Parts of the names of headers that hold credentials or what stands for them.
const SENSITIVE: [&str; 12] = [
    "authoriz",
    "authenticat",
    "auth-",
    "cookie",
    "token",
    "secret",
    "passw",
    "api-key",
    "apikey",
    "credential",
    "session",
    "signature",
];

impl Reading<'_> {
    pub(super) fn policy(&mut self, args: &PolicyArgs) -> Policy {
        let on_sdk = self.on_sdk(args);
        let sampler = self.sampler();
        let routes = self.routes();
        let excluded: Vec<PathGlob> =
            self.list("privacy.excluded_paths", "SONDE_PRIVACY_EXCLUDED_PATHS", &EXCLUDED);
        let query = self.query();
        let (request, response) = self.headers_to_capture();
        let limits = self.limits();
        let propagators = self.propagators();
        let names = self.names();
        let excluded = PathGlobs::new(excluded.iter().map(|PathGlob(pattern)| &**pattern));
        Policy {
            sampler,
            capture: Capture { request, response, propagators, excluded },
            routes,
            wording: Wording { query, limits, names },
            on_sdk,
        }
    }

    fn on_sdk(&mut self, args: &PolicyArgs) -> OnSdk {
        let name = |on_sdk: &OnSdk| on_sdk.name().to_owned();
        if let Some(on_sdk) = args.on_sdk {
            self.note("on_sdk", name(&on_sdk), Source::Flag("--on-sdk"));
            return on_sdk;
        }
        self.value("on_sdk", &["SONDE_ON_SDK"], OnSdk::default(), name, cli::on_sdk)
    }

    /// What is unknown or out of range is treated as not set, as the specification wants it (Environment Variable
    /// Specification, "General SDK Configuration").
    fn sampler(&mut self) -> Sampler {
        let name = self.value(
            "sampler.type",
            &["OTEL_TRACES_SAMPLER"],
            "parentbased_always_on".to_owned(),
            String::clone,
            |text| match text.strip_prefix("parentbased_").unwrap_or(text) {
                "always_on" | "always_off" | "traceidratio" => Ok(text.to_owned()),
                _ => Err(
                    "write always_on, always_off or traceidratio, each perhaps with parentbased_ before it",
                ),
            },
        );
        let (share, ratio) = self.value(
            "sampler.ratio",
            &["OTEL_TRACES_SAMPLER_ARG"],
            (1.0, Ratio::new(1.0)),
            |(share, _): &(f64, Option<Ratio>)| share.to_string(),
            |text| {
                let share = text.parse::<f64>().map_err(|_| "write a share from 0 to 1, such as 0.1")?;
                match Ratio::new(share) {
                    Some(ratio) => Ok((share, Some(ratio))),
                    None => Err("write a share from 0 to 1, such as 0.1"),
                }
            },
        );
        let parent_based = name.starts_with("parentbased_");
        let root = match (name.strip_prefix("parentbased_").unwrap_or(&name), ratio) {
            ("always_off", _) => Root::AlwaysOff,
            ("traceidratio", Some(ratio)) if share < 1.0 => Root::Ratio(ratio),
            _ => Root::AlwaysOn,
        };
        Sampler { parent_based, root }
    }

    fn routes(&mut self) -> RouteRules {
        let default = RouteRules::default();
        let learn =
            self.value("routes.learn", &["SONDE_ROUTES_LEARN"], default.learn, bool::to_string, switch);
        let limit = self.value(
            "routes.limit",
            &["SONDE_ROUTES_LIMIT"],
            default.limit,
            usize::to_string,
            environment::count,
        );
        let patterns = self.table("routes.patterns", "SONDE_ROUTES_PATTERNS");
        let templates = self.table("routes.templates", "SONDE_ROUTES_TEMPLATES");
        RouteRules { learn, limit, patterns, templates }
    }

    /// Patterns of routes under patterns of services or hosts.
    fn table(&mut self, setting: &'static str, name: &'static str) -> Vec<(ServiceGlob, Vec<RoutePattern>)> {
        let Some(text) = self.environment.text(name) else {
            self.note(setting, "none".to_owned(), Source::Default);
            return Vec::new();
        };
        let Ok(table) = serde_json::from_str::<BTreeMap<String, Vec<String>>>(text) else {
            self.refuse(
                name,
                "this does not fit",
                r#"write a JSON object such as {"shop-*": ["/users/{id}"]}"#,
            );
            return Vec::new();
        };
        let shown = if table.is_empty() { "none".to_owned() } else { text.to_owned() };
        let mut rules = Vec::with_capacity(table.len());
        for (glob, patterns) in table {
            let mut parsed = Vec::with_capacity(patterns.len());
            for pattern in patterns {
                match pattern.parse::<RoutePattern>() {
                    Ok(pattern) => parsed.push(pattern),
                    Err(hint) => self.refuse(name, &format!("{glob}: {pattern} does not fit"), &hint),
                }
            }
            match glob.parse::<ServiceGlob>() {
                Ok(glob) => rules.push((glob, parsed)),
                Err(hint) => self.refuse(name, &format!("{glob} does not fit"), &hint),
            }
        }
        self.note(setting, shown, Source::Variable(name));
        rules
    }

    fn query(&mut self) -> QueryRules {
        let shown = |values: &QueryValues| match values {
            QueryValues::Redacted => "redacted".to_owned(),
            QueryValues::Shown => "shown".to_owned(),
            QueryValues::Dropped => "dropped".to_owned(),
        };
        // A misspelt wish to hide something must not end in showing it: no variable of Sonde's own is ignored.
        let name = "SONDE_PRIVACY_QUERY_VALUES";
        let values = match self.environment.text(name) {
            None | Some("redacted") => QueryValues::Redacted,
            Some("shown") => QueryValues::Shown,
            Some("dropped") => QueryValues::Dropped,
            Some(other) => {
                let what = format!("{other} does not fit");
                self.refuse(name, &what, "write redacted, shown or dropped");
                QueryValues::Redacted
            }
        };
        let source = self.environment.text(name).map_or(Source::Default, |_| Source::Variable(name));
        self.note("privacy.query.values", shown(&values), source);
        let allowed: Vec<String> = self
            .list::<Word>("privacy.query.allowed_keys", "SONDE_PRIVACY_QUERY_ALLOWED_KEYS", &[])
            .into_iter()
            .map(|Word(word)| word)
            .collect();
        QueryRules { values, allowed: allowed.into_iter().map(String::into_boxed_str).collect() }
    }

    /// Headers that hold secrets are named twice or not captured.
    fn headers_to_capture(&mut self) -> (HeaderNames, HeaderNames) {
        let lists = [
            ("privacy.headers.request", "SONDE_PRIVACY_HEADERS_REQUEST"),
            ("privacy.headers.response", "SONDE_PRIVACY_HEADERS_RESPONSE"),
        ];
        let asked = lists.map(|(setting, name)| self.list::<HeaderName>(setting, name, &[]));
        let permitted: Vec<HeaderName> =
            self.list("privacy.headers.sensitive", "SONDE_PRIVACY_HEADERS_SENSITIVE", &[]);
        for ((_, name), headers) in lists.iter().zip(&asked) {
            for HeaderName(header) in headers {
                let sensitive = SENSITIVE.iter().any(|part| header.contains(part));
                if sensitive && !permitted.iter().any(|HeaderName(permitted)| permitted == header) {
                    self.refuse(
                        name,
                        &format!("{header} holds secrets"),
                        "leave it out, or name it under privacy.headers.sensitive as well if spans shall hold it",
                    );
                }
            }
        }
        let [request, response] =
            asked.map(|headers| HeaderNames::new(headers.iter().map(|HeaderName(header)| header.as_str())));
        (request, response)
    }

    fn limits(&mut self) -> SpanLimits {
        let default = SpanLimits::default();
        let number = |text: &str| text.parse::<usize>().map_err(|_| "write a whole number from 0 on");
        let attributes = self.value(
            "limits.span_attributes",
            &["OTEL_SPAN_ATTRIBUTE_COUNT_LIMIT", "OTEL_ATTRIBUTE_COUNT_LIMIT"],
            default.attributes,
            usize::to_string,
            number,
        );
        let length = self.value(
            "limits.attribute_length",
            &["OTEL_SPAN_ATTRIBUTE_VALUE_LENGTH_LIMIT", "OTEL_ATTRIBUTE_VALUE_LENGTH_LIMIT"],
            default.length,
            |length| if *length == usize::MAX { "none".to_owned() } else { length.to_string() },
            number,
        );
        SpanLimits { attributes, length }
    }

    fn propagators(&mut self) -> Propagators {
        let name = "OTEL_PROPAGATORS";
        let Some(text) = self.environment.text(name) else {
            self.note("propagators", "tracecontext,baggage".to_owned(), Source::Default);
            return Propagators::default();
        };
        let names = super::file::list_items(text).unwrap_or_else(|_| vec![text.to_owned()]);
        let (mut named, mut shown) = (Vec::new(), Vec::new());
        for item in names {
            let propagator = match item.as_str() {
                "tracecontext" => Propagator::TraceContext,
                "baggage" => Propagator::Baggage,
                "b3" => Propagator::B3,
                "b3multi" => Propagator::B3Multi,
                "jaeger" => Propagator::Jaeger,
                "none" => continue,
                other => {
                    let hint = "write tracecontext, baggage, b3, b3multi, jaeger or none";
                    self.complain(name, other, hint);
                    continue;
                }
            };
            if !named.contains(&propagator) {
                named.push(propagator);
                shown.push(item);
            }
        }
        let shown = if shown.is_empty() { "none".to_owned() } else { shown.join(",") };
        self.note("propagators", shown, Source::Variable(name));
        Propagators::new(named)
    }

    /// Groups of other signals mean nothing here yet and are left alone.
    fn names(&mut self) -> HttpNames {
        let name = "OTEL_SEMCONV_STABILITY_OPT_IN";
        let Some(text) = self.environment.text(name) else {
            self.note("semconv", "http".to_owned(), Source::Default);
            return HttpNames::Stable;
        };
        let items = super::file::list_items(text).unwrap_or_default();
        let both = items.iter().any(|item| item == "http/dup");
        self.note("semconv", items.join(","), Source::Variable(name));
        if both { HttpNames::Both } else { HttpNames::Stable }
    }
}

fn switch(text: &str) -> Result<bool, &'static str> {
    match text {
        _ if text.eq_ignore_ascii_case("true") => Ok(true),
        _ if text.eq_ignore_ascii_case("false") => Ok(false),
        _ => Err("write true or false"),
    }
}

/// A pattern of paths to exclude.
struct PathGlob(String);

impl FromStr for PathGlob {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let fits = text.starts_with(['/', '*']) && !text.contains(['?', '#', ' ']) && text.len() <= 256;
        if fits {
            Ok(Self(text.to_owned()))
        } else {
            Err("write a path such as /health or /probes/*".to_owned())
        }
    }
}

/// A key of queries.
struct Word(String);

impl FromStr for Word {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let fits = !text.is_empty() && !text.contains(['&', '=', '?', '#']);
        if fits { Ok(Self(text.to_owned())) } else { Err("write keys such as page".to_owned()) }
    }
}

/// The name of a header, in lower case (RFC 9110, section 5.1).
struct HeaderName(String);

impl FromStr for HeaderName {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match http::HeaderName::from_bytes(text.as_bytes()) {
            Ok(name) => Ok(Self(name.as_str().to_owned())),
            Err(_) => Err("write names of headers such as x-request-id".to_owned()),
        }
    }
}

#[cfg(test)]
#[path = "policy_tests.rs"]
mod tests;
