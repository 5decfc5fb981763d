//! Pixels folded into channels and back (Wan 2.2). All tensors `[B,T,C,H,W]`.
//!
//! A patch of `p` by `p` pixels becomes `p p` channels per colour, ordered by column, then by row.
//! Source: diffusers 0.42.1 `patchify`, `unpatchify`.

use candle_core::{Result, Tensor};

/// `[B,T,C,p H,p W]` to `[B,T,C p p,H,W]`.
pub(crate) fn fold(pixels: &Tensor, p: usize) -> Result<Tensor> {
    if p == 1 {
        return Ok(pixels.clone());
    }
    let (batch, frames, channels, height, width) = pixels.dims5()?;
    let (height, width) = (height / p, width / p);
    pixels
        .reshape(&[batch, frames, channels, height, p, width, p])?
        .permute(vec![0, 1, 2, 6, 4, 3, 5])? // [B,T,C,column,row,H,W]
        .reshape((batch, frames, channels * p * p, height, width))
}

/// `[B,T,C p p,H,W]` to `[B,T,C,p H,p W]`.
pub(crate) fn unfold(patches: &Tensor, p: usize) -> Result<Tensor> {
    if p == 1 {
        return Ok(patches.clone());
    }
    let (batch, frames, channels, height, width) = patches.dims5()?;
    let channels = channels / (p * p);
    patches
        .reshape(&[batch, frames, channels, p, p, height, width])?
        .permute(vec![0, 1, 2, 5, 4, 6, 3])? // [B,T,C,H,row,W,column]
        .reshape((batch, frames, channels, height * p, width * p))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{noise, numbers};
    use candle_core::{DType, Device};

    #[test]
    fn columns_come_before_rows() {
        // One colour, one patch: 0 1 / 2 3.
        let pixels = Tensor::arange(0u32, 4, &Device::Cpu).unwrap().to_dtype(DType::F32).unwrap();
        let pixels = pixels.reshape((1, 1, 1, 2, 2)).unwrap();
        assert_eq!(numbers(&fold(&pixels, 2).unwrap()), [0., 2., 1., 3.]);
    }

    #[test]
    fn unfolding_undoes_folding() {
        let pixels = noise(1, &[2, 3, 2, 6, 9]);
        let folded = fold(&pixels, 3).unwrap();
        assert_eq!(folded.dims(), [2, 3, 18, 2, 3]);
        assert_eq!(numbers(&unfold(&folded, 3).unwrap()), numbers(&pixels));
    }
}
