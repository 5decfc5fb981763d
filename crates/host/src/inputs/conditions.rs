//! What a video is conditioned on, as tensors: prompts, pictures and clips. No pipeline is copied
//! for any of them.

use candle_core::{Device, Tensor};
use safetensors::View;
use sha2::{Digest, Sha256};
use wan_plugin_api::FrameLevel;

use crate::error::Result;
use crate::latents::LATENT_FRAME_AXIS;

/// Everything that the encoders have to say, so that they need not stay.
#[derive(Debug, Clone)]
pub struct Conditions {
    /// The prompt, `[1, T, text_dim]`.
    pub prompt: Tensor,
    /// The negative prompt, `[1, T, text_dim]`; needed where an expert's guidance scale is above 1.
    pub negative: Option<Tensor>,
    /// Output of the image encoder, where the model takes it: `[pictures, tokens, image_dim]`.
    pub image: Option<Tensor>,
    /// Channels that are appended to the latents: mask and encoded image, `[1, Cc, F, H, W]`
    /// (Wan 2.1 I2V and FLF2V, Wan 2.2 I2V-A14B, SkyReels-V2 I2V).
    pub channels: Option<Tensor>,
    /// Clean latents `[1, C, n, H, W]` that the model sees in the place of the first `n` frames, at
    /// timestep 0 (Wan 2.2 TI2V-5B). The sample itself is left alone until the end.
    pub first_frames: Option<Tensor>,
    /// Clean latent frames at the beginning of the sample, `[1, C, p, H, W]`.
    pub prefix: Option<Tensor>,
}

impl Conditions {
    /// A prompt, `[1, T, text_dim]`, and nothing else.
    pub fn of_prompt(prompt: Tensor) -> Self {
        let (negative, image, channels, first_frames, prefix) = (None, None, None, None, None);
        Self { prompt, negative, image, channels, first_frames, prefix }
    }

    /// SHA-256 of all of them: shapes, formats and numbers.
    ///
    /// # Errors
    /// If a tensor cannot be read from its device.
    pub fn hash(&self) -> Result<String> {
        let Self { prompt, negative, image, channels, first_frames, prefix } = self;
        let mut hash = Sha256::new();
        for tensor in [Some(prompt), negative.as_ref(), image.as_ref(), channels.as_ref()]
            .into_iter()
            .chain([first_frames.as_ref(), prefix.as_ref()])
        {
            let Some(tensor) = tensor else {
                hash.update([0]);
                continue;
            };
            hash.update(format!("{:?} {:?}", tensor.dtype(), tensor.dims()));
            let own = tensor.to_device(&Device::Cpu)?.contiguous()?;
            hash.update(View::data(&&own));
        }
        Ok(hex::encode(hash.finalize()))
    }

    /// Clean latent frames at the beginning of the sample.
    pub(crate) fn prefix_frames(&self) -> usize {
        self.prefix.as_ref().map_or(0, |clean| clean.dims()[LATENT_FRAME_AXIS])
    }

    /// The levels of a window that begins at latent frame `first`, as model and caches are told:
    /// frames that are shown clean rest at 0.
    pub(crate) fn levels(&self, levels: &[FrameLevel], first: usize) -> Vec<FrameLevel> {
        let mut told = levels.to_vec();
        for level in &mut told[..self.shown(first, levels.len())] {
            *level = FrameLevel::frozen(level.frame, 0.0, 0.0);
        }
        told
    }

    /// How many frames of a window are shown clean.
    fn shown(&self, first: usize, frames: usize) -> usize {
        let Some(clean) = &self.first_frames else { return 0 };
        clean.dims()[LATENT_FRAME_AXIS].saturating_sub(first).min(frames)
    }

    /// The model's input for a window that begins at latent frame `first`: latents with what is
    /// conditioned on.
    ///
    /// # Errors
    /// If shapes do not agree.
    pub(crate) fn model_input(&self, sample: &Tensor, first: usize) -> candle_core::Result<Tensor> {
        let frames = sample.dims()[LATENT_FRAME_AXIS];
        let mut input = sample.clone();
        if let Some(clean) = &self.first_frames {
            input = replace_first(&input, clean, first, self.shown(first, frames))?;
        }
        if let Some(channels) = &self.channels {
            let window = channels.narrow(LATENT_FRAME_AXIS, first, frames)?;
            input = Tensor::cat(&[&input, &window], 1)?; // [1, C + Cc, F, H, W]
        }
        Ok(input)
    }

    /// Puts the clean frames where finished latents, from frame `first` on, have something else.
    ///
    /// # Errors
    /// If shapes do not agree.
    pub(crate) fn finish(&self, latents: &Tensor, first: usize) -> candle_core::Result<Tensor> {
        let frames = latents.dims()[LATENT_FRAME_AXIS];
        match &self.first_frames {
            Some(clean) => replace_first(latents, clean, first, self.shown(first, frames)),
            None => Ok(latents.clone()),
        }
    }
}

/// `sample` with its first `count` frames taken from `clean`, from frame `first` of it on.
fn replace_first(
    sample: &Tensor,
    clean: &Tensor,
    first: usize,
    count: usize,
) -> candle_core::Result<Tensor> {
    let frames = sample.dims()[LATENT_FRAME_AXIS];
    if count == 0 {
        return Ok(sample.clone());
    }
    let clean = clean.narrow(LATENT_FRAME_AXIS, first, count)?;
    match frames - count {
        0 => clean.contiguous(),
        rest => {
            let rest = sample.narrow(LATENT_FRAME_AXIS, count, rest)?;
            Tensor::cat(&[&clean, &rest], LATENT_FRAME_AXIS)
        }
    }
}

/// The mask of an image condition, `[1, 4, F, h, w]`: 1 where the pixel frame is given.
///
/// `given` tells for each pixel frame whether it is. The first latent frame holds one pixel frame,
/// repeated; the others four each (Wan2.1, commit 9737cba, `wan/image2video.py`).
///
/// # Errors
/// If the number of pixel frames is not `4 n + 1`.
pub(crate) fn given_frames_mask(
    given: &[bool],
    height: usize,
    width: usize,
    device: &candle_core::Device,
) -> candle_core::Result<Tensor> {
    let Some((first, rest)) = given.split_first() else { candle_core::bail!("no frames") };
    if !rest.len().is_multiple_of(4) {
        candle_core::bail!("{} pixel frames are not 4n+1", given.len());
    }
    let padded: Vec<f32> =
        [*first; 4].iter().chain(rest).map(|given| f32::from(u8::from(*given))).collect();
    let frames = padded.len() / 4;
    Tensor::from_vec(padded, (frames, 4, 1, 1), device)?
        .transpose(0, 1)? // [4, F, 1, 1]
        .unsqueeze(0)?
        .broadcast_as((1, 4, frames, height, width))?
        .contiguous()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frames(values: &[f32]) -> Tensor {
        Tensor::new(values, &Device::Cpu).unwrap().reshape((1, 1, values.len(), 1, 1)).unwrap()
    }

    fn levels(count: u32) -> Vec<FrameLevel> {
        (0..count).map(|f| FrameLevel::moving(f, 900.0, 0.9, 0.8)).collect()
    }

    #[test]
    fn the_model_sees_clean_first_frames_at_timestep_0() {
        let conditions = Conditions {
            first_frames: Some(frames(&[7.0, 8.0])),
            ..Conditions::of_prompt(frames(&[0.0]))
        };
        let told = |count, first| {
            let levels = conditions.levels(&levels(count), first);
            levels.iter().map(|l| (l.frame, l.timestep, l.update)).collect::<Vec<_>>()
        };
        let input = conditions.model_input(&frames(&[1.0, 2.0, 3.0]), 0).unwrap();
        assert_eq!(input.flatten_all().unwrap().to_vec1::<f32>().unwrap(), [7.0, 8.0, 3.0]);
        assert_eq!(told(3, 0), [(0, 0.0, false), (1, 0.0, false), (2, 900.0, true)]);
        // A window that begins at the second frame sees one of them.
        let input = conditions.model_input(&frames(&[2.0, 3.0]), 1).unwrap();
        assert_eq!(input.flatten_all().unwrap().to_vec1::<f32>().unwrap(), [8.0, 3.0]);
        assert_eq!(told(2, 1), [(0, 0.0, false), (1, 900.0, true)]);
    }

    #[test]
    fn channels_follow_the_window() {
        let conditions = Conditions {
            channels: Some(frames(&[10.0, 20.0, 30.0])),
            ..Conditions::of_prompt(frames(&[0.0]))
        };
        let input = conditions.model_input(&frames(&[1.0, 2.0]), 1).unwrap();
        assert_eq!(input.flatten_all().unwrap().to_vec1::<f32>().unwrap(), [1.0, 2.0, 20.0, 30.0]);
    }

    #[test]
    fn a_first_pixel_frame_fills_the_first_latent_frame() {
        let given: Vec<bool> = (0..9).map(|f| f == 0 || f == 8).collect();
        let mask = given_frames_mask(&given, 1, 1, &Device::Cpu).unwrap();
        let mask = mask.reshape((4, 3)).unwrap().to_vec2::<f32>().unwrap();
        let rows = [[1.0, 0.0, 0.0], [1.0, 0.0, 0.0], [1.0, 0.0, 0.0], [1.0, 0.0, 1.0]];
        assert_eq!(mask, rows);
    }
}
