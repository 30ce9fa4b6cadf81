//! Resources: what each span says of its process is what the scenario knows of it, attribute for attribute, whatever runs
//! it and however short it lived.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use sonde_tests::groups::Group;
use sonde_tests::processes::{PATIENCE, free_port, output};
use sonde_tests::raw::Connection;
use sonde_tests::resources::{Truth, shell};
use sonde_tests::servers::{self, Setting};
use sonde_tests::spans::Kind;
use sonde_tests::{Agent, Process, Run, Span, apps, gate};
use tempfile::TempDir;

const REQUESTS: usize = 3;

fn sources() -> PathBuf {
    apps::sources().join("resources")
}

/// Requests, each over a connection of its own.
fn ask(port: u16, count: usize) {
    for number in 0..count {
        let answer =
            Connection::to(port).exchange("GET", &format!("/hello/{number}"), "Connection: close\r\n", b"");
        assert_eq!(answer.status, 200, "port {port}");
    }
}

/// A server of ours that listens on a port.
fn serve(name: &str, command: &mut Command, port: u16) -> Process {
    let mut process = Process::start(name, command);
    process.wait_port(port);
    process
}

/// `python3 -m shop` by the system's Python.
fn shop(port: u16) -> Command {
    let mut command = Command::new("/usr/bin/python3");
    command.args(["-m", "shop", &port.to_string()]).current_dir(sources());
    command
}

/// Where a program really is.
fn real(program: &str) -> PathBuf {
    let found = shell(&format!("command -v {program}"));
    fs::canonicalize(&found).unwrap_or_else(|error| panic!("{found}: {error}"))
}

const CPYTHON: (&str, &str) = ("process.runtime.name", "cpython");
const SHOP: [(&str, &str); 2] = [CPYTHON, ("service.version", "3.1.0")];

fn servers_of(spans: &[Span], pid: u32) -> usize {
    spans.iter().filter(|span| span.kind == Kind::Server && span.pid() == pid).count()
}

#[test]
#[ignore = "live: needs root, BPF and a built sonde"]
fn programs_and_interpreters() {
    let _gate = gate::enter();
    let mut truth = Truth::new();
    truth.add_own();
    let (mut ports, mut processes) = (Vec::new(), Vec::new());
    let mut started = |truth: &mut Truth,
                       command: &mut Command,
                       port: u16,
                       exe: &Path,
                       name: &str,
                       others: &[(&str, &str)]| {
        let process = serve(name, command, port);
        truth.add(process.pid(), exe, name, others);
        ports.push(port);
        processes.push(process);
    };

    let port = free_port();
    started(&mut truth, &mut shop(port), port, &real("/usr/bin/python3"), "shop", &SHOP);

    let port = free_port();
    let declared = "service.namespace=eu,deployment.environment.name=a%2Cb,service.version=9,service.name=no";
    let mut command = shop(port);
    command.env("OTEL_SERVICE_NAME", "declared").env("OTEL_RESOURCE_ATTRIBUTES", declared);
    let others = [
        CPYTHON,
        ("service.version", "9"),
        ("service.namespace", "eu"),
        ("deployment.environment.name", "a,b"),
    ];
    started(&mut truth, &mut command, port, &real("/usr/bin/python3"), "declared", &others);

    let port = free_port();
    let mut command = Command::new("node");
    command.args(["app.js", &port.to_string()]).current_dir(sources().join("node"));
    let others = [("process.runtime.name", "nodejs"), ("service.version", "2.3.4")];
    started(&mut truth, &mut command, port, &real("node"), "checkout", &others);

    let jars = jars();
    let version =
        shell("java -XshowSettings:properties -version 2>&1 | sed -n 's/.*java.runtime.version = //p'");
    for (jar, name, said) in [
        ("orders.jar", "orders", "7.0.1"),
        // Its name could be any program's.
        ("app.jar", "order-intake", "7.0.1"),
        ("stock-1.4.2.jar", "stock", "1.4.2"),
    ] {
        let port = free_port();
        let mut command = Command::new("java");
        command.args(["-Xmx64m", "-jar", jar, &port.to_string()]).current_dir(jars.path());
        let others = [("process.runtime.version", version.as_str()), ("service.version", said)];
        started(&mut truth, &mut command, port, &real("java"), name, &others);
    }

    let (folder, billing) = billing();
    let port = free_port();
    let tag = |field: &str| shell(&format!("go version -m {} | {field}", billing.display()));
    let go = tag("sed -n '1s/.*: go//p'");
    let module = tag("awk '$1 == \"mod\" && $3 != \"(devel)\" { print $3 }'");
    let others = [
        ("process.runtime.name", "go"),
        ("process.runtime.version", go.as_str()),
        ("service.version", module.as_str()),
    ];
    assert!(module.starts_with("v1.4.2"), "Go writes the tag into the program: {module}");
    started(&mut truth, Command::new(&billing).arg(port.to_string()), port, &billing, "billing", &others);

    let python = fs::canonicalize(apps::python()).expect("an interpreter");
    let hyper = servers::hyper(&Setting::default());
    truth.add(hyper.process.pid(), &apps::hyper(), "sonde-tests-hyper", &[]);
    let gunicorn = servers::gunicorn("--worker-class sync --workers 2", &Setting::default());
    for pid in gunicorn.process.group_of(3) {
        truth.add(pid, &python, "flask_app", &[CPYTHON]);
    }
    let uvicorn = servers::uvicorn(&Setting::default());
    truth.add(uvicorn.process.pid(), &python, "fastapi_app", &[CPYTHON]);
    ports.extend([hyper.port, gunicorn.port, uvicorn.port]);

    let mut instances = Vec::new();
    for run in 0..2 {
        let agent = Run::ports(&ports).start();
        ports.iter().for_each(|&port| ask(port, REQUESTS));
        let spans = agent.finish().spans;
        assert_eq!(spans.len(), 2 * REQUESTS * ports.len(), "run {run}");
        instances.push(truth.check(&format!("run {run}"), &spans));
        for process in processes.iter().chain([&hyper.process, &uvicorn.process]) {
            assert_eq!(servers_of(&spans, process.pid()), REQUESTS, "{}", process.name);
        }
    }
    // Which of gunicorn's workers answers is its own affair.
    let [first, second] = &instances[..] else { panic!("two runs") };
    let both = first.iter().filter(|(pid, _)| second.contains_key(pid));
    let stayed = both.map(|(pid, id)| assert_eq!(second[pid], *id, "{pid} keeps its instance id")).count();
    assert!(stayed >= ports.len(), "{first:?} {second:?}");
    drop(folder);
}

/// Jars of one program: two with a manifest, one with a version in its name alone.
fn jars() -> TempDir {
    let folder = TempDir::new().expect("a folder");
    let from = sources().join("java");
    output("javac", Command::new("javac").arg("-d").arg(folder.path()).arg(from.join("Orders.java")), "");
    let jar = |name: &str, manifest: &[&str]| {
        let mut command = Command::new("jar");
        command.current_dir(folder.path()).args(manifest);
        output("jar", command.args(["Orders.class"]), "");
        assert!(folder.path().join(name).is_file(), "{name}");
    };
    let manifest = from.join("manifest.txt");
    let manifest = manifest.to_str().expect("paths of tests are text");
    jar("orders.jar", &["cfm", "orders.jar", manifest]);
    jar("app.jar", &["cfm", "app.jar", manifest]);
    jar("stock-1.4.2.jar", &["cfe", "stock-1.4.2.jar", "Orders"]);
    folder
}

/// A Go program that was built from a tagged commit.
fn billing() -> (TempDir, PathBuf) {
    let folder = TempDir::new().expect("a folder");
    for file in ["go.mod", "main.go"] {
        fs::copy(sources().join("go").join(file), folder.path().join(file)).expect("copy");
    }
    let build =
        "git init -q . && git add . && git -c user.name=a -c user.email=a@b commit -qm a && git tag v1.4.2 &&
                 go build -buildvcs=true -o billing .";
    output("go build", Command::new("sh").args(["-ec", build]).current_dir(folder.path()), "");
    let program = folder.path().join("billing");
    (folder, program)
}

const ID: &str = "3f1e5b0c6a9d4827b1c0f7e8d2a46593c8b7a6f5e4d3c2b1a09f8e7d6c5b";

#[test]
#[ignore = "live: needs root, BPF and a built sonde"]
fn containers() {
    let _gate = gate::enter();
    let mut truth = Truth::new();
    truth.add_own();
    let pod = "pod6d1c1a05_8a4f_4a4e_9d0c_0f8a4a3b2c1d";
    let groups = [
        "/docker/ID".to_owned(),
        "/system.slice/docker-ID.scope".to_owned(),
        format!("/kubepods/burstable/{pod}/ID"),
        format!(
            "/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-{pod}.slice/cri-containerd-ID.scope"
        ),
        format!("/kubepods.slice/kubepods-{pod}.slice/crio-ID.scope"),
        "/machine.slice/libpod-ID.scope/container".to_owned(),
        "/default/ID".to_owned(),
    ];
    let mut containers = Vec::new();
    for (number, group) in groups.iter().enumerate() {
        // Ids of this run alone: groups of an earlier one that was cut off may be left.
        let id = format!("{ID}{:04x}", (std::process::id() as usize * 16 + number) & 0xFFFF);
        let port = free_port();
        let node = number % 2 == 1;
        let command: &[&str] =
            if node { &["/usr/bin/node", "app.js"] } else { &["/usr/bin/python3", "-m", "shop"] };
        let container = Container::start(&group.replace("ID", &id), &id, command, port);
        let (exe, name, others) = if node {
            ("/usr/bin/node", "checkout", [("process.runtime.name", "nodejs"), ("service.version", "2.3.4")])
        } else {
            ("/usr/bin/python3", "shop", SHOP)
        };
        let mut others = others.to_vec();
        others.extend([("container.id", id.as_str()), ("process.owner", "captain")]);
        truth.add(container.pid, &real(exe), name, &others);
        containers.push(container);
    }
    let ports: Vec<u16> = containers.iter().map(|container| container.port).collect();
    let agent = Run::ports(&ports).start();
    ports.iter().for_each(|&port| ask(port, REQUESTS));
    let finished = agent.finish();
    assert_eq!(finished.spans.len(), 2 * REQUESTS * ports.len(), "{}", finished.log);
    truth.check("containers", &finished.spans);
    for container in &containers {
        assert_eq!(servers_of(&finished.spans, container.pid), REQUESTS, "{}", container.id);
    }
}

/// A container of runc's with all namespaces of its own but the network's. Killed and deleted when dropped.
struct Container {
    id: String,
    /// As the host sees it; it is 1 inside.
    pid: u32,
    port: u16,
    _runc: Process,
    _bundle: TempDir,
}

impl Container {
    fn start(group: &str, id: &str, command: &[&str], port: u16) -> Self {
        let bundle = TempDir::new().expect("a folder");
        let root = bundle.path().join("rootfs");
        for folder in ["proc", "dev", "tmp", "usr", "bin", "lib", "lib64", "etc", "srv/app/shop"] {
            fs::create_dir_all(root.join(folder)).expect("folder");
        }
        // What names the program is nowhere but in the container's own files.
        for (from, to) in [
            ("shop/__init__.py", "shop/__init__.py"),
            ("shop/__main__.py", "shop/__main__.py"),
            ("node/app.js", "app.js"),
            ("node/package.json", "package.json"),
        ] {
            fs::copy(sources().join(from), root.join("srv/app").join(to)).expect("copy");
        }
        fs::write(root.join("etc/passwd"), "captain:x:0:0::/:/bin/sh\n").expect("passwd");
        let mut args: Vec<String> = command.iter().map(|&arg| arg.to_owned()).collect();
        args.push(port.to_string());
        let bind = |path: &str| serde_json::json!({"destination": path, "type": "bind", "source": path, "options": ["rbind", "ro"]});
        let mounts = ["/usr", "/bin", "/lib", "/lib64"].into_iter().filter(|path| Path::new(path).exists());
        let mut mounts: Vec<_> = mounts.map(bind).collect();
        mounts.push(serde_json::json!({"destination": "/proc", "type": "proc", "source": "proc"}));
        mounts.push(serde_json::json!({"destination": "/dev", "type": "tmpfs", "source": "tmpfs"}));
        let namespaces: Vec<_> =
            ["pid", "ipc", "uts", "mount", "cgroup"].map(|kind| serde_json::json!({"type": kind})).into();
        let config = serde_json::json!({
            "ociVersion": "1.0.2",
            "process": {"user": {"uid": 0, "gid": 0}, "args": args, "cwd": "/srv/app",
                "env": ["PATH=/usr/bin:/bin", "OPENSSL_CONF=/dev/null"]},
            "root": {"path": "rootfs"},
            "hostname": "inside",
            "mounts": mounts,
            "linux": {"cgroupsPath": group, "namespaces": namespaces},
        });
        fs::write(bundle.path().join("config.json"), config.to_string()).expect("configuration");
        let mut runc = Command::new("runc");
        runc.arg("run").arg("--bundle").arg(bundle.path()).arg(id);
        let runc = serve(&format!("runc {group}"), &mut runc, port);
        let state: serde_json::Value =
            serde_json::from_str(&shell(&format!("runc state {id}"))).expect("state");
        let pid = state["pid"].as_u64().and_then(|pid| u32::try_from(pid).ok()).expect("its process id");
        Self { id: id.into(), pid, port, _runc: runc, _bundle: bundle }
    }
}

impl Drop for Container {
    fn drop(&mut self) {
        drop(Command::new("runc").args(["delete", "--force", &self.id]).stderr(Stdio::null()).status());
    }
}

#[test]
#[ignore = "live: needs root, BPF and a built sonde"]
fn groups_of_services() {
    let _gate = gate::enter();
    let mut truth = Truth::new();
    truth.add_own();
    let mut ports = Vec::new();
    let mut running = Vec::new();
    let python = real("/usr/bin/python3");
    let number = std::process::id();
    for (path, name, others) in [
        (format!("system.slice/web-{number}.service"), format!("web-{number}"), SHOP.to_vec()),
        (
            format!("system.slice/system-till.slice/till-{number}@eu.service"),
            format!("till-{number}"),
            SHOP.to_vec(),
        ),
        // A service that makes groups below its own.
        (format!("system.slice/depot-{number}.service/workers"), format!("depot-{number}"), SHOP.to_vec()),
        // A session's scope names nobody.
        (format!("user.slice/user-0.slice/session-{number}.scope"), "shop".into(), SHOP.to_vec()),
    ] {
        let group = Group::make(&path);
        let port = free_port();
        let process = serve(&name, group.enter(&mut shop(port)), port);
        truth.add(process.pid(), &python, &name, &others);
        ports.push(port);
        running.push((process, group));
    }
    let agent = Run::ports(&ports).start();
    ports.iter().for_each(|&port| ask(port, REQUESTS));
    let finished = agent.finish();
    assert_eq!(finished.spans.len(), 2 * REQUESTS * ports.len(), "{}", finished.log);
    truth.check("services", &finished.spans);
}

/// Keeps all processors busy while it lives.
struct Busy(std::sync::Arc<AtomicBool>);

impl Busy {
    fn processors() -> Self {
        let stop = std::sync::Arc::new(AtomicBool::new(false));
        for _ in 0..thread::available_parallelism().map_or(2, usize::from) {
            let stop = std::sync::Arc::clone(&stop);
            thread::spawn(move || while !stop.load(Ordering::Relaxed) {});
        }
        Self(stop)
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

#[test]
#[ignore = "live: needs root, BPF and a built sonde"]
fn processes_that_are_gone_at_once() {
    let _gate = gate::enter();
    for hooks in gate::hook_families() {
        let mut truth = Truth::new();
        truth.add_own();
        let server = servers::hyper(&Setting::default());
        truth.add(server.process.pid(), &apps::hyper(), "sonde-tests-hyper", &[]);
        let once: Vec<u16> = (0..10).map(|_| free_port()).collect();
        let ports: Vec<u16> = once.iter().copied().chain([server.port]).collect();
        let agent = Run::ports(&ports).hooks(&hooks).start();
        let busy = Busy::processors();

        // Each request by a process of its own, several at once.
        let (curl, url) = (real("curl"), format!("{}/hello/", server.url()));
        let mut curls = 0;
        for round in 0..25 {
            let start = |number: usize| {
                let mut command = Command::new("curl");
                command.args(["-s", "-o", "/dev/null", &format!("{url}{round}-{number}")]);
                command.spawn().expect("curl")
            };
            for mut child in (0..4).map(start).collect::<Vec<_>>() {
                truth.add(child.id(), &curl, "curl", &[]);
                assert!(child.wait().expect("its end").success(), "curl");
                curls += 1;
            }
        }
        // Servers that end right behind their only answer.
        let python = real("/usr/bin/python3");
        for &port in &once {
            let mut process = serve("shop, once", shop(port).arg("1"), port);
            truth.add(process.pid(), &python, "shop", &SHOP);
            // Nobody but itself knew its working directory, where the package is.
            truth.may_lack(process.pid(), "service.version");
            ask(port, 1);
            assert!(process.wait().0.success(), "it ends");
        }
        // Children that run their parent's program; nobody has seen the parent.
        let mut forks = Command::new("/usr/bin/python3");
        forks.arg(sources().join("forks.py")).args([&server.port.to_string(), "20"]);
        let children = output("forks", &mut forks, "");
        let children: Vec<u32> = children.lines().map(|pid| pid.parse().expect("a process id")).collect();
        children.iter().for_each(|&pid| truth.add(pid, &python, "forks", &[CPYTHON]));
        drop(busy);

        let finished = agent.finish();
        let expected = 2 * (curls + once.len() + children.len());
        assert_eq!(finished.spans.len(), expected, "{hooks}: {}", finished.log);
        truth.check(&hooks, &finished.spans);
    }
}

/// Asks once more when Sonde has told of the first time: of the second one it tells when the process runs another program.
fn ask_twice(agent: &Agent, port: u16) {
    ask(port, 1);
    let told = |span: &Span| span.kind == Kind::Server && span.attribute("server.port") == port.to_string();
    let patience = Instant::now() + PATIENCE;
    while !agent.spans().iter().any(told) {
        assert!(Instant::now() < patience, "no span of port {port}");
        thread::sleep(Duration::from_millis(20));
    }
    ask(port, 1);
}

#[test]
#[ignore = "live: needs root, BPF and a built sonde"]
fn another_program_in_the_same_process() {
    let _gate = gate::enter();
    let before = [free_port(), free_port()];
    let after = free_port();
    let ports = [before[0], before[1], after];
    let agent = Run::ports(&ports).start();
    let python = real("/usr/bin/python3");
    let run = |port: u16, then: &[&str]| {
        let mut command = shop(port);
        command.arg("2").args(then).env("PYTHONPATH", sources());
        serve("shop, then another", &mut command, port)
    };
    // To node, which has a service and a version of its own, and stays.
    let app = sources().join("node/app.js");
    let node = real("node");
    let number = after.to_string();
    let then = [node.to_str().expect("text"), app.to_str().expect("text"), &number];
    let mut process = run(before[0], &then);
    ask_twice(&agent, before[0]);
    process.wait_port(after);
    ask(after, 1);
    // To one that is gone before anybody looks.
    let mut other =
        run(before[1], &["/usr/bin/curl", "-s", "-o", "/dev/null", &format!("http://127.0.0.1:{after}/x")]);
    ask_twice(&agent, before[1]);
    assert!(other.wait().0.success(), "curl");
    let spans = agent.finish().spans;

    let pair = [process.pid(), other.pid()];
    let of = |first: bool| {
        let mut truth = Truth::new();
        truth.add_own();
        let programs = if first {
            [(python.clone(), "shop", SHOP.to_vec()), (python.clone(), "shop", SHOP.to_vec())]
        } else {
            let node = vec![("process.runtime.name", "nodejs"), ("service.version", "2.3.4")];
            [(real("node"), "checkout", node), (real("curl"), "curl", Vec::new())]
        };
        for (pid, (exe, name, others)) in pair.into_iter().zip(programs) {
            truth.add(pid, &exe, name, &others);
        }
        truth
    };
    let (first, second): (Vec<Span>, Vec<Span>) = spans.into_iter().partition(|span| {
        let port = span.number("server.port").and_then(|port| u16::try_from(port).ok());
        port.is_some_and(|port| before.contains(&port))
    });
    assert_eq!((first.len(), second.len()), (8, 4), "{first:#?} {second:#?}");
    let instances = of(true).check("before", &first);
    assert_eq!(instances[&pair[0]], of(false).check("after", &second)[&pair[0]], "still the same process");
}

#[test]
#[ignore = "live: needs root, BPF and a built sonde"]
fn a_service_that_is_started_anew() {
    let _gate = gate::enter();
    let port = free_port();
    let agent = Run::ports(&[port]).start();
    let python = real("/usr/bin/python3");
    let mut truth = Truth::new();
    truth.add_own();
    for _ in 0..3 {
        let mut process = serve("shop", shop(port).arg(REQUESTS.to_string()), port);
        truth.add(process.pid(), &python, "shop", &SHOP);
        // It ends behind its last answer, and on a busy machine Sonde looks later than that.
        truth.may_lack(process.pid(), "service.version");
        ask(port, REQUESTS);
        assert!(process.wait().0.success(), "it ends");
    }
    let spans = agent.finish().spans;
    assert_eq!(spans.len(), 2 * 3 * REQUESTS);
    assert_eq!(truth.check("anew", &spans).len(), 4, "each start is an instance");
}
