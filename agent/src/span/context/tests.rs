//! Context headers: what the W3C asks for, case by case.

use proptest::prelude::{any, prop, proptest};

use super::{BAGGAGE_BYTES, BAGGAGE_MEMBERS, STATE_CHARS, baggage, parse, traceparent, tracestate};
use crate::proto::TraceHeaders;
use crate::span::{SpanId, TraceId};

const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
const PARENT: &str = "00f067aa0ba902b7";

fn values(values: &[&str]) -> Vec<Box<[u8]>> {
    values.iter().map(|value| Box::from(value.as_bytes())).collect()
}

/// The flags of a valid value.
fn flags(value: &str) -> Option<u8> {
    let (trace, parent, flags) = traceparent(value.as_bytes())?;
    assert_eq!(
        trace,
        TraceId([
            0x4b, 0xf9, 0x2f, 0x35, 0x77, 0xb3, 0x4d, 0xa6, 0xa3, 0xce, 0x92, 0x9d, 0x0e, 0x0e, 0x47, 0x36
        ])
    );
    assert_eq!(parent, SpanId([0x00, 0xf0, 0x67, 0xaa, 0x0b, 0xa9, 0x02, 0xb7]));
    Some(flags)
}

#[test]
fn versions() {
    let plain = format!("{TRACE}-{PARENT}-01");
    for (version, tail, valid) in [
        ("00", "", true),
        ("00", "-", false),
        ("00", "-what", false),
        ("00", ".", false),
        ("00", "0", false),
        ("01", "", true),
        ("01", "-", true),
        ("01", "-00", true),
        ("01", ".what", false),
        ("01", "00", false),
        ("cc", "", true),
        ("cc", "-what-the-future-will-be-like", true),
        ("cc", ".what", false),
        ("fe", "-x", true),
        ("ff", "", false),
        ("ff", "-x", false),
        ("0", "", false),
        ("000", "", false),
        ("", "", false),
        (".0", "", false),
        ("0.", "", false),
        ("0x", "", false),
        ("0A", "", false),
        ("CC", "", false),
        ("Fe", "", false),
        ("-0", "", false),
    ] {
        let value = format!("{version}-{plain}{tail}");
        assert_eq!(flags(&value), valid.then_some(1), "{value}");
    }
    assert_eq!(flags(&plain), None, "no version");
}

#[test]
fn trace_ids_and_parent_ids() {
    let zero_trace = "0".repeat(32);
    for trace in [
        zero_trace.as_str(),
        "",
        &TRACE[1..],
        "4bf92f3577b34da6a3ce929d0e0e47360",
        "4BF92F3577B34DA6A3CE929D0E0E4736",
        "4bf92f3577b34da6a3ce929d0e0e473G",
        ".bf92f3577b34da6a3ce929d0e0e4736",
        "4bf92f3577b34da6a3ce929d0e0e47 6",
        "4bf92f3577b34da6-3ce929d0e0e4736",
    ] {
        let value = format!("00-{trace}-{PARENT}-01");
        assert_eq!(traceparent(value.as_bytes()), None, "{value}");
    }
    for parent in [
        "0000000000000000",
        "",
        &PARENT[1..],
        "00f067aa0ba902b70",
        "00F067AA0BA902B7",
        "00f067aa0ba902bx",
        ".0f067aa0ba902b7",
        "00f067aa 0ba902b",
    ] {
        let value = format!("00-{TRACE}-{parent}-01");
        assert_eq!(traceparent(value.as_bytes()), None, "{value}");
    }
}

#[test]
fn every_flags_byte() {
    for byte in 0..=u8::MAX {
        assert_eq!(flags(&format!("00-{TRACE}-{PARENT}-{byte:02x}")), Some(byte & 3));
        assert_eq!(flags(&format!("07-{TRACE}-{PARENT}-{byte:02x}-more")), Some(byte & 3));
        let upper = format!("{byte:02X}");
        let lower = upper.chars().all(|digit| digit.is_ascii_digit());
        assert_eq!(flags(&format!("00-{TRACE}-{PARENT}-{upper}")).is_some(), lower);
    }
    for bad in ["", "0", "001", ".0", "0.", "xx", " 1", "0 "] {
        assert_eq!(flags(&format!("00-{TRACE}-{PARENT}-{bad}")), None, "{bad:?}");
    }
}

#[test]
fn separators_and_white_space() {
    for value in [
        format!(" 00-{TRACE}-{PARENT}-01"),
        format!("00-{TRACE}-{PARENT}-01 "),
        format!("\t 00-{TRACE}-{PARENT}-01 \t "),
    ] {
        assert_eq!(flags(&value), Some(1), "{value:?}");
    }
    for value in [
        format!("00 -{TRACE}-{PARENT}-01"),
        format!("00- {TRACE}-{PARENT}-01"),
        format!("00-{TRACE}-{PARENT}- 1"),
        format!("00-{TRACE} {PARENT}-01"),
        format!("00_{TRACE}_{PARENT}_01"),
        format!("00-{TRACE}-{PARENT}-01\n"),
        format!("00-{TRACE}-{PARENT}-01\0"),
        format!("\u{a0}00-{TRACE}-{PARENT}-01"),
        format!("00-{TRACE}-{PARENT}"),
        format!("00-{TRACE}-{PARENT}-"),
        format!("00-{TRACE}"),
        "00".to_owned(),
        "-".to_owned(),
        "---".to_owned(),
        String::new(),
        " ".to_owned(),
        "garbage".to_owned(),
    ] {
        assert_eq!(flags(&value), None, "{value:?}");
    }
}

/// Any one byte of a version 00 value that is changed makes it invalid or another value, never the same.
#[test]
fn every_position_matters() {
    let good = format!("00-{TRACE}-{PARENT}-00").into_bytes();
    let read = traceparent(&good);
    for position in 0..good.len() {
        for byte in 0..=u8::MAX {
            let mut value = good.clone();
            value[position] = byte;
            let digit = byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte);
            let dash = matches!(position, 2 | 35 | 52);
            let expect = if dash { byte == b'-' } else { digit };
            assert_eq!(traceparent(&value).is_some(), expect, "{byte:#x} at {position}");
            let same = byte == good[position];
            // Of the version and the flags only what is defined is kept.
            let low_bits = char::from(byte).to_digit(16).map_or(0, |digit| digit & 3);
            let told = !matches!(position, 0 | 1 | 53) && !(position == 54 && low_bits == 0);
            assert!(same || !expect || !told || traceparent(&value) != read, "{byte:#x} at {position}");
        }
    }
}

#[test]
fn headers_that_come_more_than_once() {
    let one = format!("00-{TRACE}-{PARENT}-01");
    let other = format!("00-{TRACE}-{PARENT}-00");
    let with = |traceparent: &[&str]| {
        parse(&TraceHeaders {
            traceparent: values(traceparent),
            tracestate: values(&["a=1"]),
            baggage: Vec::new(),
        })
    };
    assert_eq!(with(&[]), None);
    assert_eq!(with(&[&one]).map(|context| context.trace_state), Some("a=1".into()));
    assert_eq!(with(&[&one, &one]), None, "equal ones are malformed too");
    assert_eq!(with(&[&one, &other]), None);
    assert_eq!(with(&["", &one]), None);
    assert_eq!(with(&[&format!("{one},{one}")]), None);
    assert_eq!(with(&[&format!("cc-{TRACE}-{PARENT}-01,cc-{TRACE}-{PARENT}-01")]), None);
    assert_eq!(with(&["bad"]), None, "an invalid traceparent takes the tracestate with it");
}

#[test]
fn trace_states() {
    let key256 = "k".repeat(256);
    let key257 = "k".repeat(257);
    let value256 = "v".repeat(256);
    let value257 = "v".repeat(257);
    let check = |given: &[&str], expect: &str| {
        assert_eq!(&*tracestate(&values(given)), expect, "{given:?}");
    };
    check(&[], "");
    check(&[""], "");
    check(&["foo=1"], "foo=1");
    check(&["foo=1,bar=2"], "foo=1,bar=2");
    check(&["foo=1", "bar=2"], "foo=1,bar=2");
    check(&["foo=1 \t , \t bar=2, \t baz=3"], "foo=1,bar=2,baz=3");
    check(&["foo=1", ""], "foo=1");
    check(&["", "foo=1", " ,,\t", "bar=2"], "foo=1,bar=2");
    check(&["foo=1,"], "foo=1");
    check(&["rojo=00f067aa0ba902b7,congo=t61rcWkgMzE"], "rojo=00f067aa0ba902b7,congo=t61rcWkgMzE");
    // Keys.
    check(&["fw529a3039@dt=FfAbCdEf"], "fw529a3039@dt=FfAbCdEf");
    check(&["0a=1"], "0a=1");
    check(&["a_-*/b=1"], "a_-*/b=1");
    check(&["foo@=1"], "foo@=1");
    for bad in [
        "foo =1",
        "FOO=1",
        "fOo=1",
        "foo.bar=1",
        "foo bar=1",
        "_a=1",
        "@foo=1",
        "-a=1",
        "=1",
        "foo",
        "é=1",
        "a\tb=1",
    ] {
        check(&[bad], "");
        check(&["ok=1", bad], "");
        check(&[&format!("{bad},ok=1")], "");
    }
    // Values.
    check(&["foo=bar !\"#$%&'()*+-./:;<>?@[\\]^_`{|}~"], "foo=bar !\"#$%&'()*+-./:;<>?@[\\]^_`{|}~");
    check(&["foo= 1"], "foo= 1");
    for bad in ["foo=", "foo=bar=baz", "foo=\u{e9}", "foo=a\tb", "foo=a\u{7f}", "foo=a\0"] {
        check(&[bad], "");
    }
    // Sizes.
    check(&[&format!("{key256}=1")], &format!("{key256}=1"));
    check(&[&format!("{key257}=1")], "");
    check(&[&format!("a={value256}")], &format!("a={value256}"));
    check(&[&format!("a={value257}")], "");
    // Repeated keys.
    check(&["foo=1,foo=1"], "");
    check(&["foo=1", "foo=2"], "");
    check(&["foo=1,foob=2"], "foo=1,foob=2");
    assert_eq!(&*tracestate(&[Box::from(*b"a=\xff")]), "");
}

#[test]
fn trace_states_at_their_bounds() {
    let members =
        |count: usize| (0..count).map(|index| format!("k{index:02}=1")).collect::<Vec<_>>().join(",");
    assert_eq!(&*tracestate(&values(&[&members(32)])), members(32));
    assert_eq!(&*tracestate(&values(&[&members(33)])), "");
    let (half, rest) = (members(16), "a=1,b=2,c=3,d=4,e=5,f=6,g=7,h=8,i=9,j=1,k=1,l=1,m=1,n=1,o=1,p=1");
    assert_eq!(tracestate(&values(&[&half, rest])).split(',').count(), 32);
    assert_eq!(&*tracestate(&values(&[&half, rest, "q=1"])), "");

    let long = format!("long={}", "v".repeat(200));
    let short = |name: &str| format!("{name}={}", "v".repeat(100));
    let (a, b, c, d) = (short("a"), short("b"), short("c"), short("d"));
    let (e, tail) = (short("e"), short("t"));
    let fits = [a.as_str(), &b, &c, &d].join(",");
    assert!(fits.len() <= STATE_CHARS);
    // The long member goes first, then the last ones.
    assert_eq!(&*tracestate(&values(&[&a, &long, &b, &c, &d])), fits);
    assert_eq!(&*tracestate(&values(&[&a, &b, &c, &d, &e, &tail])), fits);
    let exact = format!("{fits},t={}", "v".repeat(STATE_CHARS - fits.len() - 3));
    assert_eq!(exact.len(), STATE_CHARS);
    assert_eq!(&*tracestate(&values(&[&exact])), exact);
    assert_eq!(&*tracestate(&values(&[&format!("{exact}v")])), fits);
}

#[test]
fn baggage_is_kept_within_its_bounds() {
    let with = |given: &[&str]| {
        let kept = baggage(&TraceHeaders { baggage: values(given), ..TraceHeaders::default() });
        kept.into_string()
    };
    assert_eq!(with(&[]), "");
    assert_eq!(with(&["userId=alice,serverNode=DF%2028;p=1"]), "userId=alice,serverNode=DF%2028;p=1");
    assert_eq!(with(&["a=1", " b=2 , ,c=3"]), "a=1,b=2,c=3");
    assert_eq!(with(&["a=1,b=\u{e9},c=3"]), "a=1,c=3");
    let many = (0..100).map(|index| format!("k{index}=v")).collect::<Vec<_>>().join(",");
    assert_eq!(with(&[&many]).split(',').count(), BAGGAGE_MEMBERS);
    let large = format!("a={}", "v".repeat(5000));
    assert_eq!(with(&[&large, &large]), large);
    assert!(with(&[&"v".repeat(BAGGAGE_BYTES + 1)]).is_empty());
}

proptest! {
    #[test]
    fn what_is_written_is_read(trace in any::<u128>(), parent in any::<u64>(), flags in any::<u8>()) {
        let value = format!("00-{trace:032x}-{parent:016x}-{flags:02x}");
        let read = traceparent(value.as_bytes());
        let valid = trace != 0 && parent != 0;
        let expect = (TraceId(trace.to_be_bytes()), SpanId(parent.to_be_bytes()), flags & 3);
        assert_eq!(read, valid.then_some(expect));
    }

    #[test]
    fn any_bytes_are_judged(
        parent in prop::collection::vec(any::<u8>(), 0..80),
        state in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..600), 0..4),
    ) {
        let states: Vec<Box<[u8]>> = state.into_iter().map(Vec::into_boxed_slice).collect();
        let headers = TraceHeaders {
            traceparent: vec![parent.into_boxed_slice()],
            tracestate: states.clone(),
            baggage: states.clone(),
        };
        assert!(parse(&headers).is_none_or(|context| context.flags <= 3));
        assert!(tracestate(&states).len() <= STATE_CHARS);
        assert!(baggage(&headers).len() <= BAGGAGE_BYTES);
    }

    #[test]
    fn a_kept_state_is_kept_again(state in "([a-c0-1]{1,3}=[ -~]{0,40},?){0,12}") {
        let once = tracestate(&values(&[&state]));
        assert_eq!(tracestate(&values(&[&once])), once);
    }
}
