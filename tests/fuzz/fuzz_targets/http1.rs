//! Two connections fed with chunks that the input describes: whatever comes, no panic, bounded memory, and events that
//! keep their promises.
//!
//! The input is a list of steps, a control byte each: which end moved, how much was captured, lost or swapped; then a length
//! byte and, for some steps, as many payload bytes, so that a corpus of HTTP messages stays readable.
#![no_main]

mod steps;

use std::sync::Arc;

use libfuzzer_sys::fuzz_target;
use sonde::conn::{Connections, Limits};
use sonde::proto::Event;
use sonde::telemetry::{Counters, Lost};
use sonde_abi::record::flags;
use sonde_abi::{ChunkHeader, LifeEvent, LifeHeader, Record};

use self::steps::{Input, check};

fuzz_target!(|bytes: &[u8]| {
    let counters = Arc::new(Counters::default());
    let mut connections = Connections::new(Limits::default(), Arc::clone(&counters));
    let mut events = Vec::new();
    let mut input = Input(bytes);
    let mut positions = [[0u64; 2]; 2];
    let mut now = 1_000_000;
    let setup = input.byte().unwrap_or(0);
    while let Some(control) = input.byte() {
        let sock = u64::from(control >> 7);
        let direction = control >> 6 & 1;
        now += 1 << (control & 31);
        let length = input.byte().unwrap_or(0);
        let Some(position) = positions.get_mut(sock as usize).and_then(|p| p.get_mut(usize::from(direction)))
        else {
            return;
        };
        match control & 0x3f {
            0x3f => life(&mut connections, sock, length, now, &mut events),
            0x3e => *position += u64::from(length),
            0x3d => *position = position.saturating_sub(u64::from(length)),
            0x3c => connections.tick(now, &mut events),
            step => {
                let payload = input.bytes(usize::from(length) << (step & 3));
                let mut header = chunk(sock, direction, setup, now);
                header.position = *position;
                header.captured = payload.len() as u32;
                header.length = header.captured;
                if step & 0x20 != 0 {
                    header.length += u32::from(input.byte().unwrap_or(0)) << (step & 15);
                    header.flags |= flags::TAIL;
                    header.tail = *b"x\r\n0\r\n\r\n";
                }
                if step & 0x1f == 0x1f {
                    header.flags |= flags::END;
                }
                *position += u64::from(header.length);
                connections.record(&Record::Chunk(header, payload), &mut events);
            }
        }
        assert_eq!(counters.lost(Lost::ParserPanic), 0);
    }
    connections.finish(&mut events);
    check(&events);
});

fn chunk(sock: u64, direction: u8, setup: u8, now: u64) -> ChunkHeader {
    ChunkHeader {
        flags: u16::from(setup) & (flags::POSITION | flags::LATE),
        family: if setup & 1 == 0 { 2 } else { 1 },
        role: setup >> 3 & 1,
        ..steps::header(sock, direction, now)
    }
}

fn life(connections: &mut Connections, sock: u64, what: u8, now: u64, events: &mut Vec<Event>) {
    let event = match what & 3 {
        0 => LifeEvent::Open,
        1 => LifeEvent::Finished,
        2 => LifeEvent::Closed,
        _ => LifeEvent::UnixName,
    };
    let header = LifeHeader {
        kind: 2,
        event: event as u8,
        error: if what & 4 == 0 { 0 } else { 104 },
        flags: u16::from(what >> 4 & 1),
        written: u64::from(what >> 5 & 1) * 100,
        read: u64::from(what >> 6) * 100,
        time_ns: now,
        sock,
        first_local: 1,
        first_peer: if what & 8 == 0 { 2 } else { 3 },
        tgid: 1,
        tid: 2,
        ..LifeHeader::default()
    };
    connections.record(&Record::Life(header, &[]), events);
}
