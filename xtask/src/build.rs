//! `build`: the kernel programs, then the agent with them inside.

use std::env;
use std::fs;
use std::path::Path;
use std::process::{Command, ExitCode};

use anyhow::{Context, Result, bail};

use crate::elf::Elf;
use crate::process;
use crate::setup::{self, Tools};
use crate::toolchain;
use crate::workspace;

pub(crate) const COMMAND: crate::Command = crate::Command {
    name: "build",
    usage: "[--release|--debug] [--log]",
    about: "Builds target/release/sonde (target/debug/sonde with --debug); --log keeps the kernel programs' own log output.",
    run: |args| {
        let mut options = Options::default();
        for arg in args {
            match arg.as_str() {
                "--release" => options.debug = false,
                "--debug" => options.debug = true,
                "--log" => options.log = true,
                _ => bail!("usage: cargo xtask build [--release|--debug] [--log]"),
            }
        }
        build(&setup::tools()?, &options)?;
        Ok(ExitCode::SUCCESS)
    },
};

/// How to build; by default as it ships.
#[derive(Default)]
pub(crate) struct Options {
    /// The agent in cargo's `dev` profile. The kernel programs are always optimised: they load in no other form.
    pub(crate) debug: bool,
    /// The kernel programs with aya-log, and the agent with a reader of it.
    pub(crate) log: bool,
}

const TARGET: &str = "bpfel-unknown-none";

/// Flags for the kernel programs. What LLVM's own expansion of small copies costs there: a byte loop per zeroed struct,
/// 310 instead of 143 instructions for a hook that does nothing else.
const RUSTFLAGS: &[&str] = &[
    "--cfg=bpf_target_arch=\"x86_64\"",
    "-Clink-arg=--btf",
    "-Clink-arg=--disable-expand-memcpy-in-order",
    "-Cdebuginfo=2",
    "-Ctarget-cpu=v3",
];

/// Builds everything that ships.
pub(crate) fn build(tools: &Tools, options: &Options) -> Result<()> {
    bpf_with(tools, options)?;
    agent(options)
}

/// Builds the kernel programs into [`workspace::bpf_object`], as they ship.
pub(crate) fn bpf(tools: &Tools) -> Result<()> {
    bpf_with(tools, &Options::default())
}

fn bpf_with(tools: &Tools, options: &Options) -> Result<()> {
    let mut cargo = bpf_cargo(tools, "build");
    if options.log {
        cargo.args(["--features", "log"]);
    }
    process::check(&mut cargo).context("building the kernel programs")?;
    let built = workspace::target().join("bpf").join(TARGET).join("release/sonde-ebpf");
    let object = fs::read(&built).with_context(|| built.display().to_string())?;
    let lean = Elf::parse(&object)
        .and_then(|elf| elf.without_debug(options.debug || options.log))
        .with_context(|| built.display().to_string())?;
    write_if_new(&workspace::bpf_object(), &lean)
}

/// `cargo SUBCOMMAND` for the kernel programs, a workspace of their own. Their flags come by the environment and so
/// leave what is built for this machine alone.
pub(crate) fn bpf_cargo(tools: &Tools, subcommand: &str) -> Command {
    let linker = format!("-Clinker={}", tools.bpf_linker.display());
    let flags: Vec<&str> = RUSTFLAGS.iter().copied().chain([linker.as_str()]).collect();
    let mut cargo = toolchain::cargo();
    cargo
        .current_dir(workspace::root().join("ebpf"))
        .args([subcommand, "--locked", "--release", "-Zbuild-std=core", "--target", TARGET, "--target-dir"])
        .arg(workspace::target().join("bpf"))
        .env("RUSTC_BOOTSTRAP", "1")
        .env("CARGO_ENCODED_RUSTFLAGS", flags.join("\x1f"))
        // bpf-linker takes the first LLVM it meets here, and it has to be that of the rustc above.
        .env("LD_LIBRARY_PATH", tools.sysroot.join("lib"));
    cargo
}

/// `cargo` for the host workspace, told where the kernel programs are if not in their usual place.
pub(crate) fn host_cargo() -> Command {
    let mut cargo = toolchain::cargo();
    if env::var_os("CARGO_TARGET_DIR").is_some() {
        cargo.env("SONDE_BPF_OBJECT", workspace::bpf_object());
    }
    cargo
}

/// Builds the agent around the kernel programs that are there.
pub(crate) fn agent(options: &Options) -> Result<()> {
    let mut cargo = host_cargo();
    cargo.args(["build", "--locked", "--package", "sonde"]);
    if !options.debug {
        cargo.arg("--release");
    }
    if options.log {
        cargo.args(["--features", "log"]);
    }
    process::check(&mut cargo)
}

/// Leaves a file alone that already says this, so that cargo does not build the agent again.
fn write_if_new(path: &Path, contents: &[u8]) -> Result<()> {
    if fs::read(path).is_ok_and(|old| old == contents) {
        return Ok(());
    }
    fs::write(path, contents).with_context(|| path.display().to_string())
}
