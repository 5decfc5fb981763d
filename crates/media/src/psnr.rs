//! Peak signal-to-noise ratio.

/// PSNR in dB of two clips over all pixels and channels; infinite where they are equal.
///
/// # Panics
/// If the clips have different sizes.
pub fn psnr(a: &[u8], b: &[u8]) -> f64 {
    let mut sum = PsnrSum::default();
    sum.see(a, b);
    sum.decibels()
}

/// PSNR of two clips that come piece by piece.
#[derive(Debug, Clone, Copy, Default)]
pub struct PsnrSum {
    squares: u64,
    values: u64,
}

impl PsnrSum {
    /// The next piece of both.
    ///
    /// # Panics
    /// If the pieces have different sizes.
    pub fn see(&mut self, a: &[u8], b: &[u8]) {
        assert_eq!(a.len(), b.len(), "clips of different sizes");
        let squares = a.iter().zip(b).map(|(x, y)| u64::from(x.abs_diff(*y)).pow(2));
        self.squares += squares.sum::<u64>();
        self.values += a.len() as u64;
    }

    /// As [`psnr`], of all pieces.
    pub fn decibels(&self) -> f64 {
        let mean = self.squares as f64 / self.values as f64;
        10.0 * (255.0f64 * 255.0 / mean).log10()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_known_value() {
        assert_eq!(psnr(&[1, 2], &[1, 2]), f64::INFINITY);
        // Every value off by 5: 20 log10(255 / 5).
        assert!((psnr(&[10, 20], &[15, 15]) - 34.151).abs() < 1e-3);
    }
}
