//! The effective configuration: flags, environment and file put together, with the source of every value.

use std::path::Path;
use std::str::FromStr;
use std::sync::Arc;

use super::cli::{HookArgs, OutputArgs, TargetArgs};
use super::environment::Environment;
use super::file::Document;
use super::outputs::{OutputsConfig, Resolved};
use super::reading::{Reading, Setting, Source};
use super::targets::{ExeGlob, PortSet, Ports, ServiceGlob, Targets};
use super::{ConfigError, RunArgs};
use crate::kernel::HookChoice;
use crate::policy::Policy;

/// Everything that a run needs to know.
#[derive(Clone, Debug)]
pub struct Config {
    /// Whom to observe.
    pub targets: Targets,
    /// How to hook into the kernel.
    pub hooks: HookChoice,
    /// Where spans go.
    pub outputs: OutputsConfig,
    /// What becomes telemetry.
    pub policy: Policy,
    /// Every value with its source, in the order of the annotated file.
    pub settings: Vec<Setting>,
    /// Values that were ignored, one sentence each.
    pub warnings: Vec<String>,
}

impl Environment {
    /// This process's environment, and the configuration file that the flag or `SONDE_CONFIG` names behind it.
    ///
    /// # Errors
    /// When the file cannot be read or followed.
    pub fn with_config(file: Option<&Path>) -> Result<Self, ConfigError> {
        let document = file.map(Document::read).transpose().map_err(ConfigError::Problems)?;
        Ok(Self::of_process().with_file(document.map(Arc::new)))
    }
}

impl Config {
    /// Puts everything together.
    ///
    /// # Errors
    /// When something cannot be followed: see [`ConfigError`].
    pub fn new(args: &RunArgs, environment: &Environment) -> Result<Self, ConfigError> {
        let mut reading = Reading::new(environment);
        let targets = targets(&args.targets, &mut reading);
        let hooks = hooks(&args.hooks, &mut reading);
        let outputs = Resolved::new(&args.outputs, environment);
        let mut after = Reading::new(environment);
        let policy = after.policy(&args.policy);
        let Reading { environment: _, mut warnings, mut settings, mut problems } = reading;
        problems.append(&mut after.problems);
        let resolved = match outputs {
            Ok(resolved) => Some(resolved),
            Err(why) => {
                problems.extend(environment.located(why)?);
                None
            }
        };
        problems.extend(unread(environment));
        problems.sort_by_key(|problem| problem.line);
        problems.dedup();
        let Some(Resolved { outputs, settings: of_outputs, warnings: more }) =
            resolved.filter(|_| problems.is_empty())
        else {
            return Err(ConfigError::Problems(problems));
        };
        settings.extend(of_outputs);
        settings.extend(after.settings);
        warnings.extend(more);
        warnings.extend(after.warnings);
        Ok(Self { targets, hooks, outputs, policy, settings, warnings })
    }

    /// Whom to observe and how, for a command without outputs.
    ///
    /// # Errors
    /// Those of [`Config::new`].
    pub fn observing(
        targets: &TargetArgs,
        hooks: &HookArgs,
        environment: &Environment,
    ) -> Result<Self, ConfigError> {
        let outputs = OutputArgs { outputs: vec![super::OutputSpec::None], listen: None };
        let args = RunArgs { targets: targets.clone(), hooks: *hooks, outputs, ..RunArgs::default() };
        Self::new(&args, environment)
    }

    /// What `sonde config print` shows: `name: value` lines with their sources as comments.
    #[must_use]
    pub fn print(&self) -> String {
        let width =
            self.settings.iter().map(|setting| setting.name.len() + setting.value.len()).max().unwrap_or(0);
        // A long value stands out rather than pushing every comment to the right.
        let width = width.min(80);
        let mut text = String::new();
        for Setting { name, value, source } in &self.settings {
            let pad = width.saturating_sub(name.len() + value.len()) + 2;
            text.push_str(&format!("{name}: {value}{:pad$}# {source}\n", ""));
        }
        for warning in &self.warnings {
            text.push_str(&format!("# warning: {warning}\n"));
        }
        text
    }
}

/// Problems in sections of the file that this run does not use: they would show only when it does.
fn unread(environment: &Environment) -> Vec<super::Problem> {
    let Some(file) = environment.of_file() else { return Vec::new() };
    let everything = OutputArgs { outputs: vec![super::OutputSpec::Otlp], listen: None };
    match Resolved::new(&everything, &file) {
        Ok(_) => Vec::new(),
        Err(why) => file.located(why).unwrap_or_default(),
    }
}

/// Targets that flags name replace those of the environment and the file: who names one means that one.
fn targets(args: &TargetArgs, reading: &mut Reading<'_>) -> Targets {
    let named = args.targets();
    if !named.is_everything() {
        show_targets(&named, reading);
        return named;
    }
    let ports: Vec<Ports> = reading.list("targets.ports", "SONDE_TARGETS_PORTS", &[]);
    let exes: Vec<ExeGlob> = reading.list("targets.exes", "SONDE_TARGETS_EXES", &[]);
    let pids: Vec<Pid> = reading.list("targets.pids", "SONDE_TARGETS_PIDS", &[]);
    let services: Vec<ServiceGlob> = reading.list("targets.services", "SONDE_TARGETS_SERVICES", &[]);
    for setting in &mut reading.settings {
        if setting.value == "none" && setting.name.starts_with("targets.") {
            "any".clone_into(&mut setting.value);
        }
    }
    let pids = pids.into_iter().map(|Pid(pid)| pid).collect();
    Targets { ports: ports.iter().collect::<PortSet>(), exes, pids, services }
}

fn show_targets(targets: &Targets, reading: &mut Reading<'_>) {
    let Targets { ports, exes, pids, services } = targets;
    let ports = ports
        .ranges()
        .iter()
        .map(|(low, high)| if low == high { low.to_string() } else { format!("{low}-{high}") })
        .collect();
    let exes = exes.iter().map(|exe| exe.pattern().to_owned()).collect();
    let services = services.iter().map(|service| service.pattern().to_owned()).collect();
    let pids = pids.iter().map(u32::to_string).collect();
    let rows: [(&'static str, Vec<String>, &'static str); 4] = [
        ("targets.ports", ports, "--port"),
        ("targets.exes", exes, "--exe"),
        ("targets.pids", pids, "--pid"),
        ("targets.services", services, "--service"),
    ];
    for (name, values, flag) in rows {
        match values.is_empty() {
            true => reading.note(name, "any".to_owned(), Source::Default),
            false => reading.note(name, values.join(","), Source::Flag(flag)),
        }
    }
}

fn hooks(args: &HookArgs, reading: &mut Reading<'_>) -> HookChoice {
    let name = |hooks: &HookChoice| match hooks {
        HookChoice::Auto => "auto".to_owned(),
        HookChoice::Lengths => "lengths".to_owned(),
        HookChoice::Syscalls => "syscalls".to_owned(),
    };
    if let Some(hooks) = args.hooks {
        reading.note("hooks", name(&hooks), Source::Flag("--hooks"));
        return hooks;
    }
    reading.value("hooks", &["SONDE_HOOKS"], HookChoice::Auto, name, |text| match text {
        "auto" => Ok(HookChoice::Auto),
        "lengths" => Ok(HookChoice::Lengths),
        "syscalls" => Ok(HookChoice::Syscalls),
        _ => Err("write auto, lengths or syscalls"),
    })
}

/// A process id.
struct Pid(u32);

impl FromStr for Pid {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.parse() {
            Ok(pid) if pid > 0 => Ok(Self(pid)),
            _ => Err("write process ids, such as 4711".to_owned()),
        }
    }
}
