//! Replays of a real recording that was changed: records split and in other orders give the same spans, and missing ones the
//! same or marked ones.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use sonde_tests::agent::command;
use sonde_tests::calls::{fresh, mixed};
use sonde_tests::clients::Client;
use sonde_tests::raw::Connection;
use sonde_tests::recording::{Part, Random, Recording};
use sonde_tests::servers::{self, Setting};
use sonde_tests::{Kind, Planned, Run, Span, gate, spans};

/// What tells one request's spans from all others.
type Key = (Kind, u32, String);

/// A recording of a chain, and the spans that its replay gives: those of the live run.
struct Recorded {
    recording: Recording,
    spans: BTreeMap<Key, Told>,
    folder: tempfile::TempDir,
}

/// What a span tells, without ids, and its parent by what that is.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Told {
    name: String,
    error: bool,
    times: (u64, u64),
    attributes: BTreeMap<String, String>,
    parent: Parent,
    root: Key,
}

/// A span's parent.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Parent {
    None,
    /// It has an id, but there is no such span: its request never ended.
    Unended,
    Is(Key),
}

/// Records client, nginx, gunicorn and a Python service, with heads and bodies in one call and in many.
fn record(hooks: &str) -> Recorded {
    let service = servers::python(&Setting::default());
    let gunicorn = servers::gunicorn("--worker-class sync --workers 2", &Setting::calls(service.url()));
    let nginx = servers::nginx_proxy(&gunicorn.url(), false, &Setting::default());
    let ports = [nginx.port, gunicorn.port, service.port];
    let folder = tempfile::TempDir::new().expect("folder");
    let file = folder.path().join("run.sonde");
    let recorder = Run::record(&file, &ports).hooks(hooks).start();
    let agent = Run::ports(&ports).hooks(hooks).start();
    let mut plan: Vec<Planned> = (0..40).map(|_| Planned::get(format!("/call/{}", fresh("c")))).collect();
    plan.extend(mixed(40));
    let calls = Client::Requests.run(&nginx.url(), 4, &plan);
    // A head longer than one record takes, in pieces; bodies by several calls.
    let mut kept = Connection::to(nginx.port);
    for i in 0..10 {
        let path = format!("/echo/{}", fresh("p"));
        let head = kept.head("POST", &path, &format!("X-Padding: {}\r\n", "p".repeat(300 * i)), 3000);
        for piece in head.as_bytes().chunks(500) {
            kept.write(piece).expect("the server reads the head");
        }
        for piece in vec![b'b'; 3000].chunks(700) {
            kept.write(piece).expect("the server reads the body");
        }
        assert_eq!(kept.read_answer("POST", 1000).expect("an answer").status, 200);
    }
    drop(kept);
    let live = agent.finish();
    drop(recorder.finish());
    let recorded = Recording::read(&file);
    // Four for each request, and two more for those that call the service.
    assert_eq!(live.spans.len(), 4 * (calls.len() + 10) + 2 * 40, "({hooks}) {}", live.log);
    let (live, replayed) = (told(&live.spans), told(&replay(&recorded, folder.path(), 0)));
    for (key, live) in &live {
        let replayed = replayed.get(key).unwrap_or_else(|| panic!("({hooks}) no replayed {key:?}"));
        let same = Told { times: live.times, ..replayed.clone() };
        assert_eq!(&same, live, "({hooks}) replayed and live {key:?}");
        assert_eq!(live.attributes.get("sonde.quality"), None, "({hooks}) {key:?} is whole");
    }
    assert_eq!(replayed.len(), live.len(), "({hooks}) replayed and live");
    Recorded { recording: recorded, spans: replayed, folder }
}

/// Replays a recording and gives its spans.
fn replay(recording: &Recording, folder: &Path, number: usize) -> Vec<Span> {
    let path = |name: &str| -> PathBuf { folder.join(format!("{number}.{name}")) };
    let (file, json) = (path("sonde"), path("jsonl"));
    recording.write(&file);
    let output = format!("json:{}", json.display());
    let (status, _, err) = command(&["replay", file.to_str().expect("text"), "--output", &output]);
    assert_eq!(status, Some(0), "{err}");
    let replayed = if json.is_file() { spans::read(&json) } else { Vec::new() };
    drop(std::fs::remove_file(json));
    drop(std::fs::remove_file(file));
    replayed
}

/// # Panics
/// Where two spans are of the same request, or one is not of its parent's trace.
fn told(spans: &[Span]) -> BTreeMap<Key, Told> {
    let by_id: BTreeMap<&str, &Span> = spans.iter().map(|span| (span.id.as_str(), span)).collect();
    let key = |span: &Span| (span.kind, span.pid(), span.path().to_owned());
    let mut all = BTreeMap::new();
    for span in spans {
        let mut root = span;
        while let Some(parent) = by_id.get(root.parent.as_str()) {
            assert_eq!(parent.trace, root.trace, "{:?} and its parent are of one trace", key(root));
            root = parent;
        }
        let told = Told {
            name: span.name.split(' ').next().unwrap_or_default().to_owned(),
            error: span.error,
            times: (span.start, span.end),
            // What was learned of routes depends on the requests that were seen before.
            attributes: span.attributes.iter().filter(|(name, _)| *name != "http.route").map(own).collect(),
            parent: match by_id.get(span.parent.as_str()) {
                Some(parent) => Parent::Is(key(parent)),
                None if span.parent.is_empty() => Parent::None,
                None => Parent::Unended,
            },
            root: key(root),
        };
        let twice = all.insert(key(span), told);
        assert!(twice.is_none(), "two spans of {:?}", key(span));
    }
    all
}

/// Works through the cases on all processors. Returns what each made of its case.
fn each<C: Sync, T: Send>(cases: &[C], work: impl Fn(usize, &C) -> T + Sync) -> Vec<T> {
    let next = AtomicUsize::new(0);
    let results = Mutex::new(Vec::new());
    thread::scope(|scope| {
        for _ in 0..thread::available_parallelism().map_or(1, usize::from) {
            scope.spawn(|| {
                while let Some((number, case)) = {
                    let number = next.fetch_add(1, Ordering::Relaxed);
                    cases.get(number).map(|case| (number, case))
                } {
                    let result = work(number, case);
                    results.lock().expect("no panic").push(result);
                }
            });
        }
    });
    results.into_inner().expect("no panic")
}

#[test]
#[ignore = "live: needs root, BPF and a built sonde"]
fn mended() {
    let _gate = gate::enter();
    for hooks in gate::hook_families() {
        let recorded = record(&hooks);
        let seeds: Vec<u64> = (1..=100).collect();
        let differing: usize = each(&seeds, |number, &seed| {
            let mut random = Random(seed);
            let mixed = recorded.recording.mixed(&mut random).interleaved(&mut random);
            let replayed = told(&replay(&mixed, recorded.folder.path(), number + 1));
            let differing = differences(&recorded.spans, &replayed);
            for line in differing.iter().take(3) {
                println!("({hooks}) seed {seed}: {line}");
            }
            usize::from(!differing.is_empty())
        })
        .into_iter()
        .sum();
        println!(
            "({hooks}) {} replays of {} spans, split and reordered: {differing} differ",
            seeds.len(),
            recorded.spans.len()
        );
        assert_eq!(differing, 0, "({hooks})");
    }
}

fn differences(expected: &BTreeMap<Key, Told>, replayed: &BTreeMap<Key, Told>) -> Vec<String> {
    let keys: BTreeSet<&Key> = expected.keys().chain(replayed.keys()).collect();
    let differs = |key: &&Key| expected.get(*key) != replayed.get(*key);
    keys.into_iter()
        .filter(differs)
        .map(|key| format!("{key:?}: {:?}, not {:?}", replayed.get(key), expected.get(key)))
        .collect()
}

/// What the spans of replays with losses came to.
#[derive(Default)]
struct Verdict {
    replays: usize,
    /// As without losses, but perhaps without their parent.
    same: usize,
    marked: usize,
    orphans: usize,
    missing: usize,
    /// Begins or ends with another byte: the one that did was lost.
    shifted: usize,
    /// Never so: spans of what did not happen; another method, path, status or parent.
    wrong: Vec<String>,
    /// Anything else that differs and is not marked, or is marked and says something that is not so.
    unmarked: Vec<String>,
}

impl Verdict {
    fn of(expected: &BTreeMap<Key, Told>, replayed: &BTreeMap<Key, Told>) -> Self {
        let mut verdict = Self { replays: 1, ..Self::default() };
        for (key, span) in replayed {
            let Some(truth) = expected.get(key) else {
                verdict.wrong.push(format!("{key:?} did not happen: {span:?}"));
                continue;
            };
            let has_parent = matches!(span.parent, Parent::Is(_));
            if has_parent && span.parent != truth.parent {
                verdict.wrong.push(format!("{key:?} under {:?}, not {:?}", span.parent, truth.parent));
            }
            verdict.orphans += usize::from(!has_parent && span.parent != truth.parent);
            let marked = span.attributes.contains_key("sonde.quality");
            let mut differs = Vec::new();
            let names: BTreeSet<&String> = span.attributes.keys().chain(truth.attributes.keys()).collect();
            for name in names {
                let (told, true_one) = (span.attributes.get(name), truth.attributes.get(name));
                // A guess that is said to be one; the mark; what a marked span leaves out; and the size of a chunked body, which
                // the other end may have told.
                let lent = name.ends_with(".body.size") && key.2.starts_with("/stream/");
                let may = name.starts_with("sonde.")
                    || told.is_none() && (marked || lent)
                    || lent && true_one.is_none();
                if told == true_one || may {
                    continue;
                }
                let what = format!("{key:?}: {name} {told:?}, not {true_one:?}");
                match name.as_str() {
                    "http.request.method" | "http.response.status_code" if told.is_some() => {
                        verdict.wrong.push(what);
                    }
                    // What a marked exchange seemed to fail of.
                    "error.type" if marked => {}
                    _ => differs.push(what),
                }
            }
            let times = (span.times.0.abs_diff(truth.times.0), span.times.1.abs_diff(truth.times.1));
            // A CLIENT span is widened to its other end's, if that is there. Any is dated when it is decided, by the clock's
            // latest sample.
            let slack = if key.0 == Kind::Client { 20_000_000 } else { 10_000 };
            if !marked && times.0.max(times.1) > slack {
                verdict.shifted += 1;
            }
            verdict.marked += usize::from(marked);
            verdict.same += usize::from(!marked && differs.is_empty());
            verdict.unmarked.extend(differs);
        }
        verdict.missing = expected.keys().filter(|key| !replayed.contains_key(*key)).count();
        verdict
    }

    fn add(&mut self, other: Self) {
        self.replays += other.replays;
        self.same += other.same;
        self.marked += other.marked;
        self.orphans += other.orphans;
        self.missing += other.missing;
        self.shifted += other.shifted;
        self.wrong.extend(other.wrong);
        self.unmarked.extend(other.unmarked);
    }

    /// One line of a table.
    fn print(&self, name: &str) {
        let Self { replays, same, marked, orphans, missing, shifted, wrong, unmarked } = self;
        let (wrong, unmarked) = (wrong.len(), unmarked.len());
        println!(
            "{name:14} {replays:7} {same:8} {marked:8} {orphans:10} {missing:8} {shifted:8} {wrong:6} {unmarked:9}"
        );
    }
}

/// Replays a recording without these records, each case by itself, and prints a line for each name.
fn without(hooks: &str, recorded: &Recorded, cases: &[(String, Vec<usize>)]) -> BTreeMap<String, Verdict> {
    let verdicts = each(cases, |number, (name, lost)| {
        let replayed = told(&replay(&recorded.recording.without(lost), recorded.folder.path(), number + 1));
        (name.clone(), Verdict::of(&recorded.spans, &replayed))
    });
    let mut sums: BTreeMap<String, Verdict> = BTreeMap::new();
    for (name, verdict) in verdicts {
        sums.entry(name).or_default().add(verdict);
    }
    println!("({hooks}) {} replays of {} spans, with losses", cases.len(), recorded.spans.len());
    println!("lost           replays     same   marked  no parent  missing  shifted  wrong  unmarked");
    for (name, sum) in &sums {
        sum.print(name);
        for line in sum.wrong.iter().chain(&sum.unmarked).take(5) {
            println!("    {line}");
        }
    }
    sums
}

/// One record of each kind, at most this many of each.
const ONE_OF_EACH: usize = 40;

fn single(recorded: &Recorded, random: &mut Random, kinds: &[Part]) -> Vec<(String, Vec<usize>)> {
    let parts = recorded.recording.parts();
    let mut cases = Vec::new();
    for kind in kinds {
        let mut of: Vec<usize> = parts.iter().filter(|(_, part)| part == kind).map(|(at, _)| *at).collect();
        assert!(!of.is_empty(), "the recording has no {kind:?}");
        for _ in 0..of.len().min(ONE_OF_EACH) {
            let at = of.swap_remove(random.below(of.len()));
            cases.push((format!("{kind:?}"), vec![at]));
        }
    }
    cases
}

/// So many of a hundred records, here and there; and stretches, where the ring was full for a while.
fn many(recorded: &Recorded, random: &mut Random) -> Vec<(String, Vec<usize>)> {
    let parts = recorded.recording.parts();
    let mut cases = Vec::new();
    for of_hundred in [1, 5, 20] {
        // With one of five the beginning of a connection goes unseen, and what would show that.
        let often = if of_hundred == 20 { 100 } else { 20 };
        for _ in 0..often {
            let lost = parts.iter().filter(|_| random.below(100) < of_hundred).map(|(at, _)| *at);
            cases.push((format!("{of_hundred}% of all"), lost.collect()));
        }
    }
    for _ in 0..20 {
        let (start, length) = (random.below(parts.len()), 10 + random.below(100));
        let lost = parts.iter().skip(start).take(length).map(|(at, _)| *at);
        cases.push(("a stretch".to_owned(), lost.collect()));
    }
    cases
}

#[test]
#[ignore = "live: needs root, BPF and a built sonde"]
fn lossy() {
    let _gate = gate::enter();
    for hooks in gate::hook_families() {
        let recorded = record(&hooks);
        let mut random = Random(7);
        let seen_later = [Part::Head, Part::MiddleOfHead, Part::Body, Part::Life];
        let at_the_end = [Part::Whole, Part::End];
        let mut cases = single(&recorded, &mut random, &seen_later);
        cases.extend(single(&recorded, &mut random, &at_the_end));
        cases.extend(many(&recorded, &mut random));
        let sums = without(&hooks, &recorded, &cases);
        for (name, sum) in &sums {
            assert_eq!(sum.wrong, Vec::<String>::new(), "({hooks}) {name}");
            assert_eq!(sum.unmarked, Vec::<String>::new(), "({hooks}) {name}");
        }
        for part in seen_later {
            let sum = &sums[&format!("{part:?}")];
            // One record is of one request at most.
            assert!(sum.missing <= sum.replays, "({hooks}) {part:?}: {} spans missing", sum.missing);
        }
    }
}

fn own((name, value): (&String, &String)) -> (String, String) {
    (name.clone(), value.clone())
}
