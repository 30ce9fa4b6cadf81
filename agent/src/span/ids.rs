//! Span and trace ids of our own making: a function of a seed and the exchange, so that a replay makes the same ones.

use super::{SpanId, TraceId};
use crate::proto::ExchangeId;

/// Makes ids. Within one seed span ids never repeat, since the mixing below maps exchanges to ids one to one.
#[derive(Clone, Copy, Debug)]
pub(super) struct Ids {
    span: u64,
    high: u64,
    low: u64,
}

impl Ids {
    pub(super) const fn new(seed: u64) -> Self {
        let span = mix(seed ^ 0x9e37_79b9_7f4a_7c15);
        let high = mix(span ^ 0xd1b5_4a32_d192_ed03);
        Self { span, high, low: mix(high ^ 0x8cb9_2ba7_2f3d_8dd7) }
    }

    /// The id of the exchange's span.
    pub(super) fn span(&self, exchange: ExchangeId) -> SpanId {
        SpanId(mix(exchange.0.wrapping_add(self.span)).max(1).to_be_bytes())
    }

    /// The id of the trace that begins with the exchange.
    pub(super) fn trace(&self, exchange: ExchangeId) -> TraceId {
        let high = mix(exchange.0.wrapping_add(self.high));
        let low = mix(exchange.0.wrapping_add(self.low)).max(1);
        TraceId((u128::from(high) << 64 | u128::from(low)).to_be_bytes())
    }
}

/// The finaliser of `SplitMix64` (Steele, Lea, Flood 2014): a permutation of the 64-bit numbers without visible pattern.
const fn mix(mut x: u64) -> u64 {
    x = x.wrapping_add(0x9e37_79b9_7f4a_7c15);
    x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ (x >> 31)
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::Ids;
    use crate::proto::ExchangeId;

    #[test]
    fn a_seed_gives_the_same_ids_again_and_each_exchange_its_own() {
        let (one, again, other) = (Ids::new(7), Ids::new(7), Ids::new(8));
        let spans: HashSet<_> = (0..100_000).map(|id| one.span(ExchangeId(id))).collect();
        let traces: HashSet<_> = (0..100_000).map(|id| one.trace(ExchangeId(id))).collect();
        assert_eq!((spans.len(), traces.len()), (100_000, 100_000));
        assert_eq!(one.span(ExchangeId(5)), again.span(ExchangeId(5)));
        assert_ne!(one.trace(ExchangeId(5)), other.trace(ExchangeId(5)));
        assert!(!spans.contains(&other.span(ExchangeId(5))));
    }
}
