//! Loads the object, tells the programs about this kernel and what is wanted, and attaches them.

use std::borrow::Cow;
use std::os::fd::{AsFd, AsRawFd};

use aya::maps::{Array, MapData, PerCpuArray, ProgramArray};
use aya::programs::{BtfTracePoint, FExit, Program};
use aya::{Btf, Ebpf, EbpfLoader, Endianness, Pod};
use sonde_abi::limits;
use sonde_abi::settings::{KernelCounter, Offsets, Selection};
use thiserror::Error;

use super::processes::ProcessStates;
use super::ring::Ring;
use super::starts::ProcessStarts;
use crate::kernel::{HookFamily, KernelTypes, Tracepoint, synthetic};
use crate::telemetry::{Counters, Lost, ProgramState};

/// The object, aligned as its parser wants it. Empty where the agent was built without one.
static OBJECT: &[u8] = aya::include_bytes_aligned!(concat!(env!("OUT_DIR"), "/sonde.bpf.o"));

/// Bytes of one element of the maps that have one for each process or thread.
const IDS_PER_PAGE: u32 = 4096;
/// What the name of a program's second copy ends in.
const SECOND: &str = "_missed";

/// Why nothing is attached.
#[derive(Debug, Error)]
pub enum ProbeError {
    /// The binary was built without the kernel programs.
    #[error("this binary was built without the kernel programs: build it with `cargo xtask build`")]
    NoObject,
    /// The object, a map or the ring could not be made.
    #[error("{what}: {why}")]
    Load {
        /// What was being done.
        what: Cow<'static, str>,
        /// The error, with all its causes.
        why: String,
    },
}

/// What the programs are told.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Which calls are hooked.
    pub family: HookFamily,
    /// What is sent.
    pub selection: Selection,
    /// Ports that select connections, where `selection` says so.
    pub ports: Vec<u16>,
}

/// Where a program runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// At a tracepoint.
    At(Tracepoint),
    /// At the end of a function of the kernel, one of [`crate::kernel::FUNCTIONS`].
    After(&'static str),
}

impl Place {
    /// As the kernel calls it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::At(tracepoint) => tracepoint.name(),
            Self::After(function) => function,
        }
    }
}

/// A program that runs, or why it does not.
#[derive(Clone, Debug)]
pub struct Attached {
    /// Name of the program.
    pub program: &'static str,
    /// Where it is attached.
    pub place: Place,
    /// What is not seen without it; `None` where nothing would be.
    pub without: Option<&'static str>,
    /// `None`: it runs.
    pub failure: Option<String>,
}

/// Programs at work. Dropping it detaches them.
pub struct Probes {
    /// What was loaded, then attached.
    pub attached: Vec<Attached>,
    /// What the agent decided about each process.
    pub processes: ProcessStates,
    /// How processes began. Taken by whoever asks first.
    pub starts: Option<ProcessStarts>,
    counters: PerCpuArray<MapData, u64>,
    /// An array of programs is emptied when its last descriptor is closed.
    _next_message: Option<ProgramArray<MapData>>,
    #[cfg(feature = "log")]
    log: Option<super::log::ProgramLog>,
    programs: Ebpf,
}

impl std::fmt::Debug for Probes {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Probes").field("attached", &self.attached).finish_non_exhaustive()
    }
}

#[repr(transparent)]
#[derive(Clone, Copy)]
struct Plain<T>(T);
#[expect(unsafe_code, reason = "aya's marker for what may be copied into a program's data")]
// SAFETY: `repr(C)` structs of `u32` without padding.
unsafe impl Pod for Plain<Offsets> {}
#[expect(unsafe_code, reason = "aya's marker for what may be copied into a program's data")]
// SAFETY: as above.
unsafe impl Pod for Plain<Selection> {}

impl Probes {
    /// Loads everything and attaches nothing yet: the verifier takes its time, and what is attached in between fills the ring.
    /// The ring is returned apart, since another thread reads it.
    ///
    /// # Errors
    /// Where the programs for the calls themselves cannot be loaded. One beside them that fails is reported in `attached`,
    /// and what it would have told is missing.
    pub fn load(types: &KernelTypes, settings: &Settings) -> Result<(Self, Ring), ProbeError> {
        if OBJECT.is_empty() {
            return Err(ProbeError::NoObject);
        }
        let offsets = Plain(types.members.offsets);
        let selection = Plain(settings.selection);
        // Only the tracepoints' and a few functions' types are wanted of the kernel's BTF: a small one in its place saves 30 MB.
        let btf =
            Btf::parse(&synthetic::names(types), Endianness::default()).map_err(wrap("kernel types"))?;
        let pages = settings.selection.pid_max.div_ceil(IDS_PER_PAGE);
        let twice = settings.selection.twice != 0;
        let mut loader = EbpfLoader::new();
        loader
            .verifier_log_level(log_level())
            .override_global("OFFSETS", &offsets, true)
            .override_global("SELECTION", &selection, true)
            .map_max_entries("PROCESSES", pages)
            .map_max_entries("DONE", if twice { pages } else { 1 });
        if settings.family == HookFamily::Lengths {
            // Its state is in socket storage.
            loader.map_max_entries("CONNS", 1);
        }
        let mut programs = loader.load(OBJECT).map_err(wrap("kernel programs"))?;
        select_ports(&mut programs, &settings.ports)?;
        let ring = Ring::new(take_map(&mut programs, "RING")?)?;
        let processes =
            ProcessStates::new(take_map(&mut programs, "PROCESSES")?, settings.selection.pid_max)?;
        let starts = Some(ProcessStarts::new(take_map(&mut programs, "STARTS")?)?);
        let counters =
            PerCpuArray::try_from(take_map(&mut programs, "COUNTERS")?).map_err(wrap("map COUNTERS"))?;
        #[cfg(feature = "log")]
        let log = super::log::ProgramLog::of(&mut programs);
        let mut probes = Self {
            attached: Vec::new(),
            processes,
            starts,
            counters,
            _next_message: None,
            #[cfg(feature = "log")]
            log,
            programs,
        };
        for (program, place, without) in wanted(settings.family, twice) {
            let outcome = match place {
                Place::At(tracepoint) => probes
                    .program::<BtfTracePoint>(program)
                    .and_then(|loaded| loaded.load(tracepoint.name(), &btf).map_err(chain)),
                Place::After(function) => probes
                    .program::<FExit>(program)
                    .and_then(|loaded| loaded.load(function, &btf).map_err(chain)),
            };
            probes.note(program, place, without, outcome)?;
        }
        if settings.family == HookFamily::Syscalls {
            probes.link_messages()?;
        }
        Ok((probes, ring))
    }

    /// Attaches what was loaded.
    ///
    /// # Errors
    /// As in [`Self::load`].
    pub fn attach(&mut self) -> Result<(), ProbeError> {
        for Attached { program, place, without, failure } in std::mem::take(&mut self.attached) {
            let outcome = match (failure, place) {
                (Some(why), _) => Err(why),
                (None, Place::At(_)) => self
                    .program::<BtfTracePoint>(program)
                    .and_then(|loaded| loaded.attach().map(drop).map_err(chain)),
                (None, Place::After(_)) => {
                    self.program::<FExit>(program).and_then(|loaded| loaded.attach().map(drop).map_err(chain))
                }
            };
            self.note(program, place, without, outcome)?;
        }
        Ok(())
    }

    /// Lets the programs of `sys_exit` call themselves, once for each message of a call that moves several.
    fn link_messages(&mut self) -> Result<(), ProbeError> {
        const WHAT: &str = "map NEXT_MESSAGE";
        let why = |why| ProbeError::Load { what: WHAT.into(), why };
        let mut map =
            ProgramArray::try_from(take_map(&mut self.programs, "NEXT_MESSAGE")?).map_err(wrap(WHAT))?;
        let program = self.program::<BtfTracePoint>("sys_exit").map_err(why)?;
        map.set(0, program.fd().map_err(wrap(WHAT))?, 0).map_err(wrap(WHAT))?;
        // Loaded where programs stand twice.
        if let Ok(second) = self.program::<BtfTracePoint>("sys_exit_missed").map_err(why)?.fd() {
            map.set(1, second, 0).map_err(wrap(WHAT))?;
        }
        self._next_message = Some(map);
        Ok(())
    }

    fn program<'a, P>(&'a mut self, name: &str) -> Result<&'a mut P, String>
    where
        &'a mut P: TryFrom<&'a mut Program, Error: std::error::Error>,
    {
        self.programs.program_mut(name).ok_or("not in the object")?.try_into().map_err(chain)
    }

    fn note(
        &mut self,
        program: &'static str,
        place: Place,
        without: Option<&'static str>,
        outcome: Result<(), String>,
    ) -> Result<(), ProbeError> {
        let failure = outcome.err();
        if let (Some(why), None) = (&failure, without) {
            let what = format!("program {program} at {}", place.name()).into();
            return Err(ProbeError::Load { what, why: why.clone() });
        }
        self.attached.push(Attached { program, place, without, failure });
        Ok(())
    }

    /// Selects connections by these ports from here on, where [`Selection::by_port`] was set at loading.
    ///
    /// # Errors
    /// Where the kernel does not take them.
    pub fn select_ports(&mut self, ports: &[u16]) -> Result<(), ProbeError> {
        select_ports(&mut self.programs, ports)
    }

    /// Passes on what the programs have logged.
    #[cfg(feature = "log")]
    pub fn pass_on_log(&mut self) {
        if let Some(log) = &mut self.log {
            log.pass_on();
        }
    }

    /// Takes over of what the kernel side counted what parents are chosen by: two of eleven numbers, each a system call.
    pub fn read_losses(&self, counters: &Counters) {
        for (index, lost) in
            [(KernelCounter::RingFull, Lost::RingFull), (KernelCounter::StateFull, Lost::KernelStateFull)]
        {
            counters.set_lost(lost, self.counter(index));
        }
    }

    /// Takes over all that the kernel side counted.
    pub fn read_counters(&self, counters: &Counters) {
        self.read_losses(counters);
        for (index, lost) in [
            (KernelCounter::UserFault, Lost::UserFault),
            (KernelCounter::HeadTooLong, Lost::HeadTooLong),
            (KernelCounter::NoBuffer, Lost::NoBuffer),
            (KernelCounter::FarBuffer, Lost::FarBuffer),
            (KernelCounter::LeftAlone, Lost::LeftAlone),
        ] {
            counters.set_lost(lost, self.counter(index));
        }
        // States that neither ended nor have room were pushed out. Made first: a state that is made and ended between the two
        // readings must not count as there.
        let made = self.counter(KernelCounter::StatesMade);
        let there = made.saturating_sub(self.counter(KernelCounter::StatesEnded));
        let evicted = there.saturating_sub(u64::from(limits::CONNECTIONS));
        counters.set_lost(Lost::KernelStateEvicted, evicted.max(counters.lost(Lost::KernelStateEvicted)));
    }

    /// Takes over how the programs fare.
    pub fn read_programs(&self, counters: &Counters) {
        counters.set_programs(self.attached.iter().map(|attached| self.state(attached)).collect());
    }

    /// How a program fares. The kernel measures that only where `kernel.bpf_stats_enabled` is set.
    fn state(&self, attached: &Attached) -> ProgramState {
        let program = self.programs.program(attached.program);
        let info = program.and_then(|program| program.info().ok());
        let (run_time, runs) = info.map_or_else(Default::default, |info| (info.run_time(), info.run_count()));
        ProgramState {
            name: attached.program.to_owned(),
            attached: attached.failure.is_none(),
            run_nanos: u64::try_from(run_time.as_nanos()).unwrap_or(u64::MAX),
            runs,
        }
    }

    /// How often the kernel did not run one of the programs because it was running on that processor: since 7.0 the programs of
    /// a tracepoint are preempted, and until they go on no other task there has them. What the second of two copies did instead
    /// of the first is not lost. Kernels since 5.12 say so; 0 before.
    #[must_use]
    pub fn skipped(&self) -> u64 {
        let (mut single, mut first, mut second) = (0, 0, 0);
        for (name, program) in self.programs.programs() {
            let Ok(fd) = program.fd() else { continue };
            let path = format!("/proc/self/fdinfo/{}", fd.as_fd().as_raw_fd());
            let Some(misses) = std::fs::read_to_string(path).ok().and_then(|fdinfo| skipped(&fdinfo)) else {
                continue;
            };
            let is_first = self.attached.iter().any(|other| other.program.strip_suffix(SECOND) == Some(name));
            *match (name.ends_with(SECOND), is_first) {
                (true, _) => &mut second,
                (false, true) => &mut first,
                (false, false) => &mut single,
            } += misses;
        }
        // A call is lost where both were skipped. The first is for calls of no interest too, which nobody mends.
        let unmended = u64::saturating_sub(first, self.counter(KernelCounter::Mended));
        single + unmended.min(second)
    }

    /// One counter's sum over all processors.
    #[must_use]
    pub fn counter(&self, counter: KernelCounter) -> u64 {
        self.counters.get(&(counter as u32), 0).map_or(0, |values| values.iter().sum())
    }
}

/// What a program's `fdinfo` says of it.
fn skipped(fdinfo: &str) -> Option<u64> {
    fdinfo.lines().find_map(|line| line.strip_prefix("recursion_misses:"))?.trim().parse().ok()
}

/// The programs of a family in the order of attaching, where they go, and what is missing without each. A second copy stands
/// behind the first, as the kernel runs them.
fn wanted(family: HookFamily, twice: bool) -> Vec<(&'static str, Place, Option<&'static str>)> {
    use Place::{After, At};
    const ANOTHER: &str = "a process may be taken for the one that had its id, or its program, before";
    const LIFE: &str = "who called connect and when connections end is not seen";
    let mut wanted = vec![
        ("process_exit", At(Tracepoint::SchedProcessExit), Some(ANOTHER)),
        ("process_exec", At(Tracepoint::SchedProcessExec), Some(ANOTHER)),
        (
            "process_fork",
            At(Tracepoint::SchedProcessFork),
            Some("a forked process that ends before it is looked at is not known"),
        ),
        (
            "process_program",
            At(Tracepoint::SchedProcessExec),
            Some("a process that ends before it is looked at has no name"),
        ),
    ];
    const MISSED: &str = "calls are not seen while another task was put aside in the middle of one";
    match family {
        HookFamily::Lengths => wanted.extend([
            ("set_state_typed", At(Tracepoint::InetSockSetState), Some(LIFE)),
            ("set_state_typed_missed", At(Tracepoint::InetSockSetState), Some(MISSED)),
            ("sent", At(Tracepoint::SockSendLength), None),
            ("received", At(Tracepoint::SockRecvLength), None),
            ("sent_missed", At(Tracepoint::SockSendLength), Some(MISSED)),
            ("received_missed", At(Tracepoint::SockRecvLength), Some(MISSED)),
            (
                "spliced_tcp",
                After("tcp_splice_read"),
                Some("what splice(2) takes from a TCP socket is a gap"),
            ),
            (
                "spliced_unix",
                After("unix_stream_splice_read"),
                Some("what splice(2) takes from a unix socket is not counted: exchanges after it are not seen right"),
            ),
        ]),
        HookFamily::Syscalls => wanted.extend([
            ("set_state_walked", At(Tracepoint::InetSockSetState), Some(LIFE)),
            ("sys_exit", At(Tracepoint::SysExit), None),
            ("sys_exit_missed", At(Tracepoint::SysExit), Some(MISSED)),
        ]),
    }
    wanted.retain(|(program, ..)| twice || !program.ends_with(SECOND));
    wanted
}

fn select_ports(programs: &mut Ebpf, ports: &[u16]) -> Result<(), ProbeError> {
    // Borrowed, not taken: the programs hold its descriptor, which must stay open until they are loaded.
    let map = programs.map_mut("PORTS").ok_or_else(|| missing("PORTS"))?;
    let mut map: Array<_, u64> = Array::try_from(map).map_err(wrap("map PORTS"))?;
    let mut words = std::collections::BTreeMap::<u32, u64>::new();
    for port in ports {
        *words.entry(u32::from(port >> 6)).or_default() |= 1 << (port & 63);
    }
    for index in 0..map.len() {
        let word = words.get(&index).copied().unwrap_or(0);
        if map.get(&index, 0).map_err(wrap("map PORTS"))? != word {
            map.set(index, &word, 0).map_err(wrap("map PORTS"))?;
        }
    }
    Ok(())
}

fn take_map(programs: &mut Ebpf, name: &'static str) -> Result<aya::maps::Map, ProbeError> {
    programs.take_map(name).ok_or_else(|| missing(name))
}

fn missing(name: &'static str) -> ProbeError {
    ProbeError::Load { what: name.into(), why: "not in the object".into() }
}

/// Wraps an error of aya's with what was being done.
pub(super) fn wrap<E: std::error::Error>(what: &'static str) -> impl FnOnce(E) -> ProbeError {
    move |why| ProbeError::Load { what: what.into(), why: chain(why) }
}

/// An error and its causes in one line (the verifier's log, the longest of them, last).
fn chain<E: std::error::Error>(error: E) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(why) = cause {
        text = format!("{text}: {why}");
        cause = why.source();
    }
    text
}

/// The verifier's log is for those who work on the programs: `SONDE_VERIFIER_LOG=1` for why one is refused, `all` for every
/// step. With it, a program is verified again and again until its log fits.
fn log_level() -> aya::VerifierLogLevel {
    match std::env::var("SONDE_VERIFIER_LOG").as_deref() {
        Ok("all") => aya::VerifierLogLevel::VERBOSE,
        Ok(_) => aya::VerifierLogLevel::default(),
        Err(_) => aya::VerifierLogLevel::DISABLE,
    }
}

#[cfg(test)]
mod tests {
    use super::skipped;

    #[test]
    fn skipped_calls_are_read() {
        let fdinfo = "pos:\t0\nprog_type:\t26\nrun_cnt:\t0\nrecursion_misses:\t158\nverified_insns:\t30\n";
        assert_eq!(skipped(fdinfo), Some(158));
        assert_eq!(skipped("pos:\t0\n"), None);
    }
}
