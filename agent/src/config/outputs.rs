//! Where spans go, decided from flags and environment.

use std::path::PathBuf;
use std::str::FromStr;

use super::ConfigError;
use super::cli::OutputArgs;
use super::environment::Environment;
use super::otlp::{Batching, MetricReading, Otlp};
use super::reading::{Reading, Setting, Source};
use crate::telemetry::Signal;

/// One output.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum OutputSpec {
    /// Lines for people on standard output.
    Console,
    /// OTLP/JSON Lines on standard output, or appended to a file.
    Json(Option<PathBuf>),
    /// An OTLP endpoint.
    Otlp,
    /// Nowhere.
    None,
}

impl FromStr for OutputSpec {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match (text, text.split_once(':')) {
            ("console", _) => Ok(Self::Console),
            ("json", _) => Ok(Self::Json(None)),
            ("otlp", _) => Ok(Self::Otlp),
            ("none", _) => Ok(Self::None),
            (_, Some(("json", file))) if !file.is_empty() => Ok(Self::Json(Some(PathBuf::from(file)))),
            (_, Some(("json", _))) => Err("the file is missing: write json:spans.jsonl".to_owned()),
            (_, Some(("otlp", _))) => {
                Err("the endpoint comes from OTEL_EXPORTER_OTLP_ENDPOINT: write otlp alone".to_owned())
            }
            (_, Some(("console", _))) => {
                Err("console writes to standard output only: write json:FILE for a file".to_owned())
            }
            _ => Err("write console, json, json:FILE, otlp or none".to_owned()),
        }
    }
}

impl OutputSpec {
    fn uses_stdout(&self) -> bool {
        matches!(self, Self::Console | Self::Json(None))
    }
}

/// Everything that outputs need to start.
#[derive(Clone, Debug)]
pub struct OutputsConfig {
    /// The outputs, each once; empty for none.
    pub outputs: Vec<OutputSpec>,
    /// How to reach the endpoint for spans, where [`OutputSpec::Otlp`] is among the outputs.
    pub otlp: Option<Otlp>,
    /// The same for metrics.
    pub otlp_metrics: Option<Otlp>,
    /// When metrics are collected.
    pub metric_reading: MetricReading,
    /// Batches and queue of the OTLP output.
    pub batching: Batching,
    /// What happens when an output does not keep up.
    pub when_full: WhenFull,
    /// No colours, also on a terminal: `NO_COLOR` is set or `TERM` is `dumb`.
    pub plain: bool,
}

/// What happens when spans are made faster than an output takes them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum WhenFull {
    /// The oldest are dropped and counted: observing must not wait.
    #[default]
    Drop,
    /// Whoever makes them waits: a replay has all the time.
    Wait,
}

/// Outputs as resolved from flags and environment, with what there is to say of it.
#[derive(Clone, Debug)]
pub struct Resolved {
    /// The outputs.
    pub outputs: OutputsConfig,
    /// Every value with its source.
    pub settings: Vec<Setting>,
    /// Values that were ignored, one sentence each.
    pub warnings: Vec<String>,
}

impl Resolved {
    /// Decides where spans go.
    ///
    /// # Errors
    /// When outputs exclude each other or the endpoint is unusable.
    pub fn new(args: &OutputArgs, environment: &Environment) -> Result<Self, ConfigError> {
        let mut reading = Reading::new(environment);
        let (chosen, source) = choose(args, &mut reading);
        let outputs = consistent(chosen)?;
        let shown: Vec<String> = outputs.iter().map(ToString::to_string).collect();
        reading.note("outputs", if shown.is_empty() { "none".to_owned() } else { shown.join(",") }, source);

        let mut otlp_of = |signal| {
            let wanted = outputs.contains(&OutputSpec::Otlp);
            match wanted.then(|| reading.otlp(signal)).transpose() {
                Ok(otlp) => Ok(otlp),
                Err(why) => {
                    reading.problems.extend(environment.located(why)?);
                    Ok(None)
                }
            }
        };
        let (otlp, otlp_metrics) = (otlp_of(Signal::Traces)?, otlp_of(Signal::Metrics)?);
        let batching = if otlp.is_some() { reading.batching() } else { Batching::default() };
        let metric_reading = if otlp.is_some() { reading.metric_reading() } else { MetricReading::default() };
        let plain = environment.text("NO_COLOR").is_some() || environment.text("TERM") == Some("dumb");
        let Reading { environment: _, mut warnings, settings, problems } = reading;
        if !problems.is_empty() {
            return Err(ConfigError::Problems(problems));
        }
        // A general variable is read for each signal.
        let mut said = std::collections::BTreeSet::new();
        warnings.retain(|warning| said.insert(warning.clone()));
        Ok(Self {
            outputs: OutputsConfig {
                outputs,
                otlp,
                otlp_metrics,
                metric_reading,
                batching,
                when_full: WhenFull::default(),
                plain,
            },
            settings,
            warnings,
        })
    }
}

/// Flags, else `OTEL_SDK_DISABLED`, else `OTEL_TRACES_EXPORTER`, else the key `outputs`, else what the presence of an
/// endpoint says.
fn choose(args: &OutputArgs, reading: &mut Reading<'_>) -> (Vec<OutputSpec>, Source) {
    let environment = reading.environment;
    let disabled = environment.boolean("OTEL_SDK_DISABLED", &mut reading.warnings);
    if !args.outputs.is_empty() {
        return (args.outputs.clone(), Source::Flag("--output"));
    }
    if disabled {
        reading
            .warnings
            .push("OTEL_SDK_DISABLED is true: no spans are put out; --output would override it".to_owned());
        return (vec![OutputSpec::None], Source::Variable("OTEL_SDK_DISABLED"));
    }
    let exporter = "OTEL_TRACES_EXPORTER";
    if let Some(list) = environment.text(exporter) {
        let mut outputs = Vec::new();
        for name in list.split(',').map(str::trim).filter(|name| !name.is_empty()) {
            match name {
                "otlp" => outputs.push(OutputSpec::Otlp),
                "console" => outputs.push(OutputSpec::Console),
                "otlp/stdout" => outputs.push(OutputSpec::Json(None)),
                "none" => outputs.push(OutputSpec::None),
                _ => reading
                    .warnings
                    .push(format!("{exporter}: {name} is ignored: write otlp, console, otlp/stdout or none")),
            }
        }
        if !outputs.is_empty() {
            return (outputs, Source::Variable(exporter));
        }
    }
    let key = "SONDE_OUTPUTS";
    if environment.text(key).is_some() {
        // Noted with the others once they are known to go together.
        let outputs = reading.list("outputs", key, &[]);
        reading.settings.pop();
        if !outputs.is_empty() {
            return (outputs, Source::Variable(key));
        }
    }
    match environment.first(&["OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT"]) {
        Some((name, _)) => (vec![OutputSpec::Otlp], Source::Variable(name)),
        None => (vec![OutputSpec::Console], Source::Default),
    }
}

/// Each output once, `none` alone, and standard output for one of them only.
fn consistent(chosen: Vec<OutputSpec>) -> Result<Vec<OutputSpec>, ConfigError> {
    let mut outputs: Vec<OutputSpec> = Vec::with_capacity(chosen.len());
    for output in chosen {
        if !outputs.contains(&output) {
            outputs.push(output);
        }
    }
    if outputs.contains(&OutputSpec::None) && outputs.len() > 1 {
        return Err(ConfigError::Outputs {
            problem: "output none goes with no other output".to_owned(),
            hint: "leave out none, or the others".to_owned(),
        });
    }
    if outputs.iter().filter(|output| output.uses_stdout()).count() > 1 {
        return Err(ConfigError::Outputs {
            problem: "console and json both write to standard output".to_owned(),
            hint: "write json:FILE to have the JSON lines in a file".to_owned(),
        });
    }
    outputs.retain(|output| *output != OutputSpec::None);
    Ok(outputs)
}

impl std::fmt::Display for OutputSpec {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Console => f.write_str("console"),
            Self::Json(None) => f.write_str("json"),
            Self::Json(Some(file)) => write!(f, "json:{}", file.display()),
            Self::Otlp => f.write_str("otlp"),
            Self::None => f.write_str("none"),
        }
    }
}

#[cfg(test)]
#[path = "outputs_tests.rs"]
mod tests;
