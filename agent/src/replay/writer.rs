//! Writes recordings.

use std::io::{self, BufWriter, Write};

use super::process;
use super::recording::{
    BYTE_ORDER, FRAME_BYTES, FRAME_HEAD, HEADER_BYTES, Header, Losses, MAGIC, RecordingError, VERSION, kind,
};
use crate::discover::Process;
use crate::enrich::Clock;

/// Bytes that are gathered before they are written.
const BUFFER: usize = 256 << 10;

/// Writes frames in the order in which they are given. What is buffered when the process is killed is lost, and the
/// file then ends truncated; [`Writer::finish`] closes it properly.
#[derive(Debug)]
pub struct Writer<W: Write> {
    output: BufWriter<W>,
    offset: u64,
    records: u64,
}

impl<W: Write> Writer<W> {
    /// Begins a recording.
    ///
    /// # Errors
    /// The output's, or a header of more than 64 KiB.
    pub fn new(output: W, header: &Header) -> Result<Self, RecordingError> {
        let mut writer = Self { output: BufWriter::with_capacity(BUFFER, output), offset: 0, records: 0 };
        let header = serde_json::to_vec(header).map_err(|error| writer.unwritable(error.into()))?;
        let length = u32::try_from(header.len()).ok().filter(|&length| length <= HEADER_BYTES);
        let length = length.ok_or_else(|| writer.unwritable(io::ErrorKind::FileTooLarge.into()))?;
        writer.put(&MAGIC)?;
        writer.put(&VERSION.to_le_bytes())?;
        writer.put(&[BYTE_ORDER, 0])?;
        writer.put(&length.to_le_bytes())?;
        writer.put(&header)?;
        Ok(writer)
    }

    /// A record, as it left the ring.
    ///
    /// # Errors
    /// The output's.
    pub fn record(&mut self, bytes: &[u8]) -> Result<(), RecordingError> {
        self.records += 1;
        self.frame(kind::RECORD, bytes)
    }

    /// What is known of a process from here on: before the first record that is handled with it, and whenever it changes.
    ///
    /// # Errors
    /// The output's.
    pub fn process(&mut self, process: &Process) -> Result<(), RecordingError> {
        let bytes = process::encode(process).map_err(|error| self.unwritable(error.into()))?;
        self.frame(kind::PROCESS, &bytes)
    }

    /// The clock from here on.
    ///
    /// # Errors
    /// The output's.
    pub fn clock(&mut self, clock: Clock) -> Result<(), RecordingError> {
        self.frame(kind::CLOCK, &clock.offset().to_le_bytes())
    }

    /// The pipeline was ticked with this watermark.
    ///
    /// # Errors
    /// The output's.
    pub fn tick(&mut self, watermark: u64) -> Result<(), RecordingError> {
        self.frame(kind::TICK, &watermark.to_le_bytes())
    }

    /// What the kernel side has lost in all, where that has changed.
    ///
    /// # Errors
    /// The output's.
    pub fn losses(&mut self, losses: &Losses) -> Result<(), RecordingError> {
        let Losses { until, totals } = losses;
        let totals = totals.map(u64::to_le_bytes);
        self.frame(kind::LOSSES, &[&until.to_le_bytes(), totals.as_flattened()].concat())
    }

    /// Bytes written so far, those in the buffer among them.
    #[must_use]
    pub fn offset(&self) -> u64 {
        self.offset
    }

    /// Passes on what is buffered.
    ///
    /// # Errors
    /// The output's.
    pub fn flush(&mut self) -> Result<(), RecordingError> {
        self.output.flush().map_err(|source| RecordingError::Io { offset: self.offset, source })
    }

    /// Closes the recording and returns the output.
    ///
    /// # Errors
    /// The output's.
    pub fn finish(mut self) -> Result<W, RecordingError> {
        self.frame(kind::END, &self.records.to_le_bytes())?;
        let Self { output, offset, records: _ } = self;
        output.into_inner().map_err(|error| RecordingError::Io { offset, source: error.into_error() })
    }

    fn frame(&mut self, kind: u8, bytes: &[u8]) -> Result<(), RecordingError> {
        let length = u32::try_from(bytes.len()).ok().filter(|&length| length <= FRAME_BYTES);
        let length = length.ok_or_else(|| self.unwritable(io::ErrorKind::FileTooLarge.into()))?;
        let [a, b, c, d] = length.to_le_bytes();
        let head: [u8; FRAME_HEAD] = [kind, 0, 0, 0, a, b, c, d];
        self.put(&head)?;
        self.put(bytes)
    }

    fn put(&mut self, bytes: &[u8]) -> Result<(), RecordingError> {
        self.output.write_all(bytes).map_err(|source| RecordingError::Io { offset: self.offset, source })?;
        self.offset += bytes.len() as u64;
        Ok(())
    }

    fn unwritable(&self, source: io::Error) -> RecordingError {
        RecordingError::Io { offset: self.offset, source }
    }
}
