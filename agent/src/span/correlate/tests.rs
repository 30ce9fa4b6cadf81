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
