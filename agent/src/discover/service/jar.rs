//! What a jar says of itself: its manifest (JAR File Specification, "Main Attributes"), found as in any zip file (APPNOTE.TXT,
//! sections 4.3.7, 4.3.12 and 4.3.16). Every read is bounded; what does not fit is no jar.

use std::fs::File;
use std::io::Read;
use std::os::unix::fs::FileExt;

use flate2::read::DeflateDecoder;

/// The end of the central directory, with the longest comment that it may have.
const END_BYTES: u64 = 22 + 0xFFFF;
/// Bytes of the central directory: jars with everything inside have tens of thousands of entries, the manifest first.
const DIRECTORY_BYTES: u64 = 1 << 20;
/// Bytes of the manifest, packed and unpacked.
const MANIFEST_BYTES: u64 = 64 << 10;

const MANIFEST: &[u8] = b"META-INF/MANIFEST.MF";

/// The main attributes that matter here.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Manifest {
    /// `Implementation-Title`.
    pub title: Option<String>,
    /// `Implementation-Version`.
    pub version: Option<String>,
}

/// Reads the manifest of a jar; `None` where there is none.
pub(super) fn manifest(file: &File) -> Option<Manifest> {
    let entry = entry(file)?;
    let local = read_at(file, entry.at, 30)?;
    if !local.starts_with(b"PK\x03\x04") {
        return None;
    }
    let skipped = 30 + u64::from(half(&local, 26)?) + u64::from(half(&local, 28)?);
    let packed = read_at(file, entry.at.checked_add(skipped)?, u64::from(entry.packed).min(MANIFEST_BYTES))?;
    let mut bytes = Vec::new();
    match entry.method {
        0 => bytes = packed,
        // What is cut off or broken leaves what stands before it.
        8 => drop(DeflateDecoder::new(packed.as_slice()).take(MANIFEST_BYTES).read_to_end(&mut bytes)),
        _ => return None,
    }
    Some(parse(&String::from_utf8_lossy(&bytes)))
}

struct Entry {
    at: u64,
    packed: u32,
    method: u16,
}

/// The manifest's entry in the central directory.
fn entry(file: &File) -> Option<Entry> {
    let length = file.metadata().ok()?.len();
    let tail_at = length.saturating_sub(END_BYTES);
    let tail = read_at(file, tail_at, length - tail_at)?;
    let end = memchr::memmem::rfind(&tail, b"PK\x05\x06")?;
    let record = tail.get(end..)?;
    let (size, at) = (u64::from(word(record, 12)?), u64::from(word(record, 16)?));
    // A program that unpacks or starts the rest may stand before it, which the offsets do not count.
    let before = (tail_at + end as u64).checked_sub(size)?.checked_sub(at)?;
    let directory = read_at(file, before + at, size.min(DIRECTORY_BYTES))?;
    let mut rest = directory.as_slice();
    while rest.starts_with(b"PK\x01\x02") {
        let name_length = usize::from(half(rest, 28)?);
        if rest.get(46..46 + name_length)?.eq_ignore_ascii_case(MANIFEST) {
            let at = before + u64::from(word(rest, 42)?);
            return Some(Entry { at, packed: word(rest, 20)?, method: half(rest, 10)? });
        }
        let others = usize::from(half(rest, 30)?) + usize::from(half(rest, 32)?);
        rest = rest.get(46 + name_length + others..)?;
    }
    None
}

/// `Name: value` up to the first empty line; a line that begins with a blank goes on with the one before.
fn parse(text: &str) -> Manifest {
    let mut lines: Vec<String> = Vec::new();
    for line in text.lines() {
        match (line.strip_prefix(' '), lines.last_mut()) {
            (Some(rest), Some(last)) => last.push_str(rest),
            _ if line.trim_end().is_empty() => break,
            _ => lines.push(line.to_owned()),
        }
    }
    let value = |name: &str| {
        let of = |line: &String| {
            let (found, value) = line.split_once(':')?;
            let value = value.trim();
            (found.eq_ignore_ascii_case(name) && !value.is_empty()).then(|| value.to_owned())
        };
        lines.iter().find_map(of)
    };
    Manifest { title: value("Implementation-Title"), version: value("Implementation-Version") }
}

fn half(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_le_bytes(*bytes.get(at..)?.first_chunk()?))
}

fn word(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_le_bytes(*bytes.get(at..)?.first_chunk()?))
}

/// Reads exactly `size` bytes, which the callers bound.
fn read_at(file: &File, at: u64, size: u64) -> Option<Vec<u8>> {
    let mut bytes = vec![0; usize::try_from(size).ok()?];
    file.read_exact_at(&mut bytes, at).ok()?;
    Some(bytes)
}

#[cfg(test)]
pub(super) mod tests {
    use std::io::Write;

    use flate2::Compression;
    use flate2::write::DeflateEncoder;
    use proptest::prelude::*;

    use super::*;

    /// A zip file with these entries, packed or not, behind other bytes.
    pub(in crate::discover::service) fn zip(before: &[u8], pack: bool, entries: &[(&str, &str)]) -> Vec<u8> {
        let mut file = before.to_vec();
        let mut directory = Vec::new();
        let numbers = |bytes: &mut Vec<u8>, halves: &[u16], words: &[u32]| {
            halves.iter().for_each(|half| bytes.extend(half.to_le_bytes()));
            words.iter().for_each(|word| bytes.extend(word.to_le_bytes()));
        };
        for (name, content) in entries {
            let mut packed = content.as_bytes().to_vec();
            if pack {
                let mut encoder = DeflateEncoder::new(Vec::new(), Compression::default());
                encoder.write_all(content.as_bytes()).unwrap();
                packed = encoder.finish().unwrap();
            }
            let at = (file.len() - before.len()) as u32;
            let method = if pack { 8 } else { 0 };
            file.extend(b"PK\x03\x04");
            // As jar(1) does, sizes stand behind the content.
            numbers(&mut file, &[20, 8, method, 0, 0], &[0, 0, 0]);
            numbers(&mut file, &[name.len() as u16, 4], &[]);
            file.extend(name.bytes().chain([0xFE, 0xCA, 0, 0]));
            file.extend(&packed);
            directory.extend(b"PK\x01\x02");
            numbers(
                &mut directory,
                &[20, 20, 8, method, 0, 0],
                &[0, packed.len() as u32, content.len() as u32],
            );
            numbers(&mut directory, &[name.len() as u16, 0, 0, 0, 0], &[0, at]);
            directory.extend(name.bytes());
        }
        let at = (file.len() - before.len()) as u32;
        file.extend(&directory);
        file.extend(b"PK\x05\x06");
        let count = entries.len() as u16;
        numbers(&mut file, &[0, 0, count, count], &[directory.len() as u32, at]);
        numbers(&mut file, &[0], &[]);
        file
    }

    fn read(bytes: &[u8]) -> Option<Manifest> {
        let directory = crate::discover::tree::Tree::new();
        let path = directory.root().join("a.jar");
        File::create(&path).unwrap().write_all(bytes).unwrap();
        manifest(&File::open(&path).unwrap())
    }

    const TEXT: &str = "Manifest-Version: 1.0\r\nimplementation-title: ord\r\n ers\r\nImplementation-Version: 2.1.0-rc1\r\n\r\n\
                        Name: org/other/\r\nImplementation-Version: 9\r\n";

    #[test]
    fn manifests_of_jars() {
        let expect = Manifest { title: Some("orders".into()), version: Some("2.1.0-rc1".into()) };
        for pack in [true, false] {
            for before in [&b""[..], b"#!/bin/sh\nexec java -jar $0\n"] {
                let jar = zip(before, pack, &[("a/B.class", "x"), ("META-INF/MANIFEST.MF", TEXT)]);
                assert_eq!(read(&jar), Some(expect.clone()));
            }
        }
        assert_eq!(
            read(&zip(b"", true, &[("META-INF/MANIFEST.MF", "Main-Class: A\n")])),
            Some(Manifest::default())
        );
        assert_eq!(read(&zip(b"", true, &[("a/B.class", "x")])), None);
        for none in [&b""[..], b"PK\x05\x06", b"hello"] {
            assert_eq!(read(none), None);
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn broken_jars_never_panic(edits in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..8), cut in any::<prop::sample::Index>()) {
            let mut bytes = zip(b"", true, &[("META-INF/", ""), ("META-INF/MANIFEST.MF", TEXT)]);
            for (at, with) in edits {
                let at = at.index(bytes.len());
                bytes[at] = with;
            }
            read(&bytes);
            bytes.truncate(cut.index(bytes.len()));
            read(&bytes);
        }
    }
}
