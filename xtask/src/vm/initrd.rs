//! The guest's initial RAM disk: busybox, the modules that mount the machine's root, and the first script.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};

use crate::elf::Elf;
use crate::process;

const INIT: &str = include_str!("init.sh");
/// What the first script calls.
const APPLETS: &[&str] = &["sh", "mount", "insmod", "mkdir", "switch_root", "echo", "sleep", "grep"];
/// What mounting takes, unless the kernel has it built in.
const MODULES: &[&str] = &["virtio_pci", "virtio_console", "9pnet_virtio", "9p", "overlay"];
const FOLDERS: &[&str] = &["bin", "dev", "lower", "modules", "new", "proc", "sys", "upper"];

/// An initial RAM disk for the kernel unpacked in `kernel`.
pub(super) fn build(kernel: &Path) -> Result<Vec<u8>> {
    let busybox = process::find("busybox").context("no busybox; `cargo xtask setup --tests` installs it")?;
    let mut archive = Archive::default();
    for folder in FOLDERS {
        archive.add(folder, 0o040_755, &[])?;
    }
    archive.add("bin/busybox", 0o100_755, &fs::read(busybox)?)?;
    for applet in APPLETS {
        archive.add(&format!("bin/{applet}"), 0o120_777, b"busybox")?;
    }
    archive.add("init", 0o100_755, INIT.as_bytes())?;
    for (index, (name, module)) in modules(kernel)?.iter().enumerate() {
        archive.add(&format!("modules/{index:02}-{name}.ko"), 0o100_644, module)?;
    }
    archive.finish()
}

/// The kernel's modules folder, with `/lib` merged into `/usr` or not.
fn modules_folder(kernel: &Path) -> Result<PathBuf> {
    let parents = ["lib/modules", "usr/lib/modules"].map(|below| kernel.join(below));
    let folders = parents.iter().filter_map(|parent| fs::read_dir(parent).ok()).flatten();
    let found = folders.flatten().map(|entry| entry.path()).find(|path| path.join("kernel").is_dir());
    found.with_context(|| format!("no modules in {}", kernel.display()))
}

/// The modules in the order of loading, by name.
fn modules(kernel: &Path) -> Result<Vec<(String, Vec<u8>)>> {
    let folder = modules_folder(kernel)?;
    let builtin = fs::read_to_string(folder.join("modules.builtin")).ok();
    let builtin: Option<Vec<String>> =
        builtin.map(|list| list.lines().map(|line| module_name(Path::new(line))).collect());
    let mut files = Vec::new();
    module_files(&folder.join("kernel"), &mut files)?;
    let mut loaded = Vec::new();
    for module in MODULES {
        load(module, builtin.as_deref(), &files, &mut loaded)?;
    }
    Ok(loaded)
}

fn load(
    name: &str,
    builtin: Option<&[String]>,
    files: &[PathBuf],
    loaded: &mut Vec<(String, Vec<u8>)>,
) -> Result<()> {
    if builtin.is_some_and(|list| list.iter().any(|other| other == name))
        || loaded.iter().any(|(other, _)| other == name)
    {
        return Ok(());
    }
    let file = files.iter().find(|file| module_name(file) == name);
    // Packages of 7.x come without the list: what is no file there is part of the kernel.
    if file.is_none() && builtin.is_none() {
        return Ok(());
    }
    let file = file.with_context(|| format!("the kernel lacks module {name} (a cloud flavour?)"))?;
    let module = decompressed(file)?;
    for needed in depends(&module)? {
        load(&needed, builtin, files, loaded)?;
    }
    loaded.push((name.to_owned(), module));
    Ok(())
}

/// The names in a module's own list of what it depends on.
fn depends(module: &[u8]) -> Result<Vec<String>> {
    let elf = Elf::parse(module)?;
    let section = elf.sections.iter().find(|section| section.name == ".modinfo").context("no .modinfo")?;
    let lines = section.data.split(|byte| *byte == 0);
    let list = lines.filter_map(|line| line.strip_prefix(b"depends=")).next().unwrap_or_default();
    let names = std::str::from_utf8(list)?.split(',').filter(|name| !name.is_empty());
    Ok(names.map(|name| name.replace('-', "_")).collect())
}

fn module_files(folder: &Path, files: &mut Vec<PathBuf>) -> Result<()> {
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() { module_files(&path, files)? } else { files.push(path) }
    }
    Ok(())
}

/// `kernel/fs/9p/9p.ko.xz` is `9p`; dashes count as underscores.
fn module_name(path: &Path) -> String {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    name.split(".ko").next().unwrap_or_default().replace('-', "_")
}

fn decompressed(file: &Path) -> Result<Vec<u8>> {
    let program = match file.extension().and_then(|extension| extension.to_str()) {
        Some("ko") => return Ok(fs::read(file)?),
        Some("xz") => "xz",
        Some("zst") => "zstd",
        _ => bail!("{}: a compression that the lab does not know", file.display()),
    };
    let output = Command::new(program).args(["-q", "-d", "-c"]).arg(file).stdin(Stdio::null()).output();
    let output = output.with_context(|| format!("no {program}; `cargo xtask setup --tests` installs it"))?;
    if !output.status.success() {
        bail!("{program} cannot unpack {}", file.display());
    }
    Ok(output.stdout)
}

/// A cpio archive as the kernel unpacks it (`Documentation/driver-api/early-userspace/buffer-format.rst`, "newc").
#[derive(Default)]
struct Archive {
    bytes: Vec<u8>,
    entries: usize,
}

impl Archive {
    /// Adds a folder, a file or a link, whichever the mode says.
    fn add(&mut self, name: &str, mode: u32, contents: &[u8]) -> Result<()> {
        self.entries += 1;
        let size = u32::try_from(contents.len())?;
        let name_size = u32::try_from(name.len() + 1)?;
        // inode, mode, uid, gid, links, mtime, size, device and special device (major, minor each), name size, checksum
        let fields = [u32::try_from(self.entries)?, mode, 0, 0, 1, 0, size, 0, 0, 0, 0, name_size, 0];
        self.bytes.extend(b"070701");
        for field in fields {
            self.bytes.extend(format!("{field:08x}").bytes());
        }
        self.bytes.extend(name.bytes());
        self.bytes.push(0);
        self.pad();
        self.bytes.extend(contents);
        self.pad();
        Ok(())
    }

    fn finish(mut self) -> Result<Vec<u8>> {
        self.add("TRAILER!!!", 0, &[])?;
        Ok(self.bytes)
    }

    fn pad(&mut self) {
        self.bytes.resize(self.bytes.len().next_multiple_of(4), 0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn modules_have_names() {
        assert_eq!(module_name(Path::new("kernel/net/9p/9pnet_virtio.ko.xz")), "9pnet_virtio");
        assert_eq!(module_name(Path::new("kernel/crypto/crc32c-intel.ko")), "crc32c_intel");
    }

    #[test]
    fn archive_is_aligned_and_ends() {
        let mut archive = Archive::default();
        archive.add("init", 0o100_755, b"abc").unwrap();
        let bytes = archive.finish().unwrap();
        assert_eq!(bytes.len() % 4, 0);
        let text = String::from_utf8_lossy(&bytes);
        assert!(text.starts_with("07070100000001000081ed"), "{text}");
        assert!(
            text.contains("00000005") && text.contains("init\0") && text.contains("TRAILER!!!\0"),
            "{text}"
        );
    }
}
