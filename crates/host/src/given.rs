//! Frames that the user gives, in the form that the model at hand takes them.

use std::path::PathBuf;

use candle_core::{Device, Tensor};
use image::RgbImage;
use serde::{Deserialize, Serialize};
use wan_model::clip::{ClipVision, Resizing, preprocess};
use wan_model::vae::Vae;

use crate::conditioning::Conditioning;
use crate::error::{Error, Result};
use crate::image_condition::{GivenFrame, encode_frames, image_channels};
use crate::media::{fit, picture, read_image, read_video, to_tensor};
use crate::settings::Settings;
use crate::video::VideoFrames;

/// Files that a video begins or ends with.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct GivenFiles {
    /// A picture that is the first frame.
    pub image: Option<PathBuf>,
    /// A picture that is the last frame.
    pub last_frame: Option<PathBuf>,
    /// A clip that the video goes on from.
    pub video: Option<PathBuf>,
    /// How many of the clip's last frames are context, `4 n + 1`.
    pub context_frames: usize,
}

/// The files, read and fitted to the size of the video.
#[derive(Debug, Default)]
pub struct GivenFrames {
    /// Pictures from the first frame on.
    first: Vec<RgbImage>,
    last: Option<RgbImage>,
    /// Frames of the clip before the context: they stand before what is generated.
    before: Vec<RgbImage>,
}

/// What a sampling starts from.
#[derive(Debug, Default)]
pub struct Start {
    /// Clean latent frames at the beginning of the sample, `[1, C, p, H, W]`.
    pub prefix: Option<Tensor>,
    /// Conditions beside the sample.
    pub conditioning: Conditioning,
    /// Output of the image encoder, where the model takes it.
    pub image_embeds: Option<Tensor>,
}

/// Parts of a model that given frames go through.
pub struct Encoders<'a> {
    /// Pixels to latents.
    pub vae: &'a Vae,
    /// Pictures to tokens, where the model takes them.
    pub clip: Option<&'a ClipVision>,
    /// Channels that the transformer takes beyond the latents.
    pub extra_channels: usize,
    /// Where tensors are made.
    pub device: &'a Device,
}

impl GivenFrames {
    /// Reads the files and fits them to the video's size.
    ///
    /// # Errors
    /// If a file cannot be read, a clip is too short, or an image and a clip are both given.
    pub fn read(settings: &Settings) -> Result<Self> {
        let files = &settings.given;
        let fitted = |p: &RgbImage| fit(p, settings.width, settings.height);
        let image = |path: &PathBuf| Ok::<_, Error>(fitted(&read_image(path)?));
        let last = files.last_frame.as_ref().map(image).transpose()?;
        match (&files.image, &files.video) {
            (Some(_), Some(_)) => Err(Error::invalid("--image and --video exclude each other")),
            (Some(path), None) => Ok(Self { first: vec![image(path)?], last, before: Vec::new() }),
            (None, None) => Ok(Self { first: Vec::new(), last, before: Vec::new() }),
            (None, Some(path)) => {
                let clip = read_video(path)?;
                let context = files.context_frames;
                if clip.frames() < context || context >= settings.frame_num {
                    return Err(Error::invalid(format!(
                        "--video {}: {} frames; --context_frames {context} must be at most that, \
                         and below --frame_num {}",
                        path.display(),
                        clip.frames(),
                        settings.frame_num
                    )));
                }
                let frames = (0..clip.frames()).map(|f| fitted(&picture(&clip, f)));
                let mut before: Vec<RgbImage> = frames.collect();
                let first = before.split_off(clip.frames() - context);
                Ok(Self { first, last, before })
            }
        }
    }

    /// Whether nothing is given.
    pub fn is_empty(&self) -> bool {
        self.first.is_empty() && self.last.is_none()
    }

    /// The form that this model takes them in: channels beside the latents and image tokens
    /// (image-to-video models), or clean latent frames that diffusion goes on from.
    ///
    /// # Errors
    /// If the model takes them in neither form.
    pub fn start(&self, encoders: &Encoders<'_>, frame_num: usize) -> Result<Start> {
        if encoders.extra_channels > 0 {
            return self.image_start(encoders, frame_num);
        }
        if self.last.is_some() {
            return Err(Error::invalid(
                "--last_frame: this model takes no last frame (FLF2V and I2V models do)",
            ));
        }
        if self.first.is_empty() {
            return Ok(Start::default());
        }
        if !(self.first.len() - 1).is_multiple_of(encoders.vae.config().scale_factor_temporal) {
            return Err(Error::invalid(format!(
                "--context_frames {}: must be 4n+1, so that it is whole latent frames",
                self.first.len()
            )));
        }
        let pixels = to_tensor(&self.first, encoders.device)?;
        Ok(Start { prefix: Some(encode_frames(encoders.vae, &pixels)?), ..Start::default() })
    }

    fn image_start(&self, encoders: &Encoders<'_>, frame_num: usize) -> Result<Start> {
        if self.is_empty() {
            return Err(Error::invalid("this model makes videos from an image: give --image FILE"));
        }
        let ends = self.first.first().map(|p| (0, p)).into_iter();
        let ends = ends.chain(self.last.as_ref().map(|p| (frame_num - 1, p)));
        let (mut given, mut pictures) = (Vec::new(), Vec::new());
        for (number, picture) in ends {
            let pixels = to_tensor(std::slice::from_ref(picture), encoders.device)?;
            pictures.push(pixels.squeeze(2)?); // [1, 3, H, W]
            given.push(GivenFrame { number, pixels });
        }
        let image_embeds = encoders.clip.map(|clip| clip_tokens(clip, &pictures)).transpose()?;
        let channels = Some(image_channels(encoders.vae, &given, frame_num)?);
        let conditioning = Conditioning { channels, first_frames: None };
        Ok(Start { prefix: None, conditioning, image_embeds })
    }

    /// The finished clip: what stood before the context, the context as it was given, and what was
    /// generated after it. A single image is not put back: the model's own first frame goes on
    /// without a seam.
    ///
    /// # Errors
    /// If the sizes do not agree.
    pub fn finish(&self, generated: VideoFrames) -> Result<VideoFrames> {
        if self.first.len() < 2 {
            return Ok(generated);
        }
        let (width, height) = (generated.width(), generated.height());
        let given = self.before.iter().chain(&self.first);
        let mut rgb: Vec<u8> = given.flat_map(|p| p.as_raw().iter().copied()).collect();
        rgb.extend(&generated.rgb()[self.first.len() * width * height * 3..]);
        Ok(VideoFrames::new(width, height, rgb)?)
    }
}

/// Penultimate hidden states of the image encoder, `[pictures, tokens, D]`.
fn clip_tokens(clip: &ClipVision, pictures: &[Tensor]) -> Result<Tensor> {
    let pictures = ((Tensor::cat(pictures, 0)? + 1.0)? * 0.5)?; // 0 to 1
    let size = clip.config().image_size;
    Ok(clip.penultimate(&preprocess(&pictures, size, Resizing::Crop)?)?)
}
