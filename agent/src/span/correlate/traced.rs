//! Processes that trace themselves: what is left to them, and that what others have hangs together all the same.

use super::scene::{End, MS, Outcome, Scene};
use crate::proto::otlp::{Export, Exported};
use crate::span::OnSdk;
use crate::telemetry::{Evidence, LeftOut};

const CALLER: u32 = 10;
const APP: u32 = 20;
const CALLEE: u32 = 30;
const COLLECTOR: u32 = 40;

const GIVEN: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
/// A span of the application's own, below the one that is given.
const OWN: &str = "00-0af7651916cd43dd8448eb211c80319c-00f067aa0ba902b7-01";

fn ms(times: [u64; 4]) -> [u64; 4] {
    times.map(|time| time * MS)
}

fn exporting(mut end: End, what: Exported) -> End {
    end.export = Some(Export { what, passed_on: false });
    end
}

/// Both ends of an export by the application at a time.
fn export(what: Exported, at: u64) -> [End; 2] {
    let conn = 900 + at as u32;
    let (call, served) = (
        End::client(APP, 29, conn, ms([at, at, at + 4, at + 4])),
        End::server(COLLECTOR, 40, conn, ms([at + 1, at + 1, at + 3, at + 3])),
    );
    [exporting(call, what), exporting(served, what)]
}

/// A caller, the application, and whom that calls: four ends, two by two, with the contexts that the two calls carry.
fn chain(conn: u32, at: u64, contexts: [Option<&str>; 2]) -> [End; 4] {
    let [given, own] = contexts.map(|context| context.map(ToOwned::to_owned));
    let with = |end: End, traceparent: &Option<String>| End { traceparent: traceparent.clone(), ..end };
    [
        with(End::client(CALLER, 10, conn, ms([at, at, at + 9, at + 9])), &given),
        with(End::server(APP, 20, conn, ms([at + 1, at + 1, at + 8, at + 8])), &given),
        with(End::client(APP, 20, conn + 1, ms([at + 2, at + 2, at + 7, at + 7])), &own),
        with(End::server(CALLEE, 30, conn + 1, ms([at + 3, at + 3, at + 6, at + 6])), &own),
    ]
}

fn play(ends: impl IntoIterator<Item = End>, on_sdk: OnSdk) -> Outcome {
    let mut scene = Scene::new(ends.into_iter().collect());
    scene.config.on_sdk = on_sdk;
    scene.play()
}

/// Which of the exchanges are no spans, and which count in no metric.
fn told(outcome: &Outcome) -> (Vec<usize>, Vec<usize>) {
    let all = || outcome.spans.iter().flatten().enumerate();
    (
        all().filter(|(_, span)| span.left_out).map(|(index, _)| index).collect(),
        all().filter(|(_, span)| !span.measured).map(|(index, _)| index).collect(),
    )
}

fn parent_id(outcome: &Outcome, index: usize) -> Option<String> {
    let parent = outcome.span(index).parent.as_ref()?;
    Some(parent.span_id.0.iter().map(|byte| format!("{byte:02x}")).collect())
}

#[test]
fn what_a_process_exports_is_left_to_it_and_no_more() {
    use Exported::{Logs, Metrics, Profiles, Traces};
    for (exported, on_sdk, spans_left, metrics_left) in [
        (vec![Traces], OnSdk::Skip, true, false),
        (vec![Metrics], OnSdk::Skip, false, true),
        (vec![Logs], OnSdk::Skip, false, false),
        (vec![Profiles], OnSdk::Skip, false, false),
        (vec![Logs, Metrics, Traces], OnSdk::Skip, true, true),
        (vec![Metrics, Traces], OnSdk::MetricsOnly, true, false),
        (vec![Metrics, Traces], OnSdk::Keep, false, false),
    ] {
        // A request before anything was noticed, one after the exports.
        let mut ends = vec![End::server(APP, 20, 1, ms([1, 1, 2, 2]))];
        ends.extend(chain(10, 300, [None; 2]));
        ends.extend((0..).zip(&exported).flat_map(|(n, &what)| export(what, 100 + n * 10)));
        let exports = 5..ends.len();
        let (left_out, mut unmeasured) = told(&play(ends, on_sdk));
        let of_app = |left: bool| if left { vec![2, 3] } else { vec![] };
        let expected: Vec<usize> = of_app(spans_left).into_iter().chain(exports).collect();
        assert_eq!(left_out, expected, "{exported:?} {on_sdk:?}");
        // Its exports count as whatever else it does.
        unmeasured.retain(|index| *index < 5);
        assert_eq!(unmeasured, of_app(metrics_left), "{exported:?} {on_sdk:?}");
    }
}

#[test]
fn what_hangs_below_a_span_that_is_left_out_hangs_below_what_is_above_it() {
    // Whether the application passes nothing on, what it was given, or a context of its own.
    for (own, expected) in
        [(None, "b7ad6b7169203331"), (Some(GIVEN), "b7ad6b7169203331"), (Some(OWN), "00f067aa0ba902b7")]
    {
        let ends = export(Exported::Traces, 1).into_iter().chain(chain(10, 50, [Some(GIVEN), own]));
        let outcome = play(ends, OnSdk::Skip);
        assert_eq!(told(&outcome).0, [0, 1, 3, 4]);
        let context = &outcome.span(2).context;
        assert_eq!(context.span_id.0[0], 0xb7, "the caller wrote it");
        assert_eq!(parent_id(&outcome, 5).as_deref(), Some(expected), "{own:?}");
        assert_eq!(outcome.span(5).context.trace_id, context.trace_id);
        assert!(outcome.span(5).parent.as_ref().unwrap().is_remote);
        assert_eq!(outcome.span(5).context.flags, context.flags, "sampled as the trace is");
    }
    // Nobody sends a context: the other end's span is above, and through the application it is the caller's.
    let ends = export(Exported::Traces, 1).into_iter().chain(chain(10, 50, [None; 2]));
    let outcome = play(ends, OnSdk::Skip);
    assert_eq!((outcome.parent(2), outcome.parent(5)), (None, Some(2)));
    let ends = export(Exported::Traces, 1).into_iter().chain(chain(10, 50, [None; 2]));
    let outcome = play(ends, OnSdk::Keep);
    assert_eq!([3, 4, 5].map(|index| outcome.parent(index)), [Some(2), Some(3), Some(4)]);
}

#[test]
fn a_guess_on_the_way_up_stays_one() {
    let mut ends: Vec<End> =
        export(Exported::Traces, 1).into_iter().chain(chain(10, 50, [None; 2])).collect();
    // Another thread makes the call, while nothing else is open.
    ends[4].tids = [23; 4];
    let outcome = play(ends, OnSdk::Skip);
    assert_eq!(outcome.parent(5), Some(2));
    assert_eq!(outcome.span(5).confidence, Some(crate::span::parent::SINGLE_OPEN));
}

#[test]
fn a_context_of_its_own_in_the_trace_of_a_request_shows_that_it_has_spans() {
    let outcome = play(chain(10, 50, [Some(GIVEN), Some(OWN)]), OnSdk::Skip);
    // Known before the request ends: not even the first one is doubled.
    assert_eq!(told(&outcome).0, [1, 2]);
    assert_eq!(parent_id(&outcome, 3).as_deref(), Some("00f067aa0ba902b7"));
    let unsampled = OWN.replace("-01", "-00");
    for (given, own) in [
        // Passed on; not sampled; not of that trace; of nobody's request.
        (Some(GIVEN), Some(GIVEN)),
        (Some(GIVEN), Some(unsampled.as_str())),
        (None, Some(OWN)),
    ] {
        let outcome = play(chain(10, 50, [given, own]), OnSdk::Skip);
        assert_eq!(told(&outcome).0, [0; 0], "{given:?} {own:?}");
    }
    // What calls itself reads its own context, perhaps before the stamp of the write.
    for late in [0, 1] {
        let call = End::client(APP, 20, 10, ms([50 + late, 50 + late, 59, 59])).carrying(OWN);
        let outcome = play([call, End::server(APP, 21, 10, ms([50, 50, 58, 58])).carrying(OWN)], OnSdk::Skip);
        assert_eq!(told(&outcome).0, [0; 0]);
    }
    // A runtime that does so by itself.
    let mut scene = Scene::new(Vec::new());
    scene.config.on_sdk = OnSdk::Skip;
    let mut correlator = scene.play().correlator;
    correlator.writes_contexts_anyway(APP);
    let mut out = Vec::new();
    for (index, end) in chain(10, 50, [Some(GIVEN), Some(OWN)]).iter().enumerate() {
        let [(_, begin), ..] = end.events(crate::proto::ExchangeId(index as u64 + 1));
        correlator.event(begin, &mut out);
    }
    assert_eq!(correlator.take_notices(), []);
}

#[test]
fn a_process_is_noticed_once_and_counted() {
    let ends: Vec<End> = [Exported::Traces, Exported::Traces, Exported::Logs]
        .into_iter()
        .zip([1, 11, 21])
        .flat_map(|(what, at)| export(what, at))
        .collect();
    let mut scene = Scene::new(ends);
    scene.config.on_sdk = OnSdk::Skip;
    let counters = std::sync::Arc::clone(&scene.counters);
    let mut correlator = scene.play().correlator;
    let notices = correlator.take_notices();
    let told: Vec<_> = notices.iter().map(|notice| (notice.tgid, notice.evidence, notice.is_news)).collect();
    assert_eq!(told, [(APP, Evidence::Traces, true), (APP, Evidence::Logs, false)]);
    assert_eq!(correlator.take_notices(), []);
    assert_eq!(Evidence::ALL.map(|shown| counters.noticed(shown)), [1, 0, 1, 0]);
    assert_eq!(LeftOut::ALL.map(|why| counters.left_out(why)), [0, 6]);
}

#[test]
fn who_passes_exports_on_keeps_its_spans() {
    let [call, served] = export(Exported::Traces, 50);
    let mut ends = vec![call, served];
    // The collector, or a proxy before it, sends them on, and serves something else.
    ends.push(exporting(End::client(COLLECTOR, 41, 500, ms([52, 52, 53, 53])), Exported::Traces));
    ends.push(End::server(COLLECTOR, 42, 600, ms([60, 60, 61, 61])));
    assert_eq!(told(&play(ends.clone(), OnSdk::Skip)).0, [0, 1, 2]);
    // Who is asked for by name shows what it serves.
    let mut scene = Scene::new(ends);
    (scene.config.on_sdk, scene.config.exports_served) = (OnSdk::Skip, true);
    let outcome = scene.play();
    assert_eq!(told(&outcome).0, [0, 2]);
    assert_eq!(outcome.parent(1), None, "what called it is no span");
}

#[test]
fn exports_that_nobody_saw_the_path_of_are_told_by_whom_they_go_to() {
    // Both go to port 8080, which is known for that only where a path was seen.
    let [unknown, served] = export(Exported::Unknown, 50);
    assert_eq!(told(&play([unknown.clone(), served.clone()], OnSdk::Skip)).0, [0; 0]);
    let [known, received] = export(Exported::Traces, 1);
    let other = End { tgid: 70, ..known };
    let request = End::server(APP, 20, 7, ms([100, 100, 101, 101]));
    let ends = [unknown, served, other, received, request];
    assert_eq!(told(&play(ends.clone(), OnSdk::Skip)).0, [0, 1, 2, 3], "what it exports is not known");
    // It calls somebody with a context of its own.
    let call = End::client(APP, 21, 8, ms([60, 60, 61, 61])).carrying(OWN);
    assert_eq!(told(&play(ends.into_iter().chain([call]), OnSdk::Skip)).0, [0, 1, 2, 3, 4, 5]);
}

#[test]
fn another_process_of_the_same_id_is_another() {
    let mut scene = Scene::new(export(Exported::Traces, 1).to_vec());
    scene.config.on_sdk = OnSdk::Skip;
    let mut correlator = scene.play().correlator;
    correlator.process_ended(APP);
    let mut out = Vec::new();
    for (_, event) in
        End::server(APP, 20, 7, ms([9_000, 9_000, 9_001, 9_001])).events(crate::proto::ExchangeId(70))
    {
        correlator.event(event, &mut out);
    }
    correlator.flush(&mut out);
    assert_eq!(out.iter().map(|span| span.left_out).collect::<Vec<_>>(), [false]);
}

#[test]
fn a_capture_knows_no_processes_and_tells_everything() {
    let mut scene =
        Scene::new(export(Exported::Traces, 1).into_iter().chain(chain(10, 50, [None; 2])).collect());
    (scene.config.on_sdk, scene.config.processes) = (OnSdk::Skip, false);
    let outcome = scene.play();
    assert_eq!(told(&outcome), (vec![], vec![]));
}
