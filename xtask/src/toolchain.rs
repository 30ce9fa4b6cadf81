//! The pinned toolchain: the one place that names its versions.

use std::env;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};

use crate::process;
use crate::workspace;

/// Builds everything but xtask, kernel programs included.
pub(crate) const RUST: &str = "1.98.0";
/// Loads the LLVM of the rustc above. Later versions want LLVM's headers.
pub(crate) const BPF_LINKER: &str = "0.10.3";

/// `cargo` of the pinned toolchain, in the root of the checkout, with none of the variables of the cargo that runs us.
pub(crate) fn cargo() -> Command {
    let mut command = rustup();
    command.args(["run", RUST, "cargo"]).current_dir(workspace::root());
    command
}

/// Where the pinned toolchain lies with all the components we use, or `None` when something is missing.
pub(crate) fn sysroot() -> Result<Option<PathBuf>> {
    if process::find("rustup").is_none() {
        bail!("rustup is not on PATH; install it from https://rustup.rs (xtask runs Rust {RUST} through it)");
    }
    let output = rustup()
        .args(["which", "--toolchain", RUST, "rustc"])
        .stdin(Stdio::null())
        .output()
        .context("cannot start rustup")?;
    let rustc = PathBuf::from(String::from_utf8_lossy(&output.stdout).trim());
    let Some(sysroot) = rustc.parent().and_then(Path::parent) else { return Ok(None) };
    let parts = ["bin/cargo", "bin/cargo-clippy", "bin/cargo-fmt", "lib/rustlib/src/rust/library/core"];
    let complete = output.status.success() && parts.iter().all(|part| sysroot.join(part).exists());
    Ok(complete.then(|| sysroot.to_owned()))
}

/// The triple that a sysroot builds for by default: its folder is named after both.
pub(crate) fn host(sysroot: &Path) -> Result<String> {
    let name = sysroot.file_name().unwrap_or_default().to_string_lossy();
    let host = name.strip_prefix(RUST).and_then(|rest| rest.strip_prefix('-'));
    host.map(str::to_owned).with_context(|| format!("{} names no host", sysroot.display()))
}

/// Installs the toolchain with what is missing of it.
pub(crate) fn install() -> Result<()> {
    let mut command = rustup();
    command.args(["toolchain", "install", RUST, "--profile", "minimal", "--no-self-update"]);
    command.args(["--component", "rust-src,clippy,rustfmt"]);
    process::quiet("toolchain", &mut command)
}

/// A `bpf-linker` of the pinned version: ours, else the one on `PATH`.
pub(crate) fn bpf_linker(sysroot: &Path) -> Result<Option<PathBuf>> {
    let ours = linker_root()?.join("bin/bpf-linker");
    let candidates = [Some(ours), process::find("bpf-linker")];
    Ok(candidates
        .into_iter()
        .flatten()
        .find(|linker| linker_version(linker, sysroot).as_deref() == Some(BPF_LINKER)))
}

/// Builds `bpf-linker` into a place of its own, so that another version in `~/.cargo/bin` stays.
pub(crate) fn install_bpf_linker() -> Result<()> {
    let mut command = cargo();
    command
        .args(["install", "bpf-linker", "--locked", "--version", BPF_LINKER, "--root"])
        .arg(linker_root()?);
    process::quiet("bpf-linker", &mut command)
}

fn linker_root() -> Result<PathBuf> {
    Ok(workspace::cache()?.join(format!("bpf-linker-{BPF_LINKER}")))
}

fn linker_version(linker: &Path, sysroot: &Path) -> Option<String> {
    let output = Command::new(linker)
        .arg("--version")
        .env("LD_LIBRARY_PATH", sysroot.join("lib"))
        .stdin(Stdio::null())
        .output()
        .ok()?;
    String::from_utf8(output.stdout).ok()?.trim().strip_prefix("bpf-linker ").map(str::to_owned)
}

/// `rustup` without what the calling cargo left in the environment: its `LD_LIBRARY_PATH` would hand another LLVM to
/// bpf-linker, its `RUSTUP_TOOLCHAIN` another compiler to child processes, and its `CARGO_*` settings cause rebuilds.
fn rustup() -> Command {
    const KEPT: &[&str] =
        &["CARGO_HOME", "CARGO_TARGET_DIR", "CARGO_NET_OFFLINE", "CARGO_BUILD_JOBS", "CARGO_TERM_COLOR"];
    let mut command = Command::new("rustup");
    for (name, _) in env::vars_os() {
        let text = name.to_string_lossy();
        let inherited =
            text == "CARGO" || text.starts_with("CARGO_PKG_") || text.starts_with("CARGO_MANIFEST_");
        if !KEPT.contains(&text.as_ref())
            && (inherited || text == "RUSTUP_TOOLCHAIN" || text == "LD_LIBRARY_PATH")
        {
            command.env_remove(&name);
        }
    }
    command.env("RUSTUP_AUTO_INSTALL", "0");
    command
}
