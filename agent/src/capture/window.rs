//! The part of a file that is looked at: read in large pieces, parsed where it stands.

use std::io::{self, ErrorKind, Read};

/// Bytes that are read at once, and room for most packets without moving any.
const CAPACITY: usize = 256 << 10;

/// A sliding view of an input.
#[derive(Debug)]
pub(super) struct Window<R> {
    input: R,
    buffer: Vec<u8>,
    start: usize,
    end: usize,
    /// Of `start`, from the beginning of the input.
    offset: u64,
    /// A packed file ended before its content did.
    cut: bool,
}

impl<R: Read> Window<R> {
    pub(super) fn new(input: R) -> Self {
        Self { input, buffer: vec![0; CAPACITY], start: 0, end: 0, offset: 0, cut: false }
    }

    /// Where the next byte stands.
    pub(super) const fn offset(&self) -> u64 {
        self.offset
    }

    /// Tries to have `count` bytes at hand; false where the input ends before. Memory grows with what is there, not with
    /// what is asked for.
    pub(super) fn has(&mut self, count: usize) -> io::Result<bool> {
        while self.end - self.start < count {
            if self.start > 0 {
                self.buffer.copy_within(self.start..self.end, 0);
                self.end -= self.start;
                self.start = 0;
            }
            if self.end == self.buffer.len() {
                self.buffer.resize(2 * self.buffer.len(), 0);
            }
            let room = self.buffer.get_mut(self.end..).unwrap_or_default();
            match self.input.read(room) {
                Ok(0) => return Ok(false),
                Ok(read) => self.end += read,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                // What a decompressor says where its input was cut off.
                Err(error) if error.kind() == ErrorKind::UnexpectedEof => {
                    self.cut = true;
                    return Ok(false);
                }
                Err(error) => return Err(error),
            }
        }
        Ok(true)
    }

    /// The input ends here as it should.
    pub(super) fn is_over(&self) -> bool {
        self.at_hand().is_empty() && !self.cut
    }

    /// What is at hand, as long as nothing more is read.
    pub(super) fn at_hand(&self) -> &[u8] {
        self.buffer.get(self.start..self.end).unwrap_or_default()
    }

    /// The next `N` bytes, which [`Window::has`] has found.
    pub(super) fn peek<const N: usize>(&self) -> [u8; N] {
        self.at_hand().first_chunk().copied().unwrap_or([0; N])
    }

    /// Goes on by bytes that are at hand. Returns where they stand in [`Window::taken`].
    pub(super) fn take(&mut self, count: usize) -> (usize, usize) {
        let end = (self.start + count).min(self.end);
        let taken = (self.start, end);
        self.offset += (end - self.start) as u64;
        self.start = end;
        taken
    }

    /// Bytes taken last.
    pub(super) fn taken(&self, (start, end): (usize, usize)) -> &[u8] {
        self.buffer.get(start..end).unwrap_or_default()
    }

    /// Goes on by any number of bytes; false where the input ends before.
    pub(super) fn skip(&mut self, mut count: u64) -> io::Result<bool> {
        while count > 0 {
            let step = usize::try_from(count).unwrap_or(CAPACITY).min(CAPACITY);
            let whole = self.has(step)?;
            let (start, end) = self.take(step);
            if !whole {
                return Ok(false);
            }
            count -= (end - start) as u64;
        }
        Ok(true)
    }
}
