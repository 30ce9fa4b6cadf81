//! What the fuzz target `capture` begins with.

use std::path::Path;

use super::conversation::{CLIENT, Conversation, SERVER, request, response};
use super::write::{
    Put, Segment, block, enhanced, ethernet, interface, ip, option, pcap, raw, section, simple,
};
use super::write::{endpoint, obsolete, v4};

/// Files of every format and link type with a short conversation in each.
pub(super) fn seeds() -> Vec<(&'static str, Vec<u8>)> {
    let mut conversation = Conversation::open([u32::MAX - 30, 9]);
    conversation.say(CLIENT, &request("/a", 20), 60).say(SERVER, &response(200, 30), 50);
    conversation.say(CLIENT, b"GET /b HTTP/1.0\r\n\r\n", 90).say(SERVER, b"HTTP/1.0 404 No\r\n\r\ngone", 90);
    conversation.close();
    let mut v6 = conversation.clone();
    let ends = [endpoint("2001:db8::1", 40_000), endpoint("2001:db8::2", 80)];
    for segment in &mut v6.segments {
        let [from, to] = if segment.from.port == 80 { [1, 0] } else { [0, 1] };
        (segment.from, segment.to) = (ends[from], ends[to]);
    }
    let (little, big) = (Put(false), Put(true));
    let raws: Vec<_> = conversation.segments.iter().map(raw).collect();
    let behind = |head: &[u8], segments: &[Segment]| {
        let packet = |segment: &Segment| [head, &ip(segment)].concat();
        let raw = |segment: &Segment| (segment.time, packet(segment), packet(segment).len() as u32);
        segments.iter().map(raw).collect::<Vec<_>>()
    };
    let mut ng = [section(little), interface(little, 1, 0, &[option(little, 9, &[9])])].concat();
    for (n, (time, bytes, length)) in raws.iter().enumerate() {
        ng.extend(match n % 3 {
            0 => enhanced(little, 0, *time, bytes, *length),
            1 => obsolete(little, 0, *time, bytes, *length),
            _ => [block(little, 77, b"unknown"), simple(little, bytes, *length)].concat(),
        });
    }
    ng.extend(
        [section(big), interface(big, 1, 60, &[option(big, 9, &[0x94]), option(big, 14, &[0; 8])])].concat(),
    );
    ng.extend(enhanced(big, 0, 5 << 20, &raws[3].1, raws[3].2));
    let whole = ip(&conversation.segments[3]);
    let (first, second) = whole[24..].split_at(32);
    let fragments = [(0x2000, first), (4, second)].map(|(position, part)| {
        let packet = ethernet(&v4([10, 0, 0, 1], [10, 0, 0, 2], 9, position, part, part.len()));
        (1, packet.clone(), packet.len() as u32)
    });
    vec![
        ("pcap", pcap(little, false, 1, &raws)),
        ("pcap_big_nanoseconds", pcap(big, true, 1, &raws)),
        ("pcapng", ng),
        ("loopback", pcap(little, false, 0, &behind(&[2, 0, 0, 0], &conversation.segments))),
        (
            "cooked_v6",
            pcap(little, false, 276, &behind(&[&[0x86, 0xDD][..], &[0; 18]].concat(), &v6.segments)),
        ),
        ("raw_v6", pcap(little, false, 101, &behind(b"", &v6.segments))),
        ("fragments", pcap(little, false, 1, &fragments)),
    ]
}

/// The samples in the tree are what this makes; `SONDE_WRITE_SEEDS=1` writes them anew.
#[test]
fn the_fuzz_targets_seeds_are_these() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/fuzz/seeds/capture");
    let write = std::env::var_os("SONDE_WRITE_SEEDS").is_some();
    for (name, file) in seeds() {
        let content = [&[0][..], &file].concat();
        let path = folder.join(name);
        if write {
            std::fs::create_dir_all(&folder).unwrap();
            std::fs::write(&path, &content).unwrap();
        }
        assert!(std::fs::read(&path).unwrap() == content, "{name}: SONDE_WRITE_SEEDS=1 writes it anew");
    }
}
