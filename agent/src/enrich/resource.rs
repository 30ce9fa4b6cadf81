//! The resource of a process: OpenTelemetry specification, resource SDK; semantic conventions, resource.

use std::borrow::Cow;

use opentelemetry_semantic_conventions::resource as key;

use super::Host;
use crate::span::{Attribute, AttributeValue, ProcessId};

/// Attributes that all spans of one process share.
#[derive(Clone, Debug, PartialEq)]
pub struct Resource {
    /// Each key once, `service.name` among them.
    pub attributes: Vec<Attribute>,
}

/// What a resource is made of. Empty texts stand for what is not known.
#[derive(Clone, Copy, Debug)]
pub struct Described<'a> {
    /// The process.
    pub id: ProcessId,
    /// `service.name`.
    pub service_name: &'a str,
    /// `service.version`.
    pub service_version: Option<&'a str>,
    /// What the process's `OTEL_RESOURCE_ATTRIBUTES` says; goes before what Sonde finds out, `service.name` apart.
    pub declared: &'a [(String, String)],
    /// Path of the executable.
    pub exe: &'a str,
    /// Its name.
    pub executable_name: &'a str,
    /// The user that it runs as.
    pub owner: &'a str,
    /// `process.runtime.name`.
    pub runtime: Option<&'static str>,
    /// `process.runtime.version`.
    pub runtime_version: Option<&'a str>,
    /// `container.id`.
    pub container_id: Option<&'a str>,
}

impl Resource {
    /// Puts a resource together.
    #[must_use]
    pub fn describe(host: &Host, process: &Described<'_>) -> Self {
        let mut resource = Self { attributes: Vec::with_capacity(22 + process.declared.len()) };
        resource.put(key::SERVICE_NAME, process.service_name.to_owned());
        for (name, value) in process.declared {
            resource.put(name.clone(), value.clone());
        }
        resource.put(key::SERVICE_VERSION, process.service_version.unwrap_or("").to_owned());
        resource.put(key::SERVICE_INSTANCE_ID, instance_id(host, process.id));
        resource.put(key::PROCESS_PID, i64::from(process.id.tgid));
        resource.put(key::PROCESS_EXECUTABLE_NAME, process.executable_name.to_owned());
        resource.put(key::PROCESS_EXECUTABLE_PATH, process.exe.to_owned());
        resource.put(key::PROCESS_OWNER, process.owner.to_owned());
        resource.put(key::PROCESS_RUNTIME_NAME, process.runtime.unwrap_or(""));
        resource.put(key::PROCESS_RUNTIME_VERSION, process.runtime_version.unwrap_or("").to_owned());
        resource.put(key::CONTAINER_ID, process.container_id.unwrap_or("").to_owned());
        resource.put_host(host);
        resource
    }

    /// The resource of a process that `parent` forked, made from the parent's: the same but for what names the process.
    #[must_use]
    pub fn of_child(&self, host: &Host, parent: ProcessId, child: ProcessId) -> Self {
        let mut resource = self.clone();
        let inherited = instance_id(host, parent);
        for Attribute { key, value } in &mut resource.attributes {
            if key == key::PROCESS_PID && *value == AttributeValue::from(i64::from(parent.tgid)) {
                *value = i64::from(child.tgid).into();
            } else if key == key::SERVICE_INSTANCE_ID && *value == AttributeValue::from(inherited.clone()) {
                *value = instance_id(host, child).into();
            }
        }
        resource
    }

    /// Stands for processes beyond a limit, which are not told apart.
    #[must_use]
    pub fn others(host: &Host) -> Self {
        let mut resource = Self { attributes: Vec::with_capacity(10) };
        resource.put(key::SERVICE_NAME, "unknown_service");
        resource.put_host(host);
        resource
    }

    /// The value of `service.name`; empty where it is missing.
    #[must_use]
    pub fn service_name(&self) -> &str {
        let named = self.attributes.iter().find(|attribute| attribute.key == key::SERVICE_NAME);
        match named.map(|attribute| &attribute.value) {
            Some(AttributeValue::Str(name)) => name,
            _ => "",
        }
    }

    fn put_host(&mut self, host: &Host) {
        let Host { name, machine_id, boot_id: _, arch, os_name, os_version, os_description } = host;
        self.put(key::HOST_NAME, name.clone());
        self.put(key::HOST_ID, machine_id.clone());
        self.put(key::HOST_ARCH, *arch);
        self.put(key::OS_TYPE, "linux");
        self.put(key::OS_NAME, os_name.clone());
        self.put(key::OS_VERSION, os_version.clone());
        self.put(key::OS_DESCRIPTION, os_description.clone());
        self.put(key::TELEMETRY_DISTRO_NAME, "sonde");
        self.put(key::TELEMETRY_DISTRO_VERSION, env!("CARGO_PKG_VERSION"));
    }

    /// Adds an attribute unless it is there already, or says nothing.
    fn put(&mut self, key: impl Into<Cow<'static, str>>, value: impl Into<AttributeValue>) {
        let (key, value) = (key.into(), value.into());
        let empty = matches!(&value, AttributeValue::Str(text) if text.is_empty());
        if !empty && !self.attributes.iter().any(|attribute| attribute.key == key) {
            self.attributes.push(Attribute { key, value });
        }
    }
}

impl From<String> for AttributeValue {
    fn from(text: String) -> Self {
        Self::Str(Cow::Owned(text))
    }
}

impl From<&'static str> for AttributeValue {
    fn from(text: &'static str) -> Self {
        Self::Str(Cow::Borrowed(text))
    }
}

impl From<i64> for AttributeValue {
    fn from(number: i64) -> Self {
        Self::Int(number)
    }
}

impl From<bool> for AttributeValue {
    fn from(truth: bool) -> Self {
        Self::Bool(truth)
    }
}

/// Names one process of one boot of one node, the same however often Sonde is started: a UUID of version 8 (RFC 9562,
/// section 5.8) made from what tells processes apart.
fn instance_id(host: &Host, process: ProcessId) -> String {
    let text = format!("{}\n{}\n{}\n{}", host.machine_id, host.boot_id, process.tgid, process.started);
    let high = spread(0x51_7C_C1_B7_27_22_0A_95, text.as_bytes());
    let low = spread(0x9E_37_79_B9_7F_4A_7C_15, text.as_bytes());
    let high = high & !0xF000 | 0x8000;
    let low = low & !(0b11 << 62) | 0b10 << 62;
    format!(
        "{:08x}-{:04x}-{:04x}-{:04x}-{:012x}",
        high >> 32,
        high >> 16 & 0xFFFF,
        high & 0xFFFF,
        low >> 48,
        low & 0xFFFF_FFFF_FFFF
    )
}

/// FNV-1a over the bytes, then a finaliser that spreads its weak high bits. Written out, since the ids must not change with
/// a library's version.
fn spread(seed: u64, bytes: &[u8]) -> u64 {
    let mut hash = 0xCBF2_9CE4_8422_2325 ^ seed;
    for &byte in bytes {
        hash = (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01B3);
    }
    hash ^= hash >> 30;
    hash = hash.wrapping_mul(0xBF58_476D_1CE4_E5B9);
    hash ^= hash >> 27;
    hash = hash.wrapping_mul(0x94D0_49BB_1331_11EB);
    hash ^ hash >> 31
}

#[cfg(test)]
mod tests {
    use super::*;

    fn host() -> Host {
        Host {
            name: "node-1".to_owned(),
            machine_id: "m".to_owned(),
            boot_id: "b".to_owned(),
            arch: "amd64",
            ..Host::default()
        }
    }

    fn described<'a>() -> Described<'a> {
        Described {
            id: ProcessId { tgid: 42, started: 1000 },
            service_name: "shop",
            service_version: None,
            declared: &[],
            exe: "/srv/shop",
            executable_name: "shop",
            owner: "ada",
            runtime: None,
            runtime_version: None,
            container_id: None,
        }
    }

    fn text(resource: &Resource) -> Vec<String> {
        let line = |attribute: &Attribute| format!("{}={:?}", attribute.key, attribute.value);
        resource.attributes.iter().map(line).collect()
    }

    #[test]
    fn only_what_is_known_is_said() {
        let resource = Resource::describe(&host(), &described());
        let instance = instance_id(&host(), ProcessId { tgid: 42, started: 1000 });
        let expected = [
            "service.name=Str(\"shop\")".to_owned(),
            format!("service.instance.id=Str({instance:?})"),
            "process.pid=Int(42)".to_owned(),
            "process.executable.name=Str(\"shop\")".to_owned(),
            "process.executable.path=Str(\"/srv/shop\")".to_owned(),
            "process.owner=Str(\"ada\")".to_owned(),
            "host.name=Str(\"node-1\")".to_owned(),
            "host.id=Str(\"m\")".to_owned(),
            "host.arch=Str(\"amd64\")".to_owned(),
            "os.type=Str(\"linux\")".to_owned(),
            "telemetry.distro.name=Str(\"sonde\")".to_owned(),
            format!("telemetry.distro.version=Str({:?})", env!("CARGO_PKG_VERSION")),
        ];
        assert_eq!(text(&resource), expected);
        assert_eq!(resource.service_name(), "shop");
    }

    #[test]
    fn what_the_process_declares_goes_first() {
        let declared = [("service.name", "other"), ("service.version", "1.2"), ("host.name", "mine")]
            .map(|(name, value)| (name.to_owned(), value.to_owned()));
        let process =
            Described { declared: &declared, container_id: Some("c1"), runtime: Some("go"), ..described() };
        let lines = text(&Resource::describe(&host(), &process));
        for line in [
            "service.name=Str(\"shop\")",
            "service.version=Str(\"1.2\")",
            "host.name=Str(\"mine\")",
            "container.id=Str(\"c1\")",
            "process.runtime.name=Str(\"go\")",
        ] {
            assert!(lines.iter().any(|other| other == line), "{line} in {lines:?}");
        }
        let mut keys: Vec<&str> = lines.iter().map(|line| line.split('=').next().unwrap()).collect();
        keys.sort_unstable();
        let count = keys.len();
        keys.dedup();
        assert_eq!(keys.len(), count, "each key once");
    }

    #[test]
    fn instances_differ_by_each_part_and_stay() {
        let id = instance_id(&host(), ProcessId { tgid: 42, started: 1000 });
        assert_eq!(id, instance_id(&host(), ProcessId { tgid: 42, started: 1000 }));
        let bytes: Vec<&str> = id.split('-').collect();
        assert_eq!(bytes.iter().map(|part| part.len()).collect::<Vec<_>>(), [8, 4, 4, 4, 12], "{id}");
        assert!(bytes[2].starts_with('8') && bytes[3].starts_with(['8', '9', 'a', 'b']), "{id}");
        let others = [
            instance_id(&host(), ProcessId { tgid: 43, started: 1000 }),
            instance_id(&host(), ProcessId { tgid: 42, started: 1001 }),
            instance_id(&Host { boot_id: "c".to_owned(), ..host() }, ProcessId { tgid: 42, started: 1000 }),
            instance_id(
                &Host { machine_id: "n".to_owned(), ..host() },
                ProcessId { tgid: 42, started: 1000 },
            ),
        ];
        assert!(others.iter().all(|other| *other != id), "{id} {others:?}");
    }
}
