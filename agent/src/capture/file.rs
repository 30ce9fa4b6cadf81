//! Packets out of a capture file, which may be cut off, broken or hostile. Our own reader, since a user should hear at
//! which byte a file is broken, and a file that is cut off or holds unknown blocks is read as far as it makes sense.

use std::fmt::Display;
use std::io::{self, Read};

use super::window::Window;
use super::{Ending, pcap, pcapng};

/// Bytes that a packet may have been captured with: what tcpdump and Wireshark write at most.
pub(super) const PACKET_BYTES: u32 = 256 << 10;

/// A packet as the file holds it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Packet<'a> {
    /// When it was captured, in nanoseconds since the epoch; `None` where the file does not say.
    pub time: Option<u64>,
    /// Link type (`LINKTYPE_...` of tcpdump.org).
    pub link: u16,
    /// What was captured of it.
    pub bytes: &'a [u8],
    /// How long it was on the wire; at least as many bytes.
    pub length: u32,
}

/// Why a file is no capture, or no longer one from an offset on (in bytes from the start of the uncompressed file).
#[derive(Debug, thiserror::Error)]
pub enum CaptureError {
    /// Something else altogether.
    #[error("not a capture: it begins neither like pcap nor like pcapng")]
    NotACapture,
    /// Content that means nothing.
    #[error("capture broken at byte {offset}: {what}")]
    Broken {
        /// Where the packet, block or field begins.
        offset: u64,
        /// What is wrong with it.
        what: String,
    },
    /// The file could not be read.
    #[error("capture, at byte {offset}: {source}")]
    Io {
        /// Where.
        offset: u64,
        /// Why.
        source: io::Error,
    },
}

/// Reads packet after packet, holding one at a time.
#[derive(Debug)]
pub struct Packets<R> {
    window: Window<R>,
    format: Format,
    ending: Ending,
}

#[derive(Debug)]
enum Format {
    Pcap(pcap::Header),
    Pcapng(pcapng::Section),
}

/// What a reader of one of the formats found.
#[derive(Clone, Copy, Debug)]
pub(super) enum Found {
    Packet(Outline),
    /// A block without a packet.
    Other,
    /// Nothing follows.
    End,
    /// The file ends within what stands here.
    Cut,
}

/// A packet without its bytes.
#[derive(Clone, Copy, Debug)]
pub(super) struct Outline {
    pub(super) time: Option<u64>,
    pub(super) link: u16,
    /// Where [`Window::taken`] has them.
    pub(super) bytes: (usize, usize),
    pub(super) length: u32,
}

/// Whether a file begins like pcap or pcapng.
#[must_use]
pub fn is_capture(start: &[u8]) -> bool {
    start.first_chunk().is_some_and(|&magic| pcapng::is_section(magic) || pcap::order(magic).is_some())
}

impl<R: Read> Packets<R> {
    /// Reads what stands before the packets.
    ///
    /// # Errors
    /// Where this is no capture that Sonde reads, or its header is broken.
    pub fn new(input: R) -> Result<Self, CaptureError> {
        let mut window = Window::new(input);
        if !has(&mut window, 4)? {
            return Err(CaptureError::NotACapture);
        }
        let magic = window.peek();
        let format = if pcapng::is_section(magic) {
            Format::Pcapng(pcapng::Section::default())
        } else {
            Format::Pcap(pcap::Header::read(&mut window)?)
        };
        Ok(Self { window, format, ending: Ending::Open })
    }

    /// Bytes read so far, uncompressed.
    #[must_use]
    pub const fn offset(&self) -> u64 {
        self.window.offset()
    }

    /// How the file ended, once [`Packets::packet`] returned `None`.
    #[must_use]
    pub const fn ending(&self) -> Ending {
        self.ending
    }

    /// The next packet; `None` at the end, also where the file was cut off ([`Packets::ending`]).
    ///
    /// # Errors
    /// Where no packet or block stands, or the file cannot be read. Nothing behind it can be read then: an error is
    /// followed by `None`.
    pub fn packet(&mut self) -> Result<Option<Packet<'_>>, CaptureError> {
        if self.ending != Ending::Open {
            return Ok(None);
        }
        let outline = loop {
            let at = self.window.offset();
            // Holds unless the whole of it turns out to be good.
            self.ending = Ending::Truncated { offset: at };
            let found = match &mut self.format {
                Format::Pcap(header) => header.next(&mut self.window)?,
                Format::Pcapng(section) => section.next(&mut self.window)?,
            };
            match found {
                Found::Packet(outline) => break outline,
                Found::Other => {}
                Found::End => {
                    self.ending = Ending::Complete;
                    return Ok(None);
                }
                Found::Cut => return Ok(None),
            }
        };
        self.ending = Ending::Open;
        let Outline { time, link, bytes, length } = outline;
        let bytes = self.window.taken(bytes);
        let captured = u32::try_from(bytes.len()).unwrap_or(u32::MAX);
        Ok(Some(Packet { time, link, bytes, length: length.max(captured) }))
    }
}

pub(super) fn has<R: Read>(window: &mut Window<R>, count: usize) -> Result<bool, CaptureError> {
    window.has(count).map_err(|source| CaptureError::Io { offset: window.offset(), source })
}

pub(super) fn broken(offset: u64, what: &dyn Display) -> CaptureError {
    CaptureError::Broken { offset, what: what.to_string() }
}
