//! The dynamic table (RFC 7541, section 2.3), of which perhaps only the newest entries are known.
//!
//! An index counts from the newest entry. So what was inserted since a place in the stream keeps its meaning whatever stood
//! in the table before, and whatever the encoder evicts: that can only be used no more. Where it is not known how many entries
//! were inserted, all that came before them is out of reach.
//!
//! An entry larger than the table empties it and is not inserted (section 4.4). Whether it is does not matter either: where it
//! was not, nothing before it will be used. So the encoder's limit, which after a late join nobody knows, decides what memory
//! is kept, and never what an index means.

use std::collections::VecDeque;

use super::static_table::ENTRIES;

/// Limit of a table before the encoder says another (RFC 9113, section 6.5.2).
const LIMIT: usize = 4096;
/// Of an encoder that says more, no more is kept.
const MOST: usize = 64 << 10;
/// What an entry counts beside its text (RFC 7541, section 4.1).
const OVERHEAD: usize = 32;

/// One direction's table.
#[derive(Debug)]
pub(super) struct Table {
    /// The newest first.
    entries: VecDeque<Entry>,
    /// What they count at least.
    size: usize,
    limit: usize,
    /// All entries that there ever were are known, or were.
    whole: bool,
    /// Some were evicted here, and perhaps not yet there: an index beyond the last one is no mistake.
    evicted: bool,
}

#[derive(Debug)]
struct Entry {
    name: Name,
    value: Box<[u8]>,
}

#[derive(Debug)]
enum Name {
    /// That of the static table's entry, from 0 on.
    Static(u8),
    Text(Box<[u8]>),
    Unknown,
}

/// What an index stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Referred<'a> {
    /// `None` where nobody saw it.
    pub(super) name: Option<&'a [u8]>,
    pub(super) value: Option<&'a [u8]>,
}

/// There is no such entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct NoEntry;

impl Entry {
    fn size(&self) -> usize {
        let name = match &self.name {
            Name::Static(index) => ENTRIES.get(usize::from(*index)).map_or(0, |(name, _)| name.len()),
            Name::Text(name) => name.len(),
            Name::Unknown => 0,
        };
        OVERHEAD + name + self.value.len()
    }
}

impl Table {
    /// An empty one; where not `whole`, one with entries that nobody saw.
    pub(super) fn new(whole: bool) -> Self {
        Self { entries: VecDeque::new(), size: 0, limit: LIMIT, whole, evicted: false }
    }

    /// Nobody knows how many entries were inserted.
    pub(super) fn lose(&mut self) {
        *self = Self { limit: self.limit, ..Self::new(false) };
    }

    /// What stands at an index from 1 on.
    pub(super) fn entry(&self, index: usize) -> Result<Referred<'_>, NoEntry> {
        let index = index.checked_sub(1).ok_or(NoEntry)?;
        if let Some(&(name, value)) = ENTRIES.get(index) {
            return Ok(Referred { name: Some(name), value: Some(value) });
        }
        match self.entries.get(index - ENTRIES.len()) {
            Some(Entry { name, value }) => {
                let name = match name {
                    Name::Static(index) => ENTRIES.get(usize::from(*index)).map(|&(name, _)| name),
                    Name::Text(name) => Some(&**name),
                    Name::Unknown => None,
                };
                Ok(Referred { name, value: Some(value) })
            }
            None if self.whole && !self.evicted => Err(NoEntry),
            None => Ok(Referred { name: None, value: None }),
        }
    }

    /// Inserts a field whose name is that of an index.
    pub(super) fn insert_named(&mut self, index: usize, value: &[u8]) {
        let name = match u8::try_from(index.wrapping_sub(1)) {
            Ok(at) if usize::from(at) < ENTRIES.len() => Name::Static(at),
            _ => match self.entry(index) {
                Ok(Referred { name: Some(name), .. }) => Name::Text(name.into()),
                _ => Name::Unknown,
            },
        };
        self.push(name, value);
    }

    /// Inserts a field.
    pub(super) fn insert(&mut self, name: &[u8], value: &[u8]) {
        self.push(Name::Text(name.into()), value);
    }

    fn push(&mut self, name: Name, value: &[u8]) {
        let entry = Entry { name, value: value.into() };
        self.size += entry.size();
        self.entries.push_front(entry);
        self.evict();
    }

    /// The encoder's new limit (section 4.2).
    pub(super) fn resize(&mut self, limit: usize) {
        self.limit = limit.min(MOST);
        self.evict();
        // A limit of nothing clears the table, and that is the end of what nobody saw, too.
        if limit == 0 {
            self.whole = true;
            self.evicted = false;
            self.entries = VecDeque::new();
        }
    }

    fn evict(&mut self) {
        while self.size > self.limit
            && let Some(oldest) = self.entries.pop_back()
        {
            self.size = self.size.saturating_sub(oldest.size());
            self.evicted = true;
        }
    }

    /// Bytes that it keeps.
    pub(super) fn kept(&self) -> usize {
        self.size
    }

    /// The names that stand in it were all seen.
    pub(super) fn is_whole(&self) -> bool {
        self.whole
    }
}
