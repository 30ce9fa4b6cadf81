//! Slots in the order in which they were last used: what a bounded table evicts from.

/// Entries in slots that keep their number, linked from the least to the most recently used one.
#[derive(Debug)]
pub(crate) struct Recency<T> {
    slots: Vec<Slot<T>>,
    free: Vec<u32>,
    /// Least and most recently used.
    ends: Option<(u32, u32)>,
}

#[derive(Debug)]
struct Slot<T> {
    entry: Option<T>,
    older: Option<u32>,
    newer: Option<u32>,
}

impl<T> Default for Recency<T> {
    fn default() -> Self {
        Self { slots: Vec::new(), free: Vec::new(), ends: None }
    }
}

impl<T> Recency<T> {
    pub(crate) fn len(&self) -> usize {
        self.slots.len() - self.free.len()
    }

    pub(crate) fn get_mut(&mut self, slot: u32) -> Option<&mut T> {
        self.slots.get_mut(slot as usize)?.entry.as_mut()
    }

    /// Adds an entry as the most recently used one.
    pub(crate) fn insert(&mut self, entry: T) -> u32 {
        let new = Slot { entry: Some(entry), older: None, newer: None };
        let slot = match self.free.pop() {
            Some(slot) => {
                if let Some(place) = self.slots.get_mut(slot as usize) {
                    *place = new;
                }
                slot
            }
            None => {
                self.slots.push(new);
                // Bounded by the table's limit, far below 2^32.
                (self.slots.len() - 1) as u32
            }
        };
        self.link(slot);
        slot
    }

    pub(crate) fn remove(&mut self, slot: u32) -> Option<T> {
        let entry = self.slots.get_mut(slot as usize)?.entry.take()?;
        self.unlink(slot);
        self.free.push(slot);
        Some(entry)
    }

    /// Makes an entry the most recently used one.
    pub(crate) fn touch(&mut self, slot: u32) {
        if self.ends.is_some_and(|(_, newest)| newest != slot) {
            self.unlink(slot);
            self.link(slot);
        }
    }

    /// The least recently used one.
    pub(crate) fn oldest(&self) -> Option<u32> {
        self.ends.map(|(oldest, _)| oldest)
    }

    /// The next one in order of use.
    pub(crate) fn newer(&self, slot: u32) -> Option<u32> {
        self.slots.get(slot as usize)?.newer
    }

    fn link(&mut self, slot: u32) {
        let newest = self.ends.map(|(_, newest)| newest);
        if let Some(place) = self.slots.get_mut(slot as usize) {
            place.older = newest;
            place.newer = None;
        }
        if let Some(place) = newest.and_then(|newest| self.slots.get_mut(newest as usize)) {
            place.newer = Some(slot);
        }
        self.ends = Some((self.ends.map_or(slot, |(oldest, _)| oldest), slot));
    }

    fn unlink(&mut self, slot: u32) {
        let Some(place) = self.slots.get_mut(slot as usize) else { return };
        let (older, newer) = (place.older.take(), place.newer.take());
        if let Some(place) = older.and_then(|older| self.slots.get_mut(older as usize)) {
            place.newer = newer;
        }
        if let Some(place) = newer.and_then(|newer| self.slots.get_mut(newer as usize)) {
            place.older = older;
        }
        self.ends = match (self.ends, older, newer) {
            (_, None, None) => None,
            (Some((_, newest)), None, Some(newer)) => Some((newer, newest)),
            (Some((oldest, _)), Some(older), None) => Some((oldest, older)),
            (ends, ..) => ends,
        };
    }
}

#[cfg(test)]
mod tests {
    use super::Recency;

    fn order(recency: &Recency<char>) -> String {
        std::iter::successors(recency.oldest(), |&slot| recency.newer(slot))
            .filter_map(|slot| recency.slots[slot as usize].entry)
            .collect()
    }

    #[test]
    fn order_of_use() {
        let mut recency = Recency::default();
        let [a, b, c] = ['a', 'b', 'c'].map(|entry| recency.insert(entry));
        assert_eq!(order(&recency), "abc");
        recency.touch(b);
        assert_eq!(order(&recency), "acb");
        recency.touch(b);
        recency.touch(a);
        assert_eq!(order(&recency), "cba");
        assert_eq!(recency.remove(b), Some('b'));
        assert_eq!((order(&recency).as_str(), recency.len()), ("ca", 2));
        assert_eq!(recency.remove(b), None);
        recency.remove(c);
        recency.remove(a);
        assert_eq!((order(&recency).as_str(), recency.len()), ("", 0));
        assert_eq!(recency.insert('d'), a);
        assert_eq!(order(&recency), "d");
    }
}
