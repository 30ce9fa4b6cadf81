//! `service.name` of a process: what it declares, else its systemd unit, else the program that it runs; and `service.version`, where
//! that says it.

mod declared;
mod jar;
mod java;
mod node;
mod program;
mod python;
#[cfg(test)]
mod tests;
pub(super) mod unit;

pub(super) use declared::Declared;
pub(super) use python::asgi;

use super::proc::ProcFs;
use super::runtime::Language;
use super::targets::file_name;
use program::Place;

/// Bytes of a version; a longer one is none.
const VERSION_BYTES: usize = 256;

/// What a name is found in.
#[derive(Debug)]
pub(super) struct Seen<'a> {
    pub declared: &'a Declared,
    pub cgroup: &'a str,
    /// Path of the executable.
    pub program: &'a str,
    pub args: &'a [String],
    pub language: Language,
    /// Version of a Go program's main module.
    pub go_module: Option<&'a str>,
    pub ppid: u32,
}

/// The service that a process belongs to: never empty, and never just an interpreter. Where nothing else is known it is
/// `unknown_service:<executable>`, as the specification has it.
pub(super) fn name(proc: &ProcFs, pid: u32, seen: &Seen<'_>) -> String {
    if let Some(declared) = &seen.declared.service_name {
        return declared.clone();
    }
    if let Some(unit) = unit::service(seen.cgroup) {
        return unit;
    }
    let found = program::name(proc, pid, seen).filter(|name| !name.is_empty());
    found.unwrap_or_else(|| match file_name(seen.program) {
        "" => "unknown_service".to_owned(),
        executable => format!("unknown_service:{executable}"),
    })
}

/// The version of the program: that of its package (Node.js), its jar, its main module (Go), or of the script, module or package
/// itself (Python).
pub(super) fn version(proc: &ProcFs, pid: u32, seen: &Seen<'_>) -> Option<String> {
    let place = Place { proc, pid };
    let version = match seen.language {
        Language::Node | Language::Bun | Language::Deno => node::version(&place, seen.language, seen.args),
        Language::Java => java::version(&place, seen.args),
        Language::Python => python::version(&place, seen.args),
        Language::Go => seen.go_module.map(ToOwned::to_owned),
        _ => None,
    };
    version
        .map(|version| version.trim().to_owned())
        .filter(|version| (1..=VERSION_BYTES).contains(&version.len()))
}
