//! The BTF reader on types made here.

use proptest::prelude::*;

use super::super::btf::{Btf, BtfError, Member, NoMember, Sort};
use super::super::{KernelTypes, Part, Tracepoint};
use super::builder::{Builder, kernel};

/// Offset and width of a member of the first structure `outer`, or why there is none.
fn member(btf: &Builder, path: &str) -> Result<(u32, Option<u32>), NoMember> {
    let bytes = btf.finish();
    let btf = Btf::parse(&bytes).unwrap();
    let root = btf.find(&[(Sort::Struct, "outer")])[0].unwrap();
    btf.member(root, path).map(|Member { offset, width }| (offset, width))
}

#[test]
fn members_are_found_through_anonymous_parts_and_along_paths() {
    let mut btf = Builder::new();
    let (short, word) = (btf.int("short", 2), btf.int("int", 4));
    let pair = btf.structure("", 4, &[("dport", short, 0), ("num", short, 2)]);
    let either = btf.union("", 4, &[("portpair", word), ("", pair)]);
    let hidden = btf.typedef("hidden_t", either);
    let constant = btf.constant(hidden);
    let inner = btf.structure("inner", 12, &[("a", word, 0), ("", constant, 8)]);
    let pointer = btf.pointer(inner);
    let row = btf.array(word, 4);
    let table = btf.array(row, 3);
    let empty = btf.array(short, 0);
    btf.structure(
        "outer",
        200,
        &[("p", pointer, 8), ("in", inner, 40), ("t", table, 64), ("flex", empty, 112)],
    );

    assert_eq!(member(&btf, "p"), Ok((8, Some(8))));
    assert_eq!(member(&btf, "in"), Ok((40, Some(12))));
    assert_eq!(member(&btf, "in.a"), Ok((40, Some(4))));
    assert_eq!(member(&btf, "in.portpair"), Ok((48, Some(4))));
    assert_eq!(member(&btf, "in.dport"), Ok((48, Some(2))));
    assert_eq!(member(&btf, "in.num"), Ok((50, Some(2))));
    assert_eq!(member(&btf, "t"), Ok((64, Some(48))));
    assert_eq!(member(&btf, "flex"), Ok((112, Some(0))));
    assert_eq!(member(&btf, "num"), Err(NoMember::Missing("num".into())), "a named part must be named");
    assert_eq!(member(&btf, "in.nu"), Err(NoMember::Missing("in.nu".into())));
    assert_eq!(member(&btf, "in.numb"), Err(NoMember::Missing("in.numb".into())));
    assert_eq!(member(&btf, ""), Err(NoMember::Missing(String::new())));
    assert_eq!(member(&btf, "in."), Err(NoMember::Missing("in.".into())));
    assert_eq!(member(&btf, "p.a"), Err(NoMember::NotAStruct("p.a".into())), "pointers are not followed");
    assert_eq!(member(&btf, "t.a"), Err(NoMember::NotAStruct("t.a".into())));
}

#[test]
fn bitfields_have_no_offset_in_either_encoding() {
    const STRUCT: u32 = 4 << 24;
    const FLAG: u32 = 1 << 31;
    let mut btf = Builder::new();
    let word = btf.int("int", 4);
    let narrow = btf.raw("int", 1 << 24, 4, &[3]);
    let shifted = btf.raw("int", 1 << 24, 4, &[8 << 16 | 32]);
    let part = btf.members("", STRUCT | FLAG, 8, &[("bits", word, 3 << 24 | 8), ("plain", word, 32)]);
    btf.members(
        "outer",
        STRUCT,
        64,
        &[
            ("narrow", narrow, 0),
            ("shifted", shifted, 32),
            ("askew", word, 65),
            ("", part, 128),
            ("plain_too", word, 256),
        ],
    );
    for name in ["narrow", "shifted", "askew", "bits"] {
        assert_eq!(member(&btf, name), Err(NoMember::Bitfield(name.into())));
    }
    assert_eq!(member(&btf, "plain"), Ok((20, Some(4))));
    assert_eq!(member(&btf, "plain_too"), Ok((32, Some(4))));
}

#[test]
fn types_without_end_are_given_up() {
    let mut own_part = Builder::new();
    own_part.structure("outer", 8, &[("", 1, 0)]);
    assert_eq!(member(&own_part, "x"), Err(NoMember::Depth("x".into())));

    let mut loops = Builder::new();
    loops.typedef("a", 2);
    loops.typedef("b", 1);
    loops.structure("outer", 8, &[("m", 1, 0), ("", 2, 0)]);
    assert_eq!(member(&loops, "m"), Ok((0, None)));
    assert_eq!(member(&loops, "m.x"), Err(NoMember::Depth("m.x".into())));
    assert_eq!(member(&loops, "x"), Err(NoMember::Missing("x".into())));

    // 30 anonymous parts in each of 12 nested structures would be 30^12 looks.
    let mut wide = Builder::new();
    let mut id = wide.structure("", 8, &[("y", 0, 0)]);
    for _ in 0..11 {
        id = wide.structure("", 8, &[("", id, 0); 30]);
    }
    wide.structure("outer", 8, &[("", id, 0)]);
    assert_eq!(member(&wide, "x"), Err(NoMember::Depth("x".into())));

    let mut huge = Builder::new();
    let word = huge.int("int", 4);
    let rows = huge.array(word, u32::MAX);
    huge.structure("outer", 8, &[("t", rows, 0)]);
    assert_eq!(member(&huge, "t"), Ok((0, None)));
}

/// Ids are found on both sides of every mark.
#[test]
fn types_are_found_by_id_wherever_they_are() {
    let mut btf = Builder::new();
    let ids: Vec<u32> = (1..=200).map(|bytes| btf.int("int", bytes)).collect();
    let names: Vec<String> = ids.iter().map(|id| format!("m{id}")).collect();
    let members: Vec<_> = ids.iter().zip(&names).map(|(id, name)| (name.as_str(), *id, id * 4)).collect();
    btf.structure("outer", 8, &members);
    for id in ids {
        // Widths from 32 bytes on do not fit the bit count of an integer, which makes them bitfields.
        let expected =
            if id < 32 { Ok((id * 4, Some(id))) } else { Err(NoMember::Bitfield(format!("m{id}"))) };
        assert_eq!(member(&btf, &format!("m{id}")), expected);
    }
}

#[test]
fn headers_and_types_are_checked() {
    let mut btf = Builder::new();
    btf.int("int", 4);
    btf.function("f");
    let good = btf.finish();
    assert_eq!(Btf::parse(&good).unwrap().count(), 2);
    let with = |at: usize, byte: u8| {
        let mut bytes = good.clone();
        bytes[at] = byte;
        Btf::parse(&bytes).map(|btf| btf.count())
    };
    assert_eq!(Btf::parse(&good[..10]).unwrap_err(), BtfError::Short(10));
    assert_eq!(Btf::parse(&good[..23]).unwrap_err(), BtfError::Short(23));
    assert_eq!(Btf::parse(&good[..good.len() - 1]).unwrap_err(), BtfError::Section("string"));
    assert_eq!(with(0, 0), Err(BtfError::Magic(u16::from_ne_bytes([0, good[1]]))));
    assert_eq!(with(2, 2), Err(BtfError::Version(2)));
    assert_eq!(with(4, 20), Err(BtfError::Section("header")));
    assert_eq!(with(11, 0x7f), Err(BtfError::Section("type")));
    assert_eq!(with(12, 27), Err(BtfError::Truncated(2)), "the second type is one byte short");
    assert_eq!(with(24 + 7, 77), Err(BtfError::Kind { id: 1, kind: 77 }));
}

#[test]
fn every_member_of_a_kernel_is_looked_up_and_missing_ones_turn_off_their_part_only() {
    let whole = KernelTypes::parse(&kernel(&[])).unwrap();
    assert_eq!(whole.members.missing, vec![]);
    // A field that is added to `Offsets` without a place to look shows here.
    let fields = format!("{:?}", whole.members.offsets).matches(": ").count();
    assert_eq!(fields * 4, size_of::<sonde_abi::settings::Offsets>());
    assert!(!format!("{:?}", whole.members.offsets).contains(&u32::MAX.to_string()));

    for (omitted, part) in [
        ("task_struct.files", Part::Descriptors),
        ("sock_common.skc_num", Part::Sockets),
        ("sock_common.skc_v6_daddr", Part::Ipv6),
        ("inet_sock", Part::ClosedPorts),
        ("tcp_sock", Part::Positions),
        ("tcp_sock.tcp_mstamp", Part::Arrival),
        ("sock.sk_err", Part::Resets),
        ("sock.sk_shutdown", Part::Ends),
        ("unix_sock.peer", Part::Unix),
        ("unix_address", Part::UnixNames),
        ("mm_struct.arg_start", Part::Programs),
        ("linux_binprm", Part::Programs),
    ] {
        let types = KernelTypes::parse(&kernel(&[omitted])).unwrap();
        let parts: Vec<Part> = types.members.missing.iter().map(|missing| missing.part).collect();
        assert!(parts.contains(&part) && !types.members.has(part), "{omitted}: {parts:?}");
        assert!(parts.len() == 1 || omitted.split('.').count() == 1, "{omitted}: {parts:?}");
    }
    let renamed = KernelTypes::parse(&kernel(&["sock.__sk_common"])).unwrap();
    assert_eq!(renamed.members, whole.members, "sock_common leads there too");

    let types = KernelTypes::parse(&kernel(&["sock.sk_err", "unix_sock"])).unwrap();
    let said: Vec<String> = types.members.missing.iter().map(ToString::to_string).collect();
    assert_eq!(
        said,
        [
            "struct sock has no member sk_err: a reset connection is reported as closed",
            "this kernel has no struct unix_sock: unix sockets are not joined to their other end",
            "this kernel has no struct unix_sock: unix sockets show no paths",
        ]
    );
}

#[test]
fn a_member_of_another_width_is_not_read() {
    let mut btf = Builder::new();
    let word = btf.int("int", 4);
    btf.structure("task_struct", 64, &[("pid", word, 8), ("tgid", word, 12), ("files", word, 16)]);
    let types = KernelTypes::parse(&btf.finish()).unwrap();
    assert_eq!((types.members.offsets.task_pid, types.members.offsets.task_tgid), (8, 12));
    assert_eq!(
        types.members.missing[0].to_string(),
        "struct task_struct member files is 4 bytes wide instead of 8: the hook family `syscalls` cannot find sockets"
    );
}

proptest! {
    /// Whatever the bytes are, the answers come: no panic, no long search.
    #[test]
    fn corrupted_bytes_end_in_an_answer(
        edits in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..20),
        cut in any::<prop::sample::Index>(),
        keep in any::<bool>(),
    ) {
        let mut bytes = kernel(&[]);
        for (at, byte) in edits {
            let at = at.index(bytes.len());
            bytes[at] = byte;
        }
        if !keep {
            bytes.truncate(cut.index(bytes.len()));
        }
        if let Ok(types) = KernelTypes::parse(&bytes) {
            prop_assert!(types.tracepoint(Tracepoint::SysExit).is_none_or(|id| (1..=types.count).contains(&id)));
        }
    }

    /// Bytes that are no BTF but for their header.
    #[test]
    fn random_bytes_end_in_an_answer(body in proptest::collection::vec(any::<u8>(), 0..400), split in 0..400_u32) {
        let mut bytes = 0xeb9f_u16.to_ne_bytes().to_vec();
        bytes.extend([1, 0]);
        let length = u32::try_from(body.len()).unwrap();
        for word in [24, 0, split.min(length), split.min(length), length - split.min(length)] {
            bytes.extend_from_slice(&word.to_ne_bytes());
        }
        bytes.extend(body);
        let _ = KernelTypes::parse(&bytes);
    }
}
