//! Random numbers that a seed finds again.

/// SplitMix64.
pub(super) struct Dice(u64);

impl Dice {
    /// Of a seed and a purpose, so that two tests do not throw the same.
    pub(super) fn new(seed: u64, purpose: &str) -> Self {
        let salt = purpose.bytes().fold(0u64, |salt, b| salt.rotate_left(7) ^ u64::from(b));
        Self(seed ^ salt.rotate_left(17))
    }

    pub(super) fn bits(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// 0 up to, and not including, 1.
    pub(super) fn unit(&mut self) -> f64 {
        (self.bits() >> 11) as f64 / (1u64 << 53) as f64
    }

    /// 0 up to, and not including, `count`.
    pub(super) fn below(&mut self, count: usize) -> usize {
        (self.bits() % count.max(1) as u64) as usize
    }

    /// One of `among`, which is not empty.
    pub(super) fn one_of<'a, T>(&mut self, among: &'a [T]) -> &'a T {
        &among[self.below(among.len())]
    }

    /// About normal: enough for a sample.
    pub(super) fn sample(&mut self, count: usize) -> Vec<f32> {
        let mut normal = || (0..6).map(|_| self.unit()).sum::<f64>() as f32 - 3.0;
        (0..count).map(|_| 1.4 * normal()).collect()
    }
}
