//! What this kernel can do and lets this process do. Everything is read from files, so that a test can lay out any
//! kernel; whatever cannot be read is `None` or says why.

use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};

use super::perf;
use super::privileges::Privileges;
use super::types::KernelTypes;

/// The version part of a kernel's release.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Version {
    /// First number.
    pub major: u32,
    /// Second number.
    pub minor: u32,
}

impl Version {
    /// `major.minor`.
    #[must_use]
    pub const fn new(major: u32, minor: u32) -> Self {
        Self { major, minor }
    }

    /// The first two numbers of a release such as `6.12.107+deb13-amd64`.
    #[must_use]
    pub fn parse(release: &str) -> Option<Self> {
        let mut numbers = release.split(|c: char| !c.is_ascii_digit()).map(str::parse);
        Some(Self { major: numbers.next()?.ok()?, minor: numbers.next()?.ok()? })
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.major, self.minor)
    }
}

/// Kernel lockdown (kernel_lockdown(7)).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lockdown {
    /// Off.
    None,
    /// Kernel memory may not be changed: no hindrance.
    Integrity,
    /// Kernel memory may not be read either: `bpf_probe_read_kernel` is refused.
    Confidentiality,
    /// securityfs is not mounted or not readable, or the kernel has no lockdown.
    Unknown,
}

impl Lockdown {
    /// As the kernel names it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Integrity => "integrity",
            Self::Confidentiality => "confidentiality",
            Self::Unknown => "unknown",
        }
    }
}

/// Which hierarchies of control groups are mounted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cgroups {
    /// None.
    None,
    /// The old one only.
    V1,
    /// The unified one only.
    V2,
    /// Both: names come from whichever has the process.
    Hybrid,
}

impl Cgroups {
    /// In one word.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::V1 => "v1",
            Self::V2 => "v2",
            Self::Hybrid => "hybrid",
        }
    }
}

/// Where `/proc` and `/sys` are: in a container the host's may be mounted elsewhere.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Roots {
    /// `/proc`
    pub proc: PathBuf,
    /// `/sys`
    pub sys: PathBuf,
}

impl Default for Roots {
    fn default() -> Self {
        Self { proc: "/proc".into(), sys: "/sys".into() }
    }
}

/// This kernel, seen by this process.
#[derive(Clone, Debug)]
pub struct Features {
    /// As `uname -r` prints it; empty where not readable.
    pub release: String,
    /// Its first two numbers, 0.0 where it makes no sense.
    pub version: Version,
    /// What was read from its BTF, or why nothing was.
    pub types: Result<KernelTypes, String>,
    /// What this process may do.
    pub privileges: Privileges,
    /// Lockdown.
    pub lockdown: Lockdown,
    /// Why tracepoints cannot be had as perf events, where that is asked for.
    pub perf_events: Result<(), String>,
    /// `kernel.unprivileged_bpf_disabled`: 0 anyone may load (harmless) programs, 1 and 2 only with `CAP_BPF`.
    pub unprivileged_bpf_disabled: Option<u32>,
    /// `net.core.bpf_jit_enable`; 0 means interpreted programs, several times slower. Often readable by root only.
    pub jit: Option<u32>,
    /// `kernel.bpf_stats_enabled`: the kernel measures each program's run time (and pays for it).
    pub bpf_stats: Option<u32>,
    /// `kernel.kptr_restrict`: above 0 kernel addresses in `/proc/kallsyms` are hidden from the unprivileged, above 1 from all.
    pub kptr_restrict: Option<u32>,
    /// Control groups.
    pub cgroups: Cgroups,
    /// Largest process id plus one.
    pub pid_max: u32,
    /// Whether process ids of the kernel are the ids that this process sees.
    pub initial_pid_namespace: Option<bool>,
    /// The `hidepid` option of `/proc`, where other users' processes are hidden.
    pub hidepid: Option<String>,
}

impl Features {
    /// Looks at the running kernel. Reads the BTF once (6 ms, and 6 MB of memory meanwhile).
    #[must_use]
    pub fn detect() -> Self {
        Self::read(&Roots::default())
    }

    /// The same where `/proc` and `/sys` lie elsewhere.
    #[must_use]
    pub fn read(roots: &Roots) -> Self {
        let sysctl =
            |name: &str| text(&roots.proc.join("sys").join(name)).and_then(|value| value.parse().ok());
        let release = text(&roots.proc.join("sys/kernel/osrelease")).unwrap_or_default();
        let status = fs::read_to_string(roots.proc.join("self/status")).unwrap_or_default();
        let mounts = fs::read_to_string(roots.proc.join("self/mountinfo")).unwrap_or_default();
        let mounts = Mounts::parse(&mounts);
        let types = KernelTypes::read(&roots.sys.join("kernel/btf/vmlinux")).map_err(|why| why.to_string());
        let preempted = types.as_ref().is_ok_and(|types| types.preempted);
        Self {
            version: Version::parse(&release).unwrap_or_default(),
            release,
            types,
            perf_events: if preempted { perf::check(&roots.sys) } else { Ok(()) },
            privileges: Privileges::parse(&status, is_initial(roots, "user", INITIAL_USER_NAMESPACE)),
            lockdown: lockdown(text(&roots.sys.join("kernel/security/lockdown")).as_deref()),
            unprivileged_bpf_disabled: sysctl("kernel/unprivileged_bpf_disabled"),
            jit: sysctl("net/core/bpf_jit_enable"),
            bpf_stats: sysctl("kernel/bpf_stats_enabled"),
            kptr_restrict: sysctl("kernel/kptr_restrict"),
            cgroups: mounts.cgroups,
            pid_max: sysctl("kernel/pid_max").unwrap_or(LARGEST_PID_MAX).min(LARGEST_PID_MAX),
            initial_pid_namespace: is_initial(roots, "pid", INITIAL_PID_NAMESPACE),
            hidepid: mounts.hidepid,
        }
    }

    /// Kernels before 5.11 count maps against the limit of locked memory, which must then be raised.
    #[must_use]
    pub fn counts_locked_memory(&self) -> bool {
        self.version < Version::new(5, 11)
    }

    /// Kernels since 7.0 run the programs of tracepoints preemptible, and skip one for every other task of the processor while
    /// a task is put aside inside it.
    #[must_use]
    pub fn puts_programs_aside(&self) -> bool {
        self.types.as_ref().is_ok_and(|types| types.preempted)
    }

    /// Where programs would be put aside, those of a perf event are not. They read kernel memory by address.
    #[must_use]
    pub fn wants_perf_events(&self) -> bool {
        self.puts_programs_aside() && self.perf_events.is_ok() && self.lockdown != Lockdown::Confidentiality
    }

    /// Everything that does not stop Sonde but narrows what it sees, in words.
    #[must_use]
    pub fn concerns(&self) -> Vec<String> {
        let mut concerns = Vec::new();
        if let Ok(types) = &self.types {
            concerns.extend(types.members.missing.iter().map(ToString::to_string));
            if types.tracepoint(super::Tracepoint::InetSockSetState).is_none() {
                concerns.push(
                    "this kernel has no tracepoint inet_sock_set_state: connect times, roles and ends of connections are \
                     known from their bytes only"
                        .into(),
                );
            }
        }
        if self.puts_programs_aside() && !self.wants_perf_events() {
            let why = self.perf_events.as_ref().err().map_or(
                "kernel lockdown is `confidentiality`: programs may not read kernel memory",
                String::as_str,
            );
            concerns.push(format!(
                "calls may go unseen: this kernel skips a tracepoint's programs while another task is put aside inside them, and \
                 those of perf events are not possible: {why}"
            ));
        }
        concerns.extend(self.privileges.lacking_for_processes().map(Into::into));
        if self.privileges.seccomp {
            concerns.push("a seccomp filter is active: it must allow bpf(2)".into());
        }
        if self.initial_pid_namespace == Some(false) {
            concerns.push(
                "this is not the host's pid namespace: the kernel's process ids are not the ids in /proc here, so processes \
                 are not recognised. Run with the host's (docker run --pid=host, Kubernetes hostPID: true)"
                    .into(),
            );
        }
        if let Some(hidepid) = &self.hidepid
            && !self.privileges.has(super::Capability::SysPtrace)
        {
            concerns.push(format!(
                "/proc is mounted with hidepid={hidepid}: other users' processes are not recognised without CAP_SYS_PTRACE"
            ));
        }
        if self.jit == Some(0) {
            concerns.push(
                "net.core.bpf_jit_enable is 0: programs are interpreted and cost several times as much"
                    .into(),
            );
        }
        if self.counts_locked_memory() && !self.privileges.has(super::Capability::SysResource) {
            concerns.push(
                "kernels before 5.11 count BPF maps as locked memory: without CAP_SYS_RESOURCE `ulimit -l` must be unlimited"
                    .into(),
            );
        }
        if self.cgroups == Cgroups::None {
            concerns.push("no cgroup hierarchy is mounted: containers are not recognised".into());
        }
        concerns
    }
}

/// `PROC_USER_INIT_INO` and `PROC_PID_INIT_INO` of include/linux/proc_ns.h: the same on all kernels.
const INITIAL_USER_NAMESPACE: u64 = 0xeffffffd;
const INITIAL_PID_NAMESPACE: u64 = 0xeffffffc;

/// `PID_MAX_LIMIT` of 64-bit kernels.
const LARGEST_PID_MAX: u32 = 4 << 20;

fn text(path: &Path) -> Option<String> {
    Some(fs::read_to_string(path).ok()?.trim().to_owned())
}

/// `/proc/self/ns/pid` is a link to `pid:[4026531836]`.
fn is_initial(roots: &Roots, namespace: &str, inode: u64) -> Option<bool> {
    let link = fs::read_link(roots.proc.join("self/ns").join(namespace)).ok()?;
    let number = link.to_str()?.strip_prefix(namespace)?.strip_prefix(":[")?.strip_suffix(']')?;
    Some(number.parse::<u64>().ok()? == inode)
}

/// `none [integrity] confidentiality`: the one in brackets holds.
fn lockdown(text: Option<&str>) -> Lockdown {
    let chosen = text.and_then(|text| text.split_once('[')?.1.split_once(']')).map(|(chosen, _)| chosen);
    match chosen {
        Some("none") => Lockdown::None,
        Some("integrity") => Lockdown::Integrity,
        Some("confidentiality") => Lockdown::Confidentiality,
        _ => Lockdown::Unknown,
    }
}

struct Mounts {
    cgroups: Cgroups,
    hidepid: Option<String>,
}

impl Mounts {
    /// proc(5): id, parent, device, root, mount point, options, optional fields, `-`, type, source, super options.
    fn parse(mountinfo: &str) -> Self {
        let (mut v1, mut v2, mut hidepid) = (false, false, None);
        for line in mountinfo.lines() {
            let Some((place, kind)) = line.split_once(" - ") else { continue };
            let mut kind = kind.split(' ');
            match kind.next() {
                Some("cgroup") => v1 = true,
                Some("cgroup2") => v2 = true,
                Some("proc") if place.split(' ').nth(4) == Some("/proc") => {
                    let options = kind.nth(1).unwrap_or_default();
                    hidepid = options
                        .split(',')
                        .find_map(|option| option.strip_prefix("hidepid="))
                        .filter(|level| !matches!(*level, "0" | "off"))
                        .map(ToOwned::to_owned);
                }
                _ => {}
            }
        }
        let cgroups = match (v1, v2) {
            (false, false) => Cgroups::None,
            (true, false) => Cgroups::V1,
            (false, true) => Cgroups::V2,
            (true, true) => Cgroups::Hybrid,
        };
        Self { cgroups, hidepid }
    }
}
