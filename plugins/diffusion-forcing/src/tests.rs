//! The sampler as the host drives it, over the test kit's tensors.

use proptest::prelude::*;
use serde_json::json;
use wan_plugin_api::options::{OptionValues, complete};
use wan_plugin_api::testkit::{ModelFn, VecOps, values};
use wan_samplers::{SolverKind, TimestepRule, UniPc, Uniform};

use super::*;

fn options(given: &[(&str, serde_json::Value)]) -> Options {
    let given: OptionValues = given.iter().map(|(n, v)| (n.to_string(), v.clone())).collect();
    let values = complete("diffusion-forcing", &DiffusionForcing::options(), &given).unwrap();
    serde_json::from_value(json!(values)).unwrap()
}

fn request(frames: u32, prefix_frames: u32, steps: u32) -> SampleRequest {
    SampleRequest {
        frames,
        window_frames: frames,
        prefix_frames,
        steps,
        shift: 8.0,
        temporal_scale: 4,
    }
}

type Velocity = fn(&[f32], &[FrameLevel]) -> Vec<f32>;

/// A velocity of each frame's own elements and timestep; frames have two elements.
fn frame_local(x: &[f32], levels: &[FrameLevel]) -> Vec<f32> {
    let at = |i: usize| levels[i / 2].timestep as f32 / 1000.0;
    x.iter().enumerate().map(|(i, x)| 0.6 * x - 0.3 * at(i) + 0.1).collect()
}

/// A velocity that mixes all frames.
fn mixing(x: &[f32], levels: &[FrameLevel]) -> Vec<f32> {
    let mean = x.iter().sum::<f32>() / x.len() as f32;
    frame_local(x, levels).iter().map(|v| v + 0.2 * mean).collect()
}

/// What the host's loop does: a window out of the latents, and back. `watch` sees each round with
/// the window before and after.
fn sample_with<S: Sampler>(
    sampler: &mut S,
    start: &[f32],
    velocity: Velocity,
    mut watch: impl FnMut(&Round, &[f32], &[f32]),
) -> Vec<f32> {
    let mut ops = VecOps::default();
    ops.seed = 3;
    let schedule = sampler.schedule().unwrap();
    let mut model = ModelFn::new(&ops, velocity);
    let mut latents = start.to_vec();
    for (index, round) in schedule.rounds.iter().enumerate() {
        let range = 2 * round.first_frame()..2 * (round.first_frame() + round.len());
        let before = latents[range.clone()].to_vec();
        let left = (schedule.rounds.len() - index) as u32;
        let step = Step { index, evaluation: index as u32, evaluations_left: left, round };
        let window = ops.tensor(round.len(), &before);
        let after = values(&sampler.step(&window, &step, &mut model, &ops).unwrap());
        watch(round, &before, &after);
        latents[range].copy_from_slice(&after);
    }
    latents
}

fn start(frames: u32) -> Vec<f32> {
    (0..2 * frames).map(|i| ((i * 37 % 23) as f32 - 11.0) / 7.0).collect()
}

#[test]
fn without_a_lag_it_has_the_bits_of_the_solver_alone() {
    let mut alone = Uniform::<UniPc>::new(SolverOptions::default(), &request(6, 0, 7)).unwrap();
    let expected = sample_with(&mut alone, &start(6), mixing, |_, _, _| ());
    for block in [1, 2, 6] {
        let options = options(&[("causal_block_size", json!(block))]);
        let mut forced = DiffusionForcing::new(options, &request(6, 0, 7)).unwrap();
        assert_eq!(sample_with(&mut forced, &start(6), mixing, |_, _, _| ()), expected);
        assert_eq!(forced.schedule().unwrap(), alone.schedule().unwrap());
    }
}

#[test]
fn a_block_has_the_bits_that_it_has_alone_whatever_the_lag() {
    for solver in ["unipc", "dpm++", "euler"] {
        for rule in ["diffusers", "wan"] {
            let given = [("solver", json!(solver)), ("timesteps", json!(rule))];
            let mut together = options(&given);
            let expected = {
                let mut sampler =
                    DiffusionForcing::new(options(&given), &request(6, 0, 5)).unwrap();
                sample_with(&mut sampler, &start(6), frame_local, |_, _, _| ())
            };
            (together.ar_step, together.causal_block_size) = (2, 2);
            let mut sampler = DiffusionForcing::new(together, &request(6, 0, 5)).unwrap();
            let mut rounds = 0;
            let ours = sample_with(&mut sampler, &start(6), frame_local, |_, _, _| rounds += 1);
            assert_eq!((ours, rounds), (expected, 5 + 2 * 2));
            assert!(sampler.solvers.is_empty(), "a finished block keeps its history");
        }
    }
}

#[test]
fn frames_at_rest_read_as_the_references_have_them() {
    let options = options(&[("ar_step", json!(2)), ("causal_block_size", json!(3))]);
    assert_eq!(options.solver.timesteps, TimestepRule::Diffusers);
    let sampler = DiffusionForcing::new(options, &request(9, 0, 6)).unwrap();
    let schedule = sampler.schedule().unwrap();
    let (first, last) = (&schedule.rounds[0].levels, &schedule.rounds[9].levels);
    assert_eq!((first[8].timestep, first[8].sigma, first[8].update), (999.0, 1.0, false));
    assert_eq!((last[0].timestep, last[0].sigma, last[0].update), (0.0, 0.0, false));
    assert_eq!((last[8].sigma_next, last[8].update), (0.0, true));
}

#[test]
fn noise_on_a_prefix_reaches_the_model_and_not_the_latents() {
    static CLEAN: [f32; 2] = [-11.0 / 7.0, 3.0 / 7.0];
    fn sees_noise(x: &[f32], levels: &[FrameLevel]) -> Vec<f32> {
        assert_eq!((levels[0].timestep, levels[0].sigma, levels[0].update), (20.0, 0.0, false));
        for (x, clean) in x.iter().zip(CLEAN) {
            let noise = (x - 0.98 * clean) / 0.02;
            assert!(noise != 0.0 && noise.abs() < 6.0, "{noise}");
        }
        frame_local(x, levels)
    }
    let run = || {
        let options = options(&[("addnoise_condition", json!(20))]);
        let mut sampler = DiffusionForcing::new(options, &request(3, 1, 4)).unwrap();
        sampler.schedule().unwrap().check(3, 1).unwrap();
        sample_with(&mut sampler, &start(3), sees_noise, |_, _, _| ())
    };
    let latents = run();
    assert_eq!((&latents[..2], start(3)[..2] == CLEAN), (&CLEAN[..], true));
    assert_eq!(latents, run(), "the noise is not a function of the seed");
}

#[test]
fn attention_is_as_asked() {
    let attention = |given: &[(&str, serde_json::Value)]| {
        DiffusionForcing::new(options(given), &request(6, 0, 4)).map(|s| s.attention)
    };
    let block = ("causal_block_size", json!(2));
    let causal = [("attention", json!("block_causal")), ("causal_attention", json!(true))];
    assert_eq!(attention(std::slice::from_ref(&block)).unwrap(), Attention::Bidirectional);
    for causal in causal {
        let asked = attention(&[block.clone(), causal.clone()]).unwrap();
        assert_eq!(asked, Attention::BlockCausal(2));
        let error = attention(&[causal]).unwrap_err();
        assert!(error.message.contains("2 or more"), "{error}");
    }
}

#[test]
fn settings_of_layout_and_solver_are_refused() {
    let refused = |given: &[(&str, serde_json::Value)], request: SampleRequest| {
        DiffusionForcing::new(options(given), &request).map(|_| ()).unwrap_err().message
    };
    let block = ("causal_block_size", json!(4));
    assert!(refused(std::slice::from_ref(&block), request(6, 0, 4)).contains("not a multiple"));
    assert!(refused(&[block], request(8, 1, 4)).contains("whole blocks"));
    assert!(refused(&[], request(6, 6, 4)).contains("nothing is left"));
    let window = SampleRequest { window_frames: 3, ..request(6, 0, 4) };
    assert!(refused(&[], window).contains("ar_step 2 or more"));
    let solver = [("solver", json!("euler")), ("order", json!(3))];
    assert!(refused(&solver, request(6, 0, 4)).contains("order 3"));
    assert!(refused(&[], request(6, 0, 0)).contains("steps"));
}

#[test]
fn a_window_longer_than_the_video_is_the_video() {
    let long = SampleRequest { window_frames: 25, ..request(6, 0, 4) };
    let sampler = DiffusionForcing::new(options(&[]), &long).unwrap();
    assert!(sampler.schedule().unwrap().rounds.iter().all(|round| round.len() == 6));
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..Default::default() })]

    /// Every frame reaches sigma 0 without ever rising or being overtaken, and moves only when its
    /// round says so.
    #[test]
    fn the_wave_runs_down_to_clean_frames(
        (block, blocks, prefix, window) in (1..4u32, 1..5u32, 0..4u32, 1..5u32),
        (ar_step, steps, solver) in (0..8usize, 1..8u32, 0..3usize),
    ) {
        let mut options = options(&[("causal_block_size", json!(block))]);
        options.ar_step = ar_step;
        options.solver.solver =
            [SolverKind::UniPc, SolverKind::DpmPlusPlus, SolverKind::Euler][solver];
        let request = SampleRequest {
            window_frames: window * block,
            ..request(blocks * block, prefix.min(blocks - 1) * block, steps)
        };
        let sampler = DiffusionForcing::new(options, &request);
        prop_assume!(sampler.is_ok());
        let mut sampler = sampler.unwrap();
        let schedule = sampler.schedule().unwrap();
        schedule.check(request.frames as usize, request.prefix_frames as usize).unwrap();
        let mut at = vec![1.0; request.frames as usize];
        at[..request.prefix_frames as usize].fill(0.0);
        let end = sample_with(&mut sampler, &start(request.frames), mixing, |round, old, new| {
            for (place, level) in round.levels.iter().enumerate() {
                let now = &mut at[level.frame as usize];
                assert!(level.sigma <= *now, "frame {} rises", level.frame);
                *now = level.sigma_next;
                let elements = 2 * place..2 * place + 2;
                assert!(level.update || old[elements.clone()] == new[elements]);
            }
            let sigmas: Vec<f64> = round.levels.iter().map(|l| l.sigma).collect();
            assert!(sigmas.is_sorted(), "a later frame is cleaner: {sigmas:?}");
        });
        let prefix = 2 * request.prefix_frames as usize;
        prop_assert!(at.iter().all(|sigma| *sigma == 0.0));
        prop_assert!(end[..prefix] == start(request.frames)[..prefix]);
        prop_assert!(end.iter().all(|x| x.is_finite()));
    }
}
