//! Where things lie: the checkout, its build folder, and what outlives a checkout.

use std::env;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

/// The root of the checkout that this xtask was built in.
pub(crate) fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap_or(Path::new("."))
}

/// The build folder.
pub(crate) fn target() -> PathBuf {
    env::var_os("CARGO_TARGET_DIR").map_or_else(|| root().join("target"), |dir| root().join(dir))
}

/// The kernel programs as the agent embeds them.
pub(crate) fn bpf_object() -> PathBuf {
    target().join("bpf/sonde.bpf.o")
}

/// The agent, one file.
pub(crate) fn sonde() -> PathBuf {
    target().join("release/sonde")
}

/// What is costly to fetch or build and shared by checkouts: `SONDE_CACHE`, else `~/.cache/sonde`.
pub(crate) fn cache() -> Result<PathBuf> {
    if let Some(dir) = env::var_os("SONDE_CACHE") {
        return Ok(dir.into());
    }
    if let Some(dir) = env::var_os("XDG_CACHE_HOME") {
        return Ok(Path::new(&dir).join("sonde"));
    }
    let home = env::var_os("HOME").context("neither SONDE_CACHE nor HOME is set: no place for a cache")?;
    Ok(Path::new(&home).join(".cache/sonde"))
}
