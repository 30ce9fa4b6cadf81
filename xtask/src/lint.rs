//! `lint`: formatting, clippy on both sides, and our own checks.

use std::process::ExitCode;

use anyhow::{Result, bail};

use crate::build;
use crate::process::{check, step};
use crate::setup;
use crate::tidy::tidy;
use crate::toolchain;
use crate::workspace;

pub(crate) const COMMAND: crate::Command = crate::Command {
    name: "lint",
    usage: "",
    about: "Formatting, clippy with warnings denied for agent and kernel programs, and tidy.",
    run: |args| {
        if !args.is_empty() {
            bail!("usage: cargo xtask lint");
        }
        lint()?;
        Ok(ExitCode::SUCCESS)
    },
};

/// Each part stops at its first error: later ones tend to follow from it.
fn lint() -> Result<()> {
    let tools = setup::tools()?;
    step("formatting", || {
        check(toolchain::cargo().args(["fmt", "--all", "--check"]))?;
        ["ebpf", "tests/fuzz"].iter().try_for_each(|workspace| {
            check(toolchain::cargo().current_dir(workspace::root().join(workspace)).args(["fmt", "--check"]))
        })
    })?;
    // The agent embeds the object, so that even looking at the agent needs it.
    step("kernel programs", || build::bpf(&tools))?;
    step("clippy, kernel programs", || check(build::bpf_cargo(&tools, "clippy").args(["--", "-Dwarnings"])))?;
    step("clippy", || {
        let mut clippy = build::host_cargo();
        clippy.args(["clippy", "--locked", "--workspace", "--all-targets", "--", "-Dwarnings"]);
        check(&mut clippy)
    })?;
    step("tidy", tidy)
}
