//! The latent frames of a run: only those are held that a round still reads or that are to be handed
//! out. Frames that no round has read yet are made when their first one comes.

use candle_core::{DType, Tensor};

use crate::denoise::noise::Noise;
use crate::denoise::ops::HostOps;
use crate::error::{Error, Result};
use crate::latents::{LATENT_FRAME_AXIS, replace_frames};

/// Where the frames come from that no round has read yet.
pub(crate) enum Source {
    /// Noise, drawn frame by frame, with these clean frames, `[1, C, p, H, W]`, in front.
    Noise(Option<Tensor>),
    /// These, `[1, C, F, H, W]`.
    Given(Tensor),
}

/// The latent frames of a run.
pub(crate) struct Frames {
    /// Of all of them, `[1, C, F, H, W]`.
    shape: [usize; 5],
    source: Source,
    ops: HostOps,
    /// Number of the first one that is held.
    first: usize,
    /// `[1, C, n, H, W]`, f32; none where none is held.
    held: Option<Tensor>,
}

/// What a saved run knows of its frames.
pub(crate) type FramesState<T> = (usize, Option<T>);

impl Frames {
    pub(crate) fn new(shape: [usize; 5], source: Source, ops: HostOps) -> Self {
        Self { shape, source, ops, first: 0, held: None }
    }

    /// Number of all frames.
    fn count(&self) -> usize {
        self.shape[LATENT_FRAME_AXIS]
    }

    /// Number of the first frame that is held.
    pub(crate) fn first(&self) -> usize {
        self.first
    }

    /// Number of the first frame behind those that are held.
    fn end(&self) -> usize {
        self.first + self.held.as_ref().map_or(0, |held| held.dims()[LATENT_FRAME_AXIS])
    }

    /// Frames that no round has read yet, `[1, C, n, H, W]`, f32.
    fn made(&self, from: usize, to: usize) -> Result<Tensor> {
        let prefix = match &self.source {
            Source::Given(all) => {
                return Ok(all.narrow(LATENT_FRAME_AXIS, from, to - from)?.to_dtype(DType::F32)?);
            }
            Source::Noise(prefix) => prefix.as_ref(),
        };
        let [batch, channels, _, height, width] = self.shape;
        let clean = prefix.map_or(0, |prefix| prefix.dims()[LATENT_FRAME_AXIS]);
        let frame = |number: usize| match prefix {
            Some(prefix) if number < clean => {
                prefix.narrow(LATENT_FRAME_AXIS, number, 1)?.to_dtype(DType::F32)
            }
            _ => {
                let (stream, shape) = (Noise::INITIAL_LATENTS, [batch, channels, 1, height, width]);
                self.ops.noise().draw(stream, number as u64, &shape, self.ops.device())
            }
        };
        let frames = (from..to).map(frame).collect::<candle_core::Result<Vec<_>>>()?;
        Ok(Tensor::cat(&frames, LATENT_FRAME_AXIS)?)
    }

    /// All frames that are held up to this one, and those that have to be made for it.
    fn up_to(&self, end: usize) -> Result<Option<Tensor>> {
        let has = self.end();
        if end <= has {
            return Ok(self.held.clone());
        }
        let made = self.made(has, end)?;
        Ok(Some(match &self.held {
            Some(held) => Tensor::cat(&[held, &made], LATENT_FRAME_AXIS)?,
            None => made,
        }))
    }

    /// A window's frames, `[1, C, frames, H, W]`; those that are new are made.
    ///
    /// # Errors
    /// If one of them was handed out.
    pub(crate) fn window(&mut self, first: usize, frames: usize) -> Result<Tensor> {
        self.held = self.up_to(first + frames)?;
        match &self.held {
            Some(held) if first >= self.first => {
                Ok(held.narrow(LATENT_FRAME_AXIS, first - self.first, frames)?.contiguous()?)
            }
            _ => Err(Error::invalid(format!(
                "a round reads latent frame {first}, and frames before {} were handed out",
                self.first
            ))),
        }
    }

    /// Puts a window's frames in the place of those that it was made of.
    pub(crate) fn put(&mut self, first: usize, window: &Tensor) -> Result<()> {
        if let Some(held) = &self.held {
            self.held = Some(replace_frames(held, first - self.first, window)?);
        }
        Ok(())
    }

    /// All frames that were not handed out, `[1, C, n, H, W]`, f32. From now on all are held.
    pub(crate) fn all(&mut self) -> Result<Tensor> {
        self.held = self.up_to(self.count())?;
        match &self.held {
            Some(all) => Ok(all.clone()),
            None => {
                let [batch, channels, _, height, width] = self.shape;
                let none = (batch, channels, 0, height, width);
                Ok(Tensor::zeros(none, DType::F32, self.ops.device())?)
            }
        }
    }

    /// Forgets the frames before this one, and gives them, `[1, C, n, H, W]`.
    pub(crate) fn take(&mut self, end: usize) -> Result<Option<Tensor>> {
        if end <= self.first {
            return Ok(None);
        }
        let Some(held) = self.up_to(end)? else { return Ok(None) };
        let (taken, all) = (end - self.first, held.dims()[LATENT_FRAME_AXIS]);
        self.first = end;
        self.held = None;
        if all > taken {
            let rest = held.narrow(LATENT_FRAME_AXIS, taken, all - taken)?;
            // A view would keep the whole.
            self.held = Some(rest.force_contiguous()?);
        }
        Ok(Some(held.narrow(LATENT_FRAME_AXIS, 0, taken)?.contiguous()?))
    }

    /// What a saved run has to know of them.
    pub(crate) fn state(&self) -> FramesState<Tensor> {
        (self.first, self.held.clone())
    }

    /// Goes on with the frames of a saved run.
    ///
    /// # Errors
    /// If they are of another shape.
    pub(crate) fn resume(&mut self, (first, held): &FramesState<Tensor>) -> Result<()> {
        let frames = held.as_ref().map_or(0, |h| h.dims().get(2).copied().unwrap_or(0));
        let [batch, channels, all, height, width] = self.shape;
        let expected = [batch, channels, frames, height, width];
        let fits = held.as_ref().is_none_or(|held| held.dims() == expected);
        if !fits || first.checked_add(frames).is_none_or(|end| end > all) {
            return Err(Error::invalid(format!(
                "the saved latents are {:?} from latent frame {first} on, which are none of {:?}",
                held.as_ref().map(Tensor::dims),
                self.shape
            )));
        }
        self.first = *first;
        let moved = held.as_ref().map(|held| held.to_device(self.ops.device()));
        self.held = moved.transpose()?;
        Ok(())
    }
}
