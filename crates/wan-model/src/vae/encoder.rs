//! The network of the encoder.

use crate::weights::Scope;

use crate::error::Result;
use crate::vae::config::VaeConfig;
use crate::vae::conv::{Conv, Geometry, load_gamma};
use crate::vae::layers::{Layer, Level, Resample, Residual, Stack};
use crate::vae::shortcut::{Resolution, Shortcut};

/// The encoder's weights. Source: diffusers 0.42.1 `WanEncoder3d`.
pub(crate) fn load(config: &VaeConfig, scope: Scope) -> Result<Stack> {
    let dims: Vec<_> = config.dim_mult.iter().map(|mult| mult * config.base_dim).collect();
    let deepest = dims[dims.len() - 1];
    let mut channels = config.base_dim;
    let mut layers = Vec::new();
    let turns = scope.turns(layers_of(config))?;
    let blocks = scope.pp("down_blocks");
    let mut flat = (0..).map(|number: usize| blocks.pp(number));
    for (level, dim) in dims.iter().enumerate() {
        let time = config.temperal_downsample.get(level).copied();
        if config.is_residual {
            let block = blocks.pp(level).in_turn(&turns, layers.len());
            let level = load_level(config, (channels, *dim), time, block)?;
            layers.push(Layer::Level(level));
        } else {
            // Wan 2.1 numbers the layers of all levels in one list.
            let names = flat.by_ref().take(config.num_res_blocks + usize::from(time.is_some()));
            let first = layers.len();
            let in_turn = |(number, name): (usize, Scope)| name.in_turn(&turns, first + number);
            let names = names.enumerate().map(in_turn).collect();
            layers.extend(load_layers((channels, *dim), time, names)?);
        }
        channels = *dim;
    }
    let middle = (&turns, layers.len());
    layers.extend(Layer::load_middle(deepest, scope.pp("mid_block"), middle)?);
    let (in_channels, outputs) = (config.in_channels, 2 * config.z_dim);
    Ok(Stack {
        conv_in: Conv::load(in_channels, config.base_dim, Geometry::CUBE, scope.pp("conv_in"))?,
        layers,
        turns,
        norm_out: load_gamma(deepest, 3, scope.pp("norm_out"))?,
        conv_out: Conv::load(deepest, outputs, Geometry::CUBE, scope.pp("conv_out"))?,
    })
}

/// Layers between the convolutions in and out.
fn layers_of(config: &VaeConfig) -> usize {
    let levels = config.dim_mult.len();
    let of_level = |level: usize| match config.is_residual {
        true => 1,
        false => {
            config.num_res_blocks + usize::from(config.temperal_downsample.get(level).is_some())
        }
    };
    3 + (0..levels).map(of_level).sum::<usize>()
}

/// Residual blocks, then the step down; the last level has none (`time` is `None`).
fn load_layers(
    (inputs, dim): (usize, usize),
    time: Option<bool>,
    mut names: Vec<Scope>,
) -> Result<Vec<Layer>> {
    let down = time.and_then(|time| Some((time, names.pop()?)));
    let mut layers = Vec::new();
    for (number, scope) in names.into_iter().enumerate() {
        let channels = if number == 0 { inputs } else { dim };
        layers.push(Layer::Residual(Residual::load(channels, dim, scope)?));
    }
    if let Some((time, scope)) = down {
        layers.push(Layer::Resample(Resample::load_down(dim, time, scope)?));
    }
    Ok(layers)
}

/// A level of Wan 2.2, with its shortcut.
fn load_level(
    config: &VaeConfig,
    channels: (usize, usize),
    time: Option<bool>,
    scope: Scope,
) -> Result<Level> {
    let resnets = (0..config.num_res_blocks).map(|number| scope.pp("resnets").pp(number));
    let names = resnets.chain(time.map(|_| scope.pp("downsampler")));
    let kernels = scope.arithmetic().kernels();
    let layers = load_layers(channels, time, names.collect())?;
    let (time, space) = (1 + usize::from(time == Some(true)), 1 + usize::from(time.is_some()));
    let to = Resolution { channels: channels.1, time, space };
    Ok(Level { layers, shortcut: Shortcut::Average(to), kernels })
}
