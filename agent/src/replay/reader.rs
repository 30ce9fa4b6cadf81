//! Reads recordings, which may be cut off, broken or hostile.

use std::fmt::Display;
use std::io::{self, BufReader, Read};

use super::process;
use super::recording::{
    BYTE_ORDER, Ending, FRAME_BYTES, FRAME_HEAD, Frame, HEADER_BYTES, Header, Losses, MAGIC, PREAMBLE,
    RecordingError, VERSION, kind,
};
use crate::enrich::Clock;

/// Bytes that are read at once.
const BUFFER: usize = 256 << 10;

/// Reads frame after frame, holding one at a time.
#[derive(Debug)]
pub struct Reader<R: Read> {
    input: BufReader<R>,
    header: Header,
    /// Content of the current frame.
    content: Vec<u8>,
    /// Where the next frame begins.
    offset: u64,
    records: u64,
    ending: Ending,
}

impl<R: Read> Reader<R> {
    /// Reads what stands before the frames.
    ///
    /// # Errors
    /// Where this is no recording, or not one that this Sonde on this machine reads.
    pub fn new(input: R) -> Result<Self, RecordingError> {
        let mut input = BufReader::with_capacity(BUFFER, input);
        let mut preamble = [0; PREAMBLE];
        let read =
            fill(&mut input, &mut preamble).map_err(|source| RecordingError::Io { offset: 0, source })?;
        let Some(rest) = preamble.strip_prefix(&MAGIC) else { return Err(RecordingError::NotARecording) };
        if read < PREAMBLE {
            return Err(broken(0, &"cut off before its header"));
        }
        let &[v0, v1, order, zero, l0, l1, l2, l3] = rest else { return Err(RecordingError::NotARecording) };
        let version = u16::from_le_bytes([v0, v1]);
        if version != VERSION {
            return Err(RecordingError::Version { found: version });
        }
        if order != BYTE_ORDER {
            return Err(RecordingError::ByteOrder { found: order });
        }
        let length = u32::from_le_bytes([l0, l1, l2, l3]);
        if zero != 0 || length > HEADER_BYTES {
            return Err(broken(11, &format_args!("header of {length} bytes, {HEADER_BYTES} at most")));
        }
        let start = PREAMBLE as u64;
        let mut reader = Self {
            input,
            header: Header::default(),
            content: Vec::new(),
            offset: start,
            records: 0,
            ending: Ending::Open,
        };
        if !reader.take(length)? {
            return Err(broken(start, &"cut off in its header"));
        }
        reader.header = serde_json::from_slice(&reader.content).map_err(|error| broken(start, &error))?;
        reader.offset = start + u64::from(length);
        Ok(reader)
    }

    /// What the recording says of itself.
    #[must_use]
    pub fn header(&self) -> &Header {
        &self.header
    }

    /// How the recording ended, once [`Reader::frame`] returned `None`.
    #[must_use]
    pub fn ending(&self) -> Ending {
        self.ending
    }

    /// Records read so far.
    #[must_use]
    pub fn records(&self) -> u64 {
        self.records
    }

    /// The next frame; `None` at the end, also where the file was cut off ([`Reader::ending`]).
    ///
    /// # Errors
    /// Where the frame is none, or the file cannot be read. Nothing behind it can be read then: an error is followed by
    /// `None`.
    pub fn frame(&mut self) -> Result<Option<Frame<'_>>, RecordingError> {
        if self.ending != Ending::Open {
            return Ok(None);
        }
        let at = self.offset;
        // Holds unless the whole frame turns out to be good.
        self.ending = Ending::Truncated { offset: at };
        let mut head = [0; FRAME_HEAD];
        let read =
            fill(&mut self.input, &mut head).map_err(|source| RecordingError::Io { offset: at, source })?;
        if read < FRAME_HEAD {
            return Ok(None);
        }
        let [kind, z0, z1, z2, l0, l1, l2, l3] = head;
        let length = u32::from_le_bytes([l0, l1, l2, l3]);
        if [z0, z1, z2] != [0; 3] {
            return Err(broken(at, &"no frame begins here"));
        }
        if length > FRAME_BYTES {
            return Err(broken(at, &format_args!("frame of {length} bytes, {FRAME_BYTES} at most")));
        }
        if !(kind::RECORD..=kind::LOSSES).contains(&kind) {
            return Err(broken(at, &format_args!("frame of unknown kind {kind}")));
        }
        if !self.take(length)? {
            return Ok(None);
        }
        self.offset = at + FRAME_HEAD as u64 + u64::from(length);
        if kind == kind::END {
            return self.end(at).map(|()| None);
        }
        self.records += u64::from(kind == kind::RECORD);
        let frame = decode(kind, &self.content, at)?;
        self.ending = Ending::Open;
        Ok(Some(frame))
    }

    /// The recording's own account must agree, and nothing may follow.
    fn end(&mut self, at: u64) -> Result<(), RecordingError> {
        let count = number(&self.content, at).map(u64::from_le_bytes)?;
        if count != self.records {
            return Err(broken(
                at,
                &format_args!("{count} records were written, {} are there", self.records),
            ));
        }
        let more = fill(&mut self.input, &mut [0])
            .map_err(|source| RecordingError::Io { offset: self.offset, source })?;
        if more != 0 {
            return Err(broken(self.offset, &"bytes behind the last frame"));
        }
        self.ending = Ending::Complete;
        Ok(())
    }

    /// Reads content of a length that its caller has bounded. Memory grows with what is there, not with what is said to be.
    /// False where the file ends before.
    fn take(&mut self, length: u32) -> Result<bool, RecordingError> {
        self.content.clear();
        let mut limited = self.input.by_ref().take(u64::from(length));
        let read = limited.read_to_end(&mut self.content);
        let read = read.map_err(|source| RecordingError::Io { offset: self.offset, source })?;
        Ok(read as u64 == u64::from(length))
    }
}

fn decode(kind: u8, content: &[u8], at: u64) -> Result<Frame<'_>, RecordingError> {
    Ok(match kind {
        kind::PROCESS => {
            Frame::Process(Box::new(process::decode(content).map_err(|error| broken(at, &error))?))
        }
        kind::CLOCK => Frame::Clock(Clock::with_offset(i64::from_le_bytes(number(content, at)?))),
        kind::LOSSES => Frame::Losses(losses(content, at)?),
        kind::TICK => Frame::Tick(u64::from_le_bytes(number(content, at)?)),
        _ => Frame::Record(content),
    })
}

fn losses(content: &[u8], at: u64) -> Result<Losses, RecordingError> {
    let (numbers, rest) = content.as_chunks::<8>();
    let mut numbers = numbers.iter().map(|&bytes| u64::from_le_bytes(bytes));
    let until = numbers.next().filter(|_| rest.is_empty());
    let totals = numbers.collect::<Vec<_>>().try_into().ok();
    until
        .zip(totals)
        .map(|(until, totals)| Losses { until, totals })
        .ok_or_else(|| broken(at, &format_args!("losses of {} bytes", content.len())))
}

fn number(content: &[u8], at: u64) -> Result<[u8; 8], RecordingError> {
    content.try_into().map_err(|_| broken(at, &format_args!("number of {} bytes", content.len())))
}

fn broken(offset: u64, what: &dyn Display) -> RecordingError {
    RecordingError::Broken { offset, what: what.to_string() }
}

/// Reads until the buffer is full or the input ends; returns how much was read.
fn fill(input: &mut impl Read, buffer: &mut [u8]) -> io::Result<usize> {
    let mut filled = 0;
    while let Some(rest) = buffer.get_mut(filled..).filter(|rest| !rest.is_empty()) {
        match input.read(rest) {
            Ok(0) => break,
            Ok(read) => filled += read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(filled)
}
