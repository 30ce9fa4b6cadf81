//! Any bytes as a record of the ring: decoded or refused, and what is decoded encodes to the same bytes. Its parts stand in order.
#![no_main]

use libfuzzer_sys::fuzz_target;
use sonde_abi::Record;

fuzz_target!(|bytes: &[u8]| {
    let Ok(record) = Record::decode(bytes) else { return };
    if let Record::Chunk(header, payload) = &record {
        let mut behind = 0;
        for (chunk, bytes) in header.chunks(payload) {
            let offset = chunk.position.wrapping_sub(header.position);
            assert!(
                offset >= behind && bytes.len() == chunk.captured as usize && chunk.captured <= chunk.length
            );
            behind = offset + u64::from(chunk.length);
            assert!(behind <= u64::from(header.length));
        }
    }
    let (header, payload) = match &record {
        Record::Chunk(header, payload) => (header.as_bytes().as_slice(), *payload),
        Record::Life(header, payload) => (header.as_bytes().as_slice(), *payload),
    };
    let again = [header, payload].concat();
    assert!(bytes.starts_with(&again));
    assert_eq!(Record::decode(&again), Ok(record));
});
