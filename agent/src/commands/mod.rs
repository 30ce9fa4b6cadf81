//! The commands of `sonde`, one file each.

use std::io::IsTerminal;
use std::path::Path;
use std::process::ExitCode;

use tracing::{error, warn};
use tracing_subscriber::EnvFilter;

use crate::capture::CaptureError;
use crate::config::{Cli, Command, Config, ConfigError, Environment, LogFormat, RunArgs};
use crate::export::OutputError;
use crate::kernel::{Features, Refusal};
use crate::probe::{ProbeError, may_have_perf_events};
use crate::replay::RecordingError;

mod config;
pub mod doctor;
mod live;
mod observe;
mod record;
mod reload;
mod replay;

/// What ended a command early. The exit code is part of the contract: 1 failed while running, 2 wrong arguments or
/// configuration, 3 this kernel or these privileges cannot do it.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// The configuration cannot be followed.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// Kernel or privileges.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// The kernel did not take the programs.
    #[error("the kernel did not take Sonde's programs: {0}\n  `sonde doctor` says what this kernel allows")]
    Probe(#[from] ProbeError),
    /// An output.
    #[error(transparent)]
    Output(#[from] OutputError),
    /// A recording cannot be read or written.
    #[error("{path}: {source}")]
    Recording {
        /// The file.
        path: std::path::PathBuf,
        /// Why.
        source: RecordingError,
    },
    /// A capture cannot be read.
    #[error("{path}: {source}")]
    Capture {
        /// The file.
        path: std::path::PathBuf,
        /// Why.
        source: CaptureError,
    },
    /// A file cannot be replayed at all.
    #[error("{path}: {what}")]
    Replay {
        /// The file.
        path: std::path::PathBuf,
        /// Why.
        what: String,
    },
    /// Something that needs consent was not consented to.
    #[error("{0}")]
    Refusing(String),
    /// Threads, signals.
    #[error("{what}: {source}")]
    System {
        /// What was being done.
        what: &'static str,
        /// Why it failed.
        source: std::io::Error,
    },
}

impl Failure {
    const fn exit_code(&self) -> u8 {
        match self {
            Self::Recording { .. }
            | Self::Capture { .. }
            | Self::Replay { .. }
            | Self::System { .. }
            | Self::Output(OutputError::Otlp(_) | OutputError::Thread(_)) => 1,
            Self::Config(_) | Self::Output(_) | Self::Refusing(_) => 2,
            Self::Refused(_) | Self::Probe(_) => 3,
        }
    }
}

/// Runs a command to its end.
#[must_use]
pub fn run(cli: Cli) -> ExitCode {
    log_to_stderr(&cli.log, cli.log_format);
    let file = cli.config.as_deref();
    let outcome = match cli.command {
        Command::Run(args) => observe::run(&args, file),
        Command::Record(args) => record::run(&args, file),
        Command::Replay(args) => replay::run(&args, file),
        Command::Doctor(args) => return doctor::doctor(args.json, file),
        Command::Config(args) => config::run(&args.action, file),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            match cli.log_format {
                LogFormat::Text => eprintln!("sonde: {failure}"),
                LogFormat::Json => error!("{failure}"),
            }
            ExitCode::from(failure.exit_code())
        }
    }
}

/// The configuration in effect; says what of it is to be taken note of.
fn configure(args: &RunArgs, file: Option<&Path>) -> Result<Config, Failure> {
    let config = Config::new(args, &Environment::with_config(file)?)?;
    for warning in &config.warnings {
        warn!("{warning}");
    }
    Ok(config)
}

/// Looks at the running kernel, and asks whether it gives this process what it would be used for.
fn features() -> Features {
    let mut features = Features::detect();
    if features.wants_perf_events()
        && let Err(why) = may_have_perf_events()
    {
        features.perf_events = Err(format!("perf_event_open(2): {why}"));
    }
    features
}

fn log_to_stderr(filter: &str, format: LogFormat) {
    let colours =
        std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
    let lines = tracing_subscriber::fmt()
        .with_writer(std::io::stderr)
        .with_target(false)
        .with_env_filter(EnvFilter::new(filter));
    match format {
        LogFormat::Text => lines.with_ansi(colours).init(),
        LogFormat::Json => {
            lines.json().flatten_event(true).with_current_span(false).with_span_list(false).init();
        }
    }
}
