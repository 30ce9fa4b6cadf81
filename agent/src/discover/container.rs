//! Container ids from `/proc/<pid>/cgroup` (cgroups(7)), as the container runtimes name their groups.

/// The id of the innermost container that the process runs in, `None` outside one. The text holds one line
/// `hierarchy:controllers:path` for each hierarchy of cgroup v1, and one with an empty second field for v2.
#[must_use]
pub fn container_id(cgroup: &str) -> Option<&str> {
    let mut paths = cgroup.lines().filter_map(|line| line.splitn(3, ':').nth(2)).map(living);
    paths.find_map(|path| path.rsplit('/').find_map(component_id))
}

/// A path without what the kernel says behind it where the group was removed before the process was reaped.
pub(super) fn living(path: &str) -> &str {
    path.strip_suffix(" (deleted)").unwrap_or(path)
}

/// The id that one component of a path carries: bare (cgroupfs driver), or between a runtime's prefix and the unit's
/// suffix (systemd driver: `docker-ID.scope`, `cri-containerd-ID.scope`, `crio-ID.scope`, `libpod-ID.scope`), or
/// behind the slice of a pod (`kubepods-besteffort-podUID.slice:cri-containerd:ID`).
fn component_id(component: &str) -> Option<&str> {
    // Helpers that run beside a container, in groups that carry its name.
    if component.starts_with("crio-conmon-") || component.starts_with("libpod-conmon-") {
        return None;
    }
    let is_scope = component.ends_with(".scope");
    let component =
        component.strip_suffix(".scope").or_else(|| component.strip_suffix(".service")).unwrap_or(component);
    let component = component.rsplit(':').next()?;
    if is_ecs_task(component) {
        return Some(component);
    }
    let id = component.rsplit('-').next()?;
    if is_id(id) {
        return Some(id);
    }
    // Runtimes that were called without another: whoever called gave the id.
    if !is_scope {
        return None;
    }
    let id = component.strip_prefix("runc-").or_else(|| component.strip_prefix("crun-"))?;
    (!id.is_empty()).then_some(id)
}

/// 256 bits in hexadecimal: Docker, containerd, CRI-O and Podman alike.
fn is_id(text: &str) -> bool {
    text.len() == 64 && is_hex(text)
}

/// Amazon ECS names containers `<32 hexadecimal digits>-<decimal number>`.
fn is_ecs_task(text: &str) -> bool {
    let parts = text.split_once('-');
    parts.is_some_and(|(task, number)| {
        task.len() == 32
            && is_hex(task)
            && number.len() >= 8
            && number.bytes().all(|byte| byte.is_ascii_digit())
    })
}

fn is_hex(text: &str) -> bool {
    text.bytes().all(|byte| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte))
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: &str = "3f1e5b0c6a9d4827b1c0f7e8d2a46593c8b7a6f5e4d3c2b1a09f8e7d6c5b4a39";
    const OUTER: &str = "a9d4827b1c0f7e8d2a46593c8b7a6f5e4d3c2b1a09f8e7d6c5b4a393f1e5b0c6";

    #[test]
    fn ids_of_the_shapes_that_runtimes_use() {
        let check = |path: &str, expect: Option<&str>| {
            let path = path.replace("ID", ID).replace("OUTER", OUTER);
            assert_eq!(container_id(&format!("0::{path}\n")), expect, "v2 {path}");
            let v1 = format!("12:pids:{path}\n3:cpu,cpuacct:{path}\n1:name=systemd:{path}\n0::/\n");
            assert_eq!(container_id(&v1), expect, "v1 {path}");
        };
        for path in [
            "/docker/ID",
            "/system.slice/docker-ID.scope",
            "/user.slice/user-1000.slice/user@1000.service/user.slice/docker-ID.scope",
            "/system.slice/containerd.service/k8s.io/ID",
            "/default/ID",
            "/system.slice/nerdctl-ID.scope",
            "/kubepods/besteffort/pod6d1c1a05-8a4f-4a4e-9d0c-0f8a4a3b2c1d/ID",
            "/kubepods/pod6d1c1a05-8a4f-4a4e-9d0c-0f8a4a3b2c1d/ID",
            "/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod6d1c1a05_8a4f_4a4e_9d0c_0f8a4a3b2c1d.slice/cri-containerd-ID.scope",
            "/kubepods.slice/kubepods-pod6d1c1a05_8a4f_4a4e_9d0c_0f8a4a3b2c1d.slice/crio-ID.scope",
            "/kubepods.slice/kubepods-pod6d1c1a05_8a4f_4a4e_9d0c_0f8a4a3b2c1d.slice/crio-ID.scope/container",
            "/system.slice/containerd.service/kubepods-besteffort-pod6d1c1a05_8a4f_4a4e.slice:cri-containerd:ID",
            "/kubelet.slice/kubelet-kubepods.slice/kubelet-kubepods-besteffort.slice/kubelet-kubepods-besteffort-pod6d1c.slice/cri-containerd-ID.scope",
            "/machine.slice/libpod-ID.scope",
            "/machine.slice/libpod-ID.scope/container",
            "/user.slice/user-1000.slice/user@1000.service/user.slice/libpod-ID.scope/container",
            "/libpod_parent/libpod-ID",
            "/ecs/0b69d5c0-d655-4695-98cd-5d2d526d9d5a/ID",
            // Docker in Docker, kind: the inner one counts.
            "/docker/OUTER/docker/ID",
            "/system.slice/docker-OUTER.scope/kubelet.slice/kubelet-kubepods.slice/cri-containerd-ID.scope",
            // systemd as the container's first process makes groups below.
            "/docker/ID/system.slice/nginx.service",
            "/../../kubepods-besteffort-pod6d1c.slice/cri-containerd-ID.scope",
            "/garden/ID",
            "/actions_job/ID",
            "/lxc.payload/docker/ID",
            "/system.slice/runc-ID.scope",
            // Podman under systemd with a group of its service (Quadlet).
            "/system.slice/web.service/libpod-payload-ID",
            // Not reaped yet.
            "/system.slice/docker-ID.scope (deleted)",
            "/docker/ID (deleted)",
        ] {
            check(path, Some(ID));
        }
        let task = "c5a2b1f0e4d34c8e9b7a6f5e4d3c2b1a-1234567890";
        check(&format!("/ecs/c5a2b1f0e4d34c8e9b7a6f5e4d3c2b1a/{task}"), Some(task));
        check("/system.slice/runc-web-1.scope", Some("web-1"));
        check("/user.slice/user-1000.slice/user@1000.service/user.slice/crun-job.scope", Some("job"));
        for path in [
            "/",
            "",
            "/init.scope",
            "/system.slice/nginx.service",
            "/user.slice/user-1000.slice/session-3.scope",
            "/machine.slice/libpod-conmon-ID.scope",
            "/kubepods.slice/crio-conmon-ID.scope",
            "/docker/3f1e5b0c6a9d",
            "/docker/3F1E5B0C6A9D4827B1C0F7E8D2A46593C8B7A6F5E4D3C2B1A09F8E7D6C5B4A39",
            "/system.slice/docker.service",
            "/system.slice/runc-.scope",
            "/system.slice/runc-web.service",
            "/runc-web",
        ] {
            check(path, None);
        }
    }

    #[test]
    fn lines_that_are_none() {
        for text in ["", "\n\n", "0", "0:", "::", "garbage", "0::\u{0}"] {
            assert_eq!(container_id(text), None, "{text:?}");
        }
        assert_eq!(container_id(&format!("1:name=with:colon:/docker/{ID}")), Some(ID));
    }
}
