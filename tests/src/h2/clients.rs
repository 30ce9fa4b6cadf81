//! Real clients over HTTP/2 without TLS: each makes the requests it is given and tells what it did.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::{Command, Stdio};

use serde_json::Value;
use tempfile::TempDir;

use crate::apps;
use crate::calls::{Call, Planned};
use crate::clients::curl;
use crate::namespaces::Place;
use crate::processes::output;

/// A client program.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Client {
    /// curl that begins with HTTP/2, each request on its own connection.
    Curl,
    /// curl that upgrades each connection by its first request.
    CurlUpgrade,
    /// nghttp, with more arguments: all requests at once, one connection for each method and size of body.
    Nghttp(&'static [&'static str]),
    /// Go's `net/http`.
    Go,
    /// Python's httpx.
    Httpx,
    /// Node's `http2`.
    Node,
    /// `java.net.http.HttpClient`, which upgrades.
    Java,
}

impl Client {
    /// Makes the requests, at most so many at once.
    ///
    /// # Panics
    /// When the client fails or does not tell of each request.
    #[must_use]
    pub fn run(self, base: &str, concurrency: usize, plan: &[Planned]) -> Vec<Call> {
        let calls = match self {
            // Debian's curl (7.88) fails where it uses such a connection again: so many at once, each on its own.
            Self::Curl => plan
                .chunks(concurrency)
                .flat_map(|part| curl(&Place::default(), base, part.len(), part, "http2-prior-knowledge"))
                .collect(),
            Self::CurlUpgrade => curl(&Place::default(), base, concurrency, plan, "http2"),
            Self::Nghttp(args) => nghttp(base, plan, args),
            _ => {
                let input: String = plan.iter().map(Planned::line).collect();
                let mut command = self.command("client");
                command.args([base, &concurrency.to_string()]);
                lines(&output(&format!("{self:?}"), &mut command, &input))
            }
        };
        assert_eq!(calls.len(), plan.len(), "{self:?} did not make every request");
        calls
    }

    /// It, in a mode of its own.
    ///
    /// # Panics
    /// For those that have none.
    #[must_use]
    pub fn command(self, mode: &str) -> Command {
        let mut command = match self {
            Self::Go => Command::new(apps::go_h2()),
            Self::Httpx => {
                let mut command = Command::new(apps::python());
                command.arg(apps::sources().join("python/h2_client.py"));
                command
            }
            Self::Node => {
                let mut command = Command::new("node");
                command.arg(apps::sources().join("node/h2_client.mjs"));
                command
            }
            Self::Java => {
                let mut command = Command::new("java");
                command.args(["-Xmx128m", "-cp"]).arg(apps::java()).arg("H2Client");
                command
            }
            Self::Curl | Self::CurlUpgrade | Self::Nghttp(_) => panic!("{self:?} has no modes"),
        };
        command.arg(mode);
        command
    }
}

fn lines(text: &str) -> Vec<Call> {
    let told = |line| serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"));
    text.lines().map(told).collect()
}

/// All requests of one method and size of body go over one connection, at once.
fn nghttp(base: &str, plan: &[Planned], args: &[&str]) -> Vec<Call> {
    let folder = TempDir::new().expect("folder");
    let mut groups: BTreeMap<(&str, usize), Vec<&Planned>> = BTreeMap::new();
    for call in plan {
        groups.entry((call.method, call.body)).or_default().push(call);
    }
    let mut calls = Vec::new();
    for ((method, body), group) in groups {
        let (har, upload) = (folder.path().join("har.json"), folder.path().join("upload"));
        let mut command = Command::new("nghttp");
        command.args(["--null-out", "--no-verify-peer"]).args(args).arg("--har").arg(&har);
        command.args(["-H", &format!(":method: {method}")]);
        if body > 0 {
            std::fs::write(&upload, vec![b'b'; body]).expect("body");
            command.arg("--data").arg(&upload);
        }
        command.args(group.iter().map(|call| format!("{base}{}", call.path)));
        output("nghttp", &mut command, "");
        // What the server pushes is there as well, and nobody asked for it.
        let is_asked_for = |told: &Call| group.iter().any(|call| call.path == told.path);
        calls.extend(archived(&har, base, body).into_iter().filter(is_asked_for));
    }
    calls
}

/// The requests that an HTTP archive tells of.
fn archived(har: &Path, base: &str, sent: usize) -> Vec<Call> {
    let text = std::fs::read_to_string(har).expect("nghttp writes its archive");
    let archive: Value = serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error}: {text}"));
    let entries = archive["log"]["entries"].as_array().expect("entries");
    let told = |entry: &Value| Call {
        method: entry["request"]["method"].as_str().expect("method").into(),
        path: entry["request"]["url"].as_str().expect("url").trim_start_matches(base).into(),
        status: entry["response"]["status"].as_u64().and_then(|code| code.try_into().ok()).expect("status"),
        sent: sent as u64,
        received: entry["response"]["content"]["size"].as_u64().expect("size"),
        start: 0,
        end: 0,
        pid: 0,
    };
    entries.iter().map(told).collect()
}

/// Runs h2load on paths, each connection asking for the first so many of them.
///
/// # Panics
/// When it fails, or not every request is answered.
pub fn h2load(base: &str, connections: usize, streams: usize, paths: &[String]) {
    let folder = TempDir::new().expect("folder");
    let list = folder.path().join("paths");
    let urls: String = paths.iter().map(|path| format!("{base}{path}\n")).collect();
    std::fs::write(&list, urls).expect("list");
    let count = paths.len() * connections;
    let mut command = Command::new("h2load");
    command.args(["-t1", "-c", &connections.to_string(), "-m", &streams.to_string()]);
    command.args(["-n", &count.to_string(), "-i"]).arg(&list).stdin(Stdio::null());
    let text = output("h2load", &mut command, "");
    let all = format!("{count} total, {count} started, {count} done");
    assert!(text.contains(&all) && text.contains(" 0 errored, 0 timeout"), "{text}");
}
