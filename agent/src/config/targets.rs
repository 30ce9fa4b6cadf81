//! Whom to observe.

use std::path::Path;
use std::str::FromStr;

use globset::{GlobBuilder, GlobMatcher};

/// Selects connections and processes. Kinds are alternatives: whatever one of them names is observed. Without any, every
/// process is.
#[derive(Clone, Debug, Default)]
pub struct Targets {
    /// Connections by the port of either end.
    pub ports: PortSet,
    /// Processes by their program.
    pub exes: Vec<ExeGlob>,
    /// Processes by id.
    pub pids: Vec<u32>,
    /// Processes by `service.name`.
    pub services: Vec<ServiceGlob>,
}

impl Targets {
    /// No target was named: every process is observed.
    #[must_use]
    pub fn is_everything(&self) -> bool {
        let Self { ports, exes, pids, services } = self;
        ports.is_empty() && exes.is_empty() && pids.is_empty() && services.is_empty()
    }

    /// Some target selects whole processes, whatever their ports.
    #[must_use]
    pub fn selects_processes(&self) -> bool {
        !(self.exes.is_empty() && self.pids.is_empty() && self.services.is_empty())
    }
}

/// What one `--port` names: ports and ranges of them, joined by commas.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ports(Vec<(u16, u16)>);

impl FromStr for Ports {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        text.split(',').map(|part| port_range(part.trim())).collect::<Result<_, _>>().map(Self)
    }
}

fn port_range(part: &str) -> Result<(u16, u16), String> {
    let (low, high) = part.split_once('-').unwrap_or((part, part));
    let (low, high) = (port(low.trim())?, port(high.trim())?);
    if low > high {
        return Err(format!("the range runs backwards: write {high}-{low}"));
    }
    Ok((low, high))
}

fn port(text: &str) -> Result<u16, String> {
    match text.parse::<u16>() {
        Ok(0) | Err(_) => Err(format!(
            "{text:?} is no port: write numbers from 1 to 65535, such as 8080, 80,443 or 8000-8100"
        )),
        Ok(port) => Ok(port),
    }
}

/// A set of ports.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PortSet(Vec<(u16, u16)>);

impl<'a> FromIterator<&'a Ports> for PortSet {
    fn from_iter<I: IntoIterator<Item = &'a Ports>>(lists: I) -> Self {
        let mut ranges: Vec<_> = lists.into_iter().flat_map(|list| list.0.iter().copied()).collect();
        ranges.sort_unstable();
        let mut merged: Vec<(u16, u16)> = Vec::with_capacity(ranges.len());
        for (low, high) in ranges {
            match merged.last_mut() {
                Some(last) if u32::from(low) <= u32::from(last.1) + 1 => last.1 = last.1.max(high),
                _ => merged.push((low, high)),
            }
        }
        Self(merged)
    }
}

impl PortSet {
    /// No port.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether a port is in the set.
    #[must_use]
    pub fn contains(&self, port: u16) -> bool {
        self.0.iter().any(|&(low, high)| (low..=high).contains(&port))
    }

    /// Every port in it, rising.
    pub fn each(&self) -> impl Iterator<Item = u16> {
        self.0.iter().flat_map(|&(low, high)| low..=high)
    }

    /// Its ranges, both ends included, rising, with a gap between any two.
    #[must_use]
    pub fn ranges(&self) -> &[(u16, u16)] {
        &self.0
    }
}

/// A pattern for programs: their file name, or their whole path where the pattern holds a '/'.
#[derive(Clone, Debug)]
pub struct ExeGlob {
    matcher: GlobMatcher,
    whole_path: bool,
}

impl FromStr for ExeGlob {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        Ok(Self { matcher: glob(text)?, whole_path: text.contains('/') })
    }
}

impl ExeGlob {
    /// Whether it matches a program, given by its path.
    #[must_use]
    pub fn matches(&self, exe: &Path) -> bool {
        if self.whole_path {
            self.matcher.is_match(exe)
        } else {
            exe.file_name().is_some_and(|name| self.matcher.is_match(name))
        }
    }

    /// As it was written.
    #[must_use]
    pub fn pattern(&self) -> &str {
        self.matcher.glob().glob()
    }
}

/// A pattern for `service.name`.
#[derive(Clone, Debug)]
pub struct ServiceGlob(GlobMatcher);

impl FromStr for ServiceGlob {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        glob(text).map(Self)
    }
}

impl ServiceGlob {
    /// Whether it matches a service.
    #[must_use]
    pub fn matches(&self, service: &str) -> bool {
        self.0.is_match(service)
    }

    /// As it was written.
    #[must_use]
    pub fn pattern(&self) -> &str {
        self.0.glob().glob()
    }
}

fn glob(text: &str) -> Result<GlobMatcher, String> {
    if text.is_empty() {
        return Err(
            "an empty pattern matches nothing: write a name such as nginx, or a pattern such as python3*"
                .to_owned(),
        );
    }
    match GlobBuilder::new(text).literal_separator(true).build() {
        Ok(glob) => Ok(glob.compile_matcher()),
        Err(error) => Err(format!(
            "{}: write a name with * ? [a-z] {{a,b}}, and a backslash before one of these that is meant as it is",
            error.kind()
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(lists: &[&str]) -> Vec<(u16, u16)> {
        let lists: Vec<Ports> = lists.iter().map(|text| text.parse().unwrap()).collect();
        lists.iter().collect::<PortSet>().ranges().to_vec()
    }

    #[test]
    fn ports_join_into_ranges() {
        assert_eq!(set(&["80"]), [(80, 80)]);
        assert_eq!(set(&["80,443", "8000-8100"]), [(80, 80), (443, 443), (8000, 8100)]);
        assert_eq!(set(&["8000-8100, 8050-8200", "8201"]), [(8000, 8201)]);
        assert_eq!(set(&["65535", "1-65535"]), [(1, 65535)]);
        assert_eq!(set(&[]), []);
    }

    #[test]
    fn ports_hold_their_ends() {
        let set: PortSet = [&"80,8000-8100".parse().unwrap()].into_iter().collect();
        for (port, expected) in
            [(79, false), (80, true), (81, false), (8000, true), (8100, true), (8101, false)]
        {
            assert_eq!(set.contains(port), expected, "{port}");
        }
    }

    #[test]
    fn bad_ports_say_what_to_write() {
        for bad in ["", "0", "65536", "-1", "http", "80,", "80-", "80:90", "8 0"] {
            let hint = bad.parse::<Ports>().unwrap_err();
            assert!(hint.contains("write numbers from 1 to 65535"), "{bad}: {hint}");
        }
        assert_eq!("90-80".parse::<Ports>().unwrap_err(), "the range runs backwards: write 80-90");
    }

    #[test]
    fn programs_match_by_name_or_path() {
        let matches = |glob: &str, exe: &str| glob.parse::<ExeGlob>().unwrap().matches(Path::new(exe));
        assert!(matches("nginx", "/usr/sbin/nginx"));
        assert!(matches("python3*", "/usr/bin/python3.13"));
        assert!(!matches("nginx", "/opt/nginx/worker"));
        assert!(matches("/usr/*/nginx", "/usr/sbin/nginx"));
        assert!(!matches("/usr/*/nginx", "/usr/local/sbin/nginx"));
        assert!(matches("/usr/**/nginx", "/usr/local/sbin/nginx"));
        assert!("[".parse::<ExeGlob>().unwrap_err().contains("write a name with"));
        assert!("".parse::<ServiceGlob>().is_err());
    }
}
