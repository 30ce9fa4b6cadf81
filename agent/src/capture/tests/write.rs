//! Writes packets and capture files.

use std::net::IpAddr;

use crate::capture::{Endpoint, Flags};

/// A segment that owns its data.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Segment {
    pub(super) time: u64,
    pub(super) from: Endpoint,
    pub(super) to: Endpoint,
    pub(super) seq: u32,
    pub(super) ack: Option<u32>,
    pub(super) flags: Flags,
    /// Of a SYN.
    pub(super) stamp: Option<u32>,
    pub(super) bytes: Vec<u8>,
    /// Bytes of data that were not captured.
    pub(super) missing: u32,
}

pub(super) fn endpoint(ip: &str, port: u16) -> Endpoint {
    Endpoint { ip: ip.parse().unwrap(), port }
}

/// The TCP segment, header first.
pub(super) fn tcp(segment: &Segment) -> Vec<u8> {
    let Segment { from, to, seq, ack, flags, stamp, bytes, .. } = segment;
    let bit = |set: bool, bit: u8| if set { bit } else { 0 };
    let control = bit(flags.fin, 1) | bit(flags.syn, 2) | bit(flags.rst, 4) | bit(ack.is_some(), 16) | 8;
    let mut tcp = Vec::new();
    tcp.extend(from.port.to_be_bytes());
    tcp.extend(to.port.to_be_bytes());
    tcp.extend(seq.to_be_bytes());
    tcp.extend(ack.unwrap_or(0).to_be_bytes());
    let mut options = vec![1, 2, 4, 5, 180];
    options.extend(stamp.iter().flat_map(|stamp| [&[8, 10][..], &stamp.to_be_bytes(), &[0; 4]].concat()));
    options.resize(options.len().next_multiple_of(4), 0);
    tcp.extend([(20 + options.len() as u8) << 2, control, 0x20, 0, 0xBA, 0xD0, 0, 0]);
    tcp.extend(options);
    tcp.extend(bytes);
    tcp
}

/// The packet, IP header first.
pub(super) fn ip(segment: &Segment) -> Vec<u8> {
    let tcp = tcp(segment);
    let length = tcp.len() + segment.missing as usize;
    match (segment.from.ip, segment.to.ip) {
        (IpAddr::V4(from), IpAddr::V4(to)) => v4(from.octets(), to.octets(), 7, 0x4000, &tcp, length),
        (IpAddr::V6(from), IpAddr::V6(to)) => {
            let mut packet = vec![0x60, 0, 0, 0];
            packet.extend((length as u16).to_be_bytes());
            packet.extend([6, 64]);
            packet.extend(from.octets());
            packet.extend(to.octets());
            packet.extend(tcp);
            packet
        }
        _ => panic!("one family"),
    }
}

/// An IPv4 packet with an option.
pub(super) fn v4(from: [u8; 4], to: [u8; 4], id: u16, position: u16, data: &[u8], length: usize) -> Vec<u8> {
    let mut packet = vec![0x46, 0];
    packet.extend((24 + length as u16).to_be_bytes());
    packet.extend(id.to_be_bytes());
    packet.extend(position.to_be_bytes());
    packet.extend([64, 6, 0xBA, 0xD0]);
    packet.extend(from);
    packet.extend(to);
    packet.extend([1, 1, 1, 0]);
    packet.extend(data);
    packet
}

pub(super) fn ethernet(packet: &[u8]) -> Vec<u8> {
    let kind = if packet[0] >> 4 == 4 { [0x08, 0x00] } else { [0x86, 0xDD] };
    [&[2; 12], &kind[..], packet].concat()
}

/// A packet as a file has it: time in nanoseconds, bytes, and how long it was.
pub(super) type Raw = (u64, Vec<u8>, u32);

pub(super) fn raw(segment: &Segment) -> Raw {
    let bytes = ethernet(&ip(segment));
    let length = bytes.len() as u32 + segment.missing;
    (segment.time, bytes, length)
}

/// Numbers in one of the two orders.
#[derive(Clone, Copy, Debug)]
pub(super) struct Put(pub(super) bool);

impl Put {
    pub(super) fn u16(self, number: u16) -> [u8; 2] {
        if self.0 { number.to_be_bytes() } else { number.to_le_bytes() }
    }

    pub(super) fn u32(self, number: u32) -> [u8; 4] {
        if self.0 { number.to_be_bytes() } else { number.to_le_bytes() }
    }

    pub(super) fn u64(self, number: u64) -> [u8; 8] {
        if self.0 { number.to_be_bytes() } else { number.to_le_bytes() }
    }
}

/// A pcap file; `nanos`: stamps in nanoseconds, not microseconds.
pub(super) fn pcap(put: Put, nanos: bool, link: u16, packets: &[Raw]) -> Vec<u8> {
    let mut file = Vec::new();
    file.extend(put.u32(if nanos { 0xA1B2_3C4D } else { 0xA1B2_C3D4 }));
    file.extend([put.u16(2), put.u16(4)].concat());
    file.extend([put.u32(0), put.u32(0), put.u32(262_144), put.u32(link.into())].concat());
    for (time, bytes, length) in packets {
        let fraction = time % 1_000_000_000 / if nanos { 1 } else { 1000 };
        file.extend(put.u32((time / 1_000_000_000) as u32));
        file.extend([put.u32(fraction as u32), put.u32(bytes.len() as u32), put.u32(*length)].concat());
        file.extend(bytes);
    }
    file
}

/// A block of pcapng.
pub(super) fn block(put: Put, kind: u32, content: &[u8]) -> Vec<u8> {
    let padding = content.len().next_multiple_of(4) - content.len();
    let total = put.u32((12 + content.len() + padding) as u32);
    [&put.u32(kind)[..], &total, content, &[0; 3][..padding], &total].concat()
}

pub(super) fn section(put: Put) -> Vec<u8> {
    let content = [&put.u32(0x1A2B_3C4D)[..], &put.u16(1), &put.u16(0), &put.u64(u64::MAX)].concat();
    // With a comment, which nobody needs.
    block(put, 0x0A0D_0D0A, &[content, option(put, 1, b"by hand"), option(put, 0, b"")].concat())
}

pub(super) fn option(put: Put, code: u16, value: &[u8]) -> Vec<u8> {
    let padding = value.len().next_multiple_of(4) - value.len();
    [&put.u16(code)[..], &put.u16(value.len() as u16), value, &[0; 3][..padding]].concat()
}

pub(super) fn interface(put: Put, link: u16, snap: u32, options: &[Vec<u8>]) -> Vec<u8> {
    block(put, 1, &[&put.u16(link)[..], &put.u16(0), &put.u32(snap), &options.concat()].concat())
}

pub(super) fn enhanced(put: Put, interface: u32, stamp: u64, bytes: &[u8], length: u32) -> Vec<u8> {
    let head = [interface, (stamp >> 32) as u32, stamp as u32, bytes.len() as u32, length];
    let head = head.map(|field| put.u32(field)).concat();
    let padding = bytes.len().next_multiple_of(4) - bytes.len();
    // Options follow the padded packet.
    block(put, 6, &[&head, bytes, &[0; 3][..padding], &option(put, 2, &[0; 4])].concat())
}

pub(super) fn simple(put: Put, bytes: &[u8], length: u32) -> Vec<u8> {
    block(put, 3, &[&put.u32(length)[..], bytes].concat())
}

pub(super) fn obsolete(put: Put, interface: u16, stamp: u64, bytes: &[u8], length: u32) -> Vec<u8> {
    let head = [put.u16(interface), put.u16(u16::MAX)].concat();
    let rest = [(stamp >> 32) as u32, stamp as u32, bytes.len() as u32, length];
    block(put, 2, &[&head, &rest.map(|field| put.u32(field)).concat(), bytes].concat())
}
