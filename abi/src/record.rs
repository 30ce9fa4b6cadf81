//! The records of the ring: a fixed header, then payload. Numbers are in the machine's byte order, since both ends of
//! the ring are on one machine; a recording states its order in its own header.

use core::mem::size_of;

/// First byte of every record.
#[repr(u8)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RecordKind {
    /// [`ChunkHeader`], then payload.
    Chunk = 1,
    /// [`LifeHeader`], then for [`LifeEvent::UnixName`] the path.
    Life = 2,
}

/// Which way bytes moved, seen from the process that made the call.
#[repr(u8)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Direction {
    /// From the process into the socket.
    Write = 0,
    /// From the socket into the process.
    Read = 1,
}

impl Direction {
    /// The other one.
    #[must_use]
    pub const fn opposite(self) -> Self {
        match self {
            Self::Write => Self::Read,
            Self::Read => Self::Write,
        }
    }
}

/// Which end of the connection this process holds.
#[repr(u8)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Role {
    /// Called connect.
    Client = 1,
    /// Accepted.
    Server = 2,
}

/// Address family of a socket.
#[repr(u8)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Family {
    /// Unix stream socket: `peer` holds the address of the other end's `struct sock` in its first eight bytes.
    Unix = 1,
    /// IPv4: the first four bytes of `local` and `peer`, in network order.
    Inet4 = 2,
    /// IPv6: all sixteen bytes.
    Inet6 = 10,
}

/// Bits of [`ChunkHeader::flags`].
pub mod flags {
    /// First chunk of a process that the agent has not decided about.
    pub const NEW_PROCESS: u16 = 1;
    /// `position`, `first_local` and `first_peer` are valid (a TCP socket whose fields this kernel shows, or a unix socket).
    pub const POSITION: u16 = 2;
    /// The connection is older than the first chunk: positions are relative to it. Captures alone say so: of TCP the kernel knows the
    /// position, and of a unix socket nobody knows that it is older.
    pub const LATE: u16 = 4;
    /// More records of the same call follow, which move the bytes right behind this chunk's.
    pub const CONTINUES: u16 = 8;
    /// The call's buffer could not be read (no user buffer, or a fault).
    pub const NO_BUFFER: u16 = 16;
    /// `tail` holds the last eight bytes of the chunk.
    pub const TAIL: u16 = 64;
    /// End of stream: a read returned 0.
    pub const END: u16 = 128;
    /// The payload is made of [`super::Part`]s: the chunk stands for one at each of their places.
    pub const PARTS: u16 = 512;
    /// Beside [`NEW_PROCESS`]: forked by the process that a [`super::LifeEvent::Forked`] named, and no other program since.
    pub const FORKED: u16 = 256;
}

/// Bits of [`LifeHeader::flags`].
pub mod life_flags {
    /// The process has read all that the other end will ever send.
    pub const READ_ALL: u16 = 1;
}

/// What one call moved in one direction of one connection; `captured` payload bytes follow, the first of the chunk.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ChunkHeader {
    /// [`RecordKind::Chunk`].
    pub kind: u8,
    /// [`Direction`].
    pub direction: u8,
    /// Bits of [`flags`].
    pub flags: u16,
    /// Payload bytes that follow, at most [`crate::limits::LARGE_PIECE`].
    pub captured: u32,
    /// `CLOCK_MONOTONIC` in nanoseconds at the end of the call.
    pub time_ns: u64,
    /// Address of the kernel's `struct sock`.
    pub sock: u64,
    /// Bytes that this direction carried before this chunk. On the end that called connect, the write position counts
    /// the SYN: it is one higher than the other end sees it.
    pub position: u64,
    /// Bytes that the call moved.
    pub length: u32,
    /// Reads: microseconds from the kernel's last stamp of the connection to `time_ns`, 0 if unknown. The read itself sets that
    /// stamp anew (`tcp_rcv_space_adjust`), so it is not what the bytes waited.
    pub queued_us: u32,
    /// Thread group (process) id in the initial pid namespace.
    pub tgid: u32,
    /// Thread id in the initial pid namespace.
    pub tid: u32,
    /// First sequence number that this end sent (TCP), or its socket's inode number (unix).
    pub first_local: u32,
    /// First sequence number that the other end sent (TCP); 0 for unix.
    pub first_peer: u32,
    /// Own port, host order; 0 for unix.
    pub local_port: u16,
    /// The other end's port, host order; 0 for unix.
    pub peer_port: u16,
    /// [`Family`].
    pub family: u8,
    /// [`Role`], 0 unknown.
    pub role: u8,
    /// Zero.
    pub reserved: u16,
    /// The last bytes of the chunk where [`flags::TAIL`] says so.
    pub tail: [u8; 8],
    /// Own address, as [`Family`] says.
    pub local: [u8; 16],
    /// The other end's address, as [`Family`] says.
    pub peer: [u8; 16],
}

/// A piece of a chunk whose bytes were copied here and there, as it stands in the payload.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Part {
    /// Where in the chunk its bytes stand. Everything up to the next part, or the chunk's end, belongs to it.
    pub offset: u32,
    /// How many bytes were copied.
    pub captured: u32,
    /// They come first.
    pub bytes: [u8; 16],
}

impl Part {
    /// Bytes of each in the payload.
    pub const LEN: usize = size_of::<Self>();
}

/// What happened to a connection besides bytes.
#[repr(u8)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LifeEvent {
    /// The connection's first chunk follows; sent then, so that silent connections cost nothing. Where the process was seen to
    /// call connect, `time_ns`, `tgid` and `tid` are those of the call, else the ids are 0. Chunks begin at `written` and `read`: what
    /// stands before that was not sent. Where another thread's call was under way, its chunk may begin before that too. Not sent
    /// of a connection that was accepted and whose first byte the first chunk moves. The agent says `u64::MAX` where it cannot tell.
    Open = 1,
    /// This end has sent its FIN: it will write no more. `written` and `read` say how far each direction had come.
    Finished = 2,
    /// The connection is gone; `error` is `sk_err` (104 for a reset), `written` and `read` as above.
    Closed = 3,
    /// `length` bytes of the unix socket's path follow ('@' stands for the zero byte of an abstract name).
    UnixName = 4,
    /// No connection's event: the process `first_peer` forked the process `tgid`. Sent for processes that are sent
    /// themselves, since the child may be gone before anybody looks at it.
    Forked = 5,
}

/// A connection's event; for [`LifeEvent::UnixName`] `length` bytes follow.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LifeHeader {
    /// [`RecordKind::Life`].
    pub kind: u8,
    /// [`LifeEvent`].
    pub event: u8,
    /// Error number, 0 none.
    pub error: u16,
    /// Bytes that follow, at most [`crate::limits::UNIX_PATH`].
    pub length: u16,
    /// Bits of [`life_flags`].
    pub flags: u16,
    /// `CLOCK_MONOTONIC` in nanoseconds.
    pub time_ns: u64,
    /// Address of the kernel's `struct sock`.
    pub sock: u64,
    /// As in [`ChunkHeader`].
    pub first_local: u32,
    /// As in [`ChunkHeader`].
    pub first_peer: u32,
    /// Process, 0 where the event came outside one.
    pub tgid: u32,
    /// Thread, 0 where the event came outside one.
    pub tid: u32,
    /// Position behind the last byte that the process wrote, as [`ChunkHeader::position`] counts; 0 where it is not told. A call
    /// that is under way may have it that its own chunk is sent later.
    pub written: u64,
    /// The same of what the process read (not of what came and was never read).
    pub read: u64,
}

/// One record, borrowed from the ring or from a recording.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Record<'a> {
    /// Bytes that moved.
    Chunk(ChunkHeader, &'a [u8]),
    /// A connection's event and its name, if it carries one.
    Life(LifeHeader, &'a [u8]),
}

/// Why bytes are not a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DecodeError {
    /// Shorter than its header, or than the header says.
    Short {
        /// Bytes needed.
        needed: usize,
        /// Bytes present.
        present: usize,
    },
    /// The first byte names no [`RecordKind`].
    UnknownKind(u8),
    /// A field holds a number that has no meaning there.
    BadField {
        /// The field's name.
        field: &'static str,
        /// What it holds.
        value: u32,
    },
}

impl core::fmt::Display for DecodeError {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self {
            Self::Short { needed, present } => write!(f, "record of {present} bytes, {needed} needed"),
            Self::UnknownKind(kind) => write!(f, "record of unknown kind {kind}"),
            Self::BadField { field, value } => write!(f, "record whose {field} is {value}"),
        }
    }
}

impl core::error::Error for DecodeError {}

impl ChunkHeader {
    /// Bytes of the header.
    pub const LEN: usize = size_of::<Self>();

    /// The direction, `None` where the byte has no meaning.
    #[must_use]
    pub const fn direction(&self) -> Option<Direction> {
        match self.direction {
            0 => Some(Direction::Write),
            1 => Some(Direction::Read),
            _ => None,
        }
    }

    /// The role, where it is known.
    #[must_use]
    pub const fn role(&self) -> Option<Role> {
        match self.role {
            1 => Some(Role::Client),
            2 => Some(Role::Server),
            _ => None,
        }
    }

    /// The family, `None` where the byte has no meaning.
    #[must_use]
    pub const fn family(&self) -> Option<Family> {
        match self.family {
            1 => Some(Family::Unix),
            2 => Some(Family::Inet4),
            10 => Some(Family::Inet6),
            _ => None,
        }
    }

    /// The chunks that a record stands for: itself, or with [`flags::PARTS`] one for each part, in order, up to the first whose
    /// numbers have no meaning.
    pub fn chunks<'a>(&'a self, payload: &'a [u8]) -> impl Iterator<Item = (Self, &'a [u8])> {
        let made_of_parts = self.flags & flags::PARTS != 0;
        let whole = (!made_of_parts).then_some((*self, payload));
        let parts = if made_of_parts { payload } else { &[] };
        whole.into_iter().chain((0..parts.len() / Part::LEN).map_while(move |i| self.part(parts, i)))
    }

    /// One part as a chunk of its own, `None` where its numbers have no meaning.
    fn part<'a>(&self, parts: &'a [u8], i: usize) -> Option<(Self, &'a [u8])> {
        let from = parts.get(i * Part::LEN..)?;
        let (part, behind): (Part, _) = split(from).ok()?;
        let next = split::<Part>(behind).map_or(self.length, |(next, _)| next.offset);
        let length = next.checked_sub(part.offset).filter(|length| next <= self.length && *length > 0)?;
        let bytes = from.get(size_of::<[u32; 2]>()..Part::LEN)?.get(..part.captured as usize)?;
        let goes_on = if next < self.length { flags::CONTINUES } else { 0 };
        let chunk = Self {
            flags: self.flags & !flags::PARTS | goes_on,
            captured: part.captured,
            position: self.position.wrapping_add(u64::from(part.offset)),
            length,
            ..*self
        };
        (part.captured <= length).then_some((chunk, bytes))
    }

    /// The header as it stands in the ring.
    #[expect(unsafe_code, reason = "a view of plain integers as bytes, for recordings and tests")]
    #[must_use]
    pub fn as_bytes(&self) -> &[u8; Self::LEN] {
        // SAFETY: `repr(C)` of integers only, laid out without padding (checked below), so every byte is initialised;
        // the borrow keeps the header alive, and `u8` has no alignment.
        unsafe { &*core::ptr::from_ref(self).cast() }
    }
}

impl LifeHeader {
    /// Bytes of the header.
    pub const LEN: usize = size_of::<Self>();

    /// The event, `None` where the byte has no meaning.
    #[must_use]
    pub const fn event(&self) -> Option<LifeEvent> {
        match self.event {
            1 => Some(LifeEvent::Open),
            2 => Some(LifeEvent::Finished),
            3 => Some(LifeEvent::Closed),
            4 => Some(LifeEvent::UnixName),
            5 => Some(LifeEvent::Forked),
            _ => None,
        }
    }

    /// The header as it stands in the ring.
    #[expect(unsafe_code, reason = "a view of plain integers as bytes, for recordings and tests")]
    #[must_use]
    pub fn as_bytes(&self) -> &[u8; Self::LEN] {
        // SAFETY: as in `ChunkHeader::as_bytes`.
        unsafe { &*core::ptr::from_ref(self).cast() }
    }
}

// No padding: the sizes are the sums of the fields.
const _: () = assert!(ChunkHeader::LEN == 104 && LifeHeader::LEN == 56 && Part::LEN == 24);

impl<'a> Record<'a> {
    /// Reads one record. Bytes behind it are ignored (the kernel side reserves by size class).
    ///
    /// # Errors
    /// [`DecodeError`] where the bytes are too few or a field has no meaning; the record is then lost, and counted.
    pub fn decode(bytes: &'a [u8]) -> Result<Self, DecodeError> {
        match bytes.first() {
            Some(1) => Self::decode_chunk(bytes),
            Some(2) => Self::decode_life(bytes),
            Some(&kind) => Err(DecodeError::UnknownKind(kind)),
            None => Err(DecodeError::Short { needed: 1, present: 0 }),
        }
    }

    fn decode_chunk(bytes: &'a [u8]) -> Result<Self, DecodeError> {
        let (header, rest): (ChunkHeader, _) = split(bytes)?;
        check("direction", header.direction().is_some(), u32::from(header.direction))?;
        check("family", header.family().is_some(), u32::from(header.family))?;
        check("role", header.role <= 2, u32::from(header.role))?;
        let parts = header.flags & flags::PARTS != 0;
        check("captured", parts || header.captured <= header.length, header.captured)?;
        Ok(Self::Chunk(header, take(rest, header.captured)?))
    }

    fn decode_life(bytes: &'a [u8]) -> Result<Self, DecodeError> {
        let (header, rest): (LifeHeader, _) = split(bytes)?;
        check("event", header.event().is_some(), u32::from(header.event))?;
        Ok(Self::Life(header, take(rest, u32::from(header.length))?))
    }
}

/// Types that any bytes are a value of.
///
/// # Safety
/// Implementors are `repr(C)` structs of integers without padding.
#[expect(unsafe_code, reason = "the marker that `split` relies on")]
unsafe trait Plain: Copy {}
#[expect(unsafe_code, reason = "integers only")]
// SAFETY: integers and arrays of integers, no padding (checked above).
unsafe impl Plain for ChunkHeader {}
#[expect(unsafe_code, reason = "integers only")]
// SAFETY: as above.
unsafe impl Plain for LifeHeader {}
#[expect(unsafe_code, reason = "integers only")]
// SAFETY: as above.
unsafe impl Plain for Part {}

#[expect(unsafe_code, reason = "reads a header where it stands; field by field costs a tenth of the decoder")]
fn split<T: Plain>(bytes: &[u8]) -> Result<(T, &[u8]), DecodeError> {
    let short = DecodeError::Short { needed: size_of::<T>(), present: bytes.len() };
    let (head, rest) = bytes.split_at_checked(size_of::<T>()).ok_or(short)?;
    // SAFETY: `head` has exactly the size of `T`, the read is unaligned, and any bytes are a `T` (`Plain`).
    Ok((unsafe { head.as_ptr().cast::<T>().read_unaligned() }, rest))
}

fn take(bytes: &[u8], length: u32) -> Result<&[u8], DecodeError> {
    let needed = length as usize;
    bytes.get(..needed).ok_or(DecodeError::Short { needed, present: bytes.len() })
}

fn check(field: &'static str, holds: bool, value: u32) -> Result<(), DecodeError> {
    if holds { Ok(()) } else { Err(DecodeError::BadField { field, value }) }
}

#[cfg(test)]
mod tests {
    extern crate std;
    use super::*;
    use std::vec::Vec;

    fn parts(of: &[(u32, &[u8])]) -> Vec<u8> {
        let mut payload = Vec::new();
        for (offset, bytes) in of {
            payload.extend(offset.to_ne_bytes());
            payload.extend((bytes.len() as u32).to_ne_bytes());
            payload.extend_from_slice(bytes);
            payload.resize(payload.len().next_multiple_of(Part::LEN), 0xee);
        }
        payload
    }

    fn read(length: u32, payload: &[u8]) -> Vec<(u64, u32, u16, Vec<u8>)> {
        let header = ChunkHeader { position: 1000, length, flags: flags::PARTS, ..ChunkHeader::default() };
        let chunks = header.chunks(payload);
        chunks.map(|(chunk, bytes)| (chunk.position, chunk.length, chunk.flags, bytes.to_vec())).collect()
    }

    #[test]
    fn parts_are_chunks() {
        let payload = parts(&[(0, b"header"), (300, b"12345"), (16_000, b"x")]);
        let expected = [
            (1000, 300, flags::CONTINUES, b"header".to_vec()),
            (1300, 15_700, flags::CONTINUES, b"12345".to_vec()),
            (17_000, 4000, 0, b"x".to_vec()),
        ];
        assert_eq!(read(20_000, &payload), expected);
        // What is behind the last whole part is none.
        assert_eq!(read(20_000, &[payload.as_slice(), &[1; 23]].concat()), expected);
        let whole = ChunkHeader { position: 7, length: 9, ..ChunkHeader::default() };
        assert_eq!(whole.chunks(b"abc").collect::<Vec<_>>(), [(whole, &b"abc"[..])]);
    }

    #[test]
    fn parts_that_make_no_sense_end_it() {
        let first = (1000, 10, flags::CONTINUES, b"a".to_vec());
        for bad in [(10, &b"b"[..]), (5, b"b"), (2000, b"b")] {
            let payload = parts(&[(0, b"a"), (10, b"b"), bad, (50, b"c")]);
            assert_eq!(read(100, &payload).first(), Some(&first));
            assert_eq!(read(100, &payload).len(), 1, "{bad:?}");
        }
        // More bytes than there are up to the next one, or than a part holds.
        assert_eq!(read(100, &parts(&[(0, b"abc"), (2, b"d")])), []);
        let mut long = parts(&[(0, b"a")]);
        long[4] = 17;
        assert_eq!(read(100, &long), []);
    }
}
