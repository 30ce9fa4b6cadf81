//! Comparisons without branches: a bit or a mask says yes or no. `hide` gives back the number that it is given, so that neither
//! compiler nor verifier makes branches of arithmetic.

/// 1 where a number below 2^63 is zero.
#[inline(always)]
pub(crate) fn zero(number: u64, hide: &impl Fn(u64) -> u64) -> u64 {
    hide(hide(number).wrapping_sub(1) >> 63)
}

/// 1 where `a < b`, both below 2^63.
#[inline(always)]
pub(crate) fn below(a: u64, b: u64, hide: &impl Fn(u64) -> u64) -> u64 {
    hide(hide(a).wrapping_sub(b) >> 63)
}

/// All ones where two numbers are the same.
#[inline(always)]
pub(crate) fn equal(a: u64, b: u64, hide: &impl Fn(u64) -> u64) -> u64 {
    let differing = a ^ b;
    mask(zero(differing >> 1 | differing & 1, hide), hide)
}

/// All ones for 1.
#[inline(always)]
pub(crate) fn mask(bit: u64, hide: &impl Fn(u64) -> u64) -> u64 {
    hide(bit.wrapping_neg())
}

/// The smaller of two numbers below 2^63.
#[inline(always)]
pub(crate) fn least(a: u64, b: u64, hide: &impl Fn(u64) -> u64) -> u64 {
    b.wrapping_add(a.wrapping_sub(b) & mask(below(a, b, hide), hide))
}
