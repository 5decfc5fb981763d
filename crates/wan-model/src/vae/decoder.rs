//! The network of the decoder.

use crate::weights::Scope;

use crate::error::Result;
use crate::vae::config::VaeConfig;
use crate::vae::conv::{Conv, Geometry, load_gamma};
use crate::vae::layers::{Layer, LayerTurns, Level, Resample, Residual, Stack};
use crate::vae::shortcut::{Resolution, Shortcut};

/// The decoder's weights. Source: diffusers 0.42.1 `WanDecoder3d`.
pub(crate) fn load(config: &VaeConfig, scope: Scope) -> Result<Stack> {
    let base = config.decoder_base_dim.unwrap_or(config.base_dim);
    let dims: Vec<_> = config.dim_mult.iter().rev().map(|mult| mult * base).collect();
    let mut channels = dims[0];
    let turns = scope.turns(layers_of(config))?;
    let mut layers = Vec::from(Layer::load_middle(channels, scope.pp("mid_block"), (&turns, 0))?);
    for (level, dim) in dims.iter().enumerate() {
        let block = scope.pp("up_blocks").pp(level);
        let time = time_of(config, level);
        let turns = (&turns, layers.len());
        let (own, outputs) = load_level(config, (channels, *dim), time, (block, turns))?;
        layers.extend(own);
        channels = outputs;
    }
    Ok(Stack {
        conv_in: Conv::load(config.z_dim, dims[0], Geometry::CUBE, scope.pp("conv_in"))?,
        layers,
        turns,
        norm_out: load_gamma(channels, 3, scope.pp("norm_out"))?,
        conv_out: Conv::load(channels, config.out_channels, Geometry::CUBE, scope.pp("conv_out"))?,
    })
}

/// Whether a level doubles the frames with the size; `None` for the last level.
fn time_of(config: &VaeConfig, level: usize) -> Option<bool> {
    config.temperal_downsample.iter().rev().nth(level).copied()
}

/// Layers between the convolutions in and out.
fn layers_of(config: &VaeConfig) -> usize {
    let of_level = |level: usize| match time_of(config, level) {
        Some(_) if config.is_residual => 1,
        time => config.num_res_blocks + 1 + usize::from(time.is_some()),
    };
    3 + (0..config.dim_mult.len()).map(of_level).sum::<usize>()
}

/// One level and its output channels. `time`: whether it doubles the frames with the size; `None`
/// for the last level, which does not change the resolution.
fn load_level(
    config: &VaeConfig,
    (inputs, dim): (usize, usize),
    time: Option<bool>,
    (scope, (turns, first)): (Scope, LayerTurns),
) -> Result<(Vec<Layer>, usize)> {
    // A level of Wan 2.2 is one layer.
    let is_one = config.is_residual && time.is_some();
    let scope = |number: usize| scope.in_turn(turns, first + if is_one { 0 } else { number });
    let mut layers = Vec::new();
    for number in 0..=config.num_res_blocks {
        let channels = if number == 0 { inputs } else { dim };
        let scope = scope(number).pp("resnets").pp(number);
        layers.push(Layer::Residual(Residual::load(channels, dim, scope)?));
    }
    let Some(time) = time else { return Ok((layers, dim)) };
    let scope = scope(layers.len());
    let kernels = scope.arithmetic().kernels();
    if !config.is_residual {
        let scope = scope.pp("upsamplers").pp(0);
        layers.push(Layer::Resample(Resample::load_up((dim, dim / 2), time, scope)?));
        return Ok((layers, dim / 2));
    }
    layers.push(Layer::Resample(Resample::load_up((dim, dim), time, scope.pp("upsampler"))?));
    let to = Resolution { channels: dim, time: 1 + usize::from(time), space: 2 };
    let level = Level { layers, shortcut: Shortcut::Repeat(to), kernels };
    Ok((vec![Layer::Level(level)], dim))
}
