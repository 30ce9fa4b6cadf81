//! What there is to know of a process before anything is made of it.

use super::began::{Began, Starts};
use super::container::container_id;
use super::proc::{ProcFs, Stat};
use super::service::{Declared, unit};
use super::targets::{file_name, is_infrastructure};

/// How far above a process that is gone another is looked for that is not.
const ANCESTORS: u8 = 4;

/// Facts of one process. Empty texts stand for what is not known.
#[derive(Debug, Default)]
pub(super) struct Facts {
    pub exe: String,
    pub comm: String,
    pub args: Vec<String>,
    pub declared: Declared,
    pub cgroup: String,
    pub owner: String,
    pub ppid: u32,
    /// The process in whose root and working directory files are looked for: itself, or where it is gone its parent.
    pub at: u32,
}

impl Facts {
    /// Reads them from `/proc`; where the process is gone, as it stands there until its parent takes note, or altogether, the
    /// rest is how it began, and what its parent is: it inherits environment, working directory, group and owner.
    pub(super) fn of(proc: &ProcFs, pid: u32, stat: &Stat, began: Option<&Began>, starts: &Starts) -> Self {
        let mut facts = Self {
            exe: proc.exe(pid).unwrap_or_default(),
            comm: stat.comm.clone(),
            args: proc.cmdline(pid),
            declared: Declared::of(proc, pid, stat.ppid),
            cgroup: proc.cgroup(pid),
            owner: proc.uid(pid).map(|uid| proc.user(pid, uid)).unwrap_or_default(),
            ppid: stat.ppid,
            at: pid,
        };
        // It may have ended while the above was read.
        if let Some(began) = began.filter(|began| !began.forked && proc.exe(pid).is_none()) {
            facts.complete(proc, pid, began, nearest(proc, began.parent, starts));
        }
        facts
    }

    /// `parent` is the nearest process above that is there.
    fn complete(&mut self, proc: &ProcFs, pid: u32, began: &Began, parent: u32) {
        self.at = parent;
        self.ppid = parent;
        if self.comm.is_empty() {
            self.comm.clone_from(&began.comm);
        }
        if self.exe.is_empty() {
            self.exe = proc.resolved(parent, &began.program).unwrap_or_else(|| began.program.clone());
        }
        if self.args.is_empty() {
            self.args.clone_from(&began.args);
        }
        if self.declared == Declared::default() {
            let above = proc.stat(parent).map_or(0, |stat| stat.ppid);
            self.declared = Declared::of(proc, parent, above);
        }
        if let Some(uid) = proc.uid(pid).or_else(|| proc.uid(parent)) {
            self.owner = proc.user(parent, uid);
        }
        // What a runtime or the service manager starts is in a group of its own.
        let parents_own = proc.exe(parent).is_none_or(|exe| is_infrastructure(file_name(&exe)));
        if container_id(&self.cgroup).is_none() && unit::service(&self.cgroup).is_none() && !parents_own {
            self.cgroup = proc.cgroup(parent);
        }
    }
}

/// The process, or the nearest above it that is there: what a shell starts last outlives it, but not by much.
fn nearest(proc: &ProcFs, pid: u32, starts: &Starts) -> u32 {
    let mut at = pid;
    for _ in 0..ANCESTORS {
        if proc.exe(at).is_some() {
            return at;
        }
        let Some(began) = starts.of(at) else { break };
        at = began.parent;
    }
    pid
}
