//! Frames that the user gives, in the form that the model at hand takes them.

use std::collections::BTreeMap;

use candle_core::{Device, Tensor};
use wan_media::{RgbImage, VideoFrames, fit, picture};
use wan_model::clip::{ClipVision, Resizing, preprocess};
use wan_model::family::Intake;
use wan_model::vae::Vae;

use crate::cancel::Cancel;
use crate::error::{Error, Result};
use crate::inputs::conditions::Conditions;
use crate::inputs::pixels::to_tensor;
use crate::request::frame_source::{FrameSource, SourceFrames};
use crate::request::settings::SettingValues;

/// Given pictures and clips, read and fitted to the size of the video.
#[derive(Debug, Default)]
pub(crate) struct GivenFrames {
    /// Pictures from the first frame on.
    first: Vec<RgbImage>,
    last: Option<RgbImage>,
    /// Frames of the clip before the context: they stand before what is generated.
    before: Vec<RgbImage>,
    /// Whether the first frames are the end of a clip, which may be one frame.
    is_clip: bool,
    /// SHA-256 of each file, by the field that names it.
    hashes: BTreeMap<String, String>,
}

impl GivenFrames {
    /// Reads what is given and fits it to the video's size.
    ///
    /// # Errors
    /// If a file cannot be read, a clip is too short, or an image and a clip are both given.
    pub(crate) fn read(settings: &SettingValues) -> Result<Self> {
        let given = &settings.given;
        let mut read = Self::default();
        if let Some(source) = &given.last_frame {
            read.last = Some(read.picture(source, "last_frame", settings)?);
        }
        match (&given.image, &given.video) {
            (Some(_), Some(_)) => {
                return Err(Error::invalid("`image` and `video` exclude each other"));
            }
            (None, None) => {}
            (Some(source), None) => read.first = vec![read.picture(source, "image", settings)?],
            (None, Some(source)) => read.add_clip(source, settings)?,
        }
        Ok(read)
    }

    fn picture(
        &mut self,
        source: &FrameSource,
        field: &'static str,
        settings: &SettingValues,
    ) -> Result<RgbImage> {
        let SourceFrames { frames, hash } = source.picture(field)?;
        self.known_by(field, hash);
        Ok(fitted(&frames, 0, settings))
    }

    fn add_clip(&mut self, source: &FrameSource, settings: &SettingValues) -> Result<()> {
        let SourceFrames { frames: clip, hash } = source.clip("video")?;
        let context = settings.given.context_frames.get();
        if clip.frames() < context || context >= settings.frame_num.get() {
            return Err(Error::field(
                "video",
                format!(
                    "{}: {} frames; `context_frames` {context} must be at most that, and below \
                     `frame_num` {}",
                    source.name(),
                    clip.frames(),
                    settings.frame_num
                ),
            ));
        }
        self.known_by("video", hash);
        self.before = (0..clip.frames()).map(|f| fitted(&clip, f, settings)).collect();
        self.first = self.before.split_off(clip.frames() - context);
        self.is_clip = true;
        Ok(())
    }

    fn known_by(&mut self, field: &str, hash: Option<String>) {
        self.hashes.extend(hash.map(|hash| (field.to_string(), hash)));
    }

    /// SHA-256 of each file that was read, by the field that names it.
    pub(crate) fn hashes(&self) -> &BTreeMap<String, String> {
        &self.hashes
    }

    /// Checks that a model takes what is given, and is given what it needs, before any part is
    /// loaded.
    ///
    /// # Errors
    /// If not, naming the field.
    pub(crate) fn check(&self, intake: Intake, temporal_scale: usize) -> Result<()> {
        let (first, last) = (self.first.len(), self.last.is_some());
        if !intake.channels {
            return self.check_clean(temporal_scale);
        }
        let refused = match (first, last) {
            (0, false) if intake.both_ends => (
                "image",
                "this model makes videos between two pictures: give `image` FILE and `last_frame` \
                 FILE",
            ),
            (0, _) => ("image", "this model makes videos from an image: give `image` FILE"),
            (1, false) if intake.both_ends => (
                "last_frame",
                "this model makes videos between two pictures: give `last_frame` FILE too",
            ),
            (1, true) if intake.tokens && !intake.both_ends => (
                "last_frame",
                "`last_frame`: this model was trained with a first frame alone (FLF2V models take \
                 both)",
            ),
            (1, _) => return Ok(()),
            _ => ("video", "`video`: this model goes on from a picture; give `image` FILE"),
        };
        Err(Error::about(refused.0, refused.1))
    }

    /// For a model that takes clean latent frames.
    fn check_clean(&self, temporal_scale: usize) -> Result<()> {
        let first = self.first.len();
        if self.last.is_some() {
            let why = "`last_frame`: this model takes no last frame (FLF2V and I2V models do)";
            return Err(Error::about("last_frame", why));
        }
        if first > 0 && !(first - 1).is_multiple_of(temporal_scale) {
            let why =
                format!("{first}: must be {temporal_scale}n+1, so that it is whole latent frames");
            return Err(Error::field("context_frames", why));
        }
        Ok(())
    }

    /// Clean latent frames that the sample begins with.
    pub(crate) fn prefix_frames(&self, intake: Intake, temporal_scale: usize) -> usize {
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
    /// If it refuses their sizes; `Cancelled` once `cancel` is set.
    pub(crate) fn image_tokens(
        &self,
        clip: &ClipVision,
        device: &Device,
        mut cancel: &Cancel,
    ) -> Result<Tensor> {
        let pictures = self.ends().map(|picture| to_tensor(std::slice::from_ref(picture), device));
        let pictures = pictures.collect::<Result<Vec<_>>>()?;
        let pictures = Tensor::cat(&pictures, 0)?.squeeze(2)?; // [B, 3, H, W]
        let pictures = ((pictures + 1.0)? * 0.5)?; // 0 to 1
        let pictures = preprocess(&pictures, clip.config().image_size, Resizing::Crop)?;
        Ok(clip.penultimate_observed(&pictures, &mut cancel)?)
    }

    /// Adds the frames to `conditions` in the form that this model takes them: channels beside the
    /// latents, clean frames that it sees in place, or clean frames that diffusion goes on from.
    ///
    /// # Errors
    /// If the VAE refuses their sizes; `Cancelled` once `cancel` is set.
    pub(crate) fn add_to(
        &self,
        conditions: &mut Conditions,
        (intake, vae): (Intake, &Vae),
        (frame_num, device): (usize, &Device),
        cancel: &Cancel,
    ) -> Result<()> {
        if intake.channels {
            let numbers = [0, frame_num - 1];
            let given = self.ends().zip(numbers).map(|(picture, number)| {
                Ok((number, to_tensor(std::slice::from_ref(picture), device)?))
            });
            let given = given.collect::<Result<Vec<_>>>()?;
            conditions.channels = Some(Conditions::channels_of(vae, &given, frame_num, cancel)?);
        } else if !self.first.is_empty() {
            let pixels = to_tensor(&self.first, device)?;
            let clean = Some(Conditions::clean_latents_of(vae, &pixels, cancel)?);
            if intake.in_place {
                conditions.first_frames = clean;
            } else {
                conditions.prefix = clean;
            }
        }
        Ok(())
    }

    /// The first frame, and the last where it is given.
    fn ends(&self) -> impl Iterator<Item = &RgbImage> {
        self.first.iter().take(1).chain(&self.last)
    }

    /// Pictures that are given, those of a clip's context among them.
    pub(crate) fn count(&self) -> usize {
        self.first.len() + usize::from(self.last.is_some())
    }

    /// Whether nothing is given.
    pub(crate) fn is_empty(&self) -> bool {
        self.first.is_empty() && self.last.is_none()
    }

    /// Given frames that stand in front of the finished clip; the generated frames of the context
    /// are left out for them.
    pub(crate) fn in_front(&self) -> &[RgbImage] {
        &self.before
    }

    /// Frames of the context, as they were given, which take the place of the first generated ones.
    /// None for a picture: the model's own first frame goes on without a seam.
    pub(crate) fn context(&self) -> &[RgbImage] {
        if self.is_clip { &self.first } else { &[] }
    }
}

fn fitted(frames: &VideoFrames, index: usize, settings: &SettingValues) -> RgbImage {
    fit(&picture(frames, index), settings.width.get(), settings.height.get())
}
