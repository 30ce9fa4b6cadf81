//! Just enough of ELF (System V ABI, chapter 4) to tell a Go program: the names and places of its sections.

use std::fs::File;
use std::os::unix::fs::FileExt;

/// Bytes of the section header table and of the section names that are read; larger ones are not looked at.
const TABLE_BYTES: u64 = 1 << 20;

/// What a Go linker leaves in its programs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct GoProgram {
    /// As `go version FILE` prints it, without the leading `go`; `None` where the program was linked before Go 1.18,
    /// which put only pointers there.
    pub version: Option<String>,
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
        return Some(GoProgram { version: go_version(&read_at(file, build.offset, build.size.min(128))?) });
    }
    // Go before 1.13, and position-independent programs of some linkers, where the name is longer.
    let is_go =
        named(".gopclntab").or_else(|| named(".data.rel.ro.gopclntab")).or_else(|| named(".note.go.buildid"));
    is_go.map(|_| GoProgram { version: None })
}

/// `debug/buildinfo`: 14 bytes of magic, pointer size, flags (bit 1: the version stands inline from byte 32, behind
/// its length as a varint).
fn go_version(bytes: &[u8]) -> Option<String> {
    let rest = bytes.strip_prefix(b"\xFF Go buildinf:")?;
    if rest.get(1)? & 2 == 0 {
        return None;
    }
    let &length = bytes.get(32)?;
    // Versions are shorter than 128 bytes: one byte of varint.
    let text = bytes.get(33..33 + usize::from(length & 0x7F))?;
    let text = std::str::from_utf8(text).ok()?.strip_prefix("go")?;
    Some(text.split(' ').next()?.to_owned())
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
