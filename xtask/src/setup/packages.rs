//! The software that the tests run, by Debian package; a program that is there already counts, whatever brought it.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};

use crate::process::{self, step};

/// A package, and how to know that it (or an equal) is there.
struct Package {
    name: &'static str,
    present: Presence,
}

enum Presence {
    Program(&'static str),
    /// An executable without a dynamic loader: it runs in an initial RAM disk.
    Static(&'static str),
    /// A module of the system's Python.
    PythonModule(&'static str),
}

use Presence::{Program, PythonModule, Static};

const PACKAGES: &[Package] = &[
    // Servers and clients of the live scenarios.
    Package { name: "nginx-light", present: Program("nginx") },
    Package { name: "haproxy", present: Program("haproxy") },
    // The program without the service that Debian's `apache2` would start.
    Package { name: "apache2-bin", present: Program("apache2") },
    Package { name: "wrk", present: Program("wrk") },
    Package { name: "curl", present: Program("curl") },
    Package { name: "nghttp2-client", present: Program("h2load") },
    Package { name: "nghttp2-server", present: Program("nghttpd") },
    Package { name: "python3-venv", present: PythonModule("ensurepip") },
    Package { name: "default-jdk-headless", present: Program("javac") },
    Package { name: "maven", present: Program("mvn") },
    Package { name: "nodejs", present: Program("node") },
    Package { name: "npm", present: Program("npm") },
    Package { name: "golang-go", present: Program("go") },
    Package { name: "etcd-server", present: Program("etcd") },
    // Network namespaces and address translation.
    Package { name: "iproute2", present: Program("ip") },
    Package { name: "nftables", present: Program("nft") },
    // Containers.
    Package { name: "runc", present: Program("runc") },
    // Captures, and what rewrites them.
    Package { name: "tcpdump", present: Program("tcpdump") },
    Package { name: "wireshark-common", present: Program("editcap") },
    // The kernel lab.
    Package { name: "qemu-system-x86", present: Program("qemu-system-x86_64") },
    Package { name: "busybox-static", present: Static("busybox") },
    Package { name: "kmod", present: Program("modprobe") },
    Package { name: "xz-utils", present: Program("xz") },
    Package { name: "zstd", present: Program("zstd") },
    // libFuzzer is C++.
    Package { name: "g++", present: Program("c++") },
];

/// Installs what is missing. Without apt or root it says what to install by hand and goes on: the tests that need it
/// then fail by name.
pub(super) fn install() -> Result<()> {
    let missing: Vec<&str> =
        PACKAGES.iter().filter(|package| !is_present(&package.present)).map(|p| p.name).collect();
    if missing.is_empty() {
        return Ok(());
    }
    let list = missing.join(" ");
    if process::find("apt-get").is_none() {
        eprintln!(
            "xtask: this is no Debian; the tests want the equals of these packages, please install: {list}"
        );
        return Ok(());
    }
    if !process::is_root() {
        eprintln!(
            "xtask: not root; the tests want these packages: sudo apt-get install --no-install-recommends {list}"
        );
        return Ok(());
    }
    step(&format!("installing packages: {list}"), || apt(&missing))?;
    if let Some(package) =
        PACKAGES.iter().find(|package| missing.contains(&package.name) && !is_present(&package.present))
    {
        bail!("package {} is installed but what it should bring is not found", package.name);
    }
    Ok(())
}

fn apt(packages: &[&str]) -> Result<()> {
    process::quiet("apt-update", apt_get().arg("update"))?;
    let mut install = apt_get();
    install.args(["install", "--yes", "--no-install-recommends"]).args(packages);
    process::quiet("apt-install", &mut install).context("installing the tests' packages")
}

/// Asks nothing, starts no service that a package brings, waits for another apt to end.
fn apt_get() -> Command {
    let mut command = Command::new("apt-get");
    command.args(["-qq", "-o", "DPkg::Lock::Timeout=300", "-o", "Acquire::Retries=3"]);
    command.env("DEBIAN_FRONTEND", "noninteractive").env("RUNLEVEL", "1");
    command
}

fn is_present(presence: &Presence) -> bool {
    match presence {
        Program(name) => process::find(name).is_some(),
        Static(name) => process::find(name).is_some_and(|path| is_static(&path)),
        PythonModule(name) => Command::new("python3")
            .args(["-c", &format!("import {name}")])
            .stdin(Stdio::null())
            .stderr(Stdio::null())
            .status()
            .is_ok_and(|status| status.success()),
    }
}

/// Whether an ELF file names no loader: the interpreter's path stands near its start.
fn is_static(path: &Path) -> bool {
    let Ok(bytes) = fs::read(path) else { return false };
    let start = bytes.get(..bytes.len().min(4096)).unwrap_or_default();
    start.starts_with(b"\x7fELF") && !start.windows(3).any(|window| window == b"/ld")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dynamic_and_foreign_files_are_not_static() {
        assert!(!is_static(Path::new("/bin/sh")));
        assert!(!is_static(Path::new("/etc/passwd")));
    }

    #[test]
    fn presence_is_told() {
        assert!(is_present(&Program("sh")));
        assert!(!is_present(&Program("no-such-program")));
        assert!(!is_present(&PythonModule("no_such_module")));
    }
}
