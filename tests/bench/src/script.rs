//! A recording in memory, to be run again and again as if the same had happened on other connections later.

use std::fs::File;
use std::ops::Range;
use std::path::Path;

use anyhow::{Context, Result};
use sonde::discover::Process;
use sonde::enrich::Clock;
use sonde::replay::{Frame, Header, Reader};
use sonde_abi::{ChunkHeader, LifeHeader, Record};

/// Quiet between two repetitions, in nanoseconds: nothing waits longer for its other end.
const PAUSE: u64 = 1_000_000_000;

/// One thing that the reader of the ring does.
#[derive(Clone, Debug)]
pub(crate) enum Step {
    /// Takes the record that stands there in [`Script::bytes`].
    Record(Range<usize>),
    /// Ticks the pipeline with its watermark.
    Tick(u64),
}

/// The recording.
pub(crate) struct Script {
    pub(crate) header: Header,
    pub(crate) processes: Vec<Process>,
    pub(crate) steps: Vec<Step>,
    pub(crate) bytes: Vec<u8>,
    /// Time that one repetition takes, in nanoseconds of the recording.
    length: u64,
}

impl Script {
    /// Reads all of a recording.
    pub(crate) fn read(path: &Path) -> Result<Self> {
        let file = File::open(path).with_context(|| path.display().to_string())?;
        let mut reader = Reader::new(file)?;
        let header = reader.header().clone();
        let (mut processes, mut steps, mut bytes) = (Vec::new(), Vec::new(), Vec::new());
        while let Some(frame) = reader.frame()? {
            match frame {
                Frame::Record(record) => {
                    let start = bytes.len();
                    bytes.extend_from_slice(record);
                    steps.push(Step::Record(start..bytes.len()));
                }
                Frame::Process(process) => processes.push(*process),
                Frame::Tick(watermark) => steps.push(Step::Tick(watermark)),
                Frame::Clock(_) | Frame::Losses(_) => {}
            }
        }
        let last = steps.iter().rev().find_map(|step| match step {
            Step::Tick(watermark) => Some(*watermark),
            Step::Record(_) => None,
        });
        let length = last.context("a recording without a tick")?.saturating_sub(header.started) + PAUSE;
        Ok(Self { header, processes, steps, bytes, length })
    }

    /// How the recording's clock stands to the calendar.
    pub(crate) fn clock(&self) -> Clock {
        Clock::with_offset(self.header.clock_offset)
    }

    /// Records in it.
    pub(crate) fn records(&self) -> usize {
        self.steps.iter().filter(|step| matches!(step, Step::Record(_))).count()
    }

    /// Ends of connections that are seen in its first half.
    pub(crate) fn ends(&self) -> usize {
        let steps = self.steps.iter().take(self.steps.len() / 2);
        let ends: std::collections::BTreeSet<u64> = steps
            .filter_map(|step| {
                let Step::Record(range) = step else { return None };
                match Record::decode(self.bytes.get(range.clone())?) {
                    Ok(Record::Chunk(header, _)) => Some(header.sock),
                    _ => None,
                }
            })
            .collect();
        ends.len()
    }

    /// Makes the next repetition of it: later, at other sockets, with other first sequence numbers, by which connections
    /// and their two ends are known. Both ends of a connection change alike.
    pub(crate) fn advance(&mut self) {
        let Self { steps, bytes, length, .. } = self;
        for step in steps {
            match step {
                Step::Tick(watermark) => *watermark += *length,
                Step::Record(range) => {
                    if let Some(record) = bytes.get_mut(range.clone()) {
                        shift(record, *length);
                    }
                }
            }
        }
    }
}

fn shift(bytes: &mut [u8], time: u64) {
    /// Far from one another, and from their neighbours' after as many repetitions as anybody has patience for.
    const SOCK: u64 = 1 << 40;
    const SEQUENCE: u32 = 0x9e37_79b1;
    match Record::decode(bytes) {
        Ok(Record::Chunk(mut header, _)) => {
            header.time_ns += time;
            header.sock = header.sock.wrapping_add(SOCK);
            header.first_local = header.first_local.wrapping_add(SEQUENCE);
            header.first_peer = header.first_peer.wrapping_add(SEQUENCE);
            if let Some(place) = bytes.first_chunk_mut::<{ ChunkHeader::LEN }>() {
                *place = *header.as_bytes();
            }
        }
        Ok(Record::Life(mut header, _)) => {
            header.time_ns += time;
            header.sock = header.sock.wrapping_add(SOCK);
            header.first_local = header.first_local.wrapping_add(SEQUENCE);
            header.first_peer = header.first_peer.wrapping_add(SEQUENCE);
            if let Some(place) = bytes.first_chunk_mut::<{ LifeHeader::LEN }>() {
                *place = *header.as_bytes();
            }
        }
        Err(_) => {}
    }
}
