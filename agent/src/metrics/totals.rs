//! What histograms of every kind keep beside their buckets, and buckets that lie close together.

/// Sum and range of values of one small unit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Totals {
    sum: u128,
    least: u64,
    greatest: u64,
}

impl Default for Totals {
    fn default() -> Self {
        Self { sum: 0, least: u64::MAX, greatest: 0 }
    }
}

impl Totals {
    pub(super) fn record(&mut self, value: u64) {
        self.sum += u128::from(value);
        self.least = self.least.min(value);
        self.greatest = self.greatest.max(value);
    }

    pub(super) fn sum(&self) -> u128 {
        self.sum
    }

    /// The least and the greatest; `None` where there are none.
    pub(super) fn range(&self) -> Option<(u64, u64)> {
        (self.least <= self.greatest).then_some((self.least, self.greatest))
    }

    /// Takes off what an earlier state had summed. The range stays.
    pub(super) fn subtract(&mut self, earlier: &Self) {
        self.sum = self.sum.saturating_sub(earlier.sum);
    }
}

/// Counts by index, held from the lowest index counted to the highest. Whoever counts bounds how far these lie apart.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Buckets {
    offset: i32,
    counts: Vec<u64>,
}

impl Buckets {
    /// Counts at an index.
    pub(super) fn add(&mut self, index: i32, count: u64) {
        if self.counts.is_empty() {
            self.offset = index;
        }
        if let Ok(missing @ 1..) = usize::try_from(self.offset - index) {
            self.counts.splice(0..0, std::iter::repeat_n(0, missing));
            self.offset = index;
        }
        let at = usize::try_from(index - self.offset).unwrap_or(0);
        if at >= self.counts.len() {
            self.counts.resize(at + 1, 0);
        }
        if let Some(slot) = self.counts.get_mut(at) {
            *slot += count;
        }
    }

    /// Takes counts off, as far as there are any.
    pub(super) fn remove(&mut self, index: i32, count: u64) {
        let at = usize::try_from(index - self.offset).ok();
        if let Some(slot) = at.and_then(|at| self.counts.get_mut(at)) {
            *slot = slot.saturating_sub(count);
        }
    }

    /// Index of the first count, and the counts.
    pub(super) fn dense(&self) -> (i32, &[u64]) {
        (self.offset, &self.counts)
    }

    /// Indices and their counts.
    pub(super) fn iter(&self) -> impl Iterator<Item = (i32, u64)> {
        (self.offset..).zip(self.counts.iter().copied())
    }

    /// The indices held; `None` where there are none.
    pub(super) fn bounds(&self) -> Option<(i32, i32)> {
        let beyond_first =
            i32::try_from(self.counts.len()).unwrap_or(i32::MAX).checked_sub(1).filter(|n| *n >= 0)?;
        Some((self.offset, self.offset + beyond_first))
    }

    /// Forgets everything but its memory.
    pub(super) fn clear(&mut self) {
        self.counts.clear();
        self.offset = 0;
    }
}
