//! How BTF lies in its bytes (include/uapi/linux/btf.h).

use super::BtfError;

const HEADER_BYTES: u32 = 24;
const TYPE_BYTES: u32 = 12;
/// One member of a structure or union: name, type, offset.
pub(super) const MEMBER_BYTES: usize = 12;
const MAGIC: u16 = 0xeb9f;

/// `BTF_KIND_*` of include/uapi/linux/btf.h.
pub(super) mod kind {
    pub(in super::super) const INT: u32 = 1;
    pub(in super::super) const PTR: u32 = 2;
    pub(in super::super) const ARRAY: u32 = 3;
    pub(in super::super) const STRUCT: u32 = 4;
    pub(in super::super) const UNION: u32 = 5;
    pub(in super::super) const ENUM: u32 = 6;
    pub(in super::super) const FWD: u32 = 7;
    pub(in super::super) const TYPEDEF: u32 = 8;
    pub(in super::super) const VOLATILE: u32 = 9;
    pub(in super::super) const CONST: u32 = 10;
    pub(in super::super) const RESTRICT: u32 = 11;
    pub(in super::super) const FUNC: u32 = 12;
    pub(in super::super) const FUNC_PROTO: u32 = 13;
    pub(in super::super) const VAR: u32 = 14;
    pub(in super::super) const DATASEC: u32 = 15;
    pub(in super::super) const FLOAT: u32 = 16;
    pub(in super::super) const DECL_TAG: u32 = 17;
    pub(in super::super) const TYPE_TAG: u32 = 18;
    pub(in super::super) const ENUM64: u32 = 19;
}

#[derive(Clone, Copy)]
pub(super) struct Type<'a> {
    pub(super) id: u32,
    /// Where it begins in the type section.
    pub(super) at: u32,
    /// Where its name is in the string section.
    pub(super) name: u32,
    /// Kind, number of elements and kind flag. Bits between them were unused and zero when kernels began to widen both
    /// fields into them, so the wide reading serves all.
    packed: u32,
    /// Bytes that it takes, or the type that it refers to.
    pub(super) size_or_type: u32,
    /// What follows the fixed part.
    pub(super) tail: &'a [u8],
}

impl Type<'_> {
    pub(super) fn kind(&self) -> u32 {
        kind_of(self.packed)
    }

    /// Members carry bitfield widths.
    pub(super) fn flag(&self) -> bool {
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
pub(super) struct Walk<'a> {
    pub(super) types: &'a [u8],
    pub(super) at: u32,
    /// Id of the type that came last.
    pub(super) id: u32,
}

impl<'a> Walk<'a> {
    pub(super) fn new(types: &'a [u8]) -> Self {
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

/// The type and the string section.
pub(super) fn sections(bytes: &[u8]) -> Result<(&[u8], &[u8]), BtfError> {
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

pub(super) fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    bytes.get(at..).and_then(|rest| rest.first_chunk()).map(|word| u32::from_ne_bytes(*word))
}

/// Whether the zero-terminated string at the start of `text` is `name`.
pub(super) fn is_text(text: &[u8], name: &str) -> bool {
    text.strip_prefix(name.as_bytes()).is_some_and(|rest| rest.first() == Some(&0))
}
