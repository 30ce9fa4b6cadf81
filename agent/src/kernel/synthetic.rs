//! A stand-in for the kernel's BTF that holds the tracepoints' typedefs and a few functions at their true ids and nothing
//! else.
//!
//! The loader wants a whole BTF only to find the id of `btf_trace_NAME` or of a function in it. Reading the kernel's own takes 33 MB
//! there; this one takes 12 bytes for each type up to the last of them.

use super::types::{FUNCTIONS, KernelTypes, Tracepoint};

/// BTF in which each tracepoint that the kernel has is a typedef, and each function of [`FUNCTIONS`] that is asked for a function, at
/// the id that the kernel gives it. Those of functions are the highest: without one it is a third as long.
#[must_use]
pub fn names(types: &KernelTypes, asked_for: impl Fn(&str) -> bool) -> Vec<u8> {
    let tracepoints = Tracepoint::ALL
        .into_iter()
        .filter_map(|tracepoint| Some((types.tracepoint(tracepoint)?, TYPEDEF, tracepoint.type_name())));
    let functions = FUNCTIONS.into_iter().zip(types.functions).filter(|(name, _)| asked_for(name));
    let functions = functions.filter_map(|(name, id)| Some((id?, FUNCTION, name)));
    with_names(tracepoints.chain(functions).collect())
}

/// The names at their ids, each of its kind, pointers to void between them. An id of 0 cannot exist and is left out; of
/// two with one id the first stays.
fn with_names(mut named: Vec<(u32, u32, &str)>) -> Vec<u8> {
    named.retain(|(id, ..)| *id != 0);
    named.sort_by_key(|(id, ..)| *id);
    named.dedup_by_key(|(id, ..)| *id);
    let count = named.last().map_or(0, |(id, ..)| *id);
    let type_bytes = count.saturating_mul(TYPE_BYTES);

    let mut strings = vec![0];
    let mut bytes = Vec::with_capacity((HEADER_BYTES + type_bytes) as usize + 256);
    bytes.extend_from_slice(&MAGIC.to_ne_bytes());
    bytes.extend_from_slice(&[VERSION, 0]);
    put(&mut bytes, [HEADER_BYTES, 0, type_bytes, type_bytes, 0]);
    let mut next = named.into_iter().peekable();
    for id in 1..=count {
        match next.next_if(|(at, ..)| *at == id) {
            Some((_, kind, name)) => {
                put(&mut bytes, [u32::try_from(strings.len()).unwrap_or(0), kind, 0]);
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
const FUNCTION: u32 = 12 << 24;
const POINTER: u32 = 2 << 24;

fn put<const N: usize>(bytes: &mut Vec<u8>, words: [u32; N]) {
    for word in words {
        bytes.extend_from_slice(&word.to_ne_bytes());
    }
}

#[cfg(test)]
mod tests {
    use super::super::btf::{Btf, Sort};
    use super::{FUNCTION, TYPEDEF, with_names};

    #[test]
    fn names_stand_at_their_ids() {
        let bytes = with_names(vec![
            (700, TYPEDEF, "btf_trace_b"),
            (3, TYPEDEF, "btf_trace_a"),
            (701, FUNCTION, "c"),
            (0, TYPEDEF, "x"),
        ]);
        let btf = Btf::parse(&bytes).unwrap();
        assert_eq!(btf.count(), 701);
        let names = [
            (Sort::Typedef, "btf_trace_a"),
            (Sort::Typedef, "btf_trace_b"),
            (Sort::Function, "c"),
            (Sort::Typedef, "c"),
            (Sort::Typedef, "x"),
        ];
        assert_eq!(btf.find(&names), [Some(3), Some(700), Some(701), None, None]);
        assert_eq!(bytes.len(), 24 + 701 * 12 + 1 + 2 * "btf_trace_a\0".len() + "c\0".len());
    }

    #[test]
    fn a_kernel_without_tracepoints_gives_an_empty_one() {
        assert_eq!(Btf::parse(&with_names(vec![])).unwrap().count(), 0);
    }
}
