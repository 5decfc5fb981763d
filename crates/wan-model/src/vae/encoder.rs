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
    let blocks = scope.pp("down_blocks");
    let mut flat = (0..).map(|number: usize| blocks.pp(number));
    for (level, dim) in dims.iter().enumerate() {
        let time = config.temperal_downsample.get(level).copied();
        if config.is_residual {
            let level = load_level(config, (channels, *dim), time, blocks.pp(level))?;
            layers.push(Layer::Level(level));
        } else {
            // Wan 2.1 numbers the layers of all levels in one list.
            let names = flat.by_ref().take(config.num_res_blocks + usize::from(time.is_some()));
            layers.extend(load_layers((channels, *dim), time, names.collect())?);
        }
        channels = *dim;
    }
    layers.extend(Layer::load_middle(deepest, scope.pp("mid_block"))?);
    let (in_channels, outputs) = (config.in_channels, 2 * config.z_dim);
    Ok(Stack {
        conv_in: Conv::load(in_channels, config.base_dim, Geometry::CUBE, scope.pp("conv_in"))?,
        layers,
        norm_out: load_gamma(deepest, 3, scope.pp("norm_out"))?,
        conv_out: Conv::load(deepest, outputs, Geometry::CUBE, scope.pp("conv_out"))?,
    })
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
    let layers = load_layers(channels, time, names.collect())?;
    let (time, space) = (1 + usize::from(time == Some(true)), 1 + usize::from(time.is_some()));
    let to = Resolution { channels: channels.1, time, space };
    Ok(Level { layers, shortcut: Shortcut::Average(to) })
}
