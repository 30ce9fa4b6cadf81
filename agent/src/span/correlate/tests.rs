//! Small scenes, one rule each. Times in microseconds; requests are written and read within one call unless said.

use std::collections::HashSet;

use super::scene::{End, MS, Outcome, Scene, US};
use crate::span::Scheduling;

const CURL: u32 = 10;
const NGINX: u32 = 20;
const GUNICORN: u32 = 30;
const SERVICE: u32 = 40;

fn us(times: [u64; 4]) -> [u64; 4] {
    times.map(|time| MS + time * US)
}

/// curl -> nginx -> gunicorn -> service; nobody sends a context.
fn chain() -> Vec<End> {
    vec![
        End::client(CURL, 10, 1, us([0, 0, 9000, 9010])),
        End::server(NGINX, 20, 1, us([50, 50, 8900, 8910])),
        End::client(NGINX, 20, 2, us([100, 100, 8800, 8810])),
        End::server(GUNICORN, 31, 2, us([150, 150, 8700, 8710])),
        End::client(GUNICORN, 31, 3, us([200, 200, 500, 510])),
        End::server(SERVICE, 41, 3, us([250, 250, 400, 410])),
    ]
}

fn assert_chain(outcome: &Outcome) {
    let parents: Vec<_> = (0..6).map(|index| outcome.parent(index)).collect();
    assert_eq!(parents, [None, Some(0), Some(1), Some(2), Some(3), Some(4)]);
    let traces: HashSet<_> = (0..6).map(|index| outcome.span(index).context.trace_id).collect();
    assert_eq!(traces.len(), 1, "one trace");
    assert!((0..6).all(|index| outcome.span(index).confidence.is_none()));
    assert_eq!(outcome.correlator.held(), 0, "nothing is kept");
}

#[test]
fn a_chain_without_context_is_one_trace() {
    let scene = Scene::new(chain()).runs(NGINX, Scheduling::RunToCompletion);
    assert_chain(&scene.play());
}

#[test]
fn in_whatever_order_the_spans_of_a_chain_end() {
    let mut ends = chain();
    // The callers are told of long after the service has answered.
    for (index, end) in ends.iter_mut().enumerate() {
        end.times[2] += (6 - index as u64) * 3_000 * MS;
        end.times[3] += (6 - index as u64) * 3_000 * MS;
    }
    let outcome = Scene::new(ends).runs(NGINX, Scheduling::RunToCompletion).play();
    assert_chain(&outcome);
}

#[test]
fn the_two_ends_in_either_order() {
    for late in [0, 50, 190] {
        let mut ends = chain();
        for end in ends.iter_mut().filter(|end| end.role == crate::conn::Role::Client) {
            end.times[0] += late * US;
            end.times[1] += late * US;
        }
        ends[2].connect = Some((MS + 90 * US, 20));
        ends[4].connect = Some((MS + 190 * US, 31));
        let outcome = Scene::new(ends).runs(NGINX, Scheduling::RunToCompletion).play();
        assert_chain(&outcome);
        for (client, server) in [(0, 1), (2, 3), (4, 5)] {
            let (client, server) = (outcome.span(client), outcome.span(server));
            assert!(client.start <= server.start && server.end <= client.end, "late by {late} us");
        }
    }
}

#[test]
fn late_joins_and_unix_sockets() {
    for (unix, late, known) in
        [(false, false, false), (true, false, false), (true, true, false), (true, true, true)]
    {
        let mut ends = chain();
        for end in &mut ends {
            (end.unix, end.late, end.roles_known) = (unix, late, known);
            if late && end.role == crate::conn::Role::Server {
                end.position += 700;
            }
        }
        assert_chain(&Scene::new(ends).runs(NGINX, Scheduling::RunToCompletion).play());
    }
}

const GIVEN: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

fn given_span(outcome: &Outcome, index: usize) -> bool {
    outcome.span(index).context.span_id.0 == [0xb7, 0xad, 0x6b, 0x71, 0x69, 0x20, 0x33, 0x31]
}

fn named_parent(outcome: &Outcome, index: usize) -> bool {
    let parent = outcome.span(index).parent.as_ref().unwrap();
    parent.is_remote && parent.span_id.0 == [0xb7, 0xad, 0x6b, 0x71, 0x69, 0x20, 0x33, 0x31]
}

#[test]
fn a_context_from_elsewhere_is_the_parent() {
    let mut server = End::server(NGINX, 20, 1, us([0, 0, 100, 110])).carrying(GIVEN);
    server.remote = true;
    let outcome = Scene::new(vec![server]).play();
    assert!(named_parent(&outcome, 0) && !given_span(&outcome, 0));
    let context = &outcome.span(0).context;
    assert_eq!(context.trace_id.0[..3], [0x0a, 0xf7, 0x65]);
    assert_eq!(context.flags, 1);
    assert_eq!(outcome.order, [(0, MS + 110 * US)], "at once");
}

#[test]
fn a_malformed_context_is_none() {
    let mut server = End::server(NGINX, 20, 1, us([0, 0, 100, 110])).carrying(&GIVEN.to_uppercase());
    server.remote = true;
    let outcome = Scene::new(vec![server]).play();
    assert_eq!(outcome.parent(0), None);
    assert_eq!(outcome.span(0).context.flags, 3, "sampled, and random by our own making");
}

#[test]
fn a_context_that_the_caller_wrote_is_the_callers_span() {
    let ends = vec![
        End::client(CURL, 10, 1, us([0, 0, 200, 210])).carrying(GIVEN),
        End::server(NGINX, 20, 1, us([50, 50, 100, 110])).carrying(GIVEN),
    ];
    for reversed in [0, 100] {
        let mut ends = ends.clone();
        ends[0].times[0] += reversed * US;
        let outcome = Scene::new(ends).play();
        assert!(given_span(&outcome, 0) && named_parent(&outcome, 1));
        assert_eq!((outcome.parent(0), outcome.parent(1)), (None, Some(0)));
    }
}

/// curl (not observed) -> nginx -> gunicorn -> service, all of which carry what curl wrote.
fn passed_on() -> Vec<End> {
    let mut ends = chain().split_off(1);
    for end in &mut ends {
        end.traceparent = Some(GIVEN.to_owned());
    }
    ends
}

#[test]
fn a_context_that_is_passed_on_is_nobodys_span_here() {
    for scheduling in [Scheduling::RunToCompletion, Scheduling::Moving] {
        let outcome = Scene::new(passed_on()).runs(NGINX, scheduling).runs(GUNICORN, scheduling).play();
        assert!(named_parent(&outcome, 0));
        assert!((0..5).all(|index| !given_span(&outcome, index)));
        let parents: Vec<_> = (1..5).map(|index| outcome.parent(index)).collect();
        assert_eq!(parents, [Some(0), Some(1), Some(2), Some(3)]);
    }
}

#[test]
fn of_several_requests_in_one_trace_the_passed_on_parent_tells_which() {
    let other = GIVEN.replace("b7ad", "aaaa");
    let ends = vec![
        End::server(NGINX, 20, 1, us([0, 0, 900, 910])).carrying(GIVEN),
        End::server(NGINX, 20, 2, us([10, 10, 900, 910])).carrying(&other),
        End::client(NGINX, 20, 3, us([20, 20, 100, 110])).carrying(GIVEN),
        End::client(NGINX, 20, 4, us([30, 30, 120, 130])).carrying(&other),
        End::client(NGINX, 20, 5, us([40, 40, 140, 150])).carrying(&GIVEN.replace("b7ad", "cccc")),
    ];
    let outcome = Scene::new(ends).runs(NGINX, Scheduling::Moving).play();
    assert_eq!([2, 3, 4].map(|index| outcome.parent(index)), [Some(0), Some(1), None]);
}

#[test]
fn a_context_sent_again_is_another_span() {
    let ends = vec![
        End::client(CURL, 10, 1, us([0, 0, 200, 210])).carrying(GIVEN),
        End::server(NGINX, 20, 1, us([50, 50, 100, 110])).carrying(GIVEN),
        End::client(CURL, 10, 2, us([300, 300, 500, 510])).carrying(GIVEN),
        End::server(NGINX, 20, 2, us([350, 350, 400, 410])).carrying(GIVEN),
    ];
    let outcome = Scene::new(ends).play();
    assert!(given_span(&outcome, 0) && !given_span(&outcome, 2));
    assert_eq!([1, 3].map(|index| outcome.parent(index)), [Some(0), Some(2)]);
    assert_eq!(outcome.span(0).context.trace_id, outcome.span(2).context.trace_id);
}

#[test]
fn a_call_in_a_trace_of_its_own_hangs_on_nothing() {
    let ends = vec![
        End::server(NGINX, 20, 1, us([0, 0, 900, 910])),
        End::client(NGINX, 20, 3, us([20, 20, 100, 110])).carrying(GIVEN),
    ];
    let outcome = Scene::new(ends).play();
    assert!(given_span(&outcome, 1));
    assert_eq!(outcome.parent(1), None);
}

#[test]
fn a_process_that_serves_nothing_does_not_wait() {
    let outcome = Scene::new(vec![End::client(CURL, 10, 1, us([0, 0, 200, 210]))]).play();
    assert_eq!(outcome.order, [(0, MS + 210 * US)]);
    assert_eq!(outcome.correlator.held(), 0);
}

#[test]
fn a_server_waits_for_its_other_end_where_that_may_be_here() {
    let server = End::server(NGINX, 20, 1, us([0, 0, 100, 110]));
    let outcome = Scene::new(vec![server.clone()]).play();
    assert!(outcome.order[0].1 >= 6 * MS);
    let remote = End { remote: true, ..server };
    assert_eq!(Scene::new(vec![remote]).play().order, [(0, MS + 110 * US)]);
}

#[test]
fn where_callers_were_met_a_late_stamp_is_waited_for() {
    // The writer lost its processor before it was stamped: the request has been answered meanwhile.
    let late = [
        End::client(CURL, 11, 2, us([130_000, 130_000, 130_200, 130_210])),
        End::server(NGINX, 20, 2, us([50_000, 50_000, 50_400, 50_410])),
    ];
    let met =
        [End::client(CURL, 10, 1, us([0, 0, 200, 210])), End::server(NGINX, 20, 1, us([50, 50, 150, 160]))];
    let outcome = Scene::new([met, late.clone()].concat()).play();
    assert_eq!((outcome.parent(1), outcome.parent(3)), (Some(0), Some(2)));
    let (client, server) = (outcome.span(2), outcome.span(3));
    assert!(client.start <= server.start && server.end <= client.end);
    assert_eq!(Scene::new(late.to_vec()).play().parent(1), None, "nobody was met before");
}

#[test]
fn a_server_that_reads_what_its_client_gave_up_on() {
    let mut client = End::client(CURL, 10, 1, us([0, 0, 0, 1000]));
    client.failure = Some(crate::proto::Failure::Timeout);
    let server = End::server(NGINX, 20, 1, us([900_000, 900_000, 900_100, 900_110]));
    let outcome = Scene::new(vec![client, server]).play();
    assert_eq!(outcome.parent(1), Some(0));
}

#[test]
fn an_answered_request_parents_nothing() {
    let ends = vec![
        End::server(GUNICORN, 31, 1, us([0, 0, 100, 110])),
        End::client(GUNICORN, 31, 2, us([150, 150, 300, 310])),
    ];
    let outcome = Scene::new(ends).play();
    assert_eq!(outcome.parent(1), None);
}

#[test]
fn a_process_whose_responses_come_from_other_threads_has_no_thread_keys() {
    // Thread 31 reads a request and does not answer it; the call is another's.
    let mut moved = End::server(GUNICORN, 31, 1, us([0, 0, 500, 510]));
    moved.tids[2..].fill(32);
    let ends = vec![
        moved,
        End::server(GUNICORN, 33, 2, us([10, 10, 600, 610])),
        End::client(GUNICORN, 33, 3, us([20, 20, 100, 110])),
        End::server(GUNICORN, 33, 4, us([1000, 1000, 1500, 1510])),
        End::server(GUNICORN, 34, 5, us([1000, 1000, 1500, 1510])),
        End::client(GUNICORN, 33, 6, us([1100, 1100, 1200, 1210])),
    ];
    let outcome = Scene::new(ends).play();
    assert_eq!([2, 5].map(|index| outcome.parent(index)), [None, None]);
}

#[test]
fn an_event_loop_has_no_thread_keys() {
    let ends = vec![
        End::server(GUNICORN, 31, 1, us([0, 0, 500, 510])),
        End::client(GUNICORN, 31, 2, us([10, 10, 400, 410])),
        End::server(GUNICORN, 31, 3, us([20, 20, 600, 610])),
        End::client(GUNICORN, 31, 4, us([30, 30, 200, 210])),
        // This one is for the first request, whatever the thread read last.
        End::client(GUNICORN, 31, 5, us([420, 420, 450, 460])),
    ];
    let outcome = Scene::new(ends).play();
    assert!([3, 4].iter().all(|&index| outcome.parent(index).is_none()));
}

#[test]
fn evidence_against_threads_that_comes_after_the_candidate_has_ended() {
    let mut moved = End::server(GUNICORN, 32, 2, us([10, 10, 800, 810]));
    moved.tids[2..].fill(31);
    let ends = vec![
        End::server(GUNICORN, 31, 1, us([0, 0, 300, 310])),
        moved,
        // For the second request, which has moved to the first one's thread.
        End::client(GUNICORN, 31, 3, us([20, 20, 100, 110])),
    ];
    assert_eq!(Scene::new(ends).play().parent(2), None);
}

#[test]
fn two_requests_at_once_on_a_thread_leave_their_calls_alone() {
    // That the first breaks off keeps it from speaking against the thread.
    let mut first = End::server(GUNICORN, 31, 1, us([0, 0, 500, 510]));
    first.failure = Some(crate::proto::Failure::Closed);
    let ends = vec![
        first,
        End::server(GUNICORN, 31, 3, us([20, 20, 600, 610])),
        End::client(GUNICORN, 31, 4, us([30, 30, 200, 210])),
    ];
    assert_eq!(Scene::new(ends).play().parent(2), None);
}

#[test]
fn a_proxy_that_connects_again_after_a_refusal_nobody_saw() {
    let ends = vec![
        End::server(NGINX, 20, 1, us([0, 0, 900, 910])),
        End::server(NGINX, 20, 2, us([50, 50, 800, 810])),
        End::client(NGINX, 20, 3, us([60, 60, 700, 710])),
        // For the first request; what the thread did last was to call for the second. The other way round would look the same.
        End::client(NGINX, 20, 4, us([70, 70, 600, 610])),
    ];
    let outcome = Scene::new(ends).runs(NGINX, Scheduling::RunToCompletion).play();
    assert_eq!([2, 3].map(|index| outcome.parent(index)), [None, None]);
}

#[test]
fn a_proxy_that_takes_its_time_is_not_believed() {
    for (wait, expect) in [(4_900, Some(0)), (5_100, None)] {
        let ends = vec![
            End::server(NGINX, 20, 1, us([0, 0, 90_000, 90_010])),
            End::server(NGINX, 21, 2, us([0, 0, 90_000, 90_010])),
            End::client(NGINX, 20, 3, us([wait, wait, 70_000, 71_000])),
        ];
        let outcome = Scene::new(ends).runs(NGINX, Scheduling::RunToCompletion).play();
        assert_eq!(outcome.parent(2), expect, "{wait} us");
    }
}

#[test]
fn a_guessed_parent_says_so() {
    let ends = vec![
        End::server(GUNICORN, 31, 1, us([0, 0, 500, 510])),
        End::client(GUNICORN, 77, 2, us([10, 10, 400, 410])),
    ];
    let outcome = Scene::new(ends).play();
    assert_eq!((outcome.parent(1), outcome.span(1).confidence), (Some(0), Some("single_open")));
    assert!(!outcome.span(1).parent.as_ref().unwrap().is_remote);
}

#[test]
fn a_process_that_calls_itself() {
    for late in [0, 60] {
        let ends = vec![
            End::server(GUNICORN, 31, 1, us([0, 0, 900, 910])),
            End::client(GUNICORN, 31, 2, us([10 + late, 10 + late, 800, 810])),
            End::server(GUNICORN, 32, 2, us([40, 40, 700, 710])),
        ];
        let outcome = Scene::new(ends).play();
        assert_eq!([0, 1, 2].map(|index| outcome.parent(index)), [None, Some(0), Some(1)]);
    }
}

#[test]
fn a_connection_opened_for_one_request_and_used_for_another() {
    // Thread 31 opens the connection for the first request, and writes the second one's on it.
    let mut call = End::client(GUNICORN, 31, 2, us([600, 600, 700, 710]));
    call.connect = Some((MS + 10 * US, 31));
    let ends = vec![
        End::server(GUNICORN, 31, 1, us([0, 0, 400, 410])),
        End::server(GUNICORN, 31, 3, us([500, 500, 900, 910])),
        call,
    ];
    let outcome = Scene::new(ends).play();
    assert_eq!(outcome.parent(2), None);
}

#[test]
fn a_head_in_pieces_between_a_request_and_a_call_speaks_against_it() {
    let mut slow = End::server(NGINX, 20, 3, us([15, 700, 800, 810]));
    slow.begun = Some(MS + 700 * US);
    let ends = vec![
        End::server(NGINX, 20, 1, us([0, 0, 900, 910])),
        End::client(NGINX, 20, 2, us([20, 20, 100, 110])),
        slow,
    ];
    let outcome = Scene::new(ends).runs(NGINX, Scheduling::RunToCompletion).play();
    assert!(outcome.span(1).parent.is_none() || outcome.span(1).confidence.is_some());
}

#[test]
fn past_the_limit_the_oldest_are_decided() {
    let server = End::server(GUNICORN, 31, 1, us([0, 0, 90_000, 90_010]));
    let mut ends = vec![End { remote: true, ..server }];
    for index in 0..100 {
        ends.push(End::client(
            GUNICORN,
            50,
            2 + index,
            us([10, 10, 20, 21]).map(|time| time + u64::from(index) * 30 * US),
        ));
    }
    let mut scene = Scene::new(ends);
    scene.config.max_waiting = 10;
    let counters = std::sync::Arc::clone(&scene.counters);
    let outcome = scene.play();
    assert!(outcome.order[0].1 < 3 * MS);
    assert_eq!(counters.lost(crate::telemetry::Lost::WaitingFull), 90);
    // What was known then: they lay inside the only open request.
    assert_eq!(outcome.parent(1), Some(0));
}

#[test]
fn a_request_that_does_not_end_is_not_waited_for_for_ever() {
    let ends = vec![
        End::server(GUNICORN, 31, 1, us([0, 0, 100_000_000, 100_000_010])),
        End::client(GUNICORN, 31, 2, us([10, 10, 20, 21])),
        End::server(SERVICE, 41, 2, us([12, 12, 17, 18])),
    ];
    let outcome = Scene::new(ends).play();
    let seconds: Vec<_> = outcome.order.iter().map(|&(index, time)| (index, time / 1_000_000_000)).collect();
    assert_eq!(seconds, [(1, 30), (2, 30), (0, 100)]);
    assert_eq!((outcome.parent(1), outcome.parent(2)), (Some(0), Some(1)));
}

#[test]
fn exchanges_whose_end_never_comes_are_given_up() {
    let counters = std::sync::Arc::<crate::telemetry::Counters>::default();
    let config = super::CorrelatorConfig { max_held: 100, ..super::CorrelatorConfig::default() };
    let mut correlator = super::Correlator::new(config, std::sync::Arc::clone(&counters));
    let mut out = Vec::new();
    for index in 0..1000_u32 {
        let at = u64::from(index) * 20;
        let server = End::server(GUNICORN, 31, index * 2, us([at, at, at, at]));
        let client = End::client(GUNICORN, 32, index * 2 + 1, us([at + 1, at + 1, at + 5, at + 5]));
        for (offset, end) in [server, client].iter().enumerate() {
            let [begin, ..] = end.events(crate::proto::ExchangeId(u64::from(index) * 2 + offset as u64));
            correlator.event(begin.1, &mut out);
        }
        correlator.tick(MS + at * US, &mut out);
        assert!(correlator.held() <= 102);
    }
    assert_eq!(counters.lost(crate::telemetry::Lost::WaitingFull) as usize + correlator.held(), 2000);
}

#[test]
fn what_broke_off_lasted_until_that_was_noticed() {
    let mut client = End::client(CURL, 10, 1, us([0, 0, 0, 3_000_000]));
    client.failure = Some(crate::proto::Failure::Timeout);
    let outcome = Scene::new(vec![client]).play();
    let lasted = outcome.span(0).end - outcome.span(0).start;
    assert!((2_899..=3_001).contains(&(lasted / MS)), "{lasted}");
}

#[test]
fn flush_leaves_nothing_that_has_ended() {
    let counters = std::sync::Arc::default();
    let mut correlator = super::Correlator::new(super::CorrelatorConfig::default(), counters);
    let mut out = Vec::new();
    for (index, end) in chain().iter().enumerate().skip(2) {
        for (_, event) in end.events(crate::proto::ExchangeId(index as u64)) {
            correlator.event(event, &mut out);
        }
    }
    correlator.flush(&mut out);
    assert_eq!(out.len(), 4);
}

#[test]
fn a_replay_gives_the_same_spans() {
    let play = || {
        let outcome = Scene::new(chain()).runs(NGINX, Scheduling::RunToCompletion).play();
        (0..6)
            .map(|index| (outcome.span(index).context.clone(), outcome.span(index).parent.clone()))
            .collect::<Vec<_>>()
    };
    assert_eq!(play(), play());
}

/// Two ends of one exchange, and the sizes that each knows of its own.
fn sized(client: [Option<u64>; 2], server: [Option<u64>; 2]) -> Vec<End> {
    vec![
        End { sizes: client, ..End::client(CURL, 10, 1, us([0, 10, 900, 910])) },
        End { sizes: server, ..End::server(NGINX, 20, 1, us([50, 60, 800, 810])) },
    ]
}

fn told_sizes(outcome: &Outcome, index: usize) -> [Option<u64>; 2] {
    let exchange = &outcome.span(index).exchange;
    [exchange.request.body_size, exchange.response.and_then(|response| response.body_size)]
}

#[test]
fn what_one_end_knows_of_a_body_the_other_says_too() {
    // Whichever end is told of last.
    for late in [0, 2 * MS] {
        for first in [0, 1] {
            let mut ends = sized([Some(5), None], [None, Some(7)]);
            ends[first].times[3] += late;
            let outcome = Scene::new(ends).play();
            for end in [0, 1] {
                assert_eq!(
                    told_sizes(&outcome, end),
                    [Some(5), Some(7)],
                    "end {end}, {first} late by {late}"
                );
            }
            assert_eq!(outcome.correlator.held(), 0);
        }
    }
    // Each keeps to what it saw itself.
    let outcome = Scene::new(sized([Some(5), Some(6)], [Some(5), Some(7)])).play();
    assert_eq!((told_sizes(&outcome, 0), told_sizes(&outcome, 1)), ([Some(5), Some(6)], [Some(5), Some(7)]));
}

#[test]
fn the_size_of_an_upload_is_told_before_its_answer() {
    let mut ends = sized([Some(5), Some(7)], [None, Some(7)]);
    // The client reads the answer long after.
    ends[0].times[3] += 1_000 * MS;
    let outcome = Scene::new(ends).play();
    assert_eq!(told_sizes(&outcome, 1), [Some(5), Some(7)]);
    let (server, time) = outcome.order[0];
    assert!(server == 1 && time < 3 * MS, "{:?}", outcome.order);
}

#[test]
fn a_size_is_lent_only_where_the_messages_went_by_whole() {
    use crate::proto::{Failure, Quality};
    // The client gave up within the answer, or read the server's after it had broken off.
    for broken in [0, 1] {
        let mut ends = sized([Some(5), None], [Some(5), Some(7)]);
        ends[broken].failure = Some(Failure::Closed);
        ends[broken].sizes = ends[broken].sizes.map(|size| size.map(|size| size / 2));
        let outcome = Scene::new(ends).play();
        assert_eq!(told_sizes(&outcome, 0)[1], None, "end {broken} broke off");
        assert_eq!(outcome.correlator.held(), 0);
    }
    for gap in [0, 1] {
        let mut ends = sized([Some(5), None], [Some(5), Some(7)]);
        ends[gap].quality = Some(Quality::Gap);
        assert_eq!(told_sizes(&Scene::new(ends).play(), 0)[1], None, "end {gap} missed bytes");
    }
    let mut ends = sized([Some(5), None], [Some(5), Some(7)]);
    for end in &mut ends {
        end.quality = Some(Quality::Joined);
    }
    assert_eq!(told_sizes(&Scene::new(ends).play(), 0)[1], Some(7), "older than Sonde, and whole");
}

#[test]
fn a_size_that_nobody_tells_is_waited_for_a_moment() {
    let mut ends = sized([Some(5), Some(7)], [Some(5), None]);
    // The client reads on for long.
    ends[0].times[3] += 150 * MS;
    let outcome = Scene::new(ends).play();
    assert_eq!(told_sizes(&outcome, 1), [Some(5), None]);
    let at = |index| outcome.order.iter().find(|(of, _)| *of == index).expect("came out").1;
    assert!(at(1) >= MS + 810 * US + 20 * MS && at(1) < 30 * MS, "{:?}", outcome.order);
    // Where no other end is here, not at all.
    let mut alone =
        End { sizes: [None; 2], remote: true, ..End::server(NGINX, 20, 1, us([50, 60, 800, 810])) };
    let outcome = Scene::new(vec![alone.clone()]).play();
    assert!(outcome.order[0].1 < 3 * MS, "{:?}", outcome.order);
    alone.remote = false;
    alone.role = crate::conn::Role::Client;
    let outcome = Scene::new(vec![alone]).play();
    assert!(outcome.order[0].1 < 3 * MS, "{:?}", outcome.order);
}

#[test]
fn a_head_that_came_slowly_still_finds_its_other_end() {
    let mut ends = chain();
    ends.truncate(2);
    // The server has read the last piece before the client's call returns.
    ends[0].begun = Some(MS + 8000 * US);
    ends[1].begun = Some(MS + 7900 * US);
    let outcome = Scene::new(ends).play();
    assert_eq!(outcome.parent(1), Some(0));
}

#[test]
fn a_service_that_calls_itself_a_hundred_times_deep() {
    let mut ends = vec![End::client(CURL, 10, 1, us([0, 0, 90_000, 90_010]))];
    for depth in 1..=100_u32 {
        let (start, end) = (u64::from(depth) * 100, 90_000 - u64::from(depth) * 100);
        ends.push(End::server(GUNICORN, 100 + depth, depth, us([start, start, end + 50, end + 60])));
        ends.push(End::client(GUNICORN, 100 + depth, depth + 1, us([start + 20, start + 20, end, end + 10])));
    }
    ends.pop();
    let outcome = Scene::new(ends).play();
    assert!((1..200).all(|index| outcome.parent(index) == Some(index - 1)));
}

#[test]
fn a_process_id_that_is_used_again_begins_anew() {
    let counters = std::sync::Arc::default();
    let mut correlator = super::Correlator::new(super::CorrelatorConfig::default(), counters);
    let mut out = Vec::new();
    let mut play = |correlator: &mut super::Correlator, first: u64, ends: &[End]| {
        let id = crate::proto::ExchangeId;
        let mut events: Vec<_> = ends.iter().zip(first..).flat_map(|(end, at)| end.events(id(at))).collect();
        events.sort_by_key(|(time, _)| *time);
        events.into_iter().for_each(|(_, event)| correlator.event(event, &mut out));
        correlator.flush(&mut out);
        let span = out.drain(..).find(|done| done.exchange.opening.role == crate::conn::Role::Client);
        span.and_then(|span| span.parent).is_some()
    };
    // Shows that its threads say nothing.
    let mut moved = End::server(GUNICORN, 31, 1, us([0, 0, 100, 110]));
    moved.tids[3] = 32;
    play(&mut correlator, 1, &[moved]);
    // Two requests at once, so that only the thread can tell.
    let call = |conn, at: u64| {
        vec![
            End::server(GUNICORN, 31, conn, us([at, at, at + 300, at + 310])),
            End::server(GUNICORN, 32, conn + 1, us([at + 1, at + 1, at + 300, at + 310])),
            End::client(GUNICORN, 31, conn + 2, us([at + 10, at + 10, at + 200, at + 210])),
        ]
    };
    assert!(!play(&mut correlator, 10, &call(2, 1000)));
    correlator.process_ended(GUNICORN);
    assert!(play(&mut correlator, 20, &call(5, 2000)));
}

/// Run with optimisation: `cargo test --release -p sonde cost_per_exchange -- --ignored --nocapture`.
#[test]
#[ignore = "a measurement"]
fn cost_per_exchange() {
    use std::time::{Duration, Instant};
    let counters = std::sync::Arc::default();
    let mut correlator = super::Correlator::new(super::CorrelatorConfig::default(), counters);
    correlator.scheduling(NGINX, Scheduling::RunToCompletion);
    let (mut out, mut correlating, mut building) = (Vec::new(), Duration::ZERO, Duration::ZERO);
    let (mut count, mut finished) = (0, 0);
    let clock = crate::span::Clock::with_offset(0);
    // A load generator and a server, both observed, 300,000 exchanges per second on 64 connections: rounds of all
    // connections, so that the events are as fresh as the parsers would hand them on.
    for round in 0..5000_u64 {
        let mut events = Vec::new();
        for conn in 0..64_u32 {
            let index = round * 64 + u64::from(conn);
            let start = MS + index * 3300;
            let client = End::client(CURL, 10, conn, [start, start, start + 150 * US, start + 150 * US]);
            let server = End::server(NGINX, 20, conn, [20, 20, 100, 100].map(|time| start + time * US));
            for (offset, mut end) in [client, server].into_iter().enumerate() {
                end.position = round * 100;
                events.extend(end.events(crate::proto::ExchangeId(index * 2 + offset as u64 + 1)));
            }
        }
        events.sort_by_key(|(time, _)| *time);
        count += events.len() / 4;
        let begun = Instant::now();
        for (_, event) in events {
            correlator.event(event, &mut out);
        }
        correlating += begun.elapsed();
        finished += out.len();
        let begun = Instant::now();
        for done in out.drain(..) {
            let process = crate::span::ProcessId { tgid: done.tgid, started: 0 };
            std::hint::black_box(crate::span::build(done, clock, process, None, &std::sync::Arc::default()));
        }
        building += begun.elapsed();
    }
    println!(
        "{count} exchanges, {finished} spans, {} held, {} bytes a node",
        correlator.held(),
        size_of::<super::Node>()
    );
    println!(
        "correlate {} ns, build {} ns each",
        correlating.as_nanos() / count as u128,
        building.as_nanos() / finished as u128
    );
}
