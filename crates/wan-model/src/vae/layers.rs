//! The layers of encoder and decoder. All activations are `[B,T,C,H,W]`, so that each frame is
//! contiguous in memory.
//!
//! Source: diffusers 0.42.1 `WanResidualBlock`, `WanAttentionBlock`, `WanResample`.

use crate::weights::{Scope, Turns};
use candle_core::Tensor;
use wan_kernels::Kernels;

use crate::attention::Heads;
use crate::error::Result;
use crate::fused;
use crate::observer::{self, Observer, Point};
use crate::threads;
use crate::vae::conv::{Conv, Geometry, channel_norm, load_gamma};
use crate::vae::memory::Memory;
use crate::vae::reach::Reach;
use crate::vae::shortcut::Shortcut;

/// A residual block: two normed causal convolutions and a shortcut.
pub(crate) struct Residual {
    pub(super) norm1: Tensor,
    pub(super) conv1: Conv,
    pub(super) norm2: Tensor,
    pub(super) conv2: Conv,
    pub(super) shortcut: Option<Conv>,
}

impl Residual {
    pub(crate) fn load(channels: usize, outputs: usize, scope: Scope) -> Result<Self> {
        let shortcut = (channels != outputs)
            .then(|| Conv::load(channels, outputs, Geometry::POINT, scope.pp("conv_shortcut")));
        Ok(Self {
            norm1: load_gamma(channels, 3, scope.pp("norm1"))?,
            conv1: Conv::load(channels, outputs, Geometry::CUBE, scope.pp("conv1"))?,
            norm2: load_gamma(outputs, 3, scope.pp("norm2"))?,
            conv2: Conv::load(outputs, outputs, Geometry::CUBE, scope.pp("conv2"))?,
            shortcut: shortcut.transpose()?,
        })
    }

    fn reach(&self, given: Reach) -> Reach {
        self.conv1.reach(self.conv2.reach(given))
    }

    fn forward(&self, x: &Tensor, memory: &mut Memory) -> Result<Tensor> {
        let kernels = self.conv1.arithmetic().kernels();
        let normed = channel_norm(kernels, x, &self.norm1, true)?;
        let inner = self.conv1.causal(&normed, memory.slot())?;
        drop(normed);
        let normed = channel_norm(kernels, &inner, &self.norm2, true)?;
        drop(inner);
        let shortcut = match &self.shortcut {
            Some(conv) => conv.forward(x)?,
            None => x.clone(),
        };
        self.conv2.causal_added(&normed, memory.slot(), Some(&shortcut))
    }
}

/// Attention of the pixels of a frame to each other, one head.
pub(crate) struct FrameAttention {
    pub(super) norm: Tensor,
    pub(super) to_qkv: Conv,
    pub(super) proj: Conv,
}

impl FrameAttention {
    fn load(channels: usize, scope: Scope) -> Result<Self> {
        Ok(Self {
            norm: load_gamma(channels, 2, scope.pp("norm"))?,
            to_qkv: Conv::load_2d(channels, 3 * channels, Geometry::POINT, scope.pp("to_qkv"))?,
            proj: Conv::load_2d(channels, channels, Geometry::POINT, scope.pp("proj"))?,
        })
    }

    fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let (batch, frames, channels, height, width) = x.dims5()?;
        let (arithmetic, kernels) = (self.to_qkv.arithmetic(), self.to_qkv.arithmetic().kernels());
        let qkv = self.to_qkv.forward(&channel_norm(kernels, x, &self.norm, false)?)?;
        let qkv = qkv.reshape((batch * frames, 3 * channels, height * width))?.transpose(1, 2)?;
        let part = |number: usize| qkv.narrow(2, number * channels, channels); // [B T,H W,C]
        let query = (part(0)? * (1. / (channels as f64).sqrt()))?;
        let (key, value) = (part(1)?, part(2)?);
        let heads = Heads { query: &query, key: &key, value: &value, heads: 1 };
        let attended = heads.attend_all(arithmetic)?.transpose(1, 2)?; // [B T,C,H W]
        let attended = attended.reshape((batch, frames, channels, height, width))?;
        self.proj.forward_after(None, &attended, Some(x))
    }
}

/// A change of resolution between levels.
pub(crate) struct Resample {
    pub(super) space: Conv,
    pub(super) time: Option<Conv>,
    pub(super) up: bool,
}

impl Resample {
    /// Doubles the size, to `outputs` channels; doubles the frames if `time` is set.
    pub(crate) fn load_up(
        (channels, outputs): (usize, usize),
        time: bool,
        scope: Scope,
    ) -> Result<Self> {
        let space = scope.pp("resample").pp(1);
        let time =
            time.then(|| Conv::load(channels, 2 * channels, Geometry::TIME, scope.pp("time_conv")));
        Ok(Self {
            space: Conv::load_2d(channels, outputs, Geometry::DOUBLED, space)?,
            time: time.transpose()?,
            up: true,
        })
    }

    /// Halves the size; halves the frames if `time` is set.
    pub(crate) fn load_down(channels: usize, time: bool, scope: Scope) -> Result<Self> {
        let space = scope.pp("resample").pp(1);
        let time = time
            .then(|| Conv::load(channels, channels, Geometry::TIME_HALVED, scope.pp("time_conv")));
        Ok(Self {
            space: Conv::load_2d(channels, channels, Geometry::HALVED, space)?,
            time: time.transpose()?,
            up: false,
        })
    }

    fn reach(&self, given: Reach) -> Reach {
        match (&self.time, self.up) {
            (None, _) => given,
            (Some(time), true) => time.reach(given.before_doubling()),
            // One frame of the chunk before.
            (Some(_), false) => given.before_halving().further(1),
        }
    }

    fn forward(&self, x: &Tensor, memory: &mut Memory) -> Result<Tensor> {
        match (&self.time, self.up) {
            (None, _) => self.space.forward(x),
            (Some(time), true) => self.space.forward(&double_frames(time, x, memory)?),
            (Some(time), false) => halve_frames(time, &self.space.forward(x)?, memory),
        }
    }
}

/// Doubles the frames. The first frame of a stream stays single and does not enter the convolution,
/// so that the history starts with zeros in the second chunk.
fn double_frames(time: &Conv, x: &Tensor, memory: &mut Memory) -> Result<Tensor> {
    let first = memory.is_first();
    let history = memory.slot();
    if first {
        return Ok(x.clone());
    }
    let (batch, frames, channels, height, width) = x.dims5()?;
    let doubled = time.causal(x, history)?; // [B,T,2C,H,W]: the two frames one after the other
    Ok(doubled.reshape((batch, 2 * frames, channels, height, width))?)
}

/// Halves the frames. The first frame of a stream passes unchanged; later chunks are convolved with
/// the last frame before them in front.
fn halve_frames(time: &Conv, x: &Tensor, memory: &mut Memory) -> Result<Tensor> {
    let last = x.narrow(1, x.dim(1)? - 1, 1)?.force_contiguous()?;
    match memory.slot().replace(last) {
        Some(before) => time.forward(&Tensor::cat(&[&before, x], 1)?),
        None => Ok(x.clone()),
    }
}

/// The turns of a network's layers, and the number of the first layer that is to be loaded.
pub(crate) type LayerTurns<'t> = (&'t Turns, usize);

/// A layer of encoder or decoder.
pub(crate) enum Layer {
    Residual(Residual),
    Attention(FrameAttention),
    Resample(Resample),
    Level(Level),
}

impl Layer {
    /// What of its input it needs for this of its output.
    fn reach(&self, given: Reach) -> Reach {
        match self {
            Self::Residual(layer) => layer.reach(given),
            Self::Attention(_) => given,
            Self::Resample(layer) => layer.reach(given),
            // The shortcut needs less.
            Self::Level(level) => before_all(&level.layers, given),
        }
    }

    pub(crate) fn forward(
        &self,
        x: &Tensor,
        memory: &mut Memory,
        observer: &dyn Observer,
    ) -> Result<Tensor> {
        observer::check(observer)?;
        let _span = tracing::debug_span!("vae_layer").entered();
        match self {
            Self::Residual(layer) => layer.forward(x, memory),
            Self::Attention(layer) => layer.forward(x),
            Self::Resample(layer) => layer.forward(x, memory),
            Self::Level(layer) => layer.forward(x, memory, observer),
        }
    }

    /// Residual, attention, residual.
    pub(crate) fn load_middle(
        channels: usize,
        scope: Scope,
        (turns, first): LayerTurns,
    ) -> Result<[Self; 3]> {
        let of = |number: usize, name: &str| scope.in_turn(turns, first + number).pp(name);
        Ok([
            Self::Residual(Residual::load(channels, channels, of(0, "resnets").pp(0))?),
            Self::Attention(FrameAttention::load(channels, of(1, "attentions").pp(0))?),
            Self::Residual(Residual::load(channels, channels, of(2, "resnets").pp(1))?),
        ])
    }
}

fn before_all(layers: &[Layer], given: Reach) -> Reach {
    layers.iter().rev().fold(given, |given, layer| layer.reach(given))
}

/// The layers of a level of Wan 2.2, and the shortcut that is added to their output.
pub(crate) struct Level {
    pub(crate) layers: Vec<Layer>,
    pub(crate) shortcut: Shortcut,
    pub(crate) kernels: Kernels,
}

impl Level {
    fn forward(&self, x: &Tensor, memory: &mut Memory, observer: &dyn Observer) -> Result<Tensor> {
        let first = memory.is_first();
        let mut inner = x.clone();
        for layer in &self.layers {
            inner = layer.forward(&inner, memory, observer)?;
        }
        Ok(fused::add(self.kernels, &inner, &self.shortcut.forward(x, first)?)?)
    }
}

/// The network of an encoder or a decoder: convolution in, layers, norm, convolution out.
pub(crate) struct Stack {
    pub(crate) conv_in: Conv,
    pub(crate) layers: Vec<Layer>,
    pub(crate) turns: Turns,
    pub(crate) norm_out: Tensor,
    pub(crate) conv_out: Conv,
}

impl Stack {
    /// Convolutions in and out, and the layers between them.
    pub(crate) fn parts(&self) -> usize {
        self.layers.len() + 2
    }

    /// What each part reads before a chunk for what the network gives of it, `per_chunk` frames.
    pub(crate) fn reaches(&self, per_chunk: usize) -> Vec<Reach> {
        let mut reaches = vec![self.conv_out.reach(Reach::none(per_chunk))];
        for layer in self.layers.iter().rev() {
            reaches.push(layer.reach(reaches[reaches.len() - 1]));
        }
        reaches.push(self.conv_in.reach(reaches[reaches.len() - 1]));
        reaches.reverse();
        reaches
    }

    /// Runs the first `parts` parts of the network on the next chunk `[B,T,C,H,W]` of a stream;
    /// gives what the last of them gives. Parts that are run for no chunk before remember zeros. The
    /// memory is of no use after the observer has ended the pass.
    pub(crate) fn forward(
        &self,
        chunk: &Tensor,
        parts: usize,
        memory: &mut Memory,
        observer: &mut dyn Observer,
    ) -> Result<Tensor> {
        let (pass, layers) = (self.turns.begin(), self.layers.len().min(parts.saturating_sub(1)));
        let _rest = self.conv_in.arithmetic().rests();
        threads::on_worker(|| {
            let mut x = self.conv_in.causal(chunk, memory.slot())?;
            pass.each(0..layers, |number| {
                observer.see(Point::VaeHidden(number), &x);
                x = self.layers[number].forward(&x, memory, observer)?;
                Ok(())
            })?;
            if parts == self.parts() {
                x = channel_norm(self.conv_out.arithmetic().kernels(), &x, &self.norm_out, true)?;
                x = self.conv_out.causal(&x, memory.slot())?;
            }
            memory.end_chunk();
            Ok(x)
        })
    }
}
