//! The findings for people: one aligned row each, coloured on a terminal.

use std::io::{self, IsTerminal};

use super::{FamilyState, Findings, Held};

impl Findings {
    /// The findings as aligned text.
    #[must_use]
    pub fn render(&self, paint: Paint) -> String {
        let mut page = Page { text: String::new(), paint };
        self.verdict(&mut page);
        self.kernel_part(&mut page);
        self.hooks_part(&mut page);
        self.privileges_part(&mut page);
        let limits = &self.limits;
        page.title("Limits");
        page.row(
            Mark::None,
            "ring buffer",
            &format!("{}, read at {}", size(limits.ring_bytes), size(limits.wake_bytes)),
        );
        page.row(Mark::None, "message head", &size(limits.head_bytes));
        let besides =
            if self.kernel.uses_perf_events { "" } else { " with `syscalls`, any number with `lengths`" };
        page.row(Mark::None, "connections", &format!("{}{besides}", limits.connections));
        page.row(Mark::None, "process ids", &limits.processes.to_string());
        page.text
    }

    fn verdict(&self, page: &mut Page) {
        let used = self.hooks.iter().find(|family| family.state == FamilyState::Used);
        page.line(&format!("sonde {} on Linux {} ({})", self.version, self.kernel.release, self.kernel.arch));
        match used {
            Some(family) => {
                page.row(Mark::Good, "sonde run", &format!("works here, with the hooks `{}`", family.name));
            }
            None => page.row(Mark::Bad, "sonde run", "cannot observe here"),
        }
        for obstacle in &self.obstacles {
            page.row(Mark::Bad, "missing", &obstacle.missing);
            for (n, remedy) in obstacle.remedies.iter().enumerate() {
                page.row(Mark::None, if n == 0 { "  remedy" } else { "  or" }, remedy);
            }
        }
        for concern in &self.concerns {
            page.row(Mark::Warn, "note", concern);
        }
    }

    fn kernel_part(&self, page: &mut Page) {
        let Self { kernel, btf, .. } = self;
        page.title("Kernel");
        match &btf.error {
            Some(why) => page.row(Mark::Bad, "type information", why),
            None => {
                let found = match btf.missing_members.len() {
                    0 => "every member found".to_owned(),
                    1 => "one member is missing".to_owned(),
                    n => format!("{n} members are missing"),
                };
                let mark = if btf.missing_members.is_empty() { Mark::Good } else { Mark::Warn };
                let text = format!("{} types in {}, {found}", btf.types, size(btf.bytes));
                page.row(mark, "type information", &text);
            }
        }
        let lockdown = match kernel.lockdown {
            "unknown" => (Mark::None, "not known (securityfs is not mounted or not readable)"),
            "confidentiality" => (Mark::Warn, "confidentiality: kernel memory may not be read"),
            other => (Mark::Good, other),
        };
        page.row(lockdown.0, "lockdown", lockdown.1);
        let cgroups = if kernel.cgroups == "none" { Mark::Warn } else { Mark::Good };
        page.row(cgroups, "cgroups", kernel.cgroups);
        let namespace = match kernel.host_pid_namespace {
            Some(true) => (Mark::Good, "the host's"),
            Some(false) => (Mark::Warn, "a container's"),
            None => (Mark::None, "not known"),
        };
        page.row(namespace.0, "pid namespace", namespace.1);
        if let Some(hidepid) = &kernel.hidepid {
            page.row(Mark::None, "/proc", &format!("hidepid={hidepid}"));
        }
        for (name, value) in [
            ("bpf_jit_enable", kernel.bpf_jit_enable),
            ("bpf_stats_enabled", kernel.bpf_stats_enabled),
            ("unprivileged_bpf_disabled", kernel.unprivileged_bpf_disabled),
            ("kptr_restrict", kernel.kptr_restrict),
        ] {
            page.row(Mark::None, name, &value.map_or("not readable".into(), |value| value.to_string()));
        }
        if kernel.counts_locked_memory {
            page.row(Mark::None, "locked memory", "maps count against `ulimit -l` (kernels before 5.11)");
        }
        if kernel.puts_programs_aside {
            let (mark, text) = if kernel.uses_perf_events {
                (Mark::Good, "attached through perf events: elsewhere this kernel skips them now and then")
            } else {
                (Mark::Bad, "skipped while another task is put aside inside one")
            };
            page.row(mark, "programs", text);
        }
    }

    fn hooks_part(&self, page: &mut Page) {
        page.title("Hooks");
        for family in &self.hooks {
            let mark = match family.state {
                FamilyState::Used => Mark::Good,
                FamilyState::Spare => Mark::None,
                FamilyState::Blocked | FamilyState::Absent => Mark::Bad,
            };
            page.row(mark, family.name, family.reason.as_deref().unwrap_or("used"));
        }
        for (name, present) in &self.tracepoints {
            let (mark, text) = match present {
                Some(true) => (Mark::Good, "present"),
                Some(false) => (Mark::Bad, "absent"),
                None => (Mark::None, "not known"),
            };
            page.row(mark, name, text);
        }
    }

    fn privileges_part(&self, page: &mut Page) {
        let Held { uid, capabilities, seccomp, host_user_namespace } = &self.privileges;
        page.title("Privileges");
        page.row(Mark::None, "user id", &uid.to_string());
        for (name, held) in capabilities {
            let (mark, text) = if *held { (Mark::Good, "held") } else { (Mark::None, "not held") };
            page.row(mark, name, text);
        }
        if *host_user_namespace == Some(false) {
            page.row(Mark::Bad, "user namespace", "a container's: capabilities do not count for BPF");
        }
        if *seccomp {
            page.row(Mark::Warn, "seccomp", "a filter is active");
        }
    }
}

/// Whether text is coloured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Paint {
    /// Escape sequences of ECMA-48.
    Colour,
    /// None.
    Plain,
}

impl Paint {
    /// Colour on a terminal, unless `NO_COLOR` (no-color.org) or a dumb terminal asks for none.
    #[must_use]
    pub fn of_stdout() -> Self {
        let refused = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty())
            || std::env::var_os("TERM").is_some_and(|term| term == "dumb");
        if !refused && io::stdout().is_terminal() { Self::Colour } else { Self::Plain }
    }
}

#[derive(Clone, Copy)]
pub(super) enum Mark {
    Good,
    Bad,
    Warn,
    None,
}

pub(super) struct Page {
    pub(super) text: String,
    pub(super) paint: Paint,
}

impl Page {
    fn line(&mut self, text: &str) {
        self.text.push_str(text);
        self.text.push('\n');
    }

    pub(super) fn title(&mut self, title: &str) {
        let title = match self.paint {
            Paint::Colour => format!("\n\x1b[1m{title}\x1b[0m"),
            Paint::Plain => format!("\n{title}"),
        };
        self.line(&title);
    }

    pub(super) fn row(&mut self, mark: Mark, label: &str, text: &str) {
        let (sign, colour) = match mark {
            Mark::Good => ("ok", "32"),
            Mark::Bad => ("no", "31"),
            Mark::Warn => ("!", "33"),
            Mark::None => ("", ""),
        };
        let sign = match self.paint {
            Paint::Colour if !colour.is_empty() => format!("\x1b[{colour}m{sign:<2}\x1b[0m"),
            _ => format!("{sign:<2}"),
        };
        self.line(format!("  {sign}  {label:<26} {text}").trim_end());
    }
}

pub(super) fn size(bytes: impl TryInto<u64>) -> String {
    let bytes = bytes.try_into().unwrap_or(u64::MAX);
    match bytes {
        0..1024 => format!("{bytes} bytes"),
        1024..0x10_0000 => format!("{} KiB", bytes / 1024),
        _ => format!("{}.{} MiB", bytes >> 20, ((bytes & 0xf_ffff) * 10) >> 20),
    }
}
