//! What is said of kernels and privileges that Sonde may meet.

use std::fs;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};

use super::super::{
    Cgroups, Features, HookChoice, HookFamily, Lockdown, Roots, Version, choose_hooks, why_not,
};
use super::builder;

/// A kernel laid out as files below a directory of its own, removed in the end. Begins as a 6.12 with everything, seen
/// by root.
pub(crate) struct Laid {
    root: PathBuf,
}

impl Laid {
    pub(crate) fn new() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let root = std::env::temp_dir().join(format!("sonde-kernel-{}-{number}", std::process::id()));
        fs::create_dir_all(root.join("proc/self/ns")).unwrap();
        let laid = Self { root };
        std::os::unix::fs::symlink("pid:[4026531836]", laid.root.join("proc/self/ns/pid")).unwrap();
        std::os::unix::fs::symlink("user:[4026531837]", laid.root.join("proc/self/ns/user")).unwrap();
        laid.with("proc/sys/kernel/osrelease", "6.12.107+deb13-amd64\n")
            .with("proc/sys/kernel/pid_max", "4194304\n")
            .with("proc/sys/kernel/unprivileged_bpf_disabled", "2\n")
            .with("proc/sys/kernel/bpf_stats_enabled", "0\n")
            .with("proc/sys/net/core/bpf_jit_enable", "1\n")
            .with("sys/kernel/security/lockdown", "[none] integrity confidentiality\n")
            .with("proc/self/mountinfo", "24 1 0:22 / /proc rw - proc proc rw\n30 1 0:26 / /sys/fs/cgroup rw shared:4 - cgroup2 cgroup2 rw\n")
            .capabilities(0x1ff_ffff_ffff)
            .btf(&[])
    }

    pub(crate) fn with(self, file: &str, text: impl AsRef<[u8]>) -> Self {
        let path = self.root.join(file);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
        self
    }

    pub(crate) fn without(self, file: &str) -> Self {
        fs::remove_file(self.root.join(file)).unwrap();
        self
    }

    pub(crate) fn capabilities(self, effective: u64) -> Self {
        let status = format!("Name:\tsonde\nUid:\t0\t0\t0\t0\nCapEff:\t{effective:016x}\nSeccomp:\t0\n");
        self.with("proc/self/status", status)
    }

    pub(crate) fn namespace(self, name: &str, inode: u32) -> Self {
        let laid = self.without(&format!("proc/self/ns/{name}"));
        std::os::unix::fs::symlink(format!("{name}:[{inode}]"), laid.root.join("proc/self/ns").join(name))
            .unwrap();
        laid
    }

    /// A BTF without what `omit` names.
    pub(crate) fn btf(self, omit: &[&str]) -> Self {
        self.with("sys/kernel/btf/vmlinux", builder::kernel(omit))
    }

    /// A 7.3, which skips the programs of tracepoints, with the records of perf events.
    pub(crate) fn that_preempts() -> Self {
        let member =
            |name, at, bytes| format!("\tfield:int {name};\toffset:{at};\tsize:{bytes};\tsigned:1;\n");
        let length = member("sk", 8, 8) + &member("ret", 20, 4) + &member("flags", 24, 4);
        let state = member("skaddr", 8, 8) + &member("oldstate", 16, 4) + &member("newstate", 20, 4);
        let exit = member("id", 8, 8) + &member("ret", 16, 8);
        Self::new()
            .with("proc/sys/kernel/osrelease", "7.3.4+deb13-amd64\n")
            .with("sys/kernel/btf/vmlinux", builder::kernel_that_preempts())
            .with("sys/kernel/tracing/events/sock/sock_send_length/format", &length)
            .with("sys/kernel/tracing/events/sock/sock_recv_length/format", &length)
            .with("sys/kernel/tracing/events/sock/inet_sock_set_state/format", state)
            .with("sys/kernel/tracing/events/raw_syscalls/sys_exit/format", exit)
    }

    pub(crate) fn features(&self) -> Features {
        Features::read(&Roots { proc: self.root.join("proc"), sys: self.root.join("sys") })
    }

    /// Paths of the directory itself taken out, so that texts compare.
    pub(crate) fn relative(&self, text: &str) -> String {
        text.replace(self.root.to_str().unwrap(), "")
    }
}

impl Drop for Laid {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.root);
    }
}

const LENGTHS: [&str; 2] = ["sock_send_length", "sock_recv_length"];
const BPF: u64 = 1 << 39;
const PERFMON: u64 = 1 << 38;
const SYS_ADMIN: u64 = 1 << 21;
const SYS_PTRACE: u64 = 1 << 19;

/// The family and what was passed over, or the refusal, as text.
fn chosen(laid: &Laid, choice: HookChoice) -> String {
    match choose_hooks(choice, &laid.features()) {
        Ok(hooks) => {
            let mut text = hooks.family.to_string();
            for (family, why) in hooks.passed_over {
                text += &format!("; not {family}: {why}");
            }
            text
        }
        Err(refusal) => laid.relative(&refusal.to_string()),
    }
}

#[test]
fn the_best_family_is_used_and_the_reason_given_where_it_is_not() {
    let new = Laid::new();
    assert_eq!(chosen(&new, HookChoice::Auto), "lengths");
    assert_eq!(chosen(&new, HookChoice::Lengths), "lengths");
    assert_eq!(chosen(&new, HookChoice::Syscalls), "syscalls; not lengths: --hooks syscalls was asked for");

    let old = Laid::new().btf(&LENGTHS).with("proc/sys/kernel/osrelease", "5.10.0-32-amd64\n");
    let why = "this kernel has no tracepoint sock_send_length, sock_recv_length (kernels since about 6.3 do)";
    assert_eq!(chosen(&old, HookChoice::Auto), format!("syscalls; not lengths: {why}"));
    assert_eq!(chosen(&old, HookChoice::Syscalls), format!("syscalls; not lengths: {why}"));
    assert_eq!(
        chosen(&old, HookChoice::Lengths),
        format!(
            "cannot observe on this kernel or with these privileges:\n  - --hooks lengths: {why}\n      leave --hooks away, or use another kernel"
        )
    );
}

#[test]
fn the_syscalls_family_needs_to_walk_descriptors_and_lengths_does_not() {
    let no_walk = Laid::new().btf(&["fdtable.fd"]);
    assert_eq!(chosen(&no_walk, HookChoice::Auto), "lengths");
    assert!(chosen(&no_walk, HookChoice::Syscalls).contains("struct fdtable has no member fd"));

    let locked = Laid::new().with("sys/kernel/security/lockdown", "none integrity [confidentiality]\n");
    assert_eq!(locked.features().lockdown, Lockdown::Confidentiality);
    assert_eq!(chosen(&locked, HookChoice::Auto), "lengths");
    assert!(chosen(&locked, HookChoice::Syscalls).contains("lockdown"));
    assert!(why_not(HookFamily::Syscalls, &locked.features()).is_some());

    let nothing = Laid::new().btf(&["sock_send_length", "sys_exit"]);
    let text = chosen(&nothing, HookChoice::Auto);
    assert!(text.contains("lengths is not possible") && text.contains("syscalls is not possible"), "{text}");
}

/// A refusal names everything that is missing, and how to grant it.
#[test]
fn refusals_say_what_to_do() {
    let cases = [
        ("no privileges", Laid::new().capabilities(0)),
        ("no BTF", Laid::new().without("sys/kernel/btf/vmlinux")),
        ("a BTF of nonsense", Laid::new().with("sys/kernel/btf/vmlinux", "nonsense nonsense nonsense")),
        ("rootless container", Laid::new().namespace("user", 4_026_532_000)),
        ("an unknown kernel", Laid::new().btf(&["sock_common.skc_family"])),
        ("nothing at all", {
            let laid = Laid::new().capabilities(0).without("sys/kernel/btf/vmlinux");
            laid.with("proc/sys/kernel/osrelease", "4.19.0-27-amd64\n")
        }),
    ];
    let texts: Vec<String> =
        cases.iter().map(|(name, laid)| format!("# {name}\n{}\n", chosen(laid, HookChoice::Auto))).collect();
    insta::assert_snapshot!(texts.join("\n"));
}

#[test]
fn capabilities_suffice_together_or_as_sys_admin() {
    for (effective, lacking) in [
        (BPF | PERFMON, None),
        (SYS_ADMIN, None),
        (BPF, Some("CAP_PERFMON is not held")),
        (PERFMON, Some("CAP_BPF is not held")),
        (SYS_PTRACE, Some("CAP_BPF and CAP_PERFMON are not held")),
    ] {
        let features = Laid::new().capabilities(effective).features();
        assert_eq!(features.privileges.lacking_for_programs().as_deref(), lacking, "{effective:#x}");
    }
    let unreadable = Laid::new().with("proc/self/status", "");
    assert!(unreadable.features().privileges.lacking_for_programs().is_some());
}

#[test]
fn concerns_are_told_and_stop_nothing() {
    assert_eq!(Laid::new().features().concerns(), Vec::<String>::new());
    let laid = Laid::new()
        .with("proc/sys/kernel/osrelease", "5.10.0-32-amd64\n")
        .with("proc/sys/net/core/bpf_jit_enable", "0\n")
        .with("proc/self/mountinfo", "24 1 0:22 / /proc rw - proc proc rw,gid=4,hidepid=invisible\n")
        .with("proc/self/status", "Uid:\t0\t12\t0\t0\nCapEff:\t000000c000000000\nSeccomp:\t2\n")
        .namespace("pid", 4_026_532_111)
        .btf(&["inet_sock_set_state", "sock.sk_err"]);
    let features = laid.features();
    assert_eq!(features.privileges.uid, 12);
    insta::assert_snapshot!(features.concerns().join("\n"));
    assert!(choose_hooks(HookChoice::Auto, &features).is_ok());
}

#[test]
fn settings_are_read_as_the_kernel_writes_them() {
    for (release, version) in [
        ("6.12.107+deb13-amd64", Some((6, 12))),
        ("5.10.0-32-amd64", Some((5, 10))),
        ("7.2-rc1", Some((7, 2))),
        ("6.18.44-fc-v595", Some((6, 18))),
        ("unknown", None),
        ("6", None),
        ("", None),
        ("99999999999.1", None),
    ] {
        assert_eq!(
            Version::parse(release),
            version.map(|(major, minor)| Version { major, minor }),
            "{release}"
        );
    }
    let v1 = "30 1 0:26 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n";
    let v2 = "31 1 0:27 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw\n";
    for (mounts, cgroups) in [
        (String::new(), Cgroups::None),
        (v1.into(), Cgroups::V1),
        (v2.into(), Cgroups::V2),
        (format!("{v1}{v2}"), Cgroups::Hybrid),
        ("no separator".into(), Cgroups::None),
    ] {
        assert_eq!(Laid::new().with("proc/self/mountinfo", &mounts).features().cgroups, cgroups, "{mounts}");
    }
    for (text, lockdown) in [
        ("none [integrity] confidentiality\n", Lockdown::Integrity),
        ("[none] integrity confidentiality\n", Lockdown::None),
        ("[unheard of]\n", Lockdown::Unknown),
        ("", Lockdown::Unknown),
    ] {
        let laid = Laid::new().with("sys/kernel/security/lockdown", text);
        assert_eq!(laid.features().lockdown, lockdown, "{text}");
    }
    let bare = Laid::new().without("proc/sys/kernel/pid_max").without("proc/self/ns/pid").features();
    assert_eq!((bare.pid_max, bare.initial_pid_namespace), (4 << 20, None));
    assert_eq!(Laid::new().with("proc/sys/kernel/pid_max", "32768\n").features().pid_max, 32768);
    assert!(Laid::new().with("proc/sys/kernel/osrelease", "5.10.0\n").features().counts_locked_memory());
    assert!(!Laid::new().with("proc/sys/kernel/osrelease", "5.11.0\n").features().counts_locked_memory());
}

/// Where a kernel skips the programs of tracepoints, those of perf events are used, or it is said why not.
#[test]
fn perf_events_are_used_where_they_are_needed_and_possible() {
    let said = |laid: &Laid| {
        let features = laid.features();
        let concern = features.concerns().into_iter().find(|concern| concern.contains("perf events"));
        (
            features.puts_programs_aside(),
            features.wants_perf_events(),
            concern.map(|text| laid.relative(&text)),
        )
    };
    assert_eq!(said(&Laid::new()), (false, false, None));
    assert_eq!(said(&Laid::that_preempts()), (true, true, None));

    let because = |why: &str| {
        let unseen = "calls may go unseen: this kernel skips a tracepoint's programs while another task is put aside inside them";
        (true, false, Some(format!("{unseen}, and those of perf events are not possible: {why}")))
    };
    let format = "sys/kernel/tracing/events/raw_syscalls/sys_exit/format";
    let why = format!("/{format}: No such file or directory (os error 2)");
    assert_eq!(said(&Laid::that_preempts().without(format)), because(&why));
    let elsewhere = Laid::that_preempts().with(format, "\tfield:long id;\toffset:16;\tsize:8;\tsigned:1;\n");
    assert_eq!(said(&elsewhere), because("the record of sys_exit has its id elsewhere"));
    let locked =
        Laid::that_preempts().with("sys/kernel/security/lockdown", "none integrity [confidentiality]\n");
    assert_eq!(
        said(&locked),
        because("kernel lockdown is `confidentiality`: programs may not read kernel memory")
    );
    // An older place of tracefs.
    let debugfs = Laid::that_preempts();
    fs::create_dir_all(debugfs.root.join("sys/kernel/debug")).unwrap();
    fs::rename(debugfs.root.join("sys/kernel/tracing"), debugfs.root.join("sys/kernel/debug/tracing"))
        .unwrap();
    assert_eq!(said(&debugfs), (true, true, None));
}
