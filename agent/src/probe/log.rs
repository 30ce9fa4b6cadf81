//! What the kernel programs log, where both they and the agent were built with `cargo xtask build --log`.

use aya::Ebpf;
use aya_log::EbpfLogger;
use log::{Level, Log, Metadata, Record};
use tracing::warn;

/// The programs' log.
pub(super) struct ProgramLog(EbpfLogger<ToTracing>);

impl ProgramLog {
    /// Takes the log's map out of the object; `None` where the programs were built without it.
    pub(super) fn of(programs: &mut Ebpf) -> Option<Self> {
        match EbpfLogger::init_with_logger(programs, ToTracing) {
            Ok(logger) => Some(Self(logger)),
            Err(why) => {
                warn!("the kernel programs do not log: {why}");
                None
            }
        }
    }

    /// Passes on what has come since.
    pub(super) fn pass_on(&mut self) {
        self.0.flush();
    }
}

/// Hands records of the `log` crate, which aya-log makes, to `tracing`, which the agent logs with.
struct ToTracing;

impl Log for ToTracing {
    fn enabled(&self, _: &Metadata<'_>) -> bool {
        true
    }

    fn log(&self, record: &Record<'_>) {
        let said = record.args();
        match record.level() {
            Level::Error => tracing::error!(target: "sonde::kernel", "{said}"),
            Level::Warn => tracing::warn!(target: "sonde::kernel", "{said}"),
            Level::Info => tracing::info!(target: "sonde::kernel", "{said}"),
            Level::Debug => tracing::debug!(target: "sonde::kernel", "{said}"),
            Level::Trace => tracing::trace!(target: "sonde::kernel", "{said}"),
        }
    }

    fn flush(&self) {}
}
