//! Which processes `sonde run` would observe, and which of their connections it cannot read.
//!
//! What goes over a connection is not looked at here: its protocol is judged by the port that it goes to, and says so. Sonde
//! itself, when it runs, judges by the bytes.

use std::collections::{BTreeMap, HashMap};
use std::path::Path;

use serde::Serialize;

use super::sockets::{self, Socket};
use crate::config::Targets;
use crate::discover::{Decision, Exclusion, Processes};
use crate::enrich::Host;

/// Descriptors of one process that are looked at.
const DESCRIPTORS: usize = 65_536;

/// The processes that have TCP sockets in this network namespace.
#[derive(Debug, Default, Serialize)]
pub(super) struct Traffic {
    /// Why there is nothing to tell; `null` where there is.
    pub(super) error: Option<String>,
    /// Each, those with the most traffic first.
    pub(super) processes: Vec<Looked>,
    /// Bytes of all open connections, both directions.
    pub(super) bytes: u64,
    /// Of them, bytes of connections that Sonde would not turn into spans: of protocols that it cannot read by their ports, or of
    /// processes that it does not observe.
    pub(super) unreadable_bytes: u64,
    /// Processes in other network namespaces, whose connections this look does not see; Sonde does.
    pub(super) in_other_namespaces: usize,
    /// Open connections whose process could not be found: it is another user's, or in another pid namespace.
    pub(super) without_process: usize,
}

/// A process.
#[derive(Debug, PartialEq, Eq, Serialize)]
pub(super) struct Looked {
    pub(super) pid: u32,
    /// `service.name`.
    pub(super) service: String,
    /// Path of the executable, else its name.
    pub(super) program: String,
    pub(super) observed: bool,
    /// Why not, or what narrows the view.
    pub(super) why: Option<&'static str>,
    /// Ports that it listens on.
    pub(super) listens: Vec<u16>,
    /// Open connections, by what their port stands for.
    pub(super) connections: Vec<Connections>,
    /// Bytes of its open connections.
    pub(super) bytes: u64,
}

/// Connections of one process to one service.
#[derive(Debug, PartialEq, Eq, Serialize)]
pub(super) struct Connections {
    /// The port of the end that serves.
    pub(super) port: u16,
    /// What usually goes over it; `null` where the port says nothing.
    pub(super) usual: Option<&'static str>,
    /// Whether Sonde can read that; `null` where the port says nothing.
    pub(super) readable: Option<bool>,
    /// How many are open.
    pub(super) open: u64,
    /// Bytes so far, both directions.
    pub(super) bytes: u64,
}

/// What usually goes over a port (IANA's registry, and what is in use), and whether Sonde reads it. A port that says
/// nothing is not here.
pub(super) fn usual(port: u16) -> Option<(&'static str, bool)> {
    Some(match port {
        80 | 591 | 3000 | 5000 | 8000 | 8008 | 8080 | 8081 | 8088 | 8888 | 9090 => ("HTTP", true),
        443 | 4443 | 6443 | 8443 | 9443 | 10250 => ("HTTP over TLS", false),
        465 | 563 | 636 | 853 | 989 | 990 | 993 | 995 | 2376 | 5671 | 6380 | 8883 => ("TLS", false),
        22 => ("SSH", false),
        53 => ("DNS", false),
        1433 => ("SQL Server", false),
        1883 => ("MQTT", false),
        2379 | 2380 => ("etcd (gRPC)", false),
        3306 => ("MySQL", false),
        4222 => ("NATS", false),
        4317 => ("OTLP over gRPC", false),
        5432 => ("PostgreSQL", false),
        5672 => ("AMQP", false),
        6379 => ("Redis", false),
        9042 => ("Cassandra", false),
        9092 => ("Kafka", false),
        11211 => ("memcached", false),
        27017 => ("MongoDB", false),
        _ => return None,
    })
}

/// Looks at all processes. `backends` are the local ports of endpoints that are exported to.
pub(super) fn look(targets: &Targets, backends: &[u16]) -> Traffic {
    let sockets = match sockets::all() {
        Ok(sockets) => sockets,
        Err(why) => {
            let error = format!("the kernel does not list its sockets: {why}");
            return Traffic { error: Some(error), ..Traffic::default() };
        }
    };
    let mut processes = Processes::new(targets.clone(), Host::read());
    let mut owners: BTreeMap<u32, Vec<Socket>> = BTreeMap::new();
    let by_inode: HashMap<u32, Socket> = sockets.iter().map(|socket| (socket.inode, *socket)).collect();
    let own_namespace = std::fs::read_link("/proc/self/ns/net").ok();
    let (mut owned, mut elsewhere) = (std::collections::HashSet::new(), 0);
    for pid in pids() {
        let namespace = std::fs::read_link(format!("/proc/{pid}/ns/net")).ok();
        if namespace.is_some() && namespace != own_namespace {
            elsewhere += 1;
            continue;
        }
        let held: Vec<Socket> =
            inodes(pid).into_iter().filter_map(|inode| by_inode.get(&inode).copied()).collect();
        owned.extend(held.iter().map(|socket| socket.inode));
        if !held.is_empty() {
            owners.insert(pid, held);
        }
    }
    let listening: Vec<u16> =
        sockets.iter().filter(|socket| socket.is_listening).map(|socket| socket.local_port).collect();
    let mut traffic = Traffic { in_other_namespaces: elsewhere, ..Traffic::default() };
    for (pid, held) in owners {
        let process = processes.identify(pid);
        let (observed, why) = verdict(process.decision, process.exe.is_empty(), targets, &held, backends);
        let looked = describe(
            (pid, process.resource.service_name(), process.program()),
            (observed, why),
            &held,
            &listening,
        );
        traffic.bytes += looked.bytes;
        let read = |at: &&Connections| !looked.observed || at.readable == Some(false);
        traffic.unreadable_bytes += looked.connections.iter().filter(read).map(|at| at.bytes).sum::<u64>();
        traffic.processes.push(looked);
    }
    traffic.without_process = sockets
        .iter()
        .filter(|socket| !socket.is_listening && socket.inode != 0 && !owned.contains(&socket.inode))
        .count();
    traffic.processes.sort_by_key(|looked| (std::cmp::Reverse(looked.bytes), looked.pid));
    traffic
}

fn verdict(
    decision: Decision,
    is_nameless: bool,
    targets: &Targets,
    held: &[Socket],
    backends: &[u16],
) -> (bool, Option<&'static str>) {
    let is_backend = held.iter().any(|socket| socket.is_listening && backends.contains(&socket.local_port));
    let by_port = held.iter().any(|socket| {
        targets.ports.contains(socket.local_port) || targets.ports.contains(socket.remote_port)
    });
    match decision {
        Decision::Excluded(Exclusion::Sonde) => (false, Some("Sonde itself")),
        _ if by_port => (true, Some("some of its connections: those of the ports that are targets")),
        Decision::Observed if is_backend && targets.is_everything() => {
            (false, Some("a backend that Sonde exports to"))
        }
        Decision::Observed if is_nameless => {
            (true, Some("named after its command: /proc/PID/exe may not be read (CAP_SYS_PTRACE)"))
        }
        Decision::Observed => (true, None),
        Decision::Excluded(Exclusion::Infrastructure) => {
            (false, Some("it runs the machine; name it as a target to observe it"))
        }
        Decision::Excluded(Exclusion::Backend) => (false, Some("a backend that Sonde exports to")),
        Decision::Excluded(Exclusion::NotATarget) => (false, Some("it fits none of the targets")),
    }
}

fn describe(
    (pid, service, program): (u32, &str, &str),
    (observed, why): (bool, Option<&'static str>),
    held: &[Socket],
    listening: &[u16],
) -> Looked {
    let mut listens = Vec::new();
    let mut connections: BTreeMap<u16, Connections> = BTreeMap::new();
    for socket in held {
        if socket.is_listening {
            listens.push(socket.local_port);
            continue;
        }
        // The end that serves is the one whose port someone here listens on, else the other one.
        let port =
            if listening.contains(&socket.local_port) { socket.local_port } else { socket.remote_port };
        let known = usual(port);
        let entry = connections.entry(port).or_insert(Connections {
            port,
            usual: known.map(|(name, _)| name),
            readable: known.map(|(_, readable)| readable),
            open: 0,
            bytes: 0,
        });
        entry.open += 1;
        entry.bytes += socket.bytes;
    }
    listens.sort_unstable();
    listens.dedup();
    let mut connections: Vec<Connections> = connections.into_values().collect();
    connections.sort_by_key(|at| (std::cmp::Reverse(at.bytes), at.port));
    let bytes = connections.iter().map(|at| at.bytes).sum();
    Looked {
        pid,
        service: service.to_owned(),
        program: program.to_owned(),
        observed,
        why,
        listens,
        connections,
        bytes,
    }
}

fn pids() -> Vec<u32> {
    let Ok(entries) = std::fs::read_dir("/proc") else { return Vec::new() };
    entries.flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect()
}

/// The sockets among a process's descriptors.
fn inodes(pid: u32) -> Vec<u32> {
    let Ok(entries) = std::fs::read_dir(Path::new("/proc").join(pid.to_string()).join("fd")) else {
        return Vec::new();
    };
    let inode =
        |to: std::path::PathBuf| to.to_str()?.strip_prefix("socket:[")?.strip_suffix(']')?.parse().ok();
    let mut inodes: Vec<u32> = entries
        .flatten()
        .take(DESCRIPTORS)
        .filter_map(|entry| std::fs::read_link(entry.path()).ok())
        .filter_map(inode)
        .collect();
    // A socket may have several descriptors.
    inodes.sort_unstable();
    inodes.dedup();
    inodes
}

#[cfg(test)]
mod tests {
    use super::*;

    fn open(local_port: u16, remote_port: u16, bytes: u64) -> Socket {
        Socket { inode: 1, is_listening: false, local_port, remote_port, bytes }
    }

    fn listen(local_port: u16) -> Socket {
        Socket { inode: 1, is_listening: true, local_port, remote_port: 0, bytes: 0 }
    }

    #[test]
    fn connections_are_told_by_the_port_of_the_end_that_serves() {
        let held = [listen(8080), open(8080, 40_000, 10), open(8080, 443, 5), open(50_000, 5432, 100)];
        let looked = describe((7, "shop", "/bin/shop"), (true, None), &held, &[8080]);
        let told: Vec<_> =
            looked.connections.iter().map(|at| (at.port, at.usual, at.open, at.bytes)).collect();
        assert_eq!(told, [(5432, Some("PostgreSQL"), 1, 100), (8080, Some("HTTP"), 2, 15)]);
        assert_eq!((looked.listens, looked.bytes), (vec![8080], 115));
        let unknown = describe((7, "shop", "/bin/shop"), (true, None), &[open(1, 45_678, 1)], &[]);
        assert_eq!((unknown.connections[0].usual, unknown.connections[0].readable), (None, None));
    }

    #[test]
    fn each_decision_has_its_reason() {
        let all = Targets::default();
        let of = |decision, held: &[Socket]| verdict(decision, false, &all, held, &[4318]);
        assert_eq!(of(Decision::Observed, &[listen(80)]), (true, None));
        assert!(!of(Decision::Observed, &[listen(4318)]).0, "the backend");
        assert!(of(Decision::Observed, &[open(50_000, 4318, 1)]).0, "who calls the backend");
        for why in [Exclusion::Sonde, Exclusion::Infrastructure, Exclusion::NotATarget] {
            let (observed, why) = of(Decision::Excluded(why), &[listen(80)]);
            assert!(!observed && why.is_some());
        }
    }

    #[test]
    fn this_process_is_found() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let traffic = look(&Targets::default(), &[]);
        let own = traffic.processes.iter().find(|looked| looked.pid == std::process::id()).unwrap();
        assert!(own.listens.contains(&port) && !own.observed && own.why == Some("Sonde itself"), "{own:?}");
    }
}
