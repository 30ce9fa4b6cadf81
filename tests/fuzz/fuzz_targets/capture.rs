//! Captures from anywhere: files with whatever in them, and segments of a few connections in any order with any numbers.
//! The whole way to spans must end without a panic, keep no more than its bounds, and tell each exchange from both ends.
//!
//! The first byte chooses: even, and a capture file follows; odd, and steps do: which end sends, how far its numbers are off,
//! control bits, time, and how many bytes of payload follow.
#![no_main]

use std::sync::Arc;

use libfuzzer_sys::fuzz_target;
use sonde::capture::{Ending, Endpoint, Flags, Flows, Limits, Packets, Perspective, Tap, TcpSegment};
use sonde::export::Item;
use sonde::pipeline::Pipeline;
use sonde::span::SpanKind;
use sonde::telemetry::{Counters, Lost};

/// Bounds that an input of libFuzzer's size can reach.
const LIMITS: Limits = Limits {
    connections: 4,
    pieces: 16,
    bytes: 4096,
    patience: 1 << 32,
    held: 8192,
    over: 1 << 34,
    silent: 1 << 36,
};

/// What may wait beyond the bound: what came last, on each connection.
const SLACK: usize = 5 * 4096;

fuzz_target!(|input: &[u8]| {
    let Some((&choice, rest)) = input.split_first() else { return };
    let counters = Arc::new(Counters::default());
    let mut pipeline = Pipeline::of_capture(Perspective::Both, 1, Arc::clone(&counters));
    if choice & 1 == 0 {
        file(rest, &mut pipeline, &counters);
    } else {
        segments(rest, &mut pipeline, &counters);
    }
    pipeline.finish();
    check(&pipeline.take_spans());
    assert_eq!(counters.lost(Lost::ParserPanic), 0);
});

fn file(bytes: &[u8], pipeline: &mut Pipeline, counters: &Arc<Counters>) {
    let Ok(mut packets) = Packets::new(bytes) else { return };
    let mut tap = Tap::new(LIMITS, Arc::clone(counters));
    loop {
        match packets.packet() {
            Ok(Some(packet)) => {
                assert!(packet.bytes.len() <= bytes.len() && packet.length as usize >= packet.bytes.len());
                tap.packet(&packet, |record| pipeline.captured(record));
                tap.tick(|record| pipeline.captured(record));
                pipeline.tick(tap.latest());
                assert!(tap.held() <= LIMITS.held + SLACK + packet.bytes.len());
            }
            Ok(None) => break,
            Err(_) => {
                assert!(matches!(packets.packet(), Ok(None)));
                break;
            }
        }
    }
    assert_ne!(packets.ending(), Ending::Open);
    tap.finish(|record| pipeline.captured(record));
    assert_eq!(tap.held(), 0);
}

fn segments(mut input: &[u8], pipeline: &mut Pipeline, counters: &Arc<Counters>) {
    let mut flows = Flows::new(LIMITS, Arc::clone(counters));
    let mut byte = || {
        let (&byte, rest) = input.split_first()?;
        input = rest;
        Some((byte, rest))
    };
    // Next sequence numbers of both ends, near where they wrap around.
    let mut seqs = [[u32::MAX - 40, 7]; 8];
    let mut time = 1_000_000_000;
    while let (Some((who, _)), Some((control, _)), Some((shift, _)), Some((length, rest))) =
        (byte(), byte(), byte(), byte())
    {
        let (connection, end) = (usize::from(who >> 1 & 7), usize::from(who & 1));
        let payload = rest.get(..rest.len().min(usize::from(length))).unwrap_or_default();
        for _ in payload {
            byte();
        }
        time += 1 << (who >> 4) << (who >> 4);
        let ends = [(1, 4000 + connection as u16), (2, 80)];
        let [from, to] =
            [ends[end], ends[1 - end]].map(|(host, port)| Endpoint { ip: [10, 0, 0, host].into(), port });
        let seq = &mut seqs[connection][end];
        // Mostly what comes next; else a little before or behind it, or far away.
        let off = i32::from(shift.cast_signed()) << if control & 0x20 == 0 { 0 } else { 24 };
        let at = if control & 0x10 == 0 { *seq } else { seq.wrapping_add_signed(off) };
        let flags = Flags { fin: control & 1 != 0, syn: control & 2 != 0, rst: control & 4 != 0 };
        let missing = if control & 0x40 == 0 { 0 } else { u32::from(shift) << (control & 15) };
        let length = payload.len() as u32 + missing;
        *seq = at.wrapping_add(length).wrapping_add(u32::from(flags.syn)).wrapping_add(u32::from(flags.fin));
        let ack = (control & 8 == 0).then_some(seqs[connection][1 - end]);
        let stamp = (control & 0x80 != 0).then_some(9);
        let segment = TcpSegment { time, from, to, seq: at, ack, flags, stamp, bytes: payload, length };
        flows.segment(&segment, |record| pipeline.captured(record));
        flows.tick(time, |record| pipeline.captured(record));
        pipeline.tick(time);
        assert!(flows.held() <= LIMITS.held + SLACK);
        assert_eq!(counters.lost(Lost::ParserPanic), 0);
    }
    flows.finish(|record| pipeline.captured(record));
    assert_eq!(flows.held(), 0);
}

/// Each exchange that ended is told by both ends, of which the second hangs under the first.
fn check(spans: &[Item]) {
    let of = |kind| spans.iter().map(|(_, span)| span).filter(move |span| span.kind == kind);
    let (clients, servers) = (of(SpanKind::Client).count(), of(SpanKind::Server).count());
    assert_eq!(clients, servers);
    assert!(spans.iter().all(|(_, span)| span.start <= span.end));
    assert!(of(SpanKind::Server).all(|span| span.parent.is_some()));
}
