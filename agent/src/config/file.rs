//! The configuration file: YAML to one text per key ([`super::keys`]). Whatever does not fit is a problem with its line, and
//! all problems are told at once.

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};

use serde::de::{Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_saphyr::{Location, Spanned};

use super::keys::{self, Key, Kind};

/// Bytes of a configuration file at most.
const LARGEST: u64 = 1 << 20;

/// A configuration file whose keys are known and whose values have the right form. What they mean is judged where they
/// are read.
#[derive(Clone, Debug, Default)]
pub struct Document {
    path: PathBuf,
    /// By environment variable.
    entries: BTreeMap<&'static str, Entry>,
}

/// What the file says of one key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// The key.
    pub key: &'static Key,
    /// Its value as the variable would have it.
    pub text: String,
    /// Line, from 1.
    pub line: u64,
}

/// A place in the file that cannot be followed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub struct Problem {
    /// The file.
    pub path: PathBuf,
    /// Line, from 1; 0 where the whole file is meant.
    pub line: u64,
    /// What is wrong.
    pub what: String,
    /// What to write instead; may be empty.
    pub hint: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.path.display())?;
        if self.line > 0 {
            write!(f, ":{}", self.line)?;
        }
        write!(f, ": {}", self.what)?;
        if !self.hint.is_empty() {
            write!(f, "\n  hint: {}", self.hint)?;
        }
        Ok(())
    }
}

impl Document {
    /// Reads a file.
    ///
    /// # Errors
    /// Everything in it that cannot be followed, in the order of its lines.
    pub fn read(path: &Path) -> Result<Self, Vec<Problem>> {
        let failed = |what: String, hint: &str| {
            vec![Problem { path: path.to_owned(), line: 0, what, hint: hint.to_owned() }]
        };
        let size = std::fs::metadata(path).map_err(|why| failed(why.to_string(), ""))?.len();
        if size > LARGEST {
            return Err(failed(format!("{size} bytes are too many"), "at most 1 MiB"));
        }
        let text = std::fs::read_to_string(path).map_err(|why| failed(why.to_string(), ""))?;
        Self::parse(path, &text)
    }

    /// Reads the text of a file.
    ///
    /// # Errors
    /// Those of [`Document::read`].
    pub fn parse(path: &Path, text: &str) -> Result<Self, Vec<Problem>> {
        let mut reading = Walk { path, entries: BTreeMap::new(), problems: Vec::new() };
        match serde_saphyr::from_str::<Spanned<Raw>>(text) {
            Ok(Spanned { value: Raw::Map(entries), .. }) => reading.section("", entries),
            Ok(Spanned { value: Raw::Null, .. }) => {}
            Ok(Spanned { referenced, .. }) => {
                let hint = "write `section:` and its keys below, as deploy/sonde.yaml has them";
                reading.complain(referenced, "the file holds no keys".to_owned(), hint.to_owned());
            }
            Err(why) => {
                let at = why.location().unwrap_or(Location::UNKNOWN);
                let why = why.without_snippet().to_string();
                // The place is said once, and what a programmer could set says nothing to a user.
                let place = format!(" at line {}, column {}", at.line(), at.column());
                let why = why.strip_suffix(&place).unwrap_or(&why);
                let why = why.split(", set ").next().unwrap_or(why);
                reading.complain(at, format!("no YAML: {why}"), String::new());
            }
        }
        let Walk { entries, mut problems, .. } = reading;
        problems.sort_by_key(|problem| problem.line);
        if problems.is_empty() { Ok(Self { path: path.to_owned(), entries }) } else { Err(problems) }
    }

    /// What it says of a variable's key.
    #[must_use]
    pub fn entry(&self, variable: &str) -> Option<&Entry> {
        self.entries.get(variable)
    }

    /// Everything that it says.
    pub fn entries(&self) -> impl Iterator<Item = &Entry> {
        self.entries.values()
    }

    /// The file.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The problem that a value of it turned out to be.
    #[must_use]
    pub fn problem(&self, entry: &Entry, what: &str, hint: &str) -> Problem {
        let what = format!("{}: {what}", entry.key.path);
        Problem { path: self.path.clone(), line: entry.line, what, hint: hint.to_owned() }
    }
}

/// YAML without any meaning yet.
#[derive(Debug)]
enum Raw {
    Null,
    Scalar(String),
    List(Vec<Spanned<Raw>>),
    Map(Vec<(Spanned<String>, Spanned<Raw>)>),
}

impl<'de> Deserialize<'de> for Raw {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(RawVisitor)
    }
}

struct RawVisitor;

impl<'de> Visitor<'de> for RawVisitor {
    type Value = Raw;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value, a list or keys")
    }

    fn visit_unit<E>(self) -> Result<Raw, E> {
        Ok(Raw::Null)
    }

    fn visit_none<E>(self) -> Result<Raw, E> {
        Ok(Raw::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Raw, E> {
        Ok(Raw::Scalar(value.to_string()))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Raw, E> {
        Ok(Raw::Scalar(value.to_string()))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Raw, E> {
        Ok(Raw::Scalar(value.to_string()))
    }

    fn visit_f64<E>(self, value: f64) -> Result<Raw, E> {
        Ok(Raw::Scalar(value.to_string()))
    }

    fn visit_str<E>(self, value: &str) -> Result<Raw, E> {
        Ok(Raw::Scalar(value.to_owned()))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Raw, A::Error> {
        let mut list = Vec::new();
        while let Some(item) = items.next_element()? {
            list.push(item);
        }
        Ok(Raw::List(list))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Raw, A::Error> {
        let mut map = Vec::new();
        while let Some(entry) = entries.next_entry()? {
            map.push(entry);
        }
        Ok(Raw::Map(map))
    }
}

struct Walk<'a> {
    path: &'a Path,
    entries: BTreeMap<&'static str, Entry>,
    problems: Vec<Problem>,
}

impl Walk<'_> {
    fn complain(&mut self, at: Location, what: String, hint: String) {
        self.problems.push(Problem { path: self.path.to_owned(), line: at.line(), what, hint });
    }

    fn section(&mut self, section: &str, entries: Vec<(Spanned<String>, Spanned<Raw>)>) {
        for (name, value) in entries {
            let path = match section {
                "" => name.value.clone(),
                _ => format!("{section}.{}", name.value),
            };
            if let Some(key) = keys::by_path(&path) {
                match canonical(key.kind, value.value) {
                    // A key without a value is as good as none.
                    Ok(None) => {}
                    Ok(Some(text)) => {
                        let line = value.referenced.line();
                        self.entries.insert(key.variable, Entry { key, text, line });
                    }
                    Err((what, hint)) => self.complain(value.referenced, format!("{path}: {what}"), hint),
                }
                continue;
            }
            let known = keys::below(&path);
            match value.value {
                _ if known.is_empty() => {
                    let hint = suggestion(section, &name.value);
                    self.complain(name.referenced, format!("{path}: there is no such key"), hint);
                }
                Raw::Map(entries) => self.section(&path, entries),
                Raw::Null => {}
                Raw::Scalar(_) | Raw::List(_) => {
                    let hint = format!("below it can stand: {}", known.join(", "));
                    self.complain(value.referenced, format!("{path}: this is a section, not a value"), hint);
                }
            }
        }
    }
}

/// The name that was meant, or all that there are.
fn suggestion(section: &str, name: &str) -> String {
    let known = keys::below(section);
    let near = known.iter().map(|known| (distance(name, known), known)).min();
    // The same name elsewhere was put in the wrong place.
    let elsewhere = keys::KEYS.iter().find(|key| key.path.rsplit('.').next() == Some(name));
    match (near, elsewhere) {
        (Some((steps, near)), _) if steps <= 2.min(name.len() / 2) => format!("did you mean {near}?"),
        (_, Some(key)) => format!("did you mean {}?", key.path),
        _ if section.is_empty() => format!("there are: {}", known.join(", ")),
        _ => format!("below {section} there are: {}", known.join(", ")),
    }
}

/// Levenshtein's distance.
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, from) in a.chars().enumerate() {
        let mut corner = i;
        let mut left = i + 1;
        let mut next = vec![left];
        for (to, &above) in b.iter().zip(row.iter().skip(1)) {
            let steps = (corner + usize::from(from != *to)).min(left + 1).min(above + 1);
            (corner, left) = (above, steps);
            next.push(steps);
        }
        row = next;
    }
    row.last().copied().unwrap_or(0)
}

/// A value as its variable would have it; `None` where there is none.
fn canonical(kind: Kind, value: Raw) -> Result<Option<String>, (String, String)> {
    let wrong = |what: &str, hint: &str| Err((what.to_owned(), hint.to_owned()));
    let text = match (kind, value) {
        (_, Raw::Null) => return Ok(None),
        (Kind::List, Raw::List(items)) => {
            let Some(items) = scalars(items) else {
                return wrong("a list in a list", "write one value per item");
            };
            list_text(&items)
        }
        (Kind::List, Raw::Scalar(one)) => list_text(&[one]),
        (Kind::List, _) => return wrong("it wants a list", "write [a, b], or a line with a dash for each"),
        (Kind::Pairs, Raw::Map(entries)) => {
            let mut pairs = Vec::with_capacity(entries.len());
            for (name, value) in entries {
                let Raw::Scalar(value) = value.value else {
                    return wrong(&format!("{}: it wants one value", name.value), "write name: value");
                };
                pairs.push(format!("{}={}", name.value, percent_encode(&value)));
            }
            pairs.join(",")
        }
        (Kind::Pairs, _) => return wrong("it wants names with values", "write name: value, one a line"),
        (Kind::Table, Raw::Map(entries)) => {
            let mut table = serde_json::Map::new();
            for (name, value) in entries {
                let items = match value.value {
                    Raw::List(items) => scalars(items),
                    Raw::Scalar(one) => Some(vec![one]),
                    Raw::Null | Raw::Map(_) => None,
                };
                let Some(items) = items else {
                    return wrong(&format!("{}: it wants a list", name.value), "write name: [a, b]");
                };
                table.insert(name.value, items.into());
            }
            serde_json::Value::Object(table).to_string()
        }
        (Kind::Table, _) => return wrong("it wants names with lists", "write name: [a, b], one a line"),
        (_, Raw::List(_) | Raw::Map(_)) => return wrong("it wants one value", "write key: value"),
        (_, Raw::Scalar(text)) => return scalar(kind, &text).map(Some),
    };
    Ok(Some(text))
}

fn scalar(kind: Kind, text: &str) -> Result<String, (String, String)> {
    let wrong = |hint: &str| Err((format!("{text} does not fit"), hint.to_owned()));
    match kind {
        Kind::Number if text.parse::<u64>().is_err() => wrong("write a whole number from 0 on"),
        Kind::Ratio if text.parse::<f64>().is_ok_and(|share| (0.0..=1.0).contains(&share)) => {
            Ok(text.to_owned())
        }
        Kind::Ratio => wrong("write a share from 0 to 1, such as 0.1"),
        Kind::Switch if text != "true" && text != "false" => wrong("write true or false"),
        Kind::Duration => {
            let units = [("ms", 1), ("s", 1000), ("m", 60_000), ("h", 3_600_000)];
            measure(text, &units)
                .ok_or(())
                .or_else(|()| wrong("write a number with ms, s, m or h, such as 5s"))
        }
        Kind::Size => {
            let units = [
                ("KiB", 1 << 10),
                ("MiB", 1 << 20),
                ("GiB", 1 << 30),
                ("kB", 1000),
                ("MB", 1_000_000),
                ("GB", 1_000_000_000),
                ("B", 1),
            ];
            measure(text, &units)
                .ok_or(())
                .or_else(|()| wrong("write a number with B, KiB, MiB or GiB, such as 64KiB"))
        }
        _ => Ok(text.to_owned()),
    }
}

/// A number with a unit, in the smallest unit; zero needs none.
fn measure(text: &str, units: &[(&str, u64)]) -> Option<String> {
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let number: u64 = number.parse().ok()?;
    let unit = unit.trim();
    if unit.is_empty() {
        return (number == 0).then(|| "0".to_owned());
    }
    let (_, factor) = units.iter().find(|(name, _)| *name == unit)?;
    Some(number.checked_mul(*factor)?.to_string())
}

fn scalars(items: Vec<Spanned<Raw>>) -> Option<Vec<String>> {
    items
        .into_iter()
        .map(|item| match item.value {
            Raw::Scalar(text) => Some(text),
            Raw::Null | Raw::List(_) | Raw::Map(_) => None,
        })
        .collect()
}

/// Items as a variable has them: joined by commas, as JSON where that would part or lose one.
fn list_text(items: &[String]) -> String {
    let plain = !items.is_empty()
        && items.iter().all(|item| !item.is_empty() && item.trim() == item && !item.contains([',', '[']));
    if plain { items.join(",") } else { serde_json::Value::from(items.to_vec()).to_string() }
}

/// The items of a list as a variable has them.
///
/// # Errors
/// What to write instead.
pub(super) fn list_items(text: &str) -> Result<Vec<String>, &'static str> {
    if text.starts_with('[') {
        return serde_json::from_str(text)
            .map_err(|_| "write values joined by commas, or a JSON array of texts");
    }
    Ok(text.split(',').map(str::trim).filter(|item| !item.is_empty()).map(str::to_owned).collect())
}

fn percent_encode(value: &str) -> String {
    let mut text = String::with_capacity(value.len());
    for byte in value.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~:/+".contains(&byte) {
            text.push(char::from(byte));
        } else {
            text.push_str(&format!("%{byte:02X}"));
        }
    }
    text
}

#[cfg(test)]
#[path = "file_tests.rs"]
mod tests;
