//! One connection of HTTP/2, from its preface on or joined anywhere, fed with frames that the input describes: whatever comes,
//! no panic, bounded memory, and events that keep their promises.
//!
//! The input is a list of steps, a control byte each: which side sent, whether a frame's header is made for the bytes, how much
//! of it was captured or lost; then a length byte and as many payload bytes.
#![no_main]

mod steps;

use std::sync::Arc;

use libfuzzer_sys::fuzz_target;
use sonde::conn::{Connections, Limits};
use sonde::proto::Event;
use sonde::telemetry::{Counters, Lost};
use sonde_abi::record::flags;
use sonde_abi::{ChunkHeader, Record};

use self::steps::{Input, check};

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";

/// One end of the connection.
struct End {
    connections: Connections,
    events: Vec<Event>,
    positions: [u64; 2],
    now: u64,
}

impl End {
    fn send(&mut self, direction: usize, bytes: &[u8], captured: usize) {
        let Some(position) = self.positions.get_mut(direction) else { return };
        let captured = captured.min(bytes.len());
        let header = ChunkHeader {
            flags: flags::POSITION,
            position: *position,
            family: 1,
            captured: captured as u32,
            length: bytes.len() as u32,
            ..steps::header(1, direction as u8, self.now)
        };
        *position += bytes.len() as u64;
        let payload = bytes.get(..captured).unwrap_or_default();
        self.connections.record(&Record::Chunk(header, payload), &mut self.events);
    }
}

fuzz_target!(|bytes: &[u8]| {
    let counters = Arc::new(Counters::default());
    let connections = Connections::new(Limits::default(), Arc::clone(&counters));
    let mut end = End { connections, events: Vec::new(), positions: [0; 2], now: 1_000_000 };
    let mut input = Input(bytes);
    let setup = input.byte().unwrap_or(0);
    if setup & 1 == 0 {
        end.send(usize::from(setup >> 1 & 1), PREFACE, PREFACE.len());
    } else {
        end.positions = [1000, 1000];
    }
    while let Some(control) = input.byte() {
        let direction = usize::from(control >> 7);
        let length = input.byte().unwrap_or(0);
        end.now += u64::from(length) << (control & 0x1f);
        match control & 0x7f {
            0x7f => {
                if let Some(position) = end.positions.get_mut(direction) {
                    *position += u64::from(length);
                }
            }
            0x7e => end.connections.tick(end.now, &mut end.events),
            step => {
                let mut bytes = Vec::new();
                if step & 0x40 == 0 {
                    // A frame with a header that fits: type, flags and stream are of the input.
                    let payload = usize::from(length) << (step & 3);
                    bytes.extend_from_slice(&(payload as u32).to_be_bytes()[1..]);
                    let [kind, flags, stream] = [(); 3].map(|()| input.byte().unwrap_or(0));
                    bytes.extend_from_slice(&[kind % 12, flags, 0, 0, 0, stream]);
                    bytes.extend_from_slice(input.bytes(payload));
                } else {
                    bytes.extend_from_slice(input.bytes(usize::from(length)));
                }
                let captured =
                    if step & 0x20 == 0 { bytes.len() } else { usize::from(input.byte().unwrap_or(0)) };
                end.send(direction, &bytes, captured);
            }
        }
        assert_eq!(counters.lost(Lost::ParserPanic), 0);
        assert!(end.connections.buffered() < 1 << 20);
    }
    end.connections.finish(&mut end.events);
    check(&end.events);
});
