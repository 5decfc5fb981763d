//! The instructions: one file for each path, and the way from a [`Kernels`](crate::Kernels) value
//! to code that was compiled for it.

pub(crate) mod dispatch;
pub(crate) mod portable;
pub(crate) mod unit;

#[cfg(target_arch = "x86_64")]
pub(crate) mod avx2;
#[cfg(target_arch = "x86_64")]
pub(crate) mod avx512;
