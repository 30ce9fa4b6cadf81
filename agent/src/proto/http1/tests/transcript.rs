//! Conversations as text, and what came out of them as text.
//!
//! A line is one call, a millisecond after the one before:
//! - `> BYTES` the client sends, `< BYTES` the server sends, with `\r`, `\n`, `\t`, `\\` and `\xHH`. `...N` behind them: N more
//!   bytes that were not captured, of which the last eight are in the record's tail; `...N|BYTES` ends in those.
//! - `!gap > N`, `!gap < N`: N bytes went unseen.
//! - `!end >`: a read of length 0 at the end of what the client sends; `!fin <`: the server has sent its FIN.
//! - `!close`, `!reset`, `!timeout`: the connection is gone; `!closed`, `!broken`: the same as the first two, and how far the process had
//!   come is told.
//! - `!late`: it was older than Sonde. `!unix`: a unix socket, `!wait MS`: nothing happens, `!finish`: Sonde stops.
//! - `#`: a remark.

use std::fmt::Write as _;
use std::sync::Arc;

use sonde_abi::record::flags;
use sonde_abi::{ChunkHeader, Family, LifeEvent, LifeHeader, Record};

use crate::conn::{Connections, Direction, Limits, Role, Stamp};
use crate::proto::grpc::Messages;
use crate::proto::websocket::{Carried, Session};
use crate::proto::{Call, Event, Exchange, Message, Milestone};
use crate::telemetry::{Counters, Lost};

const MILLISECOND: u64 = 1_000_000;

/// Runs a transcript as either end sees it. One text where both see the same.
pub(super) fn check(transcript: &str) -> String {
    let [client, server] = [Role::Client, Role::Server].map(|role| run(transcript, role));
    if client == server { client } else { format!("client:\n{client}server:\n{server}") }
}

fn run(transcript: &str, role: Role) -> String {
    let mut end = End::new(role);
    for line in transcript.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#')) {
        end.line(line);
    }
    render(&end.events, &end.counters)
}

/// One end of one connection, as the kernel side reports it.
pub(in crate::proto) struct End {
    role: Role,
    pub(in crate::proto) connections: Connections,
    pub(in crate::proto) counters: Arc<Counters>,
    pub(in crate::proto) events: Vec<Event>,
    pub(in crate::proto) now: u64,
    pub(in crate::proto) positions: [u64; 2],
    family: Family,
    pub(in crate::proto) flags: u16,
}

impl End {
    pub(in crate::proto) fn new(role: Role) -> Self {
        let counters = Arc::new(Counters::default());
        Self {
            role,
            connections: Connections::new(Limits::default(), Arc::clone(&counters)),
            counters,
            events: Vec::new(),
            now: 0,
            // The SYN counts as written by the end that called connect.
            positions: if role == Role::Client { [1, 0] } else { [0, 0] },
            family: Family::Inet4,
            flags: flags::POSITION,
        }
    }

    fn line(&mut self, line: &str) {
        self.now += MILLISECOND;
        let (verb, rest) = line.split_once(' ').unwrap_or((line, ""));
        match verb {
            ">" | "<" => {
                let (bytes, rest) = rest.split_once("...").unwrap_or((rest, ""));
                let (more, tail) = rest.split_once('|').unwrap_or((rest, ""));
                let more = if more.is_empty() { 0 } else { more.parse().unwrap() };
                self.call(self.direction(verb), &unescape(bytes), more, &unescape(tail));
            }
            "!gap" => {
                let (side, n) = rest.split_once(' ').unwrap();
                self.positions[self.direction(side) as usize] += n.parse::<u64>().unwrap();
            }
            "!end" => {
                let direction = self.direction(rest);
                if direction == Direction::Read {
                    let header = ChunkHeader { flags: self.flags | flags::END, ..self.header(direction) };
                    self.record(&Record::Chunk(header, &[]));
                }
            }
            "!fin" => {
                if self.direction(rest) == Direction::Write {
                    self.life(LifeEvent::Finished, 0);
                }
            }
            "!close" => self.life(LifeEvent::Closed, 0),
            "!reset" => self.life(LifeEvent::Closed, 104),
            "!closed" => self.gone(0),
            "!broken" => self.gone(104),
            "!timeout" => self.life(LifeEvent::Closed, 110),
            "!late" => {
                self.flags |= flags::LATE;
                self.positions = [70_000, 80_000];
            }
            "!unix" => self.family = Family::Unix,
            "!wait" => {
                self.now += rest.parse::<u64>().unwrap() * MILLISECOND;
                self.connections.tick(self.now, &mut self.events);
            }
            "!finish" => self.connections.finish(&mut self.events),
            _ => panic!("no such line: {line}"),
        }
    }

    fn direction(&self, side: &str) -> Direction {
        match (side, self.role) {
            (">", Role::Client) | ("<", Role::Server) => Direction::Write,
            (">", Role::Server) | ("<", Role::Client) => Direction::Read,
            _ => panic!("no such side: {side}"),
        }
    }

    pub(in crate::proto) fn header(&self, direction: Direction) -> ChunkHeader {
        ChunkHeader {
            kind: 1,
            direction: direction as u8,
            flags: self.flags,
            time_ns: self.now,
            sock: 0xffff_8880_0000_1000,
            position: self.positions[direction as usize],
            tgid: 100,
            tid: 101,
            first_local: 1,
            first_peer: 2,
            local_port: 80,
            peer_port: 4000,
            family: self.family as u8,
            ..ChunkHeader::default()
        }
    }

    /// One call, in records as the kernel side cuts them.
    pub(in crate::proto) fn call(&mut self, direction: Direction, bytes: &[u8], more: u32, ends: &[u8]) {
        let pieces = bytes.chunks(sonde_abi::limits::PIECE);
        let count = pieces.len().max(1);
        for (i, piece) in pieces.chain((bytes.is_empty()).then_some(&[][..])).enumerate() {
            let last = i + 1 == count;
            let mut header = self.header(direction);
            header.captured = piece.len() as u32;
            header.length = header.captured;
            if !last {
                header.flags |= flags::CONTINUES;
            } else if more > 0 {
                header.length += more;
                header.flags |= flags::TAIL;
                header.tail[8 - ends.len()..].copy_from_slice(ends);
            }
            self.positions[direction as usize] += u64::from(header.length);
            self.record(&Record::Chunk(header, piece));
        }
    }

    /// The connection is gone.
    pub(in crate::proto) fn close(&mut self) {
        self.life(LifeEvent::Closed, 0);
    }

    /// The connection is gone, and where either direction had come is told.
    fn gone(&mut self, error: u16) {
        let [written, read] = self.positions;
        self.event(LifeHeader {
            event: LifeEvent::Closed as u8,
            error,
            written,
            read,
            ..LifeHeader::default()
        });
        // What is missing before it is waited for.
        self.now += 100 * MILLISECOND;
        self.connections.tick(self.now, &mut self.events);
    }

    pub(in crate::proto) fn life(&mut self, event: LifeEvent, error: u16) {
        self.event(LifeHeader { event: event as u8, error, ..LifeHeader::default() });
    }

    fn event(&mut self, header: LifeHeader) {
        let header = LifeHeader {
            kind: 2,
            time_ns: self.now,
            sock: 0xffff_8880_0000_1000,
            first_local: 1,
            first_peer: 2,
            ..header
        };
        self.record(&Record::Life(header, &[]));
    }

    pub(in crate::proto) fn record(&mut self, record: &Record<'_>) {
        self.connections.record(record, &mut self.events);
    }
}

fn unescape(text: &str) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        bytes.push(match byte {
            b'\\' => match rest.next().unwrap() {
                b'r' => b'\r',
                b'n' => b'\n',
                b't' => b'\t',
                b'\\' => b'\\',
                b'x' => {
                    let hex = [rest.next().unwrap(), rest.next().unwrap()];
                    u8::from_str_radix(std::str::from_utf8(&hex).unwrap(), 16).unwrap()
                }
                other => panic!("no such escape: {}", char::from(other)),
            },
            byte => byte,
        });
    }
    bytes
}

/// One line an exchange, in the order of their ends; then those without an end, and what was lost. Checks on the way
/// that events come in their order. Times are milliseconds, that is, lines.
pub(super) fn render(events: &[Event], counters: &Counters) -> String {
    let mut text = String::new();
    let mut open = Vec::new();
    for event in events {
        match event {
            Event::Begin(opening) => open.push((opening.id, None, None)),
            Event::Milestone { id, what, stamp } => {
                let (_, requested, responding) = open.iter_mut().find(|(open, ..)| open == id).expect("open");
                let slot = if matches!(what, Milestone::Requested { .. }) { requested } else { responding };
                assert_eq!(slot.replace(*stamp), None, "a milestone twice");
            }
            Event::End(exchange) => {
                let id = exchange.opening.id;
                let at = open.iter().position(|(open, ..)| *open == id).expect("begun, and not ended");
                let (_, requested, responding) = open.remove(at);
                line(&mut text, exchange, requested, responding);
            }
            Event::Followed { id, session } => {
                writeln!(text, "behind {}: {}", id.0, followed(session.as_deref())).unwrap();
            }
        }
    }
    for (id, ..) in open {
        writeln!(text, "without end: {}", id.0).unwrap();
    }
    for lost in Lost::ALL {
        let n = counters.lost(lost);
        if n > 0 {
            writeln!(text, "lost {} {n}", lost.reason()).unwrap();
        }
    }
    text
}

fn followed(session: Option<&Exchange>) -> String {
    let Some(session) = session else { return "nobody saw the end".into() };
    let Call::Http(call) = &session.call;
    let Session { end, client, server, close } = **call.session.as_ref().expect("a session");
    let messages = |messages: Option<u64>| messages.map_or_else(|| "?".into(), |n| n.to_string());
    let way = |carried: Carried| format!("{} of {} B", messages(carried.messages), carried.bytes);
    let start = session.opening.first.time / MILLISECOND;
    let mut text =
        format!("{} {start}-{} | {} | {}", call.target, end / MILLISECOND, way(client), way(server));
    close.into_iter().for_each(|code| write!(text, " | {code}").unwrap());
    session.failure.into_iter().for_each(|failure| write!(text, " | {failure:?}").unwrap());
    session.quality.into_iter().for_each(|quality| write!(text, " | {quality:?}").unwrap());
    text
}

fn line(text: &mut String, exchange: &Exchange, requested: Option<Stamp>, responding: Option<Stamp>) {
    let Call::Http(call) = &exchange.call;
    let status = call.status.map_or_else(|| "-".into(), |status| status.to_string());
    write!(text, "{} {} {status}", call.method, call.target).unwrap();
    write!(text, " | {}", message(&exchange.request)).unwrap();
    if requested.is_none() {
        text.push_str(" unfinished");
    }
    match &exchange.response {
        Some(response) => write!(text, " | {}", message(response)).unwrap(),
        None => text.push_str(" | none"),
    }
    if let (Some(stamp), Some(response)) = (responding, &exchange.response) {
        assert_eq!(stamp, response.first);
    }
    if let Some(failure) = exchange.failure {
        write!(text, " | {failure:?}").unwrap();
    }
    if let Some(quality) = exchange.quality {
        write!(text, " | {quality:?}").unwrap();
    }
    if let Some(rpc) = &call.rpc {
        let messages = |messages: Option<Messages>| {
            messages
                .map_or_else(|| "?".into(), |messages| format!("{} of {} B", messages.count, messages.bytes))
        };
        let status = rpc.status.map_or_else(|| "-".into(), |status| status.to_string());
        write!(text, " | rpc {status} > {} < {}", messages(rpc.request), messages(rpc.response)).unwrap();
        rpc.message.iter().for_each(|message| write!(text, " {message:?}").unwrap());
    }
    if call.upgraded.is_some() {
        text.push_str(" | upgraded");
    }
    text.push('\n');
}

fn message(message: &Message) -> String {
    let Message { first, last, body_size } = message;
    let size = body_size.map_or_else(|| "?".into(), |size| format!("{size} B"));
    format!("{}-{} {size}", first.time / MILLISECOND, last.time / MILLISECOND)
}
