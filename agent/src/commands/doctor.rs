//! `sonde doctor`: what this kernel and these privileges allow, what Sonde would use, and why not the better thing; whether
//! the endpoints take what it would send; and which processes it would observe. Needs no privilege itself.

mod processes;
mod report;
mod sockets;
mod text;

use std::collections::BTreeMap;
use std::io::{self, Write};
use std::path::Path;
use std::process::ExitCode;

use serde::Serialize;
use sonde_abi::limits;

use crate::kernel::btf::VMLINUX;
use crate::kernel::{Capability, Features, HookChoice, HookFamily, Tracepoint, choose_hooks, why_not};

pub use text::Paint;

/// Prints the findings: text for people, or one JSON object. Ends with the worst of them: 0 where nothing is worse than a
/// note, 1 where an endpoint would not take what is sent, 2 where the configuration cannot be followed, 3 where `sonde
/// run` would not start.
#[must_use]
pub fn doctor(json: bool, file: Option<&Path>) -> ExitCode {
    let report = report::Report::of(&super::features(), file);
    let mut out = io::stdout().lock();
    let text = if json {
        serde_json::to_string_pretty(&report).map(|text| text + "\n").map_err(io::Error::from)
    } else {
        Ok(report.render(Paint::of_stdout()))
    };
    match text.and_then(|text| out.write_all(text.as_bytes())).and_then(|()| out.flush()) {
        // Who pipes into `head` has read what they wanted.
        Err(why) if why.kind() != io::ErrorKind::BrokenPipe => {
            eprintln!("sonde doctor: standard output: {why}");
            ExitCode::FAILURE
        }
        _ => ExitCode::from(report.status),
    }
}

/// What time this node thinks it is.
#[derive(Debug, Serialize)]
pub struct Time {
    /// What the kernel takes its time from, such as `tsc`; `null` where that cannot be read.
    pub source: Option<String>,
    /// Now.
    pub unix_seconds: u64,
    /// Not before this program was made.
    pub is_plausible: bool,
}

/// What was found, as `--json` prints it.
#[derive(Debug, Serialize)]
pub struct Findings {
    /// Sonde's version.
    pub version: &'static str,
    /// Whether `sonde run` would start here.
    pub can_run: bool,
    /// What stands in the way of `sonde run`, and how to remove it.
    pub obstacles: Vec<Obstacle>,
    /// What narrows the view, in words.
    pub concerns: Vec<String>,
    /// The kernel.
    pub kernel: Kernel,
    /// Its type information.
    pub btf: Types,
    /// Hook families, best first.
    pub hooks: Vec<Family>,
    /// Whether the kernel has each tracepoint; `null` without type information.
    pub tracepoints: BTreeMap<&'static str, Option<bool>>,
    /// What this process may do.
    pub privileges: Held,
    /// Bounds of what the kernel side keeps.
    pub limits: Limits,
}

/// Something that stands in the way.
#[derive(Debug, Serialize)]
pub struct Obstacle {
    /// What is missing.
    pub missing: String,
    /// How to grant it; any of them suffices.
    pub remedies: &'static [&'static str],
}

/// The kernel and its settings; `null` where a setting cannot be read.
#[derive(Debug, Serialize)]
pub struct Kernel {
    /// As `uname -r` prints it.
    pub release: String,
    /// Processor architecture.
    pub arch: &'static str,
    /// `none`, `integrity`, `confidentiality` or `unknown`.
    pub lockdown: &'static str,
    /// `none`, `v1`, `v2` or `hybrid`.
    pub cgroups: &'static str,
    /// Largest process id plus one.
    pub pid_max: u32,
    /// Whether this process sees the kernel's own process ids.
    pub host_pid_namespace: Option<bool>,
    /// The `hidepid` option of `/proc`.
    pub hidepid: Option<String>,
    /// `kernel.unprivileged_bpf_disabled`
    pub unprivileged_bpf_disabled: Option<u32>,
    /// `net.core.bpf_jit_enable`
    pub bpf_jit_enable: Option<u32>,
    /// `kernel.bpf_stats_enabled`
    pub bpf_stats_enabled: Option<u32>,
    /// `kernel.kptr_restrict`
    pub kptr_restrict: Option<u32>,
    /// Maps count as locked memory (before 5.11).
    pub counts_locked_memory: bool,
    /// Programs are put aside and skipped meanwhile (7.0 and later).
    pub puts_programs_aside: bool,
    /// Those of calls are attached through perf events, which are not.
    pub uses_perf_events: bool,
}

/// The kernel's type information.
#[derive(Debug, Serialize)]
pub struct Types {
    /// The file.
    pub path: &'static str,
    /// Why it cannot be used.
    pub error: Option<String>,
    /// Types in it.
    pub types: u32,
    /// Its size in bytes.
    pub bytes: usize,
    /// Members of kernel structures that Sonde looks for and does not find.
    pub missing_members: Vec<String>,
}

/// A hook family.
#[derive(Debug, Serialize)]
pub struct Family {
    /// As `--hooks` names it.
    pub name: &'static str,
    /// What becomes of it.
    pub state: FamilyState,
    /// Why, where it is not used.
    pub reason: Option<String>,
}

/// What becomes of a hook family.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum FamilyState {
    /// `sonde run` would use it.
    Used,
    /// The kernel has it, a better one is used.
    Spare,
    /// The kernel has it, something else stands in the way.
    Blocked,
    /// The kernel does not have it.
    Absent,
}

/// What this process may do.
#[derive(Debug, Serialize)]
pub struct Held {
    /// Effective user id.
    pub uid: u32,
    /// Whether each capability that Sonde has a use for is effective.
    pub capabilities: BTreeMap<&'static str, bool>,
    /// A seccomp filter is active.
    pub seccomp: bool,
    /// Whether the capabilities count for the whole host.
    pub host_user_namespace: Option<bool>,
}

/// Bounds of what the kernel side keeps.
#[derive(Debug, Serialize)]
pub struct Limits {
    /// Ring buffer.
    pub ring_bytes: u32,
    /// Pending bytes that wake the reader.
    pub wake_bytes: u64,
    /// Connections with state of their own in the family `syscalls`, and with perf events.
    pub connections: u32,
    /// A message's head.
    pub head_bytes: u32,
    /// Process ids that can be told apart.
    pub processes: u32,
}

impl Findings {
    /// Judges a kernel.
    #[must_use]
    pub fn of(features: &Features) -> Self {
        let choice = choose_hooks(HookChoice::Auto, features);
        let used = choice.as_ref().ok().map(|hooks| hooks.family);
        let obstacles = choice.err().map_or(Vec::new(), |refusal| refusal.lacks);
        let types = features.types.as_ref();
        Self {
            version: env!("CARGO_PKG_VERSION"),
            can_run: used.is_some(),
            obstacles: obstacles
                .into_iter()
                .map(|lack| Obstacle { missing: lack.what, remedies: lack.remedies })
                .collect(),
            concerns: features.concerns(),
            kernel: Kernel {
                release: features.release.clone(),
                arch: std::env::consts::ARCH,
                lockdown: features.lockdown.name(),
                cgroups: features.cgroups.name(),
                pid_max: features.pid_max,
                host_pid_namespace: features.initial_pid_namespace,
                hidepid: features.hidepid.clone(),
                unprivileged_bpf_disabled: features.unprivileged_bpf_disabled,
                bpf_jit_enable: features.jit,
                bpf_stats_enabled: features.bpf_stats,
                kptr_restrict: features.kptr_restrict,
                counts_locked_memory: features.counts_locked_memory(),
                puts_programs_aside: features.puts_programs_aside(),
                uses_perf_events: features.wants_perf_events(),
            },
            btf: Types {
                path: VMLINUX,
                error: types.err().cloned(),
                types: types.map_or(0, |types| types.count),
                bytes: types.map_or(0, |types| types.bytes),
                missing_members: types.map_or(Vec::new(), |types| {
                    types.members.missing.iter().map(ToString::to_string).collect()
                }),
            },
            hooks: HookFamily::ALL.into_iter().map(|family| Family::of(family, used, features)).collect(),
            tracepoints: Tracepoint::ALL
                .into_iter()
                .map(|tracepoint| {
                    let present = types.ok().map(|types| types.tracepoint(tracepoint).is_some());
                    (tracepoint.name(), present)
                })
                .collect(),
            privileges: Held {
                uid: features.privileges.uid,
                capabilities: Capability::ALL
                    .into_iter()
                    .map(|capability| (capability.name(), features.privileges.has(capability)))
                    .collect(),
                seccomp: features.privileges.seccomp,
                host_user_namespace: features.privileges.initial_user_namespace,
            },
            limits: Limits {
                ring_bytes: limits::RING_BYTES,
                wake_bytes: limits::WAKE_BYTES,
                connections: limits::CONNECTIONS,
                head_bytes: limits::HEAD_BYTES,
                processes: features.pid_max,
            },
        }
    }
}

impl Family {
    fn of(family: HookFamily, used: Option<HookFamily>, features: &Features) -> Self {
        let lack = if features.types.is_ok() {
            why_not(family, features)
        } else {
            Some("no type information".into())
        };
        let (state, reason) = match (lack, used) {
            (Some(why), _) => (FamilyState::Absent, Some(why)),
            (None, Some(used)) if used == family => (FamilyState::Used, None),
            (None, Some(used)) => (FamilyState::Spare, Some(format!("possible; {used} costs less"))),
            (None, None) => {
                (FamilyState::Blocked, Some("the kernel has it; see what is missing above".into()))
            }
        };
        Self { name: family.name(), state, reason }
    }
}

#[cfg(test)]
mod tests {
    use super::{Findings, Paint};
    use crate::kernel::tests::Laid;

    /// Findings without what differs between builds, machines and the BTF made for the test.
    fn findings(laid: &Laid) -> Findings {
        let mut findings = Findings::of(&laid.features());
        findings.version = "0.0.0";
        findings.kernel.arch = "x86_64";
        findings.btf.types = 126_572;
        findings.btf.bytes = 5_515_236;
        findings
    }

    fn page(laid: &Laid, paint: Paint) -> String {
        laid.relative(&findings(laid).render(paint))
    }

    #[test]
    fn a_good_kernel_seen_by_root() {
        insta::assert_snapshot!(page(&Laid::new(), Paint::Plain));
    }

    #[test]
    fn an_old_kernel_seen_by_nobody() {
        let laid = Laid::new()
            .btf(&["sock_send_length", "sock_recv_length", "sock.sk_err"])
            .with("proc/sys/kernel/osrelease", "5.10.0-32-amd64\n")
            .with("proc/self/mountinfo", "")
            .without("proc/sys/net/core/bpf_jit_enable")
            .without("sys/kernel/security/lockdown")
            .capabilities(0);
        insta::assert_snapshot!(page(&laid, Paint::Plain));
        assert!(!Findings::of(&laid.features()).can_run);
    }

    #[test]
    fn a_container_without_sysfs() {
        let laid = Laid::new()
            .without("sys/kernel/btf/vmlinux")
            .namespace("pid", 4_026_532_111)
            .namespace("user", 4_026_532_112);
        insta::assert_snapshot!(page(&laid, Paint::Plain));
    }

    #[test]
    fn json_says_the_same() {
        insta::assert_snapshot!(serde_json::to_string_pretty(&findings(&Laid::new())).unwrap());
    }

    /// Colours change nothing but colours.
    #[test]
    fn colour_is_taken_off_again() {
        let laid = Laid::new().btf(&["sys_exit", "sock.sk_err"]);
        let coloured = page(&laid, Paint::Colour);
        assert!(coloured.contains("\x1b[32mok\x1b[0m") && coloured.contains("\x1b[31mno\x1b[0m"));
        let plain = ["0", "1", "31", "32", "33"]
            .iter()
            .fold(coloured, |text, code| text.replace(&format!("\x1b[{code}m"), ""));
        assert_eq!(plain, page(&laid, Paint::Plain));
    }
}
