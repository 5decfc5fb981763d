//! Pictures as tensors.

use candle_core::{Device, Tensor};
use wan_media::RgbImage;

use crate::error::{Error, Result};

/// Pictures of one size as `[1, 3, T, H, W]` in -1 to 1.
///
/// # Errors
/// If there is none, or their sizes differ.
pub(super) fn to_tensor(pictures: &[RgbImage], device: &Device) -> Result<Tensor> {
    let first = pictures.first().ok_or_else(|| Error::invalid("no picture is given"))?;
    let (width, height) = (first.width() as usize, first.height() as usize);
    if pictures.iter().any(|p| p.dimensions() != first.dimensions()) {
        return Err(Error::invalid("pictures of different sizes"));
    }
    let bytes: Vec<u8> = pictures.iter().flat_map(|p| p.as_raw().iter().copied()).collect();
    let values: Vec<f32> = bytes.into_iter().map(|b| f32::from(b) / 127.5 - 1.0).collect();
    let frames = Tensor::from_vec(values, (pictures.len(), height, width, 3), device)?;
    Ok(frames.permute((3, 0, 1, 2))?.unsqueeze(0)?.contiguous()?) // [1, 3, T, H, W]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn black_is_minus_one_and_white_is_one() {
        let pictures = [RgbImage::from_pixel(2, 1, [0, 255, 0].into())];
        let tensor = to_tensor(&pictures, &Device::Cpu).unwrap();
        assert_eq!(tensor.dims(), [1, 3, 1, 1, 2]);
        let values = tensor.flatten_all().unwrap().to_vec1::<f32>().unwrap();
        assert_eq!(values, [-1.0, -1.0, 1.0, 1.0, -1.0, -1.0]);
    }
}
