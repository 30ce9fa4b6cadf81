//! Segments found in packets of every link type.

use super::conversation::{CLIENT, Conversation};
use super::write::{Segment, endpoint, ethernet, ip, tcp, v4};
use crate::capture::{Dissector, Packet, TcpSegment, Unread};

fn sample(v6: bool) -> Segment {
    let mut conversation = Conversation::joined([1, 2]);
    if v6 {
        conversation.ends = [endpoint("2001:db8::1", 40_000), endpoint("2001:db8::2", 80)];
    }
    conversation.say(CLIENT, b"GET / HTTP/1.1\r\n\r\n", 100);
    conversation.segments.remove(0)
}

fn check(link: u16, bytes: &[u8], segment: &Segment) {
    let mut dissector = Dissector::default();
    let length = bytes.len() as u32 + segment.missing;
    let packet = Packet { time: Some(segment.time), link, bytes, length };
    let found = dissector.segment(&packet).unwrap_or_else(|why| panic!("{why:?} of link type {link}"));
    assert_eq!(found, borrowed(segment));
}

fn borrowed(segment: &Segment) -> TcpSegment<'_> {
    let Segment { time, from, to, seq, ack, flags, stamp, ref bytes, missing } = *segment;
    TcpSegment { time, from, to, seq, ack, flags, stamp, bytes, length: bytes.len() as u32 + missing }
}

#[test]
fn every_link_type() {
    for v6 in [false, true] {
        let segment = sample(v6);
        let packet = ip(&segment);
        let ethertype: [u8; 2] = if v6 { [0x86, 0xDD] } else { [0x08, 0] };
        let behind = |head: &[u8]| [head, &packet].concat();
        check(1, &ethernet(&packet), &segment);
        check(1, &[&[1; 12][..], &[0x81, 0, 0, 7], &ethertype, &packet].concat(), &segment);
        check(1, &[&[1; 12][..], &[0x88, 0xA8, 0, 7, 0x81, 0, 0, 9], &ethertype, &packet].concat(), &segment);
        // Padding of a short frame.
        check(1, &[ethernet(&packet), vec![0; 20]].concat(), &segment);
        for family in if v6 { vec![10, 24, 28, 30] } else { vec![2] } {
            check(0, &behind(&[family, 0, 0, 0]), &segment);
            check(0, &behind(&[0, 0, 0, family]), &segment);
            check(108, &behind(&[0, 0, 0, family]), &segment);
        }
        check(113, &[&[0; 14][..], &ethertype, &packet].concat(), &segment);
        check(276, &[&ethertype[..], &[0; 18], &packet].concat(), &segment);
        for link in [12, 14, 101, 228, 229] {
            check(link, &packet, &segment);
        }
    }
}

#[test]
fn the_clock_of_a_syn_is_read() {
    let mut segment = sample(false);
    segment.flags.syn = true;
    segment.stamp = Some(0xDEAD_BEEF);
    check(101, &ip(&segment), &segment);
}

#[test]
fn what_is_not_tcp_is_left_alone() {
    let mut dissector = Dissector::default();
    let mut unread = |link, bytes: &[u8]| {
        let packet = Packet { time: Some(1), link, bytes, length: bytes.len() as u32 };
        dissector.segment(&packet).unwrap_err()
    };
    assert_eq!(unread(127, &[0; 60]), Unread::Link);
    assert_eq!(unread(1, &[&[0; 12][..], &[8, 6], &[0; 40]].concat()), Unread::NotTcp, "ARP");
    let mut udp = ip(&sample(false));
    udp[9] = 17;
    assert_eq!(unread(101, &udp), Unread::NotTcp);
    assert_eq!(unread(101, &[]), Unread::Malformed);
    assert_eq!(unread(101, &[0x90; 60]), Unread::Malformed);
    let whole = ip(&sample(false));
    for end in 1..38 {
        assert_eq!(unread(101, &whole[..end]), Unread::Malformed);
    }
    let mut short = whole.clone();
    short[3] = 30;
    assert_eq!(unread(101, &short), Unread::Malformed, "shorter than its headers");
}

#[test]
fn lengths_that_the_card_fills_in_later() {
    let mut segment = sample(false);
    segment.missing = 70_000;
    let mut packet = ip(&segment);
    packet[2..4].fill(0);
    check(101, &packet, &segment);
    let mut segment = sample(true);
    segment.missing = 70_000;
    let mut packet = ip(&segment);
    packet[4..6].fill(0);
    check(101, &packet, &segment);
}

#[test]
fn extension_headers_are_gone_through() {
    let segment = sample(true);
    let plain = ip(&segment);
    let extensions =
        [&[43, 0, 0, 0, 0, 0, 0, 0][..], &[60, 1], &[0; 14], &[51, 0], &[0; 6], &[6, 4], &[0; 22]];
    let extensions = extensions.concat();
    let mut packet = [&plain[..40], &extensions, &plain[40..]].concat();
    packet[6] = 0;
    packet[4..6].copy_from_slice(&((plain.len() - 40 + extensions.len()) as u16).to_be_bytes());
    check(101, &packet, &segment);
    // A fragment that is the whole.
    let mut packet = [&plain[..40], &[6, 0, 0, 0, 1, 2, 3, 4], &plain[40..]].concat();
    packet[6] = 44;
    packet[4..6].copy_from_slice(&((plain.len() - 40 + 8) as u16).to_be_bytes());
    check(101, &packet, &segment);
}

#[test]
fn fragments_are_put_together_in_any_order() {
    let mut segment = sample(false);
    segment.bytes = vec![b'x'; 100];
    let whole = tcp(&segment);
    let cuts = [0, 24, 64, whole.len()];
    for order in [[0, 1, 2], [2, 1, 0], [1, 2, 0], [0, 2, 1]] {
        let mut dissector = Dissector::default();
        let mut last = Err(Unread::NotTcp);
        for (n, at) in order.into_iter().enumerate() {
            let (start, end) = (cuts[at], cuts[at + 1]);
            let more = if at < 2 { 0x2000 } else { 0 };
            let bytes = v4(
                [10, 0, 0, 1],
                [10, 0, 0, 2],
                9,
                more | (start / 8) as u16,
                &whole[start..end],
                end - start,
            );
            let packet =
                Packet { time: Some(segment.time), link: 101, bytes: &bytes, length: bytes.len() as u32 };
            last = dissector.segment(&packet).map(|found| assert_eq!(found, borrowed(&segment)));
            // Twice is once.
            if n < 2 {
                assert_eq!(last, Err(Unread::Fragment));
                assert_eq!(dissector.segment(&packet).map(drop), Err(Unread::Fragment));
            }
        }
        assert_eq!(last, Ok(()), "{order:?}");
    }
}

#[test]
fn fragments_of_ipv6_are_put_together() {
    let mut segment = sample(true);
    segment.bytes = vec![b'x'; 100];
    let (plain, whole) = (ip(&segment), tcp(&segment));
    let mut dissector = Dissector::default();
    let mut found = false;
    for (start, end) in [(64, whole.len()), (0, 64)] {
        let position = (start as u16) | u16::from(end < whole.len());
        let fragment = [&[6, 0][..], &position.to_be_bytes(), &[1, 2, 3, 4], &whole[start..end]].concat();
        let mut packet = [&plain[..40], &fragment].concat();
        packet[6] = 44;
        packet[4..6].copy_from_slice(&(fragment.len() as u16).to_be_bytes());
        let packet =
            Packet { time: Some(segment.time), link: 101, bytes: &packet, length: packet.len() as u32 };
        found = dissector.segment(&packet).is_ok_and(|found| found == borrowed(&segment));
    }
    assert!(found);
}

#[test]
fn fragments_that_never_end_are_bounded() {
    let mut dissector = Dissector::default();
    for id in 0..2000 {
        let bytes = v4([10, 0, 0, 1], [10, 0, 0, 2], id, 0x2000, &[0; 1480], 1480);
        let packet = Packet { time: Some(1), link: 101, bytes: &bytes, length: 1504 };
        assert_eq!(dissector.segment(&packet), Err(Unread::Fragment));
    }
    assert!(format!("{dissector:?}").matches("FragmentKey").count() <= 64);
}
