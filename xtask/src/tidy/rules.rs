//! Rules for source files: one table of words that have their places, and the few that are no words.

use super::Findings;
use super::code::{code, has_word};

/// The most lines a source file has, its tests not counted.
const LONGEST: usize = 800;

/// Words that may not stand in the code of some files.
struct Banned {
    words: &'static [&'static str],
    /// Whether a path (relative to the root, with `/`) falls under the ban.
    applies: fn(&str) -> bool,
    /// Whether test code does too.
    in_tests: bool,
    why: &'static str,
}

const BANNED: &[Banned] = &[
    Banned {
        words: &["unsafe"],
        // An allocator that counts cannot do without; it is in no program that ships.
        applies: |path| {
            !under(path, &["ebpf/", "abi/", "agent/src/probe/"])
                && !matches!(path, "agent/src/probe.rs" | "tests/bench/src/allocations.rs")
        },
        in_tests: true,
        why: "`unsafe` lives in ebpf, abi and agent/src/probe alone (invariant 8)",
    },
    Banned {
        words: &["aya", "aya_obj", "aya_log"],
        applies: |path| !under(path, &["ebpf/", "agent/src/probe/"]) && path != "agent/src/probe.rs",
        in_tests: true,
        why: "only agent/src/probe names aya",
    },
    Banned {
        words: &[
            "SystemTime",
            "Instant",
            "tokio",
            "TcpStream",
            "TcpListener",
            "UdpSocket",
            "UnixStream",
            "fs",
            "tracing",
        ],
        applies: |path| {
            under(path, &["agent/src/conn/", "agent/src/proto/", "agent/src/span/", "agent/src/metrics/"])
        },
        in_tests: false,
        why: "conn, proto, span and metrics are a functional core: no clock, no I/O, no log (invariant 6)",
    },
    Banned {
        words: &["#[allow", "#![allow"],
        applies: |_| true,
        in_tests: true,
        why: "a silenced lint is `#[expect(.., reason = \"..\")]`, which tells when it is no longer needed",
    },
    Banned { words: &["todo!", "unimplemented!"], applies: |_| true, in_tests: true, why: "no stubs" },
];

/// Checks one source file.
pub(super) fn source(path: &str, text: &str, findings: &mut Findings) {
    if !text.trim_start().starts_with("//!") {
        findings.push(format!("{path}:1: starts without a module doc (`//!`): what it is, and what not"));
    }
    let code = code(text);
    let tests_begin = if is_test_file(path) { 0 } else { tests_begin(&code) };
    if !is_test_file(path) && tests_begin > LONGEST {
        findings.push(format!(
            "{path}: {tests_begin} lines without its tests, at most {LONGEST}: split it by concept"
        ));
    }
    for ban in BANNED.iter().filter(|ban| (ban.applies)(path)) {
        for (index, line) in code.lines().enumerate() {
            if !ban.in_tests && index >= tests_begin {
                break;
            }
            if let Some(word) = ban.words.iter().find(|word| stands_in(line, word)) {
                findings.push(format!("{path}:{}: `{word}`: {}", index + 1, ban.why));
            }
        }
    }
}

/// Checks a file's name, whatever it holds.
pub(super) fn file_name(path: &str, findings: &mut Findings) {
    let name = path.rsplit('/').next().unwrap_or(path).to_lowercase();
    for word in ["manager", "helper", "util"] {
        if name.contains(word) {
            findings.push(format!("{path}: `{word}` in a file's name: name what it holds"));
        }
    }
}

/// Lines before the test module at the end of a file; all lines where it has none.
fn tests_begin(code: &str) -> usize {
    let lines: Vec<&str> = code.lines().collect();
    let begins = lines.windows(2).position(|pair| {
        matches!(pair, [first, second] if first.starts_with("#[cfg(test)]") && second.contains("mod ") && second.ends_with('{'))
    });
    begins.unwrap_or(lines.len())
}

fn is_test_file(path: &str) -> bool {
    path.ends_with("/tests.rs") || path.contains("/tests/") || path.starts_with("tests/")
}

fn under(path: &str, folders: &[&str]) -> bool {
    folders.iter().any(|folder| path.starts_with(folder))
}

fn stands_in(line: &str, word: &str) -> bool {
    if word.starts_with(char::is_alphabetic) && word.ends_with(char::is_alphanumeric) {
        has_word(line, word)
    } else {
        line.contains(word)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(path: &str, text: &str) -> Findings {
        let mut findings = Findings::new();
        source(path, text, &mut findings);
        file_name(path, &mut findings);
        findings
    }

    #[test]
    fn each_bad_sample_is_found() {
        let long = format!("//! Doc.\n{}", "fn f() {}\n".repeat(801));
        for (path, text, expected) in [
            ("agent/src/cli.rs", "//! Doc.\nfn f() { unsafe { g() } }", "agent/src/cli.rs:2: `unsafe`"),
            ("agent/src/pipeline.rs", "//! Doc.\nuse aya::Ebpf;", "pipeline.rs:2: `aya`"),
            ("agent/src/conn/mod.rs", "//! Doc.\nuse std::time::Instant;", "mod.rs:2: `Instant`"),
            ("agent/src/span/mod.rs", "//! Doc.\nuse std::time::{Duration, SystemTime};", "`SystemTime`"),
            ("agent/src/proto/mod.rs", "//! Doc.\nasync fn f() { tokio::spawn(g()) }", "`tokio`"),
            ("agent/src/proto/mod.rs", "//! Doc.\nuse std::net::TcpStream;", "`TcpStream`"),
            ("agent/src/metrics/mod.rs", "//! Doc.\nuse std::{fs, io};", "`fs`"),
            ("agent/src/span/mod.rs", "//! Doc.\nfn f() { tracing::info!(1) }", "`tracing`"),
            ("xtask/src/a.rs", "//! Doc.\n#[allow(dead_code)]\nfn f() {}", "a.rs:2: `#[allow`"),
            ("abi/src/a.rs", "//! Doc.\n#![allow(dead_code)]", "`#![allow`"),
            ("abi/src/a.rs", "//! Doc.\nfn f() { todo!() }", "`todo!`"),
            ("abi/src/a.rs", "//! Doc.\nfn f() { unimplemented!(\"x\") }", "`unimplemented!`"),
            ("abi/src/a.rs", "fn f() {}", "a.rs:1: starts without a module doc"),
            ("agent/src/long.rs", &long, "802 lines"),
            ("agent/src/string_utils.rs", "//! Doc.", "`util` in a file's name"),
            ("deploy/Helper.sh", "//! Doc.", "`helper` in a file's name"),
        ] {
            let findings = found(path, text);
            assert!(findings.len() == 1 && findings[0].contains(expected), "{path}: {findings:?}");
        }
    }

    #[test]
    fn good_samples_pass() {
        let tests_at_end = format!(
            "//! Doc.\nfn f() {{}}\n#[cfg(test)]\nmod tests {{\nuse std::fs;\n{}}}",
            "\n".repeat(900)
        );
        for (path, text) in [
            ("abi/src/a.rs", "//! Doc.\nunsafe impl Send for A {}"),
            ("agent/src/probe/load.rs", "//! Doc.\nuse aya::Ebpf;"),
            (
                "agent/src/cli.rs",
                "//! No `unsafe` here, and todo!() is a word.\nconst A: &str = \"unsafe #[allow(x)]\";",
            ),
            ("agent/src/conn/mod.rs", &tests_at_end),
            ("agent/src/conn/tests.rs", "//! Doc.\nuse std::fs;"),
            ("agent/src/export/mod.rs", "//! Doc.\nuse std::time::Instant;"),
        ] {
            assert_eq!(found(path, text), Findings::new(), "{path}");
        }
    }
}
