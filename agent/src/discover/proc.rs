//! Reading `/proc/<pid>` (proc(5)). Every read is bounded, and a process that ends in the middle leaves what was read.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};
use std::os::fd::AsRawFd;
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};

use rustix::fs::{Mode, OFlags, ResolveFlags, openat, openat2};

/// Bytes of `cmdline` that are kept: Java class paths are long, and the main class stands behind them.
const CMDLINE_BYTES: u64 = 128 << 10;
/// Bytes of `environ` that are looked through. The kernel allows more; what stands behind is not seen.
const ENVIRON_BYTES: u64 = 1 << 20;
/// Bytes of `cgroup`.
const CGROUP_BYTES: u64 = 64 << 10;
/// Bytes of `maps` that are looked through.
const MAPS_BYTES: u64 = 4 << 20;
/// Bytes of `/etc/passwd` that are looked through.
const PASSWD_BYTES: u64 = 256 << 10;
/// Threads and descriptors that are looked at.
const ENTRIES: usize = 1024;

/// A `/proc` file system, or a tree that looks like one.
#[derive(Clone, Debug)]
pub(super) struct ProcFs {
    root: PathBuf,
}

/// What tells one incarnation of a process id from the next.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Stat {
    /// Name of the program or of its main thread, at most 15 bytes.
    pub comm: String,
    /// Parent.
    pub ppid: u32,
    /// Clock ticks since boot.
    pub started: u64,
    /// Where the stack begins: randomised, so it tells a program from the one that replaced it by `execve` in the same
    /// process. 0 where the kernel does not show it.
    pub stack: u64,
}

impl Stat {
    /// Whether the process that had this id has gone, or has replaced its program.
    pub(super) fn is_other_than(&self, other: &Self) -> bool {
        // A process that has ended has no stack any more.
        self.started != other.started || (self.stack != other.stack && self.stack != 0)
    }
}

impl ProcFs {
    pub(super) fn new(root: impl Into<PathBuf>) -> Self {
        Self { root: root.into() }
    }

    fn path(&self, pid: u32, name: &str) -> PathBuf {
        self.root.join(pid.to_string()).join(name)
    }

    /// All processes now; none where the folder cannot be read.
    pub(super) fn pids(&self) -> Vec<u32> {
        let entries = std::fs::read_dir(&self.root).into_iter().flatten().flatten();
        entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect()
    }

    pub(super) fn stat(&self, pid: u32) -> Option<Stat> {
        parse_stat(&read_bounded(&self.path(pid, "stat"), 4096).ok()?)
    }

    /// Path of the executable as the process itself sees it, also where it has been deleted or replaced since.
    pub(super) fn exe(&self, pid: u32) -> Option<String> {
        let target = self.link(pid, "exe")?;
        Some(target.strip_suffix(" (deleted)").map_or(target.clone(), ToOwned::to_owned))
    }

    /// What one of the links shows, below the process's own root: chroot(2) shows in them, unlike a mount namespace.
    fn link(&self, pid: u32, name: &str) -> Option<String> {
        let target = read_link(&self.path(pid, name))?;
        let root = read_link(&self.path(pid, "root")).filter(|root| root != "/");
        Some(match root.and_then(|root| target.strip_prefix(&root).map(ToOwned::to_owned)) {
            Some(inside) if inside.starts_with('/') => inside,
            Some(inside) if inside.is_empty() => "/".to_owned(),
            _ => target,
        })
    }

    /// The executable itself.
    pub(super) fn open_exe(&self, pid: u32) -> Option<File> {
        File::open(self.path(pid, "exe")).ok()
    }

    /// Working directory as the process itself sees it.
    pub(super) fn cwd(&self, pid: u32) -> Option<String> {
        self.link(pid, "cwd")
    }

    /// The effective user id.
    pub(super) fn uid(&self, pid: u32) -> Option<u32> {
        let status = read_bounded(&self.path(pid, "status"), 4096).ok()?;
        let status = String::from_utf8_lossy(&status);
        let ids = status.lines().find_map(|line| line.strip_prefix("Uid:"))?;
        ids.split_ascii_whitespace().nth(1)?.parse().ok()
    }

    /// A user's name as the process knows it (passwd(5)); the number where it has none.
    pub(super) fn user(&self, pid: u32, uid: u32) -> String {
        let number = uid.to_string();
        let passwd = self.file(pid, Path::new("/etc/passwd"), PASSWD_BYTES).unwrap_or_default();
        let passwd = String::from_utf8_lossy(&passwd);
        let name = passwd.lines().find_map(|line| {
            let mut fields = line.split(':');
            let name = fields.next()?;
            (fields.nth(1)? == number).then(|| name.to_owned())
        });
        name.unwrap_or(number)
    }

    /// A path as a process would find it, without symbolic links. `None` where nothing is there.
    pub(super) fn resolved(&self, pid: u32, path: &str) -> Option<String> {
        if path.is_empty() {
            return None;
        }
        let path = if path.starts_with('/') { path.to_owned() } else { format!("{}/{path}", self.cwd(pid)?) };
        let file = self.open_at(pid, Path::new(&path), OFlags::PATH)?;
        let found = read_link(Path::new(&format!("/proc/self/fd/{}", file.as_raw_fd())))?;
        let root = read_link(&self.path(pid, "root"))?;
        let inside = found.strip_prefix(&root).filter(|inside| inside.starts_with('/'));
        Some(inside.map_or(found.clone(), ToOwned::to_owned))
    }

    /// Arguments, invalid UTF-8 replaced. Empty for a kernel thread or a process that is gone.
    pub(super) fn cmdline(&self, pid: u32) -> Vec<String> {
        let bytes = read_bounded(&self.path(pid, "cmdline"), CMDLINE_BYTES).unwrap_or_default();
        parse_cmdline(&bytes)
    }

    /// The variables of the process's initial environment whose names begin with `prefix`. Nothing else is kept: the
    /// rest is the process's own business. `None` where the process has written over its environment, as nginx and
    /// setproctitle do to show a title.
    pub(super) fn environ(&self, pid: u32, prefix: &str) -> Option<Vec<(String, String)>> {
        let Ok(file) = File::open(self.path(pid, "environ")) else { return Some(Vec::new()) };
        let (mut found, mut whole) = (Vec::new(), true);
        for variable in BufReader::new(file.take(ENVIRON_BYTES)).split(0).map_while(Result::ok) {
            // A title that is longer than the arguments reaches in here, and zeroes stand behind it.
            whole &= variable.contains(&b'=');
            if variable.starts_with(prefix.as_bytes()) {
                let text = String::from_utf8_lossy(&variable);
                found.extend(text.split_once('=').map(|(name, value)| (name.to_owned(), value.to_owned())));
            }
        }
        (whole || !found.is_empty()).then_some(found)
    }

    pub(super) fn cgroup(&self, pid: u32) -> String {
        let bytes = read_bounded(&self.path(pid, "cgroup"), CGROUP_BYTES).unwrap_or_default();
        String::from_utf8_lossy(&bytes).into_owned()
    }

    /// Whether a file is mapped whose path fits.
    pub(super) fn maps_any(&self, pid: u32, mut fits: impl FnMut(&[u8]) -> bool) -> bool {
        let Ok(file) = File::open(self.path(pid, "maps")) else { return false };
        let lines = BufReader::new(file.take(MAPS_BYTES)).split(b'\n').map_while(Result::ok);
        // Paths begin at the first slash: the columns before hold device and inode numbers without one.
        lines.into_iter().any(|line| {
            let path = line.iter().position(|&byte| byte == b'/').and_then(|at| line.get(at..));
            path.is_some_and(&mut fits)
        })
    }

    /// Whether a thread has a name that fits.
    pub(super) fn thread_any(&self, pid: u32, mut fits: impl FnMut(&str) -> bool) -> bool {
        let Ok(tasks) = std::fs::read_dir(self.path(pid, "task")) else { return false };
        tasks.map_while(Result::ok).take(ENTRIES).any(|task| {
            let name = read_bounded(&task.path().join("comm"), 64).unwrap_or_default();
            fits(String::from_utf8_lossy(&name).trim_end())
        })
    }

    /// Whether the process holds an epoll descriptor.
    pub(super) fn polls_epoll(&self, pid: u32) -> bool {
        let Ok(descriptors) = std::fs::read_dir(self.path(pid, "fd")) else { return false };
        descriptors.map_while(Result::ok).take(ENTRIES).any(|descriptor| {
            std::fs::read_link(descriptor.path()).is_ok_and(|to| to.as_os_str() == "anon_inode:[eventpoll]")
        })
    }

    /// A regular file as the process itself would find it by an absolute path, at most `limit` bytes of it. Symbolic
    /// links are resolved inside the process's own root (`openat2`, Linux 5.6), never into the agent's.
    pub(super) fn file(&self, pid: u32, path: &Path, limit: u64) -> Option<Vec<u8>> {
        let mut bytes = Vec::new();
        self.open(pid, path)?.take(limit).read_to_end(&mut bytes).ok()?;
        Some(bytes)
    }

    /// The same, opened.
    pub(super) fn open(&self, pid: u32, path: &Path) -> Option<File> {
        // Not to wait for the writer of a fifo that someone put there.
        let file = self.open_at(pid, path, OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY)?;
        file.metadata().ok()?.is_file().then_some(file)
    }

    fn open_at(&self, pid: u32, path: &Path, flags: OFlags) -> Option<File> {
        let root = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let root = openat(rustix::fs::CWD, self.path(pid, "root"), root, Mode::empty()).ok()?;
        let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
        openat2(root, path, flags | OFlags::CLOEXEC, Mode::empty(), resolve).ok().map(File::from)
    }
}

pub(super) fn read_bounded(path: &Path, limit: u64) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    File::open(path)?.take(limit).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// Where a symbolic link leads, invalid UTF-8 replaced.
fn read_link(path: &Path) -> Option<String> {
    let target = std::fs::read_link(path).ok()?;
    Some(String::from_utf8_lossy(&target.into_os_string().into_vec()).into_owned())
}

/// The name stands in parentheses and may itself hold any of `( ) \n` and blanks: the last `)` ends it.
fn parse_stat(bytes: &[u8]) -> Option<Stat> {
    let text = String::from_utf8_lossy(bytes);
    let (head, tail) = text.rsplit_once(')')?;
    let comm = head.split_once('(')?.1.to_owned();
    // The first of these is field 3.
    let fields: Vec<&str> = tail.split_ascii_whitespace().collect();
    let number = |field: usize| fields.get(field - 3)?.parse::<u64>().ok();
    Some(Stat {
        comm,
        ppid: number(4).and_then(|ppid| u32::try_from(ppid).ok()).unwrap_or(0),
        started: number(22)?,
        stack: number(28).unwrap_or(0),
    })
}

fn parse_cmdline(bytes: &[u8]) -> Vec<String> {
    let bytes = bytes.strip_suffix(b"\0").unwrap_or(bytes);
    if bytes.is_empty() {
        return Vec::new();
    }
    bytes.split(|&byte| byte == 0).map(|argument| String::from_utf8_lossy(argument).into_owned()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stat_survives_every_name() {
        let numbers =
            "S 7 1 1 0 -1 4194304 1 0 0 0 1 2 0 0 20 0 1 0 4242 1000 10 18446744073709551615 11 12 13 0 0";
        for name in ["bash", "a b", "x) S 9", ") (", "", "((sd-pam))", "tmux: server"] {
            let stat = parse_stat(format!("12 ({name}) {numbers}\n").as_bytes()).unwrap();
            assert_eq!(stat, Stat { comm: name.to_owned(), ppid: 7, started: 4242, stack: 13 });
        }
        for broken in ["", "12", "12 (x", "12 (x) S 1", "12 (x) S a b c d e f g h i j k l m n o p q r s t"] {
            assert_eq!(parse_stat(broken.as_bytes()), None, "{broken:?}");
        }
    }

    #[test]
    fn cmdline_keeps_empty_arguments() {
        let check = |bytes: &[u8], expect: &[&str]| assert_eq!(parse_cmdline(bytes), expect);
        check(b"", &[]);
        check(b"\0", &[]);
        check(b"a\0", &["a"]);
        check(b"a\0\0b\0", &["a", "", "b"]);
        check(b"nginx: master process", &["nginx: master process"]);
        check(b"\xff\0", &["\u{fffd}"]);
    }
}
