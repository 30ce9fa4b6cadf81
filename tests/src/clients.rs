//! Real clients: each makes the requests it is given and tells what it did.

use std::fmt::Write;
use std::process::{Command, Stdio};

use tempfile::TempDir;

use crate::apps;
use crate::calls::{Call, Planned};
use crate::namespaces::Place;
use crate::processes::output;

/// A client program.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Client {
    /// curl; several at once with `--parallel`.
    Curl,
    /// Python requests, a thread and a session for each at once.
    Requests,
    /// Python httpx, tasks.
    Httpx,
    /// Node's fetch (undici).
    Node,
    /// `java.net.http.HttpClient`.
    Java,
    /// Go's `net/http`.
    Go,
}

impl Client {
    /// All of them.
    pub const ALL: [Self; 6] = [Self::Curl, Self::Requests, Self::Httpx, Self::Node, Self::Java, Self::Go];

    /// Makes the requests, at most so many at once.
    ///
    /// # Panics
    /// When the client fails or does not tell of each request.
    #[must_use]
    pub fn run(self, base: &str, concurrency: usize, plan: &[Planned]) -> Vec<Call> {
        self.run_in(&Place::default(), base, concurrency, plan)
    }

    /// The same in a network namespace.
    #[must_use]
    pub fn run_in(self, place: &Place, base: &str, concurrency: usize, plan: &[Planned]) -> Vec<Call> {
        let calls = match self {
            Self::Curl => curl(place, base, concurrency, plan, ""),
            _ => {
                let input: String = plan.iter().map(Planned::line).collect();
                let mut command = self.command(place);
                command.arg(base).arg(concurrency.to_string());
                output(&format!("{self:?}"), &mut command, &input)
                    .lines()
                    .map(|line| {
                        serde_json::from_str(line).unwrap_or_else(|error| panic!("{self:?}: {error}: {line}"))
                    })
                    .collect()
            }
        };
        assert_eq!(calls.len(), plan.len(), "{self:?} did not make every request");
        calls
    }

    fn command(self, place: &Place) -> Command {
        match self {
            Self::Curl => place.command("curl"),
            Self::Requests | Self::Httpx => {
                let mut command = place.command(apps::python());
                command.arg(apps::sources().join("python/client.py"));
                command.arg(if self == Self::Requests { "requests" } else { "httpx" });
                command
            }
            Self::Node => {
                let mut command = place.command("node");
                command.arg(apps::node().join("client.mjs"));
                command
            }
            Self::Java => {
                let mut command = place.command("java");
                command.args(["-Xmx128m", "-cp"]).arg(apps::java()).arg("Client");
                command
            }
            Self::Go => place.command(apps::go().join("client")),
        }
    }
}

/// curl, with further lines of configuration for each request.
pub(crate) fn curl(
    place: &Place,
    base: &str,
    concurrency: usize,
    plan: &[Planned],
    options: &str,
) -> Vec<Call> {
    let bodies = TempDir::new().expect("a folder for bodies");
    let mut config = String::new();
    for (i, call) in plan.iter().enumerate() {
        if i > 0 {
            config.push_str("next\n");
        }
        writeln!(config, "url = \"{base}{}\"\noutput = /dev/null\nsilent\n{options}", call.path)
            .expect("a string takes all");
        config.push_str("write-out = \"%{method}\\t%{url_effective}\\t%{http_code}\\t%{size_upload}\\t");
        config.push_str("%{size_download}\\t%{time_total}\\n\"\n");
        match call.method {
            "GET" => {}
            "HEAD" => config.push_str("head\n"),
            method => writeln!(config, "request = {method}").expect("a string takes all"),
        }
        if call.body > 0 {
            let file = bodies.path().join(call.body.to_string());
            if !file.exists() {
                std::fs::write(&file, vec![b'b'; call.body]).expect("body");
            }
            writeln!(config, "data-binary = \"@{}\"", file.display()).expect("a string takes all");
        }
        if let Some(traceparent) = &call.traceparent {
            writeln!(config, "header = \"traceparent: {traceparent}\"").expect("a string takes all");
        }
    }
    let mut command = Client::Curl.command(place);
    command.args(["--disable", "--config", "-"]);
    if concurrency > 1 {
        command.args(["--parallel", "--parallel-immediate", "--parallel-max", &concurrency.to_string()]);
    }
    output("curl", &mut command, &config).lines().map(|line| curl_line(line, base)).collect()
}

fn curl_line(line: &str, base: &str) -> Call {
    let fields: Vec<&str> = line.split('\t').collect();
    let [method, url, status, sent, received, seconds] = fields[..] else { panic!("curl: {line:?}") };
    let seconds: f64 = seconds.parse().unwrap_or_else(|error| panic!("curl: {line:?}: {error}"));
    Call {
        method: method.into(),
        path: url.trim_start_matches(base).into(),
        status: status.parse().expect("status"),
        sent: sent.parse().expect("size"),
        received: if method == "HEAD" { 0 } else { received.parse().expect("size") },
        start: 0,
        end: (seconds * 1e9) as u64,
        pid: 0,
    }
}

/// What wrk did.
#[derive(Clone, Copy, Debug)]
pub struct Load {
    /// Requests that it counted as complete.
    pub requests: u64,
    /// Connections that it had open, each of which may have been cut within a request at the end.
    pub connections: u64,
}

/// Runs wrk for some seconds on one URL.
///
/// # Panics
/// When it fails or counts errors.
#[must_use]
pub fn wrk(url: &str, connections: u64, seconds: u32) -> Load {
    let mut command = Command::new("wrk");
    command.args(["-t1", &format!("-c{connections}"), &format!("-d{seconds}s"), url]).stdin(Stdio::null());
    let text = output("wrk", &mut command, "");
    assert!(!text.contains("Non-2xx") && !text.contains("Socket errors"), "{text}");
    let requests = text.lines().find_map(|line| line.split_once(" requests in")).expect("wrk's count").0;
    Load { requests: requests.trim().parse().expect("wrk's count"), connections }
}
