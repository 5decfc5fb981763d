//! Random numbers that a seed decides (SplitMix64).

/// A stream of random numbers.
pub struct Dice(u64);

impl Dice {
    /// The stream of an input: of the run's seed and its own number.
    pub fn new(seed: u64, number: u64) -> Self {
        let mut dice = Self(seed);
        let mixed = dice.bits() ^ number.wrapping_mul(0xd6e8_feb8_6659_fd93);
        Self(mixed)
    }

    /// 64 bits.
    pub fn bits(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// 0 to `count - 1`; 0 where there is nothing to choose from.
    pub fn below(&mut self, count: usize) -> usize {
        let count = (count as u64).max(1);
        usize::try_from(self.bits() % count).unwrap_or(0)
    }

    /// Whether one of so many came up.
    pub fn one_in(&mut self, count: usize) -> bool {
        self.below(count) == 0
    }

    /// One of these.
    ///
    /// # Panics
    /// If there are none.
    pub fn pick<'a, T>(&mut self, of: &'a [T]) -> &'a T {
        &of[self.below(of.len())]
    }

    /// From 0 to below 1.
    pub fn share(&mut self) -> f64 {
        (self.bits() >> 11) as f64 / (1_u64 << 53) as f64
    }

    /// 8 bits.
    pub fn byte(&mut self) -> u8 {
        self.bits().to_le_bytes()[0]
    }
}
