//! A cache that decides for blocks of latent frames runs through the host.

use std::sync::{Arc, Mutex};

use candle_core::Tensor;
use serde_json::{Value, json};
use wan_host::parts::{RunContext, Seen, Witness};
use wan_host::{Cancel, Model, Request, Result};
use wan_plugin_api::Choice;

use crate::support::{bits, extended_models, short_request};

/// Hidden states of every evaluation of the branch with the prompt: before the blocks and after.
#[derive(Default)]
struct HiddenStates(Vec<(Tensor, Tensor)>);

impl Witness for HiddenStates {
    fn see(&mut self, seen: &Seen<'_>) -> Result<()> {
        if seen.context.branch == "cond" {
            let inside = seen.inside.expect("blocks ran");
            self.0.push((inside.embedded.hidden.clone(), inside.after.clone()));
        }
        Ok(())
    }
}

fn hidden_states(model: &Model, cache: &str) -> Vec<(Tensor, Tensor)> {
    let settings = model.settle(&short_request().sample_steps(2).cache(cache)).unwrap();
    let seen = Arc::new(Mutex::new(HiddenStates::default()));
    let context = RunContext { witness: Some(seen.clone()), ..RunContext::default() };
    let conditions = model.encode(&settings, &Cancel::default()).unwrap();
    model.run_in(&settings, conditions, &context).unwrap().finish_with(&mut |_| {}).unwrap();
    std::mem::take(&mut seen.lock().unwrap().0)
}

/// Frames `from .. to` of hidden states of three frames.
fn frames(hidden: &Tensor, from: usize, to: usize) -> Tensor {
    let tokens = hidden.dims()[1] / 3;
    hidden.narrow(1, from * tokens, (to - from) * tokens).unwrap()
}

/// Blocks are frames 0 and 1, and frame 2, which the second evaluation reuses.
#[test]
fn a_block_that_reuses_gets_its_residual_and_the_others_what_a_full_evaluation_gives() {
    for (_, model) in extended_models() {
        check_blocks(&model);
    }
}

fn check_blocks(model: &Model) {
    let (whole, blocks) = (hidden_states(model, "none"), hidden_states(model, "block-scoped"));
    let [(first, first_after), (second, second_after)] = &whole[..] else { panic!() };
    assert_eq!(bits(&blocks[0].1), bits(first_after));
    assert_eq!(bits(&blocks[1].0), bits(second));
    let settled = &blocks[1].1;
    assert_eq!(bits(&frames(settled, 0, 2)), bits(&frames(second_after, 0, 2)));
    let residual = (first_after - first).unwrap();
    let reused = (second + residual).unwrap();
    assert_eq!(bits(&frames(settled, 2, 3)), bits(&frames(&reused, 2, 3)));
    assert_ne!(bits(&frames(settled, 2, 3)), bits(&frames(second_after, 2, 3)));
}

#[test]
fn the_sidecar_has_the_decisions_of_each_block_and_frames_asked_for_and_computed() {
    for (_, model) in extended_models() {
        check_sidecar(&model);
    }
}

fn check_sidecar(model: &Model) {
    let request = Request { sample_guide_scale: Some(1.0), ..short_request().sample_steps(4) };
    let generated = model.generate(&request.cache("block-scoped")).unwrap();
    let sidecar = serde_json::to_value(&generated.sidecar).unwrap();
    let choices = |record: &Value| {
        let blocks = record["blocks"].as_array().unwrap().iter();
        blocks.map(|block| block["choice"].as_str().unwrap().to_string()).collect::<Vec<_>>()
    };
    let decided: Vec<_> = sidecar["evaluations"].as_array().unwrap().iter().map(choices).collect();
    let [compute, reuse] = ["compute", "reuse"];
    assert_eq!(decided, [[compute, compute], [compute, reuse], [reuse, compute], [compute, reuse]]);
    let third = &sidecar["evaluations"][2]["blocks"];
    let expected = json!([
        { "frames": 2, "choice": "reuse", "measured": [2.0] },
        { "frames": 1, "choice": "compute", "measured": [2.0] },
    ]);
    assert_eq!(*third, expected);
    assert_eq!(sidecar["frames"], json!({ "asked": 3 + 2 + 1 + 2, "computed": 4 * 3 }));
    let all_compute = |record: &Value| record["choice"] == json!(Choice::Compute);
    assert!(sidecar["evaluations"].as_array().unwrap().iter().all(all_compute));
    // Two residuals are kept, which together are one of the window.
    assert_eq!(sidecar["memory"]["cache"]["held_max"], sidecar["memory"]["cache"]["declared_max"]);
}
