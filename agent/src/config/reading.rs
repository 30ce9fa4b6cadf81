//! Reads values one by one: the variable where it is set, else the file's key, else the default; and remembers what was
//! said of each.

use std::path::PathBuf;
use std::str::FromStr;

use super::environment::Environment;
use super::file::{Problem, list_items};

/// A value and where it comes from, to be shown. Secrets are masked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Setting {
    /// Its name: the key's path.
    pub name: &'static str,
    /// As text.
    pub value: String,
    /// Who set it.
    pub source: Source,
}

/// Who set a value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    /// A flag.
    Flag(&'static str),
    /// An environment variable, or the key that stands in for it.
    Variable(&'static str),
    /// The configuration file.
    File(PathBuf, u64),
    /// Nobody.
    Default,
}

impl std::fmt::Display for Source {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Flag(name) | Self::Variable(name) => f.write_str(name),
            Self::File(path, line) => write!(f, "{}:{line}", path.display()),
            Self::Default => f.write_str("default"),
        }
    }
}

/// Reads one group of values and remembers what was said of them.
pub(super) struct Reading<'a> {
    pub(super) environment: &'a Environment,
    /// Values that were ignored, one sentence each.
    pub(super) warnings: Vec<String>,
    pub(super) settings: Vec<Setting>,
    /// Values of the file that cannot be followed.
    pub(super) problems: Vec<Problem>,
}

impl<'a> Reading<'a> {
    pub(super) fn new(environment: &'a Environment) -> Self {
        Self { environment, warnings: Vec::new(), settings: Vec::new(), problems: Vec::new() }
    }

    /// Reads the first variable that is set, or whose key the file has. What does not parse is treated as not set: in a
    /// variable it is warned of, in the file it is a problem.
    pub(super) fn value<T>(
        &mut self,
        setting: &'static str,
        names: &[&'static str],
        default: T,
        show: impl Fn(&T) -> String,
        parse: impl Fn(&str) -> Result<T, &'static str>,
    ) -> T {
        let mut source = Source::Default;
        let mut value = default;
        if let Some((name, text)) = self.environment.first(names) {
            match parse(text) {
                Ok(parsed) => (value, source) = (parsed, Source::Variable(name)),
                Err(hint) => {
                    let text = text.to_owned();
                    self.complain(name, &text, hint);
                }
            }
        }
        self.note(setting, show(&value), source);
        value
    }

    /// Takes note of a value of a variable (or of the key that stands in for it) that cannot be followed.
    pub(super) fn complain(&mut self, name: &str, text: &str, hint: &str) {
        match self.environment.filed(name) {
            Some((document, entry)) => {
                self.problems.push(document.problem(entry, &format!("{text} does not fit"), hint));
            }
            None => self.warnings.push(format!("{name}={text} is ignored: {hint}")),
        }
    }

    pub(super) fn note(&mut self, name: &'static str, value: String, source: Source) {
        let source = match source {
            Source::Variable(variable) => self.environment.source(variable),
            other => other,
        };
        self.settings.push(Setting { name, value, source });
    }

    /// Reads a list, each of whose items must parse: in a variable of Sonde's own nothing is ignored either.
    pub(super) fn list<T: FromStr<Err = String>>(
        &mut self,
        setting: &'static str,
        name: &'static str,
        default: &[&str],
    ) -> Vec<T> {
        let (texts, source) = match self.environment.text(name) {
            Some(text) => match list_items(text) {
                Ok(items) => (items, Source::Variable(name)),
                Err(hint) => {
                    let text = text.to_owned();
                    self.refuse(name, &format!("{text} does not fit"), hint);
                    return Vec::new();
                }
            },
            None => (default.iter().map(|item| (*item).to_owned()).collect(), Source::Default),
        };
        let mut items = Vec::with_capacity(texts.len());
        for text in &texts {
            match text.parse::<T>() {
                Ok(item) => items.push(item),
                Err(hint) => self.refuse(name, &format!("{text} does not fit"), &hint),
            }
        }
        self.note(setting, if texts.is_empty() { "none".to_owned() } else { texts.join(",") }, source);
        items
    }

    /// A value without which going on would do something else than was asked for.
    pub(super) fn refuse(&mut self, name: &str, what: &str, hint: &str) {
        let problem = match self.environment.filed(name) {
            Some((document, entry)) => document.problem(entry, what, hint),
            None => Problem { path: name.into(), line: 0, what: what.to_owned(), hint: hint.to_owned() },
        };
        self.problems.push(problem);
    }
}
