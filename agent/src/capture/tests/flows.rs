//! Connections whose segments are lost, late, early, sent again or cut off.

use super::conversation::{
    CLIENT, Conversation, Outcome, SERVER, STEP, replay, replay_within, request, response,
};
use super::write::{Segment, endpoint};
use crate::capture::{Flags, Limits};
use crate::proto::Quality;
use crate::telemetry::Lost;

/// Target, status and mark of each.
fn essence(outcome: &Outcome) -> Vec<(&str, Option<u16>, Option<Quality>)> {
    outcome.told.iter().map(|told| (told.target.as_str(), told.status, told.quality)).collect()
}

/// A request in three segments, its answer in three.
fn one() -> Conversation {
    let mut conversation = Conversation::open([100, 9000]);
    conversation.say(CLIENT, &request("/a", 250), 110);
    conversation.say(SERVER, &response(201, 250), 110);
    conversation
}

#[test]
fn an_exchange_is_timed_from_its_first_byte_to_its_last() {
    let mut conversation = one();
    conversation.close();
    let outcome = replay(&conversation.segments);
    let [told] = &outcome.told[..] else { panic!("{:?}", outcome.told) };
    assert_eq!((told.target.as_str(), told.status, told.quality), ("/a", Some(201), None));
    assert_eq!((told.sizes, told.failure, told.port), ((Some(250), Some(250)), None, 40_000));
    assert_eq!(told.times.1 - told.times.0, 5 * STEP);
}

#[test]
fn what_was_sent_again_is_told_once() {
    let mut conversation = one();
    let again = conversation.segments.clone();
    conversation.close();
    for at in 0..conversation.segments.len() {
        let mut segments = conversation.segments.clone();
        segments.extend(
            again.iter().cloned().map(|segment| Segment { time: segment.time + 50 * STEP, ..segment }),
        );
        segments.insert(at, conversation.segments[at].clone());
        assert_eq!(essence(&replay(&segments)), [("/a", Some(201), None)]);
    }
}

#[test]
fn what_overlaps_is_told_as_it_came_first() {
    let mut conversation = Conversation::open([u32::MAX - 20, u32::MAX]);
    conversation.say(CLIENT, &request("/first", 0), 1000);
    // The same bytes, and more, with another target: a resend does not change what was sent.
    let mut again = conversation.segments.last().unwrap().clone();
    again.bytes = [request("/other", 0), request("/second", 0)].concat();
    conversation.segments.push(again);
    conversation.seq[CLIENT] = conversation.seq[CLIENT].wrapping_add(request("/second", 0).len() as u32);
    conversation.say(SERVER, &response(200, 0), 1000).say(SERVER, &response(202, 0), 1000);
    let outcome = replay(&conversation.segments);
    assert_eq!(essence(&outcome), [("/first", Some(200), None), ("/second", Some(202), None)]);
}

#[test]
fn late_segments_are_put_back_and_the_answer_waits_for_them() {
    let mut conversation = one();
    conversation.close();
    // The second segment of the request comes behind the whole answer.
    let late = conversation.segments.remove(4);
    conversation.segments.insert(8, late);
    let outcome = replay(&conversation.segments);
    assert_eq!(essence(&outcome), [("/a", Some(201), None)]);
    assert_eq!(outcome.counters.lost(Lost::Reassembly), 0);
}

#[test]
fn a_late_segment_that_was_lost_on_the_way_ends_the_response() {
    let mut conversation = one();
    let mut lost = conversation.segments.pop().unwrap();
    let mut middle = conversation.segments.pop().unwrap();
    // The last of three arrives in time, the middle a second later.
    lost.ack = Some(conversation.seq[CLIENT]);
    conversation.segments.push(lost.clone());
    middle.time = lost.time + 1_000_000_000;
    conversation.segments.push(middle.clone());
    let outcome = replay(&conversation.segments);
    let [told] = &outcome.told[..] else { panic!("{:?}", outcome.told) };
    assert_eq!((told.status, told.quality, told.times.1), (Some(201), None, middle.time));
}

#[test]
fn what_the_capture_lost_is_a_gap_once_the_other_end_has_it() {
    let mut conversation = Conversation::open([1, 2]);
    for n in 0..5 {
        conversation.say(CLIENT, &request(&format!("/{n}"), 0), 1000);
        conversation.say(SERVER, &response(200, 0), 1000);
        conversation.wait(100_000_000);
    }
    // The second request and the third answer.
    conversation.segments.remove(8);
    conversation.segments.remove(5);
    let outcome = replay(&conversation.segments);
    assert_eq!(outcome.counters.lost(Lost::Reassembly), 2);
    let sure: Vec<_> = essence(&outcome).into_iter().filter(|told| told.2.is_none()).collect();
    assert_eq!(
        sure,
        [("/0", Some(200), None), ("/3", Some(200), None), ("/4", Some(200), None)],
        "{:?}",
        outcome.told
    );
    assert_eq!(outcome.told[1].quality, Some(Quality::Gap));
}

#[test]
fn a_gap_in_a_body_is_arithmetic() {
    let mut conversation = Conversation::open([1, 2]);
    conversation.say(CLIENT, &request("/a", 5000), 1000);
    conversation.say(SERVER, &response(200, 5000), 1000);
    conversation.wait(100_000_000);
    conversation.say(CLIENT, &request("/b", 0), 1000);
    conversation.say(SERVER, &response(204, 0), 1000);
    conversation.segments.remove(11);
    conversation.segments.remove(5);
    let outcome = replay(&conversation.segments);
    assert_eq!(essence(&outcome), [("/a", Some(200), None), ("/b", Some(204), None)]);
    assert_eq!(outcome.told[0].sizes, (Some(5000), Some(5000)));
}

#[test]
fn packets_cut_off_by_the_capture_count_in_full() {
    let mut conversation = Conversation::open([1, 2]);
    conversation.say(CLIENT, &request("/a", 3000), 1000);
    conversation.say(SERVER, &response(200, 3000), 1000);
    for segment in &mut conversation.segments {
        let kept = segment.bytes.len().min(100);
        segment.missing = (segment.bytes.len() - kept) as u32;
        segment.bytes.truncate(kept);
    }
    let outcome = replay(&conversation.segments);
    assert_eq!(essence(&outcome), [("/a", Some(200), None)]);
    assert_eq!(outcome.told[0].sizes, (Some(3000), Some(3000)));
}

#[test]
fn probes_and_strays_say_nothing() {
    let mut conversation = one();
    let [client, server] = conversation.seq;
    // A keep-alive with and without its byte, a window probe, and a reset of another connection between these ends.
    conversation.push(CLIENT, Flags::default(), b"");
    conversation.segments.last_mut().unwrap().seq = client.wrapping_sub(1);
    conversation.push(CLIENT, Flags::default(), b"\0");
    conversation.segments.last_mut().unwrap().seq = client.wrapping_sub(1);
    conversation.push(SERVER, Flags::default(), b"");
    conversation.segments.last_mut().unwrap().seq = server.wrapping_sub(1);
    conversation.reset(SERVER);
    conversation.segments.last_mut().unwrap().seq = server.wrapping_add(0x8000_0000);
    conversation.say(CLIENT, &request("/b", 0), 1000).say(SERVER, &response(204, 0), 1000);
    assert_eq!(essence(&replay(&conversation.segments)), [("/a", Some(201), None), ("/b", Some(204), None)]);
}

#[test]
fn ports_are_used_again() {
    let mut conversation = one();
    conversation.close();
    let mut next = Conversation::open([0x8000_0000, 77]);
    next.say(CLIENT, &request("/b", 0), 1000).say(SERVER, &response(204, 0), 1000);
    conversation.segments.extend(next.segments);
    assert_eq!(essence(&replay(&conversation.segments)), [("/a", Some(201), None), ("/b", Some(204), None)]);
    // Of the first nobody saw the end, and of the second nobody the beginning.
    let mut conversation = Conversation::open([100, 9000]);
    conversation.say(CLIENT, &request("/a", 0), 1000);
    let mut next = Conversation::joined([0x8000_0000, 0x4000_0000]);
    next.say(CLIENT, &request("/b", 0), 1000).say(SERVER, &response(204, 0), 1000);
    conversation.segments.extend(next.segments);
    let outcome = replay(&conversation.segments);
    assert_eq!(outcome.told[0].failure, Some("closed"));
    assert_eq!(essence(&outcome), [("/a", None, None), ("/b", Some(204), Some(Quality::Joined))]);
}

#[test]
fn connections_that_had_begun_are_joined() {
    let mut conversation = Conversation::joined([100, 9000]);
    let rest = response(200, 4000);
    conversation.say(SERVER, &rest[2000..], 1000);
    conversation.say(CLIENT, &request("/b", 0), 1000).say(SERVER, &response(204, 0), 1000);
    let outcome = replay(&conversation.segments);
    assert_eq!(essence(&outcome), [("/b", Some(204), Some(Quality::Joined))]);
    // Seen from the server's side first: who calls is found out from the bytes.
    assert_eq!(outcome.told[0].port, 40_000);
}

#[test]
fn a_handshake_without_its_first_segment_is_one() {
    let mut conversation = one();
    conversation.segments.remove(0);
    assert_eq!(essence(&replay(&conversation.segments)), [("/a", Some(201), None)]);
    let mut conversation = one();
    conversation.segments.remove(1);
    assert_eq!(essence(&replay(&conversation.segments)), [("/a", Some(201), None)]);
}

#[test]
fn resets_and_ends_are_failures_of_what_is_open() {
    type End = fn(&mut Conversation);
    let ends: [(End, &str); 3] = [
        (|conversation| conversation.reset(SERVER), "reset"),
        (|conversation| conversation.reset(CLIENT), "reset"),
        (|conversation| conversation.close(), "closed"),
    ];
    for (end, failure) in ends {
        let mut conversation = Conversation::open([1, 2]);
        conversation.say(CLIENT, &request("/a", 0), 1000);
        conversation.say(SERVER, &response(200, 1000)[..500], 1000);
        end(&mut conversation);
        let outcome = replay(&conversation.segments);
        let [told] = &outcome.told[..] else { panic!("{:?}", outcome.told) };
        assert_eq!((told.status, told.failure), (Some(200), Some(failure)));
    }
}

#[test]
fn a_response_that_only_the_close_ends_has_its_size() {
    for closes_first in [SERVER, CLIENT] {
        let mut conversation = Conversation::open([1, 2]);
        conversation.say(CLIENT, b"GET /a HTTP/1.0\r\n\r\n", 1000);
        if closes_first == CLIENT {
            conversation.finish(CLIENT);
        }
        conversation.say(SERVER, b"HTTP/1.0 200 OK\r\n\r\n0123456789", 7);
        conversation.finish(SERVER);
        let outcome = replay(&conversation.segments);
        let [told] = &outcome.told[..] else { panic!("{:?}", outcome.told) };
        assert_eq!((told.sizes.1, told.failure, told.quality), (Some(10), None, None));
    }
}

#[test]
fn one_direction_alone_is_told_as_far_as_it_goes() {
    let mut conversation = Conversation::open([1, 2]);
    for n in 0..3 {
        conversation.say(CLIENT, &request(&format!("/{n}"), 10), 1000);
        conversation.say(SERVER, &response(200, 10), 1000);
        conversation.wait(2_000_000_000);
    }
    let client = conversation.ends[CLIENT];
    conversation.segments.retain(|segment| segment.from == client);
    conversation.reset(CLIENT);
    let outcome = replay(&conversation.segments);
    let targets: Vec<&str> = outcome.told.iter().map(|told| told.target.as_str()).collect();
    assert_eq!(targets, ["/0", "/1", "/2"]);
    assert!(outcome.told.iter().all(|told| told.status.is_none()));
}

#[test]
fn positions_go_past_four_gigabytes() {
    let body = 5_u64 << 30;
    let mut conversation = Conversation::open([1, 2]);
    conversation.say(CLIENT, &request("/a", 0), 1000);
    conversation.say(SERVER, format!("HTTP/1.1 200 OK\r\nContent-Length: {body}\r\n\r\n").as_bytes(), 1000);
    let piece = 1_u32 << 16;
    for _ in 0..body / u64::from(piece) {
        conversation.push(SERVER, Flags::default(), b"");
        conversation.segments.last_mut().unwrap().missing = piece;
        conversation.seq[SERVER] = conversation.seq[SERVER].wrapping_add(piece);
    }
    conversation.say(CLIENT, &request("/b", 0), 1000).say(SERVER, &response(204, 0), 1000);
    let outcome = replay(&conversation.segments);
    assert_eq!(essence(&outcome), [("/a", Some(200), None), ("/b", Some(204), None)]);
    assert_eq!(outcome.told[0].sizes.1, Some(body));
}

#[test]
fn what_waits_is_bounded_for_each_connection_and_for_all() {
    let limits = Limits { held: 3 << 20, ..Limits::default() };
    let mut segments = Vec::new();
    for port in 0..8 {
        let mut conversation = Conversation::open([1, 2]);
        conversation.ends[CLIENT] = endpoint("10.0.0.1", 1000 + port);
        conversation.say(CLIENT, &request("/a", 1 << 23), 1400);
        let mut sent = conversation.segments.split_off(2);
        // Its head never comes, and nobody says that it did.
        sent.remove(1);
        segments.extend(sent);
    }
    let outcome = replay_within(&segments, limits);
    assert!(outcome.held <= (3 << 20) + 4096, "{} bytes waited", outcome.held);
    let outcome = replay(&segments[..6000]);
    assert!(outcome.held <= (2 << 20) + 4096, "{} bytes waited", outcome.held);
}

#[test]
fn connections_are_bounded() {
    let limits = Limits { connections: 100, ..Limits::default() };
    let mut segments = Vec::new();
    for port in 1..1000 {
        let mut conversation = Conversation::open([1, 2]);
        conversation.ends[CLIENT] = endpoint("10.0.0.1", port);
        conversation.segments.clear();
        conversation.handshake();
        if port % 2 == 0 {
            conversation.say(CLIENT, b"?", 1);
        }
        segments.extend(conversation.segments);
    }
    let outcome = replay_within(&segments, limits);
    // Those that never carried data are no loss.
    assert!((400..500).contains(&outcome.counters.lost(Lost::ConnectionsFull)));
}

#[test]
fn both_sides_of_an_address_translation_are_one() {
    let mut conversation = one();
    conversation.close();
    for (segment, stamp) in conversation.segments.iter_mut().zip([77, 88]) {
        segment.stamp = Some(stamp);
    }
    let (client, server) = (endpoint("192.168.0.9", 51_000), endpoint("172.16.0.1", 8080));
    let translate = |segment: &Segment| {
        let (from, to) = if segment.from.port == 80 { (server, client) } else { (client, server) };
        Segment { from, to, ..segment.clone() }
    };
    // The router sees each segment before and after, and the answers the other way round.
    let seen = conversation.segments.iter().flat_map(|segment| {
        let [before, after] = [segment.clone(), translate(segment)];
        if segment.from.port == 80 { [after, before] } else { [before, after] }
    });
    let seen: Vec<Segment> = seen.collect();
    let outcome = replay(&seen);
    assert_eq!(essence(&outcome), [("/a", Some(201), None)]);
    assert_eq!(outcome.told[0].port, 40_000, "as the side of the client shows it");
    // Without clocks they may be two connections of a stack that always begins with the same numbers.
    let plain: Vec<Segment> = seen.into_iter().map(|segment| Segment { stamp: None, ..segment }).collect();
    assert_eq!(replay(&plain).told.len(), 2);
}
