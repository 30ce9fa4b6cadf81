//! Which family of hooks this kernel serves best, why no better one, and what to do where none is possible.

use std::fmt;

use super::features::{Features, Lockdown, Version};
use super::offsets::Part;
use super::types::Tracepoint;

/// A family of hooks; each sees the same calls. Best first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum HookFamily {
    /// `sock_send_length` and `sock_recv_length`: cheapest, and nothing on system calls that touch no socket.
    Lengths,
    /// `sys_exit`: everywhere.
    Syscalls,
}

impl HookFamily {
    /// Best first.
    pub const ALL: [Self; 2] = [Self::Lengths, Self::Syscalls];

    /// As `--hooks` names it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Lengths => "lengths",
            Self::Syscalls => "syscalls",
        }
    }
}

impl fmt::Display for HookFamily {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// What `--hooks` says.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum HookChoice {
    /// The best that this kernel has.
    #[default]
    Auto,
    /// `lengths` or nothing.
    Lengths,
    /// `syscalls` or nothing.
    Syscalls,
}

/// The family that is used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hooks {
    /// The family.
    pub family: HookFamily,
    /// Better families and why they are not used: this kernel lacks something, or `--hooks` forces a lesser one.
    pub passed_over: Vec<(HookFamily, String)>,
}

/// Something that stands in the way, and how to remove it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lack {
    /// What is missing.
    pub what: String,
    /// How to grant it.
    pub remedy: String,
}

/// Nothing can be observed on this kernel or with these privileges (exit code 3).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// Everything that is missing, not only the first.
    pub lacks: Vec<Lack>,
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("cannot observe on this kernel or with these privileges:")?;
        for Lack { what, remedy } in &self.lacks {
            write!(f, "\n  - {what}\n    {remedy}")?;
        }
        Ok(())
    }
}

impl std::error::Error for Refusal {}

/// The best family that this kernel and these privileges allow, or the one that is asked for.
pub fn choose_hooks(choice: HookChoice, features: &Features) -> Result<Hooks, Refusal> {
    let wanted = match choice {
        HookChoice::Auto => None,
        HookChoice::Lengths => Some(HookFamily::Lengths),
        HookChoice::Syscalls => Some(HookFamily::Syscalls),
    };
    let mut lacks = common_lacks(features);
    let mut passed_over = Vec::new();
    for family in HookFamily::ALL {
        let lack = family_lack(family, features);
        match (lack, wanted) {
            (None, None) => {
                return if lacks.is_empty() {
                    Ok(Hooks { family, passed_over })
                } else {
                    Err(Refusal { lacks })
                };
            }
            (lack, Some(wanted)) if wanted == family => {
                lacks.extend(lack.map(|what| Lack {
                    what: format!("--hooks {family}: {what}"),
                    remedy: "leave --hooks away, or use another kernel".into(),
                }));
                return if lacks.is_empty() {
                    Ok(Hooks { family, passed_over })
                } else {
                    Err(Refusal { lacks })
                };
            }
            (None, Some(wanted)) => passed_over.push((family, format!("--hooks {wanted} was asked for"))),
            (Some(what), _) => passed_over.push((family, what)),
        }
    }
    // Without types every family lacks its tracepoints, which says nothing that the missing types have not said.
    if features.types.is_ok() {
        lacks.extend(passed_over.into_iter().map(|(family, what)| Lack {
            what: format!("the hook family {family} is not possible: {what}"),
            remedy: "use a kernel that has it: 5.10 or later".into(),
        }));
    }
    Err(Refusal { lacks })
}

/// The ring buffer came with 5.8; programs were tried from 5.10 on.
const OLDEST: Version = Version::new(5, 8);

/// What every family needs.
fn common_lacks(features: &Features) -> Vec<Lack> {
    let mut lacks = Vec::new();
    if features.version < OLDEST {
        lacks.push(Lack {
            what: format!("kernel {} has no BPF ring buffer, which came with {OLDEST}", features.release),
            remedy: "use kernel 5.10 or later".into(),
        });
    }
    match &features.types {
        Err(why) => lacks.push(Lack {
            what: format!("the kernel's type information cannot be read: {why}"),
            remedy: "mount sysfs at /sys, or use a kernel built with CONFIG_DEBUG_INFO_BTF=y (those of Debian, Ubuntu, \
                     Fedora, RHEL 8 and SUSE are)"
                .into(),
        }),
        Ok(types) => lacks.extend(types.members.missing.iter().filter(|missing| missing.part == Part::Sockets).map(
            |missing| Lack { what: missing.to_string(), remedy: "this kernel is not known to Sonde: report it".into() },
        )),
    }
    lacks.extend(features.privileges.lacking_for_programs().map(|what| Lack {
        what,
        remedy: if features.privileges.initial_user_namespace == Some(false) {
            "run in the host's user namespace (docker run --userns=host; no rootless container)".into()
        } else {
            GRANT.into()
        },
    }));
    lacks
}

const GRANT: &str = "run as root, or grant them: setcap cap_bpf,cap_perfmon,cap_sys_ptrace,cap_dac_read_search+ep SONDE; \
                     systemd AmbientCapabilities=CAP_BPF CAP_PERFMON CAP_SYS_PTRACE CAP_DAC_READ_SEARCH; \
                     docker run --cap-add BPF --cap-add PERFMON --cap-add SYS_PTRACE --cap-add DAC_READ_SEARCH";

/// Why this kernel cannot serve a family.
fn family_lack(family: HookFamily, features: &Features) -> Option<String> {
    let Ok(types) = &features.types else {
        return Some("the kernel's type information cannot be read".into());
    };
    let without = |tracepoint: Tracepoint| types.tracepoint(tracepoint).is_none();
    match family {
        HookFamily::Lengths => {
            let missing: Vec<&str> = [Tracepoint::SockSendLength, Tracepoint::SockRecvLength]
                .into_iter()
                .filter(|tracepoint| without(*tracepoint))
                .map(Tracepoint::name)
                .collect();
            (!missing.is_empty()).then(|| {
                format!("this kernel has no tracepoint {} (kernels since about 6.3 do)", missing.join(", "))
            })
        }
        HookFamily::Syscalls if without(Tracepoint::SysExit) => {
            Some("this kernel has no tracepoint sys_exit (CONFIG_HAVE_SYSCALL_TRACEPOINTS)".into())
        }
        HookFamily::Syscalls if features.lockdown == Lockdown::Confidentiality => {
            Some("kernel lockdown is `confidentiality`: programs may not read kernel memory".into())
        }
        HookFamily::Syscalls => {
            let missing = types.members.missing.iter().find(|missing| missing.part == Part::Descriptors)?;
            Some(missing.to_string())
        }
    }
}
