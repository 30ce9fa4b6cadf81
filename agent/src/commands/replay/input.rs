//! A file to replay: what it is, and its bytes, unpacked where they are packed.

use std::fs::File;
use std::io::{self, BufReader, Cursor, ErrorKind, Read};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use flate2::read::MultiGzDecoder;

use crate::capture;
use crate::replay::recording;

/// Bytes that tell what a file is.
const START: usize = 8;

/// Bytes that are unpacked from at once.
const BUFFER: usize = 256 << 10;

/// What a file holds, by its first bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Recording,
    Capture,
    Unknown([u8; START], usize),
}

/// An open file.
pub(super) struct Input {
    pub(super) kind: Kind,
    pub(super) bytes: Box<dyn Read>,
    /// Bytes of the file as it is that were read so far.
    pub(super) read: Arc<AtomicU64>,
    /// How many there are; 0 where that is not known (a pipe).
    pub(super) total: u64,
}

impl Input {
    pub(super) fn open(path: &Path) -> io::Result<Self> {
        let file = File::open(path)?;
        let total = file.metadata().map_or(0, |metadata| if metadata.is_file() { metadata.len() } else { 0 });
        let read = Arc::new(AtomicU64::new(0));
        let counted = Counted { input: file, read: Arc::clone(&read) };
        let (start, length, bytes) = peek(counted)?;
        let packed = start.starts_with(&[0x1F, 0x8B]);
        if !packed {
            return Ok(Self { kind: kind(start, length), bytes: Box::new(bytes), read, total });
        }
        let unpacked = MultiGzDecoder::new(BufReader::with_capacity(BUFFER, bytes));
        let (start, length, bytes) = peek(unpacked)?;
        Ok(Self { kind: kind(start, length), bytes: Box::new(bytes), read, total })
    }
}

/// Why a file of neither kind is not replayed.
pub(super) fn unknown(start: [u8; START], length: usize) -> String {
    let start = start.get(..length).unwrap_or_default();
    let packed = match start {
        [0x28, 0xB5, 0x2F, 0xFD, ..] => Some("zstd"),
        [0xFD, b'7', b'z', b'X', b'Z', ..] => Some("xz"),
        [0x04, 0x22, 0x4D, 0x18, ..] => Some("lz4"),
        [b'B', b'Z', b'h', ..] => Some("bzip2"),
        _ => None,
    };
    match packed {
        Some(by) => format!("packed by {by}: unpack it first (only gzip is unpacked here)"),
        None if start.is_empty() => "the file is empty".to_owned(),
        None => format!(
            "neither a recording of Sonde (it does not begin with SONDEREC) nor a pcap or pcapng capture: it begins with {start:02x?}"
        ),
    }
}

fn kind(start: [u8; START], length: usize) -> Kind {
    if start == recording::MAGIC {
        Kind::Recording
    } else if capture::is_capture(start.get(..length).unwrap_or_default()) {
        Kind::Capture
    } else {
        Kind::Unknown(start, length)
    }
}

/// Reads the first bytes and puts them back.
fn peek<R: Read>(mut input: R) -> io::Result<([u8; START], usize, impl Read)> {
    let mut start = Vec::with_capacity(START);
    match input.by_ref().take(START as u64).read_to_end(&mut start) {
        // Packed, and cut off.
        Err(error) if error.kind() == ErrorKind::UnexpectedEof => {}
        read => drop(read?),
    }
    let mut first = [0; START];
    for (byte, of) in first.iter_mut().zip(&start) {
        *byte = *of;
    }
    let length = start.len();
    Ok((first, length, Cursor::new(start).chain(input)))
}

/// Counts what is read.
struct Counted<R> {
    input: R,
    read: Arc<AtomicU64>,
}

impl<R: Read> Read for Counted<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.input.read(buffer)?;
        self.read.fetch_add(read as u64, Ordering::Relaxed);
        Ok(read)
    }
}

/// Ends where a packed file was cut off, as a file that is not packed does: what it lacks shows by its own account.
pub(super) struct CutOff<R>(pub(super) R);

impl<R: Read> Read for CutOff<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self.0.read(buffer) {
            Err(error) if error.kind() == ErrorKind::UnexpectedEof => Ok(0),
            read => read,
        }
    }
}
