//! Which spans of a trace are sampled: all or none, but for what is excluded and what hangs below it.

use super::scene::{End, MS, Scene};
use crate::span::Sampler;
use crate::span::sample::{Ratio, Root, SAMPLED};

const SAMPLED_ELSEWHERE: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
const REFUSED_ELSEWHERE: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-00";

/// A client calls a server, which calls another one: four ends, two by two.
fn chain(conn: u32, at: u64) -> Vec<End> {
    let start = at * 100 * MS + MS;
    let times = |begin: u64, end: u64| [begin, begin + MS / 10, end - MS / 10, end].map(|time| start + time);
    vec![
        End::client(10 + conn, 10, conn * 2, times(0, 20 * MS)),
        End::server(20 + conn, 20, conn * 2, times(MS, 19 * MS)),
        End::client(20 + conn, 20, conn * 2 + 1, times(2 * MS, 10 * MS)),
        End::server(30 + conn, 30, conn * 2 + 1, times(3 * MS, 9 * MS)),
    ]
}

fn flags(ends: Vec<End>, sampler: Sampler) -> Vec<bool> {
    let count = ends.len();
    let mut scene = Scene::new(ends);
    scene.config.sampler = sampler;
    let outcome = scene.play();
    (0..count).map(|index| outcome.span(index).context.flags & SAMPLED != 0).collect()
}

fn root(root: Root) -> Sampler {
    Sampler { root, ..Sampler::default() }
}

#[test]
fn every_end_of_a_trace_is_sampled_or_none() {
    let half = root(Root::Ratio(Ratio::new(0.5).unwrap()));
    let ends: Vec<End> = (0..200).flat_map(|n| chain(n, u64::from(n))).collect();
    let sampled = flags(ends, half);
    let traces: Vec<&[bool]> = sampled.chunks(4).collect();
    assert!(traces.iter().all(|trace| trace.iter().all(|&flag| flag == trace[0])), "{traces:?}");
    let kept = traces.iter().filter(|trace| trace[0]).count();
    assert!((70..130).contains(&kept), "{kept}");
}

#[test]
fn a_decision_that_came_with_the_request_is_followed_down() {
    for (traceparent, expected) in [(SAMPLED_ELSEWHERE, true), (REFUSED_ELSEWHERE, false)] {
        let mut ends = chain(1, 0).split_off(1);
        ends[0] = ends[0].clone().carrying(traceparent);
        ends[0].remote = true;
        for other in [Root::AlwaysOn, Root::AlwaysOff] {
            assert_eq!(flags(ends.clone(), root(other)), [expected; 3], "{other:?}");
            let alone = Sampler { parent_based: false, root: other };
            assert_eq!(flags(ends.clone(), alone), [other == Root::AlwaysOn; 3]);
        }
    }
}

#[test]
fn nothing_below_an_excluded_request_is_sampled() {
    let mut ends = chain(1, 0);
    (ends[0].excluded, ends[1].excluded) = (true, true);
    assert_eq!(flags(ends, Sampler::default()), [false; 4]);
    // A service that asks another whether it is well: that alone is not exported.
    let mut ends = chain(1, 0);
    (ends[2].excluded, ends[3].excluded) = (true, true);
    assert_eq!(flags(ends, Sampler::default()), [true, true, false, false]);
}
