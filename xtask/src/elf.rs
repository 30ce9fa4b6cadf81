//! As much of ELF as the kernel programs' object needs: 64-bit, little-endian, relocatable (gABI chapter 4, with the
//! relocations of the kernel's `Documentation/bpf/llvm_reloc.rst`).

use anyhow::{Context, Result, bail};

const FILE_HEADER: usize = 64;
const SECTION_HEADER: usize = 64;
const SYMBOL: usize = 24;
const RELOCATION: usize = 16;
const SHT_SYMTAB: u32 = 2;
const SHT_NOBITS: u32 = 8;
const SHT_REL: u32 = 9;
const SHF_EXECINSTR: u64 = 4;

/// An object, borrowed from its bytes.
pub(crate) struct Elf<'a> {
    bytes: &'a [u8],
    /// Every section in the order of the header table, the empty first one included: symbols name them by index.
    pub(crate) sections: Vec<Section<'a>>,
}

/// One section.
pub(crate) struct Section<'a> {
    pub(crate) name: &'a str,
    pub(crate) data: &'a [u8],
    header: &'a [u8],
    kind: u32,
    flags: u64,
    link: usize,
    info: usize,
    align: usize,
}

/// One entry of the symbol table; sections have nameless symbols of their own.
pub(crate) struct Symbol<'a> {
    pub(crate) name: &'a str,
    /// Index into [`Elf::sections`], 0 for what the object lacks.
    pub(crate) section: usize,
    /// Bytes from the start of its section.
    pub(crate) value: u64,
}

/// A place that a symbol's address goes to.
pub(crate) struct Relocation {
    /// Bytes from the start of the section.
    pub(crate) offset: u64,
    /// Index into [`Elf::symbols`].
    pub(crate) symbol: usize,
}

impl<'a> Elf<'a> {
    /// Reads the section table.
    pub(crate) fn parse(bytes: &'a [u8]) -> Result<Self> {
        if !bytes.starts_with(b"\x7fELF\x02\x01") {
            bail!("not a 64-bit little-endian ELF file");
        }
        let table = to_usize(u64_at(bytes, 40)?)?;
        let count = usize::from(u16_at(bytes, 60)?);
        let names = usize::from(u16_at(bytes, 62)?);
        let mut sections = Vec::with_capacity(count);
        for index in 0..count {
            let header = slice(bytes, table + index * SECTION_HEADER, SECTION_HEADER)?;
            let kind = u32_at(header, 4)?;
            let size = if kind == SHT_NOBITS { 0 } else { to_usize(u64_at(header, 32)?)? };
            sections.push(Section {
                name: "",
                data: slice(bytes, to_usize(u64_at(header, 24)?)?, size)?,
                header,
                kind,
                flags: u64_at(header, 8)?,
                link: to_usize(u32_at(header, 40)?.into())?,
                info: to_usize(u32_at(header, 44)?.into())?,
                align: to_usize(u64_at(header, 48)?)?.max(1),
            });
        }
        let strings = sections.get(names).context("no section names")?.data;
        for section in &mut sections {
            section.name = string(strings, u32_at(section.header, 0)?)?;
        }
        Ok(Self { bytes, sections })
    }

    /// The symbol table; empty where there is none.
    pub(crate) fn symbols(&self) -> Result<Vec<Symbol<'a>>> {
        let Some(table) = self.sections.iter().find(|section| section.kind == SHT_SYMTAB) else {
            return Ok(Vec::new());
        };
        let strings = self.sections.get(table.link).context("a symbol table without names")?.data;
        table
            .data
            .as_chunks::<SYMBOL>()
            .0
            .iter()
            .map(|entry| {
                Ok(Symbol {
                    name: string(strings, u32_at(entry, 0)?)?,
                    section: u16_at(entry, 6)?.into(),
                    value: u64_at(entry, 8)?,
                })
            })
            .collect()
    }

    /// The relocations of the section with this index.
    pub(crate) fn relocations(&self, section: usize) -> Result<Vec<Relocation>> {
        let tables = self.sections.iter().filter(|table| table.kind == SHT_REL && table.info == section);
        tables
            .flat_map(|table| table.data.as_chunks::<RELOCATION>().0.iter())
            .map(|entry| {
                Ok(Relocation { offset: u64_at(entry, 0)?, symbol: to_usize(u64_at(entry, 8)? >> 32)? })
            })
            .collect()
    }

    /// The object without DWARF and without the relocations that only a linker of BTF would read; without `lines` also without
    /// source lines, which the verifier's log shows, and which the kernel keeps of every program. The headers of what goes
    /// become empty ones, so that every index stays valid.
    pub(crate) fn without_debug(&self, lines: bool) -> Result<Vec<u8>> {
        let mut out = slice(self.bytes, 0, FILE_HEADER)?.to_vec();
        let mut headers = Vec::with_capacity(self.sections.len() * SECTION_HEADER);
        for section in &self.sections {
            if is_debug(section.name) || !lines && section.name == LINES {
                headers.extend([0; SECTION_HEADER]);
                continue;
            }
            out.resize(out.len().next_multiple_of(section.align), 0);
            let offset = u64::try_from(out.len())?.to_le_bytes();
            out.extend(section.data);
            headers.extend(slice(section.header, 0, 24)?);
            headers.extend(offset);
            headers.extend(slice(section.header, 32, SECTION_HEADER - 32)?);
        }
        out.resize(out.len().next_multiple_of(8), 0);
        let table = u64::try_from(out.len())?.to_le_bytes();
        out.extend(headers);
        out.get_mut(40..48).context("a file header")?.copy_from_slice(&table);
        Ok(out)
    }
}

impl Section<'_> {
    /// Whether it holds instructions.
    pub(crate) fn is_code(&self) -> bool {
        self.flags & SHF_EXECINSTR != 0
    }
}

/// Functions and lines of the source.
const LINES: &str = ".BTF.ext";

fn is_debug(name: &str) -> bool {
    [".debug_", ".rel.debug_", ".rel.BTF"].iter().any(|prefix| name.starts_with(prefix))
}

fn slice(bytes: &[u8], offset: usize, len: usize) -> Result<&[u8]> {
    let end = offset.checked_add(len).context("an offset beyond all files")?;
    bytes.get(offset..end).with_context(|| format!("bytes {offset}..{end} lie outside of the file"))
}

fn array<const N: usize>(bytes: &[u8], offset: usize) -> Result<[u8; N]> {
    Ok(slice(bytes, offset, N)?.try_into()?)
}

fn u16_at(bytes: &[u8], offset: usize) -> Result<u16> {
    Ok(u16::from_le_bytes(array(bytes, offset)?))
}

fn u32_at(bytes: &[u8], offset: usize) -> Result<u32> {
    Ok(u32::from_le_bytes(array(bytes, offset)?))
}

fn u64_at(bytes: &[u8], offset: usize) -> Result<u64> {
    Ok(u64::from_le_bytes(array(bytes, offset)?))
}

fn to_usize(value: u64) -> Result<usize> {
    Ok(usize::try_from(value)?)
}

fn string(table: &[u8], offset: u32) -> Result<&str> {
    let rest = table.get(to_usize(offset.into())?..).context("a name outside of its table")?;
    let end = rest.iter().position(|byte| *byte == 0).context("a name without end")?;
    Ok(std::str::from_utf8(rest.get(..end).unwrap_or_default())?)
}

/// Objects for tests, here and in what reads objects.
#[cfg(test)]
pub(crate) mod sample {
    use super::*;

    /// A section to be: name, kind, flags, link, info, contents.
    pub(crate) type Part<'a> = (&'a str, u32, u64, u32, u32, Vec<u8>);

    pub(crate) const PROGBITS: u32 = 1;
    pub(crate) const STRTAB: u32 = 3;
    pub(crate) const REL: u32 = SHT_REL;
    pub(crate) const SYMTAB: u32 = SHT_SYMTAB;
    pub(crate) const CODE: u64 = 6;

    /// An object of an empty section, the given ones (from index 1) and the section names.
    pub(crate) fn object(parts: &[Part<'_>]) -> Vec<u8> {
        let mut names = vec![0];
        let mut body = vec![0; FILE_HEADER];
        let mut headers = vec![0; SECTION_HEADER];
        let last: Part<'_> = (".shstrtab", STRTAB, 0, 0, 0, Vec::new());
        for (name, kind, flags, link, info, data) in parts.iter().chain([&last]) {
            let name_at = u32::try_from(names.len()).unwrap();
            names.extend(name.as_bytes());
            names.push(0);
            let data = if *name == ".shstrtab" { &names } else { data };
            for word in [name_at, *kind] {
                headers.extend(word.to_le_bytes());
            }
            for wide in [*flags, 0, body.len() as u64, data.len() as u64] {
                headers.extend(wide.to_le_bytes());
            }
            for word in [*link, *info] {
                headers.extend(word.to_le_bytes());
            }
            headers.extend([8u64.to_le_bytes(), 0u64.to_le_bytes()].concat());
            body.extend(data);
            body.resize(body.len().next_multiple_of(8), 0);
        }
        body[..6].copy_from_slice(b"\x7fELF\x02\x01");
        let table = body.len() as u64;
        body[40..48].copy_from_slice(&table.to_le_bytes());
        body[60..62].copy_from_slice(&(parts.len() as u16 + 2).to_le_bytes());
        body[62..64].copy_from_slice(&(parts.len() as u16 + 1).to_le_bytes());
        body.extend(headers);
        body
    }

    /// A symbol table entry: offset of the name, section, value.
    pub(crate) fn symbol(name: u32, section: u16, value: u64) -> Vec<u8> {
        let mut entry = name.to_le_bytes().to_vec();
        entry.extend([0, 0]);
        entry.extend(section.to_le_bytes());
        entry.extend(value.to_le_bytes());
        entry.extend([0; 8]);
        entry
    }
}

#[cfg(test)]
mod tests {
    use super::sample::{CODE, PROGBITS, REL, STRTAB, SYMTAB, object, symbol};
    use super::*;

    fn with_dwarf() -> Vec<u8> {
        object(&[
            (".debug_info", PROGBITS, 0, 0, 0, vec![7; 1000]),
            ("tp_btf/x", PROGBITS, CODE, 0, 0, vec![1; 16]),
            (".rel.debug_info", REL, 0, 4, 1, vec![2; 32]),
            (".symtab", SYMTAB, 0, 5, 0, [symbol(0, 0, 0), symbol(1, 2, 8)].concat()),
            (".strtab", STRTAB, 0, 0, 0, b"\0entry\0".to_vec()),
            (".BTF", PROGBITS, 0, 0, 0, vec![3; 9]),
        ])
    }

    #[test]
    fn debug_goes_and_indices_stay() {
        let full = with_dwarf();
        let lean = Elf::parse(&full).unwrap().without_debug(true).unwrap();
        assert!(lean.len() + 1000 <= full.len());
        let elf = Elf::parse(&lean).unwrap();
        let names: Vec<&str> = elf.sections.iter().map(|section| section.name).collect();
        assert_eq!(names, ["", "", "tp_btf/x", "", ".symtab", ".strtab", ".BTF", ".shstrtab"]);
        assert_eq!(elf.sections[2].data, [1; 16]);
        assert_eq!(elf.sections[6].data, [3; 9]);
        let symbols = elf.symbols().unwrap();
        assert_eq!((symbols[1].name, symbols[1].section, symbols[1].value), ("entry", 2, 8));
    }

    #[test]
    fn cut_short_is_an_error() {
        let full = with_dwarf();
        for len in 0..full.len() {
            assert!(Elf::parse(&full[..len]).is_err(), "{len}");
        }
    }
}
