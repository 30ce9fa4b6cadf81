//! Which processes exist, what they are, and which of them are observed.
//!
//! Everything is read from `/proc`, once for each incarnation of a process, and stays when the process ends: its spans
//! are finished after it. Ids are those of the initial pid namespace, so Sonde has to run in it.

mod began;
mod container;
mod elf;
mod facts;
mod forks;
mod former;
mod proc;
mod runtime;
mod service;
mod targets;
#[cfg(test)]
mod tests;
#[cfg(test)]
mod tree;

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::Arc;

pub use began::Starts;
pub use container::container_id;
pub use runtime::{Language, Runtime};
pub use targets::{Decision, Exclusion, INFRASTRUCTURE};

use crate::config::Targets;
use crate::conn::Nanos;
use crate::enrich::{Described, Host, Resource};
use crate::span::{ProcessId, Scheduling};
use began::Began;
use facts::Facts;
use forks::{Fork, Forks};
use former::Former;
use proc::{ProcFs, Stat};

/// Processes that are remembered. At the limit the eighth that was asked for least recently is forgotten, and read anew
/// when it is asked for again.
const REMEMBERED: usize = 16_384;

/// Bytes of the joined command line that [`Process::cmdline`] keeps.
const CMDLINE_KEPT: usize = 2048;

/// `/proc` counts the start of a process in hundredths of a second (`USER_HZ`).
const NANOS_PER_TICK: Nanos = 10_000_000;

/// How many forks back a process that is gone is looked for what its program is.
const FORKS: u8 = 3;

/// How often [`Processes::recheck`] looks again before it takes what it has seen for final.
const RECHECKS: u8 = 4;

/// What is known of a process.
#[derive(Clone, Debug, PartialEq)]
pub struct Process {
    /// Its identity.
    pub id: ProcessId,
    /// Path of its executable as it sees it itself; empty where it could not be read.
    pub exe: String,
    /// Its name as the kernel keeps it, at most 15 bytes; empty where it could not be read.
    pub comm: String,
    /// Its arguments joined by blanks, at most 2 KiB. May hold secrets: never exported by default.
    pub cmdline: String,
    /// The container that it runs in.
    pub container_id: Option<String>,
    /// What runs it.
    pub runtime: Runtime,
    /// What its threads say about its requests.
    pub scheduling: Scheduling,
    /// What its spans carry.
    pub resource: Arc<Resource>,
    /// Whether it is observed.
    pub decision: Decision,
}

impl Process {
    /// The executable's path, or the kernel's name where that could not be read.
    #[must_use]
    pub fn program(&self) -> &str {
        if self.exe.is_empty() { &self.comm } else { &self.exe }
    }
}

/// Whether a process still runs.
#[must_use]
pub fn is_alive(id: ProcessId) -> bool {
    ProcFs::new("/proc").stat(id.tgid).is_some_and(|stat| stat.started == id.started)
}

/// The processes of this node, as far as they were asked for.
#[derive(Debug)]
pub struct Processes {
    proc: ProcFs,
    host: Host,
    targets: Targets,
    own: u32,
    known: HashMap<u32, Known, foldhash::fast::RandomState>,
    forks: Forks,
    former: Former,
    starts: Starts,
    asked: u64,
}

#[derive(Debug)]
struct Known {
    process: Arc<Process>,
    /// As in [`Stat::stack`].
    stack: u64,
    /// When it began as the kernel side tells it, 0 where that does not.
    began: Nanos,
    /// Comes from a recording: `/proc` has nothing to say about it.
    adopted: bool,
    rechecks: u8,
    asked: u64,
}

impl Processes {
    /// The processes under `/proc`.
    #[must_use]
    pub fn new(targets: Targets, host: Host) -> Self {
        Self::under("/proc", std::process::id(), targets, host)
    }

    /// The processes under another root, for tests, and for a host's `/proc` that is mounted elsewhere. `own` is Sonde's
    /// own id there.
    #[must_use]
    pub fn under(root: impl Into<PathBuf>, own: u32, targets: Targets, host: Host) -> Self {
        Self {
            proc: ProcFs::new(root),
            host,
            targets,
            own,
            known: HashMap::default(),
            forks: Forks::default(),
            former: Former::default(),
            starts: Starts::default(),
            asked: 0,
        }
    }

    /// Asks there how processes began that are gone before they are looked at.
    #[must_use]
    pub fn with_starts(self, starts: Starts) -> Self {
        Self { starts, ..self }
    }

    /// What is known of the process that has this id now. Where it is known already that takes one look at its `stat`
    /// (15 us: ask when the kernel side reports a new process, and [`Processes::known`] for each exchange); where it
    /// is new, or has replaced its program (`execve`), a few hundred microseconds. A process that is gone keeps what
    /// was known of it; one that was never seen is what the kernel side tells of it, else nothing but its id.
    pub fn identify(&mut self, tgid: u32) -> Arc<Process> {
        self.look(tgid, FORKS)
    }

    fn look(&mut self, tgid: u32, forks: u8) -> Arc<Process> {
        self.asked += 1;
        let adopted = self.known.get(&tgid).is_some_and(|known| known.adopted);
        let (stat, began) = if adopted { (None, None) } else { (self.proc.stat(tgid), self.starts.of(tgid)) };
        if let Some(known) = self.known.get_mut(&tgid)
            && known.is(stat.as_ref(), began.as_ref())
        {
            known.asked = self.asked;
            return Arc::clone(&known.process);
        }
        let mut stat = stat.unwrap_or_default();
        let forked = began.as_ref().filter(|began| began.forked && forks > 0);
        let there = forked.is_some() && self.is_there(tgid);
        if let Some(began) = forked
            && !there
        {
            let parent = self.look(began.parent, forks - 1);
            if !parent.program().is_empty() {
                let process = Arc::new(self.like_parent(tgid, &parent, began.time));
                self.remember(tgid, 0, began.time, Arc::clone(&process), false);
                return process;
            }
        }
        let mut process = self.read(tgid, &stat, began.as_ref());
        // What was read may be of two programs where the process replaced itself meanwhile.
        if let Some(now) = self.proc.stat(tgid).filter(|now| now.is_other_than(&stat)) {
            process = self.read(tgid, &now, began.as_ref());
            stat = now;
        }
        // It may have ended between two files.
        if there && !self.is_there(tgid) {
            return self.look(tgid, forks - 1);
        }
        let process = Arc::new(process);
        self.remember(tgid, stat.stack, began.map_or(0, |began| began.time), Arc::clone(&process), false);
        process
    }

    /// From this time on the id of a process means what is known of it now, and up to it `before`.
    pub fn succeeded(&mut self, before: Arc<Process>, time: Nanos) {
        self.former.add(before, time);
    }

    /// What is known of the process that had this id at that time.
    #[must_use]
    pub fn at(&self, tgid: u32, time: Nanos) -> Option<&Arc<Process>> {
        self.former.at(tgid, time).or_else(|| self.known(tgid))
    }

    /// A process that is known, or was forked by one that is, has forked another one at that time (`CLOCK_MONOTONIC`).
    pub fn forked(&mut self, child: u32, parent: u32, time: Nanos) {
        let known = self.known.get(&parent).map(|known| Arc::clone(&known.process));
        if let Some(parent) = known.or_else(|| self.forks.parent(parent)) {
            self.forks.add(child, Fork { parent, time });
        }
    }

    /// As [`Processes::identify`], for a process of which [`Processes::forked`] told, and which has not replaced its
    /// program since: where it ends before all of it has been read, it is what its parent is, under its own id.
    pub fn identify_forked(&mut self, tgid: u32) -> Arc<Process> {
        let fork = self.forks.take(tgid);
        if self.is_there(tgid) {
            let process = self.identify(tgid);
            // It may have ended between two files.
            if fork.is_none() || self.is_there(tgid) {
                return process;
            }
        }
        let Some(Fork { parent, time }) = fork else { return self.identify(tgid) };
        self.asked += 1;
        let process = Arc::new(self.like_parent(tgid, &parent, time));
        self.remember(tgid, 0, time, Arc::clone(&process), false);
        process
    }

    /// Whether a process runs: the executable of one that has ended cannot be read even while its id is still there.
    fn is_there(&self, tgid: u32) -> bool {
        self.proc.exe(tgid).is_some()
    }

    fn like_parent(&self, tgid: u32, parent: &Process, time: Nanos) -> Process {
        let id = ProcessId { tgid, started: time / NANOS_PER_TICK };
        let decision = match parent.decision {
            Decision::Excluded(Exclusion::Backend) => parent.decision,
            _ => targets::decide(&self.targets, tgid, parent.program(), parent.resource.service_name()),
        };
        let resource = Arc::new(parent.resource.of_child(&self.host, parent.id, id));
        Process { id, resource, decision, ..parent.clone() }
    }

    /// What was last read of a process, without looking again.
    #[must_use]
    pub fn known(&self, tgid: u32) -> Option<&Arc<Process>> {
        self.known.get(&tgid).map(|known| &known.process)
    }

    /// Looks again at how a process runs its requests: an interpreter may load its event loop, and a program start its
    /// threads, after the first look. Returns the process where that changed something. Looks a bounded number of
    /// times at each process, and never at one whose scheduling is known.
    pub fn recheck(&mut self, tgid: u32) -> Option<Arc<Process>> {
        let known = self.known.get_mut(&tgid)?;
        if known.adopted || known.rechecks >= RECHECKS || known.process.scheduling != Scheduling::Unknown {
            return None;
        }
        known.rechecks += 1;
        let stat = self.proc.stat(tgid)?;
        if !known.is(Some(&stat), None) {
            return Some(self.identify(tgid));
        }
        let args = self.proc.cmdline(tgid);
        let scheduling =
            runtime::scheduling(&self.proc, tgid, known.process.program(), &known.process.runtime, &args);
        if scheduling == known.process.scheduling {
            return None;
        }
        known.process = Arc::new(Process { scheduling, ..Process::clone(&known.process) });
        Some(Arc::clone(&known.process))
    }

    /// Decides anew, by other targets. Returns the processes for which that changes something.
    pub fn set_targets(&mut self, targets: Targets) -> Vec<Arc<Process>> {
        self.targets = targets;
        let mut changed = Vec::new();
        for (tgid, known) in self.known.iter_mut().filter(|(_, known)| !known.adopted) {
            let process = &known.process;
            let decision = match process.decision {
                Decision::Excluded(Exclusion::Sonde) => continue,
                Decision::Excluded(Exclusion::Backend) if self.targets.is_everything() => continue,
                _ => {
                    targets::decide(&self.targets, *tgid, process.program(), process.resource.service_name())
                }
            };
            if decision != process.decision {
                known.process = Arc::new(Process { decision, ..Process::clone(process) });
                changed.push(Arc::clone(&known.process));
            }
        }
        changed
    }

    /// No target is named.
    #[must_use]
    pub fn are_all_observed(&self) -> bool {
        self.targets.is_everything()
    }

    /// The ids of the processes there are of which nothing is known.
    #[must_use]
    pub fn strangers(&self) -> Vec<u32> {
        self.proc.pids().into_iter().filter(|pid| *pid != self.own && !self.known.contains_key(pid)).collect()
    }

    /// Stops observing a process that turns out to be a backend which Sonde exports to: its answers to Sonde would be
    /// exported in turn, without end. Returns it where that changes something; not where a target names processes,
    /// since then the user decides.
    pub fn exclude_backend(&mut self, tgid: u32) -> Option<Arc<Process>> {
        let known = self.known.get_mut(&tgid).filter(|known| known.process.decision == Decision::Observed)?;
        if !self.targets.is_everything() {
            return None;
        }
        let decision = Decision::Excluded(Exclusion::Backend);
        known.process = Arc::new(Process { decision, ..Process::clone(&known.process) });
        Some(Arc::clone(&known.process))
    }

    /// Takes a process as someone else describes it, for replays.
    pub fn adopt(&mut self, process: Arc<Process>) {
        self.asked += 1;
        self.remember(process.id.tgid, 0, 0, process, true);
    }

    /// How many processes are remembered.
    #[must_use]
    pub fn len(&self) -> usize {
        self.known.len()
    }

    /// Whether none is.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.known.is_empty()
    }

    fn read(&self, tgid: u32, stat: &Stat, began: Option<&Began>) -> Process {
        let Self { proc, host, targets, own, starts, .. } = self;
        let Facts { exe, comm, args, declared, cgroup, owner, ppid, at } =
            Facts::of(proc, tgid, stat, began, starts);
        let program = if exe.is_empty() { comm.as_str() } else { exe.as_str() };
        let (runtime, go_module) = runtime::detect(proc, tgid, at, program);
        let scheduling = runtime::scheduling(proc, tgid, program, &runtime, &args);
        let container_id = container_id(&cgroup).map(ToOwned::to_owned);
        let seen = service::Seen {
            declared: &declared,
            cgroup: &cgroup,
            program,
            args: &args,
            language: runtime.language,
            go_module: go_module.as_deref(),
            ppid,
        };
        let service_name = service::name(proc, at, &seen);
        let service_version = service::version(proc, at, &seen);
        let began = began.map_or(0, |began| began.time / NANOS_PER_TICK);
        let id = ProcessId { tgid, started: if stat.started == 0 { began } else { stat.started } };
        let decision = if tgid == *own {
            Decision::Excluded(Exclusion::Sonde)
        } else {
            targets::decide(targets, tgid, program, &service_name)
        };
        let resource = Resource::describe(
            host,
            &Described {
                id,
                service_name: &service_name,
                service_version: service_version.as_deref(),
                declared: &declared.attributes,
                exe: &exe,
                executable_name: targets::file_name(program),
                owner: &owner,
                runtime: runtime.attribute(program),
                runtime_version: runtime.version.as_deref(),
                container_id: container_id.as_deref(),
            },
        );
        Process {
            id,
            comm,
            cmdline: join_bounded(&args),
            container_id,
            runtime,
            scheduling,
            resource: Arc::new(resource),
            decision,
            exe,
        }
    }

    fn remember(&mut self, tgid: u32, stack: u64, began: Nanos, process: Arc<Process>, adopted: bool) {
        if self.known.len() >= REMEMBERED && !self.known.contains_key(&tgid) {
            let mut asked: Vec<u64> = self.known.values().map(|known| known.asked).collect();
            let (_, &mut oldest_kept, _) = asked.select_nth_unstable(REMEMBERED / 8);
            self.known.retain(|_, known| known.asked >= oldest_kept);
        }
        self.known.insert(tgid, Known { process, stack, began, adopted, rechecks: 0, asked: self.asked });
    }
}

impl Known {
    /// Whether this is still the process and its program. One that has ended has no stack any more, nor a `stat` once its
    /// parent has taken note: then the kernel side has to tell of another one.
    fn is(&self, stat: Option<&Stat>, began: Option<&Began>) -> bool {
        let same = |stat: &&Stat| self.process.id.started == stat.started;
        match stat {
            Some(stat) if stat.stack != 0 || self.stack == 0 => same(&stat) && self.stack == stat.stack,
            stat => stat.as_ref().is_none_or(same) && began.is_none_or(|began| began.time <= self.began),
        }
    }
}

fn join_bounded(args: &[String]) -> String {
    let mut joined = String::new();
    for argument in args {
        if !joined.is_empty() {
            joined.push(' ');
        }
        joined.push_str(argument);
        if joined.len() > CMDLINE_KEPT {
            joined.truncate(joined.floor_char_boundary(CMDLINE_KEPT));
            break;
        }
    }
    joined
}
