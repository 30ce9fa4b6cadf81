//! One direction's header blocks, whole and as they are joined late: whatever comes, no panic, bounded memory, and what the one
//! that came late knows is what the other one knows.
//!
//! The input is a list of blocks, a length byte before each. Of the first byte, the low bits say how many come before the late
//! one looks.
#![no_main]

use libfuzzer_sys::fuzz_target;
use sonde::proto::http2::hpack::{Decoder, Field};

fn owned(Field { name, value }: Field<'_>) -> [Option<Vec<u8>>; 2] {
    [name.map(<[u8]>::to_vec), value.map(<[u8]>::to_vec)]
}

fuzz_target!(|bytes: &[u8]| {
    let Some((&late, mut rest)) = bytes.split_first() else { return };
    let (mut whole, mut joined) = (Decoder::new(false), Decoder::new(true));
    let mut at = 0;
    while let Some((&length, behind)) = rest.split_first() {
        let (block, behind) = behind.split_at(usize::from(length).min(behind.len()));
        rest = behind;
        let mut all = Vec::new();
        let read = whole.block(block, |field| all.push(owned(field)));
        if at >= late & 0xf {
            let mut some = Vec::new();
            let joined_read = joined.block(block, |field| some.push(owned(field)));
            for (all, some) in all.iter().zip(&some) {
                for (all, some) in all.iter().zip(some) {
                    // What one evicted the other may have, but no encoder uses it.
                    assert!(some.is_none() || all.is_none() || all == some, "{all:?} {some:?}");
                }
            }
            if read.is_ok() {
                assert!(joined_read.is_ok());
                assert_eq!(all.len(), some.len());
            }
        }
        if read.is_err() {
            // No encoder goes on from there.
            return;
        }
        at = at.saturating_add(1);
        assert!(whole.kept() <= 128 << 10 && joined.kept() <= 128 << 10);
    }
});
