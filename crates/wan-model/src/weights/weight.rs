//! One weight as its file has it: in floats, in 8 bits with factors, or in blocks.

use std::fmt;
use std::ops::Range;
use std::sync::Arc;

use candle_core::{CpuStorage, DType, Device, Storage, Tensor};
use half::slice::HalfFloatSliceExt;
use rayon::prelude::*;
use wan_weight_files::Encoding;

use crate::error::{Error, Result};

/// Numbers that one thread widens at a time: whole blocks of every format.
const AT_A_TIME: usize = 1 << 16;

/// A weight in the format of its file.
#[derive(Clone, Debug)]
pub enum Weight {
    /// Numbers that stand for themselves, on the CPU.
    Dense(Tensor),
    /// Numbers of 8 bits, and what they are to be multiplied by.
    Scaled(Scaled),
    /// Blocks of numbers with scales of their own, as ggml defines them.
    Quantised(Quantised),
    /// A weight, and what is added to it in f32.
    Changed(Changed),
}

/// 8-bit numbers with factors along the rows.
#[derive(Clone, Debug)]
pub struct Scaled {
    /// The numbers, row by row.
    pub bytes: Vec<u8>,
    /// `F8_E4M3`, `F8_E5M2` or `I8`.
    pub encoding: Encoding,
    /// Shape of the weight.
    pub shape: Vec<usize>,
    /// Factors of equal runs of numbers: one for all, one for each row, or some for each row.
    pub factors: Vec<f32>,
}

/// Blocks of numbers.
#[derive(Clone, Debug)]
pub struct Quantised {
    /// The blocks, row by row.
    pub bytes: Vec<u8>,
    /// A format of ggml.
    pub encoding: Encoding,
    /// Shape of the weight.
    pub shape: Vec<usize>,
}

/// A weight with changes beside it, such as LoRAs.
#[derive(Clone, Debug)]
pub struct Changed {
    /// The weight without them.
    pub base: Box<Weight>,
    /// Each adds to the numbers of `base`, in this order.
    pub changes: Vec<Arc<dyn RowChange>>,
}

/// What is added to rows of a weight when they are widened.
pub trait RowChange: fmt::Debug + Send + Sync {
    /// What is added to rows `rows` of a weight, whose numbers without any change are `base`.
    ///
    /// # Errors
    /// If the change is of another shape.
    fn added(&self, rows: Range<usize>, base: &[f32]) -> Result<Vec<f32>>;

    /// Bytes that it holds.
    fn bytes(&self) -> u64;
}

/// Rows of a panel of `columns` numbers each: the rows of a weight that are widened at a time. About
/// 16 MiB in f32.
pub(crate) fn panel_rows(columns: usize) -> usize {
    const NUMBERS: usize = 1 << 22;
    (NUMBERS / columns.max(1)).max(32) & !31
}

impl Weight {
    /// Its shape.
    pub fn shape(&self) -> &[usize] {
        match self {
            Self::Dense(tensor) => tensor.dims(),
            Self::Scaled(scaled) => &scaled.shape,
            Self::Quantised(blocks) => &blocks.shape,
            Self::Changed(changed) => changed.base.shape(),
        }
    }

    /// Its shape as a matrix: the first axis, and all others together.
    pub fn matrix_shape(&self) -> (usize, usize) {
        let shape = self.shape();
        (shape.first().copied().unwrap_or(1), shape.iter().skip(1).product())
    }

    /// Bytes that its numbers take, as they are.
    pub fn bytes(&self) -> u64 {
        match self {
            Self::Dense(tensor) => (tensor.elem_count() * tensor.dtype().size_in_bytes()) as u64,
            Self::Scaled(scaled) => (scaled.bytes.len() + 4 * scaled.factors.len()) as u64,
            Self::Quantised(blocks) => blocks.bytes.len() as u64,
            Self::Changed(Changed { base, changes }) => {
                base.bytes() + changes.iter().map(|change| change.bytes()).sum::<u64>()
            }
        }
    }

    /// Its numbers on the CPU: those of a float format as they are, others in f32.
    ///
    /// # Errors
    /// [`Error::Input`] for bytes that are not those of the shape.
    pub fn wide(&self) -> Result<Tensor> {
        if let Self::Dense(tensor) = self {
            return Ok(tensor.clone());
        }
        let (rows, columns) = self.matrix_shape();
        let mut numbers = vec![0.; rows * columns];
        let at_a_time = panel_rows(columns);
        for (number, panel) in numbers.chunks_mut((at_a_time * columns).max(1)).enumerate() {
            let start = number * at_a_time;
            self.widen_rows(start..(start + at_a_time).min(rows), panel)?;
        }
        Ok(Tensor::from_vec(numbers, self.shape(), &Device::Cpu)?)
    }

    /// Its numbers in `dtype` on `device`. They are rounded once, from their exact values in f32.
    ///
    /// # Errors
    /// As [`wide`](Self::wide).
    pub fn to_tensor(&self, dtype: DType, device: &Device) -> Result<Tensor> {
        Ok(self.wide()?.to_dtype(dtype)?.to_device(device)?)
    }

    /// Writes rows of the weight as a matrix ([`matrix_shape`](Self::matrix_shape)) to `numbers`, one
    /// after the other, in f32.
    ///
    /// # Errors
    /// [`Error::Input`] for rows that the weight has not, or whose numbers are not whole blocks of
    /// its format, or for another count of `numbers`.
    pub fn widen_rows(&self, rows: Range<usize>, numbers: &mut [f32]) -> Result<()> {
        let (count, columns) = self.matrix_shape();
        if rows.end > count || rows.len() * columns != numbers.len() {
            let expected = format!("rows of {count}, {columns} numbers each");
            return Err(Error::input("rows of a weight", expected, (rows, numbers.len())));
        }
        let range = rows.start * columns..rows.end * columns;
        match self {
            Self::Dense(tensor) => widen_dense(tensor, range, numbers),
            Self::Scaled(scaled) => scaled.widen(range, numbers),
            Self::Quantised(Quantised { bytes, encoding, .. }) => {
                widen(*encoding, bytes, range, numbers)
            }
            Self::Changed(changed) => changed.widen_rows(rows, numbers),
        }
    }

    /// Writes numbers `columns` of each of `rows`, of a weight that has whole rows, as
    /// [`widen_rows`](Self::widen_rows) does. `columns` begin at a multiple of 256; of one with changes
    /// they are whole rows.
    ///
    /// # Errors
    /// As [`widen_rows`](Self::widen_rows).
    pub(crate) fn widen_part(
        &self,
        rows: Range<usize>,
        columns: Range<usize>,
        numbers: &mut [f32],
    ) -> Result<()> {
        let (_, width) = self.matrix_shape();
        if columns.len() == width {
            return self.widen_rows(rows, numbers);
        }
        for (row, numbers) in rows.zip(numbers.chunks_mut(columns.len().max(1))) {
            let range = row * width + columns.start..row * width + columns.end;
            match self {
                Self::Dense(tensor) => widen_dense(tensor, range, numbers)?,
                Self::Scaled(scaled) => scaled.widen(range, numbers)?,
                Self::Quantised(Quantised { bytes, encoding, .. }) => {
                    widen(*encoding, bytes, range, numbers)?;
                }
                Self::Changed(_) => {
                    let expected = format!("whole rows of {width}");
                    return Err(Error::input("part of a changed weight", expected, columns));
                }
            }
        }
        Ok(())
    }

    /// Whether it is widened by whole rows alone.
    pub(crate) fn is_changed(&self) -> bool {
        matches!(self, Self::Changed(_))
    }

    /// Whether any rows of it can be widened for themselves: they are whole blocks.
    pub(crate) fn has_whole_rows(&self) -> bool {
        match self {
            Self::Dense(_) | Self::Scaled(_) => true,
            Self::Quantised(blocks) => {
                self.matrix_shape().1.is_multiple_of(blocks.encoding.block())
            }
            Self::Changed(changed) => changed.base.has_whole_rows(),
        }
    }

    /// The same numbers in another shape.
    ///
    /// # Errors
    /// If the shape has another number of elements.
    pub fn reshape(mut self, to: &[usize]) -> Result<Self> {
        match &mut self {
            Self::Dense(tensor) => *tensor = tensor.reshape(to)?,
            Self::Scaled(Scaled { shape, .. }) | Self::Quantised(Quantised { shape, .. }) => {
                if shape.iter().product::<usize>() != to.iter().product::<usize>() {
                    return Err(Error::input("shape of a weight", format!("{to:?}"), shape));
                }
                to.clone_into(shape);
            }
            // Changes are of its rows.
            Self::Changed(_) => self = Self::Dense(self.wide()?.reshape(to)?),
        }
        Ok(self)
    }
}

impl Scaled {
    fn widen(&self, range: Range<usize>, numbers: &mut [f32]) -> Result<()> {
        widen(self.encoding, &self.bytes, range.clone(), numbers)?;
        let count: usize = self.shape.iter().product();
        let run = (count / self.factors.len().max(1)).max(1);
        if let [factor] = *self.factors {
            let scale = |numbers: &mut [f32]| numbers.iter_mut().for_each(|n| *n *= factor);
            numbers.par_chunks_mut(AT_A_TIME).for_each(scale);
            return Ok(());
        }
        let mut start = range.start;
        let mut rest = numbers;
        while !rest.is_empty() {
            let len = (run - start % run).min(rest.len());
            let (own, after) = rest.split_at_mut(len);
            let factor = self.factors[start / run];
            own.iter_mut().for_each(|number| *number *= factor);
            (rest, start) = (after, start + len);
        }
        Ok(())
    }
}

impl Changed {
    fn widen_rows(&self, rows: Range<usize>, numbers: &mut [f32]) -> Result<()> {
        self.base.widen_rows(rows.clone(), numbers)?;
        // Each change is made from the unchanged numbers.
        let added = self.changes.iter().map(|change| change.added(rows.clone(), numbers));
        for added in added.collect::<Result<Vec<_>>>()? {
            let pairs = numbers.par_chunks_mut(AT_A_TIME).zip(added.par_chunks(AT_A_TIME));
            pairs.for_each(|(numbers, added)| {
                numbers.iter_mut().zip(added).for_each(|(number, added)| *number += added);
            });
        }
        Ok(())
    }
}

/// Widens numbers `range` of those that `bytes` hold.
fn widen(encoding: Encoding, bytes: &[u8], range: Range<usize>, numbers: &mut [f32]) -> Result<()> {
    let place = encoding.bytes(range.start).zip(encoding.bytes(range.end));
    let bytes = place.and_then(|(start, end)| {
        bytes.get(usize::try_from(start).ok()?..usize::try_from(end).ok()?)
    });
    let Some(bytes) = bytes else {
        let expected = format!("whole blocks of {} for numbers {range:?}", encoding.name());
        return Err(Error::input("weight", expected, "bytes of another count"));
    };
    let bytes_at_a_time = AT_A_TIME / encoding.block() * encoding.block_bits() / 8;
    let chunks = numbers.par_chunks_mut(AT_A_TIME).zip(bytes.par_chunks(bytes_at_a_time));
    let read = chunks.all(|(numbers, bytes)| encoding.widen(bytes, numbers));
    if read { Ok(()) } else { Err(Error::input("weight", "a format of numbers", encoding)) }
}

/// Widens numbers `range` of a tensor on the CPU.
fn widen_dense(tensor: &Tensor, range: Range<usize>, numbers: &mut [f32]) -> Result<()> {
    let (storage, layout) = tensor.storage_and_layout();
    let place =
        layout.contiguous_offsets().map(|(start, _)| start + range.start..start + range.end);
    match (&*storage, place) {
        (Storage::Cpu(CpuStorage::F32(from)), Some(place)) => numbers.copy_from_slice(&from[place]),
        (Storage::Cpu(CpuStorage::BF16(from)), Some(place)) => {
            each_chunk(&from[place], numbers, |from, to| from.convert_to_f32_slice(to));
        }
        (Storage::Cpu(CpuStorage::F16(from)), Some(place)) => {
            each_chunk(&from[place], numbers, |from, to| from.convert_to_f32_slice(to));
        }
        _ => {
            let part = tensor.flatten_all()?.narrow(0, range.start, range.len())?;
            numbers.copy_from_slice(&part.to_dtype(DType::F32)?.to_vec1::<f32>()?);
        }
    }
    Ok(())
}

fn each_chunk<T: Sync>(from: &[T], to: &mut [f32], widen: impl Fn(&[T], &mut [f32]) + Sync) {
    let chunks = to.par_chunks_mut(AT_A_TIME).zip(from.par_chunks(AT_A_TIME));
    chunks.for_each(|(to, from)| widen(from, to));
}
