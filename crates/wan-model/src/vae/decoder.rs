//! The network of the decoder.

use crate::weights::Scope;

use crate::error::Result;
use crate::vae::config::VaeConfig;
use crate::vae::conv::{Conv, Geometry, load_gamma};
use crate::vae::layers::{Layer, Level, Resample, Residual, Stack};
use crate::vae::shortcut::{Resolution, Shortcut};

/// The decoder's weights. Source: diffusers 0.42.1 `WanDecoder3d`.
pub(crate) fn load(config: &VaeConfig, scope: Scope) -> Result<Stack> {
    let base = config.decoder_base_dim.unwrap_or(config.base_dim);
    let dims: Vec<_> = config.dim_mult.iter().rev().map(|mult| mult * base).collect();
    let mut channels = dims[0];
    let mut layers = Vec::from(Layer::load_middle(channels, scope.pp("mid_block"))?);
    for (level, dim) in dims.iter().enumerate() {
        let block = scope.pp("up_blocks").pp(level);
        let time = config.temperal_downsample.iter().rev().nth(level).copied();
        let (own, outputs) = load_level(config, (channels, *dim), time, block)?;
        layers.extend(own);
        channels = outputs;
    }
    Ok(Stack {
        conv_in: Conv::load(config.z_dim, dims[0], Geometry::CUBE, scope.pp("conv_in"))?,
        layers,
        norm_out: load_gamma(channels, 3, scope.pp("norm_out"))?,
        conv_out: Conv::load(channels, config.out_channels, Geometry::CUBE, scope.pp("conv_out"))?,
    })
}

/// One level and its output channels. `time`: whether it doubles the frames with the size; `None`
/// for the last level, which does not change the resolution.
fn load_level(
    config: &VaeConfig,
    (inputs, dim): (usize, usize),
    time: Option<bool>,
    scope: Scope,
) -> Result<(Vec<Layer>, usize)> {
    let mut layers = Vec::new();
    for number in 0..=config.num_res_blocks {
        let channels = if number == 0 { inputs } else { dim };
        let scope = scope.pp("resnets").pp(number);
        layers.push(Layer::Residual(Residual::load(channels, dim, scope)?));
    }
    let Some(time) = time else { return Ok((layers, dim)) };
    if !config.is_residual {
        let scope = scope.pp("upsamplers").pp(0);
        layers.push(Layer::Resample(Resample::load_up((dim, dim / 2), time, scope)?));
        return Ok((layers, dim / 2));
    }
    layers.push(Layer::Resample(Resample::load_up((dim, dim), time, scope.pp("upsampler"))?));
    let to = Resolution { channels: dim, time: 1 + usize::from(time), space: 2 };
    let level = Level { layers, shortcut: Shortcut::Repeat(to) };
    Ok((vec![Layer::Level(level)], dim))
}
