//! The classic format (draft-ietf-opsawg-pcap): a header of 24 bytes, then packets with one of 16 each.

use std::io::Read;

use super::bytes::{Bytes, Order};
use super::file::{CaptureError, Found, Outline, PACKET_BYTES, broken, has};
use super::window::Window;

const HEADER: usize = 24;
const PACKET_HEADER: usize = 16;
const MICROSECONDS: u32 = 0xA1B2_C3D4;
const NANOSECONDS: u32 = 0xA1B2_3C4D;

/// What the file says of all its packets.
#[derive(Clone, Copy, Debug)]
pub(super) struct Header {
    order: Order,
    /// Nanoseconds in a unit of the stamps' fraction.
    fraction: u64,
    link: u16,
}

/// Byte order and nanoseconds per unit that the first four bytes tell.
pub(super) const fn order(magic: [u8; 4]) -> Option<(Order, u64)> {
    match (u32::from_le_bytes(magic), u32::from_be_bytes(magic)) {
        (MICROSECONDS, _) => Some((Order::Little, 1000)),
        (NANOSECONDS, _) => Some((Order::Little, 1)),
        (_, MICROSECONDS) => Some((Order::Big, 1000)),
        (_, NANOSECONDS) => Some((Order::Big, 1)),
        _ => None,
    }
}

impl Header {
    pub(super) fn read<R: Read>(window: &mut Window<R>) -> Result<Self, CaptureError> {
        let (order, fraction) = order(window.peek()).ok_or(CaptureError::NotACapture)?;
        if !has(window, HEADER)? {
            return Err(broken(0, &"cut off in its header"));
        }
        let header: [u8; HEADER] = window.peek();
        let mut fields = Bytes(&header);
        let read = |fields: &mut Bytes<'_>| {
            fields.skip(4)?;
            let version = (fields.u16(order)?, fields.u16(order)?);
            // Time zone and accuracy were never used; the longest packet says each packet itself.
            fields.skip(12)?;
            Some((version, fields.u32(order)?))
        };
        let (version, link) = read(&mut fields).unwrap_or_default();
        if version != (2, 4) {
            return Err(broken(4, &format_args!("pcap of version {}.{}, not 2.4", version.0, version.1)));
        }
        window.take(HEADER);
        // Above the link type stands whether frames end with a checksum, which the lengths in the packets tell apart.
        Ok(Self { order, fraction, link: (link & 0xFFFF) as u16 })
    }

    pub(super) fn next<R: Read>(&self, window: &mut Window<R>) -> Result<Found, CaptureError> {
        let at = window.offset();
        if !has(window, PACKET_HEADER)? {
            return Ok(if window.is_over() { Found::End } else { Found::Cut });
        }
        let [seconds, fraction, captured, length] = {
            let header: [u8; PACKET_HEADER] = window.peek();
            let mut fields = Bytes(&header);
            [(); 4].map(|()| fields.u32(self.order).unwrap_or_default())
        };
        if captured > PACKET_BYTES {
            return Err(broken(at, &format_args!("packet of {captured} bytes, {PACKET_BYTES} at most")));
        }
        if u64::from(fraction) * self.fraction >= 1_000_000_000 {
            return Err(broken(at, &format_args!("packet with a fraction of {fraction} of its second")));
        }
        if !has(window, PACKET_HEADER + captured as usize)? {
            return Ok(Found::Cut);
        }
        window.take(PACKET_HEADER);
        let bytes = window.take(captured as usize);
        let time = u64::from(seconds) * 1_000_000_000 + u64::from(fraction) * self.fraction;
        Ok(Found::Packet(Outline { time: Some(time), link: self.link, bytes, length }))
    }
}
