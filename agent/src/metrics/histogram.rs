//! A base-2 exponential histogram of durations, as OpenTelemetry's data model defines it ("ExponentialHistogram").

use super::totals::Buckets;

/// Durations in seconds, in buckets of scale 4: bucket `i` holds what is above `2^(i/16)` and at most `2^((i+1)/16)`.
///
/// Memory is eight bytes for each bucket between the shortest and the longest duration, 16 to each doubling: some 80 buckets
/// for 1 ms to 30 ms, 704 at most.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Histogram {
    /// Their indices lie in [`INDICES`].
    buckets: Buckets,
    count: u64,
    sum: u64,
    max: u64,
}

/// Indices are held between these: 2^-30 s, below a nanosecond, and 2^14 s, some four and a half hours. What is shorter or
/// longer is counted in the outermost bucket.
const INDICES: std::ops::RangeInclusive<i32> = -30 * 16..=14 * 16 - 1;

/// Fraction bits of `2^(k/16)` as an IEEE 754 double, rounded down.
const BOUNDS: [u64; 16] = [
    0x0_0000_0000_0000,
    0x0_b558_6cf9_890f,
    0x1_72b8_3c7d_517a,
    0x2_387a_6e75_6238,
    0x3_06fe_0a31_b715,
    0x3_dea6_4c12_3422,
    0x4_bfda_d536_2a27,
    0x5_ab07_dd48_5429,
    0x6_a09e_667f_3bcc,
    0x7_a114_73eb_0186,
    0x8_ace5_422a_a0db,
    0x9_c491_82a3_f090,
    0xa_e89f_995a_d3ad,
    0xc_199b_dd85_529c,
    0xd_5818_dcfb_a487,
    0xe_a4af_a2a4_90d9,
];

impl Histogram {
    /// OpenTelemetry's `scale`.
    pub const SCALE: i32 = 4;

    /// A quantile differs from the true one by at most this fraction: it is the geometric middle of its bucket, and half a
    /// bucket is a factor of `2^(1/32)`.
    pub const ERROR: f64 = 0.0219;

    /// Counts a duration in nanoseconds.
    pub fn record(&mut self, nanos: u64) {
        self.count += 1;
        self.sum = self.sum.saturating_add(nanos);
        self.max = self.max.max(nanos);
        self.buckets.add(index(nanos), 1);
    }

    /// Durations counted.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.count
    }

    /// Their sum in nanoseconds.
    #[must_use]
    pub fn sum(&self) -> u64 {
        self.sum
    }

    /// The longest in nanoseconds.
    #[must_use]
    pub fn max(&self) -> u64 {
        self.max
    }

    /// OpenTelemetry's `offset` and `bucket_counts`.
    #[must_use]
    pub fn buckets(&self) -> (i32, &[u64]) {
        self.buckets.dense()
    }

    /// The duration in nanoseconds that the fraction `q` of all does not exceed; 0 where there is none.
    #[must_use]
    pub fn quantile(&self, q: f64) -> u64 {
        let rank = ((q * self.count as f64).ceil() as u64).clamp(1, self.count.max(1));
        let mut seen = 0;
        for (bucket, count) in self.buckets.iter() {
            seen += count;
            if seen >= rank {
                let seconds = ((f64::from(bucket) + 0.5) / 16.0).exp2();
                return ((seconds * 1e9).round() as u64).min(self.max);
            }
        }
        0
    }

    /// Adds what another one counted.
    pub fn add(&mut self, other: &Self) {
        self.count += other.count;
        self.sum = self.sum.saturating_add(other.sum);
        self.max = self.max.max(other.max);
        for (bucket, count) in other.buckets.iter().filter(|(_, count)| *count > 0) {
            self.buckets.add(bucket, count);
        }
    }

    /// Takes off what an earlier state of the same histogram had counted. The longest duration stays.
    pub fn subtract(&mut self, earlier: &Self) {
        self.count = self.count.saturating_sub(earlier.count);
        self.sum = self.sum.saturating_sub(earlier.sum);
        earlier.buckets.iter().for_each(|(bucket, count)| self.buckets.remove(bucket, count));
    }
}

/// The bucket of a duration: exponent and fraction of the number of seconds, looked up instead of computed by a logarithm.
fn index(nanos: u64) -> i32 {
    let bits = (nanos.max(1) as f64 * 1e-9).to_bits();
    let exponent = i32::try_from(bits >> 52).unwrap_or(0) - 1023;
    let fraction = bits & ((1 << 52) - 1);
    // log2(1 + f) lies above f by less than 0.09, so the bucket is at most two beyond the linear guess.
    let guess = (fraction >> 48) as usize;
    let above = BOUNDS.iter().skip(guess + 1).take_while(|bound| fraction > **bound).count();
    let within = if fraction == 0 { -1 } else { i32::try_from(guess + above).unwrap_or(0) };
    (exponent * 16 + within).clamp(*INDICES.start(), *INDICES.end())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn bounds_are_the_powers_they_say() {
        for (k, bound) in (0_u32..).zip(BOUNDS) {
            let expected = (f64::from(k) / 16.0).exp2().to_bits() & ((1 << 52) - 1);
            assert!(bound.abs_diff(expected) <= 1, "{k}: {bound:#x} {expected:#x}");
        }
    }

    #[test]
    fn buckets_hold_their_upper_bound() {
        // 2^-10 s and 2^0 s: a power of two is the upper, inclusive bound of its bucket.
        assert_eq!(index(976_563), -10 * 16);
        assert_eq!(index(976_562), -10 * 16 - 1);
        assert_eq!(index(1_000_000_000), -1);
        assert_eq!(index(1_000_000_001), 0);
        assert_eq!(index(0), index(1));
        assert_eq!(index(u64::MAX), *INDICES.end());
    }

    #[test]
    fn growth_is_bounded() {
        let mut histogram = Histogram::default();
        for nanos in [0, u64::MAX, 1_000_000, 5] {
            histogram.record(nanos);
        }
        assert!(histogram.buckets().1.len() <= 704);
        assert_eq!(histogram.buckets().1.iter().sum::<u64>(), 4);
    }

    proptest! {
        #[test]
        fn every_duration_lies_in_its_bucket(nanos in 2_u64..10_000_000_000_000) {
            let seconds = nanos as f64 * 1e-9;
            let (low, high) = (f64::from(index(nanos)) / 16.0, f64::from(index(nanos) + 1) / 16.0);
            prop_assert!(seconds >= low.exp2() * (1.0 - 1e-12) && seconds <= high.exp2() * (1.0 + 1e-12));
        }

        #[test]
        fn quantiles_are_as_exact_as_promised(mut all in proptest::collection::vec(1_u64..100_000_000_000, 1..300), q in 0.0..1.0_f64) {
            let mut histogram = Histogram::default();
            all.iter().for_each(|nanos| histogram.record(*nanos));
            all.sort_unstable();
            let rank = ((q * all.len() as f64).ceil() as usize).clamp(1, all.len());
            let (truth, said) = (all[rank - 1] as f64, histogram.quantile(q) as f64);
            prop_assert!((said - truth).abs() <= truth * Histogram::ERROR + 1.0, "{said} {truth}");
        }

        #[test]
        fn subtracting_undoes_adding(first in proptest::collection::vec(1_u64..10_000_000_000, 0..50), second in proptest::collection::vec(1_u64..10_000_000_000, 0..50)) {
            let of = |all: &[u64]| { let mut h = Histogram::default(); all.iter().for_each(|n| h.record(*n)); h };
            let (earlier, later) = (of(&first), of(&second));
            let mut both = earlier.clone();
            both.add(&later);
            prop_assert_eq!(both.max(), earlier.max().max(later.max()));
            both.subtract(&earlier);
            prop_assert_eq!((both.count(), both.sum()), (later.count(), later.sum()));
            for q in [0.5, 0.95, 1.0] {
                let (undone, expected) = (both.quantile(q) as f64, later.quantile(q) as f64);
                prop_assert!((undone - expected).abs() <= expected * Histogram::ERROR + 1.0);
            }
        }
    }
}
