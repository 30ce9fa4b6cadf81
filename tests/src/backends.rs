//! Real backends for telemetry, as `cargo xtask backends` builds them, and the questions that they answer.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::gate;
use crate::processes::{PATIENCE, Process, free_port};
use crate::spans::{self, Span};

/// The OpenTelemetry Collector, which writes what it gets to a file.
pub struct Collector {
    /// It.
    pub process: Process,
    /// Its port for OTLP over gRPC.
    pub grpc: u16,
    /// Its port for OTLP over HTTP.
    pub http: u16,
    /// Where it writes to.
    pub file: PathBuf,
}

impl Collector {
    /// Starts it with its files in this folder.
    ///
    /// # Panics
    /// When it does not start.
    #[must_use]
    pub fn start(folder: &Path) -> Self {
        Self::on(folder, (free_port(), free_port()), None)
    }

    /// Starts it on these ports, with a certificate and its key where it should speak TLS.
    ///
    /// # Panics
    /// When it does not start.
    #[must_use]
    pub fn on(folder: &Path, (grpc, http): (u16, u16), tls: Option<(&Path, &Path)>) -> Self {
        let file = folder.join("received.jsonl");
        let tls = tls.map_or_else(String::new, |(certificate, key)| {
            format!(", tls: {{ cert_file: '{}', key_file: '{}' }}", certificate.display(), key.display())
        });
        let config = folder.join("collector.yaml");
        let text = format!(
            "receivers:
  otlp:
    protocols:
      grpc: {{ endpoint: '127.0.0.1:{grpc}'{tls} }}
      http: {{ endpoint: '127.0.0.1:{http}'{tls} }}
exporters:
  file: {{ path: '{}' }}
  debug: {{}}
service:
  telemetry: {{ metrics: {{ level: none }} }}
  pipelines:
    traces: {{ receivers: [otlp], exporters: [file, debug] }}
    metrics: {{ receivers: [otlp], exporters: [file, debug] }}
",
            file.display()
        );
        std::fs::write(&config, text).expect("configuration");
        let mut command = Command::new(gate::backend("SONDE_TEST_COLLECTOR"));
        let mut process =
            Process::start("otelcol", command.arg(format!("--config=file:{}", config.display())));
        process.wait_port(grpc);
        process.wait_port(http);
        Self { process, grpc, http, file }
    }
}

/// Prometheus, which scrapes Sonde and takes OTLP.
pub struct Prometheus {
    /// It.
    pub process: Process,
    /// Its port, for OTLP as well.
    pub port: u16,
}

/// One element of a vector that a query gave: its labels, and a number or a native histogram.
#[derive(Clone, Debug)]
pub struct Sample {
    /// Labels.
    pub labels: BTreeMap<String, String>,
    /// The number.
    pub value: f64,
    /// Buckets of a native histogram: above which value, up to which, how many.
    pub buckets: Vec<(f64, f64, f64)>,
}

impl Prometheus {
    /// Starts it with its files in this folder. It scrapes 127.0.0.1:`target` and labels what it got so with `via="scrape"`.
    ///
    /// # Panics
    /// When it does not start.
    #[must_use]
    pub fn start(folder: &Path, target: u16, native: bool) -> Self {
        let port = free_port();
        let config = folder.join("prometheus.yaml");
        let text = format!(
            "global: {{ scrape_interval: 1s }}
scrape_configs:
  - job_name: sonde
    honor_labels: true
    scrape_native_histograms: {native}
    always_scrape_classic_histograms: true
    static_configs: [{{ targets: ['127.0.0.1:{target}'], labels: {{ via: scrape }} }}]
"
        );
        std::fs::write(&config, text).expect("configuration");
        let mut command = Command::new(gate::backend("SONDE_TEST_PROMETHEUS"));
        command
            .arg(format!("--config.file={}", config.display()))
            .arg(format!("--storage.tsdb.path={}", folder.join("data").display()))
            .arg(format!("--web.listen-address=127.0.0.1:{port}"))
            .args(["--web.enable-otlp-receiver", "--enable-feature=exemplar-storage"]);
        let mut process = Process::start("prometheus", &mut command);
        process.wait_port(port);
        wait("Prometheus to be ready", || ask(port, "/-/ready").0 == 200);
        Self { process, port }
    }

    /// What a query gives now.
    ///
    /// # Panics
    /// When it is no query, or gives no vector.
    #[must_use]
    pub fn query(&self, query: &str) -> Vec<Sample> {
        let answer = self.api("query", &[("query", query)]);
        let result = answer["result"].as_array().expect("a vector");
        result.iter().map(sample).collect()
    }

    /// The labels of all exemplars of a selector.
    ///
    /// # Panics
    /// When there is no answer.
    #[must_use]
    pub fn exemplars(&self, selector: &str) -> Vec<BTreeMap<String, String>> {
        let (start, end) = ("2020-01-01T00:00:00Z", "2100-01-01T00:00:00Z");
        let answer = self.api("query_exemplars", &[("query", selector), ("start", start), ("end", end)]);
        let series = answer.as_array().expect("a list").iter();
        let exemplars = series.flat_map(|series| series["exemplars"].as_array().expect("a list").clone());
        exemplars.map(|exemplar| texts(&exemplar["labels"])).collect()
    }

    /// What went wrong with the last scrape; empty where nothing did.
    ///
    /// # Panics
    /// When there is no answer.
    #[must_use]
    pub fn scrape_error(&self) -> String {
        self.api("targets", &[])["activeTargets"][0]["lastError"].as_str().expect("a target").to_owned()
    }

    fn api(&self, what: &str, arguments: &[(&str, &str)]) -> Value {
        let arguments: Vec<String> =
            arguments.iter().map(|(name, value)| format!("{name}={}", encoded(value))).collect();
        let (status, body) = ask(self.port, &format!("/api/v1/{what}?{}", arguments.join("&")));
        assert_eq!(status, 200, "{what} {arguments:?}: {body}");
        let answer: Value = serde_json::from_str(&body).expect("JSON");
        answer["data"].clone()
    }
}

/// Jaeger, which keeps traces in memory.
pub struct Jaeger {
    /// It.
    pub process: Process,
    /// Its port for OTLP over gRPC.
    pub grpc: u16,
    /// Its port for OTLP over HTTP.
    pub http: u16,
    query: u16,
}

impl Jaeger {
    /// Starts it with its files in this folder.
    ///
    /// # Panics
    /// When it does not start.
    #[must_use]
    pub fn start(folder: &Path) -> Self {
        let [grpc, http, query, other] = [(); 4].map(|()| free_port());
        let config = folder.join("jaeger.yaml");
        let text = format!(
            "extensions:
  jaeger_storage: {{ backends: {{ memory: {{ memory: {{ max_traces: 100000 }} }} }} }}
  jaeger_query:
    storage: {{ traces: memory }}
    http: {{ endpoint: '127.0.0.1:{query}' }}
    grpc: {{ endpoint: '127.0.0.1:{other}' }}
receivers:
  otlp:
    protocols:
      grpc: {{ endpoint: '127.0.0.1:{grpc}' }}
      http: {{ endpoint: '127.0.0.1:{http}' }}
exporters:
  jaeger_storage_exporter: {{ trace_storage: memory }}
service:
  extensions: [jaeger_storage, jaeger_query]
  telemetry: {{ metrics: {{ level: none }} }}
  pipelines:
    traces: {{ receivers: [otlp], exporters: [jaeger_storage_exporter] }}
"
        );
        std::fs::write(&config, text).expect("configuration");
        let mut command = Command::new(gate::backend("SONDE_TEST_JAEGER"));
        let mut process = Process::start("jaeger", command.arg("--config").arg(&config));
        [grpc, http, query].iter().for_each(|port| process.wait_port(*port));
        Self { process, grpc, http, query }
    }

    /// The services that it knows.
    ///
    /// # Panics
    /// When there is no answer.
    #[must_use]
    pub fn services(&self) -> Vec<String> {
        let (status, body) = ask(self.query, "/api/v3/services");
        assert_eq!(status, 200, "{body}");
        let answer: Value = serde_json::from_str(&body).expect("JSON");
        let services = answer["services"].as_array().expect("a list").iter();
        services.map(|service| service.as_str().expect("a name").to_owned()).collect()
    }

    /// The spans of a trace, as its API for queries gives them.
    ///
    /// # Panics
    /// When there is no such trace.
    #[must_use]
    pub fn trace(&self, id: &str) -> Vec<Span> {
        let (status, body) = ask(self.query, &format!("/api/v3/traces/{id}"));
        assert_eq!(status, 200, "{body}");
        let answer: Value = serde_json::from_str(&body).expect("JSON");
        spans::from_object(&answer["result"].to_string())
    }
}

/// Status and body of a page.
///
/// # Panics
/// When nobody answers.
#[must_use]
pub fn ask(port: u16, path: &str) -> (u16, String) {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).expect("a listener");
    // HTTP/1.0 has no chunks: the body ends with the connection.
    write!(stream, "GET {path} HTTP/1.0\r\nHost: 127.0.0.1:{port}\r\n\r\n").expect("a request");
    let mut text = String::new();
    stream.read_to_string(&mut text).expect("an answer");
    let (head, body) = text.split_once("\r\n\r\n").expect("a head");
    let status = head.split(' ').nth(1).and_then(|status| status.parse().ok());
    (status.expect("a status"), body.to_owned())
}

/// Polls for what gives no event.
///
/// # Panics
/// When it does not come about.
pub fn wait(what: &str, there: impl FnMut() -> bool) {
    assert!(comes(there), "waited in vain for {what}");
}

/// The same for those who can say what came instead.
#[must_use]
pub fn comes(mut there: impl FnMut() -> bool) -> bool {
    let deadline = Instant::now() + PATIENCE;
    while !there() {
        if Instant::now() > deadline {
            return false;
        }
        thread::sleep(Duration::from_millis(50));
    }
    true
}

fn sample(one: &Value) -> Sample {
    let number = |value: &Value| value.as_str().and_then(|text| text.parse().ok()).unwrap_or(f64::NAN);
    let buckets = one["histogram"][1]["buckets"].as_array().into_iter().flatten();
    Sample {
        labels: texts(&one["metric"]),
        value: number(&one["value"][1]),
        buckets: buckets.map(|it| (number(&it[1]), number(&it[2]), number(&it[3]))).collect(),
    }
}

fn texts(object: &Value) -> BTreeMap<String, String> {
    let pairs = object.as_object().into_iter().flatten();
    pairs.map(|(name, value)| (name.clone(), value.as_str().unwrap_or_default().to_owned())).collect()
}

fn encoded(text: &str) -> String {
    text.bytes().map(|byte| format!("%{byte:02X}")).collect()
}
