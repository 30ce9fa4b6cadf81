//! The console's lines and tables, plain and coloured.

use super::*;
use crate::export::batch::{Item, pieces};
use crate::export::fixtures::{EPOCH, attribute, placed, resource, span};
use crate::span::{AttributeValue, Span, SpanKind, SpanStatus};

const MS: u64 = 1_000_000;

fn text(value: &'static str) -> AttributeValue {
    AttributeValue::Str(value.into())
}

/// A console that is fed at moments of the test's own.
struct Feed {
    console: Console,
    begin: Instant,
}

impl Feed {
    fn new(colours: bool) -> Self {
        Self::showing(colours, false)
    }

    fn showing(colours: bool, replayed: bool) -> Self {
        let red = Arc::new(Mutex::new(Red::new(100)));
        Self { console: Console::new(colours, replayed, red), begin: Instant::now() }
    }

    /// Feeds spans and returns what is shown at that moment.
    fn at(&mut self, millis: u64, spans: Vec<Item>) -> String {
        for (resource, span) in &spans {
            self.console.red.lock().unwrap().record(resource.service_name(), span);
        }
        let spans = if spans.is_empty() { Vec::new() } else { pieces(spans) };
        self.console.take(&spans, self.begin + Duration::from_millis(millis));
        std::mem::take(&mut self.console.buffer)
    }

    fn finish(mut self, millis: u64) -> String {
        self.console.finish(self.begin + Duration::from_millis(millis));
        self.console.buffer
    }
}

fn server(service: &str, path: &'static str, status: i64, start: u64, took: u64) -> Item {
    let mut span = span("GET", EPOCH + start, EPOCH + start + took);
    span.attributes = vec![
        attribute("url.path", text(path)),
        attribute("http.response.status_code", AttributeValue::Int(status)),
        attribute("client.address", text("127.0.0.1")),
        attribute("client.port", AttributeValue::Int(51_234)),
    ]
    .into();
    (Arc::new(resource(service)), span)
}

fn client(service: &str, url: &'static str, status: i64, start: u64, took: u64) -> Item {
    let mut span = span("GET", EPOCH + start, EPOCH + start + took);
    span.kind = SpanKind::Client;
    span.attributes = vec![
        attribute("url.full", text(url)),
        attribute("http.response.status_code", AttributeValue::Int(status)),
        attribute("server.address", text("::1")),
        attribute("server.port", AttributeValue::Int(8_000)),
    ]
    .into();
    (Arc::new(resource(service)), span)
}

fn put((resource, span): Item, trace: u8, id: u8, parent: u8, remote: bool) -> Item {
    (resource, placed(span, trace, id, parent, remote))
}

fn with((resource, mut span): Item, change: impl FnOnce(&mut Span)) -> Item {
    change(&mut span);
    (resource, span)
}

/// nginx asks a service twice; the second call fails. Children come first.
fn chain() -> Vec<Item> {
    let failed = |span: &mut Span| {
        span.status = SpanStatus::Error("".into());
        span.attributes.more.push(attribute("error.type", text("500")));
    };
    let reset = |span: &mut Span| {
        span.status = SpanStatus::Error("".into());
        span.attributes.more.retain(|attribute| attribute.key != "http.response.status_code");
        span.attributes.more.push(attribute("error.type", text("connection_reset")));
    };
    vec![
        put(server("orders", "/orders/17", 200, 2 * MS, 3 * MS), 1, 3, 2, true),
        put(client("nginx", "http://[::1]:8000/orders/17?x=1", 200, MS, 5 * MS), 1, 2, 1, false),
        put(with(client("nginx", "http://[::1]:8000/stock", 0, 7 * MS, 900_000), reset), 1, 4, 1, false),
        put(with(server("nginx", "/", 500, 0, 12_345_678), failed), 1, 1, 0, false),
    ]
}

#[test]
fn a_trace_is_a_tree_once_its_top_has_come() {
    let mut feed = Feed::new(false);
    assert_eq!(feed.at(0, chain()), "");
    assert_eq!(feed.at(49, vec![]), "");
    insta::assert_snapshot!(feed.at(50, vec![]));
    assert_eq!(feed.at(2_000, vec![]), "");
}

#[test]
fn colours() {
    let mut feed = Feed::new(true);
    feed.at(0, chain());
    insta::assert_snapshot!(feed.at(50, vec![]).replace('\x1b', "␛"));
}

#[test]
fn a_trace_without_a_top_waits_a_second() {
    let mut feed = Feed::new(false);
    let orphan = || put(server("a", "/late", 204, 0, 1), 1, 3, 2, false);
    assert_eq!(feed.at(0, vec![orphan()]), "");
    assert_eq!(feed.at(999, vec![]), "");
    assert_eq!(feed.at(1_000, vec![]).lines().count(), 1);
}

#[test]
fn a_remote_parent_that_comes_late_is_still_put_on_top() {
    let mut feed = Feed::new(false);
    feed.at(0, vec![put(server("b", "/x", 200, MS, MS), 1, 2, 1, true)]);
    feed.at(40, vec![put(client("a", "http://b/x", 200, 0, 3 * MS), 1, 1, 0, false)]);
    let shown = feed.at(50, vec![]);
    let names: Vec<&str> = shown.lines().map(|line| line.get(14..40).unwrap().trim_end()).collect();
    assert_eq!(names, ["a          CLIENT GET /x", "b          SERVER   GET /x"]);
}

#[test]
fn circles_and_doubles_are_shown_once_each() {
    let mut feed = Feed::new(false);
    feed.at(
        0,
        vec![
            put(server("a", "/1", 200, 0, 1), 1, 1, 2, false),
            put(server("a", "/2", 200, 1, 1), 1, 2, 1, false),
            put(server("a", "/3", 200, 2, 1), 1, 3, 3, false),
            put(server("a", "/4", 200, 3, 1), 1, 4, 0, false),
            put(server("a", "/5", 200, 4, 1), 1, 4, 0, false),
        ],
    );
    let shown = feed.at(1_000, vec![]);
    for path in ["/1", "/2", "/3", "/4", "/5"] {
        assert_eq!(shown.matches(path).count(), 1, "{shown}");
    }
}

#[test]
fn what_is_held_is_bounded() {
    let mut feed = Feed::new(false);
    let orphans = (0..5_000_u64).map(|n| {
        let mut item = put(server("a", "/", 200, n, 1), 0, 3, 2, false);
        item.1.context.trace_id.0[..8].copy_from_slice(&n.to_be_bytes());
        item
    });
    let orphans: Vec<Item> = orphans.collect();
    let mut shown = 0;
    for (at, some) in orphans.chunks(512).enumerate() {
        shown += feed.at(at as u64, some.to_vec()).lines().count();
    }
    assert!(shown >= 5_000 - 2_048 - 512, "{shown}");
    shown += feed.finish(20).lines().take_while(|line| !line.is_empty()).count();
    assert_eq!(shown, 5_000);
}

#[test]
fn control_characters_do_not_reach_the_terminal() {
    let mut feed = Feed::new(false);
    feed.at(
        0,
        vec![with(server("a\x1b[2J", "/\x07\u{9b}31m\nb", 200, 0, 1), |span| span.name = "G\x1b".into())],
    );
    let shown = feed.at(50, vec![]);
    assert_eq!(shown.lines().count(), 1);
    assert!(shown.trim_end().chars().all(|c| !c.is_control()), "{shown:?}");
}

#[test]
fn tables_show_the_window_and_at_the_end_everything() {
    let mut feed = Feed::new(false);
    let calls = |from: u64, to: u64| {
        (from..to).map(|n| {
            with(server("shop", "/", 200, 0, n * MS), |span| {
                if n % 10 == 0 {
                    span.status = SpanStatus::Error("".into());
                }
            })
        })
    };
    feed.at(0, calls(1, 101).chain([client("shop", "http://b/", 200, 0, 10)]).collect());
    feed.at(100, vec![]);
    let first = feed.at(10_000, vec![]);
    let second = feed.at(20_000, vec![]);
    assert_eq!(second, "");
    feed.at(20_100, calls(1_000, 1_001).collect());
    feed.at(20_200, vec![]);
    let third = feed.at(30_000, vec![]);
    let last = feed.finish(30_500);
    insta::assert_snapshot!([first, third, last].join("----\n"));
}

#[test]
fn durations_have_three_digits() {
    for (nanos, expected) in [
        (0, "     0ns"),
        (999, "   999ns"),
        (1_000, "  1.00us"),
        (12_345, "  12.3us"),
        (999_999, "   999us"),
        (1_000_000, "  1.00ms"),
        (123_456_789, "   123ms"),
        (9_876_543_210, "   9.87s"),
        (86_400_000_000_000, "  86400s"),
        (u64::MAX, "18446744073s"),
    ] {
        let mut out = String::new();
        style::duration(&mut out, nanos);
        assert_eq!(out, expected);
    }
}

#[test]
fn a_replay_has_one_table_over_the_time_it_tells_of() {
    let mut feed = Feed::showing(false, true);
    let calls = (0..40).map(|n| server("shop", "/", 200, n * 500 * MS, 500 * MS)).collect();
    // The spans of twenty seconds, read in one; and slower than a live console waits with its table.
    assert!(!feed.at(1_000, calls).contains("rate/s"));
    assert!(!feed.at(15_000, vec![server("shop", "/", 200, 0, MS)]).contains("rate/s"));
    let shown = feed.finish(15_001);
    assert!(shown.contains("in all, 20.0 s"), "{shown}");
    let row = shown.lines().find(|line| line.starts_with("shop") && line.contains("SERVER")).unwrap();
    assert_eq!(row.split_whitespace().skip(3).take(2).collect::<Vec<_>>(), ["41", "2.0"], "{row}");
}
