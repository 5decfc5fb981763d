//! Kind `clip_vision`: the image encoder.

use std::collections::HashMap;

use candle_core::Tensor;
use wan_model::clip::{ClipVision, ClipVisionConfig};
use wan_model::{Observer, Point};

use super::{Case, Compare, layouts};

/// Encodes the pictures of a case.
pub(super) fn run(case: &Case, compare: &mut Compare) -> anyhow::Result<()> {
    let config: ClipVisionConfig = serde_json::from_value(case.config.clone())?;
    if let Some(weights) = layouts::original_weights(case)? {
        ClipVision::load(config.clone(), weights)?;
    }
    let encoder = ClipVision::load(config, case.weights()?)?;
    let pixels = case.tensor("in.pixel_values")?;
    let mut hidden = HiddenStates::default();
    let last = encoder.forward_observed(pixels, &mut hidden)?;
    for (layer, hidden) in &hidden.0 {
        compare.tensor(&format!("mid.hidden_{layer}"), hidden)?;
    }
    compare.tensor(&format!("mid.hidden_{}", encoder.config().num_hidden_layers), &last)?;
    compare.tensor("out.penultimate", &encoder.penultimate(pixels)?)
}

/// The hidden state before each layer.
#[derive(Default)]
struct HiddenStates(HashMap<usize, Tensor>);

impl Observer for HiddenStates {
    fn see(&mut self, point: Point, tensor: &Tensor) {
        if let Point::ImageHidden(layer) = point {
            self.0.insert(layer, tensor.clone());
        }
    }
}
