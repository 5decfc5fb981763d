//! What the networks hold above their weights, by the shapes of frames, before anything runs.

use wan_kernels::Precision;
use wan_kernels::footprint::attention_bytes;

use crate::vae::autoencoder::{Half, Vae};
use crate::vae::cost::{Cost, Frames, Sum};
use crate::vae::layers::{FrameAttention, Layer, Level, Resample, Residual, Stack};
use crate::vae::shortcut::{Resolution, Shortcut};
use crate::vae::tiles::{Tiles, Tiling};

/// Bytes above the weights while a network of a VAE goes through a video chunk by chunk.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct StreamBytes {
    /// What is remembered between chunks: of all tiles.
    pub held: usize,
    /// What a chunk holds beside that: of one tile, and the parts of the picture that are done.
    pub working: usize,
    /// Both together at most, where there is but one chunk of one tile.
    pub single: usize,
}

impl Vae {
    /// What decoding latents of `height` rows and `width` columns holds.
    pub fn decoder_bytes(
        &self,
        (height, width): (usize, usize),
        tiling: Option<Tiling>,
    ) -> StreamBytes {
        let tiles =
            tiling.and_then(|tiling| Tiles::to_decode(tiling, &self.config, (height, width)).ok());
        let tiles = tiles.unwrap_or(Tiles::WHOLE);
        let chunk = Frames { frames: 1, channels: self.config.z_dim, height, width };
        self.stream_bytes(Half::Decoder, chunk, &tiles)
    }

    /// What encoding so many frames of `height` and `width` pixels holds.
    pub fn encoder_bytes(&self, (frames, height, width): (usize, usize, usize)) -> StreamBytes {
        // The first frame is a chunk by itself.
        let frames = if frames > 1 { self.config.scale_factor_temporal } else { 1 };
        let side = self.config.patch_side();
        let (height, width) = (height / side, width / side);
        let chunk = Frames { frames, channels: self.config.in_channels, height, width };
        self.stream_bytes(Half::Encoder, chunk, &Tiles::WHOLE)
    }

    fn stream_bytes(&self, half: Half, chunk: Frames, tiles: &Tiles) -> StreamBytes {
        let stack = match half {
            Half::Encoder => &self.encoder,
            Half::Decoder => &self.decoder,
        };
        let costs: Vec<Cost> = tiles
            .sizes((chunk.height, chunk.width))
            .map(|(height, width)| stack.cost(Frames { height, width, ..chunk }))
            .collect();
        let held: usize = costs.iter().map(|cost| cost.held).sum();
        // Tiles that are done, and the picture that they are joined to.
        let done = if costs.len() > 1 {
            2 * costs.iter().map(|cost| cost.out.bytes()).sum::<usize>()
        } else {
            0
        };
        let most = costs.iter().map(|cost| cost.most - cost.held).max().unwrap_or(0);
        let first = costs.iter().map(|cost| cost.first).max().unwrap_or(0);
        let working = chunk.bytes() + most.max(done) + done / 2;
        StreamBytes { held, working, single: chunk.bytes() + first }
    }
}

impl Stack {
    fn cost(&self, chunk: Frames) -> Cost {
        let mut sum = Sum::default();
        let mut x = sum.add(0, self.conv_in.cost(chunk, true));
        for layer in &self.layers {
            x = sum.add(x.bytes(), layer.cost(x));
        }
        let out = sum.add(2 * x.bytes(), self.conv_out.cost(x, true));
        sum.cost(out)
    }
}

impl Layer {
    fn cost(&self, x: Frames) -> Cost {
        match self {
            Self::Residual(layer) => layer.cost(x),
            Self::Attention(layer) => layer.cost(x),
            Self::Resample(layer) => layer.cost(x),
            Self::Level(layer) => layer.cost(x),
        }
    }
}

impl Residual {
    fn cost(&self, x: Frames) -> Cost {
        let mut sum = Sum::default();
        let normed = x.bytes();
        let inner = sum.add(normed, self.conv1.cost(x, true));
        // The first convolution's output, and its norm.
        sum.see(2 * inner.bytes());
        let shortcut = self
            .shortcut
            .as_ref()
            .map_or(0, |shortcut| sum.add(inner.bytes(), shortcut.cost(x, false)).bytes());
        let out = sum.add(inner.bytes() + shortcut, self.conv2.cost(inner, true));
        sum.cost(out)
    }
}

impl FrameAttention {
    fn cost(&self, x: Frames) -> Cost {
        let mut sum = Sum::default();
        let pixels = x.height * x.width;
        let qkv = sum.add(x.bytes(), self.to_qkv.cost(x, false));
        let (kernels, threads) = (self.to_qkv.arithmetic().kernels(), rayon::current_num_threads());
        let shape = ([pixels, pixels], x.frames, x.channels);
        let attending = attention_bytes(kernels, shape, Precision::F32, threads);
        // Transposed and apart, a query of its own, and what is attended.
        sum.see(qkv.bytes() + 5 * x.bytes() + attending);
        sum.add(qkv.bytes() + 2 * x.bytes(), self.proj.cost(x, false));
        sum.cost(x)
    }
}

impl Resample {
    fn cost(&self, x: Frames) -> Cost {
        let mut sum = Sum::default();
        let out = match (&self.time, self.up) {
            (None, _) => sum.add(0, self.space.cost(x, false)),
            (Some(time), true) => {
                let doubled = sum.add(0, time.cost(x, true));
                let doubled = Frames { frames: 2 * x.frames, channels: doubled.channels / 2, ..x };
                sum.add(doubled.bytes(), self.space.cost(doubled, false))
            }
            // The first frame of a stream.
            (Some(_), false) if x.frames == 1 => {
                let small = sum.add(0, self.space.cost(x, false));
                sum.held += small.bytes();
                small
            }
            (Some(time), false) => {
                let small = sum.add(0, self.space.cost(x, false));
                let last = Frames { frames: 1, ..small };
                let joined = Frames { frames: small.frames + 1, ..small };
                let out = sum.add(small.bytes() + joined.bytes(), time.cost(joined, false));
                sum.held += last.bytes();
                out
            }
        };
        sum.cost(out)
    }
}

impl Level {
    fn cost(&self, x: Frames) -> Cost {
        let mut sum = Sum::default();
        let mut inner = x;
        for layer in &self.layers {
            inner = sum.add(inner.bytes(), layer.cost(inner));
        }
        // The shortcut in two copies; then the sum.
        let (Shortcut::Average(to) | Shortcut::Repeat(to)) = &self.shortcut;
        let Resolution { time, space, .. } = *to;
        let wide = match &self.shortcut {
            Shortcut::Repeat(_) => inner.bytes(),
            Shortcut::Average(_) => x.bytes() * time.min(space).max(1),
        };
        sum.see(inner.bytes() + 2 * wide);
        sum.see(2 * inner.bytes() + wide);
        sum.cost(inner)
    }
}
