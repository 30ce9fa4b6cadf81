//! HPACK (RFC 7541) as one decoder among two sees it: passively, perhaps from the middle on, perhaps with blocks missing.
//!
//! What is not known stays unknown: a field whose entry was inserted before the first block that was seen, or in one that was
//! lost, comes without a value, or without a name too. No field ever comes with a wrong one.

mod huffman;
mod integer;
mod static_table;
mod table;

use self::integer::Reader;
use self::table::{NoEntry, Referred, Table};

/// Bytes of scratch memory that are kept from one block to the next.
const KEPT: usize = 1024;

/// A header field.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Field<'a> {
    /// Lower-case name; `None` where nobody saw it.
    pub name: Option<&'a [u8]>,
    /// Value; `None` where nobody saw it.
    pub value: Option<&'a [u8]>,
}

/// Why a block could not be read to its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Broken {
    /// It ends within a field.
    Cut,
    /// It is none.
    Invalid,
}

impl From<NoEntry> for Broken {
    fn from(NoEntry: NoEntry) -> Self {
        Self::Invalid
    }
}

/// Reads the header blocks of one direction of one connection.
#[derive(Debug)]
pub struct Decoder {
    table: Table,
    /// Texts that had to be put together.
    name: Vec<u8>,
    value: Vec<u8>,
}

/// Where a text stands.
enum Place<'a> {
    Block(&'a [u8]),
    Scratch,
}

impl Decoder {
    /// For a direction whose first block is the first one that there was; with `joined`, for one where nobody knows.
    #[must_use]
    pub fn new(joined: bool) -> Self {
        Self { table: Table::new(!joined), name: Vec::new(), value: Vec::new() }
    }

    /// A block was lost, or the end of one: what stands in the table now, nobody knows.
    pub fn lose(&mut self) {
        self.table.lose();
    }

    /// Reads a block and shows its fields in their order. Where it breaks off, what was shown is right, and the blocks
    /// behind it are read as after [`Decoder::lose`].
    ///
    /// # Errors
    /// The block ends within a field, or is none.
    pub fn block(&mut self, block: &[u8], mut show: impl FnMut(Field<'_>)) -> Result<(), Broken> {
        let mut reader = Reader(block);
        let mut read = Ok(());
        while read.is_ok()
            && let Some(first) = reader.peek()
        {
            read = self.field(first, &mut reader, &mut show);
        }
        if read.is_err() {
            self.table.lose();
        }
        for scratch in [&mut self.name, &mut self.value] {
            scratch.clear();
            scratch.shrink_to(KEPT);
        }
        read
    }

    /// Bytes that it keeps.
    #[must_use]
    pub fn kept(&self) -> usize {
        self.table.kept() + self.name.capacity() + self.value.capacity()
    }

    /// Every entry that there is was seen.
    #[must_use]
    pub fn is_whole(&self) -> bool {
        self.table.is_whole()
    }

    /// One representation: RFC 7541, section 6.
    fn field(
        &mut self,
        first: u8,
        reader: &mut Reader<'_>,
        show: &mut impl FnMut(Field<'_>),
    ) -> Result<(), Broken> {
        // Indexed.
        if first & 0x80 != 0 {
            let Referred { name, value } = self.table.entry(reader.integer(7)?)?;
            show(Field { name, value });
            return Ok(());
        }
        if first & 0xe0 == 0x20 {
            let limit = reader.integer(5)?;
            self.table.resize(limit);
            return Ok(());
        }
        // A literal: inserted, or not, or never, in which case proxies must not insert it either.
        let inserted = first & 0x40 != 0;
        let index = reader.integer(if inserted { 6 } else { 4 })?;
        let name = if index == 0 { Some(text(reader, &mut self.name)?) } else { None };
        let value = match text(reader, &mut self.value)? {
            Place::Block(bytes) => bytes,
            Place::Scratch => &self.value,
        };
        match name {
            Some(place) => {
                let name = match place {
                    Place::Block(bytes) => bytes,
                    Place::Scratch => &self.name,
                };
                show(Field { name: Some(name), value: Some(value) });
                if inserted {
                    self.table.insert(name, value);
                }
            }
            None => {
                let Referred { name, .. } = self.table.entry(index)?;
                show(Field { name, value: Some(value) });
                if inserted {
                    self.table.insert_named(index, value);
                }
            }
        }
        Ok(())
    }
}

/// A text (section 5.2), in `scratch` where it was coded.
fn text<'a>(reader: &mut Reader<'a>, scratch: &mut Vec<u8>) -> Result<Place<'a>, Broken> {
    let coded = reader.peek().ok_or(Broken::Cut)? & 0x80 != 0;
    let length = reader.integer(7)?;
    let bytes = reader.bytes(length)?;
    if !coded {
        return Ok(Place::Block(bytes));
    }
    scratch.clear();
    huffman::decode(bytes, scratch)?;
    Ok(Place::Scratch)
}

#[cfg(test)]
pub(super) mod tests;
