//! All outputs together: one span to each of them, and what becomes of it when one is full or gone.

use std::fs::File;
use std::io::{PipeReader, Read};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::time::Duration;

use super::fixtures::{resource, span};
use super::*;
use crate::config::{Batching, WhenFull};
use crate::telemetry::Lost;

fn items(range: std::ops::Range<u64>) -> Vec<Item> {
    let resource = Arc::new(resource("shop"));
    range.map(|at| (Arc::clone(&resource), span("GET", at, at + 1))).collect()
}

fn limits(spans: usize) -> Limits {
    Limits { spans, bytes: QUEUE_BYTES, when_full: WhenFull::Drop }
}

/// Adds a JSON output with counters of its own that writes to a file of any kind.
fn add_json(outputs: &mut Outputs, limits: Limits, file: impl Into<OwnedFd>) -> Arc<Counters> {
    let counters = Arc::new(Counters::default());
    let sink = Sink::new(File::from(file.into()), "a test".to_owned());
    outputs
        .spawn("test", limits, Ledger::writing(Arc::clone(&counters)), |queue, ledger| {
            json::run(&queue, &ledger, sink);
        })
        .unwrap();
    counters
}

/// Starts of the spans in JSON lines.
fn starts(lines: &str) -> Vec<u64> {
    let mut starts = Vec::new();
    for line in lines.lines().filter(|line| !line.is_empty()) {
        let value: serde_json::Value = serde_json::from_str(line).unwrap();
        for span in value["resourceSpans"][0]["scopeSpans"][0]["spans"].as_array().unwrap() {
            starts.push(span["startTimeUnixNano"].as_str().unwrap().parse().unwrap());
        }
    }
    starts
}

fn read_all(mut pipe: PipeReader) -> thread::JoinHandle<String> {
    thread::spawn(move || {
        let mut text = String::new();
        pipe.read_to_string(&mut text).unwrap();
        text
    })
}

fn soon() -> Instant {
    Instant::now() + Duration::from_secs(60)
}

#[test]
fn a_file_gets_every_span_in_order_and_is_appended_to() {
    let directory = std::env::temp_dir().join(format!("sonde-export-{}", std::process::id()));
    std::fs::create_dir_all(&directory).unwrap();
    let path = directory.join("spans.jsonl");
    let config = OutputsConfig {
        outputs: vec![OutputSpec::Json(Some(path.clone()))],
        otlp: None,
        otlp_metrics: None,
        metric_reading: Default::default(),
        batching: Batching::default(),
        when_full: WhenFull::Wait,
        plain: true,
    };
    let counters = Arc::new(Counters::default());
    for range in [0..30_000, 30_000..30_001] {
        let outputs = Outputs::start(&config, &counters).unwrap();
        for part in items(range).chunks(700) {
            outputs.spans(part.to_vec());
        }
        outputs.shutdown(soon());
    }
    let text = std::fs::read_to_string(&path).unwrap();
    std::fs::remove_dir_all(&directory).unwrap();
    assert_eq!(starts(&text), (0..30_001).collect::<Vec<_>>());
    assert!(Lost::ALL.into_iter().all(|why| counters.lost(why) == 0));
}

#[test]
fn a_file_that_cannot_be_opened_is_an_error() {
    let config = OutputsConfig {
        outputs: vec![OutputSpec::Json(Some("/nowhere/x.jsonl".into()))],
        otlp: None,
        otlp_metrics: None,
        metric_reading: Default::default(),
        batching: Batching::default(),
        when_full: WhenFull::Drop,
        plain: true,
    };
    let error = Outputs::start(&config, &Arc::default()).unwrap_err().to_string();
    assert!(error.starts_with("cannot write /nowhere/x.jsonl: "), "{error}");
}

#[test]
fn an_output_that_is_stuck_holds_up_nobody_and_its_spans_are_counted() {
    let mut outputs = Outputs { running: Vec::new(), red: None };
    let (reader, writer) = io::pipe().unwrap();
    let (stuck, mut never_read) = (reader, writer);
    // As much as a pipe holds, so that not one line goes through.
    io::Write::write_all(&mut never_read, &[b'\n'; 65_536]).unwrap();
    let stuck_counters = add_json(&mut outputs, limits(1_000), never_read);
    let (reader, writer) = io::pipe().unwrap();
    let fine = read_all(reader);
    let fine_counters = add_json(&mut outputs, limits(100_000), writer);

    for part in items(0..8_000).chunks(512) {
        outputs.spans(part.to_vec());
    }
    // The stuck one needs all of this time, and still counts what it had.
    outputs.shutdown(Instant::now() + Duration::from_secs(3));
    assert_eq!(starts(&fine.join().unwrap()), (0..8_000).collect::<Vec<_>>());
    assert!(Lost::ALL.into_iter().all(|why| fine_counters.lost(why) == 0));
    let (dropped, failed) = (stuck_counters.lost(Lost::QueueFull), stuck_counters.lost(Lost::OutputFailed));
    assert_eq!(dropped + failed, 8_000);
    assert!(failed >= 1_000, "what waited at the end: {failed}");
    drop(stuck);
}

#[test]
fn a_full_disk_and_a_closed_pipe_cost_the_spans_and_nothing_else() {
    let mut outputs = Outputs { running: Vec::new(), red: None };
    let full = File::options().write(true).open("/dev/full").unwrap();
    let full = add_json(&mut outputs, limits(100_000), full);
    let (reader, writer) = io::pipe().unwrap();
    drop(reader);
    let closed = add_json(&mut outputs, limits(100_000), writer);
    for part in items(0..2_000).chunks(100) {
        outputs.spans(part.to_vec());
    }
    outputs.shutdown(soon());
    for counters in [full, closed] {
        assert_eq!(counters.lost(Lost::OutputFailed), 2_000);
        assert_eq!(counters.lost(Lost::QueueFull), 0);
    }
}

#[test]
fn a_line_after_a_torn_one_is_whole() {
    let (mut reader, writer) = UnixStream::pair().unwrap();
    writer.set_nonblocking(true).unwrap();
    let mut sink = Sink::new(File::from(OwnedFd::from(writer)), "a test".to_owned());
    let counters = Arc::new(Counters::default());
    let ledger = Ledger::writing(Arc::clone(&counters));
    ledger.took(3);
    let huge = [vec![b'x'; 4 << 20], b"\n".to_vec()].concat();
    sink.write(&huge, 1, &ledger);
    assert_eq!(counters.lost(Lost::OutputFailed), 1);
    let mut torn = vec![0; 4 << 20];
    reader.set_nonblocking(true).unwrap();
    let mut read = 0;
    while let Ok(n) = reader.read(&mut torn) {
        read += n;
    }
    assert!(read > 0 && read < 4 << 20, "{read}");
    sink.write(b"{\"a\":1}\n", 1, &ledger);
    sink.write(b"{\"b\":2}\n", 1, &ledger);
    drop(sink);
    reader.set_nonblocking(false).unwrap();
    let mut text = String::new();
    reader.read_to_string(&mut text).unwrap();
    assert_eq!(text, "\n{\"a\":1}\n{\"b\":2}\n");
    assert_eq!(counters.lost(Lost::OutputFailed), 1);
}

#[test]
fn the_console_shows_what_it_was_given_and_the_table_of_all() {
    let (reader, writer) = io::pipe().unwrap();
    let shown = read_all(reader);
    let counters = Arc::new(Counters::default());
    let red = Arc::new(Mutex::new(Red::new(10)));
    let mut outputs = Outputs { running: Vec::new(), red: Some(Arc::clone(&red)) };
    let sink = Sink::new(File::from(OwnedFd::from(writer)), "a test".to_owned());
    let console = console::Console::new(false, false, red);
    outputs
        .spawn("test", limits(100_000), Ledger::writing(Arc::clone(&counters)), move |queue, ledger| {
            console.run(&queue, &ledger, sink);
        })
        .unwrap();
    for part in items(0..3_000).chunks(512) {
        outputs.spans(part.to_vec());
    }
    outputs.shutdown(soon());
    let shown = shown.join().unwrap();
    let lines: Vec<&str> = shown.lines().collect();
    assert_eq!(
        lines.iter().filter(|line| line.contains(" SERVER GET") && line.contains("Z ")).count(),
        3_000
    );
    assert!(
        lines.iter().any(|line| line.starts_with("shop    SERVER GET       3000")),
        "{}",
        lines.last().unwrap()
    );
    assert!(Lost::ALL.into_iter().all(|why| counters.lost(why) == 0));
}
