//! From a [`Kernels`] value to code that is compiled for its path.
#![allow(unsafe_code, reason = "calls of functions that are compiled for more than the target")]

use crate::path::Kernels;
use crate::simd::portable::{Portable, PortablePairs};
use crate::simd::unit::Unit;

/// Work that is compiled once for each path.
pub(crate) trait Work {
    /// What it gives.
    type Output;

    /// Does the work. An implementation has to be `#[inline(always)]`, and so has everything in it
    /// that is to be compiled for the path: it becomes a part of a function that has the
    /// instructions.
    fn run<U: Unit>(self, unit: U) -> Self::Output;
}

impl Kernels {
    /// Runs work whose words are f32.
    pub(crate) fn run<W: Work>(self, work: W) -> W::Output {
        match self.path() {
            #[cfg(target_arch = "x86_64")]
            // SAFETY: a value of this path exists only where the processor has it.
            crate::path::Path::Avx2 => unsafe { x86::avx2(work) },
            #[cfg(target_arch = "x86_64")]
            // SAFETY: as above.
            crate::path::Path::Avx512 => unsafe { x86::avx512(work) },
            _ => work.run(Portable),
        }
    }

    /// Runs work whose words are bf16 pairs if these kernels have dot products of them, else
    /// with words that are f32.
    pub(crate) fn run_bf16<W: Work>(self, work: W) -> W::Output {
        match (self.has_bf16_dot(), self.path()) {
            #[cfg(target_arch = "x86_64")]
            // SAFETY: such a value exists only where the processor has the instructions.
            (true, crate::path::Path::Avx512) => unsafe { x86::avx512_bf16(work) },
            (true, _) => work.run(PortablePairs),
            (false, _) => self.run(work),
        }
    }
}

#[cfg(target_arch = "x86_64")]
mod x86 {
    use super::Work;
    use crate::simd::avx2::Avx2;
    use crate::simd::avx512::{Avx512, Avx512Bf16};

    #[target_feature(enable = "avx2,fma")]
    pub(super) fn avx2<W: Work>(work: W) -> W::Output {
        // SAFETY: this function has the features.
        work.run(unsafe { Avx2::new() })
    }

    #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx2,fma")]
    pub(super) fn avx512<W: Work>(work: W) -> W::Output {
        // SAFETY: this function has the features.
        work.run(unsafe { Avx512::new() })
    }

    #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512bf16,avx2,fma")]
    pub(super) fn avx512_bf16<W: Work>(work: W) -> W::Output {
        // SAFETY: this function has the features.
        work.run(unsafe { Avx512Bf16::new() })
    }
}
