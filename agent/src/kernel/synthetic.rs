//! A stand-in for the kernel's BTF that holds the tracepoints' typedefs at their true ids and nothing else.
//!
//! The loader wants a whole BTF only to find the id of `btf_trace_NAME` in it. Reading the kernel's own takes 33 MB
//! there; this one takes 12 bytes for each type up to the last tracepoint's.

use super::types::{KernelTypes, Tracepoint};

/// BTF in which each tracepoint that the kernel has is a typedef at the id that the kernel gives it.
#[must_use]
pub fn tracepoints(types: &KernelTypes) -> Vec<u8> {
    let typedefs: Vec<(u32, &str)> = Tracepoint::ALL
        .into_iter()
        .filter_map(|tracepoint| Some((types.tracepoint(tracepoint)?, tracepoint.type_name())))
        .collect();
    with_typedefs(typedefs)
}

/// The named typedefs at their ids, pointers to void between them. An id of 0 cannot exist and is left out; of two with
/// one id the first stays.
fn with_typedefs(mut typedefs: Vec<(u32, &str)>) -> Vec<u8> {
    typedefs.retain(|(id, _)| *id != 0);
    typedefs.sort_by_key(|(id, _)| *id);
    typedefs.dedup_by_key(|(id, _)| *id);
    let count = typedefs.last().map_or(0, |(id, _)| *id);
    let type_bytes = count.saturating_mul(TYPE_BYTES);

    let mut strings = vec![0];
    let mut bytes = Vec::with_capacity((HEADER_BYTES + type_bytes) as usize + 256);
    bytes.extend_from_slice(&MAGIC.to_ne_bytes());
    bytes.extend_from_slice(&[VERSION, 0]);
    put(&mut bytes, [HEADER_BYTES, 0, type_bytes, type_bytes, 0]);
    let mut next = typedefs.into_iter().peekable();
    for id in 1..=count {
        match next.next_if(|(at, _)| *at == id) {
            Some((_, name)) => {
                put(&mut bytes, [u32::try_from(strings.len()).unwrap_or(0), TYPEDEF, 0]);
                strings.extend_from_slice(name.as_bytes());
                strings.push(0);
            }
            None => put(&mut bytes, [0, POINTER, 0]),
        }
    }
    if let Some(length) = bytes.get_mut(20..24) {
        length.copy_from_slice(&u32::try_from(strings.len()).unwrap_or(0).to_ne_bytes());
    }
    bytes.extend_from_slice(&strings);
    bytes
}

// The header is a magic number, version and flags, its own length, then offset and length of types and strings.
const MAGIC: u16 = 0xeb9f;
const VERSION: u8 = 1;
const HEADER_BYTES: u32 = 24;
const TYPE_BYTES: u32 = 12;
/// The second word of a type without elements: its kind.
const TYPEDEF: u32 = 8 << 24;
const POINTER: u32 = 2 << 24;

fn put<const N: usize>(bytes: &mut Vec<u8>, words: [u32; N]) {
    for word in words {
        bytes.extend_from_slice(&word.to_ne_bytes());
    }
}

#[cfg(test)]
mod tests {
    use super::super::btf::{Btf, Sort};
    use super::with_typedefs;

    #[test]
    fn typedefs_stand_at_their_ids() {
        let bytes =
            with_typedefs(vec![(700, "btf_trace_b"), (3, "btf_trace_a"), (701, "btf_trace_c"), (0, "x")]);
        let btf = Btf::parse(&bytes).unwrap();
        assert_eq!(btf.count(), 701);
        let names = ["btf_trace_a", "btf_trace_b", "btf_trace_c", "x"].map(|name| (Sort::Typedef, name));
        assert_eq!(btf.find(&names), [Some(3), Some(700), Some(701), None]);
        assert_eq!(bytes.len(), 24 + 701 * 12 + 1 + 3 * "btf_trace_a\0".len());
    }

    #[test]
    fn a_kernel_without_tracepoints_gives_an_empty_one() {
        assert_eq!(Btf::parse(&with_typedefs(vec![])).unwrap().count(), 0);
    }
}
