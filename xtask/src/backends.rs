//! `backends`: real telemetry backends for the live tests, built once from their published Go modules into the cache.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use anyhow::{Context, Result, bail};

use crate::process::{self, step};
use crate::workspace;

pub(crate) const COMMAND: crate::Command = crate::Command {
    name: "backends",
    usage: "[collector|jaeger|prometheus]...",
    about: "Builds the telemetry backends that live tests export to, each once per version, into the cache, and prints where they are as the tests want to be told; wants Go.",
    run: |args| {
        let known = |name: &String| ALL.iter().any(|backend| backend.name == name.as_str());
        if let Some(unknown) = args.iter().find(|name| !known(name)) {
            bail!("no backend `{unknown}`: cargo xtask backends {}", COMMAND.usage);
        }
        let wanted =
            ALL.iter().filter(|backend| args.is_empty() || args.iter().any(|arg| arg == backend.name));
        for (variable, path) in build(wanted)? {
            println!("{variable}={}", path.display());
        }
        Ok(ExitCode::SUCCESS)
    },
};

/// A backend whose source, a list of what it is made of with all versions and checksums, is `tests/backends/NAME`.
pub(crate) struct Backend {
    name: &'static str,
    /// The module whose version it is named after.
    module: &'static str,
    /// Build tags.
    tags: &'static str,
    programs: &'static [Program],
}

struct Program {
    name: &'static str,
    package: &'static str,
    /// How tests are told where it is.
    variable: &'static str,
}

/// Every plain run of the tests wants it: about two minutes of processor time.
pub(crate) const COLLECTOR: Backend = Backend {
    name: "collector",
    module: "go.opentelemetry.io/collector/otelcol",
    tags: "",
    programs: &[Program { name: "otelcol", package: ".", variable: "SONDE_TEST_COLLECTOR" }],
};

const JAEGER: Backend = Backend {
    name: "jaeger",
    module: "github.com/jaegertracing/jaeger",
    tags: "",
    programs: &[Program {
        name: "jaeger",
        package: "github.com/jaegertracing/jaeger/cmd/jaeger",
        variable: "SONDE_TEST_JAEGER",
    }],
};

const PROMETHEUS: Backend = Backend {
    name: "prometheus",
    module: "github.com/prometheus/prometheus",
    // Finding targets in clouds is most of it, and all its dependencies; the tests name their targets.
    tags: "remove_all_sd",
    programs: &[
        Program {
            name: "prometheus",
            package: "github.com/prometheus/prometheus/cmd/prometheus",
            variable: "SONDE_TEST_PROMETHEUS",
        },
        Program {
            name: "promtool",
            package: "github.com/prometheus/prometheus/cmd/promtool",
            variable: "SONDE_TEST_PROMTOOL",
        },
    ],
};

/// What `cargo xtask test --backends` runs with.
pub(crate) const ALL: [Backend; 3] = [COLLECTOR, JAEGER, PROMETHEUS];

/// The programs of these backends, each under the variable that tells tests of it; built where the cache has none of their
/// source.
pub(crate) fn build<'a>(
    backends: impl IntoIterator<Item = &'a Backend>,
) -> Result<Vec<(&'static str, PathBuf)>> {
    let mut programs = Vec::new();
    for backend in backends {
        let source = workspace::root().join("tests/backends").join(backend.name);
        let key = key(&source, backend.module)?;
        let folder = workspace::cache()?.join("backends").join(format!("{}-{key}", backend.name));
        for program in backend.programs {
            let binary = folder.join(program.name);
            if !binary.is_file() {
                step(&format!("building {} {key}", program.name), || {
                    compile(&source, backend, program, &binary)
                })?;
            }
            programs.push((program.variable, binary));
        }
    }
    Ok(programs)
}

fn compile(source: &Path, backend: &Backend, program: &Program, binary: &Path) -> Result<()> {
    if process::find("go").is_none() {
        bail!("building {} wants Go 1.26 or later (or put its binary at {})", program.name, binary.display());
    }
    let folder = binary.parent().context("a folder in the cache")?;
    fs::create_dir_all(folder).with_context(|| format!("cannot create {}", folder.display()))?;
    // Under another name until it is whole: two runs may build at once.
    let unfinished = folder.join(format!("unfinished-{}", std::process::id()));
    let mut go = Command::new("go");
    go.current_dir(source).args(["build", "-mod=readonly", "-trimpath", "-ldflags=-s -w"]);
    go.arg(format!("-tags={}", backend.tags)).arg("-o").arg(&unfinished).arg(program.package);
    process::check(&mut go)?;
    fs::rename(&unfinished, binary).with_context(|| format!("cannot write {}", binary.display()))
}

/// What a build is made of, as a name: the version of its main module, and a checksum of the source with its own checksums.
fn key(source: &Path, module: &str) -> Result<String> {
    let (mut version, mut sum) = (String::new(), 0xcbf2_9ce4_8422_2325_u64);
    for name in ["go.mod", "go.sum", "main.go"] {
        let path = source.join(name);
        if name == "main.go" && !path.exists() {
            continue;
        }
        let text = fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
        let required = |line: &str| {
            let line = line.trim();
            line.strip_prefix("require ")
                .unwrap_or(line)
                .strip_prefix(module)?
                .strip_prefix(" v")
                .map(str::to_owned)
        };
        if let Some(found) = text.lines().find_map(required) {
            version = found.split([' ', '/']).next().unwrap_or_default().to_owned();
        }
        // FNV-1a: the same on every machine and with every compiler.
        sum = text.bytes().fold(sum, |sum, byte| (sum ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3));
    }
    Ok(format!("{version}-{sum:016x}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_build_is_named_after_its_version() {
        for (backend, version) in ALL.iter().zip(["0.155.0-", "1.76.0-", "0.315.0-"]) {
            let key =
                key(&workspace::root().join("tests/backends").join(backend.name), backend.module).unwrap();
            assert!(key.starts_with(version) && key.len() == version.len() + 16, "{key}");
        }
    }
}
