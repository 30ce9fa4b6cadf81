//! What Sonde takes from the kernel's BTF, in one reading of the file: afterwards nothing of it stays in memory.

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use thiserror::Error;

use super::btf::{Btf, BtfError, Sort};
use super::offsets::{self, Resolved};

/// A tracepoint that a program may attach to as `tp_btf`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(usize)]
pub enum Tracepoint {
    /// `sock_send_length`: bytes sent on a socket, kernels since about 6.3.
    SockSendLength,
    /// `sock_recv_length`: bytes received.
    SockRecvLength,
    /// `sys_exit`: the end of each system call.
    SysExit,
    /// `inet_sock_set_state`: a TCP connection's life.
    InetSockSetState,
    /// `sched_process_exit`: a thread ends.
    SchedProcessExit,
    /// `sched_process_exec`: a process becomes another program.
    SchedProcessExec,
    /// `sched_process_fork`: a thread or a process is made.
    SchedProcessFork,
}

impl Tracepoint {
    /// All of them, in order.
    pub const ALL: [Self; 7] = [
        Self::SockSendLength,
        Self::SockRecvLength,
        Self::SysExit,
        Self::InetSockSetState,
        Self::SchedProcessExit,
        Self::SchedProcessExec,
        Self::SchedProcessFork,
    ];

    /// As the kernel calls it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::SockSendLength => "sock_send_length",
            Self::SockRecvLength => "sock_recv_length",
            Self::SysExit => "sys_exit",
            Self::InetSockSetState => "inet_sock_set_state",
            Self::SchedProcessExit => "sched_process_exit",
            Self::SchedProcessExec => "sched_process_exec",
            Self::SchedProcessFork => "sched_process_fork",
        }
    }

    /// What perf and tracefs have it under.
    #[must_use]
    pub const fn category(self) -> &'static str {
        match self {
            Self::SockSendLength | Self::SockRecvLength | Self::InetSockSetState => "sock",
            Self::SysExit => "raw_syscalls",
            Self::SchedProcessExit | Self::SchedProcessExec | Self::SchedProcessFork => "sched",
        }
    }

    /// The typedef that stands for it in BTF.
    #[must_use]
    pub const fn type_name(self) -> &'static str {
        match self {
            Self::SockSendLength => "btf_trace_sock_send_length",
            Self::SockRecvLength => "btf_trace_sock_recv_length",
            Self::SysExit => "btf_trace_sys_exit",
            Self::InetSockSetState => "btf_trace_inet_sock_set_state",
            Self::SchedProcessExit => "btf_trace_sched_process_exit",
            Self::SchedProcessExec => "btf_trace_sched_process_exec",
            Self::SchedProcessFork => "btf_trace_sched_process_fork",
        }
    }
}

/// Why the kernel's types are not known.
#[derive(Debug, Error)]
pub enum TypesError {
    /// The file cannot be read; not found means a kernel built without `CONFIG_DEBUG_INFO_BTF`.
    #[error("{path}: {source}")]
    File {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The file is not BTF that can be read.
    #[error("{path}: {source}")]
    Format {
        /// The file.
        path: PathBuf,
        /// Why.
        source: BtfError,
    },
}

/// What Sonde needs of the kernel's types.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KernelTypes {
    /// Members of structures.
    pub members: Resolved,
    /// Ids of the typedefs of [`Tracepoint::ALL`]; `None` where the kernel has no such tracepoint.
    pub tracepoints: [Option<u32>; Tracepoint::ALL.len()],
    /// Functions of [`FUNCTIONS`].
    pub functions: [Option<u32>; FUNCTIONS.len()],
    /// A tracepoint's programs are preempted ([`Features::puts_programs_aside`](super::Features::puts_programs_aside)).
    pub preempted: bool,
    /// Types in the file.
    pub count: u32,
    /// Bytes of the file.
    pub bytes: usize,
}

/// The guard that tracepoints have had, and nothing else, since they leave preemption on: commit a46023d5616e of 7.0.
const GUARD: &str = "class_srcu_fast_notrace_t";

/// Functions whose presence is asked for: one that programs may call (a kfunc), and those at whose ends they may run.
pub const FUNCTIONS: [&str; 3] = ["bpf_rdonly_cast", "tcp_splice_read", "unix_stream_splice_read"];

impl KernelTypes {
    /// Reads the file, answers all questions, and lets go of it. Takes memory for the whole file (6 MB) meanwhile.
    pub fn read(path: &Path) -> Result<Self, TypesError> {
        let bytes = slurp(path).map_err(|source| TypesError::File { path: path.into(), source })?;
        Self::parse(&bytes).map_err(|source| TypesError::Format { path: path.into(), source })
    }

    /// The same from bytes.
    pub fn parse(bytes: &[u8]) -> Result<Self, BtfError> {
        let btf = Btf::parse(bytes)?;
        let mut names = offsets::STRUCTURES.to_vec();
        names.extend(Tracepoint::ALL.map(|tracepoint| (Sort::Typedef, tracepoint.type_name())));
        names.extend(FUNCTIONS.map(|function| (Sort::Function, function)));
        names.push((Sort::Typedef, GUARD));
        let found = btf.find(&names);
        let (structures, rest) = found.split_at_checked(offsets::STRUCTURES.len()).unwrap_or_default();
        let mut rest = rest.iter().copied();
        Ok(Self {
            members: offsets::resolve(&btf, structures),
            tracepoints: std::array::from_fn(|_| rest.next().flatten()),
            functions: std::array::from_fn(|_| rest.next().flatten()),
            preempted: rest.next().flatten().is_some(),
            count: btf.count(),
            bytes: bytes.len(),
        })
    }

    /// The id of the typedef that a program for this tracepoint is loaded with.
    #[must_use]
    pub fn tracepoint(&self, tracepoint: Tracepoint) -> Option<u32> {
        self.tracepoints.get(tracepoint as usize).copied().flatten()
    }
}

/// sysfs gives a page for each read; its size is known, so one allocation suffices.
fn slurp(path: &Path) -> std::io::Result<Vec<u8>> {
    let mut file = File::open(path)?;
    let size = usize::try_from(file.metadata()?.len()).unwrap_or(0).min(LARGEST_FILE);
    let mut bytes = Vec::with_capacity(size + 1);
    file.by_ref().take(LARGEST_FILE as u64).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// Kernels have 5 to 8 MB; a file of a gigabyte is a mistake that should not take the memory.
const LARGEST_FILE: usize = 256 << 20;
