//! The BTF reader on the kernel that runs here, against what other tools read.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::super::btf::{Btf, Sort, VMLINUX};
use super::super::offsets::STRUCTURES;
use super::super::{KernelTypes, Tracepoint};

/// The running kernel's BTF, and those that `SONDE_TEST_BTF` names (paths with colons between them).
fn files() -> Vec<PathBuf> {
    let mut files: Vec<PathBuf> =
        std::env::var_os("SONDE_TEST_BTF").map_or(Vec::new(), |list| std::env::split_paths(&list).collect());
    if Path::new(VMLINUX).exists() {
        files.push(VMLINUX.into());
    } else {
        eprintln!("SKIPPED: {VMLINUX} does not exist");
    }
    files
}

#[test]
fn kernels_have_all_members() {
    for file in files() {
        let types = KernelTypes::read(&file).unwrap();
        assert_eq!(types.members.missing, vec![], "{}", file.display());
        assert!(types.tracepoint(Tracepoint::SysExit).is_some(), "{}", file.display());
        assert!(types.tracepoint(Tracepoint::InetSockSetState).is_some(), "{}", file.display());
    }
}

/// Every offset and tracepoint id equals what bpftool prints, which reads the same file with other code.
#[test]
fn kernels_are_read_as_bpftool_reads_them() {
    for file in files() {
        let Some(oracle) = Dump::of(&file) else { return };
        compare(&file, &oracle);
    }
}

fn compare(file: &Path, oracle: &Dump) {
    let types = KernelTypes::read(file).unwrap();
    let bytes = std::fs::read(file).unwrap();
    let btf = Btf::parse(&bytes).unwrap();
    assert_eq!(btf.count() as usize, oracle.lines.len());
    for tracepoint in Tracepoint::ALL {
        let expected = oracle.id("TYPEDEF", tracepoint.type_name());
        assert_eq!(types.tracepoint(tracepoint), expected, "{tracepoint:?}");
    }
    let mut compared = 0;
    for ((_, structure), id) in STRUCTURES.iter().zip(btf.find(&STRUCTURES)) {
        let id = id.unwrap();
        assert_eq!(Some(id), oracle.id("STRUCT", structure));
        for (member, place) in oracle.members(id, 0) {
            match btf.member(id, &member) {
                Ok(found) => {
                    assert_eq!(place, Some(found.offset * 8), "{structure}.{member}");
                    compared += 1;
                }
                Err(why) => assert_eq!(place, None, "{structure}.{member}: {why}"),
            }
        }
    }
    assert!(compared > 500, "only {compared} members compared");
}

#[test]
fn names_of_one_sort_are_not_taken_for_another() {
    for file in files() {
        let bytes = std::fs::read(file).unwrap();
        let btf = Btf::parse(&bytes).unwrap();
        let found =
            btf.find(&[(Sort::Struct, "vfs_read"), (Sort::Function, "vfs_read"), (Sort::Typedef, "sock")]);
        assert!(found[0].is_none() && found[1].is_some() && found[2].is_none(), "{found:?}");
    }
}

/// `bpftool btf dump file ... ` by type id: the header line and the member lines.
struct Dump {
    lines: BTreeMap<u32, (String, Vec<String>)>,
}

impl Dump {
    fn of(file: &Path) -> Option<Self> {
        // Debian installs it where ordinary users do not look.
        let dump = |program: &str| Command::new(program).args(["btf", "dump", "file"]).arg(file).output();
        let Ok(out) = dump("bpftool").or_else(|_| dump("/usr/sbin/bpftool")) else {
            eprintln!("SKIPPED: bpftool is not installed");
            return None;
        };
        assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
        let mut lines: BTreeMap<u32, (String, Vec<String>)> = BTreeMap::new();
        let mut last = 0;
        for line in String::from_utf8_lossy(&out.stdout).lines() {
            if let Some((id, rest)) = line.strip_prefix('[').and_then(|line| line.split_once("] ")) {
                last = id.parse().unwrap();
                lines.insert(last, (rest.to_owned(), Vec::new()));
            } else {
                lines.get_mut(&last).unwrap().1.push(line.trim().to_owned());
            }
        }
        Some(Self { lines })
    }

    fn id(&self, kind: &str, name: &str) -> Option<u32> {
        let start = format!("{kind} '{name}' ");
        self.lines.iter().find(|(_, (head, _))| head.starts_with(&start)).map(|(id, _)| *id)
    }

    /// Named members with their offset in bits from the outermost structure, `None` for bitfields.
    fn members(&self, id: u32, base: u32) -> Vec<(String, Option<u32>)> {
        let mut members = Vec::new();
        for line in &self.lines[&id].1 {
            let name = line.split('\'').nth(1).unwrap();
            let field = |key: &str| -> Option<u32> {
                let (_, rest) = line.split_once(&format!("{key}="))?;
                rest.split(' ').next()?.parse().ok()
            };
            let at = base + field("bits_offset").unwrap();
            let ty = field("type_id").unwrap();
            if name == "(anon)" {
                let head = &self.lines[&ty].0;
                if head.starts_with("STRUCT") || head.starts_with("UNION") {
                    members.extend(self.members(ty, at));
                }
            } else {
                members.push((name.to_owned(), field("bitfield_size").is_none().then_some(at)));
            }
        }
        members
    }
}
