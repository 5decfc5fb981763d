//! What is too large to have twice: residuals go to where they are kept, and come back, one latent
//! frame at a time.

use candle_core::{Device, Tensor as CandleTensor};
use wan_plugin_api::{Error, Place, Result, Tensor};

use super::{HostOps, failed};
use crate::denoise::host_tensor::HostTensor;
use crate::ledger::Item;

impl HostOps {
    /// `base + addend`, in `base`'s format. What is kept elsewhere or in another format is brought
    /// over one latent frame at a time, so that no second tensor of its size comes to be.
    ///
    /// # Errors
    /// If the handle is not of this host, or the sizes differ.
    pub(crate) fn add_to(
        &self,
        base: &CandleTensor,
        addend: &Tensor,
        frame_axis: usize,
    ) -> Result<CandleTensor> {
        let body = addend.body::<HostTensor>()?;
        if body.rows.is_some() || body.tensor.elem_count() != base.elem_count() {
            return Err(Error::failed(format!(
                "a reused tensor of {:?} in the place of one of {:?}",
                body.tensor.dims(),
                base.dims()
            )));
        }
        if body.tensor.dtype() == base.dtype() && body.tensor.device().same_device(base.device()) {
            return (base + &body.tensor).map_err(failed);
        }
        let frames = body.frames;
        let per_frame = base.dims()[frame_axis] / frames;
        let sum = base.zeros_like().map_err(failed)?;
        let add_frame = |f: usize| {
            let frame = body.frames_f32(f, 1)?.to_device(base.device())?.to_dtype(base.dtype())?;
            let frame = (base.narrow(frame_axis, f * per_frame, per_frame)? + frame)?;
            sum.slice_set(&frame.contiguous()?, frame_axis, f * per_frame)
        };
        (0..frames).try_for_each(add_frame).map_err(failed)?;
        Ok(sum)
    }

    /// A handle to `after - before`, kept in `place`; on its way to another device it is never
    /// whole on the model's.
    ///
    /// # Errors
    /// If the sizes differ.
    pub(crate) fn wrap_difference(
        &self,
        (after, before): (&CandleTensor, &CandleTensor),
        (frame_axis, frames): (usize, usize),
        place: Place,
    ) -> Result<Tensor> {
        let kept_on = if place == Place::Host { &Device::Cpu } else { &self.device };
        let difference = match after.device().same_device(kept_on) {
            true => after - before,
            false => by_frame((after, before), (frame_axis, frames), kept_on),
        };
        self.wrap(Item::Computed, difference.map_err(failed)?, frame_axis, frames)
    }
}

/// `after - before` on another device, where it comes to be one latent frame at a time.
fn by_frame(
    (after, before): (&CandleTensor, &CandleTensor),
    (frame_axis, frames): (usize, usize),
    to: &Device,
) -> candle_core::Result<CandleTensor> {
    let per_frame = after.dims()[frame_axis] / frames;
    let frame = |tensor: &CandleTensor, f| tensor.narrow(frame_axis, f * per_frame, per_frame);
    let whole = CandleTensor::zeros(after.shape(), after.dtype(), to)?;
    for f in 0..frames {
        let part = (frame(after, f)? - frame(before, f)?)?.to_device(to)?;
        whole.slice_set(&part.contiguous()?, frame_axis, f * per_frame)?;
    }
    Ok(whole)
}

#[cfg(test)]
mod tests {
    use wan_plugin_api::{DType, TensorOps};

    use super::*;
    use crate::cancel::Cancel;
    use crate::denoise::noise::Noise;

    fn hidden(scale: f64) -> CandleTensor {
        let tensor = CandleTensor::arange(0f32, 48.0, &Device::Cpu).unwrap();
        tensor.reshape((1, 6, 8)).unwrap().affine(scale, 0.3).unwrap()
    }

    fn values(tensor: &CandleTensor) -> Vec<f32> {
        tensor.flatten_all().unwrap().to_vec1().unwrap()
    }

    #[test]
    fn what_is_kept_in_another_format_is_added_frame_by_frame_as_if_at_once() {
        let ops = HostOps::new(Device::Cpu, Noise::new(0), Cancel::default());
        let (before, after) = (hidden(0.1), hidden(-0.7));
        let residual = ops.wrap_difference((&after, &before), (1, 3), Place::Device).unwrap();
        for dtype in [DType::F32, DType::BF16, DType::F8E4M3] {
            let kept = ops.cast(&residual, dtype).unwrap();
            let whole = (&before + ops.unwrap(&kept).unwrap()).unwrap();
            let sum = ops.add_to(&before, &kept, 1).unwrap();
            assert_eq!(values(&sum), values(&whole), "{dtype:?}");
        }
        let other = hidden(0.1).narrow(1, 0, 3).unwrap();
        assert!(ops.add_to(&other, &residual, 1).is_err());
    }

    #[test]
    fn a_difference_by_frame_is_that_of_the_whole() {
        let (before, after) = (hidden(0.1), hidden(-0.7));
        let whole = (&after - &before).unwrap();
        let found = by_frame((&after, &before), (1, 3), &Device::Cpu).unwrap();
        assert_eq!(values(&found), values(&whole));
        assert!(values(&whole).iter().any(|number| *number != 0.));
    }
}
