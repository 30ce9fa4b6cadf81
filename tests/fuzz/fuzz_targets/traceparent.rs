//! Any bytes as the context headers of a request: judged without a panic, within the bounds, and what is accepted is
//! accepted again when it is written out. Lines are values; a first byte `s` or `b` makes one a `tracestate` or `baggage`.
#![no_main]

use libfuzzer_sys::fuzz_target;
use sonde::proto::TraceHeaders;
use sonde::span::context::{BAGGAGE_BYTES, STATE_CHARS, baggage, parse, tracestate};

fuzz_target!(|bytes: &[u8]| {
    let mut headers = TraceHeaders::default();
    for line in bytes.split(|&byte| byte == b'\n') {
        match line {
            [b's', value @ ..] => headers.tracestate.push(value.into()),
            [b'b', value @ ..] => headers.baggage.push(value.into()),
            value => headers.traceparent.push(value.into()),
        }
    }
    assert!(baggage(&headers).len() <= BAGGAGE_BYTES);
    let state = tracestate(&headers.tracestate);
    assert!(state.len() <= STATE_CHARS);
    assert_eq!(tracestate(&[state.as_bytes().into()]), state);
    let Some(context) = parse(&headers) else { return };
    let (trace, parent) = (u128::from_be_bytes(context.trace_id.0), u64::from_be_bytes(context.parent_id.0));
    assert!(trace != 0 && parent != 0 && context.flags <= 3);
    let written = format!("00-{trace:032x}-{parent:016x}-{:02x}", context.flags);
    headers.traceparent = vec![written.into_bytes().into()];
    assert_eq!(parse(&headers), Some(context));
});
