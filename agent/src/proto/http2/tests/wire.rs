//! Writes frames and header blocks, and tells what came of them.

use std::fmt::Write as _;

use super::super::hpack::tests::Encoder;
use crate::conn::{Direction, Role};
use crate::proto::grpc::Messages;
use crate::proto::http1::tests::transcript::End;
use crate::proto::{Call, Event, Exchange};
use crate::telemetry::Lost;

pub(super) const DATA: u8 = 0;
pub(super) const HEADERS: u8 = 1;
pub(super) const RST_STREAM: u8 = 3;
pub(super) const SETTINGS: u8 = 4;
pub(super) const PUSH_PROMISE: u8 = 5;
pub(super) const GOAWAY: u8 = 7;
pub(super) const CONTINUATION: u8 = 9;

pub(super) const END_STREAM: u8 = 0x1;
pub(super) const END_HEADERS: u8 = 0x4;
pub(super) const PADDED: u8 = 0x8;
pub(super) const PRIORITY: u8 = 0x20;

pub(super) fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = (payload.len() as u32).to_be_bytes();
    [&length[1..], &[kind, flags], &stream.to_be_bytes(), payload].concat()
}

/// One end's view of a conversation: frames go in by side, whichever end it is.
pub(super) struct Wire {
    pub(super) end: End,
    pub(super) role: Role,
    encoders: [Encoder; 2],
}

pub(super) const CLIENT: usize = 0;
pub(super) const SERVER: usize = 1;

impl Wire {
    pub(super) fn new(role: Role) -> Self {
        Self { end: End::new(role), role, encoders: Default::default() }
    }

    pub(super) fn direction(&self, side: usize) -> Direction {
        if (side == CLIENT) == (self.role == Role::Client) { Direction::Write } else { Direction::Read }
    }

    /// One call, a millisecond after the one before.
    pub(super) fn send(&mut self, side: usize, bytes: &[u8]) {
        self.end.now += 1_000_000;
        self.end.call(self.direction(side), bytes, 0, &[]);
    }

    /// One call of which the last bytes were not captured.
    pub(super) fn send_cut(&mut self, side: usize, bytes: &[u8], captured: usize) {
        self.end.now += 1_000_000;
        let (bytes, rest) = bytes.split_at(captured);
        self.end.call(self.direction(side), bytes, rest.len() as u32, &[]);
    }

    /// Bytes that nobody saw.
    pub(super) fn lose(&mut self, side: usize, n: usize) {
        let direction = self.direction(side);
        self.end.positions[direction as usize] += n as u64;
    }

    pub(super) fn block(&mut self, side: usize, fields: &[(&str, &str)]) -> Vec<u8> {
        self.encoders[side].fields(fields)
    }

    pub(super) fn headers(
        &mut self,
        side: usize,
        stream: u32,
        flags: u8,
        fields: &[(&str, &str)],
    ) -> Vec<u8> {
        let block = self.block(side, fields);
        frame(HEADERS, END_HEADERS | flags, stream, &block)
    }

    pub(super) fn open(&mut self) {
        self.send(CLIENT, &[super::super::PREFACE, &frame(SETTINGS, 0, 0, &[])].concat());
        self.send(
            SERVER,
            &[frame(SETTINGS, 0, 0, &[0, 3, 0, 0, 0, 100]), frame(SETTINGS, 1, 0, &[])].concat(),
        );
        self.send(CLIENT, &frame(SETTINGS, 1, 0, &[]));
    }

    pub(super) fn request(&mut self, stream: u32, flags: u8, method: &str, path: &str) -> Vec<u8> {
        let fields = [(":method", method), (":scheme", "http"), (":authority", "shop:80"), (":path", path)];
        self.headers(CLIENT, stream, flags, &[&fields[..], &[("user-agent", "test/1")]].concat())
    }

    pub(super) fn response(&mut self, stream: u32, flags: u8, status: &str) -> Vec<u8> {
        self.headers(
            SERVER,
            stream,
            flags,
            &[(":status", status), ("server", "s"), ("x-stream", &stream.to_string())],
        )
    }

    pub(super) fn grpc_request(&mut self, stream: u32, path: &str, more: &[(&str, &str)]) -> Vec<u8> {
        let fields = [
            (":method", "POST"),
            (":scheme", "http"),
            (":path", path),
            (":authority", "shop"),
            ("content-type", "application/grpc+proto"),
            ("te", "trailers"),
        ];
        self.headers(CLIENT, stream, 0, &[&fields[..], more].concat())
    }

    pub(super) fn exchanges(&self) -> Vec<&Exchange> {
        let ended = self.end.events.iter().filter_map(|event| match event {
            Event::End(exchange) => Some(&**exchange),
            _ => None,
        });
        ended.collect()
    }

    /// Holes are given up.
    pub(super) fn wait(&mut self) {
        self.end.now += 100_000_000;
        self.end.connections.tick(self.end.now, &mut self.end.events);
    }

    /// One line an exchange, and what was lost.
    pub(super) fn told(&self) -> String {
        let mut text = String::new();
        for exchange in self.exchanges() {
            writeln!(text, "{}", line(exchange)).unwrap();
        }
        let begun = self.end.events.iter().filter(|event| matches!(event, Event::Begin(_))).count();
        if begun > self.exchanges().len() {
            writeln!(text, "{} without end", begun - self.exchanges().len()).unwrap();
        }
        for lost in Lost::ALL {
            if self.end.counters.lost(lost) > 0 {
                writeln!(text, "lost {} {}", lost.reason(), self.end.counters.lost(lost)).unwrap();
            }
        }
        text
    }
}

fn line(exchange: &Exchange) -> String {
    let Call::Http(call) = &exchange.call;
    assert_eq!(call.version, 2);
    let or = |text: &str| if text.is_empty() { "?".to_owned() } else { text.to_owned() };
    let size = |size: Option<u64>| size.map_or("?".into(), |size| size.to_string());
    let status = call.status.map_or("-".into(), |status| status.to_string());
    let mut line = format!("{} {} {status}", or(&call.method), or(&call.target));
    write!(line, " | {}", size(exchange.request.body_size)).unwrap();
    match exchange.response {
        Some(response) => write!(line, " | {}", size(response.body_size)).unwrap(),
        None => line.push_str(" | none"),
    }
    if let Some(rpc) = &call.rpc {
        let count = |messages: Option<Messages>| {
            messages.map_or("?".into(), |it| format!("{}/{}", it.count, it.bytes))
        };
        let status = rpc.status.map_or("-".into(), |status| status.to_string());
        write!(line, " | grpc {status} {} {}", count(rpc.request), count(rpc.response)).unwrap();
        if let Some(message) = &rpc.message {
            write!(line, " {message:?}").unwrap();
        }
    }
    if let Some(failure) = exchange.failure {
        write!(line, " | {failure:?}").unwrap();
    }
    if let Some(quality) = exchange.quality {
        write!(line, " | {quality:?}").unwrap();
    }
    line
}

/// The conversation as either end sees it: both must tell the same.
pub(super) fn told(converse: impl Fn(&mut Wire)) -> String {
    let [client, server] = [Role::Client, Role::Server].map(|role| {
        let mut wire = Wire::new(role);
        converse(&mut wire);
        wire.wait();
        wire.told()
    });
    assert_eq!(client, server);
    client
}
