//! A tree that looks like `/proc`, for tests.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

use rustix::fs::{CWD, FileType, Mode, mknodat};

/// A directory of its own, removed with the value.
pub(super) struct Tree {
    root: PathBuf,
}

/// What a process of the tree looks like. The defaults are those of a process that is gone but for its numbers.
#[derive(Clone, Default)]
pub(super) struct Fake<'a> {
    pub comm: &'a str,
    pub ppid: u32,
    pub started: u64,
    pub stack: u64,
    pub exe: &'a str,
    pub cwd: &'a str,
    pub args: &'a [&'a str],
    pub environ: &'a [&'a str],
    pub cgroup: &'a str,
    pub maps: &'a [&'a str],
    pub threads: &'a [&'a str],
    /// What the descriptors point to.
    pub descriptors: &'a [&'a str],
}

impl Tree {
    pub(super) fn new() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let name = format!("sonde-tree-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        let root = std::env::temp_dir().join(name);
        fs::create_dir_all(&root).unwrap();
        Self { root }
    }

    pub(super) fn root(&self) -> &Path {
        &self.root
    }

    /// Writes a process, in place of the one that had this id.
    pub(super) fn put(&self, pid: u32, fake: &Fake<'_>) {
        self.remove(pid);
        let at = self.root.join(pid.to_string());
        fs::create_dir_all(at.join("root")).unwrap();
        let Fake { comm, ppid, started, stack, .. } = fake;
        let middle = "1 1 0 -1 4194304 1 0 0 0 1 2 0 0 20 0 1 0";
        let stat = format!(
            "{pid} ({comm}) S {ppid} {middle} {started} 1000 10 18446744073709551615 11 12 {stack} 0 0\n"
        );
        fs::write(at.join("stat"), stat).unwrap();
        for (name, target) in [("exe", fake.exe), ("cwd", fake.cwd)] {
            if !target.is_empty() {
                symlink(target, at.join(name)).unwrap();
            }
        }
        let zero_ended = |texts: &[&str]| texts.iter().flat_map(|text| [*text, "\0"]).collect::<String>();
        fs::write(at.join("cmdline"), zero_ended(fake.args)).unwrap();
        fs::write(at.join("environ"), zero_ended(fake.environ)).unwrap();
        fs::write(at.join("cgroup"), format!("0::{}\n", fake.cgroup)).unwrap();
        let map = |path: &&str| {
            format!("7f1000000000-7f1000001000 r-xp 00000000 fe:01 123456                     {path}\n")
        };
        fs::write(at.join("maps"), fake.maps.iter().map(map).collect::<String>()).unwrap();
        for (tid, name) in fake.threads.iter().enumerate() {
            let task = at.join("task").join((pid as usize + tid).to_string());
            fs::create_dir_all(&task).unwrap();
            fs::write(task.join("comm"), format!("{name}\n")).unwrap();
        }
        fs::create_dir(at.join("fd")).unwrap();
        for (number, target) in fake.descriptors.iter().enumerate() {
            symlink(target, at.join("fd").join(number.to_string())).unwrap();
        }
    }

    /// Writes a file below the root directory of a process.
    pub(super) fn file(&self, pid: u32, path: &str, content: &str) {
        let path = self.root.join(pid.to_string()).join("root").join(path.trim_start_matches('/'));
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, content).unwrap();
    }

    /// Links a path below the root directory of a process.
    pub(super) fn link(&self, pid: u32, path: &str, target: &str) {
        let path = self.root.join(pid.to_string()).join("root").join(path.trim_start_matches('/'));
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        symlink(target, path).unwrap();
    }

    /// Makes the process end while one of its files is read: what is returned waits for that.
    pub(super) fn ends_when_read(&self, pid: u32, name: &str) -> impl FnOnce() + Send + use<> {
        let at = self.root.join(pid.to_string());
        let pipe = at.join(name);
        fs::remove_file(&pipe).unwrap();
        mknodat(CWD, &pipe, FileType::Fifo, Mode::RUSR | Mode::WUSR, 0).unwrap();
        move || {
            // Opens when the other end does.
            let reader_waits = fs::OpenOptions::new().write(true).open(&pipe).unwrap();
            fs::remove_file(at.join("exe")).unwrap();
            drop(reader_waits);
        }
    }

    pub(super) fn remove(&self, pid: u32) {
        let _ = fs::remove_dir_all(self.root.join(pid.to_string()));
    }
}

impl Drop for Tree {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.root);
    }
}
