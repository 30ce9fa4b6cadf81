//! Reader of the kernel's own type information (BTF, Documentation/bpf/btf.rst): where a member of a structure is, and
//! which tracepoints and functions a kernel has.
//!
//! It keeps no table of types (a kernel has 130,000): one pass over the type section checks it and notes where every
//! 64th type begins, one more finds the few names that are asked for. Nothing in it panics, and every question is
//! answered in bounded time, whatever the bytes are.

mod wire;

use thiserror::Error;

use wire::{MEMBER_BYTES, Type, Walk, is_text, kind, sections, u32_at};

/// Where the running kernel shows its BTF.
pub const VMLINUX: &str = "/sys/kernel/btf/vmlinux";

/// Why bytes are not BTF that can be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum BtfError {
    /// Shorter than a header.
    #[error("{0} bytes are too few for a BTF header")]
    Short(usize),
    /// Not BTF, or BTF of the other byte order.
    #[error("magic {0:#06x} is not BTF of this machine's byte order")]
    Magic(u16),
    /// A version that did not exist when this was written.
    #[error("BTF version {0} is unknown")]
    Version(u8),
    /// A section of the header lies outside the bytes.
    #[error("the BTF header names a {0} section outside the file")]
    Section(&'static str),
    /// A type does not fit into the type section.
    #[error("BTF type {0} is cut off")]
    Truncated(u32),
    /// A kind that did not exist when this was written: what follows it cannot be found.
    #[error("BTF type {id} is of unknown kind {kind}")]
    Kind {
        /// The type.
        id: u32,
        /// Its kind.
        kind: u32,
    },
}

/// Why a member has no offset.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum NoMember {
    /// There is no structure of that name.
    #[error("this kernel has no struct {0}")]
    NoStruct(String),
    /// The structure has no such member, nor has an anonymous part of it.
    #[error("has no member {0}")]
    Missing(String),
    /// The member is a bitfield, which has no address.
    #[error("member {0} is a bitfield")]
    Bitfield(String),
    /// A part of the path is not a structure that could have members.
    #[error("{0} is no structure")]
    NotAStruct(String),
    /// The member is not as wide as its reader expects.
    #[error("member {path} is {found} bytes wide instead of {expected}")]
    Width {
        /// The member.
        path: String,
        /// Its width in bytes.
        found: u32,
        /// The width in bytes that the kernel programs read.
        expected: u32,
    },
    /// Types refer to each other without end.
    #[error("the types around {0} are nested too deeply")]
    Depth(String),
}

/// What is looked for by name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sort {
    /// `struct NAME`
    Struct,
    /// `typedef ... NAME`
    Typedef,
    /// A function that the kernel describes.
    Function,
}

/// A member of a structure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Member {
    /// Bytes from the start of the structure that the path began with.
    pub offset: u32,
    /// Bytes that it takes; 0 for a flexible array, `None` where its type has no size.
    pub width: Option<u32>,
}

/// The kernel's types, over bytes that someone else holds.
#[derive(Debug)]
pub struct Btf<'a> {
    types: &'a [u8],
    strings: &'a [u8],
    /// Where types 1, 65, 129, ... begin in `types`.
    marks: Vec<u32>,
    count: u32,
}

impl<'a> Btf<'a> {
    /// Checks the header and the lengths of all types. References between types are checked when they are followed.
    pub fn parse(bytes: &'a [u8]) -> Result<Self, BtfError> {
        let (types, strings) = sections(bytes)?;
        let mut marks = Vec::with_capacity(types.len() / (MARK_EVERY as usize * MEAN_TYPE_BYTES) + 1);
        let mut walk = Walk::new(types);
        for next in walk.by_ref() {
            let ty = next?;
            if ty.id % MARK_EVERY == 1 {
                marks.push(ty.at);
            }
        }
        Ok(Self { types, strings, marks, count: walk.id })
    }

    /// How many types there are; their ids are `1..=count`.
    #[must_use]
    pub fn count(&self) -> u32 {
        self.count
    }

    /// Ids of the named types, in the order asked for, in one pass; the first of several types of one name and sort.
    #[must_use]
    pub fn find(&self, names: &[(Sort, &str)]) -> Vec<Option<u32>> {
        let mut found = vec![None; names.len()];
        let mut left = names.len();
        // One look at the first letter spares most of 70,000 names the comparison.
        let mut letters = [false; 256];
        for (_, name) in names {
            // An empty name's first byte is its terminator.
            let first = name.bytes().next().unwrap_or(0);
            if let Some(letter) = letters.get_mut(usize::from(first)) {
                *letter = true;
            }
        }
        for ty in Walk::new(self.types).flatten() {
            if left == 0 {
                break;
            }
            let sort = match ty.kind() {
                kind::STRUCT => Sort::Struct,
                kind::TYPEDEF => Sort::Typedef,
                kind::FUNC => Sort::Function,
                _ => continue,
            };
            let Some(text) = usize::try_from(ty.name).ok().and_then(|at| self.strings.get(at..)) else {
                continue;
            };
            let first = text.first().map(|first| usize::from(*first));
            if !first.and_then(|first| letters.get(first)).is_some_and(|wanted| *wanted) {
                continue;
            }
            for ((wanted, name), id) in names.iter().zip(&mut found) {
                if *wanted == sort && id.is_none() && is_text(text, name) {
                    *id = Some(ty.id);
                    left -= 1;
                }
            }
        }
        found
    }

    /// Offset and width of a member, named by a path with dots from the structure `root`, for example
    /// `__sk_common.skc_daddr`. Anonymous structures and unions on the way need not be named.
    pub fn member(&self, root: u32, path: &str) -> Result<Member, NoMember> {
        let mut budget = MEMBERS_LOOKED_AT;
        let mut id = root;
        let mut bits = 0_u32;
        for part in path.split('.') {
            let ty = self.resolve(id).ok_or_else(|| NoMember::Depth(path.into()))?;
            if !matches!(ty.kind(), kind::STRUCT | kind::UNION) {
                return Err(NoMember::NotAStruct(path.into()));
            }
            // The empty name is that of anonymous parts.
            if part.is_empty() {
                return Err(NoMember::Missing(path.into()));
            }
            let found = self.search(ty, part, NESTING, &mut budget);
            let place = match found {
                Search::Found(place) => place,
                Search::Absent => return Err(NoMember::Missing(path.into())),
                Search::Exhausted => return Err(NoMember::Depth(path.into())),
            };
            if place.bitfield {
                return Err(NoMember::Bitfield(path.into()));
            }
            bits = bits.checked_add(place.bits).ok_or_else(|| NoMember::Depth(path.into()))?;
            id = place.type_id;
        }
        if !bits.is_multiple_of(8) || self.is_narrow_int(id) {
            return Err(NoMember::Bitfield(path.into()));
        }
        Ok(Member { offset: bits / 8, width: self.width(id) })
    }

    /// The structure's or union's members, and those of its anonymous parts, as far as `budget` goes.
    fn search(&self, ty: Type<'a>, name: &str, nesting: u32, budget: &mut u32) -> Search {
        if nesting == 0 {
            return Search::Exhausted;
        }
        for member in ty.tail.as_chunks::<MEMBER_BYTES>().0 {
            let (Some(text), Some(type_id), Some(packed)) =
                (u32_at(member, 0), u32_at(member, 4), u32_at(member, 8))
            else {
                return Search::Absent;
            };
            let Some(left) = budget.checked_sub(1) else { return Search::Exhausted };
            *budget = left;
            // With the kind flag the upper byte is the width of a bitfield, 0 for a plain member.
            let (bits, bitfield) =
                if ty.flag() { (packed & 0x00ff_ffff, packed >> 24 != 0) } else { (packed, false) };
            let place = Place { bits, bitfield, type_id };
            if self.text_is(text, name) {
                return Search::Found(place);
            }
            if !self.text_is(text, "") {
                continue;
            }
            let Some(inner) = self.resolve(type_id) else { continue };
            if !matches!(inner.kind(), kind::STRUCT | kind::UNION) {
                continue;
            }
            match self.search(inner, name, nesting - 1, budget) {
                Search::Found(place) => match place.bits.checked_add(bits) {
                    Some(bits) => return Search::Found(Place { bits, ..place }),
                    None => return Search::Exhausted,
                },
                Search::Absent => {}
                Search::Exhausted => return Search::Exhausted,
            }
        }
        Search::Absent
    }

    /// The type behind typedefs and qualifiers; `None` for void, an unknown id or a chain without end.
    fn resolve(&self, id: u32) -> Option<Type<'a>> {
        let mut id = id;
        for _ in 0..NESTING {
            let ty = self.by_id(id)?;
            match ty.kind() {
                kind::TYPEDEF | kind::VOLATILE | kind::CONST | kind::RESTRICT | kind::TYPE_TAG => {
                    id = ty.size_or_type;
                }
                _ => return Some(ty),
            }
        }
        None
    }

    fn by_id(&self, id: u32) -> Option<Type<'a>> {
        let before = id.checked_sub(1)?;
        let mark = *self.marks.get(usize::try_from(before / MARK_EVERY).ok()?)?;
        let mut walk = Walk { types: self.types, at: mark, id: before - before % MARK_EVERY };
        walk.nth(usize::try_from(before % MARK_EVERY).ok()?)?.ok()
    }

    fn width(&self, id: u32) -> Option<u32> {
        let mut id = id;
        let mut times = 1_u32;
        for _ in 0..NESTING {
            let ty = self.resolve(id)?;
            let size = match ty.kind() {
                kind::PTR => POINTER_BYTES,
                kind::ARRAY => {
                    times = times.checked_mul(u32_at(ty.tail, 8)?)?;
                    id = u32_at(ty.tail, 0)?;
                    continue;
                }
                kind::INT | kind::STRUCT | kind::UNION | kind::ENUM | kind::FLOAT | kind::ENUM64 => {
                    ty.size_or_type
                }
                _ => return None,
            };
            return size.checked_mul(times);
        }
        None
    }

    /// The older encoding of a bitfield: a plain member of an integer type with fewer bits than its bytes hold.
    fn is_narrow_int(&self, id: u32) -> bool {
        self.resolve(id).is_some_and(|ty| {
            ty.kind() == kind::INT
                && u32_at(ty.tail, 0).is_some_and(|int| {
                    (int >> 16) & 0xff != 0 || u64::from(int & 0xff) != u64::from(ty.size_or_type) * 8
                })
        })
    }

    fn text_is(&self, at: u32, name: &str) -> bool {
        usize::try_from(at).ok().and_then(|at| self.strings.get(at..)).is_some_and(|text| is_text(text, name))
    }
}

/// Types between two marks: 2,000 marks for a kernel, and at most 63 steps to a type.
const MARK_EVERY: u32 = 64;
/// Measured 25 on 6.18; only sizes the first allocation.
const MEAN_TYPE_BYTES: usize = 25;
/// Typedefs, qualifiers, anonymous parts or array dimensions within each other.
const NESTING: u32 = 16;
/// Members that one path may look at; `task_struct` with all its parts has fewer than 1,000.
const MEMBERS_LOOKED_AT: u32 = 1 << 13;
/// BTF does not say how wide a pointer is; all kernels that Sonde runs on are 64-bit.
const POINTER_BYTES: u32 = 8;

enum Search {
    Found(Place),
    Absent,
    Exhausted,
}

#[derive(Clone, Copy)]
struct Place {
    bits: u32,
    bitfield: bool,
    type_id: u32,
}
