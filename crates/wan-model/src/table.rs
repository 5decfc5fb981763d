//! A table whose rows are looked up.

use candle_core::{Device, Shape, Tensor};

use crate::error::Result;
use crate::weights::{Scope, Weight};

/// Rows `[count, width]`, on the CPU in the format of their file.
#[derive(Clone, Debug)]
pub(crate) struct Table {
    weight: Weight,
    width: usize,
}

impl Table {
    /// Rows `numbers`, `[numbers, width]`: on the CPU in f32, on a GPU in the format of the scope.
    pub(crate) fn rows(&self, numbers: &[u32]) -> Result<Tensor> {
        if let Weight::Dense(whole) = &self.weight
            && !whole.device().is_cpu()
        {
            return Ok(whole.index_select(&Tensor::new(numbers, whole.device())?, 0)?);
        }
        let mut out = vec![0.; numbers.len() * self.width];
        for (number, out) in numbers.iter().zip(out.chunks_mut(self.width.max(1))) {
            let row = *number as usize;
            self.weight.widen_rows(row..row + 1, out)?;
        }
        Ok(Tensor::from_vec(out, (numbers.len(), self.width), &Device::Cpu)?)
    }
}

impl Scope {
    /// The weight `name` of this shape as a table. It counts as handed out.
    ///
    /// # Errors
    /// As [`Source::get`](crate::weights::Source::get).
    pub(crate) fn table(&self, (count, width): (usize, usize), name: &str) -> Result<Table> {
        let weight = self.weight(Shape::from((count, width)), name)?;
        let weight = match self.device() {
            Device::Cpu => crate::weights::at_rest(weight, self.dtype())?,
            device => Weight::Dense(weight.to_tensor(self.dtype(), device)?),
        };
        self.count(weight.bytes());
        Ok(Table { weight, width })
    }
}
