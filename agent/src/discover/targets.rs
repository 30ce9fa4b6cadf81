//! Which processes are observed.

use globset::{GlobBuilder, GlobMatcher};

/// Whether a process is observed, and if not, why.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decision {
    /// Its connections are observed.
    Observed,
    /// They are not, except where a port selects them.
    Excluded(Exclusion),
}

/// Why a process is not observed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exclusion {
    /// Sonde itself: observing its own exports would never end. No target overrides this.
    Sonde,
    /// Runs the machine rather than serves on it ([`INFRASTRUCTURE`]); observed only where a target names it.
    Infrastructure,
    /// A backend that Sonde exports to.
    Backend,
    /// Targets are given, and none fits.
    NotATarget,
}

/// Programs that are not observed unless a target names them, by the file name of the executable. A final `*` stands
/// for any rest.
///
/// | program | why |
/// |---|---|
/// | `systemd`, `systemd-*`, `(sd-*` | the service manager, its daemons, and their children before `execve` |
/// | `sshd`, `sshd-*` | encrypted logins |
/// | `dockerd`, `docker-proxy`, `containerd`, `containerd-*`, `nerdctl`, `runc`, `crun`, `crio`, `conmon`, `conmonrs`, `podman`, `buildkitd` | container runtimes: their calls among each other are none of the applications' |
/// | `kubelet` | the node's agent |
pub const INFRASTRUCTURE: &[&str] = &[
    "systemd",
    "systemd-*",
    "(sd-*",
    "sshd",
    "sshd-*",
    "dockerd",
    "docker-proxy",
    "containerd",
    "containerd-*",
    "nerdctl",
    "runc",
    "crun",
    "crio",
    "conmon",
    "conmonrs",
    "podman",
    "buildkitd",
    "kubelet",
];

/// What the user pointed Sonde at: `--pid`, `--exe` and `--service`; either suffices. (`--port` selects connections, in
/// the kernel programs.)
#[derive(Clone, Debug, Default)]
pub struct Targets {
    pids: Vec<u32>,
    exes: Vec<ExePattern>,
    services: Vec<GlobMatcher>,
    ports: bool,
}

#[derive(Clone, Debug)]
struct ExePattern {
    matcher: GlobMatcher,
    whole_path: bool,
}

/// A glob that is none.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{flag} {pattern:?} is no glob: {reason}")]
pub struct BadGlob {
    /// The flag that it was given to.
    pub flag: &'static str,
    /// As it was given.
    pub pattern: String,
    /// What is wrong with it.
    pub reason: String,
}

impl Targets {
    /// Reads the targets. A glob of `exes` that holds a slash is matched with the whole path of the executable, where
    /// `*` does not cross a slash and `**` does; any other with its file name. Globs of `services` are matched with
    /// `service.name`. `ports` says whether ports are selected too: then nothing else is observed by default.
    ///
    /// # Errors
    /// The first glob that is none.
    pub fn new(pids: &[u32], exes: &[String], services: &[String], ports: bool) -> Result<Self, BadGlob> {
        let exe = |pattern: &String| {
            let matcher = glob("--exe", pattern)?;
            Ok(ExePattern { matcher, whole_path: pattern.contains('/') })
        };
        Ok(Self {
            pids: pids.to_vec(),
            exes: exes.iter().map(exe).collect::<Result<_, _>>()?,
            services: services.iter().map(|pattern| glob("--service", pattern)).collect::<Result<_, _>>()?,
            ports,
        })
    }

    /// The targets of the command line, whose patterns have been checked there.
    #[must_use]
    pub fn of(targets: &crate::config::Targets) -> Self {
        let exes: Vec<String> = targets.exes.iter().map(|exe| exe.pattern().to_owned()).collect();
        let services: Vec<String> =
            targets.services.iter().map(|service| service.pattern().to_owned()).collect();
        Self::new(&targets.pids, &exes, &services, !targets.ports.is_empty()).unwrap_or_default()
    }

    /// Whether everything is observed that is not infrastructure.
    #[must_use]
    pub fn is_everything(&self) -> bool {
        let Self { pids, exes, services, ports } = self;
        pids.is_empty() && exes.is_empty() && services.is_empty() && !ports
    }

    /// Decides about a process. `exe` is its path, or only a name where the path could not be read.
    pub(super) fn decide(&self, tgid: u32, exe: &str, service: &str) -> Decision {
        let name = file_name(exe);
        if self.is_everything() {
            let excluded = INFRASTRUCTURE.iter().any(|program| match program.strip_suffix('*') {
                Some(start) => name.starts_with(start),
                None => name == *program,
            });
            return if excluded { Decision::Excluded(Exclusion::Infrastructure) } else { Decision::Observed };
        }
        let fits_exe =
            |pattern: &ExePattern| pattern.matcher.is_match(if pattern.whole_path { exe } else { name });
        let wanted = self.pids.contains(&tgid)
            || self.exes.iter().any(fits_exe)
            || self.services.iter().any(|matcher| matcher.is_match(service));
        if wanted { Decision::Observed } else { Decision::Excluded(Exclusion::NotATarget) }
    }
}

fn glob(flag: &'static str, pattern: &str) -> Result<GlobMatcher, BadGlob> {
    let glob = GlobBuilder::new(pattern).literal_separator(flag == "--exe").build();
    let bad = |error: globset::Error| BadGlob {
        flag,
        pattern: pattern.to_owned(),
        reason: error.kind().to_string(),
    };
    Ok(glob.map_err(bad)?.compile_matcher())
}

pub(super) fn file_name(path: &str) -> &str {
    path.rsplit('/').next().unwrap_or(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn strings(patterns: &[&str]) -> Vec<String> {
        patterns.iter().map(|&pattern| pattern.to_owned()).collect()
    }

    #[test]
    fn without_targets_all_but_infrastructure() {
        let targets = Targets::default();
        let check = |exe: &str, observed: bool| {
            let decision = targets.decide(7, exe, "service");
            assert_eq!(decision == Decision::Observed, observed, "{exe}: {decision:?}");
        };
        for exe in [
            "/usr/sbin/sshd",
            "/usr/lib/openssh/sshd-session",
            "/usr/lib/systemd/systemd",
            "/lib/systemd/systemd-resolved",
            "/usr/bin/containerd",
            "/usr/bin/containerd-shim-runc-v2",
            "/usr/bin/dockerd",
            "/usr/bin/docker-proxy",
            "/usr/local/sbin/runc",
            "/usr/bin/crio",
            "/usr/bin/conmon",
            "/usr/bin/podman",
            "/usr/bin/kubelet",
            "sshd",
            "(sd-pam)",
        ] {
            check(exe, false);
        }
        for exe in [
            "/usr/sbin/nginx",
            "/usr/bin/python3.11",
            "/opt/systemd/bin/app",
            "/usr/bin/sshd2",
            "runcible",
            "",
            "/",
        ] {
            check(exe, true);
        }
    }

    #[test]
    fn any_target_suffices() {
        let targets = Targets::new(
            &[42],
            &strings(&["python3*", "/opt/*/bin/app", "/srv/**"]),
            &strings(&["shop-*"]),
            false,
        )
        .unwrap();
        let check = |tgid: u32, exe: &str, service: &str, observed: bool| {
            let decision = targets.decide(tgid, exe, service);
            assert_eq!(decision == Decision::Observed, observed, "{tgid} {exe} {service}: {decision:?}");
        };
        check(42, "/usr/sbin/sshd", "sshd", true);
        check(43, "/usr/sbin/sshd", "sshd", false);
        check(1, "/usr/bin/python3.11", "x", true);
        check(1, "python3", "x", true);
        check(1, "/opt/acme/bin/app", "x", true);
        check(1, "/opt/acme/more/bin/app", "x", false);
        check(1, "/srv/a/b/c", "x", true);
        check(1, "/usr/bin/app", "shop-front", true);
        check(1, "/usr/bin/app", "workshop-front", false);
    }

    #[test]
    fn ports_alone_observe_no_process_as_such() {
        let targets = Targets::new(&[], &[], &[], true).unwrap();
        assert_eq!(targets.decide(1, "/usr/sbin/nginx", "nginx"), Decision::Excluded(Exclusion::NotATarget));
        assert!(!targets.is_everything());
    }

    #[test]
    fn a_bad_glob_is_named() {
        let error = Targets::new(&[], &strings(&["ok", "[z-a]"]), &[], false).unwrap_err();
        assert!(error.to_string().starts_with("--exe \"[z-a]\" is no glob: "), "{error}");
        let error = Targets::new(&[], &[], &strings(&["{a"]), false).unwrap_err();
        assert_eq!((error.flag, error.pattern.as_str()), ("--service", "{a"));
    }
}
