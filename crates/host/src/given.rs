//! Frames that the user gives, in the form that the model at hand takes them.

use std::path::PathBuf;

use candle_core::{Device, Tensor};
use serde::{Deserialize, Serialize};
use wan_media::{RgbImage, VideoFrames, fit, picture, read_image, read_video};
use wan_model::WanConfig;
use wan_model::clip::{ClipVision, Resizing, preprocess};
use wan_model::vae::Vae;

use crate::cancel::Cancel;
use crate::conditioning::Conditioning;
use crate::error::{Error, Result};
use crate::image_condition::{GivenFrame, encode_frames, image_channels};
use crate::pixels::to_tensor;
use crate::settings::Settings;

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
    /// Latents of an earlier run, to go on from instead of noise.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub latents: Option<PathBuf>,
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
#[derive(Debug, Clone, Default)]
pub struct Start {
    /// Clean latent frames at the beginning of the sample, `[1, C, p, H, W]`.
    pub prefix: Option<Tensor>,
    /// Conditions beside the sample.
    pub conditioning: Conditioning,
}

/// How a model takes given frames.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Intake {
    /// As channels beside the latents (image-to-video models); else as clean latent frames.
    pub channels: bool,
    /// As clean latents that the model sees in the place of the first frames (TI2V), with any sampler;
    /// else in front of those that a diffusion-forcing sampler moves.
    pub in_place: bool,
    /// As tokens of the image encoder too.
    pub tokens: bool,
    /// Tokens of a first and a last frame (FLF2V), not of one picture.
    pub both_ends: bool,
}

impl Intake {
    /// The intake of a transformer whose VAE has `latent_channels`.
    pub fn of(config: &WanConfig, latent_channels: usize) -> Self {
        Self {
            channels: config.in_channels > latent_channels,
            in_place: false,
            tokens: config.takes_image_tokens(),
            both_ends: config.pos_embed_seq_len.is_some(),
        }
    }
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

    /// Checks that a model takes what is given, and is given what it needs, before any part is
    /// loaded.
    ///
    /// # Errors
    /// If not, naming the flag.
    pub fn check(&self, intake: Intake, temporal_scale: usize) -> Result<()> {
        let refuse = |why: String| Err(Error::invalid(why));
        let (first, last) = (self.first.len(), self.last.is_some());
        if !intake.channels {
            return match () {
                () if last => refuse(
                    "--last_frame: this model takes no last frame (FLF2V and I2V models do)".into(),
                ),
                () if first > 0 && !(first - 1).is_multiple_of(temporal_scale) => refuse(format!(
                    "--context_frames {first}: must be {temporal_scale}n+1, so that it is whole \
                     latent frames"
                )),
                () => Ok(()),
            };
        }
        match (first, last) {
            (0, false) if intake.both_ends => refuse(
                "this model makes videos between two pictures: give --image FILE and --last_frame \
                 FILE"
                    .into(),
            ),
            (0, _) => refuse("this model makes videos from an image: give --image FILE".into()),
            (1, false) if intake.both_ends => refuse(
                "this model makes videos between two pictures: give --last_frame FILE too".into(),
            ),
            (1, true) if intake.tokens && !intake.both_ends => refuse(
                "--last_frame: this model was trained with a first frame alone (FLF2V models take \
                 both)"
                    .into(),
            ),
            (1, _) => Ok(()),
            _ => refuse("--video: this model goes on from a picture; give --image FILE".into()),
        }
    }

    /// Clean latent frames that the sample begins with.
    pub fn prefix_frames(&self, intake: Intake, temporal_scale: usize) -> usize {
        if intake.in_place { 0 } else { self.clean_frames(intake, temporal_scale) }
    }

    /// Latent frames of what is given, where the model does not take it as channels.
    pub(crate) fn clean_frames(&self, intake: Intake, temporal_scale: usize) -> usize {
        match self.first.len() {
            frames if frames == 0 || intake.channels => 0,
            frames => (frames - 1) / temporal_scale + 1,
        }
    }

    /// Output of the image encoder for the given pictures, `[pictures, tokens, D]`.
    ///
    /// # Errors
    /// If it refuses their sizes.
    pub fn image_tokens(&self, clip: &ClipVision, device: &Device) -> Result<Tensor> {
        let pictures = self.ends().map(|picture| to_tensor(std::slice::from_ref(picture), device));
        let pictures = pictures.collect::<Result<Vec<_>>>()?;
        let pictures = Tensor::cat(&pictures, 0)?.squeeze(2)?; // [B, 3, H, W]
        let pictures = ((pictures + 1.0)? * 0.5)?; // 0 to 1
        let size = clip.config().image_size;
        Ok(clip.penultimate(&preprocess(&pictures, size, Resizing::Crop)?)?)
    }

    /// The form that this model takes the frames in: channels beside the latents, or clean latent
    /// frames that diffusion goes on from.
    ///
    /// # Errors
    /// If the VAE refuses their sizes; `Cancelled` once `cancel` is set.
    pub fn start(
        &self,
        intake: Intake,
        vae: &Vae,
        (frame_num, device): (usize, &Device),
        cancel: &Cancel,
    ) -> Result<Start> {
        if !intake.channels {
            if self.first.is_empty() {
                return Ok(Start::default());
            }
            let clean = Some(encode_frames(vae, &to_tensor(&self.first, device)?, cancel)?);
            if intake.in_place {
                let conditioning = Conditioning { channels: None, first_frames: clean };
                return Ok(Start { prefix: None, conditioning });
            }
            return Ok(Start { prefix: clean, ..Start::default() });
        }
        let numbers = [0, frame_num - 1];
        let given = self.ends().zip(numbers).map(|(picture, number)| {
            let pixels = to_tensor(std::slice::from_ref(picture), device)?;
            Ok(GivenFrame { number, pixels })
        });
        let given = given.collect::<Result<Vec<_>>>()?;
        let channels = Some(image_channels(vae, &given, frame_num, cancel)?);
        let conditioning = Conditioning { channels, first_frames: None };
        Ok(Start { prefix: None, conditioning })
    }

    /// The first frame, and the last where it is given.
    fn ends(&self) -> impl Iterator<Item = &RgbImage> {
        self.first.iter().take(1).chain(&self.last)
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
