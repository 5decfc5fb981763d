//! How much a network of a VAE computes, by the shapes of frames, before anything runs.

use crate::vae::autoencoder::Vae;
use crate::vae::conv::Conv;
use crate::vae::cost::Frames;
use crate::vae::layers::{FrameAttention, Layer, Resample, Residual, Stack};
use crate::work::{Work, attention};

impl Vae {
    /// What decoding latents of so many frames, rows and columns computes, without tiles.
    pub fn decoding(&self, (frames, height, width): (usize, usize, usize)) -> Work {
        let latent = Frames { frames: 1, channels: self.config.z_dim, height, width };
        let point =
            Work { convolutions: self.post_quant_conv.work(latent, true).0, ..Work::default() };
        let of_chunk = |is_first: bool| {
            let mut pass = Pass { is_first, work: Work::default() };
            pass.stack(&self.decoder, latent);
            pass.work + point
        };
        match frames {
            0 => Work::default(),
            _ => of_chunk(true) + of_chunk(false) * (frames as u64 - 1),
        }
    }
}

/// A chunk that goes through the layers.
struct Pass {
    /// Whether it is the first of its video, whose frame is not doubled.
    is_first: bool,
    work: Work,
}

impl Pass {
    fn stack(&mut self, stack: &Stack, chunk: Frames) {
        let mut x = self.convolve(&stack.conv_in, chunk, true);
        for layer in &stack.layers {
            x = self.layer(layer, x);
        }
        self.convolve(&stack.conv_out, x, true);
    }

    fn convolve(&mut self, conv: &Conv, x: Frames, causal: bool) -> Frames {
        let (operations, out) = conv.work(x, causal);
        self.work.convolutions = self.work.convolutions.saturating_add(operations);
        out
    }

    fn layer(&mut self, layer: &Layer, x: Frames) -> Frames {
        match layer {
            Layer::Residual(layer) => self.residual(layer, x),
            Layer::Attention(layer) => self.attention(layer, x),
            Layer::Resample(layer) => self.resample(layer, x),
            Layer::Level(level) => level.layers.iter().fold(x, |x, layer| self.layer(layer, x)),
        }
    }

    fn residual(&mut self, layer: &Residual, x: Frames) -> Frames {
        let inner = self.convolve(&layer.conv1, x, true);
        if let Some(shortcut) = &layer.shortcut {
            self.convolve(shortcut, x, false);
        }
        self.convolve(&layer.conv2, inner, true)
    }

    fn attention(&mut self, layer: &FrameAttention, x: Frames) -> Frames {
        let pixels = x.height * x.width;
        self.convolve(&layer.to_qkv, x, false);
        let of_frame = Work { attention: attention(pixels, pixels, x.channels), ..Work::default() };
        self.work = self.work + of_frame * x.frames as u64;
        self.convolve(&layer.proj, x, false)
    }

    fn resample(&mut self, layer: &Resample, x: Frames) -> Frames {
        match &layer.time {
            Some(time) if layer.up && !self.is_first => {
                let doubled = self.convolve(time, x, true);
                let doubled = Frames { frames: 2 * x.frames, channels: doubled.channels / 2, ..x };
                self.convolve(&layer.space, doubled, false)
            }
            Some(time) if !layer.up && !self.is_first => {
                let small = self.convolve(&layer.space, x, false);
                let joined = Frames { frames: small.frames + 1, ..small };
                self.convolve(time, joined, false)
            }
            _ => self.convolve(&layer.space, x, false),
        }
    }
}
