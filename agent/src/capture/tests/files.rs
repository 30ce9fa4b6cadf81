//! Files of both formats, whole, cut off and broken.

use super::conversation::{CLIENT, Conversation, SERVER, request, response};
use super::write::{Put, Raw, block, enhanced, interface, obsolete, option, pcap, raw, section, simple};
use crate::capture::{CaptureError, Ending, Packets, is_capture};

/// A packet as it was read.
type Read = (Option<u64>, u16, Vec<u8>, u32);

fn read(file: &[u8]) -> (Vec<Read>, Result<Ending, CaptureError>) {
    let mut packets = match Packets::new(file) {
        Ok(packets) => packets,
        Err(error) => return (Vec::new(), Err(error)),
    };
    let mut all = Vec::new();
    loop {
        match packets.packet() {
            Ok(Some(packet)) => all.push((packet.time, packet.link, packet.bytes.to_vec(), packet.length)),
            Ok(None) => return (all, Ok(packets.ending())),
            Err(error) => {
                assert!(matches!(packets.packet(), Ok(None)), "an error is followed by nothing");
                return (all, Err(error));
            }
        }
    }
}

fn packets() -> Vec<Raw> {
    let mut conversation = Conversation::open([1, 2]);
    conversation.say(CLIENT, &request("/a", 0), 100).say(SERVER, &response(200, 30), 33);
    conversation.segments.iter().map(raw).collect()
}

#[test]
fn classic_files_of_both_orders_and_resolutions() {
    for big in [false, true] {
        for nanos in [false, true] {
            let mut packets = packets();
            packets[0].0 += 123;
            let file = pcap(Put(big), nanos, 1, &packets);
            assert!(is_capture(&file));
            let (read, ending) = read(&file);
            assert_eq!(ending.unwrap(), Ending::Complete);
            let expected = packets.iter().map(|(time, bytes, length)| {
                let time = if nanos { *time } else { time / 1000 * 1000 };
                (Some(time), 1, bytes.clone(), *length)
            });
            assert_eq!(read, expected.collect::<Vec<_>>());
        }
    }
}

#[test]
fn sections_interfaces_and_blocks_of_every_kind() {
    let (little, big) = (Put(false), Put(true));
    let time = 1_700_000_000_123_456_789_u64;
    let file = [
        section(little),
        interface(little, 1, 0, &[]),
        interface(little, 101, 0, &[option(little, 9, &[9]), option(little, 0, b"")]),
        block(little, 0x0BAD, &[7; 1000]),
        enhanced(little, 0, time / 1000, b"one", 3),
        enhanced(little, 1, time, b"two!", 1500),
        section(big),
        interface(
            big,
            276,
            4,
            &[option(big, 9, &[0x80 | 20]), option(big, 14, &1_000_000_000_u64.to_be_bytes())],
        ),
        block(big, 5, &[0; 12]),
        enhanced(big, 0, 700_000_000 << 20 | 1 << 19, b"three", 5),
        obsolete(big, 0, 5 << 20, b"four", 4),
        simple(big, b"five", 900),
    ]
    .concat();
    assert!(is_capture(&file));
    let (read, ending) = read(&file);
    assert_eq!(ending.unwrap(), Ending::Complete);
    let expected: [Read; 5] = [
        (Some(time / 1000 * 1000), 1, b"one".to_vec(), 3),
        (Some(time), 101, b"two!".to_vec(), 1500),
        (Some(1_700_000_000_500_000_000), 276, b"three".to_vec(), 5),
        (Some(1_000_000_005_000_000_000), 276, b"four".to_vec(), 4),
        (None, 276, b"five".to_vec(), 900),
    ];
    assert_eq!(read, expected);
}

#[test]
fn a_file_cut_off_anywhere_gives_what_stands_before() {
    let (put, packets) = (Put(false), packets());
    let mut ng = [section(put), interface(put, 1, 0, &[])].concat();
    for (time, bytes, length) in &packets {
        ng.extend(enhanced(put, 0, time / 1000, bytes, *length));
        ng.extend(block(put, 99, &[1; 8]));
    }
    for (file, first) in [(pcap(put, false, 1, &packets), 24), (ng, 32)] {
        let (whole, _) = read(&file);
        assert_eq!(whole.len(), packets.len());
        let mut complete = 0;
        for end in 4..file.len() {
            let (part, ending) = read(&file[..end]);
            assert_eq!(part[..], whole[..part.len()]);
            match ending {
                Ok(Ending::Complete) => complete += 1,
                Ok(Ending::Truncated { offset }) => assert!(offset < end as u64),
                Ok(Ending::Open) => panic!("it has ended"),
                Err(error) => {
                    assert!(end < first && error.to_string().contains("cut off in its header"), "{error}");
                }
            }
        }
        assert!(complete <= 2 * packets.len() + 2, "{complete}");
    }
}

#[test]
fn a_packed_file_that_is_cut_off_is_not_whole() {
    struct Packed<'a>(&'a [u8]);
    impl std::io::Read for Packed<'_> {
        fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
            match self.0.read(buffer) {
                Ok(0) => Err(std::io::ErrorKind::UnexpectedEof.into()),
                read => read,
            }
        }
    }
    let file = pcap(Put(false), false, 1, &packets());
    let mut packets = Packets::new(Packed(&file)).unwrap();
    while packets.packet().unwrap().is_some() {}
    assert_eq!(packets.ending(), Ending::Truncated { offset: file.len() as u64 });
}

#[test]
fn broken_files_say_what_and_where() {
    let put = Put(false);
    let classic = pcap(put, false, 1, &packets());
    let first = section(put).len();
    let ng = [section(put), interface(put, 1, 0, &[]), enhanced(put, 0, 1, b"abcd", 4)].concat();
    let packet = first + interface(put, 1, 0, &[]).len();
    let check = |file: &[u8], change: &dyn Fn(&mut Vec<u8>), expect: &str| {
        let mut file = file.to_vec();
        change(&mut file);
        let (_, ending) = read(&file);
        let error = ending.map(|ending| panic!("{ending:?}, {expect:?} expected")).unwrap_err();
        assert!(error.to_string().contains(expect), "{error}, {expect:?} expected");
    };
    check(&classic, &|file| file.clear(), "neither like pcap nor like pcapng");
    check(&classic, &|file| file[0] = 0, "neither like pcap nor like pcapng");
    check(&classic, &|file| file[4] = 9, "broken at byte 4: pcap of version 9.4");
    check(&classic, &|file| file[24 + 10] = 0x10, "broken at byte 24: packet of ");
    check(&classic, &|file| file[24 + 7] = 0xFF, "broken at byte 24: packet with a fraction of ");
    check(&ng, &|file| file[8] = 0, "broken at byte 8: section in byte order 0x");
    check(&ng, &|file| file[4] = 9, "broken at byte 0: block of 9 bytes");
    check(&ng, &|file| file[first - 4] = 0, "broken at byte 0: block of ");
    check(&ng, &|file| file[packet + 4] = 8, &format!("broken at byte {packet}: block of 8 bytes"));
    check(&ng, &|file| file[packet + 7] = 8, &format!("broken at byte {packet}: block of 134"));
    check(
        &ng,
        &|file| file[packet + 8] = 1,
        &format!("broken at byte {packet}: packet of interface 1, which"),
    );
    check(
        &ng,
        &|file| file[packet + 21] = 1,
        &format!("broken at byte {packet}: packet of 260 bytes in a block"),
    );
    let odd = interface(put, 1, 0, &[option(put, 9, &[99])]);
    check(&[section(put), odd].concat(), &|_| {}, &format!("broken at byte {first}: interface whose stamps"));
    let many = interface(put, 1, 0, &[]).repeat(5000);
    check(&[section(put), many].concat(), &|_| {}, "more than 4096 interfaces");
    check(
        &[section(put), simple(put, b"", 0)].concat(),
        &|_| {},
        "packet of interface 0, which is not described",
    );
}

#[test]
fn a_hostile_length_takes_no_memory() {
    let put = Put(false);
    // A block of nearly 4 GiB that nobody needs, of which nothing is there.
    let head = [put.u32(0x0BAD), put.u32(0xFFFF_FFF0)].concat();
    let (packets, ending) = read(&[section(put), head, vec![0; 50]].concat());
    assert_eq!(packets.len(), 0);
    assert_eq!(ending.unwrap(), Ending::Truncated { offset: section(put).len() as u64 });
}
