//! The rule for the kernel programs: no calls of the compiler's memory functions, which are byte loops there (seven of
//! them once cost a hook half of its instructions).

use anyhow::{Context, Result};

use super::Findings;
use crate::elf::{Elf, Symbol};

const REFUSED: &[&str] = &["memset", "memcpy", "memmove", "memcmp", "bcmp"];
const INSTRUCTION: usize = 8;
/// `BPF_JMP | BPF_CALL`
const CALL: u8 = 0x85;
/// `BPF_PSEUDO_CALL`, in the source register: a call of another function of the object.
const PSEUDO_CALL: u8 = 1;

/// Looks at every call of every section with code.
pub(super) fn check(path: &str, object: &[u8], findings: &mut Findings) -> Result<()> {
    let elf = Elf::parse(object).with_context(|| path.to_owned())?;
    let symbols = elf.symbols()?;
    for (index, section) in elf.sections.iter().enumerate().filter(|(_, section)| section.is_code()) {
        let relocations = elf.relocations(index)?;
        for (at, instruction) in section.data.as_chunks::<INSTRUCTION>().0.iter().enumerate() {
            let &[CALL, registers, _, _, a, b, c, d] = instruction else { continue };
            if registers >> 4 != PSEUDO_CALL {
                continue;
            }
            let offset = u64::try_from(at * INSTRUCTION)?;
            let relocation = relocations.iter().find(|relocation| relocation.offset == offset);
            let named = relocation.and_then(|relocation| symbols.get(relocation.symbol));
            // Instructions from here (no relocation) or from the start of the symbol, minus one.
            let distance = i64::from(i32::from_le_bytes([a, b, c, d])) + 1;
            let callee = match named {
                Some(symbol) if !symbol.name.is_empty() => symbol.name,
                Some(section_symbol) => function_at(&symbols, section_symbol.section, distance),
                None => function_at(&symbols, index, distance + i64::try_from(at)?),
            };
            if REFUSED.contains(&callee) {
                let caller = last_before(&symbols, index, offset);
                findings.push(format!(
                    "{path}: {caller} ({}+{offset:#x}) calls {callee}, a byte loop",
                    section.name
                ));
            }
        }
    }
    Ok(())
}

/// The name of the function that starts at this instruction of a section.
fn function_at<'a>(symbols: &[Symbol<'a>], section: usize, instruction: i64) -> &'a str {
    let value = u64::try_from(instruction).ok().and_then(|at| at.checked_mul(8));
    let found = symbols.iter().find(|s| s.section == section && Some(s.value) == value && !s.name.is_empty());
    found.map_or("", |symbol| symbol.name)
}

/// The name of the function that an offset of a section lies in.
fn last_before<'a>(symbols: &[Symbol<'a>], section: usize, offset: u64) -> &'a str {
    let before = symbols.iter().filter(|s| s.section == section && s.value <= offset && !s.name.is_empty());
    before.max_by_key(|symbol| symbol.value).map_or("?", |symbol| symbol.name)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::elf::sample::{CODE, PROGBITS, REL, STRTAB, SYMTAB, object, symbol};

    fn call(imm: i32) -> Vec<u8> {
        [&[CALL, PSEUDO_CALL << 4, 0, 0], imm.to_le_bytes().as_slice()].concat()
    }

    const EXIT: [u8; 8] = [0x95, 0, 0, 0, 0, 0, 0, 0];

    /// A program in section 1 with this first instruction, and functions `plain` and `memset` in section 2, the latter
    /// after two instructions.
    fn program(first: Vec<u8>, text_first: Vec<u8>, relocation: Option<u64>) -> Findings {
        let strings = b"\0entry\0plain\0memset\0".to_vec();
        let table =
            [symbol(0, 0, 0), symbol(0, 2, 0), symbol(1, 1, 0), symbol(7, 2, 0), symbol(13, 2, 16)].concat();
        let relocations = relocation
            .map_or_else(Vec::new, |symbol| [0u64.to_le_bytes(), (symbol << 32 | 10).to_le_bytes()].concat());
        let bytes = object(&[
            ("tp_btf/sys_exit", PROGBITS, CODE, 0, 0, [first, EXIT.to_vec()].concat()),
            (".text", PROGBITS, CODE, 0, 0, [text_first, EXIT.to_vec(), EXIT.to_vec()].concat()),
            (".reltp_btf/sys_exit", REL, 0, 4, 1, relocations),
            (".symtab", SYMTAB, 0, 5, 0, table),
            (".strtab", STRTAB, 0, 0, 0, strings),
        ]);
        let mut findings = Findings::new();
        check("o", &bytes, &mut findings).unwrap();
        findings
    }

    #[test]
    fn calls_of_memory_functions_are_found_however_they_are_written() {
        let by_name = program(call(-1), EXIT.to_vec(), Some(4));
        assert!(
            by_name.len() == 1 && by_name[0].contains("entry (tp_btf/sys_exit+0x0) calls memset"),
            "{by_name:?}"
        );
        let by_section = program(call(1), EXIT.to_vec(), Some(1));
        assert!(by_section.len() == 1 && by_section[0].contains("calls memset"), "{by_section:?}");
        let within = program(EXIT.to_vec(), call(1), None);
        assert!(within.len() == 1 && within[0].contains("plain (.text+0x0) calls memset"), "{within:?}");
    }

    #[test]
    fn other_calls_pass() {
        assert_eq!(program(call(-1), EXIT.to_vec(), Some(3)), Findings::new());
        assert_eq!(program(call(-1), EXIT.to_vec(), Some(1)), Findings::new());
        let kernel_function = vec![CALL, 0, 0, 0, 5, 0, 0, 0];
        assert_eq!(program(kernel_function, EXIT.to_vec(), None), Findings::new());
    }
}
