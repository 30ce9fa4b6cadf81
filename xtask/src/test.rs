//! `test`: everything that tells whether Sonde works, and one line that adds it up.

mod tally;

use std::io::{BufRead, BufReader};
use std::process::{ExitCode, Stdio};
use std::thread;

use anyhow::{Context, Result, bail};

use crate::backends::{self, Backend};
use crate::build::{self, Options};
use crate::fuzz;
use crate::kernels;
use crate::process::{self, step};
use crate::setup::{self, Tools, joined};
use crate::vm::Guest;
use crate::workspace;

use tally::Tally;

pub(crate) const COMMAND: crate::Command = crate::Command {
    name: "test",
    usage: "[FILTER] [--kernels 5.10,6.12|all|none] [--fuzz SECONDS] [--open] [--backends]",
    about: "Sets up, builds, and runs unit, replay and live tests (as root), fuzz targets, and the lab's kernels; with FILTER only tests of that name, with --open also live tests of what is known not to be right yet, with --backends also those with Jaeger and Prometheus.",
    run: |args| {
        let selection = parse(args)?;
        let tally = test(&selection)?;
        println!("{tally}");
        Ok(if tally.failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
    },
};

/// The live scenarios and what they are compared with.
const LIVE: &str = "sonde-tests";
/// How names of live tests begin that fail because Sonde is not right yet: `tests/README.md` lists them.
const OPEN: &str = "open_";
/// How names of live tests begin that want backends whose build takes too long for a plain run.
const BACKENDS: &str = "backends_";
/// Kernels that a plain run boots: the oldest, whose only hooks are the system calls', one with the better ones, and the series whose
/// tracepoints need perf events.
const USUAL_KERNELS: &[&str] = &["5.10", "6.12", "7"];
/// Seconds per fuzz target in a plain run.
const FUZZ_SECONDS: u32 = 60;

struct Selection {
    filter: Option<String>,
    kernels: Vec<String>,
    fuzz_seconds: u32,
    /// Whether live tests run whose failure is known.
    open: bool,
    /// Whether live tests run that want Jaeger and Prometheus.
    backends: bool,
}

impl Selection {
    /// Why a live test is not run that could be asked for.
    fn skips(&self, name: &str) -> Option<&'static str> {
        if name.starts_with(OPEN) && !self.open {
            Some("open, skipped (see tests/README.md)")
        } else if name.starts_with(BACKENDS) && !self.backends {
            Some("skipped, wants --backends")
        } else {
            None
        }
    }

    fn wanted_backends(&self) -> &'static [Backend] {
        let all: &'static [Backend] = &backends::ALL;
        if self.backends { all } else { all.get(..1).unwrap_or_default() }
    }
}

fn test(selection: &Selection) -> Result<Tally> {
    if !process::is_root() {
        eprintln!("xtask: not root: live tests load kernel programs and will fail; sudo -E cargo xtask test");
    }
    let tools = prepare(selection)?;
    let mut tally = Tally::default();
    tally +=
        step("unit and replay tests", || cargo_test(&["--workspace", "--exclude", LIVE], selection, &[]))?;
    tally += step("live tests", || live(selection))?;
    if selection.filter.is_some() {
        return Ok(tally);
    }
    if selection.fuzz_seconds > 0 {
        let targets = fuzz::targets()?;
        let failed = fuzz::fuzz(&tools, &targets, selection.fuzz_seconds)?;
        tally += Tally { passed: targets.len() - failed.len(), failed: failed.len(), skipped: 0 };
    }
    for version in &selection.kernels {
        tally += Tally::one(on_kernel(version)?);
    }
    Ok(tally)
}

/// Installs and builds, what waits for the network beside what computes. The two profiles of cargo do not wait for each
/// other, and the end of the release build keeps one core only.
fn prepare(selection: &Selection) -> Result<Tools> {
    let tools = thread::scope(|scope| {
        let fetching = scope
            .spawn(|| selection.kernels.iter().try_for_each(|version| kernels::folder(version).map(drop)));
        let tools = setup::setup(true)?;
        build::bpf(&tools)?;
        joined(fetching.join())?;
        anyhow::Ok(tools)
    })?;
    thread::scope(|scope| {
        let release = scope.spawn(|| step("building the agent", || build::agent(&Options::default())));
        step("building the tests", || {
            let mut cargo = build::host_cargo();
            process::check(cargo.args(["test", "--workspace", "--locked", "--no-run", "--quiet"]))
        })?;
        step("preparing the applications of the live tests", || {
            let mut cargo = build::host_cargo();
            cargo.args(["run", "--quiet", "--locked", "--package", LIVE, "--bin", "sonde-tests-apps"]);
            process::quiet("apps", &mut cargo)
        })?;
        backends::build(selection.wanted_backends())?;
        joined(release.join())
    })?;
    Ok(tools)
}

/// The live tests, one at a time and with the tables they print. Those that are not run, of what is open or with backends that
/// were not asked for, are named and count as skipped.
fn live(selection: &Selection) -> Result<Tally> {
    let mut runner =
        vec!["--include-ignored".to_owned(), "--nocapture".to_owned(), "--test-threads=1".to_owned()];
    let mut skipped = 0;
    for (name, why) in skipped_tests(selection)? {
        println!("test {name} ... {why}");
        runner.extend(["--skip".to_owned(), name]);
        skipped += 1;
    }
    let runner: Vec<&str> = runner.iter().map(String::as_str).collect();
    let mut tally = cargo_test(&["--package", LIVE], selection, &runner)?;
    tally.skipped += skipped;
    Ok(tally)
}

/// The names of live tests that are not run, of those that are selected, and why.
fn skipped_tests(selection: &Selection) -> Result<Vec<(String, &'static str)>> {
    let mut cargo = build::host_cargo();
    cargo
        .args(["test", "--locked", "--quiet", "--package", LIVE, "--", "--list", "--include-ignored"])
        .args(&selection.filter);
    let listed =
        cargo.stdin(Stdio::null()).stderr(Stdio::inherit()).output().context("cannot start cargo test")?;
    if !listed.status.success() {
        bail!("cargo test could not list the live tests");
    }
    Ok(skipped_names(&String::from_utf8_lossy(&listed.stdout), selection))
}

/// The names of tests that are skipped among the lines of libtest's `--list`: `NAME: test`.
fn skipped_names(listed: &str, selection: &Selection) -> Vec<(String, &'static str)> {
    let names = listed.lines().filter_map(|line| line.strip_suffix(": test"));
    names.filter_map(|name| Some((name.to_owned(), selection.skips(name)?))).collect()
}

/// Runs `cargo test`, shows what it prints, and adds up what its runners say.
fn cargo_test(packages: &[&str], selection: &Selection, runner: &[&str]) -> Result<Tally> {
    let mut cargo = build::host_cargo();
    if packages.contains(&LIVE) && !packages.contains(&"--exclude") {
        cargo.envs(backends::build(selection.wanted_backends())?);
    }
    cargo
        .args(["test", "--locked", "--no-fail-fast"])
        .args(packages)
        .arg("--")
        .args(runner)
        .args(&selection.filter);
    let mut child =
        cargo.stdin(Stdio::null()).stdout(Stdio::piped()).spawn().context("cannot start cargo test")?;
    let mut tally = Tally::default();
    for line in BufReader::new(child.stdout.take().context("no output of cargo test")?).split(b'\n') {
        let line = line?;
        let line = String::from_utf8_lossy(&line);
        println!("{line}");
        tally += Tally::of_line(&line);
    }
    if !child.wait()?.success() && tally.failed == 0 {
        bail!("cargo test failed before it ran all tests");
    }
    Ok(tally)
}

/// One live scenario, span for span, on another kernel.
fn on_kernel(version: &str) -> Result<bool> {
    let scenario = workspace::target().join("debug/sonde-tests-lab");
    let guest = Guest::new(format!("{} {}", scenario.display(), workspace::sonde().display()));
    let passed = guest.run(&kernels::folder(version)?)? == 0;
    println!("test kernel {version} ... {}", if passed { "ok" } else { "FAILED" });
    Ok(passed)
}

fn parse(args: &[String]) -> Result<Selection> {
    let kernels = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
    let mut selection = Selection {
        filter: None,
        kernels: kernels(USUAL_KERNELS),
        fuzz_seconds: FUZZ_SECONDS,
        open: false,
        backends: false,
    };
    let mut args = args.iter();
    while let Some(arg) = args.next() {
        let mut value = || args.next().with_context(|| format!("{arg} wants a value"));
        match arg.as_str() {
            "--kernels" => {
                selection.kernels = match value()?.as_str() {
                    "all" => kernels::SERIES.iter().map(|series| series.version.to_owned()).collect(),
                    "none" => Vec::new(),
                    list => list.split(',').map(str::to_owned).collect(),
                }
            }
            "--open" => selection.open = true,
            "--backends" => selection.backends = true,
            "--fuzz" => selection.fuzz_seconds = value()?.parse().context("--fuzz wants seconds")?,
            name if !name.starts_with('-') && selection.filter.is_none() => {
                selection.filter = Some(name.to_owned());
            }
            _ => bail!("usage: cargo xtask test {}", COMMAND.usage),
        }
    }
    if selection.filter.is_some() {
        selection.kernels.clear();
    }
    Ok(selection)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn selection(args: &[&str]) -> Selection {
        let args: Vec<String> = args.iter().map(|&arg| arg.to_owned()).collect();
        parse(&args).expect("good arguments")
    }

    #[test]
    fn tests_that_are_skipped_are_known_by_their_names() {
        let listed = "every_way: test\nopen_ways: test\nreopened: test\nopen_bench: benchmark\nbackends_jaeger: test\n\n2 tests, 0 benchmarks\n";
        let skipped = |args: &[&str]| -> Vec<String> {
            skipped_names(listed, &selection(args)).into_iter().map(|(name, _)| name).collect()
        };
        assert_eq!(skipped(&["--fuzz", "0"]), ["open_ways", "backends_jaeger"]);
        assert_eq!(skipped(&["--backends"]), ["open_ways"]);
        assert_eq!(skipped(&["--open", "--backends"]), Vec::<String>::new());
    }

    #[test]
    fn backends_that_take_long_are_built_when_asked_for() {
        assert_eq!(selection(&[]).wanted_backends().len(), 1);
        assert_eq!(selection(&["--backends"]).wanted_backends().len(), 3);
    }
}
