//! The table of connections: its bounds, and what it knows of each.

use std::sync::Arc;

use sonde_abi::record::flags;
use sonde_abi::{ChunkHeader, LifeEvent, LifeHeader, Record};

use super::{Address, Connections, Limits, Role};
use crate::proto::{Event, Exchange, Failure, Parser, Quality};
use crate::telemetry::{Counters, Lost};

const REQUEST: &[u8] = b"GET /a HTTP/1.1\r\n\r\n";
const RESPONSE: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n";

struct Node {
    connections: Connections,
    counters: Arc<Counters>,
    events: Vec<Event>,
}

fn node(limits: Limits) -> Node {
    let counters = Arc::new(Counters::default());
    Node { connections: Connections::new(limits, Arc::clone(&counters)), counters, events: Vec::new() }
}

fn header(sock: u64, direction: u8, position: u64) -> ChunkHeader {
    ChunkHeader {
        kind: 1,
        direction,
        flags: flags::POSITION,
        time_ns: 1_000_000,
        sock,
        position,
        tgid: 1,
        tid: 2,
        first_local: 1,
        first_peer: 2,
        local_port: 80,
        peer_port: 4000,
        family: 2,
        ..ChunkHeader::default()
    }
}

fn life(sock: u64, event: LifeEvent, length: usize) -> LifeHeader {
    LifeHeader {
        kind: 2,
        event: event as u8,
        length: length as u16,
        time_ns: 500,
        sock,
        first_local: 1,
        first_peer: 2,
        tgid: 7,
        tid: 8,
        ..LifeHeader::default()
    }
}

impl Node {
    fn chunk(&mut self, header: ChunkHeader, bytes: &[u8]) {
        let length = bytes.len() as u32;
        let header = ChunkHeader { captured: length, length, ..header };
        self.connections.record(&Record::Chunk(header, bytes), &mut self.events);
    }

    fn opens(&mut self, sock: u64, written: u64, read: u64) {
        let open = LifeHeader { written, read, tgid: 0, tid: 0, ..life(sock, LifeEvent::Open, 0) };
        self.connections.record(&Record::Life(open, &[]), &mut self.events);
    }

    fn ended(&self) -> Vec<&Exchange> {
        let ended = self.events.iter().filter_map(|event| match event {
            Event::End(exchange) => Some(&**exchange),
            _ => None,
        });
        ended.collect()
    }
}

#[test]
fn the_connection_idle_for_longest_makes_room() {
    let mut node = node(Limits { connections: 2, ..Limits::default() });
    node.chunk(header(1, 0, 0), REQUEST);
    node.chunk(header(2, 0, 0), REQUEST);
    node.chunk(header(1, 1, 0), RESPONSE);
    node.chunk(header(3, 0, 0), REQUEST);
    assert_eq!(node.counters.lost(Lost::ConnectionsFull), 1);
    assert_eq!(node.counters.connections.load(std::sync::atomic::Ordering::Relaxed), 2);
    let [answered, evicted] = node.ended()[..] else { panic!("{:?}", node.events) };
    assert_eq!((answered.opening.conn.sock, answered.quality), (1, None));
    assert_eq!((evicted.opening.conn.sock, evicted.quality), (2, Some(Quality::Gap)));
    assert_eq!(node.counters.exchanges.load(std::sync::atomic::Ordering::Relaxed), 2);
}

#[test]
fn another_socket_at_the_same_address_ends_the_first() {
    let mut node = node(Limits::default());
    node.chunk(header(1, 0, 0), REQUEST);
    node.chunk(ChunkHeader { first_local: 9, ..header(1, 0, 0) }, REQUEST);
    node.chunk(ChunkHeader { first_local: 9, ..header(1, 1, 0) }, RESPONSE);
    let [first, second] = node.ended()[..] else { panic!("{:?}", node.events) };
    // Nobody told of its end.
    assert_eq!((first.failure, first.quality), (None, Some(Quality::Gap)));
    assert_eq!((second.failure, second.response.is_some()), (None, true));
}

#[test]
fn the_first_exchange_tells_when_the_process_connected() {
    let mut node = node(Limits::default());
    node.connections.record(&Record::Life(life(1, LifeEvent::Open, 0), &[]), &mut node.events);
    for (at, n) in [(1, 0), (1 + REQUEST.len() as u64, RESPONSE.len() as u64)] {
        node.chunk(header(1, 0, at), REQUEST);
        node.chunk(header(1, 1, n), RESPONSE);
    }
    let [first, second] = node.ended()[..] else { panic!("{:?}", node.events) };
    let connect = first.opening.connect.expect("the connect call");
    assert_eq!((connect.time, connect.tgid, connect.tid), (500, 7, 8));
    assert_eq!(second.opening.connect, None);
}

#[test]
fn the_path_of_a_unix_socket_is_the_servers() {
    for (direction, role) in [(0, Role::Client), (1, Role::Server)] {
        let mut node = node(Limits::default());
        let name = life(1, LifeEvent::UnixName, 5);
        node.connections.record(&Record::Life(name, b"/path"), &mut node.events);
        node.chunk(ChunkHeader { family: 1, ..header(1, direction, 0) }, REQUEST);
        node.chunk(ChunkHeader { family: 1, ..header(1, 1 - direction, 0) }, RESPONSE);
        let [exchange] = node.ended()[..] else { panic!("{:?}", node.events) };
        assert_eq!(exchange.opening.role, role);
        let ends = &exchange.opening.ends;
        let named = if role == Role::Server { &ends.local } else { &ends.peer };
        assert_eq!(*named, Address::Unix("/path".into()));
    }
}

#[test]
fn a_panic_is_counted_and_costs_its_connection_only() {
    let mut node = node(Limits::default());
    node.chunk(header(1, 0, 0), REQUEST);
    node.chunk(header(2, 0, 0), REQUEST);
    // The hole makes the bytes wait that the parser then panics at: they must be given back too.
    node.chunk(header(2, 0, 5_000), Parser::PANIC);
    assert!(node.connections.buffered() > 0);
    node.connections.tick(1_000_000_000, &mut node.events);
    assert_eq!(node.counters.lost(Lost::ParserPanic), 1);
    assert_eq!(node.connections.buffered(), 0);
    // Whatever follows on that connection is left alone; the other one goes on.
    node.chunk(header(2, 1, 0), RESPONSE);
    node.chunk(header(2, 0, 6_000), REQUEST);
    node.chunk(header(1, 1, 0), RESPONSE);
    node.connections.finish(&mut node.events);
    let [exchange] = node.ended()[..] else { panic!("{:?}", node.ended()) };
    assert_eq!((exchange.opening.conn.sock, exchange.failure), (1, None));
    assert_eq!(node.counters.lost(Lost::ParserPanic), 1);
}

#[test]
fn what_breaks_off_does_so_when_that_is_told() {
    let mut node = node(Limits::default());
    node.chunk(header(1, 0, 0), REQUEST);
    node.chunk(header(2, 0, 0), b"POST /a HTTP/1.1\r\nContent-Length: 9000\r\n\r\n");
    node.chunk(header(3, 0, 0), REQUEST);
    let closed = LifeHeader { error: 104, time_ns: 3_000_000, ..life(1, LifeEvent::Closed, 0) };
    node.connections.record(&Record::Life(closed, &[]), &mut node.events);
    // Told behind a hole, taken when that is given up: the end of the stream was before.
    let end = ChunkHeader { time_ns: 4_000_000, flags: flags::POSITION | flags::END, ..header(2, 1, 0) };
    node.chunk(header(2, 0, 5_000), b"x");
    node.connections.record(&Record::Chunk(end, &[]), &mut node.events);
    node.connections.tick(900_000_000, &mut node.events);
    let told = |sock| {
        let exchange = node.ended().into_iter().find(|exchange| exchange.opening.conn.sock == sock).unwrap();
        (exchange.failure, exchange.failed)
    };
    assert_eq!(told(1), (Some(Failure::ConnectionReset), Some(3_000_000)));
    assert_eq!(told(2), (Some(Failure::Closed), Some(4_000_000)));
    assert_eq!(node.ended().len(), 2);
}

/// A request, and an answer of which only the first `seen` bytes of `RESPONSE` and a body of ten are told; then the end. Returns
/// what became of it, and of a record that comes behind the end with the rest.
fn cut_short(
    seen: usize,
    end: LifeHeader,
    rest_comes: bool,
) -> (Option<Failure>, Option<Quality>, Option<u64>) {
    let answer = b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n0123456789";
    let mut node = node(Limits::default());
    node.chunk(header(1, 1, 0), REQUEST);
    if seen > 0 {
        node.chunk(header(1, 0, 0), &answer[..seen]);
    }
    let end =
        LifeHeader { time_ns: 2_000_000, read: REQUEST.len() as u64, written: answer.len() as u64, ..end };
    node.connections.record(&Record::Life(end, &[]), &mut node.events);
    if rest_comes {
        let rest = ChunkHeader { time_ns: 2_100_000, ..header(1, 0, seen as u64) };
        node.chunk(rest, &answer[seen..]);
    } else {
        node.connections.tick(40_000_000, &mut node.events);
        assert_eq!(node.ended().len(), usize::from(seen == answer.len()), "it waits for the rest");
        node.connections.tick(60_000_000, &mut node.events);
    }
    let [exchange] = node.ended()[..] else { panic!("{:?}", node.events) };
    let size = exchange.response.and_then(|response| response.body_size);
    (exchange.failure, exchange.quality, size)
}

#[test]
fn bytes_that_are_missing_before_the_end_are_a_gap() {
    let (finished, closed) = (life(1, LifeEvent::Finished, 0), life(1, LifeEvent::Closed, 0));
    for end in [finished, closed] {
        for seen in [0, 20, 45] {
            let (_, quality, _) = cut_short(seen, end, false);
            assert_eq!(quality, Some(Quality::Gap), "{seen} bytes seen before {end:?}");
            // They may only be late.
            assert_eq!(
                cut_short(seen, end, true),
                (None, None, Some(10)),
                "{seen} bytes seen before {end:?}"
            );
        }
        assert_eq!(cut_short(49, end, false), (None, None, Some(10)));
    }
}

#[test]
fn what_a_reset_interrupts_is_no_gap() {
    let reset = LifeHeader { error: 104, ..life(1, LifeEvent::Closed, 0) };
    assert_eq!(cut_short(45, reset, false), (Some(Failure::ConnectionReset), None, Some(6)));
    // Its own record tells what it moved.
    assert_eq!(cut_short(45, reset, true), (None, None, Some(10)));
}

#[test]
fn the_end_of_a_connection_that_waits_is_its_end_when_another_takes_its_place() {
    let mut node = node(Limits::default());
    node.chunk(header(1, 1, 0), REQUEST);
    let closed =
        LifeHeader { written: 9, read: REQUEST.len() as u64, error: 104, ..life(1, LifeEvent::Closed, 0) };
    node.connections.record(&Record::Life(closed, &[]), &mut node.events);
    assert!(node.ended().is_empty());
    node.chunk(ChunkHeader { first_local: 9, ..header(1, 1, 0) }, REQUEST);
    let [exchange] = node.ended()[..] else { panic!("{:?}", node.events) };
    assert_eq!((exchange.failure, exchange.quality), (Some(Failure::ConnectionReset), None));
}

#[test]
fn exchanges_of_an_older_connection_say_so() {
    let unknown = u64::MAX;
    for (role, marked, opens) in [(0, true, [400, 900]), (1, false, [400, 900]), (0, true, [unknown; 2])] {
        let mut node = node(Limits::default());
        node.opens(1, opens[0], opens[1]);
        for (at, n) in [(400, 900), (400 + REQUEST.len() as u64, 900 + RESPONSE.len() as u64)] {
            node.chunk(ChunkHeader { role, ..header(1, 0, at) }, REQUEST);
            node.chunk(ChunkHeader { role, ..header(1, 1, n) }, RESPONSE);
        }
        let qualities: Vec<_> = node.ended().iter().map(|exchange| exchange.quality).collect();
        assert_eq!(qualities, [marked.then_some(Quality::Joined); 2], "role {role}");
    }
}

/// Three exchanges of a connection, of which the records of some chunks are lost: what the exchanges say.
fn lossy(opens: Option<[u64; 2]>, role: u8, lost: &[usize]) -> Vec<(Option<u16>, Option<Quality>)> {
    let mut node = node(Limits::default());
    if let Some([written, read]) = opens {
        node.opens(1, written, read);
    }
    let [mut written, mut read] = opens.unwrap_or([0; 2]);
    for (i, status) in [201, 202, 203].into_iter().enumerate() {
        let response = format!("HTTP/1.1 {status} A\r\nContent-Length: 0\r\n\r\n").into_bytes();
        for (at, direction, bytes) in [(2 * i, 1, REQUEST), (2 * i + 1, 0, &response)] {
            let position = if direction == 0 { &mut written } else { &mut read };
            if !lost.contains(&at) {
                let time_ns = 1_000_000_000 * at as u64;
                node.chunk(ChunkHeader { role, time_ns, ..header(1, direction, *position) }, bytes);
            }
            *position += bytes.len() as u64;
        }
    }
    node.connections.finish(&mut node.events);
    let status = |exchange: &&Exchange| match &exchange.call {
        crate::proto::Call::Http(call) => call.status,
    };
    node.ended().iter().map(|exchange| (status(exchange), exchange.quality)).collect()
}

#[test]
fn what_is_lost_at_the_beginning_of_a_connection_shows() {
    use Quality::{Gap, Joined};
    assert_eq!(lossy(None, 0, &[]), [(Some(201), None), (Some(202), None), (Some(203), None)]);
    // The second request must not take the third one's answer.
    assert_eq!(lossy(None, 0, &[0, 1, 3, 4]), [(None, Some(Gap))]);
    assert_eq!(lossy(None, 2, &[0, 1, 3, 4]), [(None, Some(Gap))]);
    assert_eq!(lossy(None, 2, &[0, 1]), [(None, Some(Gap)), (Some(203), None)]);
    assert_eq!(lossy(Some([70, 50]), 0, &[0, 1, 3, 4]), [(None, Some(Gap))]);
    // Older than Sonde, and all there since.
    let joined = [(Some(201), Some(Joined)), (Some(202), Some(Joined)), (Some(203), Some(Joined))];
    assert_eq!(lossy(Some([70, 50]), 0, &[]), joined);
    assert_eq!(lossy(Some([70, 50]), 2, &[]), joined.map(|(status, _)| (status, None)));
}

#[test]
fn a_connection_that_was_forgotten_is_none_that_lost_records() {
    let limits = Limits { connections: 2, ..Limits::default() };
    let mut node = node(limits);
    let idle = limits.idle + 2_000_000_000;
    node.chunk(header(1, 1, 0), REQUEST);
    node.chunk(header(1, 0, 0), RESPONSE);
    node.connections.tick(idle, &mut node.events);
    assert_eq!(node.counters.connections.load(std::sync::atomic::Ordering::Relaxed), 0);
    let again = |sock, direction, bytes: &[u8]| ChunkHeader {
        time_ns: idle,
        ..header(sock, direction, bytes.len() as u64)
    };
    node.chunk(again(1, 1, REQUEST), REQUEST);
    node.chunk(again(1, 0, RESPONSE), RESPONSE);
    // Two others take its room.
    for sock in [2, 3] {
        node.chunk(ChunkHeader { time_ns: idle, ..header(sock, 1, 0) }, REQUEST);
        node.chunk(ChunkHeader { time_ns: idle, ..header(sock, 0, 0) }, RESPONSE);
    }
    node.chunk(ChunkHeader { time_ns: idle, ..header(1, 1, 2 * REQUEST.len() as u64) }, REQUEST);
    node.chunk(ChunkHeader { time_ns: idle, ..header(1, 0, 2 * RESPONSE.len() as u64) }, RESPONSE);
    let of_first = node.ended().into_iter().filter(|exchange| exchange.opening.conn.sock == 1);
    let qualities: Vec<_> =
        of_first.map(|exchange| (exchange.response.is_some(), exchange.quality)).collect();
    assert_eq!(qualities, [(true, None), (true, Some(Quality::Joined)), (true, Some(Quality::Joined))]);
    assert_eq!(node.counters.lost(Lost::Reassembly), 0);
}

#[test]
fn a_chunk_may_overtake_the_opening_of_its_connection() {
    let mut node = node(Limits::default());
    node.chunk(header(1, 1, 50), REQUEST);
    assert!(node.connections.buffered() > 0, "it looks as if something was lost");
    node.opens(1, 70, 50);
    node.chunk(header(1, 0, 70), RESPONSE);
    let [exchange] = node.ended()[..] else { panic!("{:?}", node.events) };
    assert_eq!((exchange.response.is_some(), exchange.quality), (true, Some(Quality::Joined)));
}

#[test]
fn a_hole_is_given_up_after_its_time_and_memory_is_bounded() {
    let limits = Limits::default();
    let bound = limits.reassembly.bytes + 1024;
    let mut node = node(limits);
    node.chunk(header(1, 0, 0), b"POST /a HTTP/1.1\r\nContent-Length: 9000000\r\n\r\n");
    for i in 0..2000 {
        node.chunk(header(1, 0, 1000 + i * 1024), &[b'x'; 1024]);
        assert!(node.connections.buffered() <= bound, "{}", node.connections.buffered());
    }
    assert_eq!(node.counters.lost(Lost::Reassembly), 1);
    node.chunk(header(1, 0, 5_000_000), &[b'x'; 1024]);
    assert!(node.connections.buffered() > 0);
    node.connections.tick(1_000_000_000, &mut node.events);
    assert_eq!(node.connections.buffered(), 0);
    assert_eq!(node.counters.lost(Lost::Reassembly), 2);
    assert_eq!(node.counters.lost(Lost::Desync), 0, "inside the body nothing is lost by it");
}

#[test]
fn a_head_without_end_does_not_grow() {
    let limits = Limits::default();
    let bound = 2 * limits.head;
    let mut node = node(limits);
    node.chunk(header(1, 1, 0), b"GET /a HTTP/1.1\r\n");
    for i in 0..10_000 {
        node.chunk(header(1, 1, 17 + i * 1024), &[b'x'; 1024]);
        assert!(node.connections.buffered() <= bound);
    }
    node.chunk(header(1, 0, 0), RESPONSE);
    let [exchange] = node.ended()[..] else { panic!("{:?}", node.ended()) };
    assert_eq!(exchange.quality, Some(Quality::Truncated));
}
