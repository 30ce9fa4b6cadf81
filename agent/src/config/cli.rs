//! The command line.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};
use tracing_subscriber::EnvFilter;

use crate::capture::Perspective;
use crate::kernel::HookChoice;
use crate::span::OnSdk;

use super::metrics::Listen;
use super::outputs::OutputSpec;
use super::targets::{ExeGlob, PortSet, Ports, ServiceGlob, Targets};

/// What Sonde says of itself unless told otherwise.
const DEFAULT_LOG: &str = "info";

/// Turns what unmodified processes say to each other into OpenTelemetry spans.
#[derive(Debug, Parser)]
#[command(name = "sonde", version, max_term_width = 110)]
pub struct Cli {
    /// What Sonde says of itself on standard error: a level (error, warn, info, debug, trace) or tracing directives
    #[arg(long, global = true, env = "SONDE_LOG", hide_env_values = true)]
    #[arg(value_name = "FILTER", default_value = DEFAULT_LOG, value_parser = log_filter)]
    pub log: String,
    /// How it says that: text, or json for a JSON object a line
    #[arg(long, global = true, env = "SONDE_LOG_FORMAT", hide_env_values = true)]
    #[arg(value_name = "text|json", default_value = "text", value_parser = log_format)]
    pub log_format: LogFormat,
    /// Configuration file (YAML); flags and environment variables win over it
    #[arg(long, global = true, env = "SONDE_CONFIG", value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// How log lines are written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LogFormat {
    /// For people.
    #[default]
    Text,
    /// A JSON object a line.
    Json,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Observe processes and export their spans
    Run(RunArgs),
    /// Write what the kernel sends to a file, payloads included
    Record(RecordArgs),
    /// Run a recording or a packet capture through the same pipeline, without privileges
    Replay(ReplayArgs),
    /// Say what this kernel and these privileges allow, and why not more
    Doctor(DoctorArgs),
    /// Show or check the configuration
    Config(ConfigArgs),
}

/// `sonde run`.
#[derive(Clone, Debug, Default, Args)]
pub struct RunArgs {
    /// Whom to observe.
    #[command(flatten)]
    pub targets: TargetArgs,
    /// Where spans go.
    #[command(flatten)]
    pub outputs: OutputArgs,
    /// What becomes telemetry.
    #[command(flatten)]
    pub policy: PolicyArgs,
    /// How to hook into the kernel.
    #[command(flatten)]
    pub hooks: HookArgs,
}

/// `sonde record`.
#[derive(Debug, Args)]
pub struct RecordArgs {
    /// File to write; an existing one is replaced
    #[arg(value_name = "FILE")]
    pub file: PathBuf,
    /// Record without asking: the file will hold requests and responses as they were, with everything that is secret in them
    #[arg(long)]
    pub yes: bool,
    /// Whom to observe.
    #[command(flatten)]
    pub targets: TargetArgs,
    /// How to hook into the kernel.
    #[command(flatten)]
    pub hooks: HookArgs,
}

/// `sonde replay`.
#[derive(Debug, Args)]
pub struct ReplayArgs {
    /// A recording made by `sonde record`, or a pcap or pcapng capture; either may be packed by gzip
    #[arg(value_name = "FILE")]
    pub file: PathBuf,
    /// Captures: whose spans to make; client unless told otherwise
    #[arg(long, value_enum)]
    pub perspective: Option<Perspective>,
    /// Where spans go.
    #[command(flatten)]
    pub outputs: OutputArgs,
    /// What becomes telemetry.
    #[command(flatten)]
    pub policy: PolicyArgs,
}

/// `sonde doctor`.
#[derive(Debug, Args)]
pub struct DoctorArgs {
    /// Print one JSON object instead of text
    #[arg(long)]
    pub json: bool,
}

/// `sonde config`.
#[derive(Debug, Args)]
pub struct ConfigArgs {
    /// What to show.
    #[command(subcommand)]
    pub action: ConfigAction,
}

/// What `sonde config` does.
#[derive(Debug, Subcommand)]
pub enum ConfigAction {
    /// Print the effective configuration with where each value comes from; secrets are masked
    Print(RunArgs),
    /// Check a configuration file without running anything; what is wrong is told with its line
    Check(CheckArgs),
}

/// `sonde config check`.
#[derive(Debug, Args)]
pub struct CheckArgs {
    /// The file to check
    #[arg(value_name = "FILE")]
    pub file: PathBuf,
}

/// Flags that choose whom to observe.
#[derive(Clone, Debug, Default, Args)]
#[command(next_help_heading = "Targets (several kinds together: either suffices; none: every process)")]
pub struct TargetArgs {
    /// Connections with one of these ports at either end, such as 8080 or 80,443,8000-8100
    #[arg(long = "port", value_name = "LIST|RANGE")]
    ports: Vec<Ports>,
    /// Processes whose program matches: its file name, or its whole path where the pattern holds a '/'
    #[arg(long = "exe", value_name = "GLOB")]
    exes: Vec<ExeGlob>,
    /// Processes by id
    #[arg(long = "pid", value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pids: Vec<u32>,
    /// Processes whose service.name matches
    #[arg(long = "service", value_name = "GLOB")]
    services: Vec<ServiceGlob>,
}

impl TargetArgs {
    /// Joins repeated flags.
    #[must_use]
    pub fn targets(&self) -> Targets {
        Targets {
            ports: self.ports.iter().collect::<PortSet>(),
            exes: self.exes.clone(),
            pids: self.pids.clone(),
            services: self.services.clone(),
        }
    }
}

/// Flags that choose where spans go.
#[derive(Clone, Debug, Default, Args)]
#[command(next_help_heading = "Outputs")]
pub struct OutputArgs {
    /// Where spans go: console, json, json:FILE, otlp or none; may be given several times
    ///
    /// Without it: OTEL_TRACES_EXPORTER, else otlp where OTEL_EXPORTER_OTLP_ENDPOINT or OTEL_EXPORTER_OTLP_TRACES_ENDPOINT
    /// is set, else console. `json` writes OTLP/JSON Lines to standard output, `json:FILE` appends them to a file.
    #[arg(long = "output", value_name = "console|json[:FILE]|otlp|none")]
    pub outputs: Vec<OutputSpec>,
    /// Answer /metrics (for Prometheus), /healthz and /readyz here: a port of this machine, or an address and a port
    #[arg(long, value_name = "[ADDR:]PORT")]
    pub listen: Option<Listen>,
}

/// Flags that choose what becomes telemetry.
#[derive(Clone, Copy, Debug, Default, Args)]
#[command(next_help_heading = "Telemetry")]
pub struct PolicyArgs {
    /// Of applications that trace themselves: skip what they export (the default), make metrics_only, or keep everything
    #[arg(long, value_name = "skip|metrics_only|keep", value_parser = on_sdk)]
    pub on_sdk: Option<OnSdk>,
}

/// Flags that choose how to hook into the kernel.
#[derive(Clone, Copy, Debug, Default, Args)]
#[command(next_help_heading = "Kernel")]
pub struct HookArgs {
    /// Which kernel hooks to use; auto, the default, takes the cheapest that this kernel has
    #[arg(long, value_enum)]
    pub hooks: Option<HookChoice>,
}

/// What becomes of the telemetry of applications that make their own, by its name.
pub(super) fn on_sdk(text: &str) -> Result<OnSdk, &'static str> {
    let found = OnSdk::ALL.into_iter().find(|(name, _)| *name == text);
    found.map(|(_, on_sdk)| on_sdk).ok_or("write skip, metrics_only or keep")
}

fn log_format(text: &str) -> Result<LogFormat, String> {
    match text.trim() {
        "" | "text" => Ok(LogFormat::Text),
        "json" => Ok(LogFormat::Json),
        _ => Err("write text or json".to_owned()),
    }
}

fn log_filter(text: &str) -> Result<String, String> {
    let text = if text.trim().is_empty() { DEFAULT_LOG } else { text };
    match EnvFilter::builder().parse(text) {
        Ok(_) => Ok(text.to_owned()),
        Err(_) => Err("write a level (error, warn, info, debug, trace), or directives such as \
                       info,sonde::probe=debug"
            .to_owned()),
    }
}
