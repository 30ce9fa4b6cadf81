//! The systemd unit of a process, from its control group (systemd.unit(5), "String Escaping" too).

use super::super::container::{container_id, living};

/// Units that host what others start: shells, sessions, jobs, containers. Their name says nothing of the program.
const HOSTS: [&str; 16] = [
    "ssh",
    "sshd",
    "docker",
    "containerd",
    "crio",
    "podman",
    "kubelet",
    "cron",
    "crond",
    "anacron",
    "atd",
    "supervisor",
    "supervisord",
    "getty",
    "serial-getty",
    "user",
];

/// The service unit that the process's own group is, without its suffix and its instance, be it in a group below. `None` for scopes (sessions,
/// containers), for what a user's own manager runs (a terminal is a service there), and for [`HOSTS`].
pub(in crate::discover) fn service(cgroup: &str) -> Option<String> {
    let of = |wanted: fn(&str) -> bool| {
        cgroup.lines().find_map(|line| {
            let mut fields = line.splitn(3, ':');
            let (_, controllers, path) = (fields.next()?, fields.next()?, fields.next()?);
            wanted(controllers).then_some(path)
        })
    };
    // cgroup v1 and hybrid set-ups keep systemd's own tree beside the controllers'.
    let path = of(|controllers| controllers == "name=systemd")
        .filter(|path| *path != "/")
        .or_else(|| of(str::is_empty))?;
    let path = living(path);
    if path.split('/').any(|component| component.starts_with("user@")) {
        return None;
    }
    // Services may make groups below their own (`Delegate=`). What is a container there is another's, unless the service is
    // that container (Podman's Quadlet).
    let below = path.rsplit('/').take_while(|component| !component.ends_with(".service"));
    if below.clone().any(|component| {
        component.ends_with(".scope")
            || component.ends_with(".slice")
            || (container_id(&format!("0::{component}")).is_some()
                && !component.starts_with("libpod-payload-"))
    }) {
        return None;
    }
    let unit = path.rsplit('/').nth(below.count())?.strip_suffix(".service")?;
    let name = unit.split('@').next().unwrap_or(unit);
    if name.is_empty() || name.starts_with("systemd-") || HOSTS.contains(&name) {
        return None;
    }
    Some(unescaped(name))
}

/// `\xHH` stands for a byte. What is not that stays.
fn unescaped(name: &str) -> String {
    let mut bytes = Vec::with_capacity(name.len());
    let mut rest = name.as_bytes();
    while let Some((&byte, after)) = rest.split_first() {
        let code = after.strip_prefix(b"x").and_then(|digits| digits.first_chunk::<2>());
        let code = code.and_then(|digits| u8::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok());
        match code.filter(|_| byte == b'\\') {
            Some(code) => {
                bytes.push(code);
                rest = after.get(3..).unwrap_or_default();
            }
            None => {
                bytes.push(byte);
                rest = after;
            }
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn units_of_control_groups() {
        let check = |path: &str, expect: Option<&str>| {
            assert_eq!(service(&format!("0::{path}\n")).as_deref(), expect, "v2 {path}");
            let v1 = format!("12:pids:/\n3:cpu,cpuacct:/\n1:name=systemd:{path}\n0::{path}\n");
            assert_eq!(service(&v1).as_deref(), expect, "hybrid {path}");
        };
        check("/system.slice/nginx.service", Some("nginx"));
        check("/system.slice/system-shop.slice/shop@blue.service", Some("shop"));
        check("/acme.slice/acme-web.slice/web.service", Some("web"));
        check("/system.slice/web\\x2dshop.service", Some("web-shop"));
        check("/system.slice/a\\xzz.service", Some("a\\xzz"));
        check("/docker/3f1e5b0c6a9d/system.slice/nginx.service", Some("nginx"));
        check("/system.slice/shop.service/workers/1", Some("shop"));
        check("/system.slice/shop.service (deleted)", Some("shop"));
        let id = "3f1e5b0c6a9d4827b1c0f7e8d2a46593c8b7a6f5e4d3c2b1a09f8e7d6c5b4a39";
        check(&format!("/system.slice/web.service/libpod-payload-{id}"), Some("web"));
        check(&format!("/system.slice/batch.service/k8s.io/{id}"), None);
        for path in [
            "/",
            "/init.scope",
            "/user.slice/user-0.slice/session-3.scope",
            "/user.slice/user-1000.slice/user@1000.service/init.scope",
            "/user.slice/user-1000.slice/user@1000.service/app.slice/gnome-terminal-server.service",
            "/system.slice/docker-3f1e5b0c6a9d.scope",
            "/system.slice/docker.service",
            "/system.slice/containerd.service/k8s.io/3f1e5b0c6a9d",
            "/system.slice/ssh.service",
            "/system.slice/cron.service",
            "/system.slice/system-getty.slice/getty@tty1.service",
            "/system.slice/systemd-resolved.service",
            "/system.slice/.service",
        ] {
            check(path, None);
        }
        assert_eq!(service(""), None);
        assert_eq!(service("garbage\n::\n"), None);
    }
}
