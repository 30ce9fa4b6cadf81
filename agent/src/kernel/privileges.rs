//! What this process may do: its capabilities, and the namespaces in which they count.

use std::fmt;

/// A capability that Sonde has a use for (capabilities(7)).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Capability {
    /// Load programs and make maps, since 5.8.
    Bpf,
    /// Attach them to tracepoints and read kernel memory, since 5.8.
    Perfmon,
    /// Stands for the two above; what older kernels want.
    SysAdmin,
    /// Look into `/proc/PID` of other users' processes: environment, executable, descriptors.
    SysPtrace,
    /// Read files there that file permissions would refuse.
    DacReadSearch,
    /// Raise the limit of locked memory, which kernels before 5.11 count maps against.
    SysResource,
}

impl Capability {
    /// All of them.
    pub const ALL: [Self; 6] =
        [Self::Bpf, Self::Perfmon, Self::SysAdmin, Self::SysPtrace, Self::DacReadSearch, Self::SysResource];

    /// As capabilities(7) names it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Bpf => "CAP_BPF",
            Self::Perfmon => "CAP_PERFMON",
            Self::SysAdmin => "CAP_SYS_ADMIN",
            Self::SysPtrace => "CAP_SYS_PTRACE",
            Self::DacReadSearch => "CAP_DAC_READ_SEARCH",
            Self::SysResource => "CAP_SYS_RESOURCE",
        }
    }

    /// include/uapi/linux/capability.h
    const fn bit(self) -> u32 {
        match self {
            Self::DacReadSearch => 2,
            Self::SysPtrace => 19,
            Self::SysAdmin => 21,
            Self::SysResource => 24,
            Self::Perfmon => 38,
            Self::Bpf => 39,
        }
    }
}

/// Effective capabilities, as `/proc/self/status` shows them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Privileges {
    effective: u64,
    /// Effective user id.
    pub uid: u32,
    /// A seccomp filter is active: it may refuse bpf(2) whatever the capabilities are.
    pub seccomp: bool,
    /// In another than the initial user namespace capabilities do not count for BPF. `None`: not known.
    pub initial_user_namespace: Option<bool>,
}

impl Privileges {
    /// Reads the text of `/proc/self/status`; lines that are missing count as no privilege.
    #[must_use]
    pub fn parse(status: &str, initial_user_namespace: Option<bool>) -> Self {
        let line = |key: &str| {
            status.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(':')).map_or("", str::trim)
        };
        Self {
            effective: u64::from_str_radix(line("CapEff"), 16).unwrap_or(0),
            // Real, effective, saved and file system user id; nobody where the line makes no sense.
            uid: line("Uid").split_whitespace().nth(1).and_then(|uid| uid.parse().ok()).unwrap_or(65_534),
            seccomp: line("Seccomp") == "2",
            initial_user_namespace,
        }
    }

    /// Whether it is effective, wherever it counts.
    #[must_use]
    pub fn has(&self, capability: Capability) -> bool {
        self.effective >> capability.bit() & 1 != 0
    }

    /// What loading and attaching programs needs and this process lacks, in words; `None` when nothing is lacking.
    #[must_use]
    pub fn lacking_for_programs(&self) -> Option<String> {
        if self.initial_user_namespace == Some(false) {
            return Some("capabilities of this user namespace do not count for BPF programs".into());
        }
        if self.has(Capability::SysAdmin) {
            return None;
        }
        match (self.has(Capability::Bpf), self.has(Capability::Perfmon)) {
            (true, true) => None,
            (true, false) => Some("CAP_PERFMON is not held".into()),
            (false, true) => Some("CAP_BPF is not held".into()),
            (false, false) => Some("CAP_BPF and CAP_PERFMON are not held".into()),
        }
    }

    /// What is not seen of other users' processes, in words.
    #[must_use]
    pub fn lacking_for_processes(&self) -> Option<&'static str> {
        match (self.has(Capability::SysPtrace), self.has(Capability::DacReadSearch)) {
            (true, _) => None,
            (false, true) => Some(
                "without CAP_SYS_PTRACE the environment, executable and descriptors of other users' processes are not read: \
                 their services are named after the command",
            ),
            (false, false) => Some(
                "without CAP_SYS_PTRACE and CAP_DAC_READ_SEARCH the environment, executable and descriptors of other \
                 users' processes are not read: their services are named after the command",
            ),
        }
    }
}

impl fmt::Display for Privileges {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let held: Vec<&str> = Capability::ALL
            .iter()
            .filter(|capability| self.has(**capability))
            .map(|capability| capability.name())
            .collect();
        write!(
            f,
            "user {}, {}",
            self.uid,
            if held.is_empty() { "no capability".into() } else { held.join(" ") }
        )
    }
}
