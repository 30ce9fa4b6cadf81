//! Reader of the kernel's own type information (BTF, Documentation/bpf/btf.rst): where a member of a structure is, and
//! which tracepoints and functions a kernel has.
//!
//! It keeps no table of types (a kernel has 130,000): one pass over the type section checks it and notes where every
//! 64th type begins, one more finds the few names that are asked for. Nothing in it panics, and every question is
//! answered in bounded time, whatever the bytes are.

use thiserror::Error;

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
const MEMBERS_LOOKED_AT: u32 = 1 << 16;
/// BTF does not say how wide a pointer is; all kernels that Sonde runs on are 64-bit.
const POINTER_BYTES: u32 = 8;

const HEADER_BYTES: u32 = 24;
const TYPE_BYTES: u32 = 12;
const MEMBER_BYTES: usize = 12;
const MAGIC: u16 = 0xeb9f;

/// `BTF_KIND_*` of include/uapi/linux/btf.h.
mod kind {
    pub(super) const INT: u32 = 1;
    pub(super) const PTR: u32 = 2;
    pub(super) const ARRAY: u32 = 3;
    pub(super) const STRUCT: u32 = 4;
    pub(super) const UNION: u32 = 5;
    pub(super) const ENUM: u32 = 6;
    pub(super) const FWD: u32 = 7;
    pub(super) const TYPEDEF: u32 = 8;
    pub(super) const VOLATILE: u32 = 9;
    pub(super) const CONST: u32 = 10;
    pub(super) const RESTRICT: u32 = 11;
    pub(super) const FUNC: u32 = 12;
    pub(super) const FUNC_PROTO: u32 = 13;
    pub(super) const VAR: u32 = 14;
    pub(super) const DATASEC: u32 = 15;
    pub(super) const FLOAT: u32 = 16;
    pub(super) const DECL_TAG: u32 = 17;
    pub(super) const TYPE_TAG: u32 = 18;
    pub(super) const ENUM64: u32 = 19;
}

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

#[derive(Clone, Copy)]
struct Type<'a> {
    id: u32,
    /// Where it begins in the type section.
    at: u32,
    name: u32,
    /// Kind, number of elements and kind flag. Bits between them were unused and zero when kernels began to widen both
    /// fields into them, so the wide reading serves all.
    packed: u32,
    size_or_type: u32,
    tail: &'a [u8],
}

impl Type<'_> {
    fn kind(&self) -> u32 {
        kind_of(self.packed)
    }

    fn flag(&self) -> bool {
        self.packed >> 31 != 0
    }
}

fn kind_of(packed: u32) -> u32 {
    (packed >> 24) & 0x7f
}

/// Bytes that follow the fixed part of a type; `None` for an unknown kind.
fn tail_bytes(packed: u32) -> Option<u32> {
    let elements = packed & 0x00ff_ffff;
    Some(match kind_of(packed) {
        kind::INT | kind::VAR | kind::DECL_TAG => 4,
        kind::ARRAY => 12,
        kind::STRUCT | kind::UNION | kind::DATASEC | kind::ENUM64 => elements * 12,
        kind::ENUM | kind::FUNC_PROTO => elements * 8,
        kind::PTR
        | kind::FWD
        | kind::TYPEDEF
        | kind::VOLATILE
        | kind::CONST
        | kind::RESTRICT
        | kind::FUNC
        | kind::FLOAT
        | kind::TYPE_TAG => 0,
        _ => return None,
    })
}

/// Types in order of their ids. Ends after the first error.
struct Walk<'a> {
    types: &'a [u8],
    at: u32,
    /// Id of the type that came last.
    id: u32,
}

impl<'a> Walk<'a> {
    fn new(types: &'a [u8]) -> Self {
        Self { types, at: 0, id: 0 }
    }

    fn read(&self) -> Result<(Type<'a>, u32), BtfError> {
        let id = self.id + 1;
        let cut = BtfError::Truncated(id);
        let rest = usize::try_from(self.at).ok().and_then(|at| self.types.get(at..)).ok_or(cut)?;
        let (head, rest) = rest.split_first_chunk::<{ TYPE_BYTES as usize }>().ok_or(cut)?;
        let [n0, n1, n2, n3, p0, p1, p2, p3, s0, s1, s2, s3] = *head;
        let packed = u32::from_ne_bytes([p0, p1, p2, p3]);
        let more = tail_bytes(packed).ok_or(BtfError::Kind { id, kind: kind_of(packed) })?;
        let tail = usize::try_from(more).ok().and_then(|more| rest.get(..more)).ok_or(cut)?;
        let ty = Type {
            id,
            at: self.at,
            name: u32::from_ne_bytes([n0, n1, n2, n3]),
            packed,
            size_or_type: u32::from_ne_bytes([s0, s1, s2, s3]),
            tail,
        };
        let end = self.at.checked_add(TYPE_BYTES).and_then(|at| at.checked_add(more)).ok_or(cut)?;
        Ok((ty, end))
    }
}

impl<'a> Iterator for Walk<'a> {
    type Item = Result<Type<'a>, BtfError>;

    fn next(&mut self) -> Option<Self::Item> {
        if usize::try_from(self.at).is_ok_and(|at| at >= self.types.len()) {
            return None;
        }
        match self.read() {
            Ok((ty, end)) => {
                self.at = end;
                self.id = ty.id;
                Some(Ok(ty))
            }
            Err(why) => {
                self.types = &[];
                Some(Err(why))
            }
        }
    }
}

fn sections(bytes: &[u8]) -> Result<(&[u8], &[u8]), BtfError> {
    let short = BtfError::Short(bytes.len());
    let &[m0, m1, version, _flags, ..] = bytes else { return Err(short) };
    let magic = u16::from_ne_bytes([m0, m1]);
    if magic != MAGIC {
        return Err(BtfError::Magic(magic));
    }
    if version != 1 {
        return Err(BtfError::Version(version));
    }
    let word = |at| u32_at(bytes, at).ok_or(short);
    let (header, type_at, type_bytes) = (word(4)?, word(8)?, word(12)?);
    let (text_at, text_bytes) = (word(16)?, word(20)?);
    if header < HEADER_BYTES {
        return Err(BtfError::Section("header"));
    }
    let types = section(bytes, header, type_at, type_bytes).ok_or(BtfError::Section("type"))?;
    let strings = section(bytes, header, text_at, text_bytes).ok_or(BtfError::Section("string"))?;
    Ok((types, strings))
}

fn section(bytes: &[u8], header: u32, at: u32, length: u32) -> Option<&[u8]> {
    let start = usize::try_from(header.checked_add(at)?).ok()?;
    bytes.get(start..)?.get(..usize::try_from(length).ok()?)
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    bytes.get(at..).and_then(|rest| rest.first_chunk()).map(|word| u32::from_ne_bytes(*word))
}

/// Whether the zero-terminated string at the start of `text` is `name`.
fn is_text(text: &[u8], name: &str) -> bool {
    text.strip_prefix(name.as_bytes()).is_some_and(|rest| rest.first() == Some(&0))
}
