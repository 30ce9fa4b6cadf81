//! What a scenario knows of the processes it started, and the comparison of every span's resource with that, attribute for
//! attribute.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::process::Command;

use crate::processes::output;
use crate::spans::Span;

/// Attributes of a resource but for `service.instance.id`.
pub type Attributes = BTreeMap<String, String>;

/// What is known of processes, by id.
#[derive(Default)]
pub struct Truth {
    host: Attributes,
    processes: BTreeMap<u32, Attributes>,
    /// Process and attribute.
    lacking: BTreeSet<(u32, String)>,
}

impl Truth {
    /// Nothing but this machine, as its own tools tell of it.
    #[must_use]
    pub fn new() -> Self {
        let release = |name: &str| shell(&format!(". /etc/os-release; printf %s \"${name}\""));
        let arch = match shell("uname -m").as_str() {
            "x86_64" => "amd64".to_owned(),
            "aarch64" => "arm64".to_owned(),
            other => other.to_owned(),
        };
        let host = [
            ("host.name", shell("uname -n")),
            ("host.id", shell("cat /etc/machine-id || true")),
            ("host.arch", arch),
            ("os.type", "linux".into()),
            ("os.name", release("NAME")),
            ("os.version", release("VERSION_ID")),
            ("os.description", release("PRETTY_NAME")),
            ("telemetry.distro.name", "sonde".into()),
            ("telemetry.distro.version", env!("CARGO_PKG_VERSION").into()),
            ("process.owner", shell("id -un")),
        ];
        Self { host: attributes(&host), ..Self::default() }
    }

    /// A process of this executable and service, and what else is special about it; an empty value takes an attribute away.
    pub fn add(&mut self, pid: u32, exe: &Path, service: &str, others: &[(&str, &str)]) {
        let exe = exe.to_str().expect("paths of tests are text");
        let name = exe.rsplit('/').next().expect("a file");
        let pid_text = pid.to_string();
        let own = [
            ("process.pid", pid_text.as_str()),
            ("process.executable.path", exe),
            ("process.executable.name", name),
            ("service.name", service),
        ];
        let mut of_process = self.host.clone();
        for (key, value) in own.iter().chain(others) {
            of_process.insert((*key).into(), (*value).into());
        }
        of_process.retain(|_, value| !value.is_empty());
        self.processes.insert(pid, of_process);
    }

    /// An attribute of a process may be missing, though it may not be another.
    pub fn may_lack(&mut self, pid: u32, key: &str) {
        self.lacking.insert((pid, key.into()));
    }

    /// The test itself: a plain executable.
    pub fn add_own(&mut self) {
        let exe = std::env::current_exe().expect("own path");
        let name = exe.file_name().and_then(|name| name.to_str()).expect("a name").to_owned();
        self.add(std::process::id(), &exe, &name, &[]);
    }

    /// Every span has the resource of its process, and each process one instance id, a UUID that no other has. Gives the ids.
    ///
    /// # Panics
    /// Where that is not so, with all that is not.
    pub fn check(&self, what: &str, spans: &[Span]) -> BTreeMap<u32, String> {
        let mut wrong = BTreeSet::new();
        let mut instances: BTreeMap<u32, String> = BTreeMap::new();
        for span in spans {
            let mut found = span.resource.clone();
            let instance = found.remove("service.instance.id").unwrap_or_default();
            let known = instances.entry(span.pid()).or_insert_with(|| instance.clone());
            if *known != instance || !is_uuid(&instance) {
                wrong.insert(format!("instance {instance} of {}, before {known}", span.pid()));
            }
            match self.processes.get(&span.pid()) {
                Some(expected) => {
                    for (_, key) in self.lacking.iter().filter(|(pid, _)| *pid == span.pid()) {
                        found.entry(key.clone()).or_insert_with(|| expected[key].clone());
                    }
                    wrong.extend(differences(span, expected, &found));
                }
                None => drop(wrong.insert(format!("{}: nobody's: {found:?}", span.path()))),
            }
        }
        let distinct: BTreeSet<&String> = instances.values().collect();
        assert!(wrong.is_empty() && distinct.len() == instances.len(), "{what}: {instances:?} {wrong:#?}");
        instances
    }
}

fn differences(span: &Span, expected: &Attributes, found: &Attributes) -> Vec<String> {
    let keys: BTreeSet<&String> = expected.keys().chain(found.keys()).collect();
    let differ = keys.into_iter().filter(|key| expected.get(*key) != found.get(*key));
    let said = |key: &String| {
        let [expected, found] = [expected, found].map(|map| map.get(key).map_or("-", String::as_str));
        format!("{:?} of {}: {key} is {found}, not {expected}", span.kind, span.pid())
    };
    differ.map(said).collect()
}

fn attributes(pairs: &[(&str, String)]) -> Attributes {
    let said = pairs.iter().filter(|(_, value)| !value.is_empty());
    said.map(|(key, value)| ((*key).to_owned(), value.clone())).collect()
}

fn is_uuid(text: &str) -> bool {
    let parts: Vec<usize> = text.split('-').map(str::len).collect();
    parts == [8, 4, 4, 4, 12] && text.bytes().all(|byte| byte == b'-' || byte.is_ascii_hexdigit())
}

/// What a command prints, without blanks around it.
#[must_use]
pub fn shell(command: &str) -> String {
    output(command, Command::new("sh").args(["-c", command]), "").trim().to_owned()
}
