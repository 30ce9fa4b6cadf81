//! Conversations of many streams in any order and any pieces, whole, with bodies that were not captured, joined late, and with
//! losses.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::wire::*;
use crate::conn::Role;
use crate::proto::{Call, Exchange};

/// One stream.
#[derive(Clone, Debug)]
struct Spec {
    body: Vec<usize>,
    answer: Vec<usize>,
    padding: u8,
    grpc: bool,
    trailers: bool,
    /// Its header block is cut into pieces of that many bytes.
    block: usize,
}

fn spec() -> impl Strategy<Value = Spec> {
    let sizes = || prop::collection::vec(prop_oneof![0..40usize, 500..3000usize], 0..4);
    (sizes(), sizes(), 0..4u8, any::<bool>(), any::<bool>(), prop_oneof![Just(1000usize), 3..30usize])
        .prop_map(|(body, answer, padding, grpc, trailers, block)| Spec {
            body,
            answer,
            padding,
            grpc,
            trailers,
            block,
        })
}

/// What each stream is, and the frames of both sides in an order in which they could be sent.
struct Conversation {
    /// Header blocks are written in the order in which they are sent.
    frames: Vec<(usize, Vec<u8>, bool)>,
    paths: Vec<String>,
}

fn path(index: usize, spec: &Spec) -> String {
    if spec.grpc {
        format!("/pkg.Service/Method{}", index % 5)
    } else {
        format!("/things/{}?n={index}", index % 7)
    }
}

fn status(index: usize) -> String {
    (200 + index).to_string()
}

fn header_frames(stream: u32, flags: u8, block: &[u8], size: usize) -> Vec<u8> {
    let pieces: Vec<_> = block.chunks(size).collect();
    let mut bytes = Vec::new();
    for (at, piece) in pieces.iter().enumerate() {
        let last = if at + 1 == pieces.len() { END_HEADERS } else { 0 };
        let (kind, flags) = if at == 0 { (HEADERS, flags) } else { (CONTINUATION, 0) };
        bytes.extend(frame(kind, flags | last, stream, piece));
    }
    bytes
}

fn data(stream: u32, flags: u8, size: usize, padding: u8, grpc: bool) -> Vec<u8> {
    let mut content = if grpc { super::message(size) } else { vec![b'x'; size] };
    if padding == 0 {
        return frame(DATA, flags, stream, &content);
    }
    content.insert(0, padding);
    content.extend(vec![0; usize::from(padding)]);
    frame(DATA, flags | PADDED, stream, &content)
}

fn conversation(wire: &mut Wire, specs: &[Spec], choices: &[u8]) -> Conversation {
    let mut choices = choices.iter().cycle().map(|&choice| usize::from(choice));
    // What each stream has left to send: (side, step).
    let mut next: Vec<usize> = vec![0; specs.len()];
    let mut frames = Vec::new();
    let mut opened = 0;
    loop {
        let running: Vec<usize> = (0..opened).filter(|&at| next[at] != usize::MAX).collect();
        if running.is_empty() && opened == specs.len() {
            break;
        }
        let choice = choices.next().unwrap_or(0);
        let at = if opened < specs.len() && (running.is_empty() || choice % 3 == 0) {
            opened += 1;
            opened - 1
        } else {
            running[choice / 3 % running.len()]
        };
        let (spec, stream) = (&specs[at], at as u32 * 2 + 1);
        let step = next[at];
        next[at] += 1;
        let (body, answer) = (spec.body.len(), spec.answer.len());
        let end = |last: bool| if last { END_STREAM } else { 0 };
        match step {
            0 => {
                let path = path(at, spec);
                let mut fields =
                    vec![(":method", "POST"), (":scheme", "http"), (":path", &path), (":authority", "shop")];
                if spec.grpc {
                    fields.push(("content-type", "application/grpc"));
                }
                let block = wire.block(CLIENT, &fields);
                frames.push((CLIENT, header_frames(stream, end(body == 0), &block, spec.block), true));
            }
            step if step <= body => {
                let bytes = data(stream, end(step == body), spec.body[step - 1], spec.padding, spec.grpc);
                frames.push((CLIENT, bytes, false));
            }
            step if step == body + 1 => {
                let status = status(at);
                let fields = [(":status", status.as_str()), ("content-type", "application/grpc")];
                let block = wire.block(SERVER, &fields[..1 + usize::from(spec.grpc)]);
                let last = end(answer == 0 && !spec.trailers);
                frames.push((SERVER, header_frames(stream, last, &block, spec.block), true));
            }
            step if step <= body + 1 + answer => {
                let step = step - body - 1;
                let last = end(step == answer && !spec.trailers);
                frames.push((
                    SERVER,
                    data(stream, last, spec.answer[step - 1], spec.padding, spec.grpc),
                    false,
                ));
            }
            step if step == body + 2 + answer && spec.trailers => {
                let name = if spec.grpc { "grpc-status" } else { "x-sum" };
                let block = wire.block(SERVER, &[(name, "0"), ("x-trailer", "1")]);
                frames.push((SERVER, header_frames(stream, END_STREAM, &block, spec.block), true));
            }
            _ => next[at] = usize::MAX,
        }
    }
    Conversation { frames, paths: specs.iter().enumerate().map(|(at, spec)| path(at, spec)).collect() }
}

/// How much of a record was captured, and whether it was lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    Whole,
    /// Payloads of DATA are not.
    Cut,
    Lost,
}

struct Outcome {
    exchanges: Vec<Exchange>,
    /// The stream that begins at each position.
    starts: BTreeMap<u64, usize>,
}

/// Sends the frames in calls that end anywhere, `skip` of them before Sonde looks.
fn run(
    specs: &[Spec],
    choices: &[u8],
    role: Role,
    skip: usize,
    fate: impl Fn(usize) -> Fate,
) -> (Conversation, Outcome) {
    let mut wire = Wire::new(role);
    if skip == 0 {
        wire.open();
    } else {
        wire.end.flags |= sonde_abi::record::flags::LATE;
        wire.end.positions = [10_000, 20_000];
    }
    let conversation = conversation(&mut wire, specs, choices);
    let mut starts = BTreeMap::new();
    let mut choice = choices.iter().rev().cycle().map(|&choice| usize::from(choice));
    for (at, (side, bytes, _)) in conversation.frames.iter().enumerate() {
        let direction = wire.direction(*side) as usize;
        let stream = u32::from_be_bytes(*bytes[5..].first_chunk().unwrap()) as usize / 2;
        if *side == CLIENT && bytes[3] == HEADERS {
            starts.insert(wire.end.positions[direction], stream);
        }
        if at < skip {
            wire.lose(*side, bytes.len());
            continue;
        }
        let cut = choice.next().unwrap() % (bytes.len() + 1);
        for (part, piece) in [&bytes[..cut], &bytes[cut..]].into_iter().enumerate() {
            let captured =
                if part == 0 { piece.len().min(10) } else { 10usize.saturating_sub(cut).min(piece.len()) };
            match fate(at * 2 + part) {
                _ if piece.is_empty() => {}
                Fate::Lost => wire.lose(*side, piece.len()),
                Fate::Cut if bytes[3] == DATA => wire.send_cut(*side, piece, captured),
                _ => wire.send(*side, piece),
            }
        }
    }
    wire.end.now += 40_000_000_000;
    wire.end.close();
    let exchanges = wire.exchanges().into_iter().cloned().collect();
    (conversation, Outcome { exchanges, starts })
}

fn right(
    conversation: &Conversation,
    specs: &[Spec],
    outcome: &Outcome,
) -> Result<Vec<usize>, TestCaseError> {
    let mut unmarked = Vec::new();
    for exchange in &outcome.exchanges {
        let Call::Http(call) = &exchange.call;
        let stream = *outcome.starts.get(&exchange.opening.position).expect("begins with a request");
        let (spec, path, status) = (&specs[stream], &conversation.paths[stream], status(stream));
        prop_assert!(call.target.is_empty() || *call.target == **path, "{} for {}", call.target, path);
        prop_assert!(
            call.status.is_none_or(|it| it.to_string() == status),
            "{:?} for {}",
            call.status,
            status
        );
        prop_assert!(matches!(&*call.method, "" | "POST"));
        // What was lost at the very end, nothing tells.
        if exchange.quality.is_none() && exchange.failure.is_none() {
            prop_assert_eq!(&*call.target, &**path);
            prop_assert_eq!(call.status.map(|it| it.to_string()), Some(status));
            let length = |sizes: &[usize]| {
                let prefixes = if spec.grpc { 5 * sizes.len() } else { 0 };
                Some((sizes.iter().sum::<usize>() + prefixes) as u64)
            };
            prop_assert!(exchange.request.body_size.is_none_or(|size| Some(size) == length(&spec.body)));
            let response = exchange.response.expect("a response");
            prop_assert!(response.body_size.is_none_or(|size| Some(size) == length(&spec.answer)));
            prop_assert_eq!(call.rpc.is_some(), spec.grpc);
            if let Some(rpc) = &call.rpc {
                for (messages, sizes) in [(rpc.request, &spec.body), (rpc.response, &spec.answer)] {
                    prop_assert!(messages.is_none_or(|messages| messages.count == sizes.len() as u64));
                }
                prop_assert_eq!(rpc.status, spec.trailers.then_some(0));
            }
            unmarked.push(stream);
        }
    }
    unmarked.sort_unstable();
    Ok(unmarked)
}

fn role() -> impl Strategy<Value = Role> {
    prop_oneof![Just(Role::Client), Just(Role::Server)]
}

fn specs() -> impl Strategy<Value = Vec<Spec>> {
    prop::collection::vec(spec(), 1..20)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 100, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn in_any_pieces(specs in specs(), choices in prop::collection::vec(any::<u8>(), 8..100), role in role()) {
        let (conversation, outcome) = run(&specs, &choices, role, 0, |_| Fate::Whole);
        let unmarked = right(&conversation, &specs, &outcome)?;
        prop_assert_eq!(unmarked, (0..specs.len()).collect::<Vec<_>>());
    }

    #[test]
    fn bodies_not_captured(specs in specs(), choices in prop::collection::vec(any::<u8>(), 8..100), role in role()) {
        let (conversation, outcome) = run(&specs, &choices, role, 0, |_| Fate::Cut);
        let unmarked = right(&conversation, &specs, &outcome)?;
        prop_assert_eq!(unmarked, (0..specs.len()).collect::<Vec<_>>());
    }

    #[test]
    fn joined_late(specs in specs(), choices in prop::collection::vec(any::<u8>(), 8..100), role in role(), skip in 1..20usize) {
        let (conversation, outcome) = run(&specs, &choices, role, skip, |_| Fate::Whole);
        prop_assert_eq!(right(&conversation, &specs, &outcome)?, Vec::<usize>::new());
    }

    #[test]
    fn with_losses(
        specs in specs(),
        choices in prop::collection::vec(any::<u8>(), 8..100),
        role in role(),
        lost in prop::collection::vec(0..40usize, 200),
    ) {
        let fate = |at: usize| match lost.get(at % lost.len()) {
            Some(0..3) => Fate::Lost,
            Some(3..8) => Fate::Cut,
            _ => Fate::Whole,
        };
        let (conversation, outcome) = run(&specs, &choices, role, 0, fate);
        right(&conversation, &specs, &outcome)?;
    }
}
