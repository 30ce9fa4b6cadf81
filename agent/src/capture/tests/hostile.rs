//! Files with damage of every kind, through the whole way to spans: an end, bounded memory, and no panic.

use std::sync::Arc;

use proptest::collection::vec;
use proptest::prelude::*;

use super::seeds::seeds;
use crate::capture::{Ending, Limits, Packets, Perspective, Tap};
use crate::pipeline::Pipeline;
use crate::span::SpanKind;
use crate::telemetry::{Counters, Lost};

/// What is done to a file at a place.
#[derive(Clone, Debug)]
enum Damage {
    Set(prop::sample::Index, u8),
    Number(prop::sample::Index, u32),
    Cut(prop::sample::Index),
    Remove(prop::sample::Index, usize),
    Repeat(prop::sample::Index, usize),
}

fn damage() -> impl Strategy<Value = Damage> {
    let at = any::<prop::sample::Index>;
    prop_oneof![
        8 => (at(), any::<u8>()).prop_map(|(at, byte)| Damage::Set(at, byte)),
        4 => (at(), prop_oneof![Just(u32::MAX), Just(0), Just(1 << 31), any::<u32>()])
            .prop_map(|(at, number)| Damage::Number(at, number)),
        1 => at().prop_map(Damage::Cut),
        2 => (at(), 1..200_usize).prop_map(|(at, count)| Damage::Remove(at, count)),
        2 => (at(), 1..400_usize).prop_map(|(at, count)| Damage::Repeat(at, count)),
    ]
}

fn damaged(mut file: Vec<u8>, damages: Vec<Damage>) -> Vec<u8> {
    for damage in damages {
        if file.is_empty() {
            break;
        }
        match damage {
            Damage::Set(at, byte) => *at.get_mut(&mut file) = byte,
            Damage::Number(at, number) => {
                let at = at.index(file.len());
                for (place, byte) in file[at..].iter_mut().zip(number.to_le_bytes()) {
                    *place = byte;
                }
            }
            Damage::Cut(at) => file.truncate(at.index(file.len())),
            Damage::Remove(at, count) => {
                let at = at.index(file.len());
                file.drain(at..(at + count).min(file.len()));
            }
            Damage::Repeat(at, count) => {
                let at = at.index(file.len());
                let end = (at + count).min(file.len());
                let again = file[at..end].to_vec();
                file.splice(end..end, again);
            }
        }
    }
    file
}

/// How many spans of each kind a file gives.
fn replay(file: &[u8]) -> (usize, usize) {
    let counters = Arc::new(Counters::default());
    let mut pipeline = Pipeline::of_capture(Perspective::Both, 1, Arc::clone(&counters));
    let Ok(mut packets) = Packets::new(file) else { return (0, 0) };
    let mut tap = Tap::new(Limits::default(), Arc::clone(&counters));
    while let Ok(Some(packet)) = packets.packet() {
        tap.packet(&packet, |record| pipeline.captured(record));
        tap.tick(|record| pipeline.captured(record));
        pipeline.tick(tap.latest());
        assert!(tap.held() <= 64 * file.len(), "memory grows with what is there");
    }
    assert_ne!(packets.ending(), Ending::Open);
    tap.finish(|record| pipeline.captured(record));
    pipeline.finish();
    assert_eq!((tap.held(), counters.lost(Lost::ParserPanic)), (0, 0));
    let spans = pipeline.take_spans();
    let count = |kind| spans.iter().filter(|(_, span)| span.kind == kind && span.start <= span.end).count();
    (count(SpanKind::Client), count(SpanKind::Server))
}

#[test]
fn files_that_are_whole_tell_of_both_exchanges() {
    for (name, file) in seeds() {
        if name != "fragments" {
            assert_eq!(replay(&file), (2, 2), "{name}");
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn damaged_files_end(which in 0..7_usize, damages in vec(damage(), 1..12)) {
        let seeds = seeds();
        let (_, file) = &seeds[which % seeds.len()];
        let (clients, servers) = replay(&damaged(file.clone(), damages));
        prop_assert_eq!(clients, servers);
    }
}
