//! Running other programs, so that a failure says which one, how it ended, and what it printed.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Instant;

use anyhow::{Context, Result, bail};

use crate::workspace;

/// Lines of a quiet step's output that its failure shows.
const TAIL: usize = 40;

/// Runs a command in the foreground.
pub(crate) fn check(command: &mut Command) -> Result<()> {
    let status = command.status().with_context(|| format!("cannot start {}", show(command)))?;
    if !status.success() {
        bail!("{} failed ({status})", show(command));
    }
    Ok(())
}

/// Runs a command whose output matters only when it fails: it goes to `target/xtask/LABEL.log`.
pub(crate) fn quiet(label: &str, command: &mut Command) -> Result<()> {
    let folder = workspace::target().join("xtask");
    fs::create_dir_all(&folder)?;
    let path = folder.join(format!("{label}.log"));
    let log = File::create(&path).with_context(|| path.display().to_string())?;
    let status = command
        .stdin(Stdio::null())
        .stderr(log.try_clone()?)
        .stdout(log)
        .status()
        .with_context(|| format!("cannot start {}", show(command)))?;
    if !status.success() {
        let text = String::from_utf8_lossy(&fs::read(&path)?).into_owned();
        let lines: Vec<&str> = text.lines().collect();
        let tail = lines.get(lines.len().saturating_sub(TAIL)..).unwrap_or_default().join("\n");
        bail!("{} failed ({status}); the end of {}:\n{tail}", show(command), path.display());
    }
    Ok(())
}

/// What a command prints on standard output, which must be UTF-8; its standard error passes through.
pub(crate) fn output(command: &mut Command) -> Result<String> {
    let output = command
        .stdin(Stdio::null())
        .stderr(Stdio::inherit())
        .output()
        .with_context(|| format!("cannot start {}", show(command)))?;
    if !output.status.success() {
        bail!("{} failed ({})", show(command), output.status);
    }
    String::from_utf8(output.stdout).with_context(|| format!("the output of {}", show(command)))
}

/// Says what takes its time, and at the end how much.
pub(crate) fn step<T>(what: &str, work: impl FnOnce() -> Result<T>) -> Result<T> {
    let start = Instant::now();
    eprintln!("xtask: {what}");
    let result = work();
    let outcome = if result.is_ok() { "done" } else { "FAILED" };
    eprintln!("xtask: {what}: {outcome} in {:.1} s", start.elapsed().as_secs_f64());
    result
}

/// The first program of this name on `PATH` or where a system keeps its administrators' programs.
pub(crate) fn find(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path)
        .chain(["/usr/sbin", "/sbin"].into_iter().map(PathBuf::from))
        .map(|dir| dir.join(name))
        .find(|program| is_program(program))
}

/// Whether we are root, without a system call that would need `unsafe`.
pub(crate) fn is_root() -> bool {
    fs::read_to_string("/proc/self/status").is_ok_and(|status| {
        let effective = status.lines().find_map(|line| line.strip_prefix("Uid:"));
        effective.and_then(|ids| ids.split_whitespace().nth(1)) == Some("0")
    })
}

/// A command as one would type it.
pub(crate) fn show(command: &Command) -> String {
    let mut text = command.get_program().to_string_lossy().into_owned();
    for arg in command.get_args() {
        text.push(' ');
        text.push_str(&arg.to_string_lossy());
    }
    text
}

fn is_program(path: &Path) -> bool {
    use std::os::unix::fs::PermissionsExt;
    path.metadata().is_ok_and(|meta| meta.is_file() && meta.permissions().mode() & 0o111 != 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn failure_names_the_command_and_its_end() {
        let error = quiet("failing", Command::new("sh").args(["-c", "echo because; exit 3"]))
            .unwrap_err()
            .to_string();
        assert!(
            error.contains("sh -c") && error.contains("exit status: 3") && error.contains("because"),
            "{error}"
        );
    }

    #[test]
    fn finds_programs_and_only_those() {
        assert!(find("sh").is_some());
        assert!(find("no-such-program").is_none());
    }
}
