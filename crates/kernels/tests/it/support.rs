//! What the tests share: numbers from a seed, and functions to compare with.

use half::bf16;

/// A generator that a seed decides.
pub(crate) struct Draws(u64);

impl Draws {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed ^ 0x9e37_79b9_7f4a_7c15)
    }

    pub(crate) fn bits(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// Between -1 and 1.
    pub(crate) fn number(&mut self) -> f32 {
        (self.bits() >> 40) as f32 / (1 << 23) as f32 - 1.
    }
}

/// Numbers between -1 and 1.
pub(crate) fn noise(seed: u64, count: usize) -> Vec<f32> {
    let mut draws = Draws::new(seed);
    (0..count).map(|_| draws.number()).collect()
}

/// The same with a few zeros, infinities, numbers below the normal range, huge and tiny ones.
pub(crate) fn strange(seed: u64, count: usize) -> Vec<f32> {
    let mut draws = Draws::new(seed);
    let mut one = || {
        let number = draws.number();
        match draws.bits() % 97 {
            0 => 0.,
            1 => -0.,
            2 => f32::INFINITY,
            3 => f32::NEG_INFINITY,
            4 => number * 1e-39,
            5 => number * 1e38,
            6 => number * 1e-20,
            _ => number,
        }
    };
    (0..count).map(|_| one()).collect()
}

pub(crate) fn to_bf16(numbers: &[f32]) -> Vec<bf16> {
    numbers.iter().map(|number| bf16::from_f32(*number)).collect()
}

pub(crate) fn rounded(numbers: &[f32]) -> Vec<f32> {
    numbers.iter().map(|number| bf16::from_f32(*number).to_f32()).collect()
}

/// The bits of all numbers; all NaNs are one.
pub(crate) fn bits(numbers: &[f32]) -> Vec<u32> {
    let of = |number: &f32| if number.is_nan() { f32::NAN.to_bits() } else { number.to_bits() };
    numbers.iter().map(of).collect()
}

/// As [`bits`].
pub(crate) fn bits_of_bf16(numbers: &[bf16]) -> Vec<u16> {
    let of = |number: &bf16| if number.is_nan() { bf16::NAN.to_bits() } else { number.to_bits() };
    numbers.iter().map(of).collect()
}

/// Runs `work` in a pool of as many threads.
pub(crate) fn in_pool_of<R: Send>(threads: usize, work: impl FnOnce() -> R + Send) -> R {
    rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap().install(work)
}

pub(crate) fn gelu_tanh(x: f32) -> f32 {
    let x = f64::from(x);
    let u = (2. / std::f64::consts::PI).sqrt() * (x + 0.044715 * x * x * x);
    (0.5 * x * (1. + u.tanh())) as f32
}

pub(crate) fn silu(x: f32) -> f32 {
    let x = f64::from(x);
    (x / (1. + (-x).exp())) as f32
}
