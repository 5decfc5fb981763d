//! The arithmetic of TeaCache: a relative change, rescaled by a polynomial and accumulated.
//!
//! Source: "Timestep Embedding Tells: It's Time to Cache for Video Diffusion Model"
//! (arXiv 2411.19108); ali-vilab/TeaCache at 7c10efc, `TeaCache4Wan2.1/teacache_generate.py`.
//! Pure functions of f64.

/// `sum |now - before| / sum |before|` over the frames where `counts` is true; `diffs` and `sums`
/// have one entry per frame.
///
/// `None` where the ratio is undefined: no frame counts, the signal was zero, or a sum is not
/// finite.
pub fn relative_l1(diffs: &[f64], sums: &[f64], counts: impl Fn(usize) -> bool) -> Option<f64> {
    let total =
        |of: &[f64]| of.iter().enumerate().filter(|(f, _)| counts(*f)).map(|(_, v)| v).sum();
    let (diff, sum): (f64, f64) = (total(diffs), total(sums));
    let relative = diff / sum;
    relative.is_finite().then_some(relative)
}

/// The polynomial at `x`, highest power first; `x` itself without coefficients.
pub fn rescale(coefficients: &[f64], x: f64) -> f64 {
    if coefficients.is_empty() {
        return x;
    }
    coefficients.iter().fold(0.0, |sum, c| sum * x + c)
}

/// Sum of the rescaled changes since the last computed evaluation.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Accumulator {
    sum: f64,
}

impl Accumulator {
    /// Adds a rescaled change. Returns whether the sum is below `threshold`; false for a threshold
    /// of 0, which means "no cache", even where a polynomial made the sum negative.
    pub fn add(&mut self, rescaled: f64, threshold: f64) -> bool {
        self.sum += rescaled;
        threshold > 0.0 && self.sum < threshold
    }

    /// [`add`](Self::add) in f32, as in WanVideoWrapper.
    pub fn add_f32(&mut self, rescaled: f64, threshold: f64) -> bool {
        self.sum = f64::from(self.sum as f32 + rescaled as f32);
        threshold > 0.0 && self.sum < f64::from(threshold as f32)
    }

    /// An accumulator whose [`sum`](Self::sum) is `sum`.
    pub fn of_sum(sum: f64) -> Self {
        Self { sum }
    }

    /// The sum.
    pub fn sum(&self) -> f64 {
        self.sum
    }

    /// Sets the sum to 0, as after every computed evaluation.
    pub fn reset(&mut self) {
        self.sum = 0.0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_frames_that_count_enter_the_ratio() {
        let (diffs, sums) = ([1.0, 0.0, 3.0], [10.0, 100.0, 10.0]);
        assert_eq!(relative_l1(&diffs, &sums, |_| true), Some(4.0 / 120.0));
        assert_eq!(relative_l1(&diffs, &sums, |f| f != 1), Some(4.0 / 20.0));
        assert_eq!(relative_l1(&diffs, &sums, |_| false), None);
        assert_eq!(relative_l1(&[f64::NAN], &[1.0], |_| true), None);
        assert_eq!(relative_l1(&[1.0], &[0.0], |_| true), None);
    }

    #[test]
    fn coefficients_stand_highest_power_first() {
        assert_eq!(rescale(&[2.0, -3.0, 1.0], 2.0), 3.0);
        assert_eq!(rescale(&[], 0.7), 0.7);
    }

    #[test]
    fn published_polynomials_go_negative() {
        // Wan 2.1 T2V 14B, mode e: below 0.13 a small change would *lower* the sum.
        let t2v_14b = [-5784.54975374, 5449.50911966, -1811.16591783, 256.27178429, -13.02252404];
        assert!(rescale(&t2v_14b, 0.12) < 0.0 && rescale(&t2v_14b, 0.15) > 0.0);
    }

    #[test]
    fn a_threshold_of_zero_never_lets_a_reuse_pass() {
        let mut accumulator = Accumulator::default();
        assert!(!accumulator.add(-5.0, 0.0));
        assert!(accumulator.add(0.0, 0.1));
        assert!(!accumulator.add(5.2, 0.1));
    }
}
