//! Latents to frames.

use std::sync::Arc;

use candle_core::{DType, Device, Tensor};
use wan_media::VideoFrames;
use wan_model::vae::{Half, Tiling, Vae, VaeDecoder};

use crate::cancel::Cancel;
use crate::checkpoint::loader::{HeldHalf, Loaded};
use crate::error::Result;
use crate::inputs::given::GivenFrames;
use crate::latents::LATENT_FRAME_AXIS;
use crate::request::settings::SettingValues;

/// Decodes latent frames one by one, in order: 1 pixel frame for the first, 4 for each of the others.
/// With tiling each is decoded in tiles that are blended, which bounds the memory of a large picture.
///
/// A clip that was given comes first, and its context takes the place of the frames that were
/// generated from it.
pub struct FrameDecoder<'v> {
    vae: &'v Vae,
    /// Whose weights come when they are needed; none where they are there.
    comes: Option<&'v Loaded<Vae>>,
    held: Option<HeldHalf<'v>>,
    device: Device,
    decoder: VaeDecoder<'v>,
    cancel: Cancel,
    given: Arc<GivenFrames>,
    /// Given frames that have been handed out.
    given_done: usize,
    /// Generated frames that have been decoded.
    decoded: usize,
}

impl<'v> FrameDecoder<'v> {
    /// Decoding ends early once `cancel` is set.
    pub(crate) fn new(
        vae: &'v Vae,
        device: Device,
        tiling: Option<Tiling>,
        cancel: Cancel,
    ) -> Self {
        let decoder = tiling.map_or_else(|| vae.decoder(), |tiling| vae.decoder_tiled(tiling));
        let (comes, held, given) = (None, None, Arc::default());
        Self { vae, comes, held, device, decoder, cancel, given, given_done: 0, decoded: 0 }
    }

    /// With weights that come when they are needed, and stay until [`rest`](Self::rest). Without it
    /// those that are not there are read layer by layer for each latent frame.
    #[must_use]
    pub(crate) fn holding(self, vae: &'v Loaded<Vae>) -> Self {
        Self { comes: Some(vae), ..self }
    }

    /// Gives up the weights of the VAE until the next latent frame. What it remembers stays.
    pub fn rest(&mut self) {
        self.held = None;
    }

    fn wake(&mut self) -> Result<()> {
        if let (None, Some(vae)) = (&self.held, self.comes) {
            self.held = Some(vae.hold(Half::Decoder)?);
        }
        Ok(())
    }

    /// Whatever numbers the latents have.
    #[must_use]
    pub(crate) fn unchecked(self) -> Self {
        Self { decoder: self.decoder.unchecked(), ..self }
    }

    /// With a given clip in front.
    pub(crate) fn after(self, given: Arc<GivenFrames>) -> Self {
        Self { given, ..self }
    }

    /// Begins with the latent frame that has this frame of the video, counted from the first frame of
    /// a given clip. Of the latent frames before it only those are [`see`](Self::see)n that its
    /// pixels depend on.
    pub(crate) fn starting_at(self, frame: usize) -> Self {
        let (front, config) = (self.given.in_front().len(), self.vae.config());
        let latent = frame.saturating_sub(front).div_ceil(config.scale_factor_temporal);
        let decoded = if latent == 0 { 0 } else { config.frames(latent) };
        let decoder = self.decoder.starting_at(latent);
        Self { decoder, given_done: frame.min(front), decoded, ..self }
    }

    /// Number of the latent frame that has to come next.
    pub(crate) fn next_frame(&self) -> usize {
        self.decoder.next_frame()
    }

    /// Whether the next latent frame is one that is [`see`](Self::see)n, and has no pixels.
    pub(crate) fn only_sees(&self) -> bool {
        self.decoder.only_sees()
    }

    /// Frames of the video before those that come next.
    pub(crate) fn frames_before(&self) -> usize {
        self.given_done + self.decoded
    }

    /// The next frame of the given clip before its context, until all are handed out.
    ///
    /// # Errors
    /// If a frame has no pixels.
    pub fn next_in_front(&mut self) -> Option<Result<VideoFrames>> {
        let picture = self.given.in_front().get(self.given_done)?;
        self.given_done += 1;
        let (width, height) = (picture.width() as usize, picture.height() as usize);
        Some(VideoFrames::new(width, height, picture.as_raw().clone()).map_err(Into::into))
    }

    /// The pixels of the next latent frame, `[1, z, 1, h, w]`, normalised as the model has it.
    ///
    /// # Errors
    /// If it does not fit the VAE, or decoding is cancelled.
    pub fn decode(&mut self, latents: &Tensor) -> Result<VideoFrames> {
        self.wake()?;
        let frame = self.raw(latents)?;
        let pixels = self.decoder.next_observed(&frame, &mut &self.cancel)?; // [1, 3, 1 or 4, H, W]
        let decoded = frames_of(&pixels)?;
        let before = self.decoded;
        self.decoded += decoded.frames();
        // What was given is shown as it was given.
        let mut context = self.given.context().iter().skip(before).peekable();
        if context.peek().is_none() {
            return Ok(decoded);
        }
        let (width, height, mut rgb) = (decoded.width(), decoded.height(), decoded.rgb().to_vec());
        for (shown, given) in rgb.chunks_exact_mut(width * height * 3).zip(context) {
            shown.copy_from_slice(given.as_raw());
        }
        Ok(VideoFrames::new(width, height, rgb)?)
    }

    /// Remembers of the next latent frame what later ones need.
    ///
    /// # Errors
    /// As [`decode`](Self::decode).
    pub(crate) fn see(&mut self, latents: &Tensor) -> Result<()> {
        self.wake()?;
        let frame = self.raw(latents)?;
        Ok(self.decoder.see_observed(&frame, &mut &self.cancel)?)
    }

    fn raw(&self, latents: &Tensor) -> Result<Tensor> {
        Ok(self.vae.denormalise(&latents.to_device(&self.device)?)?)
    }
}

/// Pixels `[1, 3, T, H, W]` in [-1, 1] as frames.
///
/// # Errors
/// If they are of another shape.
pub(crate) fn frames_of(pixels: &Tensor) -> Result<VideoFrames> {
    let (_, _, _, height, width) = pixels.dims5()?;
    let bytes = ((pixels.squeeze(0)?.permute((1, 2, 3, 0))? + 1.0)? * 127.5)? // [T, H, W, 3]
        .round()?
        .clamp(0.0, 255.0)?
        .to_dtype(DType::U8)?;
    Ok(VideoFrames::new(width, height, bytes.flatten_all()?.to_vec1::<u8>()?)?)
}

/// The frames of normalised latents `[1, z, F, h, w]`, one latent frame's pixels at a time
/// ([`FrameDecoder`]).
pub struct Decoding<'v> {
    decoder: FrameDecoder<'v>,
    latents: Tensor,
    next: usize,
}

impl<'v> Decoding<'v> {
    /// Begins to decode; it ends early once `cancel` is set.
    ///
    /// # Errors
    /// If the latents do not fit the VAE.
    pub fn new(
        vae: &'v Vae,
        latents: &Tensor,
        tiling: Option<Tiling>,
        cancel: Cancel,
    ) -> Result<Self> {
        let device = latents.device().clone();
        Self::by(FrameDecoder::new(vae, device, tiling, cancel), latents)
    }

    pub(crate) fn by(decoder: FrameDecoder<'v>, latents: &Tensor) -> Result<Self> {
        // Before the first frame is asked for.
        decoder.vae.denormalise(latents)?;
        Ok(Self { decoder, latents: latents.clone(), next: 0 })
    }

    /// With the clip in front that these settings were given.
    ///
    /// # Errors
    /// If it cannot be read, or is another file than the recorded one.
    pub fn with_given(&mut self, settings: &SettingValues) -> Result<()> {
        let given = GivenFrames::read(settings)?;
        settings.given.check_same(given.hashes())?;
        self.decoder.given = Arc::new(given);
        Ok(())
    }

    /// Latent frames in all.
    pub fn latent_frames(&self) -> usize {
        self.latents.dims()[LATENT_FRAME_AXIS]
    }

    /// Latent frames that are decoded.
    pub fn done(&self) -> usize {
        self.next
    }

    /// All frames.
    ///
    /// # Errors
    /// If the VAE fails, or decoding is cancelled.
    pub fn collect_frames(self) -> Result<VideoFrames> {
        self.collect_frames_with(&mut |_, _| {})
    }

    /// As [`collect_frames`](Self::collect_frames); `progress` is told how many latent frames are
    /// done, and of how many.
    ///
    /// # Errors
    /// As [`collect_frames`](Self::collect_frames).
    pub fn collect_frames_with(
        mut self,
        progress: &mut dyn FnMut(usize, usize),
    ) -> Result<VideoFrames> {
        let (mut rgb, mut size) = (Vec::new(), (0, 0));
        while let Some(frames) = self.next() {
            let frames = frames?;
            size = (frames.width(), frames.height());
            rgb.extend_from_slice(frames.rgb());
            progress(self.done(), self.latent_frames());
        }
        Ok(VideoFrames::new(size.0, size.1, rgb)?)
    }

    fn decode_next(&mut self) -> Result<VideoFrames> {
        let frame = self.latents.narrow(LATENT_FRAME_AXIS, self.next, 1)?;
        let decoded = self.decoder.decode(&frame)?;
        self.next += 1;
        Ok(decoded)
    }
}

impl Iterator for Decoding<'_> {
    type Item = Result<VideoFrames>;

    fn next(&mut self) -> Option<Self::Item> {
        if let Some(given) = self.decoder.next_in_front() {
            return Some(given);
        }
        if self.next == self.latent_frames() {
            return None;
        }
        let decoded = self.decode_next();
        if decoded.is_err() {
            self.next = self.latent_frames();
        }
        Some(decoded)
    }
}
