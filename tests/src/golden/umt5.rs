//! Kind `umt5`: the text encoder.

use std::collections::HashMap;

use candle_core::Tensor;
use wan_model::umt5::{Umt5Config, Umt5Encoder};
use wan_model::{Observer, Point};

use super::{Case, Compare, layouts};

/// Encodes the ids of a case.
pub(super) fn run(case: &Case, compare: &mut Compare) -> anyhow::Result<()> {
    let config: Umt5Config = serde_json::from_value(case.config.clone())?;
    if let Some(weights) = layouts::original_weights(case)? {
        Umt5Encoder::load(config.clone(), weights)?;
    }
    let encoder = Umt5Encoder::load(config, case.weights()?)?;
    let (ids, mask) = (case.tensor("in.input_ids")?, case.tensor("in.attention_mask")?);
    let mut hidden = HiddenStates::default();
    let last = encoder.forward_observed(ids, mask, &mut hidden)?;
    for (layer, hidden) in &hidden.0 {
        compare.tensor(&format!("mid.hidden_{layer}"), hidden)?;
    }
    compare.tensor("out.last_hidden_state", &last)?;
    compare.tensor("out.prompt_embeds", &encoder.prompt_embeds(ids, mask)?)
}

/// The hidden state before each layer.
#[derive(Default)]
struct HiddenStates(HashMap<usize, Tensor>);

impl Observer for HiddenStates {
    fn see(&mut self, point: Point, tensor: &Tensor) {
        if let Point::TextHidden(layer) = point {
            self.0.insert(layer, tensor.clone());
        }
    }
}
