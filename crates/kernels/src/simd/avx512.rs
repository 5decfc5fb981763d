//! AVX-512: products of f32, and dot products of bf16 pairs.
#![allow(unsafe_code, reason = "instructions beyond the target's, and loads of whole vectors")]

use std::arch::x86_64::*;
use std::mem::transmute;

use crate::simd::unit::{Tile, Unit, Window, by_rows};

/// Products of f32, sixteen at a time, fused. A value is the proof that the processor has AVX-512
/// F, BW, DQ and VL.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Avx512(());

impl Avx512 {
    /// # Safety
    ///
    /// The processor has AVX-512 F, BW, DQ and VL.
    pub(crate) unsafe fn new() -> Self {
        Self(())
    }
}

impl Unit for Avx512 {
    const LANES: usize = 16;
    const ROWS: usize = 12;
    const FUSED: bool = true;
    type Words = __m512;
    type Sums = __m512;

    #[inline(always)]
    fn zero(self) -> __m512 {
        // SAFETY: the value proves that the processor has the instruction.
        unsafe { _mm512_setzero_ps() }
    }

    #[inline(always)]
    fn load(self, from: &[f32]) -> __m512 {
        let from: &[f32; 16] = from.first_chunk().expect("sixteen sums");
        // SAFETY: as in `zero`; sixteen numbers are read, which is what `from` has.
        unsafe { _mm512_loadu_ps(from.as_ptr()) }
    }

    #[inline(always)]
    fn store(self, sums: __m512, to: &mut [f32]) {
        let to: &mut [f32; 16] = to.first_chunk_mut().expect("sixteen sums");
        // SAFETY: as in `zero`; sixteen numbers are written, which is what `to` has.
        unsafe { _mm512_storeu_ps(to.as_mut_ptr(), sums) }
    }

    #[inline(always)]
    fn words(self, from: &[u32]) -> __m512 {
        let from: &[u32; 16] = from.first_chunk().expect("sixteen words");
        // SAFETY: as in `zero`; sixteen words are read, which is what `from` has, and any bits
        // are an f32.
        unsafe { _mm512_loadu_ps(from.as_ptr().cast()) }
    }

    #[inline(always)]
    fn word(self, word: u32) -> __m512 {
        // SAFETY: as in `zero`.
        unsafe { _mm512_set1_ps(f32::from_bits(word)) }
    }

    #[inline(always)]
    fn multiply_add(self, a: __m512, b: __m512, sums: __m512) -> __m512 {
        // SAFETY: as in `zero`.
        unsafe { _mm512_fmadd_ps(a, b, sums) }
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

#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx2,fma")]
fn multiply(unit: Avx512, tile: Tile) {
    by_rows!(multiply_rows, unit, tile, 2, 1 2 3 4 5 6 7 8 9 10 11 12);
}

#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx2,fma")]
fn convolve(unit: Avx512, tile: Window) {
    by_rows!(convolve_rows, unit, tile, 2, 1 2 3 4 5 6 7 8 9 10 11 12);
}

/// Sums of dot products of bf16 pairs, sixteen at a time: `sums + a1 b1 + a0 b0`, each product
/// added without being rounded first. Numbers below the normal range count as zero. A value is the
/// proof that the processor has AVX-512 BF16 as well.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Avx512Bf16(Avx512);

impl Avx512Bf16 {
    /// # Safety
    ///
    /// The processor has AVX-512 F, BW, DQ, VL and BF16.
    pub(crate) unsafe fn new() -> Self {
        // SAFETY: the caller's promise.
        Self(unsafe { Avx512::new() })
    }
}

impl Unit for Avx512Bf16 {
    const LANES: usize = 16;
    const ROWS: usize = 12;
    const FUSED: bool = true;
    type Words = __m512i;
    type Sums = __m512;

    #[inline(always)]
    fn zero(self) -> __m512 {
        self.0.zero()
    }

    #[inline(always)]
    fn load(self, from: &[f32]) -> __m512 {
        self.0.load(from)
    }

    #[inline(always)]
    fn store(self, sums: __m512, to: &mut [f32]) {
        self.0.store(sums, to);
    }

    #[inline(always)]
    fn words(self, from: &[u32]) -> __m512i {
        let from: &[u32; 16] = from.first_chunk().expect("sixteen words");
        // SAFETY: the value proves that the processor has the instruction; sixteen words are read,
        // which is what `from` has.
        unsafe { _mm512_loadu_si512(from.as_ptr().cast()) }
    }

    #[inline(always)]
    fn word(self, word: u32) -> __m512i {
        // SAFETY: the value proves that the processor has the instruction.
        unsafe { _mm512_set1_epi32(word.cast_signed()) }
    }

    #[inline(always)]
    fn multiply_add(self, a: __m512i, b: __m512i, sums: __m512) -> __m512 {
        // SAFETY: the value proves that the processor has the instruction. The vectors that are
        // reinterpreted are as long, and any bits are bf16 pairs.
        unsafe {
            let (a, b) = (transmute::<__m512i, __m512bh>(a), transmute::<__m512i, __m512bh>(b));
            _mm512_dpbf16_ps(sums, a, b)
        }
    }

    #[inline(always)]
    fn multiply(self, tile: Tile) {
        // SAFETY: the value proves that the processor has the instructions.
        unsafe { multiply_pairs(self, tile) }
    }

    #[inline(always)]
    fn convolve(self, tile: Window) {
        // SAFETY: as in `multiply`.
        unsafe { convolve_pairs(self, tile) }
    }
}

#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512bf16,avx2,fma")]
fn multiply_pairs(unit: Avx512Bf16, tile: Tile) {
    by_rows!(multiply_rows, unit, tile, 2, 1 2 3 4 5 6 7 8 9 10 11 12);
}

#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512bf16,avx2,fma")]
fn convolve_pairs(unit: Avx512Bf16, tile: Window) {
    by_rows!(convolve_rows, unit, tile, 2, 1 2 3 4 5 6 7 8 9 10 11 12);
}
