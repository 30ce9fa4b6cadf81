//! TCP segments (RFC 9293, section 3.1).

use std::net::IpAddr;

use super::bytes::Bytes;

/// One end of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Endpoint {
    /// Address.
    pub ip: IpAddr,
    /// Port.
    pub port: u16,
}

/// Control bits of a segment that matter here.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Flags {
    /// No more data from the sender.
    pub fin: bool,
    /// Synchronise sequence numbers.
    pub syn: bool,
    /// Reset the connection.
    pub rst: bool,
}

/// A segment as it was captured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TcpSegment<'a> {
    /// When it was captured, in nanoseconds.
    pub time: u64,
    /// Sender.
    pub from: Endpoint,
    /// Receiver.
    pub to: Endpoint,
    /// Sequence number of its first byte, or of its SYN.
    pub seq: u32,
    /// What the sender expects next, where it says so.
    pub ack: Option<u32>,
    /// Control bits.
    pub flags: Flags,
    /// The sender's clock, where a SYN tells it (RFC 7323, section 3).
    pub stamp: Option<u32>,
    /// What was captured of its data.
    pub bytes: &'a [u8],
    /// How much data it carried: at least as much.
    pub length: u32,
}

const FIN: u8 = 0x01;
const SYN: u8 = 0x02;
const RST: u8 = 0x04;
const ACK: u8 = 0x10;

const OPTION_END: u8 = 0;
const OPTION_NOTHING: u8 = 1;
const OPTION_STAMP: u8 = 8;

/// Looks for the time stamp among options.
fn stamp(options: &[u8]) -> Option<u32> {
    let mut options = Bytes(options);
    loop {
        match options.u8()? {
            OPTION_END => return None,
            OPTION_NOTHING => {}
            OPTION_STAMP => {
                options.skip(1)?;
                return options.be32();
            }
            _ => {
                let length = usize::from(options.u8()?);
                options.skip(length.checked_sub(2)?)?;
            }
        }
    }
}

impl<'a> TcpSegment<'a> {
    /// Reads a segment: `bytes` of it were captured, `length` there were. `None` where it is not whole up to its data.
    pub(super) fn parse(
        time: u64,
        (from, to): (IpAddr, IpAddr),
        bytes: &'a [u8],
        length: u32,
    ) -> Option<Self> {
        let mut fields = Bytes(bytes);
        let (source, destination) = (fields.be16()?, fields.be16()?);
        let (seq, ack) = (fields.be32()?, fields.be32()?);
        let [offset, flags] = fields.array()?;
        let header = usize::from(offset >> 4) * 4;
        let has = |flag| flags & flag != 0;
        let length = length.checked_sub(u32::try_from(header).ok()?)?;
        let data = bytes.get(header..).unwrap_or_default();
        let data = data.get(..length as usize).unwrap_or(data);
        (header >= 20).then_some(Self {
            time,
            from: Endpoint { ip: from, port: source },
            to: Endpoint { ip: to, port: destination },
            seq,
            ack: has(ACK).then_some(ack),
            flags: Flags { fin: has(FIN), syn: has(SYN), rst: has(RST) },
            stamp: if has(SYN) { bytes.get(20..header).and_then(stamp) } else { None },
            bytes: data,
            length,
        })
    }
}
