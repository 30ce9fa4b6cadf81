//! Recordings there and back, whole, cut and damaged.

use std::borrow::Cow;
use std::sync::Arc;

use proptest::prelude::*;

use super::recording::{FRAME_HEAD, PREAMBLE};
use super::*;
use crate::discover::{Decision, Exclusion, Language, Process, Runtime};
use crate::enrich::{Clock, Resource};
use crate::span::{Attribute, AttributeValue, ProcessId, Scheduling};

fn header() -> Header {
    Header {
        sonde: "0.1.0".to_owned(),
        kernel: "6.12.107".to_owned(),
        host: "node-1".to_owned(),
        hooks: "lengths".to_owned(),
        started: 77,
        clock_offset: -5,
    }
}

/// What is written, owned.
#[derive(Clone, Debug)]
enum Written {
    Record(Vec<u8>),
    Process(Box<Process>),
    Clock(i64),
    Tick(u64),
    Losses(Losses),
}

impl Written {
    fn is(&self, frame: &Frame<'_>) -> bool {
        match (self, frame) {
            (Self::Record(bytes), Frame::Record(read)) => bytes == read,
            (Self::Process(process), Frame::Process(read)) => same(process, read),
            (Self::Clock(offset), Frame::Clock(read)) => *offset == read.offset(),
            (Self::Losses(losses), Frame::Losses(read)) => losses == read,
            (Self::Tick(watermark), Frame::Tick(read)) => watermark == read,
            _ => false,
        }
    }
}

/// Equal, and with the same bits of each number: a NaN is not equal to itself.
fn same(a: &Process, b: &Process) -> bool {
    format!("{a:?}") == format!("{b:?}")
}

fn write(frames: &[Written]) -> Vec<u8> {
    let mut writer = Writer::new(Vec::new(), &header()).unwrap();
    for frame in frames {
        match frame {
            Written::Record(bytes) => writer.record(bytes),
            Written::Process(process) => writer.process(process),
            Written::Clock(offset) => writer.clock(Clock::with_offset(*offset)),
            Written::Losses(losses) => writer.losses(losses),
            Written::Tick(watermark) => writer.tick(*watermark),
        }
        .unwrap();
    }
    let before = writer.offset();
    let bytes = writer.finish().unwrap();
    assert_eq!(bytes.len() as u64, before + FRAME_HEAD as u64 + 8);
    bytes
}

/// Reads to the end or to the first error, and says how many frames agreed.
fn read(bytes: &[u8], expect: &[Written]) -> (usize, Result<Ending, RecordingError>) {
    let mut reader = match Reader::new(bytes) {
        Ok(reader) => reader,
        Err(error) => return (0, Err(error)),
    };
    assert_eq!(reader.header(), &header());
    let mut agreed = 0;
    loop {
        match reader.frame() {
            Ok(Some(frame)) => {
                assert!(
                    expect[agreed].is(&frame),
                    "frame {agreed}: {frame:?}, {:?} was written",
                    expect[agreed]
                );
                agreed += 1;
            }
            Ok(None) => return (agreed, Ok(reader.ending())),
            Err(error) => {
                assert!(matches!(reader.frame(), Ok(None)), "nothing behind an error");
                return (agreed, Err(error));
            }
        }
    }
}

fn text() -> impl Strategy<Value = String> {
    proptest::collection::vec(any::<char>(), 0..20).prop_map(|characters| characters.into_iter().collect())
}

fn value() -> impl Strategy<Value = AttributeValue> {
    let cow = || text().prop_map(Cow::<'static, str>::Owned);
    prop_oneof![
        cow().prop_map(AttributeValue::Str),
        any::<i64>().prop_map(AttributeValue::Int),
        any::<u64>().prop_map(|bits| AttributeValue::Double(f64::from_bits(bits))),
        any::<bool>().prop_map(AttributeValue::Bool),
        proptest::collection::vec(cow(), 0..3).prop_map(AttributeValue::StrArray),
    ]
}

fn process() -> impl Strategy<Value = Process> {
    let attribute = (text(), value()).prop_map(|(key, value)| Attribute { key: Cow::Owned(key), value });
    let language =
        proptest::sample::select(vec![Language::Native, Language::Go, Language::DotNet, Language::Python]);
    let scheduling =
        proptest::sample::select(vec![Scheduling::Unknown, Scheduling::RunToCompletion, Scheduling::Moving]);
    let decision = proptest::sample::select(vec![
        Decision::Observed,
        Decision::Excluded(Exclusion::Sonde),
        Decision::Excluded(Exclusion::Infrastructure),
        Decision::Excluded(Exclusion::Backend),
        Decision::Excluded(Exclusion::NotATarget),
    ]);
    let texts = (text(), text(), text(), proptest::option::of(text()), proptest::option::of(text()));
    let attributes = proptest::collection::vec(attribute, 0..4);
    (any::<(u32, u64)>(), texts, language, scheduling, decision, attributes).prop_map(
        |(
            (tgid, started),
            (exe, comm, cmdline, container_id, version),
            language,
            scheduling,
            decision,
            attributes,
        )| {
            Process {
                id: ProcessId { tgid, started },
                exe,
                comm,
                cmdline,
                container_id,
                runtime: Runtime { language, version },
                scheduling,
                resource: Arc::new(Resource { attributes }),
                decision,
            }
        },
    )
}

fn written() -> impl Strategy<Value = Written> {
    prop_oneof![
        4 => proptest::collection::vec(any::<u8>(), 0..300).prop_map(Written::Record),
        1 => process().prop_map(|process| Written::Process(Box::new(process))),
        1 => any::<i64>().prop_map(Written::Clock),
        2 => any::<u64>().prop_map(Written::Tick),
        1 => any::<(u64, [u64; 6])>().prop_map(|(until, totals)| Written::Losses(Losses { until, totals })),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn what_is_written_is_read(frames in proptest::collection::vec(written(), 0..20)) {
        let (agreed, ending) = read(&write(&frames), &frames);
        prop_assert_eq!(agreed, frames.len());
        prop_assert_eq!(ending.unwrap(), Ending::Complete);
    }

    #[test]
    fn a_cut_keeps_what_stands_before(frames in proptest::collection::vec(written(), 0..8), cut in any::<prop::sample::Index>()) {
        let bytes = write(&frames);
        let cut = cut.index(bytes.len());
        let (agreed, ending) = read(&bytes[..cut], &frames);
        match ending {
            Ok(Ending::Truncated { offset }) => {
                prop_assert!(offset <= cut as u64);
                // The frames before the cut, and no fewer: what is written of them alone ends at that offset.
                prop_assert_eq!(write(&frames[..agreed]).len() as u64, offset + FRAME_HEAD as u64 + 8);
            }
            Ok(other) => prop_assert!(false, "{other:?} for a file of which a part is missing"),
            Err(RecordingError::NotARecording | RecordingError::Broken { .. }) => {
                prop_assert!(cut < PREAMBLE + serde_json::to_vec(&header()).unwrap().len());
            }
            Err(other) => prop_assert!(false, "{other}"),
        }
    }

    #[test]
    fn a_flipped_byte_never_panics(frames in proptest::collection::vec(written(), 1..6), at in any::<prop::sample::Index>(), with in 1_u8..) {
        let mut bytes = write(&frames);
        let at = at.index(bytes.len());
        bytes[at] ^= with;
        if let Ok(mut reader) = Reader::new(bytes.as_slice()) {
            while let Ok(Some(_)) = reader.frame() {}
            prop_assert_ne!(reader.ending(), Ending::Open);
        }
    }

    #[test]
    fn noise_never_panics(noise in proptest::collection::vec(any::<u8>(), 0..200)) {
        let mut bytes = write(&[]);
        bytes.truncate(bytes.len() - FRAME_HEAD - 8);
        bytes.extend(noise);
        let mut reader = Reader::new(bytes.as_slice()).unwrap();
        while let Ok(Some(_)) = reader.frame() {}
        prop_assert_ne!(reader.ending(), Ending::Open);
    }
}

#[test]
fn broken_files_say_what_and_where() {
    let whole = write(&[Written::Tick(1), Written::Record(vec![1, 2, 3])]);
    let start = whole.len() - (FRAME_HEAD + 8) - (FRAME_HEAD + 3) - (FRAME_HEAD + 8);
    let check = |change: &dyn Fn(&mut Vec<u8>), expect: &str| {
        let mut bytes = whole.clone();
        change(&mut bytes);
        let error = match Reader::new(bytes.as_slice()) {
            Err(error) => error,
            Ok(mut reader) => loop {
                match reader.frame() {
                    Ok(Some(_)) => {}
                    Ok(None) => panic!("no error, {expect:?} expected"),
                    Err(error) => break error,
                }
            },
        };
        assert!(error.to_string().contains(expect), "{error}, {expect:?} expected");
    };
    check(&|bytes| bytes.clear(), "does not begin with SONDEREC");
    check(&|bytes| bytes[0] = b'X', "does not begin with SONDEREC");
    check(&|bytes| bytes.truncate(10), "broken at byte 0: cut off before its header");
    check(&|bytes| bytes.truncate(20), "broken at byte 16: cut off in its header");
    check(&|bytes| bytes[8] = 9, "recording of format 9; this Sonde reads format 4");
    check(&|bytes| bytes[10] ^= 3, "in byte order");
    check(&|bytes| bytes[15] = 0xFF, "header of ");
    check(&|bytes| bytes[16] = b'[', "broken at byte 16");
    check(&|bytes| bytes[start] = 0, &format!("broken at byte {start}: frame of unknown kind 0"));
    check(&|bytes| bytes[start] = 7, &format!("broken at byte {start}: frame of unknown kind 7"));
    check(&|bytes| bytes[start + 2] = 1, &format!("broken at byte {start}: no frame begins here"));
    check(&|bytes| bytes[start + 7] = 1, &format!("broken at byte {start}: frame of 16777224 bytes"));
    check(&|bytes| bytes[start] = 2, &format!("broken at byte {start}: "));
    check(&|bytes| bytes[start + 4] = 7, "number of 7 bytes");
    let count = whole.len() - 8;
    check(&|bytes| bytes[count] = 2, "2 records were written, 1 are there");
    check(&|bytes| bytes.push(0), &format!("broken at byte {}: bytes behind the last frame", whole.len()));
}

#[test]
fn a_hostile_length_takes_no_memory() {
    let mut bytes = write(&[]);
    bytes.truncate(bytes.len() - FRAME_HEAD - 8);
    bytes.extend([1, 0, 0, 0]);
    bytes.extend((4_u32 << 20).to_le_bytes());
    bytes.extend([7; 10]);
    let (agreed, ending) = read(&bytes, &[]);
    assert_eq!(agreed, 0);
    assert_eq!(ending.unwrap(), Ending::Truncated { offset: bytes.len() as u64 - 18 });
}

#[test]
fn an_output_that_fails_says_where() {
    struct Full(usize);
    impl std::io::Write for Full {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            match self.0.checked_sub(bytes.len()) {
                Some(left) => {
                    self.0 = left;
                    Ok(bytes.len())
                }
                None => Err(std::io::ErrorKind::StorageFull.into()),
            }
        }
        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }
    let mut writer = Writer::new(Full(1 << 20), &header()).unwrap();
    let error = (0..4096).find_map(|_| writer.record(&[0; 1024]).err()).unwrap();
    assert!(matches!(error, RecordingError::Io { offset, .. } if offset > 1 << 20), "{error}");
}
