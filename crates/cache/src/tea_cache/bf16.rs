//! The relative change of bf16 tensors with every intermediate rounded to bf16, as PyTorch does.
//!
//! ```text
//! bf16(bf16(mean |bf16(a - b)|) / bf16(mean |b|))        a, b in bf16
//! ```
//!
//! Source: kijai/ComfyUI-WanVideoWrapper at 6fadcbd, `wanvideo/modules/model.py`, where the time
//! signals became bf16; a mean is summed in f32 and then rounded.

use wan_plugin_api::{DType, Result, Tensor, TensorOps};

/// The relative change from `anchor` to `signal` over all frames; `None` where it is undefined.
pub(super) fn relative_change(
    signal: &Tensor,
    anchor: &Tensor,
    ops: &dyn TensorOps,
) -> Result<Option<f64>> {
    let read = |tensor: &Tensor| ops.cast(tensor, DType::BF16).and_then(|t| ops.read(&t));
    let (now, before) = (read(signal)?, read(anchor)?);
    let differences = now.iter().zip(&before).map(|(a, b)| to_bf16(a - b));
    let (difference, size) = (mean_abs(differences), mean_abs(before.iter().copied()));
    let ratio = to_bf16(difference / size);
    let is_defined = ratio.is_finite() && now.iter().any(|v| *v != 0.0);
    Ok(is_defined.then_some(f64::from(ratio)))
}

/// Mean of the magnitudes, rounded to bf16.
fn mean_abs(values: impl ExactSizeIterator<Item = f32>) -> f32 {
    let count = values.len() as f64;
    let sum: f64 = values.map(|v| f64::from(v.abs())).sum();
    to_bf16((sum / count) as f32)
}

/// Rounds to the nearest bf16, ties to even; NaN and infinity stay as they are.
fn to_bf16(value: f32) -> f32 {
    if !value.is_finite() {
        return value;
    }
    let bits = value.to_bits();
    f32::from_bits(bits.wrapping_add(0x7fff + ((bits >> 16) & 1)) & 0xffff_0000)
}
