//! Finds the eBPF object that the agent embeds: `SONDE_BPF_OBJECT`, else where `cargo xtask build` puts it. Without one the
//! agent still builds (for tests of everything else) and says at run time what it lacks.

use std::path::{Path, PathBuf};
use std::{env, fs};

fn main() {
    println!("cargo::rerun-if-env-changed=SONDE_BPF_OBJECT");
    let root = PathBuf::from(env::var_os("CARGO_MANIFEST_DIR").unwrap_or_default()).join("..");
    let object = env::var_os("SONDE_BPF_OBJECT")
        .map_or_else(|| root.join("target/bpf/sonde.bpf.o"), PathBuf::from);
    println!("cargo::rerun-if-changed={}", object.display());
    let bytes = fs::read(&object).unwrap_or_default();
    let out = PathBuf::from(env::var_os("OUT_DIR").unwrap_or_default()).join("sonde.bpf.o");
    if let Err(why) = write_if_changed(&out, &bytes) {
        println!("cargo::error=cannot write {}: {why}", out.display());
    }
}

fn write_if_changed(path: &Path, bytes: &[u8]) -> std::io::Result<()> {
    if fs::read(path).is_ok_and(|present| present == bytes) {
        return Ok(());
    }
    fs::write(path, bytes)
}
