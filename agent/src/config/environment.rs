//! Environment variables, read by the rules of the OpenTelemetry "Environment Variable Specification".

use std::collections::BTreeMap;
use std::time::Duration;

/// Stands for "no limit" where a timeout is 0 (specification: "a very long time"): 49 days.
const INDEFINITE: Duration = Duration::from_millis(u32::MAX as u64);

/// A snapshot of the variables that matter. An empty value counts as none.
#[derive(Clone, Debug, Default)]
pub struct Environment {
    variables: BTreeMap<String, String>,
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
        Self { variables: variables.collect() }
    }

    /// Given variables.
    #[must_use]
    pub fn of<'a>(variables: impl IntoIterator<Item = (&'a str, &'a str)>) -> Self {
        let owned = variables.into_iter().map(|(name, value)| (name.to_owned(), value.to_owned()));
        Self { variables: owned.collect() }
    }

    /// A variable that is set and not empty.
    #[must_use]
    pub fn text(&self, name: &str) -> Option<&str> {
        self.variables.get(name).map(|value| value.trim()).filter(|value| !value.is_empty())
    }

    /// The first of several variables that is set, with its name.
    #[must_use]
    pub fn first<'n>(&self, names: &[&'n str]) -> Option<(&'n str, &str)> {
        names.iter().find_map(|name| self.text(name).map(|value| (*name, value)))
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
