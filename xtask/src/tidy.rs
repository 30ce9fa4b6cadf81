//! `tidy`: the rules of ARCHITECTURE.md that a program can check.

mod calls;
mod code;
mod docs;
mod rules;

use std::fs;
use std::path::Path;
use std::process::ExitCode;

use anyhow::{Context, Result, bail};

use crate::workspace;

pub(crate) const COMMAND: crate::Command = crate::Command {
    name: "tidy",
    usage: "",
    about: "Our own checks: layering, unsafe, sizes, names, documents, and the kernel programs' calls (once they are built).",
    run: |args| {
        if !args.is_empty() {
            bail!("usage: cargo xtask tidy");
        }
        tidy()?;
        Ok(ExitCode::SUCCESS)
    },
};

/// What a check found wrong, as `PATH[:LINE]: what and why`.
type Findings = Vec<String>;

/// Prints every finding; any is an error.
pub(crate) fn tidy() -> Result<()> {
    let root = workspace::root();
    let mut findings = Findings::new();
    let mut files = Vec::new();
    walk(root, Path::new(""), &mut files)?;
    for path in &files {
        rules::file_name(path, &mut findings);
        if path.ends_with(".rs") {
            let text = fs::read_to_string(root.join(path)).with_context(|| path.clone())?;
            rules::source(path, &text, &mut findings);
        }
    }
    for name in ["README.md", "ARCHITECTURE.md"] {
        match fs::read_to_string(root.join(name)) {
            Ok(text) => docs::commands(name, &text, &mut findings),
            Err(error) => findings.push(format!("{name}: {error}")),
        }
    }
    let architecture = fs::read_to_string(root.join("ARCHITECTURE.md")).unwrap_or_default();
    docs::invariants("ARCHITECTURE.md", &architecture, &mut findings);
    let object = workspace::bpf_object();
    if object.exists() {
        let bytes = fs::read(&object)?;
        calls::check(&object.display().to_string(), &bytes, &mut findings)?;
    }
    for finding in &findings {
        eprintln!("{finding}");
    }
    if !findings.is_empty() {
        bail!("tidy: {} findings", findings.len());
    }
    Ok(())
}

/// Every file of the checkout, relative to its root, but for what tools put there.
fn walk(root: &Path, below: &Path, files: &mut Vec<String>) -> Result<()> {
    for entry in fs::read_dir(root.join(below))? {
        let entry = entry?;
        let name = entry.file_name();
        let name = name.to_string_lossy();
        let path = below.join(name.as_ref());
        let kind = entry.file_type()?;
        if kind.is_dir()
            && !matches!(name.as_ref(), "target" | ".git" | "node_modules" | "__pycache__" | "corpus")
        {
            walk(root, &path, files)?;
        } else if kind.is_file() {
            files.push(path.display().to_string());
        }
    }
    Ok(())
}
