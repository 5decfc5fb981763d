//! Time against tokens: a part that grows with the tokens, and one that grows with their square.

/// `seconds = linear tokens + square tokens^2`.
#[derive(Clone, Copy, serde::Serialize)]
pub(crate) struct Fit {
    /// Seconds a token.
    pub(crate) linear: f64,
    /// Seconds a pair of tokens.
    pub(crate) square: f64,
    /// Largest distance from a measured time, over that time.
    pub(crate) error_max: f64,
}

impl Fit {
    /// The least squares of relative distances. None for fewer than three points.
    pub(crate) fn of(points: &[(f64, f64)]) -> Option<Self> {
        if points.len() < 3 {
            return None;
        }
        // Divided by the time: `linear a + square b = 1`.
        let scaled = || points.iter().map(|(tokens, time)| (tokens / time, tokens * tokens / time));
        let sum = |of: fn((f64, f64)) -> f64| scaled().map(of).sum::<f64>();
        let (aa, ab, bb) = (sum(|(a, _)| a * a), sum(|(a, b)| a * b), sum(|(_, b)| b * b));
        let (a, b) = (sum(|(a, _)| a), sum(|(_, b)| b));
        let determinant = aa * bb - ab * ab;
        let (linear, square) = ((a * bb - b * ab) / determinant, (b * aa - a * ab) / determinant);
        let distance = |(a, b): (f64, f64)| (linear * a + square * b - 1.0).abs();
        let error_max = scaled().map(distance).fold(0.0, f64::max);
        Some(Self { linear, square, error_max })
    }

    pub(crate) fn seconds(self, tokens: f64) -> f64 {
        (self.linear + self.square * tokens) * tokens
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_grows_with_tokens_and_their_square_is_told_apart() {
        let points =
            [1e3, 2e3, 4e3, 16e3].map(|tokens| (tokens, 2e-4 * tokens + 3e-8 * tokens * tokens));
        let fit = Fit::of(&points).unwrap();
        assert!((fit.linear / 2e-4 - 1.0).abs() < 1e-9 && (fit.square / 3e-8 - 1.0).abs() < 1e-9);
        assert!(fit.error_max < 1e-9 && (fit.seconds(1e3) - 0.23).abs() < 1e-9);
        assert!(Fit::of(&points[..2]).is_none());
    }
}
