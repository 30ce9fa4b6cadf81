//! Just enough of ELF (System V ABI, chapter 4) to tell a Go program: the names and places of its sections.

use std::fs::File;
use std::os::unix::fs::FileExt;

/// Bytes of the section header table and of the section names that are read; larger ones are not looked at.
const TABLE_BYTES: u64 = 1 << 20;

/// Bytes of a Go program's list of modules that are read; the main one stands in front.
const BUILD_BYTES: u64 = 16 << 10;

/// What a Go linker leaves in its programs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct GoProgram {
    /// As `go version FILE` prints it, without the leading `go`; `None` where the program was linked before Go 1.18,
    /// which put only pointers there.
    pub version: Option<String>,
    /// Version of the main module; `None` where it was built from a folder without one.
    pub module: Option<String>,
}

/// A place in the file.
#[derive(Clone, Copy, Debug)]
struct Section {
    name: usize,
    offset: u64,
    size: u64,
}

/// Reads what makes a program a Go program; `None` for any other file.
pub(super) fn go_program(file: &File) -> Option<GoProgram> {
    let (sections, names) = sections(file)?;
    let named = |wanted: &str| {
        sections.iter().find(|section| {
            let name = names.get(section.name..).unwrap_or_default();
            name.strip_prefix(wanted.as_bytes()).is_some_and(|rest| rest.first() == Some(&0))
        })
    };
    if let Some(build) = named(".go.buildinfo") {
        let bytes = read_at(file, build.offset, build.size.min(BUILD_BYTES))?;
        return Some(go_strings(&bytes).unwrap_or(GoProgram { version: None, module: None }));
    }
    // Go before 1.13, and position-independent programs of some linkers, where the name is longer.
    let is_go =
        named(".gopclntab").or_else(|| named(".data.rel.ro.gopclntab")).or_else(|| named(".note.go.buildid"));
    is_go.map(|_| GoProgram { version: None, module: None })
}

/// `debug/buildinfo`: 14 bytes of magic, pointer size, flags (bit 1: the version stands inline from byte 32, behind
/// its length as a varint, and behind it the modules in the same way).
fn go_strings(bytes: &[u8]) -> Option<GoProgram> {
    let rest = bytes.strip_prefix(b"\xFF Go buildinf:")?;
    if rest.get(1)? & 2 == 0 {
        return None;
    }
    let (text, rest) = go_string(bytes.get(32..)?)?;
    let text = std::str::from_utf8(text).ok()?.strip_prefix("go")?;
    let version = Some(text.split(' ').next()?.to_owned());
    // A marker of 16 bytes stands before the lines, `mod<TAB>path<TAB>version<TAB>sum` among the first of them.
    let modules = go_string(rest).and_then(|(modules, _)| modules.get(16..)).unwrap_or_default();
    let main = modules.split(|&byte| byte == b'\n').find_map(|line| line.strip_prefix(b"mod\t"));
    let module = main.and_then(|main| main.split(|&byte| byte == b'\t').nth(1));
    let module = module.and_then(|module| std::str::from_utf8(module).ok());
    let module = module.filter(|module| !module.is_empty() && *module != "(devel)").map(ToOwned::to_owned);
    Some(GoProgram { version, module })
}

/// A string behind its length, as far as it is there; and what follows.
fn go_string(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    // LEB128: seven bits a byte, the lowest first. No string is longer than three of them tell.
    let end = bytes.iter().take(3).position(|byte| byte & 0x80 == 0)?;
    let (length, rest) = bytes.split_at_checked(end + 1)?;
    let length = length.iter().rev().fold(0, |length, byte| length << 7 | usize::from(byte & 0x7F));
    Some(rest.split_at(length.min(rest.len())))
}

/// All sections, and the table that their names stand in.
fn sections(file: &File) -> Option<(Vec<Section>, Vec<u8>)> {
    let header = read_at(file, 0, 64)?;
    let [0x7F, b'E', b'L', b'F', class, order, ..] = *header.as_slice() else { return None };
    let read = Reader { wide: class == 2, little: order == 1 };
    let (at, entry, count, names) =
        if read.wide { (0x28, 0x3A, 0x3C, 0x3E) } else { (0x20, 0x2E, 0x30, 0x32) };
    let table_at = read.word(&header, at)?;
    let entry = u64::from(read.half(&header, entry)?);
    let count = u64::from(read.half(&header, count)?);
    let names = usize::from(read.half(&header, names)?);
    let table_size = entry.checked_mul(count).filter(|&size| (1..=TABLE_BYTES).contains(&size))?;
    let table = read_at(file, table_at, table_size)?;
    let (offset_at, size_at) = if read.wide { (0x18, 0x20) } else { (0x10, 0x14) };
    let section = |bytes: &[u8]| {
        Some(Section {
            name: usize::try_from(read.four(bytes, 0)?).ok()?,
            offset: read.word(bytes, offset_at)?,
            size: read.word(bytes, size_at)?,
        })
    };
    let sections: Vec<Section> =
        table.chunks_exact(usize::try_from(entry).ok()?).map_while(section).collect();
    let names = sections.get(names)?;
    let names = read_at(file, names.offset, names.size.min(TABLE_BYTES))?;
    Some((sections, names))
}

#[derive(Clone, Copy)]
struct Reader {
    wide: bool,
    little: bool,
}

impl Reader {
    fn half(self, bytes: &[u8], at: usize) -> Option<u16> {
        let bytes = *bytes.get(at..)?.first_chunk()?;
        Some(if self.little { u16::from_le_bytes(bytes) } else { u16::from_be_bytes(bytes) })
    }

    fn four(self, bytes: &[u8], at: usize) -> Option<u32> {
        let bytes = *bytes.get(at..)?.first_chunk()?;
        Some(if self.little { u32::from_le_bytes(bytes) } else { u32::from_be_bytes(bytes) })
    }

    /// Four bytes or eight, as the file's class says.
    fn word(self, bytes: &[u8], at: usize) -> Option<u64> {
        if !self.wide {
            return self.four(bytes, at).map(u64::from);
        }
        let bytes = *bytes.get(at..)?.first_chunk()?;
        Some(if self.little { u64::from_le_bytes(bytes) } else { u64::from_be_bytes(bytes) })
    }
}

/// Reads exactly `size` bytes, which the callers bound; `None` where the file ends before.
fn read_at(file: &File, offset: u64, size: u64) -> Option<Vec<u8>> {
    let mut bytes = vec![0; usize::try_from(size).ok()?];
    file.read_exact_at(&mut bytes, offset).ok()?;
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use proptest::prelude::*;

    use super::*;

    /// An ELF file of the given class and order with sections of these names and contents.
    fn elf(wide: bool, little: bool, sections: &[(&str, &[u8])]) -> Vec<u8> {
        let order = |bytes: &mut Vec<u8>, number: u64, size: usize| {
            let little_end = number.to_le_bytes();
            let mut number = little_end[..size].to_vec();
            if !little {
                number.reverse();
            }
            bytes.extend(number);
        };
        let word = if wide { 8 } else { 4 };
        let header = if wide { 64 } else { 52 };
        let mut names = vec![0];
        let mut contents: Vec<u8> = Vec::new();
        let mut placed = Vec::new();
        for (name, content) in sections {
            placed.push((names.len() as u64, (header + contents.len()) as u64, content.len() as u64));
            names.extend(name.bytes().chain([0]));
            contents.extend(*content);
        }
        placed.push((0, (header + contents.len()) as u64, names.len() as u64));
        contents.extend(&names);

        let mut file = vec![0x7F, b'E', b'L', b'F', if wide { 2 } else { 1 }, if little { 1 } else { 2 }];
        file.resize(16 + 8 + word * 2, 0);
        order(&mut file, (header + contents.len()) as u64, word);
        file.resize(if wide { 0x3A } else { 0x2E }, 0);
        let entry = if wide { 64 } else { 40 };
        order(&mut file, entry, 2);
        order(&mut file, placed.len() as u64, 2);
        order(&mut file, placed.len() as u64 - 1, 2);
        file.resize(header, 0);
        file.extend(contents);
        for (name, offset, size) in placed {
            let end = file.len() + entry as usize;
            order(&mut file, name, 4);
            order(&mut file, 1, 4);
            file.resize(file.len() + word * 2, 0);
            order(&mut file, offset, word);
            order(&mut file, size, word);
            file.resize(end, 0);
        }
        file
    }

    fn program(bytes: &[u8]) -> Option<GoProgram> {
        let directory = super::super::tree::Tree::new();
        let path = directory.root().join("program");
        File::create(&path).unwrap().write_all(bytes).unwrap();
        go_program(&File::open(&path).unwrap())
    }

    fn build_info(flags: u8, version: &str) -> Vec<u8> {
        let mut bytes = b"\xFF Go buildinf:".to_vec();
        bytes.extend([8, flags]);
        bytes.resize(32, 0);
        bytes.push(u8::try_from(version.len()).unwrap());
        bytes.extend(version.bytes());
        bytes.resize(200, 0);
        bytes
    }

    #[test]
    fn go_programs_of_all_shapes() {
        let go =
            |version: Option<&str>| Some(GoProgram { version: version.map(ToOwned::to_owned), module: None });
        for (wide, little) in [(true, true), (true, false), (false, true), (false, false)] {
            let new = build_info(2, "go1.24.3 X:nocoverageredesign");
            assert_eq!(
                program(&elf(wide, little, &[(".text", b"x"), (".go.buildinfo", &new)])),
                go(Some("1.24.3"))
            );
            let old = build_info(0, "");
            assert_eq!(program(&elf(wide, little, &[(".go.buildinfo", &old), (".text", b"x")])), go(None));
            assert_eq!(program(&elf(wide, little, &[(".gopclntab", b"x")])), go(None));
            for (line, expect) in [
                ("mod\texample.org/shop\tv1.4.2\th1:abc=", Some("v1.4.2")),
                ("mod\tshop\t(devel)\t", None),
                ("mod\tshop", None),
                ("dep\tother\tv9.0.0", None),
            ] {
                let mut bytes = build_info(2, "go1.24.3");
                bytes.truncate(33 + 8);
                let modules = format!("{:16}path\tshop\n{line}\ndep\tx\tv1\n{:200}", "", "");
                bytes.extend([modules.len() as u8 | 0x80, (modules.len() >> 7) as u8]);
                bytes.extend(modules.bytes());
                let found = program(&elf(wide, little, &[(".go.buildinfo", &bytes)])).unwrap();
                assert_eq!((found.version.as_deref(), found.module.as_deref()), (Some("1.24.3"), expect));
            }
            assert_eq!(program(&elf(wide, little, &[(".text", b"x"), (".go.buildinfox", &new)])), None);
        }
        for other in [&b""[..], b"#!/bin/sh\n", b"\x7FELF", &[0x7F; 4096]] {
            assert_eq!(program(other), None);
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 200, failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn broken_files_never_panic(at in any::<prop::sample::Index>(), with in any::<u8>(), cut in any::<prop::sample::Index>()) {
            let mut bytes = elf(true, true, &[(".go.buildinfo", &build_info(2, "go1.24.3"))]);
            let index = at.index(bytes.len());
            bytes[index] = with;
            program(&bytes);
            bytes.truncate(cut.index(bytes.len()));
            program(&bytes);
        }
    }
}
