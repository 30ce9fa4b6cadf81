//! Tracepoints as perf events. Their programs are given records, which tracefs describes.

use std::fs;
use std::path::Path;

use super::types::Tracepoint;

/// Members of a record that the programs read, as (name, offset, bytes).
type Members = &'static [(&'static str, usize, usize)];

const LENGTH: Members = &[("sk", 8, 8), ("ret", 20, 4), ("flags", 24, 4)];

/// The records that `ebpf/src/perf.rs` reads.
const RECORDS: [(Tracepoint, Members); 4] = [
    (Tracepoint::SysExit, &[("id", 8, 8), ("ret", 16, 8)]),
    (Tracepoint::SockSendLength, LENGTH),
    (Tracepoint::SockRecvLength, LENGTH),
    (Tracepoint::InetSockSetState, &[("skaddr", 8, 8), ("oldstate", 16, 4), ("newstate", 20, 4)]),
];

/// Whether the records are what the programs take them for, else why not. `sys` is `/sys`.
pub(super) fn check(sys: &Path) -> Result<(), String> {
    let places = ["kernel/tracing", "kernel/debug/tracing"].map(|place| sys.join(place).join("events"));
    for (tracepoint, members) in RECORDS {
        let event = Path::new(tracepoint.category()).join(tracepoint.name()).join("format");
        let first = fs::read_to_string(places[0].join(&event));
        let format = first.or_else(|why| fs::read_to_string(places[1].join(&event)).map_err(|_| why));
        let format = format.map_err(|why| format!("{}: {why}", places[0].join(&event).display()))?;
        if let Some((name, ..)) = members.iter().find(|member| !has(&format, **member)) {
            return Err(format!("the record of {} has its {name} elsewhere", tracepoint.name()));
        }
    }
    Ok(())
}

/// Whether a description has a member where it should be. Its lines read `field:int ret; offset:20; size:4; signed:1;`, with tabs.
fn has(format: &str, (name, offset, bytes): (&str, usize, usize)) -> bool {
    format.lines().any(|line| {
        let mut parts = line.trim().split(';').map(str::trim);
        parts.next().and_then(|part| part.strip_prefix("field:")?.split(' ').next_back()) == Some(name)
            && parts.next() == Some(&format!("offset:{offset}"))
            && parts.next() == Some(&format!("size:{bytes}"))
    })
}

#[cfg(test)]
mod tests {
    use super::{LENGTH, has};

    #[test]
    fn members_are_found_where_they_are() {
        let format = "name: sock_send_length\nID: 1547\nformat:\n\tfield:int common_pid;\toffset:4;\tsize:4;\tsigned:1;\n\n\
                      \tfield:void * sk;\toffset:8;\tsize:8;\tsigned:0;\n\tfield:int ret;\toffset:20;\tsize:4;\tsigned:1;\n\
                      \tfield:int flags;\toffset:24;\tsize:4;\tsigned:1;\n\nprint fmt: \"sk address = %p\", REC->sk\n";
        assert!(LENGTH.iter().all(|member| has(format, *member)));
        assert!(has(format, ("common_pid", 4, 4)));
        for wrong in [("sk", 16, 8), ("sk", 8, 4), ("pid", 4, 4), ("ret;", 20, 4), ("", 8, 8)] {
            assert!(!has(format, wrong), "{wrong:?}");
        }
    }
}
