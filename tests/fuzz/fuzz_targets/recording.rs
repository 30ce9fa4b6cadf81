//! Recordings from anywhere: the reader must end, with an error or without, and hold no more than what is there.
#![no_main]

use libfuzzer_sys::fuzz_target;
use sonde::replay::{Ending, Reader};

fuzz_target!(|bytes: &[u8]| {
    let Ok(mut reader) = Reader::new(bytes) else { return };
    loop {
        match reader.frame() {
            Ok(Some(_)) => assert_eq!(reader.ending(), Ending::Open),
            Ok(None) => {
                assert_ne!(reader.ending(), Ending::Open);
                break;
            }
            Err(_) => {
                assert!(matches!(reader.frame(), Ok(None)));
                break;
            }
        }
    }
});
