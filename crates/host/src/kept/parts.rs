//! What lies in the growing files of a run: latent frames, and records of evaluations.

use candle_core::{DType, Device, Tensor};
use wan_border::files::parse_json;

use crate::denoise::tally::EvaluationRecord;
use crate::error::{Error, Result};
use crate::tensor_bytes::bytes_of;

/// A latent frame that is done.
#[derive(Debug, Clone)]
pub struct KeptFrame {
    /// Its number.
    pub number: usize,
    /// Sigma that it ends at.
    pub sigma: f64,
    /// `[1, C, 1, H, W]`, f32.
    pub latents: Tensor,
}

/// Bytes of number and sigma.
const HEAD: usize = 16;

/// A part of the file of latent frames: number (u64), sigma (the bits of an f64), and the numbers
/// (f32), all little endian.
pub(super) fn of_frame(number: usize, sigma: f64, latents: &Tensor) -> Result<[Vec<u8>; 2]> {
    let mut head = (number as u64).to_le_bytes().to_vec();
    head.extend(sigma.to_bits().to_le_bytes());
    Ok([head, bytes_of(latents)?])
}

/// The frame that a part holds, of `[C, H, W]`.
///
/// # Errors
/// If it holds none of that shape.
pub(super) fn frame_of(part: &[u8], shape: [usize; 3]) -> Result<KeptFrame> {
    let [channels, height, width] = shape;
    let wrong = |why: String| Error::invalid(format!("a kept latent frame {why}"));
    if part.len() != HEAD + 4 * channels * height * width {
        return Err(wrong(format!("has {} bytes, and {shape:?} f32 are asked for", part.len())));
    }
    let word = |at: usize| {
        let bytes: Vec<u8> = part[at..at + 8].to_vec();
        u64::from_le_bytes(bytes.try_into().unwrap_or_default())
    };
    let number = usize::try_from(word(0)).map_err(|_| wrong("has an impossible number".into()))?;
    let (sigma, whole) = (f64::from_bits(word(8)), [1, channels, 1, height, width]);
    let latents = Tensor::from_raw_buffer(&part[HEAD..], DType::F32, &whole, &Device::Cpu)?;
    Ok(KeptFrame { number, sigma, latents })
}

/// A part of the file of evaluations: records as a list in JSON.
pub(super) fn of_records(records: &[EvaluationRecord]) -> Result<Vec<u8>> {
    serde_json::to_vec(records).map_err(|error| Error::invalid(error.to_string()))
}

/// The records that a part holds.
///
/// # Errors
/// If it holds none.
pub(super) fn records_of(part: &[u8]) -> Result<Vec<EvaluationRecord>> {
    let text = std::str::from_utf8(part).map_err(|error| Error::invalid(error.to_string()))?;
    parse_json(text).map_err(|said| Error::malformed("kept evaluations", said))
}
