//! Functions of one number, written without branches and without fused operations: the compiler
//! makes vectors of them, and they give the same bits on every path.

/// `e^x` to about one part in 10^7; for x below -87.3 and above 88.3 as for these. Cephes `expf`.
#[inline(always)]
pub(crate) fn exp(x: f32) -> f32 {
    // Adding 1.5 * 2^23 rounds to an integer and leaves it in the low bits.
    const ROUND: f32 = 12_582_912.;
    let x = x.clamp(-87.3, 88.3);
    let shifted = x * std::f32::consts::LOG2_E + ROUND;
    let n = shifted - ROUND;
    let r = x - n * 0.693_359_4 + n * 2.121_944_4e-4;
    let p = 1.987_569_1e-4 * r + 1.398_2e-3;
    let p = p * r + 8.333_452e-3;
    let p = p * r + 4.166_579_6e-2;
    let p = p * r + 0.166_666_66;
    let p = p * r + 0.500_000_06;
    let y = p * r * r + r + 1.;
    let exponent = shifted.to_bits().wrapping_sub(ROUND.to_bits()).wrapping_add(127) << 23;
    y * f32::from_bits(exponent)
}

/// `x / (1 + exp(-2u))` with `u = sqrt(2/pi) (x + 0.044715 x^3)`: GELU in its tanh form.
#[inline(always)]
pub(crate) fn gelu_tanh(x: f32) -> f32 {
    const TWICE_SQRT_2_OVER_PI: f32 = 1.595_769;
    let twice_u = TWICE_SQRT_2_OVER_PI * (x + 0.044_715 * x * x * x);
    x / (1. + exp(-twice_u))
}

/// `x / (1 + exp(-x))`.
#[inline(always)]
pub(crate) fn silu(x: f32) -> f32 {
    x / (1. + exp(-x))
}

/// `e^x` for x of at most 0; below -87.3 it is 0.
#[inline(always)]
pub(crate) fn exp_not_above_zero(x: f32) -> f32 {
    let y = exp(x);
    if x < -87.3 { 0. } else { y }
}
