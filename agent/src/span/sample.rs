//! Which traces are exported: the samplers that `OTEL_TRACES_SAMPLER` names (OpenTelemetry specification, "Tracing SDK",
//! section "Sampling").
//!
//! The ratio is taken from the low 64 bits of the trace id as the SDKs for Go, Rust, Python and Ruby do: sampled is what lies
//! below the ratio's share of their range. Whoever begins a trace with such an SDK and the same ratio decides as Sonde does,
//! and all Sondes agree. The threshold of consistent probability sampling (`th` in the `ot` member of `tracestate`, which
//! samples what lies *above*) is passed on where the parent's decision is followed. Where it is not, it would be untrue and
//! is taken out; Sonde writes none of its own.

use std::borrow::Cow;

use super::TraceId;

/// Bit of the trace flags that says "sampled" (W3C Trace Context, section 3.2.2.5.1).
pub const SAMPLED: u8 = 0x01;

/// Decides by trace: all spans of one trace are exported, or none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sampler {
    /// Where a trace comes with a decision, that is followed.
    pub parent_based: bool,
    /// What is decided otherwise.
    pub root: Root,
}

/// What is decided without a parent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Root {
    /// Everything.
    AlwaysOn,
    /// Nothing.
    AlwaysOff,
    /// A share of the traces.
    Ratio(Ratio),
}

/// A share of all traces: the upper 63 of the id's low 64 bits lie below it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ratio(u64);

impl Default for Sampler {
    /// `parentbased_always_on`
    fn default() -> Self {
        Self { parent_based: true, root: Root::AlwaysOn }
    }
}

impl Ratio {
    /// `None` outside 0 to 1.
    #[must_use]
    pub fn new(share: f64) -> Option<Self> {
        const WHOLE: u64 = 1 << 63;
        if !(0.0..=1.0).contains(&share) {
            return None;
        }
        #[expect(clippy::cast_precision_loss, reason = "a power of two is exact")]
        let bound = share * WHOLE as f64;
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "between 0 and 2^63, and towards zero as the SDKs round"
        )]
        Some(Self((bound as u64).min(WHOLE)))
    }

    fn samples(self, trace: TraceId) -> bool {
        let TraceId(id) = trace;
        let low = u64::try_from(u128::from_be_bytes(id) & u128::from(u64::MAX)).unwrap_or(u64::MAX);
        low >> 1 < self.0
    }
}

impl Sampler {
    /// The flags of a trace, given those that it came with; `None` where it begins here.
    #[must_use]
    pub fn flags(&self, trace: TraceId, carried: Option<u8>, own: u8) -> u8 {
        let flags = carried.unwrap_or(own);
        let sampled = match (carried, self.root) {
            (Some(carried), _) if self.parent_based => carried & SAMPLED != 0,
            (_, Root::AlwaysOn) => true,
            (_, Root::AlwaysOff) => false,
            (_, Root::Ratio(ratio)) => ratio.samples(trace),
        };
        if sampled { flags | SAMPLED } else { flags & !SAMPLED }
    }

    /// The `tracestate` that goes with a decision over a trace that came with one.
    #[must_use]
    pub fn state<'a>(&self, carried: &'a str) -> Cow<'a, str> {
        if self.parent_based || !carried.contains("th:") {
            return Cow::Borrowed(carried);
        }
        let members = carried.split(',').filter_map(|member| {
            let Some(list) = member.strip_prefix("ot=") else { return Some(Cow::Borrowed(member)) };
            let kept: Vec<&str> = list.split(';').filter(|item| !item.starts_with("th:")).collect();
            (!kept.is_empty()).then(|| Cow::Owned(format!("ot={}", kept.join(";"))))
        });
        Cow::Owned(members.collect::<Vec<_>>().join(","))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn trace(id: u128) -> TraceId {
        TraceId(id.to_be_bytes())
    }

    fn ratio(share: f64) -> Sampler {
        Sampler { parent_based: false, root: Root::Ratio(Ratio::new(share).unwrap()) }
    }

    /// What the SDKs decide for the same ids: Go and Rust compare the upper 63 bits with `ratio * 2^63` cut off, Python all 64
    /// with `ratio * 2^64` rounded.
    #[test]
    fn the_ratio_is_that_of_the_sdks() {
        for share in [0.0, 1e-9, 0.001, 0.01, 0.1, 0.25, 1.0 / 3.0, 0.5, 0.9, 0.999_999, 1.0] {
            let go = (share * 9_223_372_036_854_775_808.0) as u64;
            let python = (share * 18_446_744_073_709_551_616.0_f64).round() as u128;
            let sampler = ratio(share);
            let mut id = 0x9e37_79b9_7f4a_7c15_f39c_c060_5ced_c835_u128;
            for _ in 0..20_000 {
                id = id.wrapping_mul(0xda94_2042_e4dd_58b5_da94_2042_e4dd_58b5).wrapping_add(1);
                let low = id as u64;
                let sampled = sampler.flags(trace(id), None, 0) == SAMPLED;
                assert_eq!(sampled, low >> 1 < go, "{share} {low:x}");
                assert_eq!(sampled, u128::from(low) < python, "{share} {low:x}");
            }
        }
    }

    #[test]
    fn a_higher_ratio_samples_what_a_lower_one_does() {
        let shares = [0.0, 0.01, 0.1, 0.5, 0.99, 1.0];
        let mut sampled = [0; 6];
        for n in 0..100_000_u128 {
            let id = trace(n.wrapping_mul(0x9e37_79b9_7f4a_7c15_f39c_c060_5ced_c835));
            let mut below = false;
            for (share, sampled) in shares.into_iter().zip(&mut sampled) {
                let now = ratio(share).flags(id, None, 0) == SAMPLED;
                assert!(now || !below);
                below = now;
                *sampled += u32::from(now);
            }
        }
        assert_eq!((sampled[0], sampled[5]), (0, 100_000));
        assert!((900..1100).contains(&sampled[1]) && (49_000..51_000).contains(&sampled[3]), "{sampled:?}");
    }

    #[test]
    fn parents_are_followed_or_not() {
        let id = trace(u128::MAX);
        let check = |parent_based, root, own: [u8; 3]| {
            let sampler = Sampler { parent_based, root };
            let flags = |carried| sampler.flags(id, carried, 0x03);
            assert_eq!([flags(None), flags(Some(0x02)), flags(Some(0x01))], own, "{sampler:?}");
        };
        let none = Root::Ratio(Ratio::new(0.5).unwrap());
        check(true, Root::AlwaysOn, [0x03, 0x02, 0x01]);
        check(true, Root::AlwaysOff, [0x02, 0x02, 0x01]);
        check(true, none, [0x02, 0x02, 0x01]);
        check(false, Root::AlwaysOn, [0x03, 0x03, 0x01]);
        check(false, Root::AlwaysOff, [0x02, 0x02, 0x00]);
        check(false, none, [0x02, 0x02, 0x00]);
    }

    #[test]
    fn a_threshold_that_was_not_followed_is_taken_out() {
        let follows = Sampler::default();
        let alone = ratio(0.5);
        for (state, expected) in [
            ("", ""),
            ("a=1", "a=1"),
            ("ot=th:8", ""),
            ("a=1,ot=rv:12345678901234;th:8,b=2", "a=1,ot=rv:12345678901234,b=2"),
            ("x=th:8", "x=th:8"),
        ] {
            assert_eq!(follows.state(state), state);
            assert_eq!(alone.state(state), expected);
        }
    }

    #[test]
    fn shares_outside_their_range_are_none() {
        assert!([-0.1, 1.1, f64::NAN, f64::INFINITY].into_iter().all(|share| Ratio::new(share).is_none()));
    }
}
