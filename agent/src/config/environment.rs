//! Environment variables, read by the rules of the OpenTelemetry "Environment Variable Specification".

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use super::ConfigError;
use super::file::{Document, Entry, Problem};
use super::reading::Source;

/// Stands for "no limit" where a timeout is 0 (specification: "a very long time"): 49 days.
const INDEFINITE: Duration = Duration::from_millis(u32::MAX as u64);

/// A snapshot of the variables that matter. An empty value counts as none. Where a variable is not set, the key of the
/// configuration file that means the same stands in for it.
#[derive(Clone, Debug, Default)]
pub struct Environment {
    variables: BTreeMap<String, String>,
    file: Option<Arc<Document>>,
}

impl Environment {
    /// This process's environment: what begins with `OTEL_` or `SONDE_`, and what terminals say of themselves.
    #[must_use]
    pub fn of_process() -> Self {
        let known = |name: &str| {
            name.starts_with("OTEL_") || name.starts_with("SONDE_") || matches!(name, "NO_COLOR" | "TERM")
        };
        let variables = std::env::vars_os()
            .map(|(name, value)| (name.to_string_lossy().into_owned(), value.to_string_lossy().into_owned()))
            .filter(|(name, _)| known(name));
        Self { variables: variables.collect(), file: None }
    }

    /// Given variables.
    #[must_use]
    pub fn of<'a>(variables: impl IntoIterator<Item = (&'a str, &'a str)>) -> Self {
        let owned = variables.into_iter().map(|(name, value)| (name.to_owned(), value.to_owned()));
        Self { variables: owned.collect(), file: None }
    }

    /// The same with a configuration file behind it.
    #[must_use]
    pub fn with_file(mut self, file: Option<Arc<Document>>) -> Self {
        self.file = file;
        self
    }

    /// The configuration file alone, without any variable.
    #[must_use]
    pub(super) fn of_file(&self) -> Option<Self> {
        self.file.is_some().then(|| Self { variables: BTreeMap::new(), file: self.file.clone() })
    }

    /// A variable that is set and not empty, or what the file says in its place.
    #[must_use]
    pub fn text(&self, name: &str) -> Option<&str> {
        self.set(name).or_else(|| Some(self.file.as_ref()?.entry(name)?.text.as_str()))
    }

    /// The first of several variables that is set, with its name; else the first that the file has.
    #[must_use]
    pub fn first<'n>(&self, names: &[&'n str]) -> Option<(&'n str, &str)> {
        let set = names.iter().find_map(|name| self.set(name).map(|value| (*name, value)));
        set.or_else(|| names.iter().find_map(|name| self.text(name).map(|value| (*name, value))))
    }

    /// Where the value of a variable comes from, where that is the file.
    pub(super) fn filed(&self, name: &str) -> Option<(&Document, &Entry)> {
        let file = self.file.as_ref().filter(|_| self.set(name).is_none())?;
        Some((file, file.entry(name)?))
    }

    /// Who set a variable's value.
    pub(super) fn source(&self, name: &'static str) -> Source {
        match self.filed(name) {
            Some((file, entry)) => Source::File(file.path().to_owned(), entry.line),
            None => Source::Variable(name),
        }
    }

    /// Problems of the file with their lines, whatever they were reported as; what is none of the file's is given back.
    pub(super) fn located(&self, why: ConfigError) -> Result<Vec<Problem>, ConfigError> {
        match why {
            ConfigError::Problems(problems) => Ok(problems),
            ConfigError::Variable { ref name, ref value, ref problem, ref hint } => match self.filed(name) {
                Some((file, entry)) => Ok(vec![file.problem(entry, &format!("{value}: {problem}"), hint)]),
                None => Err(why),
            },
            ConfigError::Outputs { .. } | ConfigError::Perspective => Err(why),
        }
    }

    fn set(&self, name: &str) -> Option<&str> {
        self.variables.get(name).map(|value| value.trim()).filter(|value| !value.is_empty())
    }

    /// A boolean: true only where it says so, and a warning where it says neither.
    pub(super) fn boolean(&self, name: &str, warnings: &mut Vec<String>) -> bool {
        match self.text(name) {
            Some(text) if text.eq_ignore_ascii_case("true") => true,
            Some(text) if !text.eq_ignore_ascii_case("false") => {
                warnings.push(format!("{name}={text} is taken as false: write true or false"));
                false
            }
            _ => false,
        }
    }
}

/// Milliseconds of a duration.
pub(super) fn duration(text: &str) -> Result<Duration, &'static str> {
    let millis = text.parse::<u32>().map_err(|_| "write whole milliseconds, such as 5000")?;
    Ok(Duration::from_millis(millis.into()))
}

/// Milliseconds of a timeout, where 0 means no limit.
pub(super) fn timeout(text: &str) -> Result<Duration, &'static str> {
    Ok(match duration(text)? {
        Duration::ZERO => INDEFINITE,
        limited => limited,
    })
}

/// A positive number of something.
pub(super) fn count(text: &str) -> Result<usize, &'static str> {
    match text.parse::<i32>() {
        Ok(n) if n > 0 => usize::try_from(n).map_err(|_| "write a smaller number"),
        _ => Err("write a whole number from 1 to 2147483647"),
    }
}
