//! Spans against what the clients say they did, one for one.

use std::collections::BTreeMap;
use std::fmt::Write;

use crate::calls::Call;
use crate::spans::{Kind, Span};

/// What differed, as lines; and the differences between measured and reported durations.
#[derive(Default)]
pub struct Report {
    problems: Vec<String>,
    count: usize,
    expected: usize,
    /// Span's duration less the client's measurement, in nanoseconds, for each kind.
    deltas: BTreeMap<Kind, Vec<i64>>,
    /// Beginnings of paths whose bodies may have no size.
    unsized_paths: &'static [&'static str],
    /// What spans call the protocol's version, 1.1 unless given.
    version: Option<&'static str>,
}

impl Report {
    /// One that takes bodies of such paths without a size; a size that is said must be right here too. That the size is there
    /// is what the open tests of chunked bodies compare.
    #[must_use]
    pub fn without_sizes_of(paths: &'static [&'static str]) -> Self {
        Self { unsized_paths: paths, ..Self::default() }
    }

    /// One for another version of HTTP.
    #[must_use]
    pub fn of_version(version: &'static str) -> Self {
        Self { version: Some(version), ..Self::default() }
    }

    /// One more difference.
    pub fn problem(&mut self, text: String) {
        self.count += 1;
        if self.problems.len() < 40 {
            self.problems.push(text);
        }
    }

    /// So many more spans are to be as expected.
    pub fn expect(&mut self, spans: usize) {
        self.expected += spans;
    }

    /// Compares one kind's spans with the calls: each call has one span that tells of it truly, and there is no other.
    pub fn compare(&mut self, what: &str, kind: Kind, port: u16, calls: &[Call], spans: &[&Span]) {
        self.expected += calls.len();
        let mut by_path: BTreeMap<&str, Vec<&Span>> = BTreeMap::new();
        for span in spans.iter().filter(|span| span.kind == kind) {
            by_path.entry(span.path()).or_default().push(span);
        }
        for call in calls {
            match by_path.remove(call.path.as_str()).as_deref() {
                None => self.problem(format!("{what} {kind:?} {} {} has no span", call.method, call.path)),
                Some([span]) => {
                    if let Some(wrong) = self.differences(call, port, span) {
                        self.problem(format!("{what} {kind:?} {} {}: {wrong}", call.method, call.path));
                    }
                    let measured = call.end.saturating_sub(call.start);
                    let delta = i64::try_from(span.duration()).unwrap_or(i64::MAX)
                        - i64::try_from(measured).unwrap_or(i64::MAX);
                    self.deltas.entry(kind).or_default().push(delta);
                }
                Some(several) => {
                    self.problem(format!(
                        "{kind:?} {} {} has {} spans",
                        call.method,
                        call.path,
                        several.len()
                    ));
                }
            }
        }
        for (path, spans) in by_path {
            let span = spans[0];
            self.problem(format!(
                "{} {kind:?} span(s) of what did not happen: {path:?} {:?} {:?}",
                spans.len(),
                span.name,
                span.attributes
            ));
        }
    }

    /// Compares both ends of the calls with all spans of a run.
    pub fn both_ends(&mut self, port: u16, calls: &[Call], spans: &[Span]) {
        let all: Vec<&Span> = spans.iter().collect();
        self.compare("", Kind::Server, port, calls, &all);
        self.compare("", Kind::Client, port, calls, &all);
        self.unique_ids(spans);
        self.ports_agree(&all);
    }

    /// Each end names the port that the other end has as its own.
    fn ports_agree(&mut self, spans: &[&Span]) {
        let ports = |span: &Span, mine: &str, other: &str| (span.number(mine), span.number(other));
        let servers: BTreeMap<&str, _> = spans
            .iter()
            .filter(|span| span.kind == Kind::Server)
            .map(|span| (span.path(), ports(span, "network.local.port", "network.peer.port")))
            .collect();
        for span in spans.iter().filter(|span| span.kind == Kind::Client) {
            let here = ports(span, "network.peer.port", "network.local.port");
            match servers.get(span.path()) {
                Some(there) if *there != here || here.1.is_none() => {
                    self.problem(format!(
                        "{}: ports {here:?} at the client, {there:?} at the server",
                        span.path()
                    ));
                }
                _ => {}
            }
        }
    }

    /// No span id occurs twice, and every span has well-formed ids and times.
    pub fn unique_ids(&mut self, spans: &[Span]) {
        let mut seen = BTreeMap::new();
        for span in spans {
            if seen.insert(&span.id, span).is_some() {
                self.problem(format!("span id {} twice", span.id));
            }
            let hex =
                |text: &str| text.bytes().all(|byte| byte.is_ascii_hexdigit() && !byte.is_ascii_uppercase());
            if span.trace.len() != 32 || span.id.len() != 16 || !hex(&span.trace) || !hex(&span.id) {
                self.problem(format!("ids {:?} {:?}", span.trace, span.id));
            }
            if span.end < span.start {
                self.problem(format!("{} ends before it starts", span.path()));
            }
        }
    }

    /// The differences of durations in microseconds: 50th, 99th percentile and maximum of their absolute values.
    #[must_use]
    pub fn durations(&self) -> String {
        let mut text = String::new();
        for (kind, deltas) in &self.deltas {
            let mut sorted: Vec<u64> = deltas.iter().map(|delta| delta.unsigned_abs() / 1000).collect();
            sorted.sort_unstable();
            let at = |percent: usize| sorted[(sorted.len() - 1) * percent / 100];
            write!(text, " {kind:?} p50 {} p99 {} max {} us;", at(50), at(99), at(100))
                .expect("a string takes all");
        }
        text
    }

    /// How many differences there were.
    #[must_use]
    pub fn count(&self) -> usize {
        self.count
    }

    /// The differences, or what there is to say where there are none.
    #[must_use]
    pub fn text(&self) -> String {
        if self.count == 0 {
            return format!("{} spans as expected;{}", self.expected, self.durations());
        }
        format!("{} differences\n  {}", self.count, self.problems.join("\n  "))
    }

    /// Ends the test if anything differed.
    ///
    /// # Panics
    /// With the differences, and with what Sonde said.
    pub fn check(&self, what: &str, log: &str) {
        let Self { problems, count, expected, deltas: _, unsized_paths: _, version: _ } = self;
        println!("{what}: {expected} spans expected, {count} differences;{}", self.durations());
        assert!(*count == 0, "{what}: {count} differences\n  {}\nsonde said: {log}", problems.join("\n  "));
    }

    /// What a span tells wrongly about its call.
    fn differences(&self, call: &Call, port: u16, span: &Span) -> Option<String> {
        let mut wrong = Vec::new();
        let mut expect = |what: &str, found: &str, expected: &str| {
            if found != expected {
                wrong.push(format!("{what} is {found:?}, not {expected:?}"));
            }
        };
        expect("method", span.attribute("http.request.method"), &call.method);
        expect("status", span.attribute("http.response.status_code"), &call.status.to_string());
        expect("version", span.attribute("network.protocol.version"), self.version.unwrap_or("1.1"));
        expect("server.port", span.attribute("server.port"), &port.to_string());
        let failed = call.status >= if span.kind == Kind::Server { 500 } else { 400 };
        expect("error status", &span.error.to_string(), &failed.to_string());
        let error_type = if failed { call.status.to_string() } else { String::new() };
        expect("error.type", span.attribute("error.type"), &error_type);
        expect("sonde.quality", span.attribute("sonde.quality"), "");
        if !span.name.starts_with(&call.method) {
            expect("name", &span.name, &call.method);
        }
        for (what, key, size) in [
            ("request body", "http.request.body.size", call.sent),
            ("response body", "http.response.body.size", call.received),
        ] {
            let may_lack = self.unsized_paths.iter().any(|path| call.path.starts_with(path));
            if may_lack && span.attribute(key).is_empty() {
                continue;
            }
            // Nothing needs to be said of a body that is not there.
            if size > 0 || !span.attribute(key).is_empty() {
                expect(what, span.attribute(key), &size.to_string());
            }
        }
        match span.kind {
            Kind::Client => {
                expect("network.peer.port", span.attribute("network.peer.port"), &port.to_string());
            }
            Kind::Server if span.attribute("client.address").is_empty() => {
                expect("client.address", "", "an address");
            }
            Kind::Server | Kind::Internal => {}
        }
        (!wrong.is_empty()).then(|| wrong.join(", "))
    }
}
