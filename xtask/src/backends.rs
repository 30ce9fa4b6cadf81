//! `backends`: real telemetry backends for the live tests, built once from their published Go modules into the cache.

use std::fs;
use std::path::PathBuf;
use std::process::{Command, ExitCode};

use anyhow::{Context, Result, bail};

use crate::process::{self, step};
use crate::workspace;

pub(crate) const COMMAND: crate::Command = crate::Command {
    name: "backends",
    usage: "",
    about: "Builds the OpenTelemetry Collector that live tests export to, once per version, into the cache; wants Go.",
    run: |_| {
        println!("{}", collector()?.display());
        Ok(ExitCode::SUCCESS)
    },
};

/// Where its source is: a list of parts, and the versions of all that they need with their checksums.
const COLLECTOR: &str = "tests/backends/collector";

/// The Collector's binary, built if the cache has none of this source. About two minutes of processor time.
pub(crate) fn collector() -> Result<PathBuf> {
    let source = workspace::root().join(COLLECTOR);
    let folder = workspace::cache()?.join("backends").join(format!("collector-{}", key(&source)?));
    let binary = folder.join("otelcol");
    if binary.is_file() {
        return Ok(binary);
    }
    if process::find("go").is_none() {
        bail!("building the Collector wants Go 1.25 or later (or put its binary at {})", binary.display());
    }
    step("building the OpenTelemetry Collector", || {
        fs::create_dir_all(&folder).with_context(|| format!("cannot create {}", folder.display()))?;
        // Under another name until it is whole: two runs may build at once.
        let unfinished = folder.join(format!("unfinished-{}", std::process::id()));
        let mut go = Command::new("go");
        go.current_dir(&source).args(["build", "-mod=readonly", "-trimpath", "-ldflags=-s -w", "-o"]);
        process::check(go.arg(&unfinished).arg("."))?;
        fs::rename(&unfinished, &binary).with_context(|| format!("cannot write {}", binary.display()))
    })?;
    Ok(binary)
}

/// What a build is made of, as a name: the Collector's version, and a checksum of the source with its own checksums.
fn key(source: &std::path::Path) -> Result<String> {
    let (mut version, mut sum) = (String::new(), 0xcbf2_9ce4_8422_2325_u64);
    for name in ["go.mod", "go.sum", "main.go"] {
        let path = source.join(name);
        let text = fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
        if let Some(found) =
            text.lines().find_map(|line| line.trim().strip_prefix("go.opentelemetry.io/collector/otelcol v"))
        {
            version = found.split_whitespace().next().unwrap_or_default().to_owned();
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
        let key = key(&workspace::root().join(COLLECTOR)).unwrap();
        assert!(key.starts_with("0.") && key.len() > 20, "{key}");
    }
}
