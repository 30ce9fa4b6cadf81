//! pcapng (draft-ietf-opsawg-pcapng): blocks, in sections that each have their byte order and their interfaces.

use std::io::Read;

use super::bytes::{Bytes, Order};
use super::file::{CaptureError, Found, Outline, PACKET_BYTES, broken, has};
use super::window::Window;

const SECTION: u32 = 0x0A0D_0D0A;
const BYTE_ORDER: u32 = 0x1A2B_3C4D;

const INTERFACE: u32 = 1;
/// Obsolete, written by old versions of Wireshark.
const PACKET: u32 = 2;
const SIMPLE: u32 = 3;
const ENHANCED: u32 = 6;

/// Type and length before a block's content, and the length once more behind it.
const FRAME: u32 = 12;

/// Bytes of a block that is read. Others are skipped, whatever their length.
const BLOCK_BYTES: u32 = PACKET_BYTES + (64 << 10);

/// Interfaces of a section. Files have one for each device.
const INTERFACES: usize = 4096;

const OPTION_END: u16 = 0;
const OPTION_RESOLUTION: u16 = 9;
const OPTION_OFFSET: u16 = 14;

/// A section as far as it is read: its byte order and its interfaces.
#[derive(Debug, Default)]
pub(super) struct Section {
    /// `None` before the first block.
    order: Option<Order>,
    interfaces: Vec<Interface>,
}

#[derive(Clone, Copy, Debug)]
struct Interface {
    link: u16,
    /// Bytes of a packet that are captured at most, 0 for all.
    snap: u32,
    unit: Unit,
    /// Seconds added to each stamp.
    offset: i64,
}

/// What a stamp counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Unit {
    /// Seconds over a power of ten.
    Decimal(u32),
    /// Seconds over a power of two.
    Binary(u32),
}

/// Whether a file begins with a section.
pub(super) const fn is_section(magic: [u8; 4]) -> bool {
    // The same in both byte orders.
    u32::from_le_bytes(magic) == SECTION
}

impl Section {
    pub(super) fn next<R: Read>(&mut self, window: &mut Window<R>) -> Result<Found, CaptureError> {
        let at = window.offset();
        if !has(window, FRAME as usize)? {
            return Ok(if window.is_over() { Found::End } else { Found::Cut });
        }
        let head: [u8; FRAME as usize] = window.peek();
        let [t0, t1, t2, t3, l0, l1, l2, l3, b0, b1, b2, b3] = head;
        if is_section([t0, t1, t2, t3]) {
            self.begin([b0, b1, b2, b3], at)?;
        }
        let Some(order) = self.order else { return Err(CaptureError::NotACapture) };
        let (kind, total) = (order.u32([t0, t1, t2, t3]), order.u32([l0, l1, l2, l3]));
        if total < FRAME || !total.is_multiple_of(4) {
            return Err(broken(at, &format_args!("block of {total} bytes")));
        }
        if !matches!(kind, INTERFACE | PACKET | SIMPLE | ENHANCED) {
            return skip(window, at, total, order);
        }
        if total > BLOCK_BYTES {
            return Err(broken(at, &format_args!("block of {total} bytes, {BLOCK_BYTES} at most")));
        }
        if !has(window, total as usize)? {
            return Ok(Found::Cut);
        }
        let (start, end) = window.take(total as usize);
        let block = window.taken((start, end));
        let again = block.last_chunk().map_or(0, |&length| order.u32(length));
        if again != total {
            return Err(broken(at, &format_args!("block of {total} bytes that ends as one of {again}")));
        }
        let content = block.get(8..block.len() - 4).unwrap_or_default();
        let found = match kind {
            INTERFACE => self.interface(content, order, at)?,
            _ => self.packet(kind, content, order, at)?,
        };
        let Some(Body { link, time, captured, length, before }) = found else { return Ok(Found::Other) };
        let bytes = start + 8 + before;
        Ok(Found::Packet(Outline { time, link, bytes: (bytes, bytes + captured), length }))
    }

    fn begin(&mut self, magic: [u8; 4], at: u64) -> Result<(), CaptureError> {
        let order = match (u32::from_le_bytes(magic), u32::from_be_bytes(magic)) {
            (BYTE_ORDER, _) => Order::Little,
            (_, BYTE_ORDER) => Order::Big,
            (other, _) => return Err(broken(at + 8, &format_args!("section in byte order {other:#010x}"))),
        };
        self.order = Some(order);
        self.interfaces.clear();
        Ok(())
    }

    fn interface(&mut self, content: &[u8], order: Order, at: u64) -> Result<Option<Body>, CaptureError> {
        let mut fields = Bytes(content);
        let mut head = || {
            let link = fields.u16(order)?;
            fields.skip(2)?;
            Some((link, fields.u32(order)?))
        };
        let Some((link, snap)) = head() else { return Err(broken(at, &"interface cut short")) };
        if self.interfaces.len() >= INTERFACES {
            return Err(broken(at, &format_args!("more than {INTERFACES} interfaces")));
        }
        let mut interface = Interface { link, snap, unit: Unit::Decimal(6), offset: 0 };
        let mut option = || {
            let (code, length) = (fields.u16(order)?, fields.u16(order)?);
            let value = fields.take(usize::from(length))?;
            // Padded to 32 bits, but for what the last option of sloppy writers leaves out.
            let padding = usize::from(length).next_multiple_of(4) - usize::from(length);
            fields.skip(padding.min(fields.0.len()))?;
            (code != OPTION_END).then_some((code, value))
        };
        while let Some((code, value)) = option() {
            match (code, value) {
                (OPTION_RESOLUTION, &[exponent]) => interface.unit = Unit::of(exponent, at)?,
                (OPTION_OFFSET, &[a, b, c, d, e, f, g, h]) => {
                    interface.offset = order.i64([a, b, c, d, e, f, g, h]);
                }
                _ => {}
            }
        }
        self.interfaces.push(interface);
        Ok(None)
    }

    fn packet(&self, kind: u32, content: &[u8], order: Order, at: u64) -> Result<Option<Body>, CaptureError> {
        let mut fields = Bytes(content);
        let mut head = || {
            Some(match kind {
                SIMPLE => (0, None, None, fields.u32(order)?),
                _ => {
                    let interface = match kind {
                        ENHANCED => fields.u32(order)?,
                        _ => {
                            let interface = fields.u16(order)?;
                            // How many were dropped before it.
                            fields.skip(2)?;
                            u32::from(interface)
                        }
                    };
                    let stamp = u64::from(fields.u32(order)?) << 32 | u64::from(fields.u32(order)?);
                    (interface, Some(stamp), Some(fields.u32(order)?), fields.u32(order)?)
                }
            })
        };
        let Some((number, stamp, captured, length)) = head() else {
            return Err(broken(at, &"packet cut short"));
        };
        let interface = usize::try_from(number).ok().and_then(|number| self.interfaces.get(number));
        let Some(interface) = interface else {
            return Err(broken(at, &format_args!("packet of interface {number}, which is not described")));
        };
        let snap = if interface.snap == 0 { u32::MAX } else { interface.snap };
        // A simple packet does not say how much of it was captured: as much as its interface captures.
        let captured = captured.unwrap_or(length.min(snap));
        if captured as usize > fields.0.len() || captured > PACKET_BYTES {
            return Err(broken(
                at,
                &format_args!("packet of {captured} bytes in a block for {}", fields.0.len()),
            ));
        }
        Ok(Some(Body {
            link: interface.link,
            time: stamp.and_then(|stamp| interface.time(stamp)),
            captured: captured as usize,
            length,
            before: content.len() - fields.0.len(),
        }))
    }
}

/// A packet in a block.
struct Body {
    link: u16,
    time: Option<u64>,
    captured: usize,
    length: u32,
    /// Bytes of the content that stand before it.
    before: usize,
}

/// Goes over a block that says nothing of packets.
fn skip<R: Read>(window: &mut Window<R>, at: u64, total: u32, order: Order) -> Result<Found, CaptureError> {
    let io = |source| CaptureError::Io { offset: at, source };
    if !window.skip(u64::from(total) - 4).map_err(io)? || !window.has(4).map_err(io)? {
        return Ok(Found::Cut);
    }
    let again = order.u32(window.peek());
    if again != total {
        return Err(broken(at, &format_args!("block of {total} bytes that ends as one of {again}")));
    }
    window.take(4);
    Ok(Found::Other)
}

impl Unit {
    fn of(exponent: u8, at: u64) -> Result<Self, CaptureError> {
        let power = u32::from(exponent & 0x7F);
        match exponent & 0x80 {
            0 if power <= 19 => Ok(Self::Decimal(power)),
            0x80 if power <= 63 => Ok(Self::Binary(power)),
            _ => Err(broken(at, &format_args!("interface whose stamps have the resolution {exponent:#04x}"))),
        }
    }

    /// Nanoseconds of so many units.
    fn nanoseconds(self, units: u64) -> u128 {
        let scaled = u128::from(units) * 1_000_000_000;
        match self {
            Self::Decimal(power) => scaled / 10_u128.pow(power),
            Self::Binary(power) => scaled >> power,
        }
    }
}

impl Interface {
    /// Since the epoch; `None` before it, and past the year 2554.
    fn time(&self, stamp: u64) -> Option<u64> {
        let time = i128::try_from(self.unit.nanoseconds(stamp)).ok()?;
        u64::try_from(time.checked_add(i128::from(self.offset) * 1_000_000_000)?).ok()
    }
}
