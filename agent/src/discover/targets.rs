//! Which processes are observed.

use std::path::Path;

use crate::config::Targets;

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

/// Decides about a process. `exe` is its path, or only a name where the path could not be read. Ports select connections,
/// not processes: with nothing but ports, no process is observed as such.
pub(super) fn decide(targets: &Targets, tgid: u32, exe: &str, service: &str) -> Decision {
    let Targets { ports: _, exes, pids, services } = targets;
    if targets.is_everything() {
        return if is_infrastructure(file_name(exe)) {
            Decision::Excluded(Exclusion::Infrastructure)
        } else {
            Decision::Observed
        };
    }
    let wanted = pids.contains(&tgid)
        || exes.iter().any(|glob| glob.matches(Path::new(exe)))
        || services.iter().any(|glob| glob.matches(service));
    if wanted { Decision::Observed } else { Decision::Excluded(Exclusion::NotATarget) }
}

/// Whether a program's name is one of [`INFRASTRUCTURE`].
pub(super) fn is_infrastructure(name: &str) -> bool {
    INFRASTRUCTURE.iter().any(|program| match program.strip_suffix('*') {
        Some(start) => name.starts_with(start),
        None => name == *program,
    })
}

pub(super) fn file_name(path: &str) -> &str {
    path.rsplit('/').next().unwrap_or(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_targets_all_but_infrastructure() {
        let targets = Targets::default();
        let check = |exe: &str, observed: bool| {
            let decision = decide(&targets, 7, exe, "service");
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
        let targets = Targets {
            pids: vec![42],
            exes: ["python3*", "/opt/*/bin/app", "/srv/**"].map(|glob| glob.parse().unwrap()).into(),
            services: vec!["shop-*".parse().unwrap()],
            ..Targets::default()
        };
        let check = |tgid: u32, exe: &str, service: &str, observed: bool| {
            let decision = decide(&targets, tgid, exe, service);
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
        let targets = Targets { ports: [&"80".parse().unwrap()].into_iter().collect(), ..Targets::default() };
        let decision = decide(&targets, 1, "/usr/sbin/nginx", "nginx");
        assert_eq!(decision, Decision::Excluded(Exclusion::NotATarget));
    }
}
