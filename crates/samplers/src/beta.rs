//! Quantiles of the beta distribution.

/// The quantile of `Beta(a, b)` at `probability`.
pub(crate) fn quantile(probability: f64, a: f64, b: f64) -> f64 {
    let (below, above) = (integral(0.5, a, b), integral(0.5, b, a));
    let whole = below + above;
    // Solved from the nearer end, so that a quantile close to 1 keeps its digits.
    if probability * whole <= below {
        solve(probability * whole, a, b)
    } else {
        1.0 - solve((1.0 - probability) * whole, b, a)
    }
}

/// Integral of `t^(a - 1) * (1 - t)^(b - 1)` from 0 to `x`, for `x` up to 1/2: the binomial series
/// of the second factor, term by term (NIST Digital Library of Mathematical Functions, 8.17.7).
fn integral(x: f64, a: f64, b: f64) -> f64 {
    let (mut power, mut sum) = (1.0, 1.0 / a);
    for n in 1..200 {
        let n = f64::from(n);
        power *= (n - b) / n * x;
        sum += power / (a + n);
    }
    x.powf(a) * sum
}

/// The `x` in 0..=1/2 with this integral, by bisection.
fn solve(wanted: f64, a: f64, b: f64) -> f64 {
    let (mut low, mut high) = (0.0, 0.5);
    if wanted >= integral(high, a, b) {
        return high; // the middle of a symmetric distribution, exactly
    }
    for _ in 0..100 {
        let middle = f64::midpoint(low, high);
        if integral(middle, a, b) < wanted { low = middle } else { high = middle }
    }
    high
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Values of scipy 1.17.1, `scipy.stats.beta.ppf`.
    #[test]
    fn quantiles_are_those_of_scipy() {
        let cases = [
            (0.9, 0.6, 0.6, 0.9604155944112192),
            (0.5, 0.6, 0.6, 0.5000000000000001),
            (0.1, 0.6, 0.6, 0.03958440558878085),
            (0.25, 0.5, 0.9, 0.07086293184482058),
            (0.7, 2.0, 5.0, 0.36035769038002013),
            (0.99, 0.6, 0.6, 0.9991387611784571),
            (0.02, 0.8, 0.3, 0.028495682405931828),
        ];
        for (probability, a, b, expected) in cases {
            let ours = quantile(probability, a, b);
            assert!((ours - expected).abs() < 1e-13, "{probability} {a} {b}: {ours}");
        }
    }

    #[test]
    fn both_ends_are_the_ends() {
        assert!(quantile(0.0, 0.6, 0.6) < 1e-30);
        assert_eq!(quantile(1.0, 0.6, 0.6), 1.0);
    }
}
