//! What `run` and `record` share: programs attached, the ring read on a thread of its own, ended by a signal.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, mpsc};
use std::thread;
use std::time::Duration;

use sonde_abi::settings::Selection;
use sonde_abi::{LifeEvent, LifeHeader, ProcessState, Record};
use tracing::{error, info, warn};

use super::reload::Follow;
use super::{Failure, features};
use crate::config::Targets;
use crate::conn::Nanos;
use crate::discover::{Decision, Process, Processes, Starts};
use crate::enrich::{Clock, Host};
use crate::kernel::{Features, HookChoice, HookFamily, KernelTypes, choose_hooks};
use crate::pipeline::Pipeline;
use crate::policy::Policy;
use crate::probe::{ProbeError, Probes, Ring, Settings};
use crate::replay::{KERNEL_LOSSES, Losses};
use crate::telemetry::{Counters, Lost};

/// The reader comes by itself after this time while there is something to read: the bound on the delay of a record.
const BUSY_WAIT: Duration = Duration::from_millis(10);

/// The same while there is nothing.
const IDLE_WAIT: Duration = Duration::from_millis(100);

/// Nice value of the reader's thread: it does not take more time than otherwise, but takes it when it is due. The ring holds
/// what a busy node sends in a few hundredths of a second.
const PRIORITY: i32 = -15;

/// Records that are read before the pipeline is ticked and the outputs are served. A full ring holds ten times as many: their
/// spans, made in one go, would be the most memory that the agent ever takes.
const BATCH: usize = 512;

/// A record can be stamped this long before it is in the ring.
const IN_FLIGHT: Nanos = 1_000_000;

/// How often the clock is read again, and processes are looked at that may have turned out otherwise.
const HOUSEKEEPING: Nanos = 1_000_000_000;

/// What to do with what comes out, on the reader's thread.
pub(super) trait Tap: Send {
    /// The pipeline knows more of a process from here on.
    fn process(&mut self, process: &Process);
    /// A record, before the pipeline takes it.
    fn record(&mut self, bytes: &[u8]);
    /// What the kernel side has lost in all, where that has changed.
    fn losses(&mut self, losses: &Losses);
    /// The clock, from here on.
    fn clock(&mut self, clock: Clock);
    /// The pipeline was ticked; what it has made may be taken.
    fn ticked(&mut self, watermark: Nanos, pipeline: &mut Pipeline);
}

/// A run that has been set up.
pub(super) struct Live {
    /// The hook family at work.
    pub(super) family: HookFamily,
    pub(super) counters: Arc<Counters>,
    pub(super) kernel: String,
    pub(super) host: String,
    pub(super) clock: Clock,
    pipeline: Pipeline,
    probes: Probes,
    ring: Ring,
}

impl Live {
    /// Loads what the kernel will run. Where targets may change later, of whatever kind, programs are loaded for every kind.
    pub(super) fn load(
        kernel: Kernel,
        targets: &Targets,
        may_change: bool,
        counters: Arc<Counters>,
    ) -> Result<Self, Failure> {
        let Kernel { features, types, family, perf_events } = kernel;
        let host = Host::read();
        let host_name = host.name.clone();
        let selection = Selection {
            by_port: u32::from(may_change || !targets.ports.is_empty()),
            by_process: u32::from(may_change || targets.is_everything() || targets.selects_processes()),
            own_tgid: std::process::id(),
            pid_max: features.pid_max,
        };
        let ports = targets.ports.each().collect();
        let (mut probes, ring) = Probes::load(&types, &Settings { family, perf_events, selection, ports })?;
        drop(types);
        probes.processes.set(std::process::id(), ProcessState::Excluded);
        let clock = Clock::sample();
        let mut processes = Processes::new(targets.clone(), host);
        if let Some(starts) = probes.starts.take() {
            processes = processes.with_starts(Starts::new(move |tgid| starts.of(tgid)));
        }
        let seed = clock.unix(Clock::monotonic()) ^ u64::from(std::process::id()).rotate_left(40);
        let pipeline = Pipeline::new(processes, targets.ports.clone(), clock, seed, Arc::clone(&counters));
        Ok(Self {
            family,
            counters,
            kernel: features.release,
            host: host_name,
            clock,
            pipeline,
            probes,
            ring,
        })
    }

    /// Follows a policy from here on.
    pub(super) fn follow(&mut self, policy: Policy) {
        self.pipeline.set_policy(policy);
    }

    /// Reads the ring until a signal comes, then hands out what is left. Returns the tap. `reload` is called at each
    /// SIGHUP with what makes the reader follow another policy.
    pub(super) fn run<T: Tap + 'static>(
        self,
        tap: T,
        mut reload: impl FnMut(&mut dyn FnMut(Follow)),
    ) -> Result<T, Failure> {
        let system = |what| move |source| Failure::System { what, source };
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_io()
            .build()
            .map_err(system("cannot wait for signals"))?;
        let ending = Arc::new(AtomicBool::new(false));
        let (hooks, counters) = (self.family.name(), Arc::clone(&self.counters));
        let (attached, when_attached) = mpsc::sync_channel(1);
        let (follow, to_follow) = mpsc::sync_channel(0);
        let (done, when_done) = mpsc::sync_channel(0);
        let reader = Reader {
            live: self,
            tap,
            ending: Arc::clone(&ending),
            to_follow,
            done,
            next_housekeeping: 0,
            attached: 0,
            losses: Losses::default(),
        };
        let _guard = runtime.enter();
        let mut signals = Signals::new().map_err(system("cannot wait for signals"))?;
        let reader = thread::Builder::new()
            .name("sonde-reader".into())
            .spawn(move || reader.run(&attached))
            .map_err(system("cannot start a thread"))?;
        match when_attached.recv() {
            Ok(Ok(())) => {
                counters.observing.store(true, Ordering::Relaxed);
                info!(hooks, "sonde is observing");
            }
            Ok(Err(why)) => return Err(why.into()),
            Err(_) => return Err(reader_failed()),
        }
        let _ = sd_notify::notify(&[sd_notify::NotifyState::Ready]);
        while runtime.block_on(signals.next()) == Signal::Reload {
            // Returns when the reader follows, which is there until the end is asked for.
            reload(&mut |what| {
                let _ = follow.send(what).is_ok_and(|()| when_done.recv().is_ok());
            });
        }
        let _ = sd_notify::notify(&[sd_notify::NotifyState::Stopping]);
        ending.store(true, Ordering::Relaxed);
        // The second signal ends at once, whatever the outputs wait for.
        thread::Builder::new()
            .name("sonde-signals".into())
            .spawn(move || {
                while runtime.block_on(signals.next()) == Signal::Reload {}
                std::process::exit(130);
            })
            .map_err(system("cannot start a thread"))?;
        reader.join().map_err(|_| reader_failed())
    }
}

fn reader_failed() -> Failure {
    Failure::System {
        what: "the reader of the ring failed (please report)",
        source: std::io::Error::other("panic"),
    }
}

/// What this kernel can, and what of that will be used.
pub(super) struct Kernel {
    features: Features,
    types: KernelTypes,
    family: HookFamily,
    perf_events: bool,
}

impl Kernel {
    /// Finds out; refuses where nothing can be observed.
    pub(super) fn look(hooks: HookChoice) -> Result<Self, Failure> {
        let mut features = features();
        let chosen = choose_hooks(hooks, &features)?;
        for concern in features.concerns() {
            warn!("{concern}");
        }
        for (family, why) in &chosen.passed_over {
            info!("not using the better hooks {family}: {why}");
        }
        // Asked of the types, which are taken out below.
        let perf_events = features.wants_perf_events();
        let types = std::mem::replace(&mut features.types, Err(String::new())).map_err(|why| {
            Failure::System { what: "the kernel's types", source: std::io::Error::other(why) }
        })?;
        Ok(Self { features, types, family: chosen.family, perf_events })
    }
}

/// What a signal asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Signal {
    End,
    Reload,
}

/// SIGTERM, SIGINT and SIGHUP.
struct Signals {
    hangup: tokio::signal::unix::Signal,
    terminate: tokio::signal::unix::Signal,
    interrupt: tokio::signal::unix::Signal,
}

impl Signals {
    fn new() -> std::io::Result<Self> {
        use tokio::signal::unix::{SignalKind, signal};
        Ok(Self {
            hangup: signal(SignalKind::hangup())?,
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
        })
    }

    async fn next(&mut self) -> Signal {
        tokio::select! {
            _ = self.hangup.recv() => Signal::Reload,
            _ = self.terminate.recv() => Signal::End,
            _ = self.interrupt.recv() => Signal::End,
        }
    }
}

/// The thread that reads the ring and runs the pipeline.
struct Reader<T> {
    live: Live,
    tap: T,
    ending: Arc<AtomicBool>,
    to_follow: mpsc::Receiver<Follow>,
    /// Something is followed from here on.
    done: mpsc::SyncSender<()>,
    next_housekeeping: Nanos,
    /// When all programs had been attached.
    attached: Nanos,
    losses: Losses,
}

impl<T: Tap> Reader<T> {
    /// Attaches, says how that went, and reads until the end is asked for. From the first program on the ring fills, so it is
    /// read at once.
    fn run(mut self, attached: &mpsc::SyncSender<Result<(), ProbeError>>) -> T {
        let mut wait = BUSY_WAIT;
        // Busy processors are where there is most to read, and a full ring loses it. Without the privilege it goes on as it is.
        let _ = rustix::process::setpriority_process(None, PRIORITY);
        self.tap.clock(self.live.clock);
        if let Err(why) = self.live.probes.attach() {
            let _ = attached.send(Err(why));
            return self.tap;
        }
        self.attached = Clock::monotonic();
        for attached in self.live.probes.attached.iter().filter(|attached| attached.failure.is_some()) {
            let why = attached.failure.as_deref().unwrap_or_default();
            warn!(program = attached.program, why, "not attached: {}", attached.without.unwrap_or_default());
        }
        self.drain();
        crate::probe::release_memory();
        let _ = attached.send(Ok(()));
        loop {
            let ending = self.ending.load(Ordering::Relaxed);
            if let Ok(Follow { policy, targets }) = self.to_follow.try_recv() {
                self.live.pipeline.set_policy(policy);
                targets.into_iter().for_each(|targets| self.observe(targets));
                // Nobody waits where the end came in between.
                let _ = self.done.send(());
            }
            if !ending {
                self.live.ring.wait(wait);
            }
            let taken = self.drain();
            wait = if taken > 0 { BUSY_WAIT } else { (wait * 2).min(IDLE_WAIT) };
            if ending && taken < BATCH {
                break;
            }
        }
        self.ask_programs();
        self.count_losses();
        self.live.pipeline.finish();
        self.tap.ticked(Nanos::MAX, &mut self.live.pipeline);
        self.tap
    }

    /// Observes others from here on.
    fn observe(&mut self, targets: Targets) {
        let Live { pipeline, probes, .. } = &mut self.live;
        if let Err(why) = probes.select_ports(&targets.ports.each().collect::<Vec<_>>()) {
            error!("the ports to observe stay as they were: {why}");
        }
        let (changed, strangers) = pipeline.set_targets(targets);
        for process in changed {
            decide(probes, &process);
            self.tap.process(&process);
        }
        // What was decided of them was forgotten: they are looked at again when they say something.
        for tgid in strangers {
            probes.processes.set(tgid, ProcessState::Unknown);
        }
    }

    /// Takes what waits in the ring, a batch at most.
    fn drain(&mut self) -> usize {
        let before = Clock::monotonic();
        let Live { pipeline, ring, probes, .. } = &mut self.live;
        let (tap, attached) = (&mut self.tap, self.attached);
        let mut newest = 0;
        let taken = ring.drain(BATCH, |bytes| {
            let Some(record) = pipeline.decode(bytes) else { return };
            let header = begun_between(&record, attached);
            let (record, bytes) = header
                .as_ref()
                .map_or((record, bytes), |header| (Record::Life(*header, &[]), header.as_bytes()));
            if let Some(process) = pipeline.meet(&record) {
                decide(probes, &process);
                tap.process(&process);
            }
            if let Record::Chunk(header, _) = &record {
                newest = header.time_ns;
            }
            if pipeline.wants(&record) {
                tap.record(bytes);
                pipeline.record(&record);
            }
        });
        // A full batch leaves records in the ring: what is known is known up to the last one taken.
        let reached = if taken < BATCH { before } else { newest };
        let watermark = reached.saturating_sub(IN_FLIGHT);
        // Where records are missing, parents are chosen with more care: so that is known before the tick decides.
        self.count_losses();
        self.live.pipeline.tick(watermark);
        self.tap.ticked(watermark, &mut self.live.pipeline);
        if before >= self.next_housekeeping {
            self.keep_house(before);
        }
        taken
    }

    /// Takes over all that the kernel side counts.
    fn count_losses(&mut self) {
        let Live { probes, counters, .. } = &self.live;
        probes.read_counters(counters);
        let losses =
            Losses { until: Clock::monotonic(), totals: KERNEL_LOSSES.map(|why| counters.lost(why)) };
        if std::mem::replace(&mut self.losses, losses).totals != losses.totals {
            self.tap.losses(&losses);
            self.live.pipeline.lost(losses.until);
        }
    }

    /// How the programs fare, and what they log.
    fn ask_programs(&mut self) {
        let Live { probes, counters, .. } = &mut self.live;
        #[cfg(feature = "log")]
        probes.pass_on_log();
        counters.set_lost(Lost::ProgramSkipped, probes.skipped());
        probes.read_programs(counters);
    }

    fn keep_house(&mut self, now: Nanos) {
        self.next_housekeeping = now + HOUSEKEEPING;
        self.ask_programs();
        let Live { pipeline, probes, clock, .. } = &mut self.live;
        for process in pipeline.recheck(now) {
            decide(probes, &process);
            self.tap.process(&process);
        }
        *clock = Clock::sample();
        pipeline.set_clock(*clock);
        self.tap.clock(*clock);
    }
}

/// The opening of a connection that was told while programs were attached one after the other, so that what went the other way went
/// unseen for a while: where its bytes begin is not known then.
fn begun_between(record: &Record<'_>, attached: Nanos) -> Option<LifeHeader> {
    match record {
        Record::Life(header, _) if header.event() == Some(LifeEvent::Open) && header.time_ns < attached => {
            Some(LifeHeader { written: u64::MAX, read: u64::MAX, ..*header })
        }
        _ => None,
    }
}

/// Tells the kernel side what was decided.
fn decide(probes: &Probes, process: &Process) {
    let state = match process.decision {
        Decision::Observed => ProcessState::Observed,
        Decision::Excluded(_) => ProcessState::Excluded,
    };
    probes.processes.set(process.id.tgid, state);
}
