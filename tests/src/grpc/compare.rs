//! Spans of gRPC against what the clients did, one for one, and the two ends of each call against each other.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;

use crate::compare::Report;
use crate::spans::{Kind, Span};

use super::programs::Library;
use super::{Call, Planned};

/// The attribute that shows a call's id.
pub const ID: &str = "rpc.request.metadata.x-call";
/// What makes Sonde show it.
pub const SHOW_ID: (&str, &str) = ("SONDE_PRIVACY_HEADERS_REQUEST", "x-call");
/// Difference between clocks that are read in different ways, and how finely.
const CLOCKS: u64 = 2_000_000;
/// How much earlier than it said a client may reach its deadline, for Sonde to take it for that.
const EARLY: u64 = 50_000_000;

/// The calls of one client to one server.
pub struct Pair<'a> {
    /// What was planned.
    pub plan: &'a [Planned],
    /// What was done, in any order.
    pub calls: &'a [Call],
    /// The server's port.
    pub port: u16,
    /// And its process, where that is known.
    pub server: Option<u32>,
    /// How the client calls itself.
    pub user_agent: &'a str,
    /// The server answers for a client whose deadline has passed, and says that it was cancelled.
    pub cancels: bool,
}

/// The spans of a call.
#[derive(Default)]
struct Ends<'a> {
    server: Vec<&'a Span>,
    client: Vec<&'a Span>,
}

/// Name of a status.
#[must_use]
pub fn status(code: u32) -> &'static str {
    const NAMES: [&str; 17] = [
        "OK",
        "CANCELLED",
        "UNKNOWN",
        "INVALID_ARGUMENT",
        "DEADLINE_EXCEEDED",
        "NOT_FOUND",
        "ALREADY_EXISTS",
        "PERMISSION_DENIED",
        "RESOURCE_EXHAUSTED",
        "FAILED_PRECONDITION",
        "ABORTED",
        "OUT_OF_RANGE",
        "UNIMPLEMENTED",
        "INTERNAL",
        "UNAVAILABLE",
        "DATA_LOSS",
        "UNAUTHENTICATED",
    ];
    NAMES[code as usize]
}

impl Library {
    /// How its client calls itself, in part.
    #[must_use]
    pub fn user_agent(self) -> &'static str {
        match self {
            Self::Python => "grpc-python",
            Self::Node => "grpc-node-js/",
            Self::Java => "grpc-java-netty/",
            Self::Go => "grpc-go/",
            Self::Tonic => "tonic/",
        }
    }
}

impl Pair<'_> {
    /// Each call has one span of this kind that tells of it truly, and there is no other.
    pub fn compare(&self, report: &mut Report, kind: Kind, spans: &[Span]) {
        report.expect(self.calls.len());
        let plan: BTreeMap<&str, &Planned> = self.plan.iter().map(|one| (one.id.as_str(), one)).collect();
        let mut ends = by_id(spans);
        for call in self.calls {
            let found = ends.remove(call.id.as_str()).unwrap_or_default().of(kind);
            let what = format!("{kind:?} {} {}", call.method, call.id);
            let [span] = found[..] else {
                report.problem(format!("{what} ({}) has {} spans", status(call.code), found.len()));
                continue;
            };
            let wrong = self.differences(plan[call.id.as_str()], call, span);
            if !wrong.is_empty() {
                report.problem(format!("{what}: {}", wrong.join(", ")));
            }
        }
        for (id, ends) in ends {
            for span in ends.of(kind) {
                report.problem(format!("span of what did not happen, {id:?}: {span:?}"));
            }
        }
    }

    /// The same of both kinds, and the two spans of each call agree.
    pub fn both_ends(&self, report: &mut Report, spans: &[Span]) {
        self.compare(report, Kind::Client, spans);
        self.compare(report, Kind::Server, spans);
        report.unique_ids(spans);
        let ends = by_id(spans);
        // Between the two spans Sonde may have looked at the calendar anew.
        let slack = if self.server.is_some() { CLOCKS } else { 0 };
        for (planned, call) in self.zipped() {
            let Some(Ends { server, client }) = ends.get(call.id.as_str()) else { continue };
            if let (&[server], &[client]) = (&server[..], &client[..]) {
                let wrong = joined(planned, call, client, server, slack);
                if !wrong.is_empty() {
                    report.problem(format!("{} {}: {}", call.method, call.id, wrong.join(", ")));
                }
            }
        }
    }

    fn zipped(&self) -> impl Iterator<Item = (&Planned, &Call)> {
        let plan: BTreeMap<&str, &Planned> = self.plan.iter().map(|one| (one.id.as_str(), one)).collect();
        self.calls.iter().map(move |call| (plan[call.id.as_str()], call))
    }

    /// What a span tells wrongly about its call.
    fn differences(&self, planned: &Planned, call: &Call, span: &Span) -> Vec<String> {
        let mut wrong = Vec::new();
        let mut expect = |what: &str, found: &str, expected: &str| {
            if found != expected {
                wrong.push(format!("{what} is {found:?}, not {expected:?}"));
            }
        };
        let told = span.attribute("rpc.response.status_code");
        // A client that gave up at its deadline says so, whatever its library calls that.
        let code = if planned.deadline > 0 && call.code != 0 { 4 } else { call.code };
        // Of a call that waited in its library for long, nobody else can know that this was the deadline. Nor can a server that
        // was slow to read it, whose own clock of the deadline began then.
        let early = span.duration() + EARLY < planned.deadline * 1_000_000
            || self.server.is_some() && span.kind == Kind::Server;
        if !(code == 4 && (self.cancels || early) && told == status(1)) {
            expect("status", told, status(code));
        }
        let failed = match span.kind {
            Kind::Client => told != "OK",
            Kind::Server | Kind::Internal => {
                ["UNKNOWN", "DEADLINE_EXCEEDED", "UNIMPLEMENTED", "INTERNAL", "UNAVAILABLE", "DATA_LOSS"]
                    .contains(&told)
            }
        };
        expect("error", &span.error.to_string(), &failed.to_string());
        expect("error.type", span.attribute("error.type"), if failed { told } else { "" });
        let missing = code == 12;
        expect("name", &span.name, if missing { "grpc" } else { &call.method });
        expect("rpc.method", span.attribute("rpc.method"), if missing { "_OTHER" } else { &call.method });
        let original = if missing { &*call.method } else { "" };
        expect("rpc.method_original", span.attribute("rpc.method_original"), original);
        expect("rpc.system.name", span.attribute("rpc.system.name"), "grpc");
        expect("version", span.attribute("network.protocol.version"), "2");
        expect("server.address", span.attribute("server.address"), "127.0.0.1");
        let port = self.port.to_string();
        expect("server.port", span.attribute("server.port"), &port);
        expect("sonde.quality", span.attribute("sonde.quality"), "");
        expect("http.request.method", span.attribute("http.request.method"), "");
        let (near, far) = ("network.local.port", "network.peer.port");
        let (server, client) = if span.kind == Kind::Server { (near, far) } else { (far, near) };
        expect(server, span.attribute(server), &port);
        if call.port > 0 {
            expect(client, span.attribute(client), &call.port.to_string());
        }
        if span.kind == Kind::Server {
            expect("client.address", span.attribute("client.address"), "127.0.0.1");
        }
        let pid = if span.kind == Kind::Server { self.server } else { self.server.map(|_| call.pid) };
        if let Some(pid) = pid {
            expect("process.pid", &span.pid().to_string(), &pid.to_string());
        }
        if !span.attribute("user_agent.original").contains(self.user_agent) {
            expect("user_agent.original", span.attribute("user_agent.original"), self.user_agent);
        }
        let whole = call.code == 0;
        if span.kind == Kind::Client && whole && span.duration() > call.end - call.start + CLOCKS {
            let longest = format!("at most {} ns", call.end - call.start);
            expect("duration", &span.duration().to_string(), &longest);
        }
        wrong.extend(counts(planned, call, span));
        wrong
    }
}

impl<'a> Ends<'a> {
    fn of(self, kind: Kind) -> Vec<&'a Span> {
        if kind == Kind::Server { self.server } else { self.client }
    }
}

fn by_id(spans: &[Span]) -> BTreeMap<&str, Ends<'_>> {
    let mut by_id: BTreeMap<&str, Ends<'_>> = BTreeMap::new();
    for span in spans {
        let ends = by_id.entry(span.attribute(ID)).or_default();
        if span.kind == Kind::Server { ends.server.push(span) } else { ends.client.push(span) }
    }
    by_id
}

/// Messages and bytes each way. Of a call that broke off, what an end's library was given need not have come to the wire, and
/// what came need not have been given to the application.
fn counts(planned: &Planned, call: &Call, span: &Span) -> Vec<String> {
    let whole = call.code == 0;
    let at_most = |n: u64| if whole { n..=n } else { 0..=n };
    let at_least = |n: u64| if whole { n..=n } else { n..=u64::MAX };
    let packed = |n: u64| if planned.gzip { 1..=n } else { n..=n };
    let (to, from) = match span.kind {
        Kind::Client => ("sent", "received"),
        Kind::Server | Kind::Internal => ("received", "sent"),
    };
    let bytes = |n: u64, range: RangeInclusive<u64>| if whole { packed(n) } else { range };
    let expected = [
        (to, "messages", at_most(call.sent)),
        (to, "bytes", bytes(call.sent_bytes, at_most(call.sent_bytes))),
        (from, "messages", at_least(call.received)),
        (from, "bytes", bytes(call.received_bytes, at_least(call.received_bytes))),
    ];
    let told = expected.into_iter().filter_map(|(way, what, range)| {
        let found = span.attribute(&format!("sonde.rpc.{way}.{what}"));
        let right = found.parse().is_ok_and(|found: u64| range.contains(&found));
        (!right).then(|| format!("{what} {way} are {found:?}, not {range:?}"))
    });
    told.collect()
}

/// What the two ends of a call say of each other wrongly.
fn joined(planned: &Planned, call: &Call, client: &Span, server: &Span, slack: u64) -> Vec<String> {
    let mut wrong = Vec::new();
    let mut expect = |what: &str, found: &str, expected: &str| {
        if found != expected {
            wrong.push(format!("{what} is {found:?}, not {expected:?}"));
        }
    };
    expect("SERVER's trace", &server.trace, &client.trace);
    expect("SERVER's parent", &server.parent, &client.id);
    expect("CLIENT's parent", &client.parent, "");
    if let [_, trace, id, _] = planned.traceparent.split('-').collect::<Vec<_>>()[..] {
        expect("CLIENT's trace", &client.trace, trace);
        expect("CLIENT's id", &client.id, id);
    }
    for (near, far) in
        [("network.local.port", "network.peer.port"), ("network.peer.port", "network.local.port")]
    {
        expect(&format!("SERVER's {near}"), server.attribute(near), client.attribute(far));
    }
    for what in ["messages", "bytes"] {
        for (from, to) in [(client, server), (server, client)] {
            let sent = from.number(&format!("sonde.rpc.sent.{what}"));
            let received = to.number(&format!("sonde.rpc.received.{what}"));
            if let (Some(sent), Some(received)) = (sent, received)
                && received > sent
            {
                wrong.push(format!("{received} {what} received of {sent} sent"));
            }
        }
    }
    if client.start > server.start + slack {
        wrong.push(format!("CLIENT starts {} ns after SERVER", client.start - server.start));
    }
    if call.code == 0 && server.end > client.end + slack {
        wrong.push(format!("SERVER ends {} ns after CLIENT", server.end - client.end));
    }
    wrong
}
