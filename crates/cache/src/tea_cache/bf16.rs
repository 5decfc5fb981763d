//! The relative change as a framework takes it of bf16 tensors: every intermediate is rounded.
//!
//! ```text
//! bf16(bf16(mean |bf16(a - b)|) / bf16(mean |b|))        a, b in bf16
//! ```
//!
//! Source: kijai/ComfyUI-WanVideoWrapper at 6fadcbd, `wanvideo/modules/model.py`, where the time
//! signals became bf16; a mean is summed in f32 and then rounded.

use wan_plugin_api::{DType, Result, Tensor, TensorOps};

/// The change from `anchor` to `signal` over all frames; none where it is undefined.
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
    let says_something = ratio.is_finite() && now.iter().any(|v| *v != 0.0);
    Ok(says_something.then_some(f64::from(ratio)))
}

/// Mean of the magnitudes, rounded to bf16.
fn mean_abs(values: impl ExactSizeIterator<Item = f32>) -> f32 {
    let count = values.len() as f64;
    let sum: f64 = values.map(|v| f64::from(v.abs())).sum();
    to_bf16((sum / count) as f32)
}

/// Rounds to the nearest bf16, ties to even; what is not finite stays so.
fn to_bf16(value: f32) -> f32 {
    if !value.is_finite() {
        return value;
    }
    let bits = value.to_bits();
    f32::from_bits(bits.wrapping_add(0x7fff + ((bits >> 16) & 1)) & 0xffff_0000)
}
