//! AVX2 and FMA.
#![allow(unsafe_code, reason = "instructions beyond the target's, and loads of whole vectors")]

use std::arch::x86_64::*;

use crate::simd::unit::{Tile, Unit, Window, by_rows};

/// Products of f32, eight at a time, fused. A value is the proof that the processor has AVX2 and
/// FMA.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Avx2(());

impl Avx2 {
    /// # Safety
    ///
    /// The processor has AVX2 and FMA.
    pub(crate) unsafe fn new() -> Self {
        Self(())
    }
}

impl Unit for Avx2 {
    const LANES: usize = 8;
    const ROWS: usize = 6;
    const FUSED: bool = true;
    type Words = __m256;
    type Sums = __m256;

    #[inline(always)]
    fn zero(self) -> __m256 {
        // SAFETY: the value proves that the processor has the instruction.
        unsafe { _mm256_setzero_ps() }
    }

    #[inline(always)]
    fn load(self, from: &[f32]) -> __m256 {
        let from: &[f32; 8] = from.first_chunk().expect("eight sums");
        // SAFETY: as in `zero`; eight numbers are read, which is what `from` has.
        unsafe { _mm256_loadu_ps(from.as_ptr()) }
    }

    #[inline(always)]
    fn store(self, sums: __m256, to: &mut [f32]) {
        let to: &mut [f32; 8] = to.first_chunk_mut().expect("eight sums");
        // SAFETY: as in `zero`; eight numbers are written, which is what `to` has.
        unsafe { _mm256_storeu_ps(to.as_mut_ptr(), sums) }
    }

    #[inline(always)]
    fn words(self, from: &[u32]) -> __m256 {
        let from: &[u32; 8] = from.first_chunk().expect("eight words");
        // SAFETY: as in `zero`; eight words are read, which is what `from` has, and any bits are
        // an f32.
        unsafe { _mm256_loadu_ps(from.as_ptr().cast()) }
    }

    #[inline(always)]
    fn word(self, word: u32) -> __m256 {
        // SAFETY: as in `zero`.
        unsafe { _mm256_set1_ps(f32::from_bits(word)) }
    }

    #[inline(always)]
    fn multiply_add(self, a: __m256, b: __m256, sums: __m256) -> __m256 {
        // SAFETY: as in `zero`.
        unsafe { _mm256_fmadd_ps(a, b, sums) }
    }

    #[inline(always)]
    fn multiply(self, tile: Tile) {
        // SAFETY: as in `zero`.
        unsafe { multiply(self, tile) }
    }

    #[inline(always)]
    fn convolve(self, tile: Window) {
        // SAFETY: as in `multiply`.
        unsafe { convolve(self, tile) }
    }
}

#[target_feature(enable = "avx2,fma")]
fn multiply(unit: Avx2, tile: Tile) {
    by_rows!(multiply_rows, unit, tile, 2, 1 2 3 4 5 6);
}

#[target_feature(enable = "avx2,fma")]
fn convolve(unit: Avx2, tile: Window) {
    by_rows!(convolve_rows, unit, tile, 2, 1 2 3 4 5 6);
}
