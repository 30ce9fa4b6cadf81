//! From a packet to the TCP segment in it: IPv4 (RFC 791) with options, IPv6 (RFC 8200) with extension headers, fragments of
//! both. Checksums are not looked at: they are often computed by the network card, after the capture.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::bytes::Bytes;
use super::file::Packet;
use super::fragments::{Fragment, FragmentKey, Fragments};
use super::link::{self, Network};
use super::segment::TcpSegment;

const TCP: u8 = 6;

/// Extension headers of IPv6 (RFC 8200, section 4), as numbers of the next header.
const HOP_BY_HOP: u8 = 0;
const ROUTING: u8 = 43;
const FRAGMENT: u8 = 44;
const AUTHENTICATION: u8 = 51;
const DESTINATION: u8 = 60;
const MOBILITY: u8 = 135;

/// Extension headers that are gone through.
const EXTENSIONS: usize = 16;

/// Why a packet gave no segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unread {
    /// It carries something else than TCP.
    NotTcp,
    /// Its link type is not read.
    Link,
    /// It is cut off within its headers, or they contradict themselves.
    Malformed,
    /// A fragment that does not complete its datagram.
    Fragment,
}

/// Finds TCP segments in packets. Keeps fragments until their datagram is whole, within bounds.
#[derive(Debug, Default)]
pub struct Dissector {
    fragments: Fragments,
    /// The last datagram that was put together.
    whole: Vec<u8>,
    /// Time of the last packet that had one.
    time: u64,
}

/// A network packet without its header.
#[derive(Clone, Copy, Debug)]
struct Datagram<'a> {
    ends: (IpAddr, IpAddr),
    protocol: u8,
    /// What was captured of what it carries.
    bytes: &'a [u8],
    /// How much it carries.
    length: u32,
    fragment: Option<Piece>,
}

/// Which part of its datagram a fragment is.
#[derive(Clone, Copy, Debug)]
struct Piece {
    id: u32,
    offset: u32,
    more: bool,
}

impl Dissector {
    /// Time of the last packet that said one, in nanoseconds.
    #[must_use]
    pub const fn time(&self) -> u64 {
        self.time
    }

    /// The segment that a packet carries or completes.
    ///
    /// # Errors
    /// Where there is none, why.
    pub fn segment<'a>(&'a mut self, packet: &Packet<'a>) -> Result<TcpSegment<'a>, Unread> {
        // Simple packets of pcapng have no time: they came after what stands before them.
        self.time = packet.time.unwrap_or(self.time);
        let time = self.time;
        let network = match link::network(packet.link, packet.bytes) {
            Network::Ip(network) => network,
            Network::Other => return Err(Unread::NotTcp),
            Network::UnknownLink => return Err(Unread::Link),
        };
        let missing = packet.length.saturating_sub(u32::try_from(packet.bytes.len()).unwrap_or(u32::MAX));
        let datagram = Datagram::parse(network, missing).ok_or(Unread::Malformed)?;
        if datagram.protocol != TCP {
            return Err(Unread::NotTcp);
        }
        let Datagram { ends, bytes, length, .. } = datagram;
        let parse = |bytes, length| TcpSegment::parse(time, ends, bytes, length).ok_or(Unread::Malformed);
        let Some(Piece { id, offset, more }) = datagram.fragment else { return parse(bytes, length) };
        let key = FragmentKey { from: ends.0, to: ends.1, id };
        let fragment = Fragment { offset, length, more, bytes };
        let whole = self.fragments.add(key, &fragment, time, &mut self.whole).ok_or(Unread::Fragment)?;
        parse(&self.whole, whole)
    }
}

impl<'a> Datagram<'a> {
    /// `missing` bytes at the end of the packet were not captured.
    fn parse(packet: &'a [u8], missing: u32) -> Option<Self> {
        match packet.first()? >> 4 {
            4 => Self::v4(packet, missing),
            6 => Self::v6(packet, missing),
            _ => None,
        }
    }

    fn v4(packet: &'a [u8], missing: u32) -> Option<Self> {
        let mut fields = Bytes(packet);
        let header = u32::from(fields.u8()? & 0x0F) * 4;
        fields.skip(1)?;
        let total = u32::from(fields.be16()?);
        let (id, position) = (fields.be16()?, fields.be16()?);
        fields.skip(1)?;
        let protocol = fields.u8()?;
        fields.skip(2)?;
        let (from, to) = (Ipv4Addr::from(fields.array::<4>()?), Ipv4Addr::from(fields.array::<4>()?));
        let payload = packet.get(header as usize..)?;
        // Packets that the card will cut up (segmentation offload) may not say how long they are.
        let length = match total {
            0 => present(payload).checked_add(missing)?,
            _ => total.checked_sub(header)?,
        };
        let more = position & 0x2000 != 0;
        let offset = u32::from(position & 0x1FFF) * 8;
        (header >= 20).then_some(Self {
            ends: (from.into(), to.into()),
            protocol,
            bytes: first(payload, length),
            length,
            fragment: (more || offset > 0).then_some(Piece { id: u32::from(id), offset, more }),
        })
    }

    fn v6(packet: &'a [u8], missing: u32) -> Option<Self> {
        let mut fields = Bytes(packet);
        fields.skip(4)?;
        let length = u32::from(fields.be16()?);
        let mut next = fields.u8()?;
        fields.skip(1)?;
        let (from, to) = (Ipv6Addr::from(fields.array::<16>()?), Ipv6Addr::from(fields.array::<16>()?));
        // Zero where it does not fit (RFC 2675, segmentation offload).
        let length = if length == 0 { present(fields.0).checked_add(missing)? } else { length };
        let mut rest = Bytes(first(fields.0, length));
        let before = present(rest.0);
        let mut fragment = None;
        for _ in 0..EXTENSIONS {
            let (following, skip) = match next {
                HOP_BY_HOP | ROUTING | DESTINATION | MOBILITY => {
                    let [following, units] = rest.array()?;
                    (following, usize::from(units) * 8 + 6)
                }
                AUTHENTICATION => {
                    let [following, units] = rest.array()?;
                    (following, usize::from(units) * 4 + 6)
                }
                FRAGMENT => {
                    let [following, _] = rest.array()?;
                    let position = rest.be16()?;
                    let (offset, more) = (u32::from(position & 0xFFF8), position & 1 != 0);
                    let id = rest.be32()?;
                    // An atomic fragment (RFC 6946) is whole.
                    fragment = (offset > 0 || more).then_some(Piece { id, offset, more });
                    (following, 0)
                }
                _ => break,
            };
            rest.skip(skip)?;
            next = following;
            if fragment.is_some_and(|piece: Piece| piece.offset > 0) {
                // What follows is the middle of something.
                break;
            }
        }
        let length = length.checked_sub(before - present(rest.0))?;
        Some(Self { ends: (from.into(), to.into()), protocol: next, bytes: rest.0, length, fragment })
    }
}

/// Without what pads a frame to its shortest length.
fn first(bytes: &[u8], length: u32) -> &[u8] {
    bytes.get(..length as usize).unwrap_or(bytes)
}

fn present(bytes: &[u8]) -> u32 {
    u32::try_from(bytes.len()).unwrap_or(u32::MAX)
}
