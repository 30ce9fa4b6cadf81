//! `setup`: installs what building (and, with `--tests`, testing) needs; quick when nothing is missing.

mod packages;

use std::path::PathBuf;
use std::process::ExitCode;
use std::thread;

use anyhow::{Context, Result, anyhow, bail};

use crate::process::step;
use crate::toolchain;

pub(crate) const COMMAND: crate::Command = crate::Command {
    name: "setup",
    usage: "[--tests]",
    about: "Installs the pinned toolchain and bpf-linker; with --tests also the software that the tests run.",
    run: |args| {
        let tests = match args {
            [] => false,
            [flag] if flag == "--tests" => true,
            _ => bail!("usage: cargo xtask setup [--tests]"),
        };
        setup(tests)?;
        Ok(ExitCode::SUCCESS)
    },
};

/// What the build needs to know of the tools.
pub(crate) struct Tools {
    /// The sysroot of the pinned toolchain.
    pub(crate) sysroot: PathBuf,
    /// The linker of the kernel programs.
    pub(crate) bpf_linker: PathBuf,
}

/// Makes the tools present, the tests' packages beside them.
pub(crate) fn setup(tests: bool) -> Result<Tools> {
    thread::scope(|scope| {
        let packages = tests.then(|| scope.spawn(packages::install));
        let tools = tools();
        if let Some(packages) = packages {
            joined(packages.join())?;
        }
        tools
    })
}

/// Makes the toolchain and bpf-linker present.
pub(crate) fn tools() -> Result<Tools> {
    if toolchain::sysroot()?.is_none() {
        step(&format!("installing Rust {}", toolchain::RUST), toolchain::install)?;
    }
    let sysroot = toolchain::sysroot()?.with_context(|| {
        format!("Rust {} is still incomplete; try `rustup toolchain uninstall {0}`", toolchain::RUST)
    })?;
    if toolchain::bpf_linker(&sysroot)?.is_none() {
        step(
            &format!("building bpf-linker {} (minutes)", toolchain::BPF_LINKER),
            toolchain::install_bpf_linker,
        )?;
    }
    let bpf_linker = toolchain::bpf_linker(&sysroot)?.context("the bpf-linker just built does not run")?;
    Ok(Tools { sysroot, bpf_linker })
}

/// The result of a thread, its panic as an error.
pub(crate) fn joined<T>(result: thread::Result<Result<T>>) -> Result<T> {
    result.unwrap_or_else(|_| Err(anyhow!("a worker thread of xtask panicked")))
}
