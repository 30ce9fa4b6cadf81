//! Bodies: counted, never kept. Bytes that were not captured are skipped by arithmetic, so that a body of any length
//! costs a few words of state. RFC 9112, sections 6 and 7.

use memchr::{memchr, memmem};
use sonde_abi::sniff::{self, Start};

use super::half::Before;
use crate::conn::{Segment, Stamp};
use crate::proto::grpc::web;

/// The unread part of a segment.
#[derive(Clone, Copy, Debug)]
pub(super) struct Piece<'a> {
    /// Position of the first unread byte in its direction.
    pub(super) position: u64,
    /// Captured bytes.
    pub(super) bytes: &'a [u8],
    /// Bytes behind them that were not captured.
    pub(super) rest: u64,
    /// The last eight bytes of all, where they were captured apart.
    tail: Option<[u8; 8]>,
    /// The call that moved them.
    pub(super) stamp: Stamp,
    /// Nothing of the segment has been read yet.
    pub(super) whole: bool,
    /// What moved before the segment.
    pub(super) before: Before,
}

impl<'a> Piece<'a> {
    pub(super) fn of(segment: &Segment<'a>, before: Before) -> Self {
        Self {
            position: segment.position,
            bytes: segment.bytes,
            rest: segment.length.saturating_sub(segment.bytes.len() as u64),
            tail: segment.tail,
            stamp: segment.stamp,
            whole: true,
            before,
        }
    }

    pub(super) fn left(&self) -> u64 {
        self.bytes.len() as u64 + self.rest
    }

    /// Reads over `n` bytes, captured or not.
    pub(super) fn skip(&mut self, n: u64) {
        let captured = n.min(self.bytes.len() as u64);
        // Bounded by the slice's own length.
        self.bytes = self.bytes.get(captured as usize..).unwrap_or_default();
        self.rest = self.rest.saturating_sub(n - captured);
        self.position += n;
        self.whole = false;
    }

    pub(super) fn skip_all(&mut self) {
        self.skip(self.left());
    }

    /// What the captured bytes look like as the start of a message.
    pub(super) fn sniff(&self) -> Start {
        sniff_bytes(self.bytes)
    }
}

/// What `bytes` look like as the start of a message.
pub(super) fn sniff_bytes(bytes: &[u8]) -> Start {
    sniff::http1_bytes(bytes)
}

/// A body being read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Body {
    /// That many bytes are to come.
    Length(u64),
    /// Chunked coding whose framing was seen so far.
    Chunked(Chunked),
    /// Chunked coding whose framing was not captured or makes no sense. It ends with the last chunk's bytes, seen at the
    /// end of a call, or where something else begins. Holds the last eight bytes seen.
    Terminator([u8; 8]),
    /// Everything until the connection closes.
    Close,
    /// Framing unknown: ends where something else begins.
    Unknown,
}

/// Where in the chunked coding the next byte stands. RFC 9112, section 7.1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Chunked {
    /// In a chunk's size: its value and the digits read.
    Size(u64, u8),
    /// Behind the size, before the end of that line (chunk extensions).
    Extension(u64),
    /// In a chunk's content, of which so much is left.
    Content(u64),
    /// In the line end behind a chunk's content.
    ContentEnd,
    /// At the start of a line of the trailer section.
    TrailerStart,
    /// In a line of the trailer section.
    Trailer,
}

/// What is known of a body's size.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Size {
    /// Bytes of content seen, as far as the framing was known.
    pub(super) seen: u64,
    /// Some were not counted, or bytes of framing were.
    pub(super) inexact: bool,
}

impl Size {
    pub(super) fn known(self) -> Option<u64> {
        (!self.inexact).then_some(self.seen)
    }
}

/// What is taken of a body's content: how long it is, and where it is of gRPC-Web, what that says.
#[derive(Debug, Default)]
pub(super) struct Content {
    pub(super) size: Size,
    pub(super) web: Option<Box<web::Reader>>,
}

impl Content {
    /// Takes the next `n` bytes of a piece.
    fn take(&mut self, piece: &mut Piece<'_>, n: u64) {
        self.size.seen += n;
        if let Some(web) = &mut self.web {
            // Bounded by the slice's own length.
            let captured = n.min(piece.bytes.len() as u64);
            web.feed(piece.bytes.get(..captured as usize).unwrap_or_default());
            web.skip(n - captured);
        }
        piece.skip(n);
    }

    /// The next `n` bytes went unseen.
    fn miss(&mut self, n: u64) {
        self.size.seen += n;
        if let Some(web) = &mut self.web {
            web.skip(n);
        }
    }

    /// Some bytes were not counted, or bytes of framing were.
    pub(super) fn lose(&mut self) {
        self.size.inexact = true;
        if let Some(web) = &mut self.web {
            web.lose();
        }
    }
}

/// Ends a chunked body without trailers, at a line start: the last eight bytes of most of them end so.
const LAST_CHUNK: &[u8] = b"\r\n0\r\n\r\n";

/// Where nothing is known but that a line begins.
const LINE_START: &[u8; 8] = b"\0\0\0\0\0\0\r\n";

impl Body {
    /// A chunked body at its start.
    pub(super) const CHUNKED: Self = Self::Chunked(Chunked::Size(0, 0));

    /// Reads as much of the piece as belongs to the body; true where its end was found.
    pub(super) fn read(&mut self, piece: &mut Piece<'_>, content: &mut Content) -> bool {
        match self {
            Self::Length(left) => {
                let n = piece.left().min(*left);
                *left -= n;
                content.take(piece, n);
                *left == 0
            }
            Self::Chunked(state) => match state.read(piece, content) {
                Progress::Ended => true,
                Progress::More => false,
                Progress::Lost => {
                    content.lose();
                    let at_line = matches!(state, Chunked::Size(_, 0));
                    *self = Self::Terminator(if at_line { *LINE_START } else { [0; 8] });
                    self.read(piece, content)
                }
            },
            Self::Terminator(window) => read_terminator(window, piece),
            Self::Close | Self::Unknown => {
                content.take(piece, piece.left());
                false
            }
        }
    }

    /// `n` bytes went unseen. True where they lay inside the body and its end was not among them; else the body is left
    /// in a state that does not need them.
    pub(super) fn gap(&mut self, n: u64, content: &mut Content) -> bool {
        match self {
            Self::Length(left) if n < *left => {
                *left -= n;
                content.miss(n);
                true
            }
            Self::Chunked(Chunked::Content(left)) if n < *left => {
                *left -= n;
                content.miss(n);
                true
            }
            Self::Close => {
                content.miss(n);
                true
            }
            Self::Chunked(_) | Self::Terminator(_) => {
                content.lose();
                *self = Self::Terminator([0; 8]);
                false
            }
            Self::Length(_) | Self::Unknown => {
                if let Some(web) = &mut content.web {
                    web.lose();
                }
                false
            }
        }
    }

    /// The connection may end here without breaking it off. A chunked body ends with an empty line: where its last bytes were
    /// seen and are others, it is not over.
    pub(super) fn may_be_over(&self) -> bool {
        match self {
            // Zeros stand for what was not seen.
            // Two empty lines end none: an event of a stream does, and the chunk that brings it.
            Self::Terminator([.., z, a, b, c, d]) => {
                [*a, *b, *c, *d] == *b"\r\n\r\n" && *z != b'\n' || [a, b, c, d].contains(&&0)
            }
            Self::Unknown => true,
            Self::Length(_) | Self::Chunked(_) | Self::Close => false,
        }
    }

    /// Ends where something else begins: the next message of the same direction is looked for at each call's start.
    pub(super) fn is_open_ended(&self) -> bool {
        matches!(self, Self::Terminator(_) | Self::Unknown)
    }
}

enum Progress {
    Ended,
    More,
    Lost,
}

impl Chunked {
    fn read(&mut self, piece: &mut Piece<'_>, content: &mut Content) -> Progress {
        while piece.left() > 0 {
            if let Self::Content(left) = self {
                if let Some(progress) = whole_chunk(*left, piece, content) {
                    return self.after_content(progress, piece);
                }
                let n = piece.left().min(*left);
                content.take(piece, n);
                *self = if n == *left { Self::ContentEnd } else { Self::Content(*left - n) };
                continue;
            }
            let Some(&byte) = piece.bytes.first() else { return Progress::Lost };
            if matches!(self, Self::Extension(_) | Self::Trailer) && byte != b'\n' {
                skip_in_line(piece);
                continue;
            }
            let next = match (*self, byte) {
                (Self::Size(value, digits), _) if byte.is_ascii_hexdigit() => {
                    // Leading zeros count as digits: 16 are enough for any size.
                    let digit = char::from(byte).to_digit(16).map_or(0, u64::from);
                    (digits < 16).then_some(Self::Size(value << 4 | digit, digits + 1))
                }
                (Self::Size(_, 0), _) => None,
                (Self::Size(value, _) | Self::Extension(value), b'\n') => {
                    Some(if value == 0 { Self::TrailerStart } else { Self::Content(value) })
                }
                (Self::Size(value, _), b'\r' | b';' | b' ' | b'\t') => Some(Self::Extension(value)),
                (Self::Size(..), _) => None,
                (Self::ContentEnd, b'\r') => Some(Self::ContentEnd),
                (Self::ContentEnd, b'\n') => Some(Self::Size(0, 0)),
                (Self::ContentEnd, _) => None,
                (Self::TrailerStart, b'\n') => {
                    piece.skip(1);
                    return Progress::Ended;
                }
                (Self::Trailer, b'\n') | (Self::TrailerStart, b'\r') => Some(Self::TrailerStart),
                (Self::TrailerStart, _) => Some(Self::Trailer),
                (same @ (Self::Extension(_) | Self::Trailer | Self::Content(_)), _) => Some(same),
            };
            let Some(next) = next else { return Progress::Lost };
            *self = next;
            piece.skip(1);
        }
        Progress::More
    }

    fn after_content(&mut self, progress: Progress, piece: &mut Piece<'_>) -> Progress {
        piece.skip_all();
        *self = Self::Size(0, 0);
        progress
    }
}

/// The usual shape of a large chunk: one call moved its content, uncaptured, and its line end, perhaps with the last
/// chunk behind. The tail proves it, and the sum stays exact.
fn whole_chunk(left: u64, piece: &mut Piece<'_>, content: &mut Content) -> Option<Progress> {
    let tail = piece.tail?;
    let behind = piece.left().checked_sub(left)?;
    if piece.rest < behind || piece.rest == 0 {
        return None;
    }
    let progress = match behind {
        2 if tail.ends_with(b"\r\n") => Progress::More,
        7 if tail.ends_with(LAST_CHUNK) => Progress::Ended,
        _ => return None,
    };
    content.take(piece, left);
    Some(progress)
}

/// Reads up to the line end, which stays.
fn skip_in_line(piece: &mut Piece<'_>) {
    let n = memchr(b'\n', piece.bytes).unwrap_or(piece.bytes.len());
    piece.skip(n as u64);
}

fn read_terminator(window: &mut [u8; 8], piece: &mut Piece<'_>) -> bool {
    // Inside the captured bytes the last chunk counts only where the next message stands right behind it.
    for at in memmem::find_iter(piece.bytes, LAST_CHUNK) {
        let after = piece.bytes.get(at + LAST_CHUNK.len()..).unwrap_or_default();
        if matches!(sniff_bytes(after), Start::Request | Start::Response) {
            piece.skip((at + LAST_CHUNK.len()) as u64);
            return true;
        }
    }
    // A call that writes the last chunk alone, where it is not known what came before.
    let alone = piece.whole && piece.rest == 0 && piece.bytes == LAST_CHUNK.get(2..).unwrap_or_default();
    let tail = piece.tail.unwrap_or([0; 8]);
    let new = if piece.rest > 0 { tail.as_slice() } else { piece.bytes };
    // A call of fewer than eight bytes has a tail as short.
    let fresh = new.len().min(8).min(piece.left().min(8) as usize);
    let new = new.get(new.len() - fresh..).unwrap_or_default();
    window.rotate_left(new.len());
    for (to, from) in window.iter_mut().rev().zip(new.iter().rev()) {
        *to = *from;
    }
    piece.skip_all();
    alone || window.ends_with(LAST_CHUNK)
}
