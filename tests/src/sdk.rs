//! Applications that OpenTelemetry's SDKs trace, unmodified but for how they are started.

use std::process::Command;

use crate::apps;
use crate::processes::{Process, free_port};

/// One of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sdk {
    /// Flask and requests, instrumented by `opentelemetry-instrument`, in two workers that gunicorn has forked.
    Python,
    /// `node:http`, instrumented by `@opentelemetry/auto-instrumentations-node`.
    Node,
    /// `net/http` with otelhttp.
    Go,
}

/// It, listening.
pub struct Traced {
    /// Its processes.
    pub process: Process,
    /// Its port.
    pub port: u16,
    /// How many of its processes serve requests.
    pub workers: usize,
}

impl Sdk {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Python, Self::Node, Self::Go];

    /// Starts it as the service `app`, which calls `next` and exports to the receiver at a port over this protocol, with more
    /// variables.
    #[must_use]
    pub fn start(self, next: &str, (receiver, protocol): (u16, &str), more: &[(&str, &str)]) -> Traced {
        let port = free_port();
        let (mut command, workers) = match self {
            Self::Python => {
                let bin = apps::python_sdk();
                let mut command = Command::new(bin.join("opentelemetry-instrument"));
                command.arg(bin.join("gunicorn")).args(["--no-control-socket", "--timeout", "120"]);
                command.args(["--worker-class", "sync", "--workers", "2", "--bind"]);
                command.arg(format!("127.0.0.1:{port}")).arg("flask_app:app");
                command.current_dir(apps::sources().join("python"));
                (command, 2)
            }
            Self::Node => {
                let mut command = Command::new("node");
                command.args([
                    "--require",
                    "@opentelemetry/auto-instrumentations-node/register",
                    "server.cjs",
                ]);
                command.arg(port.to_string()).current_dir(apps::node_sdk());
                command.env("OTEL_NODE_ENABLED_INSTRUMENTATIONS", "http");
                (command, 1)
            }
            Self::Go => {
                let mut command = Command::new(apps::go_sdk());
                command.arg(port.to_string());
                (command, 1)
            }
        };
        command.env("NEXT", next).env("OTEL_SERVICE_NAME", "app");
        command.env("OTEL_EXPORTER_OTLP_ENDPOINT", format!("http://127.0.0.1:{receiver}"));
        command.env("OTEL_EXPORTER_OTLP_PROTOCOL", protocol).env("OTEL_EXPORTER_OTLP_INSECURE", "true");
        command.env("OTEL_TRACES_EXPORTER", "otlp").env("OTEL_METRICS_EXPORTER", "none");
        command.env("OTEL_LOGS_EXPORTER", "none").env("OTEL_BSP_SCHEDULE_DELAY", "100");
        command.env("OTEL_SEMCONV_STABILITY_OPT_IN", "http").envs(more.iter().copied());
        let mut process = Process::start(&format!("{self:?} with an SDK"), &mut command);
        process.wait_port(port);
        Traced { process, port, workers }
    }
}

impl Traced {
    /// Base URL on the loopback address.
    #[must_use]
    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }
}
