//! Loads the object, tells the programs about this kernel and what is wanted, and attaches them.

use std::borrow::Cow;
use std::os::fd::{AsFd, AsRawFd};

use aya::maps::{Array, MapData, ProgramArray};
use aya::programs::{BtfTracePoint, FExit, Program, TracePoint};
use aya::util::nr_cpus;
use aya::{Btf, Ebpf, EbpfLoader, Endianness, Pod};
use sonde_abi::settings::{Offsets, Selection};

use super::counters::KernelCounters;
use super::error::{ProbeError, chain, wrap};
use super::processes::{IDS_PER_PAGE, ProcessStates};
use super::programs::{PAIR, Place, wanted};
use super::ring::Ring;
use super::starts::ProcessStarts;
use crate::kernel::{HookFamily, KernelTypes, synthetic};
use crate::telemetry::{Counters, ProgramState};

/// The object, aligned as its parser wants it. Empty where the agent was built without one.
static OBJECT: &[u8] = aya::include_bytes_aligned!(concat!(env!("OUT_DIR"), "/sonde.bpf.o"));

/// Why a program or a map is none.
const MISSING: &str = "not in the object";

/// What the programs are told.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Which calls are hooked.
    pub family: HookFamily,
    /// Calls are hooked through perf events.
    pub perf_events: bool,
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
    counters: KernelCounters,
    /// Arrays of programs, which are emptied when their last descriptors are closed.
    calls: Vec<ProgramArray<MapData>>,
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
        let wanted = wanted(settings.family, settings.perf_events);
        let asked_for = |function: &str| wanted.iter().any(|(_, place, _)| *place.name() == *function);
        let btf = Btf::parse(&synthetic::names(types, asked_for), Endianness::default())
            .map_err(wrap("kernel types"))?;
        let pages = settings.selection.pid_max.div_ceil(IDS_PER_PAGE);
        let processors = nr_cpus().map_err(|(file, why)| ProbeError::Load {
            what: Cow::Owned(format!("number of processors ({file})")),
            why: why.to_string(),
        })?;
        let mut loader = EbpfLoader::new();
        loader
            .verifier_log_level(log_level())
            .override_global("OFFSETS", &offsets, true)
            .override_global("SELECTION", &selection, true)
            .map_max_entries("PROCESSES", pages)
            .map_max_entries("COUNTERS", processors.get());
        if settings.family == HookFamily::Lengths && !settings.perf_events {
            // Its state is in socket storage.
            loader.map_max_entries("CONNS", 1);
        }
        let mut programs = loader.load(OBJECT).map_err(wrap("kernel programs"))?;
        select_ports(&mut programs, &settings.ports, true)?;
        let ring = Ring::new(take_map(&mut programs, "RING")?)?;
        let processes =
            ProcessStates::new(take_map(&mut programs, "PROCESSES")?, settings.selection.pid_max)?;
        let starts = Some(ProcessStarts::new(take_map(&mut programs, "STARTS")?)?);
        let counters = KernelCounters::new(take_map(&mut programs, "COUNTERS")?, processors.get())?;
        #[cfg(feature = "log")]
        let log = super::log::ProgramLog::of(&mut programs);
        let mut probes = Self {
            attached: Vec::new(),
            processes,
            starts,
            counters,
            calls: Vec::new(),
            #[cfg(feature = "log")]
            log,
            programs,
        };
        for (program, place, without) in wanted {
            let outcome = match place {
                Place::At(tracepoint) | Place::Called(tracepoint, _) => probes
                    .program::<BtfTracePoint>(program)
                    .and_then(|loaded| loaded.load(tracepoint.name(), &btf).map_err(chain)),
                Place::Event(_) | Place::CalledByEvent(..) => {
                    probes.program::<TracePoint>(program).and_then(|loaded| loaded.load().map_err(chain))
                }
                Place::After(function) => probes
                    .program::<FExit>(program)
                    .and_then(|loaded| loaded.load(function, &btf).map_err(chain)),
            };
            probes.note(program, place, without, outcome)?;
        }
        if settings.family == HookFamily::Syscalls {
            // It calls itself, once for each message of a call that moves several.
            let program = if settings.perf_events { "sys_exit_perf" } else { "sys_exit" };
            probes
                .link(program, "NEXT_MESSAGE")
                .map_err(|why| ProbeError::Load { what: "map NEXT_MESSAGE".into(), why })?;
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
                (None, Place::Event(tracepoint)) => self.program::<TracePoint>(program).and_then(|loaded| {
                    loaded.attach(tracepoint.category(), tracepoint.name()).map(drop).map_err(chain)
                }),
                (None, Place::After(_)) => {
                    self.program::<FExit>(program).and_then(|loaded| loaded.attach().map(drop).map_err(chain))
                }
                (None, Place::Called(_, array) | Place::CalledByEvent(_, array)) => self.link(program, array),
            };
            self.note(program, place, without, outcome)?;
        }
        Ok(())
    }

    /// Lets programs call this one, by the first element of an array.
    fn link(&mut self, program: &str, array: &'static str) -> Result<(), String> {
        let map = take_map(&mut self.programs, array).map_err(chain)?;
        let mut map = ProgramArray::try_from(map).map_err(chain)?;
        let program = self.programs.program(program).ok_or(MISSING)?;
        map.set(0, program.fd().map_err(chain)?, 0).map_err(chain)?;
        self.calls.push(map);
        Ok(())
    }

    fn program<'a, P>(&'a mut self, name: &str) -> Result<&'a mut P, String>
    where
        &'a mut P: TryFrom<&'a mut Program, Error: std::error::Error>,
    {
        self.programs.program_mut(name).ok_or(MISSING)?.try_into().map_err(chain)
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
        select_ports(&mut self.programs, ports, false)
    }

    /// Passes on what the programs have logged.
    #[cfg(feature = "log")]
    pub fn pass_on_log(&mut self) {
        if let Some(log) = &mut self.log {
            log.pass_on();
        }
    }

    /// Takes over all that the kernel side counted.
    pub fn read_counters(&self, counters: &Counters) {
        self.counters.pass_on(counters);
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

    /// How often the kernel did not run one of the programs, in whose place no other one did its work: a tracepoint's programs
    /// while one of them was running on that processor, or (since 7.0) put aside; those of perf events while another such
    /// program was running there, or a process was changing a map. Kernels since 5.12 say so of the first, those since 6.7 of
    /// the second; 0 before.
    #[must_use]
    pub fn skipped(&self) -> u64 {
        let mut sum = 0;
        let mut pair = [None; PAIR.len()];
        for (name, program) in self.programs.programs() {
            let Ok(fd) = program.fd() else { continue };
            let path = format!("/proc/self/fdinfo/{}", fd.as_fd().as_raw_fd());
            let misses = std::fs::read_to_string(path).ok().and_then(|fdinfo| skipped(&fdinfo)).unwrap_or(0);
            match PAIR.iter().position(|one| *one == name).and_then(|index| pair.get_mut(index)) {
                Some(one) => *one = Some(misses),
                None => sum += misses,
            }
        }
        sum + pair.into_iter().flatten().min().unwrap_or(0)
    }
}

/// What a program's `fdinfo` says of it.
fn skipped(fdinfo: &str) -> Option<u64> {
    fdinfo.lines().find_map(|line| line.strip_prefix("recursion_misses:"))?.trim().parse().ok()
}

/// Selects ports, where `is_new` in a map that has none yet.
fn select_ports(programs: &mut Ebpf, ports: &[u16], is_new: bool) -> Result<(), ProbeError> {
    // Borrowed, not taken: the programs hold its descriptor, which must stay open until they are loaded.
    let map = programs.map_mut("PORTS").ok_or_else(|| missing("PORTS"))?;
    let mut map: Array<_, u64> = Array::try_from(map).map_err(wrap("map PORTS"))?;
    let mut words = std::collections::BTreeMap::<u32, u64>::new();
    if !is_new {
        words.extend((0..map.len()).map(|index| (index, 0)));
    }
    for port in ports {
        *words.entry(u32::from(port >> 6)).or_default() |= 1 << (port & 63);
    }
    for (index, word) in words {
        if is_new || map.get(&index, 0).map_err(wrap("map PORTS"))? != word {
            map.set(index, &word, 0).map_err(wrap("map PORTS"))?;
        }
    }
    Ok(())
}

fn take_map(programs: &mut Ebpf, name: &'static str) -> Result<aya::maps::Map, ProbeError> {
    programs.take_map(name).ok_or_else(|| missing(name))
}

fn missing(name: &'static str) -> ProbeError {
    ProbeError::Load { what: name.into(), why: MISSING.into() }
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
