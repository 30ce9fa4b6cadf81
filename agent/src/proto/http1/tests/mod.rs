//! HTTP/1 from records to exchanges.

mod properties;
pub(in crate::proto) mod transcript;

use std::fmt::Write as _;
use std::path::Path;

use self::transcript::check;

/// Every case of every file beside this one. A case is a line `## title`, a transcript, and the lines beginning with `= `
/// that must come of it. `BLESS=1` writes those anew; read the difference before you keep it.
#[test]
fn transcripts() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/proto/http1/tests/transcripts");
    let mut files: Vec<_> = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    let mut wrong = String::new();
    let mut cases = 0;
    for file in files {
        let before = std::fs::read_to_string(&file).unwrap();
        let mut after = String::new();
        for case in
            before.split_inclusive('\n').collect::<Vec<_>>().chunk_by(|_, next| !next.starts_with("## "))
        {
            let text: String = case.iter().filter(|line| !line.starts_with("= ")).copied().collect();
            let body = text.trim_end();
            writeln!(after, "{body}").unwrap();
            if body.starts_with("## ") {
                cases += 1;
                let transcript = body.split_once('\n').unwrap().1;
                for line in check(transcript).lines() {
                    writeln!(after, "= {line}").unwrap();
                }
            }
            after.push('\n');
        }
        let after = after.trim_end().to_owned() + "\n";
        if after != before {
            if std::env::var_os("BLESS").is_some() {
                std::fs::write(&file, &after).unwrap();
            }
            writeln!(wrong, "{}:", file.display()).unwrap();
            for (old, new) in before.lines().zip(after.lines()).filter(|(old, new)| old != new).take(10) {
                writeln!(wrong, "- {old}\n+ {new}").unwrap();
            }
        }
    }
    assert!(cases > 70, "only {cases} cases found");
    assert!(wrong.is_empty(), "{wrong}");
}
