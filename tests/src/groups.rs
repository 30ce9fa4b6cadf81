//! Control groups with the names that a service manager gives: where none runs, the scenario makes them.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// A group in the tree of cgroup v2 and, where cgroup v1 is mounted, in systemd's own; removed when dropped.
pub struct Group {
    folders: Vec<PathBuf>,
    roots: Vec<PathBuf>,
}

impl Group {
    /// Makes it, with those above it that are not there.
    ///
    /// # Panics
    /// When it cannot.
    #[must_use]
    pub fn make(path: &str) -> Self {
        let mounts = fs::read_to_string("/proc/self/mounts").expect("mounts");
        let trees = mounts.lines().filter_map(|line| {
            let fields: Vec<&str> = line.split(' ').collect();
            let [_, at, kind, options, ..] = fields[..] else { return None };
            let named = options.split(',').any(|option| option == "name=systemd");
            (kind == "cgroup2" || (kind == "cgroup" && named)).then(|| PathBuf::from(at))
        });
        let roots: Vec<PathBuf> = trees.collect();
        assert!(!roots.is_empty(), "no tree of cgroup v2, and none of systemd's");
        let folders: Vec<PathBuf> = roots.iter().map(|root| root.join(path)).collect();
        for folder in &folders {
            fs::create_dir_all(folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
        }
        Self { folders, roots }
    }

    /// The command, from within the group.
    pub fn enter<'a>(&self, command: &'a mut Command) -> &'a mut Command {
        let mut script = String::new();
        for folder in &self.folders {
            script.push_str(&format!("echo $$ > '{}/cgroup.procs' || exit 99; ", folder.display()));
        }
        let mut inside = Command::new("sh");
        inside
            .args(["-c", &format!("{script}exec \"$@\""), "sh"])
            .arg(command.get_program())
            .args(command.get_args());
        for (name, value) in command.get_envs() {
            inside.env(name, value.unwrap_or_default());
        }
        if let Some(folder) = command.get_current_dir() {
            inside.current_dir(folder);
        }
        *command = inside;
        command
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        for (folder, root) in self.folders.iter().zip(&self.roots) {
            remove(folder, root);
        }
    }
}

/// Removes a group and those above it, as far as nobody else uses them.
fn remove(folder: &Path, root: &Path) {
    // A process leaves its group when it has been reaped, which is a moment after its end.
    let patience = std::time::Instant::now() + std::time::Duration::from_secs(5);
    while fs::remove_dir(folder).is_err_and(|error| error.raw_os_error() == Some(16))
        && std::time::Instant::now() < patience
    {
        std::thread::sleep(std::time::Duration::from_millis(10));
    }
    for above in folder.ancestors().skip(1).take_while(|above| *above != root) {
        if fs::remove_dir(above).is_err() {
            return;
        }
    }
}
