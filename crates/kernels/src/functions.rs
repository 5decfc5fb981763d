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

/// `e^x` for x of at most 0, as [`exp`] with fused operations where `FUSED` says that the path has
/// them; below -87.3 it is 0.
#[inline(always)]
pub(crate) fn exp_not_above_zero<const FUSED: bool>(x: f32) -> f32 {
    const ROUND: f32 = 12_582_912.;
    let add = |a: f32, b: f32, c: f32| if FUSED { a.mul_add(b, c) } else { a * b + c };
    let shifted = add(x, std::f32::consts::LOG2_E, ROUND);
    let n = shifted - ROUND;
    let r = add(n, 2.121_944_4e-4, add(n, -0.693_359_4, x));
    let p = add(1.987_569_1e-4, r, 1.398_2e-3);
    let p = add(p, r, 8.333_452e-3);
    let p = add(p, r, 4.166_579_6e-2);
    let p = add(p, r, 0.166_666_66);
    let p = add(p, r, 0.500_000_06);
    let y = add(p * r, r, r) + 1.;
    let exponent = shifted.to_bits().wrapping_add(127u32.wrapping_sub(ROUND.to_bits())) << 23;
    // What came of a number beyond the range is not used; a NaN is not below anything.
    if x < -87.3 { 0. } else { y * f32::from_bits(exponent) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exponentials_are_within_their_bound() {
        for step in 0..=200_000 {
            let x = -100. * step as f32 / 200_000.;
            let exact = f64::from(x).exp();
            for found in [exp_not_above_zero::<true>(x), exp_not_above_zero::<false>(x)] {
                let off = (f64::from(found) - exact).abs();
                assert!(off <= 3e-7 * exact || x < -87.3 && found == 0., "{x}: {found}");
            }
            let off = (f64::from(exp(x.max(-87.3))) - f64::from(x.max(-87.3)).exp()).abs();
            assert!(off <= 3e-7 * f64::from(x.max(-87.3)).exp(), "{x}");
        }
        assert_eq!(exp_not_above_zero::<true>(0.), 1.);
        assert_eq!(exp_not_above_zero::<false>(f32::NEG_INFINITY), 0.);
        for nan in [f32::NAN, -f32::NAN, f32::from_bits(0x7f80_0001)] {
            assert!(exp_not_above_zero::<true>(nan).is_nan() && exp(nan).is_nan());
            assert!(gelu_tanh(nan).is_nan() && silu(nan).is_nan());
        }
    }
}
