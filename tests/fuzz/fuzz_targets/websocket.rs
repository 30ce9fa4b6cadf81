//! A WebSocket session that the input describes, cut into calls of which parts go unseen. Whatever that is: what is told of it is
//! true, and its bytes are told in full where the close tells positions.
//!
//! The input is a list of calls, two bytes each: a control byte (who, what kind of frame, how much is captured), and a length. With the
//! first byte's high bit the rest of the input is instead what either end writes, whatever it is.
#![no_main]

mod steps;

use std::sync::Arc;

use libfuzzer_sys::fuzz_target;
use sonde::conn::{Connections, Limits};
use sonde::proto::websocket::{Carried, Session};
use sonde::proto::{Call, Event, Exchange};
use sonde::telemetry::{Counters, Lost};
use sonde_abi::record::flags;
use sonde_abi::{ChunkHeader, LifeEvent, LifeHeader, Record};

use self::steps::{Input, check};

const REQUEST: &[u8] = b"GET /chat HTTP/1.1\r\nUpgrade: websocket\r\n\r\n";
const ANSWER: &[u8] = b"HTTP/1.1 101 Switching\r\nUpgrade: websocket\r\n\r\n";

/// One direction, as it truly is.
#[derive(Default)]
struct Way {
    position: u64,
    start: u64,
    messages: u64,
    fragmented: bool,
    /// The code of the frame that closed it.
    closed: Option<u16>,
}

struct Scene {
    connections: Connections,
    counters: Arc<Counters>,
    events: Vec<Event>,
    now: u64,
    /// This end is the server: it reads what the client writes.
    ways: [Way; 2],
    first_close: Option<u16>,
}

/// By direction: the server writes, and reads from the client.
const SERVER: usize = 0;
const CLIENT: usize = 1;

impl Scene {
    fn new() -> Self {
        let counters = Arc::new(Counters::default());
        let connections = Connections::new(Limits::default(), Arc::clone(&counters));
        let mut scene = Self {
            connections,
            counters,
            events: Vec::new(),
            now: 1_000_000,
            ways: <[Way; 2]>::default(),
            first_close: None,
        };
        scene.call(CLIENT, REQUEST, REQUEST.len());
        scene.call(SERVER, ANSWER, ANSWER.len());
        scene.ways.iter_mut().for_each(|way| way.start = way.position);
        scene
    }

    /// One call, of which so many bytes are captured.
    fn call(&mut self, way: usize, bytes: &[u8], captured: usize) {
        self.now += 1_000;
        let captured = captured.min(bytes.len());
        let header = ChunkHeader {
            flags: flags::POSITION,
            family: 2,
            position: self.ways[way].position,
            captured: captured as u32,
            length: bytes.len() as u32,
            ..steps::header(0, way as u8, self.now)
        };
        self.ways[way].position += bytes.len() as u64;
        self.connections.record(&Record::Chunk(header, &bytes[..captured]), &mut self.events);
    }

    /// A frame of the next kind that is allowed, as bytes.
    fn frame(&mut self, way: usize, kind: u8, length: usize) -> Vec<u8> {
        let there = &mut self.ways[way];
        if there.closed.is_some() {
            return Vec::new();
        }
        let (fin, opcode) = match kind & 7 {
            6 => (true, 9),
            7 => (true, 8),
            kind => (kind & 1 == 0, if there.fragmented { 0 } else { 1 + (kind >> 1 & 1) }),
        };
        let length = if opcode > 2 { length.min(125) } else { length };
        let mut payload = vec![b'x'; length];
        if opcode <= 2 {
            there.fragmented = !fin;
            there.messages += u64::from(fin);
        }
        if opcode == 8 {
            let code = 1000 + length as u16;
            if length >= 2 {
                payload[..2].copy_from_slice(&code.to_be_bytes());
            }
            there.closed = Some(if length >= 2 { code } else { 0 });
            self.first_close = self.first_close.or(there.closed);
        }
        let masked = if way == CLIENT { 0x80 } else { 0 };
        let mut frame = vec![u8::from(fin) << 7 | opcode];
        match length {
            0..=125 => frame.push(masked | length as u8),
            126..=65_535 => {
                frame.push(masked | 126);
                frame.extend((length as u16).to_be_bytes());
            }
            _ => {
                frame.push(masked | 127);
                frame.extend((length as u64).to_be_bytes());
            }
        }
        if way == CLIENT {
            let key = [3, 5, 7, 11];
            frame.extend(key);
            payload.iter_mut().enumerate().for_each(|(at, byte)| *byte ^= key[at % 4]);
        }
        frame.extend(payload);
        frame
    }

    fn close(&mut self, error: u16) {
        self.now += 1_000;
        let header = LifeHeader {
            kind: 2,
            event: LifeEvent::Closed as u8,
            error,
            written: self.ways[SERVER].position,
            read: self.ways[CLIENT].position,
            time_ns: self.now,
            first_local: 1,
            first_peer: 2,
            ..LifeHeader::default()
        };
        self.connections.record(&Record::Life(header, &[]), &mut self.events);
        self.now += 1_000_000_000;
        self.connections.tick(self.now, &mut self.events);
        self.connections.finish(&mut self.events);
        check(&self.events);
        assert_eq!(self.counters.lost(Lost::ParserPanic), 0);
    }

    /// The session that was told.
    fn told(&self) -> Option<(&Exchange, Session)> {
        let mut told = self.events.iter().filter_map(|event| match event {
            Event::Followed { session, .. } => session.as_deref(),
            _ => None,
        });
        let session = told.next()?;
        assert!(told.next().is_none(), "told twice");
        let Call::Http(call) = &session.call;
        Some((session, **call.session.as_ref().expect("what is told of it")))
    }
}

fuzz_target!(|bytes: &[u8]| {
    let mut scene = Scene::new();
    let mut input = Input(bytes);
    let setup = input.byte().unwrap_or(0);
    let error = if setup & 1 == 0 { 0 } else { 104 };
    if setup & 0x80 != 0 {
        while let Some(control) = input.byte() {
            let piece = input.bytes(usize::from(control & 0x3f));
            scene.call(usize::from(control >> 7), piece, if control & 0x40 == 0 { 64 } else { 16 });
        }
        scene.close(error);
        return;
    }
    // What is carried over to the next call.
    let mut ahead: [Vec<u8>; 2] = Default::default();
    while let (Some(control), Some(length)) = (input.byte(), input.byte()) {
        let way = usize::from(control >> 7);
        let frame = scene.frame(way, control, usize::from(length) << (control >> 3 & 3) * 3);
        ahead[way].extend(frame);
        let call = match control >> 5 & 3 {
            // With the next one, whole and seen, its first bytes seen, not seen at all.
            0 => continue,
            _ => std::mem::take(&mut ahead[way]),
        };
        match control >> 5 & 3 {
            1 => scene.call(way, &call, call.len()),
            2 => scene.call(way, &call, 16),
            _ => scene.ways[way].position += call.len() as u64,
        }
    }
    for (way, rest) in ahead.into_iter().enumerate() {
        scene.call(way, &rest, rest.len());
    }
    scene.close(error);
    let (exchange, session) = scene.told().expect("a session whose close was told");
    for (carried, way) in [(session.client, CLIENT), (session.server, SERVER)] {
        let Way { position, start, messages, .. } = scene.ways[way];
        let Carried { bytes, messages: told } = carried;
        assert_eq!(bytes, position - start);
        assert!(told.is_none_or(|told| told == messages), "{told:?} messages of {messages}");
    }
    // A frame that closed may have been seen at one end alone; never one that was not there.
    let codes = scene.ways.iter().filter_map(|way| way.closed).collect::<Vec<_>>();
    assert!(session.close.is_none_or(|code| codes.contains(&code)), "{:?} of {codes:?}", session.close);
    assert!(codes.is_empty() || exchange.failure.is_none(), "closed, and {:?}", exchange.failure);
});
