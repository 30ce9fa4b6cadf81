//! Processes of a made-up `/proc`, and of the real one.

use sonde_abi::Start;

use super::began::tests::start;
use super::tree::{Fake, Tree};
use super::*;

fn host() -> Host {
    Host { name: "node-1".to_owned(), machine_id: "m".to_owned(), boot_id: "b".to_owned(), ..Host::default() }
}

fn processes(tree: &Tree) -> Processes {
    Processes::under(tree.root(), 1, Targets::default(), host())
}

fn attribute<'a>(process: &'a Process, key: &str) -> Option<&'a crate::span::AttributeValue> {
    process
        .resource
        .attributes
        .iter()
        .find(|attribute| attribute.key == key)
        .map(|attribute| &attribute.value)
}

#[test]
fn everything_that_is_known() {
    let tree = Tree::new();
    let id = "3f1e5b0c6a9d4827b1c0f7e8d2a46593c8b7a6f5e4d3c2b1a09f8e7d6c5b4a39";
    tree.put(
        42,
        &Fake {
            comm: "python3",
            started: 1000,
            exe: "/usr/bin/python3.11 (deleted)",
            cwd: "/srv",
            args: &["python3", "orders.py", "--token", "x"],
            environ: &[
                "PATH=/bin",
                "OTEL_RESOURCE_ATTRIBUTES=service.namespace=eu,service.name=orders-eu",
                "HOME=/",
            ],
            cgroup: &format!("/docker/{id}"),
            ..Fake::default()
        },
    );
    let process = processes(&tree).identify(42);
    assert_eq!(process.id, ProcessId { tgid: 42, started: 1000 });
    assert_eq!((process.exe.as_str(), process.comm.as_str()), ("/usr/bin/python3.11", "python3"));
    assert_eq!(process.cmdline, "python3 orders.py --token x");
    assert_eq!(process.container_id.as_deref(), Some(id));
    assert_eq!(process.runtime.language, Language::Python);
    assert_eq!(process.decision, Decision::Observed);
    assert_eq!(process.resource.service_name(), "orders-eu");
    let text = |key| format!("{:?}", attribute(&process, key).unwrap());
    assert_eq!(text("service.namespace"), "Str(\"eu\")");
    assert_eq!(text("process.executable.name"), "Str(\"python3.11\")");
    assert_eq!(text("process.pid"), "Int(42)");
    assert_eq!(text("container.id"), format!("Str({id:?})"));
    assert_eq!(text("process.runtime.name"), "Str(\"cpython\")");
    assert!(attribute(&process, "PATH").is_none());
}

#[test]
fn read_once_for_each_incarnation() {
    let tree = Tree::new();
    let mut processes = processes(&tree);
    let first = Fake { comm: "a", started: 1, stack: 5, exe: "/bin/a", args: &["a"], ..Fake::default() };
    tree.put(7, &first);
    let a = processes.identify(7);
    assert!(Arc::ptr_eq(&a, &processes.identify(7)));
    // Only its name changed: threads and programs may do that at any time.
    tree.put(7, &Fake { comm: "renamed", exe: "/bin/other", ..first.clone() });
    assert!(Arc::ptr_eq(&a, &processes.identify(7)));
    // The program replaced itself.
    tree.put(7, &Fake { exe: "/bin/b", stack: 6, ..first.clone() });
    let b = processes.identify(7);
    assert_eq!((b.exe.as_str(), b.id), ("/bin/b", a.id));
    // The id was used again.
    tree.put(7, &Fake { exe: "/bin/c", started: 2, ..first });
    let c = processes.identify(7);
    assert_eq!((c.exe.as_str(), c.id.started), ("/bin/c", 2));
    assert!(Arc::ptr_eq(&c, processes.known(7).unwrap()));
    // It is gone: what was known stays.
    tree.remove(7);
    assert!(Arc::ptr_eq(&c, &processes.identify(7)));
}

#[test]
fn a_process_that_is_gone() {
    let tree = Tree::new();
    let mut processes = processes(&tree);
    let process = processes.identify(99);
    assert_eq!(process.id, ProcessId { tgid: 99, started: 0 });
    assert_eq!(process.resource.service_name(), "unknown_service");
    assert_eq!(process.decision, Decision::Observed);
    // Gone in the middle: only its numbers and its name are left.
    tree.put(98, &Fake { comm: "shopd", started: 3, ..Fake::default() });
    let process = processes.identify(98);
    assert_eq!((process.program(), process.resource.service_name()), ("shopd", "shopd"));
    // One that was never seen is looked for again.
    tree.put(99, &Fake { comm: "late", started: 4, ..Fake::default() });
    assert_eq!(processes.identify(99).resource.service_name(), "late");
}

#[test]
fn itself_is_never_observed() {
    let tree = Tree::new();
    tree.put(1, &Fake { exe: "/usr/bin/sonde", started: 1, ..Fake::default() });
    let targets = Targets { pids: vec![1], exes: vec!["sonde".parse().unwrap()], ..Targets::default() };
    let mut processes = Processes::under(tree.root(), 1, targets, host());
    assert_eq!(processes.identify(1).decision, Decision::Excluded(Exclusion::Sonde));
}

#[test]
fn an_environment_that_was_written_over_is_asked_of_the_parent() {
    let tree = Tree::new();
    let declares = ["A=b", "OTEL_SERVICE_NAME=shop"];
    let nginx = |ppid, environ| Fake { exe: "/usr/sbin/nginx", started: 1, ppid, environ, ..Fake::default() };
    tree.put(5, &Fake { exe: "/bin/sh", environ: &declares, ..Fake::default() });
    tree.put(6, &nginx(5, &["-g pid=/x", "", ""]));
    tree.put(7, &nginx(6, &["", ""]));
    // This one has its own, and another none at all (`env -i`).
    tree.put(8, &nginx(5, &["A=b"]));
    tree.put(9, &nginx(5, &[]));
    // Too far away, or nobody there.
    tree.put(10, &nginx(7, &[""]));
    tree.put(11, &nginx(99, &[""]));
    let mut processes = processes(&tree);
    let names: Vec<String> =
        (6..=11).map(|pid| processes.identify(pid).resource.service_name().to_owned()).collect();
    assert_eq!(names, ["shop", "shop", "nginx", "nginx", "nginx", "nginx"]);
}

#[test]
fn a_backend_is_left_alone_unless_it_is_a_target() {
    let tree = Tree::new();
    let fake = Fake { exe: "/usr/bin/otelcol", started: 1, ..Fake::default() };
    tree.put(7, &fake);
    let mut all = processes(&tree);
    assert_eq!(all.exclude_backend(7), None, "never seen");
    all.identify(7);
    assert_eq!(all.exclude_backend(7).unwrap().decision, Decision::Excluded(Exclusion::Backend));
    assert_eq!(all.identify(7).decision, Decision::Excluded(Exclusion::Backend));
    assert_eq!(all.exclude_backend(7), None, "no news");
    let targets = Targets { pids: vec![7], ..Targets::default() };
    let mut named = Processes::under(tree.root(), 1, targets, host());
    named.identify(7);
    assert_eq!(named.exclude_backend(7), None);
    assert_eq!(named.identify(7).decision, Decision::Observed);
}

#[test]
fn a_forked_process_that_is_gone_is_what_its_parent_was() {
    let tree = Tree::new();
    let fake = Fake { comm: "shop", exe: "/srv/shop", started: 1, ..Fake::default() };
    tree.put(7, &fake);
    let targets = Targets { exes: vec!["/srv/*".parse().unwrap()], ..Targets::default() };
    let mut processes = Processes::under(tree.root(), 1, targets, host());
    let parent = processes.identify(7);
    processes.forked(8, 7, 30_000_000);
    processes.forked(9, 8, 40_000_000);
    processes.forked(11, 10, 50_000_000);

    let child = processes.identify_forked(9);
    assert_eq!(child.id, ProcessId { tgid: 9, started: 4 }, "forked by one that was never looked at");
    assert_eq!((child.program(), child.decision), ("/srv/shop", Decision::Observed));
    assert_eq!(child.resource.service_name(), parent.resource.service_name());
    assert_eq!(format!("{:?}", attribute(&child, "process.pid").unwrap()), "Int(9)");
    assert_ne!(attribute(&child, "service.instance.id"), attribute(&parent, "service.instance.id"));
    assert!(Arc::ptr_eq(&processes.identify(9), &child), "and stays that");

    tree.put(8, &Fake { comm: "other", exe: "/opt/other", started: 3, ..Fake::default() });
    assert_eq!(processes.identify_forked(8).program(), "/opt/other", "who lives speaks for itself");
    assert_eq!(processes.identify_forked(11).decision, Decision::Excluded(Exclusion::NotATarget));
}

/// Processes of the tree, with a kernel side that tells of these.
fn told(tree: &Tree, starts: &[Start]) -> Processes {
    let starts = starts.to_vec();
    processes(tree)
        .with_starts(Starts::new(move |tgid| starts.iter().find(|start| start.tgid == tgid).copied()))
}

#[test]
fn a_process_that_is_gone_is_what_the_kernel_side_tells() {
    let tree = Tree::new();
    let id = "3f1e5b0c6a9d4827b1c0f7e8d2a46593c8b7a6f5e4d3c2b1a09f8e7d6c5b4a39";
    let (cgroup, environ) = (format!("/docker/{id}"), ["OTEL_RESOURCE_ATTRIBUTES=service.namespace=eu"]);
    let shell = Fake {
        exe: "/bin/sh",
        cwd: "/srv",
        started: 1,
        cgroup: &cgroup,
        environ: &environ,
        ..Fake::default()
    };
    tree.put(5, &shell);
    tree.put(6, &Fake { exe: "/usr/bin/containerd-shim-runc-v2", ..shell.clone() });
    // As its parent has not taken note of its end, only its numbers are left.
    tree.put(10, &Fake { comm: "python3", ppid: 5, started: 77, ..Fake::default() });
    let mut processes = told(
        &tree,
        &[
            start(9, 5, 30_000_000, "/usr/bin/curl", &["curl", "http://a/b"]),
            start(10, 5, 30_000_000, "/usr/bin/python3", &["python3", "-m", "shop.web"]),
            start(11, 6, 30_000_000, "/srv/job", &["job"]),
            start(12, 5, 30_000_000, "", &[]),
            start(13, 12, 40_000_000, "", &[]),
            start(14, 99, 40_000_000, "", &[]),
            start(15, 9, 40_000_000, "/usr/bin/wget", &["wget"]),
        ],
    );
    let curl = processes.identify(9);
    assert_eq!((curl.id, curl.exe.as_str()), (ProcessId { tgid: 9, started: 3 }, "/usr/bin/curl"));
    assert_eq!((curl.comm.as_str(), curl.cmdline.as_str()), ("curl", "curl http://a/b"));
    assert_eq!((curl.resource.service_name(), curl.container_id.as_deref()), ("curl", Some(id)));
    assert_eq!(format!("{:?}", attribute(&curl, "service.namespace").unwrap()), "Str(\"eu\")");

    let python = processes.identify(10);
    assert_eq!((python.id.started, python.resource.service_name()), (77, "shop.web"));
    assert_eq!(python.runtime.language, Language::Python);

    let wget = processes.identify(15);
    assert_eq!(
        (wget.resource.service_name(), wget.container_id.as_deref()),
        ("wget", Some(id)),
        "its parent is gone too"
    );

    let job = processes.identify(11);
    assert_eq!(
        (job.resource.service_name(), &job.container_id),
        ("job", &None),
        "its group was not the runtime's"
    );

    let child = processes.identify(13);
    assert_eq!((child.exe.as_str(), child.id), ("/bin/sh", ProcessId { tgid: 13, started: 4 }));
    assert_eq!(processes.identify(14).resource.service_name(), "unknown_service", "nobody knows its parent");
}

#[test]
fn what_was_known_stays_until_the_id_means_another() {
    let tree = Tree::new();
    let shop = Fake { comm: "shop", exe: "/srv/shop", started: 50, stack: 9, ..Fake::default() };
    tree.put(7, &shop);
    let job = start(7, 1, 900_000_000, "/srv/job", &["job"]);
    let now = Arc::new(std::sync::Mutex::new(None));
    let told = Arc::clone(&now);
    let mut processes = processes(&tree).with_starts(Starts::new(move |_| *told.lock().unwrap()));
    let known = processes.identify(7);
    // It has ended, and its parent has not taken note.
    tree.put(7, &Fake { comm: "shop", started: 50, ..Fake::default() });
    assert!(Arc::ptr_eq(&known, &processes.identify(7)));
    tree.remove(7);
    assert!(Arc::ptr_eq(&known, &processes.identify(7)));
    // Another one had its id, and is gone too.
    *now.lock().unwrap() = Some(job);
    let next = processes.identify(7);
    assert_eq!(next.resource.service_name(), "job");
    assert!(Arc::ptr_eq(&next, &processes.identify(7)));

    processes.succeeded(Arc::clone(&known), 900);
    assert!(Arc::ptr_eq(processes.at(7, 899).unwrap(), &known));
    assert!(Arc::ptr_eq(processes.at(7, 900).unwrap(), &next));
    // A successor of the same id that was forgotten in between, and bounds.
    processes.succeeded(Arc::clone(&next), 1000);
    assert!(
        Arc::ptr_eq(processes.at(7, 950).unwrap(), &next) && Arc::ptr_eq(processes.at(7, 1).unwrap(), &known)
    );
    for time in 0..2000 {
        let id = ProcessId { tgid: 8, started: time };
        processes.succeeded(Arc::new(Process { id, ..Process::clone(&known) }), 1000 + time);
    }
    assert!(Arc::ptr_eq(processes.at(7, 1).unwrap(), &next), "the oldest are forgotten");
    assert_eq!(processes.at(8, 2500).unwrap().id.started, 1501);
    assert_eq!(processes.at(8, 1).unwrap().id.started, 976);
}

#[test]
fn a_forked_process_that_ends_while_it_is_read_is_what_its_parent_was() {
    let tree = Tree::new();
    tree.put(7, &Fake { comm: "shop", exe: "/srv/shop", started: 1, ..Fake::default() });
    tree.put(8, &Fake { comm: "half", exe: "/srv/half", started: 3, ..Fake::default() });
    let targets = Targets { exes: vec!["/srv/*".parse().unwrap()], ..Targets::default() };
    let mut processes = Processes::under(tree.root(), 1, targets, host());
    processes.identify(7);
    processes.forked(8, 7, 30_000_000);
    // Its control group is read after its executable, and comes when that is gone.
    let child = std::thread::scope(|scope| {
        scope.spawn(tree.ends_when_read(8, "cgroup"));
        processes.identify_forked(8)
    });
    assert_eq!((child.program(), child.decision), ("/srv/shop", Decision::Observed));

    // The same where its fork was not told in a record.
    let mut processes = told(&tree, &[start(9, 7, 30_000_000, "", &[])]);
    tree.put(9, &Fake { comm: "half", exe: "/srv/half", started: 3, ..Fake::default() });
    let child = std::thread::scope(|scope| {
        scope.spawn(tree.ends_when_read(9, "cgroup"));
        processes.identify(9)
    });
    assert_eq!(child.program(), "/srv/shop");
}

#[test]
fn bounded() {
    let tree = Tree::new();
    let mut processes = processes(&tree);
    let adopted = processes.identify(0);
    let adopt = |processes: &mut Processes, tgid: u32| {
        let id = ProcessId { tgid, started: 1 };
        processes.adopt(Arc::new(Process { id, ..Process::clone(&adopted) }));
    };
    for tgid in 1..=REMEMBERED as u32 {
        adopt(&mut processes, tgid);
        // Asked for again and again, so never the least recent.
        processes.identify(1);
    }
    assert!(processes.len() <= REMEMBERED);
    assert!(processes.known(1).is_some());
    assert!(processes.known(2).is_none(), "the least recent went");
    assert!(processes.known(REMEMBERED as u32).is_some());
    assert_eq!(processes.identify(1).id.started, 1, "adopted: /proc is not asked");

    let long = "x".repeat(CMDLINE_KEPT) + "ä";
    tree.put(5, &Fake { exe: "/bin/a", args: &[&long[1..], "y"], ..Fake::default() });
    let cmdline = &Processes::under(tree.root(), 1, Targets::default(), host()).identify(5).cmdline;
    assert_eq!(cmdline.len(), CMDLINE_KEPT - 1, "cut before the character that does not fit");
}

#[test]
fn how_requests_run() {
    let check = |fake: &Fake<'_>, expect: Scheduling| {
        let tree = Tree::new();
        tree.put(7, fake);
        assert_eq!(processes(&tree).identify(7).scheduling, expect, "{} {:?}", fake.exe, fake.args);
    };
    let exe = |exe: &'static str| Fake { exe, ..Fake::default() };
    let (unknown, moving, to_completion) =
        (Scheduling::Unknown, Scheduling::Moving, Scheduling::RunToCompletion);
    check(&Fake { args: &["nginx: worker process"], ..exe("/usr/sbin/nginx") }, to_completion);
    check(&exe("/usr/sbin/haproxy"), to_completion);
    for program in [
        "/usr/bin/node",
        "/usr/bin/nodejs",
        "/usr/bin/bun",
        "/usr/bin/deno",
        "/usr/bin/dotnet",
        "/usr/lib/erlang/beam.smp",
    ] {
        check(&exe(program), moving);
    }
    for program in [
        "/usr/bin/curl",
        "/usr/sbin/php-fpm8.2",
        "/usr/bin/ruby3.1",
        "/usr/bin/python3.11",
        "/usr/bin/java",
        "/usr/sbin/apache2",
    ] {
        check(&exe(program), unknown);
    }
    let thread = |exe: &'static str, name: &'static str, expect| {
        check(&Fake { exe, threads: &["main", name], ..Fake::default() }, expect);
    };
    thread("/srv/shop", "tokio-runtime-w", moving);
    thread("/srv/shop", "tokio-rt-worker", moving);
    thread("/srv/shop", ".NET TP Worker", moving);
    thread("/srv/shop", "worker", unknown);
    thread("/usr/bin/java", "Virtual..parker", moving);
    thread("/usr/bin/java", "VirtualThread-u", moving);
    thread("/usr/bin/java", "reactor-http-ep", moving);
    thread("/usr/bin/java", "http-nio-8080-e", unknown);
    // The common pool's threads have the same shortened name as those that carry virtual threads.
    thread("/usr/bin/java", "ForkJoi..rker-1", unknown);
    let maps = |exe: &'static str, path: &'static str, expect| {
        check(&Fake { exe, maps: &["/usr/lib/libc.so.6", path], ..Fake::default() }, expect);
    };
    maps("/opt/tool", "/usr/lib/x86_64-linux-gnu/libnode.so.108", moving);
    maps("/opt/tool", "/usr/share/dotnet/libcoreclr.so", moving);
    maps("/opt/tool", "/usr/lib/libc.so.6", unknown);
    let python = |paths: &[&str], descriptors: &[&str], args: &[&str], expect| {
        check(
            &Fake { exe: "/usr/bin/python3.11", args, maps: paths, descriptors, ..Fake::default() },
            expect,
        );
    };
    let asyncio = "/usr/lib/python3.11/lib-dynload/_asyncio.cpython-311-x86_64-linux-gnu.so";
    let epoll = ["/dev/null", "socket:[123]", "anon_inode:[eventpoll]"];
    python(&[asyncio], &epoll, &[], moving);
    python(&[asyncio], &["/dev/null"], &[], unknown);
    python(&["/usr/lib/libssl.so.3"], &epoll, &[], unknown);
    python(&["/venv/greenlet/_greenlet.cpython-311-x86_64-linux-gnu.so"], &epoll, &[], moving);
    python(
        &["/venv/lib/python3.11/site-packages/uvloop/loop.cpython-311-x86_64-linux-gnu.so"],
        &[],
        &[],
        moving,
    );
    python(&["/venv/lib/python3.11/site-packages/gevent/_gevent_c_hub_local.so"], &[], &[], moving);
    python(&[], &[], &["python3", "-m", "uvicorn", "shop:app"], moving);
    python(&[], &[], &["python3", "/usr/bin/hypercorn", "shop:app"], moving);
    python(&[], &[], &["python3", "/usr/bin/gunicorn", "shop:app"], unknown);
}

#[test]
fn a_second_look_sees_what_was_loaded_since() {
    let tree = Tree::new();
    let mut processes = processes(&tree);
    let before = Fake { exe: "/srv/shop", started: 1, threads: &["shop"], ..Fake::default() };
    tree.put(7, &before);
    assert_eq!(processes.identify(7).scheduling, Scheduling::Unknown);
    assert_eq!(processes.recheck(7), None);
    tree.put(7, &Fake { threads: &["shop", "tokio-rt-worker"], ..before.clone() });
    assert_eq!(processes.recheck(7).unwrap().scheduling, Scheduling::Moving);
    assert_eq!(processes.known(7).unwrap().scheduling, Scheduling::Moving);
    assert_eq!(processes.recheck(7), None, "known now");
    // Not for ever.
    tree.put(8, &before);
    processes.identify(8);
    for _ in 0..RECHECKS {
        assert_eq!(processes.recheck(8), None);
    }
    tree.put(8, &Fake { threads: &["tokio-rt-worker"], ..before });
    assert_eq!(processes.recheck(8), None);
    assert_eq!(processes.recheck(12345), None, "never seen");
}

#[test]
fn this_very_process() {
    let mut processes = Processes::under("/proc", 1, Targets::default(), Host::read());
    let own = std::process::id();
    let process = processes.identify(own);
    assert_eq!(process.id.tgid, own);
    assert!(process.id.started > 0);
    assert_eq!(process.exe, std::env::current_exe().unwrap().to_str().unwrap());
    assert_eq!(process.runtime, Runtime::default());
    assert!(process.resource.service_name().starts_with("sonde"), "{}", process.resource.service_name());
    assert!(Arc::ptr_eq(&process, &processes.identify(own)));
    assert_eq!(
        Processes::new(Targets::default(), Host::read()).identify(own).decision,
        Decision::Excluded(Exclusion::Sonde)
    );
}

/// A Python program, ended with the value. Ready when it has printed a line.
struct Python(std::process::Child);

impl Python {
    fn start(args: &[&str]) -> Self {
        use std::io::{BufRead, BufReader};
        use std::process::{Command, Stdio};
        let command =
            Command::new("python3").arg("-u").args(args).stdout(Stdio::piped()).stderr(Stdio::null()).spawn();
        let mut child = command.unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.as_mut().unwrap()).read_line(&mut line).unwrap();
        assert!(!line.is_empty(), "{args:?} did not start");
        Self(child)
    }
}

impl Drop for Python {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn real_python_programs() {
    let mut processes = Processes::under("/proc", 1, Targets::default(), Host::read());
    let server = Python::start(&["-m", "http.server", "0", "--bind", "127.0.0.1"]);
    let process = processes.identify(server.0.id());
    assert_eq!(process.runtime.language, Language::Python, "{process:?}");
    assert_eq!(process.scheduling, Scheduling::Unknown, "{process:?}");
    assert!(process.cmdline.ends_with("-m http.server 0 --bind 127.0.0.1"), "{process:?}");

    let tree = Tree::new();
    let script = tree.root().join("orders.py");
    let source = "import asyncio\nasync def main():\n    print('ready')\n    await asyncio.sleep(60)\nasyncio.run(main())\n";
    std::fs::write(&script, source).unwrap();
    let looping = Python::start(&[script.to_str().unwrap()]);
    let process = processes.identify(looping.0.id());
    assert_eq!(process.scheduling, Scheduling::Moving, "{process:?}");
}

#[test]
fn a_process_lives_as_long_as_its_id_means_it() {
    let own = ProcFs::new("/proc").stat(std::process::id()).unwrap();
    let id = |started| ProcessId { tgid: std::process::id(), started };
    assert!(is_alive(id(own.started)));
    assert!(!is_alive(id(own.started + 1)));
    assert!(!is_alive(ProcessId { tgid: u32::MAX, started: 1 }));
}
