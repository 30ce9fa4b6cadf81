//! What the user asked for: the command line and the environment, as types that hold nothing invalid.
//!
//! Flags beat environment beats file beats default. A bad flag, and whatever is bad in the file, ends with exit code 2 and a hint. A bad value in an `OTEL_*` variable
//! is warned of and ignored where the specification says so ("Environment Variable Specification"), and an error where
//! going on would send spans somewhere else than the user wrote.

mod cli;
mod effective;
mod environment;
mod file;
mod keys;
mod metrics;
mod otlp;
mod outputs;
mod policy;
mod reading;
mod targets;

pub use cli::{
    CheckArgs, Cli, Command, ConfigAction, ConfigArgs, DoctorArgs, HookArgs, LogFormat, OutputArgs,
    PolicyArgs, RecordArgs, ReplayArgs, RunArgs,
};
pub use effective::Config;
pub use environment::Environment;
pub use file::{Document, Entry, Problem};
pub use keys::{KEYS, Key, Kind, Reload};
pub use metrics::{Listen, MetricsConfig};
pub use otlp::{Batching, ClientIdentity, Compression, Endpoint, MetricReading, Otlp, Protocol};
pub use outputs::{OutputSpec, OutputsConfig, Resolved, WhenFull};
pub use reading::{Setting, Source};
pub use targets::{ExeGlob, PortSet, Ports, ServiceGlob, Targets};

/// A configuration that cannot be followed. Ends with exit code 2.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// An environment variable holds something unusable.
    #[error("{name}={value}: {problem}\n  hint: {hint}")]
    Variable {
        /// Its name.
        name: String,
        /// Its value, as far as it is no secret.
        value: String,
        /// What is wrong.
        problem: String,
        /// What to write instead.
        hint: String,
    },
    /// Places in the configuration file, or in variables of Sonde's own, all that were found.
    #[error("{}", lines(.0))]
    Problems(Vec<Problem>),
    /// A point of view on a recording.
    #[error(
        "--perspective is for captures: a recording of Sonde holds each end of a connection that it saw\n  \
         hint: leave --perspective out"
    )]
    Perspective,
    /// Outputs that exclude each other.
    #[error("{problem}\n  hint: {hint}")]
    Outputs {
        /// What is wrong.
        problem: String,
        /// What to write instead.
        hint: String,
    },
}

fn lines(problems: &[Problem]) -> String {
    problems.iter().map(Problem::to_string).collect::<Vec<_>>().join("\n")
}
