//! Histograms whose buckets grow with the values. OpenTelemetry specification, metrics SDK, "Base2 Exponential Bucket
//! Histogram Aggregation"; data model, "ExponentialHistogram".

use super::totals::{Buckets, Totals};

/// The scale that counting begins with: buckets differ by less than a millionth.
const MAX_SCALE: i32 = 20;

/// Buckets at most. Where values are too far apart for that, two buckets become one, as often as it takes.
const MAX_SIZE: usize = 160;

/// Counts values of a unit that is an integer number of a small one, such as seconds of nanoseconds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Exponential {
    scale: i32,
    zeros: u64,
    buckets: Buckets,
    count: u64,
    totals: Totals,
}

impl Default for Exponential {
    fn default() -> Self {
        let (buckets, totals) = (Buckets::default(), Totals::default());
        Self { scale: MAX_SCALE, zeros: 0, buckets, count: 0, totals }
    }
}

impl Exponential {
    /// Counts a value of the small unit, of which the large one has `per_unit`.
    pub fn record(&mut self, value: u64, per_unit: f64) {
        self.count += 1;
        self.totals.record(value);
        if value == 0 {
            self.zeros += 1;
            return;
        }
        let mut index = index(value as f64 / per_unit, self.scale);
        let excess = self.excess(index);
        if excess > 0 {
            self.downscale(excess);
            index >>= excess;
        }
        self.buckets.add(index, 1);
    }

    /// How often buckets have to be halved so that one more index fits beside those that there are.
    fn excess(&self, index: i32) -> u32 {
        let (first, last) = self.buckets.bounds().unwrap_or((index, index));
        let (mut low, mut high) = (index.min(first), index.max(last));
        let mut times = 0;
        while usize::try_from(high - low).is_ok_and(|width| width >= MAX_SIZE) {
            (low, high) = (low >> 1, high >> 1);
            times += 1;
        }
        times
    }

    /// Makes one bucket of each `2^times` neighbours: index `i` becomes `i >> times`.
    fn downscale(&mut self, times: u32) {
        let mut merged = Buckets::default();
        self.buckets.iter().for_each(|(index, count)| merged.add(index >> times, count));
        self.buckets = merged;
        self.scale -= i32::try_from(times).unwrap_or(0);
    }

    /// Values counted.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.count
    }

    /// Their sum, in the small unit.
    #[must_use]
    pub fn sum(&self) -> u128 {
        self.totals.sum()
    }

    /// The least and the greatest in the small unit; `None` where there are none.
    #[must_use]
    pub fn range(&self) -> Option<(u64, u64)> {
        self.totals.range()
    }

    /// Values that are zero.
    #[must_use]
    pub fn zeros(&self) -> u64 {
        self.zeros
    }

    /// Resolution.
    #[must_use]
    pub fn scale(&self) -> i32 {
        self.scale
    }

    /// Index of the first bucket, and the values in each.
    #[must_use]
    pub fn buckets(&self) -> (i32, &[u64]) {
        self.buckets.dense()
    }

    /// Forgets everything, the scale too: what comes may lie closer together.
    pub fn clear(&mut self) {
        let mut buckets = std::mem::take(&mut self.buckets);
        buckets.clear();
        *self = Self { buckets, ..Self::default() };
    }
}

/// The bucket of a positive, normal number: `ceil(log2(value) * 2^scale) - 1`.
fn index(value: f64, scale: i32) -> i32 {
    let bits = value.to_bits();
    let exponent = i32::try_from(bits >> 52).unwrap_or(0) - 1023;
    let fraction = bits & ((1 << 52) - 1);
    if scale <= 0 {
        // A power of two is the upper bound of its bucket.
        let whole = if fraction == 0 { exponent - 1 } else { exponent };
        return whole >> scale.unsigned_abs().min(31);
    }
    let per_doubling = f64::from(1_u32 << scale.unsigned_abs().min(20));
    if fraction == 0 {
        return exponent * (1 << scale) - 1;
    }
    // The logarithm of the mantissa alone: that of the whole number would be rounded more coarsely the larger the exponent is.
    let mantissa = f64::from_bits(fraction | 1023 << 52);
    let within = (mantissa.log2() * per_doubling).ceil() as i32 - 1;
    exponent * (1 << scale) + within.clamp(0, (1 << scale) - 1)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const NANOS: f64 = 1e9;

    fn of(values: &[u64]) -> Exponential {
        let mut histogram = Exponential::default();
        values.iter().for_each(|value| histogram.record(*value, NANOS));
        histogram
    }

    /// The finest scale at which all values fit, and the buckets there, by the definition alone.
    fn oracle(values: &[u64]) -> (i32, Vec<(i32, u64)>) {
        let at = |value: u64, scale: i32| {
            let exact = (value as f64 / NANOS).log2() * f64::from(scale).exp2();
            exact.ceil() as i32 - 1
        };
        let positive: Vec<u64> = values.iter().copied().filter(|value| *value > 0).collect();
        let fits = |scale: &i32| {
            let low = positive.iter().map(|value| at(*value, *scale)).min().unwrap_or(0);
            let high = positive.iter().map(|value| at(*value, *scale)).max().unwrap_or(0);
            high - low < MAX_SIZE as i32
        };
        let scale = (-10..=MAX_SCALE).rev().find(fits).unwrap();
        let mut counts = std::collections::BTreeMap::new();
        positive.iter().for_each(|value| *counts.entry(at(*value, scale)).or_default() += 1);
        (scale, counts.into_iter().collect())
    }

    fn told(histogram: &Exponential) -> (i32, Vec<(i32, u64)>) {
        let (offset, buckets) = histogram.buckets();
        let full = (offset..).zip(buckets.iter().copied()).filter(|(_, count)| *count > 0);
        (histogram.scale(), full.collect())
    }

    #[test]
    fn powers_of_two_are_upper_bounds_at_every_scale() {
        for scale in -10..=MAX_SCALE {
            for exponent in [-30, -1, 0, 1, 13] {
                let bound = f64::from(exponent).exp2();
                let above = index(f64::from_bits(bound.to_bits() + 1), scale);
                assert_eq!(index(bound, scale) + 1, above.max(index(bound, scale) + 1), "{scale} {exponent}");
                if scale >= 0 {
                    assert_eq!(index(bound, scale), exponent * (1 << scale) - 1);
                    assert_eq!(above, exponent * (1 << scale));
                }
            }
        }
        // Scale -1: (1, 4] is bucket 0, (0.25, 1] is bucket -1.
        assert_eq!([0.25, 0.26, 1.0, 1.1, 4.0, 4.1].map(|value| index(value, -1)), [-2, -1, -1, 0, 0, 1]);
    }

    #[test]
    fn two_far_values_cost_resolution_and_zeros_do_not() {
        let near = of(&[0, 0, 1_000_000, 1_000_000]);
        assert_eq!((near.scale(), near.zeros(), near.count()), (MAX_SCALE, 2, 4));
        let far = of(&[1, u64::MAX]);
        assert_eq!(told(&far).0, oracle(&[1, u64::MAX]).0);
        assert!(far.buckets().1.len() <= MAX_SIZE);
    }

    #[test]
    fn forgetting_takes_the_resolution_back() {
        let mut histogram = of(&[1, u64::MAX, 0]);
        histogram.clear();
        assert_eq!(histogram, Exponential::default());
        histogram.record(5, NANOS);
        assert_eq!(histogram.scale(), MAX_SCALE);
    }

    proptest! {
        #[test]
        fn counts_are_those_of_the_definition(values in proptest::collection::vec(prop_oneof![1_u64..100_000_000_000, 900_000_u64..1_100_000, Just(0)], 0..200)) {
            let histogram = of(&values);
            let (scale, counts) = oracle(&values);
            prop_assert_eq!(histogram.count(), values.len() as u64);
            prop_assert_eq!(histogram.sum(), values.iter().map(|value| u128::from(*value)).sum::<u128>());
            // At the finest scales the definition's own rounding may move a value to the next bucket.
            if scale <= 12 {
                prop_assert_eq!(told(&histogram), (scale, counts));
            } else {
                prop_assert!((histogram.scale() - scale).abs() <= 1);
            }
        }

        #[test]
        fn every_value_lies_in_its_bucket(value in 1_u64..u64::MAX, scale in -10..=MAX_SCALE) {
            let seconds = value as f64 / NANOS;
            let base = f64::from(-scale).exp2();
            let (low, high) = (f64::from(index(seconds, scale)) * base, f64::from(index(seconds, scale) + 1) * base);
            prop_assert!(seconds > low.exp2() * (1.0 - 1e-12) && seconds <= high.exp2() * (1.0 + 1e-12), "{seconds} {low} {high}");
        }

        #[test]
        fn the_order_of_values_does_not_matter(mut values in proptest::collection::vec(1_u64..10_000_000_000, 1..60)) {
            let forwards = told(&of(&values));
            values.reverse();
            prop_assert_eq!(forwards, told(&of(&values)));
        }
    }
}
