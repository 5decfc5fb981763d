//! What computes on the CPU.

use std::sync::Arc;

use candle_core::{CpuStorage, DType, Layout, Result, Storage, bail};
use wan_kernels::{Context, Elements, Kernels, Pool, Precision};

/// The kernels that compute on the CPU, and the pool of their buffers. Cheap to clone: all networks of
/// a process can share one.
#[derive(Clone, Debug)]
pub struct Arithmetic {
    kernels: Kernels,
    pool: Arc<Pool>,
}

impl Default for Arithmetic {
    /// The fastest kernels of this processor.
    fn default() -> Self {
        Self::new(Kernels::detect())
    }
}

impl Arithmetic {
    /// Computes with these kernels.
    pub fn new(kernels: Kernels) -> Self {
        Self { kernels, pool: Arc::default() }
    }

    /// The kernels.
    pub fn kernels(&self) -> Kernels {
        self.kernels
    }

    /// Frees buffers that nobody uses when what is given is dropped: at the end of a pass, so that
    /// nothing is held between passes.
    pub(crate) fn rests(&self) -> Rests<'_> {
        Rests(&self.pool)
    }

    pub(crate) fn context(&self) -> Context<'_> {
        Context { kernels: self.kernels, pool: &self.pool }
    }
}

/// The end of a pass.
pub(crate) struct Rests<'p>(&'p Pool);

impl Drop for Rests<'_> {
    fn drop(&mut self) {
        self.0.clear();
    }
}

/// What operands are multiplied in on the CPU, for a network whose products are in `compute`. The
/// kernels have no f16: there it is a format that weights are held in, and operands are f32.
pub(crate) fn precision(compute: DType) -> Precision {
    if compute == DType::BF16 { Precision::Bf16 } else { Precision::F32 }
}

/// The format of these operands.
pub(crate) fn dtype(precision: Precision) -> DType {
    match precision {
        Precision::F32 => DType::F32,
        Precision::Bf16 => DType::BF16,
    }
}

/// Whether numbers in `dtype` are packed for products in `compute`: those that are as wide as products
/// read them, or wider. (The kernels have no f16: such a matrix is widened.)
pub(crate) fn is_packed(dtype: DType, compute: DType) -> bool {
    let read = self::dtype(precision(compute));
    compute != DType::F16 && dtype.is_float() && dtype.size_in_bytes() >= read.size_in_bytes()
}

/// The numbers of a tensor on the CPU, as kernels read them.
pub(crate) fn elements<'s>(storage: &'s Storage, layout: &Layout) -> Result<Elements<'s>> {
    match (layout.contiguous_offsets(), storage) {
        (Some((start, end)), Storage::Cpu(CpuStorage::F32(numbers))) => {
            Ok(Elements::F32(&numbers[start..end]))
        }
        (Some((start, end)), Storage::Cpu(CpuStorage::BF16(numbers))) => {
            Ok(Elements::Bf16(&numbers[start..end]))
        }
        _ => bail!("kernels want contiguous f32 or bf16 on the CPU, got {layout:?}"),
    }
}

/// As [`elements`], of f32.
pub(crate) fn numbers<'s>(storage: &'s Storage, layout: &Layout) -> Result<&'s [f32]> {
    match elements(storage, layout)? {
        Elements::F32(numbers) => Ok(numbers),
        Elements::Bf16(_) => bail!("kernels want f32 here, got bf16"),
    }
}
