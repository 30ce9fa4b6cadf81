//! What a live scenario needs, and that only one runs at a time.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

/// Held while a scenario runs: scenarios share the machine, across test threads and test binaries.
#[must_use]
pub struct Gate {
    _lock: File,
}

/// Waits until no other scenario runs, and checks what every scenario needs.
///
/// # Panics
/// Where something is missing. The scenarios are `#[ignore]`d, so whoever runs them asked for them: missing privileges
/// are a failure with a reason, never a silent pass.
pub fn enter() -> Gate {
    assert!(rustix::process::geteuid().is_root(), "live scenarios need root: they load BPF programs");
    let sonde = sonde_path();
    assert!(sonde.is_file(), "no sonde at {}: cargo xtask build, or set SONDE_BIN", sonde.display());
    turn()
}

/// Waits until no other scenario runs, for those that need neither privileges nor Sonde.
///
/// # Panics
/// When the lock cannot be had.
pub fn turn() -> Gate {
    let path = target().join("live.lock");
    let lock = File::create(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    lock.lock().expect("lock of the live scenarios");
    Gate { _lock: lock }
}

/// The binary under test: what [`set_sonde_path`] said, `SONDE_BIN`, else the workspace's release build.
#[must_use]
pub fn sonde_path() -> PathBuf {
    let default =
        || std::env::var_os("SONDE_BIN").map_or_else(|| target().join("release/sonde"), PathBuf::from);
    SONDE.get().cloned().unwrap_or_else(default)
}

/// Chooses the binary under test, for programs that take it as an argument. The first choice stays.
pub fn set_sonde_path(path: &Path) {
    drop(SONDE.set(path.to_owned()));
}

static SONDE: OnceLock<PathBuf> = OnceLock::new();

/// The hook families to run a scenario under: those of `SONDE_TEST_HOOKS` (comma-separated), else all that this kernel has.
#[must_use]
pub fn hook_families() -> Vec<String> {
    static FAMILIES: OnceLock<Vec<String>> = OnceLock::new();
    FAMILIES
        .get_or_init(|| match std::env::var("SONDE_TEST_HOOKS") {
            Ok(names) => names.split(',').map(str::to_owned).collect(),
            Err(_) if has_length_hooks() => vec!["lengths".into(), "syscalls".into()],
            Err(_) => vec!["syscalls".into()],
        })
        .clone()
}

/// The hook family of scenarios that run once.
#[must_use]
pub fn hooks() -> String {
    match std::env::var("SONDE_TEST_HOOKS") {
        Ok(names) => names.split(',').next().unwrap_or("auto").to_owned(),
        Err(_) => "auto".into(),
    }
}

/// A backend that `cargo xtask backends` builds, by the variable that says where it is.
///
/// # Panics
/// Where it is not said.
#[must_use]
pub fn backend(variable: &str) -> PathBuf {
    let path = std::env::var_os(variable);
    path.unwrap_or_else(|| panic!("no {variable}: `cargo xtask backends` builds it and says where it is"))
        .into()
}

/// The workspace's root.
#[must_use]
pub fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .expect("the tests are a folder of the workspace")
        .to_owned()
}

/// The build folder of the workspace.
#[must_use]
pub fn target() -> PathBuf {
    std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| root().join("target"), PathBuf::from)
}

/// Whether this kernel has the tracepoints of `--hooks lengths`, by name in its BTF: 6.3 and later.
fn has_length_hooks() -> bool {
    let Ok(btf) = std::fs::read("/sys/kernel/btf/vmlinux") else { return false };
    let name = b"btf_trace_sock_send_length\0";
    btf.windows(name.len()).any(|window| window == name)
}
