//! What a run's evaluations gave, kept so that another run can be held against it.

use candle_core::{DType, Device, Tensor};
use wan_border::numbers::u32_of;
use wan_host::Result;
use wan_host::parts::{Inside, Seen, Witness};

/// Most numbers of a residual that are kept. Above it every n-th token is, evenly: 14B at 720p
/// has 168 million numbers per residual.
const RESIDUAL_NUMBERS: usize = 1 << 20;

/// Velocities and residuals of every branch and evaluation, in order, in host memory.
#[derive(Default)]
pub(super) struct Trace {
    velocities: Vec<Tensor>,
    /// None where a cached output stood in for the model.
    residuals: Vec<Option<Tensor>>,
}

impl Witness for Trace {
    fn see(&mut self, seen: &Seen<'_>) -> Result<()> {
        self.velocities.push(seen.velocity.to_device(&Device::Cpu)?);
        self.residuals.push(seen.inside.map(kept_residual).transpose()?);
        Ok(())
    }
}

impl Trace {
    /// Evaluations seen, all branches.
    pub(super) fn len(&self) -> usize {
        self.velocities.len()
    }

    /// Relative errors of velocities and residuals against the same evaluations of `reference`; of
    /// a residual none, where either run has none.
    pub(super) fn errors_against(&self, reference: &Self) -> Result<(Vec<f64>, Vec<Option<f64>>)> {
        let velocities = self.velocities.iter().zip(&reference.velocities);
        let velocities = velocities.map(|(a, b)| relative_error(a, b)).collect::<Result<_>>()?;
        let residuals = self.residuals.iter().zip(&reference.residuals);
        let error = |(a, b): (&Option<Tensor>, &Option<Tensor>)| {
            a.as_ref().zip(b.as_ref()).map(|(a, b)| relative_error(a, b)).transpose()
        };
        Ok((velocities, residuals.map(error).collect::<Result<_>>()?))
    }
}

/// What the blocks added, `[1, L / n, D]`.
fn kept_residual(inside: Inside<'_>) -> Result<Tensor> {
    let hidden = &inside.embedded.hidden;
    let (_, tokens, width) = hidden.dims3()?;
    let stride = (tokens * width).div_ceil(RESIDUAL_NUMBERS);
    let residual = match stride {
        1 => (inside.after - hidden)?,
        _ => {
            let kept: Vec<u32> = (0..u32_of(tokens)).step_by(stride).collect();
            let kept = Tensor::new(kept, hidden.device())?;
            (inside.after.index_select(&kept, 1)? - hidden.index_select(&kept, 1)?)?
        }
    };
    Ok(residual.to_device(&Device::Cpu)?)
}

/// `mean |a - b| / mean |b|`.
fn relative_error(a: &Tensor, b: &Tensor) -> Result<f64> {
    let sum = |t: &Tensor| t.to_dtype(DType::F64)?.abs()?.sum_all()?.to_scalar::<f64>();
    Ok(sum(&(a.to_dtype(DType::F64)? - b.to_dtype(DType::F64)?)?)? / sum(b)?.max(1e-30))
}
