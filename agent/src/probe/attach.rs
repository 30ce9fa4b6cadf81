//! Loads the object, tells the programs about this kernel and what is wanted, and attaches them.

use std::borrow::Cow;

use aya::maps::{Array, MapData, PerCpuArray};
use aya::programs::BtfTracePoint;
use aya::{Btf, Ebpf, EbpfLoader, Endianness, Pod};
use sonde_abi::settings::{KernelCounter, Offsets, Selection};
use thiserror::Error;

use super::processes::ProcessStates;
use super::ring::Ring;
use crate::kernel::{HookFamily, KernelTypes, Tracepoint, synthetic};
use crate::telemetry::{Counters, Lost, Program};

/// The object, aligned as its parser wants it. Empty where the agent was built without one.
static OBJECT: &[u8] = aya::include_bytes_aligned!(concat!(env!("OUT_DIR"), "/sonde.bpf.o"));

/// Bytes of one element of the process states.
const PROCESSES_PER_PAGE: u32 = 4096;

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

/// A program that runs, or why it does not.
#[derive(Clone, Debug)]
pub struct Attached {
    /// Name of the program.
    pub program: &'static str,
    /// Where it is attached.
    pub tracepoint: Tracepoint,
    /// Nothing can be observed without it.
    pub needed: bool,
    /// `None`: it runs.
    pub failure: Option<String>,
}

/// Programs at work. Dropping it detaches them.
pub struct Probes {
    /// What was loaded, then attached.
    pub attached: Vec<Attached>,
    /// What the agent decided about each process.
    pub processes: ProcessStates,
    counters: PerCpuArray<MapData, u64>,
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
        // Only the tracepoints' types are wanted of the kernel's BTF: a small one in its place saves 30 MB.
        let btf = Btf::parse(&synthetic::tracepoints(types), Endianness::default())
            .map_err(wrap("kernel types"))?;
        let mut loader = EbpfLoader::new();
        loader
            .verifier_log_level(log_level())
            .override_global("OFFSETS", &offsets, true)
            .override_global("SELECTION", &selection, true)
            .map_max_entries("PROCESSES", settings.selection.pid_max.div_ceil(PROCESSES_PER_PAGE));
        if settings.family == HookFamily::Lengths {
            // Its state is in socket storage.
            loader.map_max_entries("CONNS", 1);
        }
        let mut programs = loader.load(OBJECT).map_err(wrap("kernel programs"))?;
        select_ports(&mut programs, &settings.ports)?;
        let ring = Ring::new(take_map(&mut programs, "RING")?)?;
        let processes =
            ProcessStates::new(take_map(&mut programs, "PROCESSES")?, settings.selection.pid_max)?;
        let counters =
            PerCpuArray::try_from(take_map(&mut programs, "COUNTERS")?).map_err(wrap("map COUNTERS"))?;
        let mut probes = Self { attached: Vec::new(), processes, counters, programs };
        for (program, tracepoint, needed) in wanted(settings.family) {
            let outcome = probes
                .program(program)
                .and_then(|loaded| loaded.load(tracepoint.name(), &btf).map_err(chain));
            probes.note(program, tracepoint, needed, outcome)?;
        }
        Ok((probes, ring))
    }

    /// Attaches what was loaded.
    ///
    /// # Errors
    /// As in [`Self::load`].
    pub fn attach(&mut self) -> Result<(), ProbeError> {
        for Attached { program, tracepoint, needed, failure } in std::mem::take(&mut self.attached) {
            let outcome = match failure {
                Some(why) => Err(why),
                None => self.program(program).and_then(|loaded| loaded.attach().map(drop).map_err(chain)),
            };
            self.note(program, tracepoint, needed, outcome)?;
        }
        Ok(())
    }

    fn program(&mut self, name: &str) -> Result<&mut BtfTracePoint, String> {
        self.programs.program_mut(name).ok_or("not in the object")?.try_into().map_err(chain)
    }

    fn note(
        &mut self,
        program: &'static str,
        tracepoint: Tracepoint,
        needed: bool,
        outcome: Result<(), String>,
    ) -> Result<(), ProbeError> {
        let failure = outcome.err();
        if let (Some(why), true) = (&failure, needed) {
            let what = format!("program {program} at tracepoint {}", tracepoint.name()).into();
            return Err(ProbeError::Load { what, why: why.clone() });
        }
        self.attached.push(Attached { program, tracepoint, needed, failure });
        Ok(())
    }

    /// Takes over what the kernel side counted.
    pub fn read_counters(&self, counters: &Counters) {
        for (index, lost) in [
            (KernelCounter::RingFull, Lost::RingFull),
            (KernelCounter::UserFault, Lost::UserFault),
            (KernelCounter::StateFull, Lost::KernelStateFull),
            (KernelCounter::HeadTooLong, Lost::HeadTooLong),
            (KernelCounter::NoBuffer, Lost::NoBuffer),
        ] {
            counters.set_lost(lost, self.counter(index));
        }
        counters.set_programs(self.attached.iter().map(|attached| self.state(attached)).collect());
    }

    /// How a program fares. The kernel measures that only where `kernel.bpf_stats_enabled` is set.
    fn state(&self, attached: &Attached) -> Program {
        let program = self.programs.program(attached.program);
        let info = program.and_then(|program| program.info().ok());
        let (run_time, runs) = info.map_or_else(Default::default, |info| (info.run_time(), info.run_count()));
        Program {
            name: attached.program.to_owned(),
            attached: attached.failure.is_none(),
            run_nanos: u64::try_from(run_time.as_nanos()).unwrap_or(u64::MAX),
            runs,
        }
    }

    /// One counter's sum over all processors.
    #[must_use]
    pub fn counter(&self, counter: KernelCounter) -> u64 {
        self.counters.get(&(counter as u32), 0).map_or(0, |values| values.iter().sum())
    }
}

/// The programs of a family, where they go, and whether the agent is of no use without them.
fn wanted(family: HookFamily) -> Vec<(&'static str, Tracepoint, bool)> {
    let mut wanted = vec![
        ("process_exit", Tracepoint::SchedProcessExit, false),
        ("process_exec", Tracepoint::SchedProcessExec, false),
    ];
    match family {
        HookFamily::Lengths => wanted.extend([
            ("set_state_typed", Tracepoint::InetSockSetState, false),
            ("sent", Tracepoint::SockSendLength, true),
            ("received", Tracepoint::SockRecvLength, true),
        ]),
        HookFamily::Syscalls => wanted.extend([
            ("set_state_walked", Tracepoint::InetSockSetState, false),
            ("sys_exit", Tracepoint::SysExit, true),
        ]),
    }
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
    for (index, word) in words {
        map.set(index, &word, 0).map_err(wrap("map PORTS"))?;
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
