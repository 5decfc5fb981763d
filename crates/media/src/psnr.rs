//! Peak signal-to-noise ratio.

/// PSNR in dB of two clips over all pixels and channels; infinite where they are equal.
///
/// # Panics
/// If the clips have different sizes.
pub fn psnr(a: &[u8], b: &[u8]) -> f64 {
    assert_eq!(a.len(), b.len(), "clips of different sizes");
    let squares: u64 = a.iter().zip(b).map(|(x, y)| u64::from(x.abs_diff(*y)).pow(2)).sum();
    let mean = squares as f64 / a.len() as f64;
    10.0 * (255.0f64 * 255.0 / mean).log10()
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
