//! A sampler that goes on from what another one saved.

use wan_plugin_api::ErrorKind;
use wan_plugin_kit::SavedBytes;

use super::*;

/// Noise as in [`sample_with`].
fn ops() -> VecOps {
    let mut ops = VecOps::default();
    ops.seed = 3;
    ops
}

fn saved(sampler: &mut Any) -> SavedBytes {
    SavedBytes::save(|id, message| sampler.extension(id, message, &VecOps::default())).unwrap()
}

/// [`sample_with`], by a fresh sampler in every round; nothing is left of the last but bytes.
fn sample_in_pieces(make: impl Fn() -> Any, start: &[f32]) -> Vec<f32> {
    let (mut sampler, mut tensors) = (make(), ops());
    let schedule = whole(&sampler);
    let mut latents = start.to_vec();
    for (index, round) in schedule.rounds.iter().enumerate() {
        let range = 2 * round.first_frame()..2 * (round.first_frame() + round.len());
        let left = (schedule.rounds.len() - index) as u32;
        let step = Step { index, evaluation: index as u32, evaluations_left: left, round };
        let window = tensors.tensor(round.len(), &latents[range.clone()]);
        let mut model = ModelFn::new(&tensors, mixing);
        let after = values(&sampler.step(&window, &step, &mut model, &tensors).unwrap());
        latents[range].copy_from_slice(&after);
        let bytes = saved(&mut sampler);
        (sampler, tensors) = (make(), ops());
        bytes.load(&tensors, |id, message| sampler.extension(id, message, &tensors)).unwrap();
        assert_eq!(saved(&mut sampler), bytes);
    }
    latents
}

#[test]
fn a_fresh_sampler_goes_on_with_the_same_bits_after_every_round() {
    let schedules: [&[(&str, serde_json::Value)]; 4] = [
        &[("causal_block_size", json!(2))],
        &[("ar_step", json!(2)), ("addnoise_condition", json!(20))],
        &[("ar_step", json!(2)), ("base_num_frames", json!(5))],
        // Chunks that sample a part of what they take over a second time.
        &[
            ("causal_block_size", json!(2)),
            ("ar_step", json!(1)),
            ("base_num_frames", json!(13)),
            ("overlap_history", json!(9)),
        ],
    ];
    for solver in SOLVERS.iter().map(|entry| entry.id()) {
        for (given, prefix) in schedules.iter().zip([2, 1, 0, 0]) {
            let given = [&[("solver", json!(solver))], *given].concat();
            let request = SampleRequest { shift: 5.0, ..request(8, prefix, 4) };
            let make = || Any::new(options(&given), &request).unwrap();
            let expected = sample_with(&mut make(), &start(8), mixing, |_, _, _| ());
            let bits = |all: &[f32]| all.iter().map(|x| x.to_bits()).collect::<Vec<_>>();
            let pieces = sample_in_pieces(make, &start(8));
            assert_eq!(bits(&pieces), bits(&expected), "{given:?}");
        }
    }
}

#[test]
fn frames_that_are_sampled_a_second_time_are_saved_with_their_run() {
    let given = [
        ("causal_block_size", json!(2)),
        ("base_num_frames", json!(13)),
        ("overlap_history", json!(9)),
    ];
    let request = request(8, 0, 3);
    let mut sampler = Any::new(options(&given), &request).unwrap();
    let schedule = whole(&sampler);
    let (tensors, second) = (ops(), 4);
    for (index, round) in schedule.rounds.iter().enumerate().take(second) {
        let left = (schedule.rounds.len() - index) as u32;
        let step = Step { index, evaluation: index as u32, evaluations_left: left, round };
        let window = tensors.tensor(round.len(), &start(round.len() as u32));
        sampler.step(&window, &step, &mut ModelFn::new(&tensors, mixing), &tensors).unwrap();
    }
    let bytes = saved(&mut sampler);
    let document = bytes.message(&tensors).unwrap().document;
    assert!(document.contains(r#""resampled""#), "{document}");
    // Another length has fewer blocks; the run began in the second.
    let shorter = SampleRequest { frames: 2, ..request };
    let mut fresh = Any::new(options(&given[..1]), &shorter).unwrap();
    let error =
        bytes.load(&tensors, |id, message| fresh.extension(id, message, &tensors)).unwrap_err();
    assert_eq!(error.kind, ErrorKind::Invalid);
    assert!(error.message.contains("field runs: expected blocks below 1, got"), "{error}");
}
