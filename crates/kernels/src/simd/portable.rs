//! Plain Rust that the compiler turns into the vectors of the target.

use crate::simd::unit::{Tile, Unit, Window, by_rows};

/// Products of f32, eight at a time. Where the target has no fused multiply-add, the product is
/// rounded before it is added: the functions that stand in for the instruction are slow.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Portable;

const FUSED: bool = cfg!(any(target_feature = "fma", target_arch = "aarch64"));

impl Unit for Portable {
    const LANES: usize = 8;
    const ROWS: usize = 4;
    const FUSED: bool = FUSED;
    type Words = [f32; 8];
    type Sums = [f32; 8];

    #[inline(always)]
    fn zero(self) -> [f32; 8] {
        [0.; 8]
    }

    #[inline(always)]
    fn load(self, from: &[f32]) -> [f32; 8] {
        *from.first_chunk().expect("eight sums")
    }

    #[inline(always)]
    fn store(self, sums: [f32; 8], to: &mut [f32]) {
        *to.first_chunk_mut().expect("eight sums") = sums;
    }

    #[inline(always)]
    fn words(self, from: &[u32]) -> [f32; 8] {
        from.first_chunk::<8>().expect("eight words").map(f32::from_bits)
    }

    #[inline(always)]
    fn word(self, word: u32) -> [f32; 8] {
        [f32::from_bits(word); 8]
    }

    #[inline(always)]
    fn multiply_add(self, a: [f32; 8], b: [f32; 8], mut sums: [f32; 8]) -> [f32; 8] {
        for lane in 0..8 {
            sums[lane] = match FUSED {
                true => a[lane].mul_add(b[lane], sums[lane]),
                false => a[lane] * b[lane] + sums[lane],
            };
        }
        sums
    }

    #[inline(never)]
    fn multiply(self, tile: Tile) {
        by_rows!(multiply_rows, self, tile, 1, 1 2 3 4);
    }

    #[inline(never)]
    fn convolve(self, tile: Window) {
        by_rows!(convolve_rows, self, tile, 1, 1 2 3 4);
    }
}

/// Dot products of bf16 pairs as `avx512_bf16` computes them, in tiles as large, the last of a pair
/// first; but numbers below the normal range count. It is there for tests, which so see the layout
/// of pairs on any processor.
#[derive(Clone, Copy, Debug)]
pub(crate) struct PortablePairs;

impl Unit for PortablePairs {
    const LANES: usize = 16;
    const ROWS: usize = 12;
    const FUSED: bool = FUSED;
    type Words = [u32; 16];
    type Sums = [f32; 16];

    #[inline(always)]
    fn zero(self) -> [f32; 16] {
        [0.; 16]
    }

    #[inline(always)]
    fn load(self, from: &[f32]) -> [f32; 16] {
        *from.first_chunk().expect("sixteen sums")
    }

    #[inline(always)]
    fn store(self, sums: [f32; 16], to: &mut [f32]) {
        *to.first_chunk_mut().expect("sixteen sums") = sums;
    }

    #[inline(always)]
    fn words(self, from: &[u32]) -> [u32; 16] {
        *from.first_chunk().expect("sixteen words")
    }

    #[inline(always)]
    fn word(self, word: u32) -> [u32; 16] {
        [word; 16]
    }

    #[inline(always)]
    fn multiply_add(self, a: [u32; 16], b: [u32; 16], mut sums: [f32; 16]) -> [f32; 16] {
        let last = |word: u32| f32::from_bits(word & 0xffff_0000);
        let first = |word: u32| f32::from_bits(word << 16);
        for lane in 0..16 {
            // A product of two bf16 is exact, so only the sum is rounded.
            let sum = sums[lane] + last(a[lane]) * last(b[lane]);
            sums[lane] = sum + first(a[lane]) * first(b[lane]);
        }
        sums
    }

    #[inline(never)]
    fn multiply(self, tile: Tile) {
        by_rows!(multiply_rows, self, tile, 2, 1 2 3 4 5 6 7 8 9 10 11 12);
    }

    #[inline(never)]
    fn convolve(self, tile: Window) {
        by_rows!(convolve_rows, self, tile, 2, 1 2 3 4 5 6 7 8 9 10 11 12);
    }
}
