//! Standard output or a file, and what happens when it cannot be written.

use std::fs::{File, OpenOptions};
use std::io::{self, IsTerminal, Write};
use std::os::fd::AsFd;
use std::path::Path;
use std::time::Instant;

use super::ledger::Ledger;
use crate::telemetry::{Lost, Seldom};

/// A place to write lines to. A failure costs the spans of that write, is said once a minute at most, and does not end the
/// output: a full disk has room again some day.
#[derive(Debug)]
pub(super) struct Sink {
    file: File,
    name: String,
    failing: bool,
    warned: Seldom,
    /// Trouble was said and its end was not.
    said: bool,
    /// The last write ended within a line.
    torn: bool,
}

impl Sink {
    /// Standard output, and whether it is a terminal.
    pub(super) fn stdout() -> io::Result<(Self, bool)> {
        let stdout = io::stdout();
        // A descriptor of our own: without the buffer and the lock of `Stdout`.
        let file = File::from(stdout.as_fd().try_clone_to_owned()?);
        Ok((Self::new(file, "standard output".to_owned()), stdout.is_terminal()))
    }

    /// The end of a file, which is created where it is missing.
    pub(super) fn append(path: &Path) -> io::Result<Self> {
        let file = OpenOptions::new().create(true).append(true).open(path)?;
        Ok(Self::new(file, path.display().to_string()))
    }

    pub(super) fn new(file: File, name: String) -> Self {
        Self { file, name, failing: false, warned: Seldom::default(), said: false, torn: false }
    }

    /// Writes whole lines that stand for `spans` spans, and settles those.
    pub(super) fn write(&mut self, lines: &[u8], spans: u64, ledger: &Ledger) {
        match self.write_lines(lines) {
            Ok(()) => {
                self.failing = false;
                if std::mem::take(&mut self.said) {
                    tracing::info!("{} can be written again", self.name);
                }
                ledger.written(spans);
            }
            Err(error) => {
                if !std::mem::replace(&mut self.failing, true) && self.warned.again(Instant::now()) {
                    self.said = true;
                    let reason = Lost::OutputFailed.reason();
                    tracing::error!(
                        "cannot write to {}: {error}; its spans are lost and counted as {reason}",
                        self.name
                    );
                }
                ledger.lost(spans);
            }
        }
    }

    fn write_lines(&mut self, lines: &[u8]) -> io::Result<()> {
        if self.torn {
            // So that the next line is whole again.
            self.file.write_all(b"\n")?;
            self.torn = false;
        }
        let mut rest = lines;
        while !rest.is_empty() {
            match self.file.write(rest) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(n) => {
                    self.torn = !matches!(n.checked_sub(1).and_then(|last| rest.get(last)), Some(b'\n'));
                    rest = rest.get(n..).unwrap_or_default();
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
}
