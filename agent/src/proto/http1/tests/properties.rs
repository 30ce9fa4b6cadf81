//! A conversation gives the same exchanges however it is cut into calls and captured, in any order that positions can
//! mend; with losses the same or marked ones, and none that is wrong.

use std::collections::BTreeMap;

use proptest::prelude::*;
use sonde_abi::limits::PIECE;
use sonde_abi::record::flags;
use sonde_abi::{ChunkHeader, Record};

use super::transcript::End;
use crate::conn::{Direction, Role};
use crate::proto::{Call, Event, Exchange, Milestone, Quality};
use crate::telemetry::Lost;

const MICROSECOND: u64 = 1000;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Framing {
    None,
    Length(usize),
    /// Chunks of that many bytes, so often.
    Chunked(usize, usize),
}

impl Framing {
    fn size(self) -> u64 {
        (match self {
            Self::None => 0,
            Self::Length(n) => n,
            Self::Chunked(size, count) => size * count,
        }) as u64
    }
}

#[derive(Clone, Debug)]
struct Spec {
    method: &'static str,
    request: Framing,
    response: Framing,
    interim: usize,
    padding: usize,
}

#[derive(Clone, Debug)]
struct Conversation {
    /// One exchange each in turn, or several that are pipelined.
    bursts: Vec<Vec<Spec>>,
    role: Role,
    /// Drives every choice below; used round and round.
    choices: Vec<u8>,
}

/// One record that the kernel side would send.
#[derive(Clone, Debug)]
struct Piece {
    is_request: bool,
    start: usize,
    len: usize,
    captured: usize,
    /// Exchanges whose bytes these are, first and last.
    of: (usize, usize),
    continues: bool,
    time: u64,
}

struct Stream {
    bytes: Vec<u8>,
    /// Ends of heads.
    heads: Vec<usize>,
    /// Where the messages of each exchange end.
    ends: Vec<usize>,
}

struct Choices<'a>(std::iter::Cycle<std::slice::Iter<'a, u8>>);

impl Choices<'_> {
    fn below(&mut self, n: usize) -> usize {
        if n <= 1 {
            return 0;
        }
        let (a, b) = (*self.0.next().unwrap() as usize, *self.0.next().unwrap() as usize);
        (a * 256 + b) % n
    }
}

fn framing() -> impl Strategy<Value = Framing> {
    prop_oneof![
        Just(Framing::None),
        (0usize..3000).prop_map(Framing::Length),
        ((1usize..700), (0usize..4)).prop_map(|(size, count)| Framing::Chunked(size, count)),
    ]
}

fn spec() -> impl Strategy<Value = Spec> {
    let method = prop_oneof![Just("GET"), Just("POST"), Just("HEAD"), Just("PATCH")];
    let padding = prop_oneof![4 => 0usize..60, 1 => 1000usize..3000];
    (method, framing(), framing(), 0usize..3, padding).prop_map(
        |(method, request, response, interim, padding)| Spec {
            method,
            request: if method == "POST" || method == "PATCH" { request } else { Framing::None },
            response: if response == Framing::None { Framing::Length(0) } else { response },
            interim: interim.saturating_sub(1),
            padding,
        },
    )
}

fn conversation(burst: std::ops::Range<usize>) -> impl Strategy<Value = Conversation> {
    let bursts = prop::collection::vec(prop::collection::vec(spec(), burst), 1..7);
    let role = prop_oneof![Just(Role::Client), Just(Role::Server)];
    (bursts, role, prop::collection::vec(any::<u8>(), 8..200))
        .prop_map(|(bursts, role, choices)| Conversation { bursts, role, choices })
}

/// Every exchange has a status of its own.
fn status(exchange: usize) -> u16 {
    205 + exchange as u16
}

/// What bodies are made of. Only where all framing is seen can they hold anything.
const ANYTHING: &[u8] = b"abc\r\n0\r\n\r\nGET / HTTP/1.1\r\n\r\nHTTP/1.1 500 No\r\n\r\n";
const PLAIN: &[u8] = b"abcdefgh \r\nijk";

fn body(bytes: &mut Vec<u8>, framing: Framing, of: &[u8]) {
    let content = |n| (0..n).map(|i| of[i % of.len()]);
    match framing {
        Framing::None => {}
        Framing::Length(n) => bytes.extend(content(n)),
        Framing::Chunked(size, count) => {
            for _ in 0..count {
                bytes.extend(format!("{size:x};ext=1\r\n").bytes());
                bytes.extend(content(size));
                bytes.extend(b"\r\n");
            }
            bytes.extend(b"0\r\n\r\n");
        }
    }
}

fn fields(framing: Framing, padding: usize) -> String {
    let padding = "x".repeat(padding);
    match framing {
        Framing::None => format!("X: {padding}\r\n\r\n"),
        Framing::Length(n) => format!("X: {padding}\r\nContent-Length: {n}\r\n\r\n"),
        Framing::Chunked(..) => format!("X: {padding}\r\nTransfer-Encoding: chunked\r\n\r\n"),
    }
}

impl Conversation {
    fn specs(&self) -> impl Iterator<Item = &Spec> {
        self.bursts.iter().flatten()
    }

    fn streams(&self, of: &[u8]) -> [Stream; 2] {
        let empty = || Stream { bytes: Vec::new(), heads: Vec::new(), ends: Vec::new() };
        let [mut requests, mut responses] = [empty(), empty()];
        for (i, spec) in self.specs().enumerate() {
            let Spec { method, request, response, interim, padding } = spec;
            requests
                .bytes
                .extend(format!("{method} /{i} HTTP/1.1\r\n{}", fields(*request, *padding)).bytes());
            requests.heads.push(requests.bytes.len());
            body(&mut requests.bytes, *request, of);
            requests.ends.push(requests.bytes.len());
            for _ in 0..*interim {
                responses.bytes.extend(b"HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n");
                responses.heads.push(responses.bytes.len());
            }
            let head = format!("HTTP/1.1 {} OK\r\n{}", status(i), fields(*response, *padding));
            responses.bytes.extend(head.bytes());
            responses.heads.push(responses.bytes.len());
            if *method != "HEAD" {
                body(&mut responses.bytes, *response, of);
            }
            responses.ends.push(responses.bytes.len());
        }
        [requests, responses]
    }

    /// The records of the conversation. `cut`: bytes behind the heads may go uncaptured.
    fn pieces(&self, streams: &[Stream; 2], choices: &mut Choices<'_>, cut: bool) -> Vec<Piece> {
        let mut pieces = Vec::new();
        let mut at = [0, 0];
        let mut last = 0;
        for burst in &self.bursts {
            last += burst.len();
            let ends = [streams[0].ends[last - 1], streams[1].ends[last - 1]];
            while at != ends {
                // A response follows the whole of its request.
                let answerable =
                    (0..last).rev().find(|&i| streams[0].ends[i] <= at[0]).map_or(0, |i| streams[1].ends[i]);
                let can = [at[0] < ends[0], at[1] < answerable];
                let side = match can {
                    [true, true] => choices.below(2),
                    [true, false] => 0,
                    _ => 1,
                };
                let limit = if side == 0 { ends[0] } else { answerable } - at[side];
                let len = match choices.below(4) {
                    0 => limit,
                    1 => 1 + choices.below(limit.min(8)),
                    _ => 1 + choices.below(limit),
                };
                let call = at[side]..at[side] + len;
                pieces_of(&streams[side], side == 0, call, choices, cut, &mut pieces);
                at[side] += len;
            }
        }
        pieces
    }

    fn run(&self, streams: &[Stream; 2], pieces: &[Piece], late: bool) -> (Vec<Exchange>, End) {
        let mut end = End::new(self.role);
        for piece in pieces {
            end.now = end.now.max(piece.time);
            let direction = if piece.is_request == (self.role == Role::Client) {
                Direction::Write
            } else {
                Direction::Read
            };
            let stream = &streams[usize::from(!piece.is_request)];
            let bytes = &stream.bytes[piece.start..piece.start + piece.len];
            let base = end.header(direction);
            let mut header = ChunkHeader {
                position: base.position + piece.start as u64 + if late { 100 } else { 0 },
                length: piece.len as u32,
                captured: piece.captured as u32,
                time_ns: piece.time,
                ..base
            };
            if piece.continues {
                header.flags |= flags::CONTINUES;
            }
            if piece.captured < piece.len {
                header.flags |= flags::TAIL;
                let tail = &bytes[bytes.len().saturating_sub(8)..];
                header.tail[8 - tail.len()..].copy_from_slice(tail);
            }
            end.connections.record(&Record::Chunk(header, &bytes[..piece.captured]), &mut end.events);
        }
        end.now += 1000 * 1000 * MICROSECOND;
        end.connections.tick(end.now, &mut end.events);
        // An open-ended last message ends with the connection.
        end.close();
        let exchanges = end.events.iter().filter_map(|event| match event {
            Event::End(exchange) => Some(Exchange::clone(exchange)),
            _ => None,
        });
        (exchanges.collect(), end)
    }
}

/// The records of one call.
fn pieces_of(
    stream: &Stream,
    is_request: bool,
    call: std::ops::Range<usize>,
    choices: &mut Choices<'_>,
    cut: bool,
    pieces: &mut Vec<Piece>,
) {
    let exchange = |at: usize| stream.ends.iter().position(|&end| at < end).unwrap();
    let mut from = call.start;
    while from < call.end {
        let len = (call.end - from).min(PIECE);
        let to = from + len;
        // Bytes of heads are captured always.
        let head = |at: usize| {
            let message = stream.ends[..exchange(at)].last().copied().unwrap_or(0);
            let next = stream.heads.iter().rposition(|&head| head <= stream.ends[exchange(at)]);
            at >= message && next.is_some_and(|next| at < stream.heads[next])
        };
        let needed = (from..to).rev().find(|&at| head(at)).map_or(0, |at| at + 1 - from);
        let captured = if cut && choices.below(2) == 0 { needed } else { len };
        // An uncaptured remainder ends the piece of the call; what the kernel copies of one is contiguous.
        let time = (pieces.len() as u64 + 1) * 100 * MICROSECOND;
        let of = (exchange(from), exchange(to - 1));
        pieces.push(Piece { is_request, start: from, len, captured, of, continues: to < call.end, time });
        from = to;
    }
}

fn call(exchange: &Exchange) -> (usize, Option<u16>) {
    let Call::Http(call) = &exchange.call;
    (call.target.strip_prefix('/').and_then(|id| id.parse().ok()).unwrap_or(usize::MAX), call.status)
}

/// All that a span tells is as it was.
fn assert_true(spec: &Spec, exchange: &Exchange, cut: bool) -> Result<(), TestCaseError> {
    let Call::Http(http) = &exchange.call;
    let (id, got) = call(exchange);
    prop_assert_eq!(&*http.method, spec.method);
    prop_assert_eq!(got, Some(status(id)));
    prop_assert_eq!(exchange.failure, None);
    let response = exchange.response.expect("a response");
    let expected = if spec.method == "HEAD" { Framing::None } else { spec.response };
    for (size, framing) in [(exchange.request.body_size, spec.request), (response.body_size, expected)] {
        let unknown = cut && size.is_none() && matches!(framing, Framing::Chunked(..));
        prop_assert!(unknown || size == Some(framing.size()), "{:?} {:?} {:?}", size, framing, exchange);
    }
    prop_assert!(exchange.opening.first.time <= exchange.request.last.time);
    prop_assert!(response.first.time <= response.last.time);
    Ok(())
}

fn all_true(conversation: &Conversation, exchanges: &[Exchange], cut: bool) -> Result<(), TestCaseError> {
    let ids: Vec<usize> = exchanges.iter().map(|exchange| call(exchange).0).collect();
    prop_assert_eq!(ids, (0..conversation.specs().count()).collect::<Vec<_>>());
    for (spec, exchange) in conversation.specs().zip(exchanges) {
        prop_assert_eq!(exchange.quality, None);
        assert_true(spec, exchange, cut)?;
    }
    Ok(())
}

/// What is not marked is true; what is marked answers nothing wrongly. Returns what is not marked.
fn none_wrong(
    conversation: &Conversation,
    exchanges: &[Exchange],
    end: &End,
    cut: bool,
) -> Result<BTreeMap<usize, Exchange>, TestCaseError> {
    let specs: Vec<_> = conversation.specs().collect();
    let mut unmarked = BTreeMap::new();
    for exchange in exchanges {
        let (id, got) = call(exchange);
        prop_assert!(id < specs.len(), "no such request: {:?}", exchange);
        prop_assert!(got.is_none_or(|got| got == status(id)), "{} got {:?}", id, got);
        // Answered, and the end of its request not seen: nothing says how long that was meant to be.
        let requested = end.events.iter().any(|event| {
            matches!(event, Event::Milestone { id, what: Milestone::Requested { .. }, .. } if *id == exchange.opening.id)
        });
        if matches!(exchange.quality, None | Some(Quality::Joined)) && exchange.failure.is_none() && requested
        {
            assert_true(specs[id], exchange, cut)?;
            prop_assert!(unmarked.insert(id, exchange.clone()).is_none(), "{} twice", id);
        }
    }
    Ok(unmarked)
}

/// Swaps neighbours of one direction, never the first ones.
fn swap(pieces: &mut [Piece], choices: &mut Choices<'_>) {
    let mut at = 0;
    while at + 1 < pieces.len() {
        let same = pieces[at].is_request == pieces[at + 1].is_request;
        if same && pieces[at].start > 0 && choices.below(3) == 0 {
            pieces.swap(at, at + 1);
            at += 1;
        }
        at += 1;
    }
}

fn drop_some(pieces: &mut Vec<Piece>, protected: usize, choices: &mut Choices<'_>) -> Vec<usize> {
    let share = 2 + choices.below(12);
    let mut touched = Vec::new();
    pieces.retain(|piece| {
        let drop = piece.of.0 >= protected && choices.below(share) == 0;
        if drop {
            touched.extend(piece.of.0..=piece.of.1);
        }
        !drop
    });
    touched
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn pipelined_in_any_pieces(conversation in conversation(1..5)) {
        let streams = conversation.streams(ANYTHING);
        let choices = &mut Choices(conversation.choices.iter().cycle());
        let mut pieces = conversation.pieces(&streams, choices, false);
        swap(&mut pieces, choices);
        let (exchanges, end) = conversation.run(&streams, &pieces, false);
        all_true(&conversation, &exchanges, false)?;
        prop_assert_eq!(end.counters.lost(Lost::Reassembly), 0);
    }

    #[test]
    fn in_turns_with_bodies_not_captured(conversation in conversation(1..2)) {
        let streams = conversation.streams(PLAIN);
        let choices = &mut Choices(conversation.choices.iter().cycle());
        let mut pieces = conversation.pieces(&streams, choices, true);
        swap(&mut pieces, choices);
        let (exchanges, _) = conversation.run(&streams, &pieces, false);
        all_true(&conversation, &exchanges, true)?;
    }

    #[test]
    fn in_turns_with_losses(conversation in conversation(1..2)) {
        let streams = conversation.streams(PLAIN);
        let choices = &mut Choices(conversation.choices.iter().cycle());
        let cut = choices.below(2) == 0;
        let mut pieces = conversation.pieces(&streams, choices, cut);
        let touched = drop_some(&mut pieces, 0, choices);
        let (exchanges, end) = conversation.run(&streams, &pieces, false);
        let unmarked = none_wrong(&conversation, &exchanges, &end, cut)?;
        // A loss shows with the next bytes of its direction, so the exchange after it may be touched; no further one. And
        // where framing is not captured, the next exchange is what ends the one before.
        for id in 0..conversation.specs().count() {
            if !(id.saturating_sub(2)..=id + usize::from(cut)).any(|near| touched.contains(&near)) {
                prop_assert!(unmarked.contains_key(&id), "{} is missing", id);
            }
        }
    }

    #[test]
    fn pipelined_with_losses(conversation in conversation(2..5)) {
        let streams = conversation.streams(PLAIN);
        let choices = &mut Choices(conversation.choices.iter().cycle());
        let mut pieces = conversation.pieces(&streams, choices, false);
        // A client is known to pipeline once it was seen to.
        drop_some(&mut pieces, conversation.bursts[0].len(), choices);
        let (exchanges, end) = conversation.run(&streams, &pieces, false);
        none_wrong(&conversation, &exchanges, &end, false)?;
    }

    #[test]
    fn in_turns_joined_late(conversation in conversation(1..2)) {
        let streams = conversation.streams(PLAIN);
        let choices = &mut Choices(conversation.choices.iter().cycle());
        let cut = choices.below(2) == 0;
        let pieces = conversation.pieces(&streams, choices, cut);
        let pieces = pieces.get(choices.below(pieces.len())..).unwrap();
        let (exchanges, end) = conversation.run(&streams, pieces, true);
        let unmarked = none_wrong(&conversation, &exchanges, &end, cut)?;
        let first = pieces[0].of.0;
        prop_assert!(exchanges.iter().all(|exchange| exchange.quality.is_some()));
        // Past a bounded look it would be left alone; the kernel side sends none of those calls.
        let looks = pieces.iter().take_while(|piece| piece.of.0 == first).count();
        prop_assume!(looks < usize::from(sonde_abi::limits::LOOKS));
        for id in first + 1..conversation.specs().count() {
            prop_assert!(unmarked.contains_key(&id), "{} is missing", id);
        }
    }
}
