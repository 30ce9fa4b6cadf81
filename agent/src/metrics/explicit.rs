//! Histograms with given bounds. OpenTelemetry specification, metrics SDK, "Explicit Bucket Histogram Aggregation".

use super::totals::Totals;

/// Counts values in buckets. Values and bounds are integers of one small unit, nanoseconds or bytes: whether a value meets a
/// bound is exact, and sums are the same in whatever portions they are collected.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Explicit {
    counts: Box<[u64]>,
    totals: Totals,
}

impl Explicit {
    /// An empty one with as many bounds.
    #[must_use]
    pub fn new(bounds: usize) -> Self {
        Self { counts: vec![0; bounds + 1].into_boxed_slice(), totals: Totals::default() }
    }

    /// Counts a value that belongs into `bucket`, which [`bucket`] says.
    pub fn record(&mut self, bucket: usize, value: u64) {
        if let Some(count) = self.counts.get_mut(bucket) {
            *count += 1;
        }
        self.totals.record(value);
    }

    /// Values counted.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.counts.iter().sum()
    }

    /// Their sum.
    #[must_use]
    pub fn sum(&self) -> u128 {
        self.totals.sum()
    }

    /// The least and the greatest; `None` where there are none.
    #[must_use]
    pub fn range(&self) -> Option<(u64, u64)> {
        self.totals.range()
    }

    /// Values in each bucket.
    #[must_use]
    pub fn buckets(&self) -> &[u64] {
        &self.counts
    }

    /// Takes off what an earlier state had counted. The range stays.
    pub(super) fn subtract(&mut self, earlier: &Self) {
        for (count, before) in self.counts.iter_mut().zip(&earlier.counts) {
            *count = count.saturating_sub(*before);
        }
        self.totals.subtract(&earlier.totals);
    }

    /// Forgets everything.
    pub fn clear(&mut self) {
        self.counts.fill(0);
        self.totals = Totals::default();
    }
}

/// The bucket of a value: the first whose upper, inclusive bound is not below it.
#[must_use]
pub(super) fn bucket(bounds: &[u64], value: u64) -> usize {
    bounds.partition_point(|bound| *bound < value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bound_belongs_to_the_bucket_below_it() {
        let bounds = [0, 10, 20];
        let buckets = [0, 1, 9, 10, 11, 20, 21, u64::MAX].map(|value| bucket(&bounds, value));
        assert_eq!(buckets, [0, 1, 1, 1, 2, 2, 3, 3]);
        assert_eq!(bucket(&[], 5), 0);
    }

    #[test]
    fn what_is_counted_is_told() {
        let mut histogram = Explicit::new(2);
        assert_eq!((histogram.count(), histogram.sum(), histogram.range()), (0, 0, None));
        for (bucket, value) in [(0, 3), (2, u64::MAX), (2, 50)] {
            histogram.record(bucket, value);
        }
        assert_eq!((histogram.count(), histogram.sum()), (3, u128::from(u64::MAX) + 53));
        assert_eq!((histogram.range(), histogram.buckets()), (Some((3, u64::MAX)), [1, 0, 2].as_slice()));
        histogram.clear();
        assert_eq!(histogram, Explicit::new(2));
    }
}
