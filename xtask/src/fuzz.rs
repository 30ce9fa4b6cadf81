//! `fuzz`: the targets of `tests/fuzz` under libFuzzer, by the pinned toolchain.
//!
//! The folder is laid out for cargo-fuzz, which works on it too; but coverage instrumentation needs neither a nightly nor
//! that program, and our parsers hold no `unsafe` that an address sanitizer would watch.

use std::fs::{self, File};
use std::path::Path;
use std::process::{Command, ExitCode, Stdio};
use std::sync::Mutex;
use std::thread;

use anyhow::{Context, Result, bail};

use crate::build;
use crate::process::{self, step};
use crate::setup::{self, Tools, joined};
use crate::toolchain;
use crate::workspace;

pub(crate) const COMMAND: crate::Command = crate::Command {
    name: "fuzz",
    usage: "[TARGET] [--seconds N]",
    about: "Fuzzes one target of tests/fuzz, or each in turn, two at a time, for a minute unless told otherwise.",
    run: |args| {
        let (mut only, mut seconds) = (None, 60);
        let mut args = args.iter();
        while let Some(arg) = args.next() {
            match arg.as_str() {
                "--seconds" => seconds = args.next().context("--seconds wants a number")?.parse()?,
                name if !name.starts_with('-') && only.is_none() => only = Some(name),
                _ => bail!("usage: cargo xtask fuzz [TARGET] [--seconds N]"),
            }
        }
        let tools = setup::tools()?;
        build::bpf(&tools)?;
        let mut targets = targets()?;
        if let Some(only) = only {
            targets.retain(|target| target == only);
            if targets.is_empty() {
                bail!("no fuzz target `{only}` in tests/fuzz/fuzz_targets");
            }
        }
        let failed = fuzz(&tools, &targets, seconds)?;
        Ok(if failed.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
    },
};

/// How many fuzz at once.
const AT_ONCE: usize = 2;

/// What cargo-fuzz passes without a sanitizer, with overflow and debug assertions checked.
const RUSTFLAGS: &[&str] = &[
    "--cfg=fuzzing",
    "-Cpasses=sancov-module",
    "-Cllvm-args=-sanitizer-coverage-level=4",
    "-Cllvm-args=-sanitizer-coverage-inline-8bit-counters",
    "-Cllvm-args=-sanitizer-coverage-pc-table",
    "-Cllvm-args=-sanitizer-coverage-trace-compares",
    "-Cllvm-args=-simplifycfg-branch-fold-threshold=0",
    "-Ccodegen-units=1",
    "-Cdebug-assertions",
];

/// Every target by name.
pub(crate) fn targets() -> Result<Vec<String>> {
    let folder = workspace::root().join("tests/fuzz/fuzz_targets");
    let mut names = Vec::new();
    for entry in fs::read_dir(&folder).with_context(|| folder.display().to_string())? {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == "rs") {
            names.extend(path.file_stem().map(|name| name.to_string_lossy().into_owned()));
        }
    }
    names.sort();
    Ok(names)
}

/// Builds and runs these targets; returns those that found something.
pub(crate) fn fuzz(tools: &Tools, targets: &[String], seconds: u32) -> Result<Vec<String>> {
    let host = toolchain::host(&tools.sysroot)?;
    step("building fuzz targets", || {
        let mut cargo = build::host_cargo();
        cargo.args(["build", "--release", "--locked", "--manifest-path", "tests/fuzz/Cargo.toml"]);
        // With a target named, build scripts and macros stay without instrumentation.
        cargo.args(["--target", &host, "--target-dir"]).arg(workspace::target().join("fuzz"));
        cargo.env("CARGO_ENCODED_RUSTFLAGS", RUSTFLAGS.join("\x1f"));
        process::check(&mut cargo)
    })?;
    let binaries = workspace::target().join("fuzz").join(host).join("release");
    let waiting = Mutex::new(targets.iter());
    let next = || waiting.lock().ok()?.next();
    let failed = Mutex::new(Vec::new());
    thread::scope(|scope| {
        let worker = || -> Result<()> {
            while let Some(target) = next() {
                let what = format!("fuzzing {target} for {seconds} s");
                if let Err(error) = step(&what, || fuzz_one(&binaries.join(target), target, seconds)) {
                    eprintln!("{error:#}");
                    failed
                        .lock()
                        .map_err(|_| anyhow::anyhow!("a fuzzing thread panicked"))?
                        .push(target.clone());
                }
            }
            Ok(())
        };
        let workers: Vec<_> = (0..AT_ONCE).map(|_| scope.spawn(worker)).collect();
        workers.into_iter().try_for_each(|worker| joined(worker.join()))
    })?;
    Ok(failed.into_inner().unwrap_or_default())
}

/// Starts from what earlier runs found (`tests/fuzz/corpus`) and from the samples kept in the tree (`tests/fuzz/seeds`).
fn fuzz_one(binary: &Path, target: &str, seconds: u32) -> Result<()> {
    let folder = workspace::root().join("tests/fuzz");
    let corpus = folder.join("corpus").join(target);
    let artifacts = folder.join("artifacts").join(target);
    fs::create_dir_all(&corpus)?;
    fs::create_dir_all(&artifacts)?;
    let log = workspace::target().join("fuzz").join(format!("{target}.log"));
    let mut command = Command::new(binary);
    command.arg(format!("-max_total_time={seconds}")).args([
        "-timeout=10",
        "-rss_limit_mb=1024",
        "-print_final_stats=1",
    ]);
    command.arg(format!("-artifact_prefix={}/", artifacts.display())).arg(&corpus);
    let seeds = folder.join("seeds").join(target);
    if seeds.is_dir() {
        command.arg(seeds);
    }
    let output = File::create(&log)?;
    let status = command.stdin(Stdio::null()).stdout(output.try_clone()?).stderr(output).status();
    let status = status.with_context(|| format!("cannot start {}", binary.display()))?;
    let text = String::from_utf8_lossy(&fs::read(&log)?).into_owned();
    if !status.success() {
        let lines: Vec<&str> = text.lines().collect();
        let tail = lines.get(lines.len().saturating_sub(30)..).unwrap_or_default().join("\n");
        bail!(
            "{target} failed ({status}); the input is in {}; {}:\n{tail}",
            artifacts.display(),
            log.display()
        );
    }
    let runs = text.lines().find_map(|line| line.strip_prefix("stat::number_of_executed_units: "));
    eprintln!("xtask: fuzzing {target}: {} inputs", runs.unwrap_or("?").trim());
    Ok(())
}
