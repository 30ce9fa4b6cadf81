//! What stands before the network layer, by link type (<https://www.tcpdump.org/linktypes.html>).

use super::bytes::Bytes;

/// Which network protocol follows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Network<'a> {
    /// IPv4 or IPv6, as its first half byte says.
    Ip(&'a [u8]),
    /// Another protocol, or not enough of the packet to tell.
    Other,
    /// A link type that is not read.
    UnknownLink,
}

mod linktype {
    pub(super) const NULL: u16 = 0;
    pub(super) const ETHERNET: u16 = 1;
    /// Raw IP by other names: `DLT_RAW` of most systems and of OpenBSD got into files.
    pub(super) const DLT_RAW: u16 = 12;
    pub(super) const DLT_RAW_OPENBSD: u16 = 14;
    pub(super) const RAW: u16 = 101;
    pub(super) const LOOP: u16 = 108;
    pub(super) const LINUX_SLL: u16 = 113;
    pub(super) const IPV4: u16 = 228;
    pub(super) const IPV6: u16 = 229;
    pub(super) const LINUX_SLL2: u16 = 276;
}

const ETHERTYPE_IPV4: u16 = 0x0800;
const ETHERTYPE_IPV6: u16 = 0x86DD;
/// 802.1Q, 802.1ad, and what came before that.
const ETHERTYPE_VLAN: [u16; 3] = [0x8100, 0x88A8, 0x9100];
/// Tags that are gone through.
const VLANS: usize = 4;

/// Takes off what stands before the network layer.
pub(super) fn network(link: u16, packet: &[u8]) -> Network<'_> {
    let mut bytes = Bytes(packet);
    let is_ip = match link {
        linktype::ETHERNET => bytes.skip(12).and_then(|()| ethertype(&mut bytes)),
        linktype::LINUX_SLL => bytes.skip(14).and_then(|()| ethertype(&mut bytes)),
        linktype::LINUX_SLL2 => bytes.be16().and_then(|first| {
            bytes.skip(18)?;
            through_tags(first, &mut bytes)
        }),
        linktype::NULL | linktype::LOOP => bytes.array::<4>().map(is_ip_family),
        linktype::RAW | linktype::DLT_RAW | linktype::DLT_RAW_OPENBSD | linktype::IPV4 | linktype::IPV6 => {
            Some(true)
        }
        _ => return Network::UnknownLink,
    };
    if is_ip == Some(true) { Network::Ip(bytes.0) } else { Network::Other }
}

fn ethertype(bytes: &mut Bytes<'_>) -> Option<bool> {
    let first = bytes.be16()?;
    through_tags(first, bytes)
}

/// Whether IP follows, behind VLAN tags if there are any.
fn through_tags(mut ethertype: u16, bytes: &mut Bytes<'_>) -> Option<bool> {
    for _ in 0..=VLANS {
        if !ETHERTYPE_VLAN.contains(&ethertype) {
            return Some(matches!(ethertype, ETHERTYPE_IPV4 | ETHERTYPE_IPV6));
        }
        bytes.skip(2)?;
        ethertype = bytes.be16()?;
    }
    None
}

/// `AF_INET` is 2 everywhere; `AF_INET6` is 10 (Linux), 24, 28 or 30 (BSDs and macOS). The order is that of the machine
/// that captured, or the network's: no family needs more than one byte.
fn is_ip_family(family: [u8; 4]) -> bool {
    let families = [2, 10, 24, 28, 30];
    families.contains(&u32::from_le_bytes(family)) || families.contains(&u32::from_be_bytes(family))
}
