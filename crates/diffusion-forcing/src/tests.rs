//! The sampler as the host drives it, over the test kit's tensors.

use proptest::prelude::*;
use serde_json::json;
use wan_plugin_api::options::{OptionValues, complete};
use wan_plugin_api::{Attention, FrameLevel, Round};
use wan_plugin_kit::{ModelFn, VecOps, values};
use wan_samplers::{SOLVERS, UniPc, Uniform};

use super::*;

mod long;
mod saved;

/// The sampler over a choice of solvers.
type Any = DiffusionForcing<AnyBuiltIn>;

fn complete_of<S: Sampler>(given: &[(&str, serde_json::Value)]) -> OptionValues {
    let given: OptionValues = given.iter().map(|(n, v)| (n.to_string(), v.clone())).collect();
    complete(S::ID, &S::options(), &given).unwrap()
}

fn options(given: &[(&str, serde_json::Value)]) -> OptionValues {
    complete_of::<Any>(given)
}

/// All rounds, however many parts the sampler gives them in.
fn whole<S: Sampler>(sampler: &S) -> Schedule {
    let mut whole = sampler.schedule().unwrap();
    if let Some(size) = whole.part_of.take() {
        while whole.rounds.len() < size.rounds {
            let part = sampler.schedule_from(whole.rounds.len()).unwrap();
            assert_eq!(part.size(), size);
            whole.rounds.extend(part.rounds);
        }
        assert_eq!(whole.size(), size);
    }
    whole
}

fn request(frames: u32, prefix_frames: u32, steps: u32) -> SampleRequest {
    SampleRequest { frames, prefix_frames, steps, shift: 8.0, temporal_scale: 4 }
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
    let schedule = whole(sampler);
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
    let mut alone =
        Uniform::<UniPc>::new(complete_of::<Uniform<UniPc>>(&[]), &request(6, 0, 7)).unwrap();
    let expected = sample_with(&mut alone, &start(6), mixing, |_, _, _| ());
    for block in [1, 2, 6] {
        let options = options(&[("causal_block_size", json!(block))]);
        let mut forced = Any::new(options, &request(6, 0, 7)).unwrap();
        assert_eq!(sample_with(&mut forced, &start(6), mixing, |_, _, _| ()), expected);
        assert_eq!(whole(&forced), whole(&alone));
    }
}

#[test]
fn a_block_has_the_bits_that_it_has_alone_whatever_the_lag() {
    for solver in SOLVERS.iter().map(|entry| entry.id()) {
        for rule in ["diffusers", "wan"] {
            let given = [("solver", json!(solver)), ("timesteps", json!(rule))];
            let expected = {
                let mut sampler = Any::new(options(&given), &request(6, 0, 5)).unwrap();
                sample_with(&mut sampler, &start(6), frame_local, |_, _, _| ())
            };
            let lagging = [("ar_step", json!(2)), ("causal_block_size", json!(2))];
            let together = options(&[&given[..], &lagging].concat());
            let mut sampler = Any::new(together, &request(6, 0, 5)).unwrap();
            let mut rounds = 0;
            let ours = sample_with(&mut sampler, &start(6), frame_local, |_, _, _| rounds += 1);
            assert_eq!((ours, rounds), (expected, 5 + 2 * 2), "{solver} {rule}");
            assert!(sampler.forcing.moving.is_empty(), "a finished block keeps its history");
        }
    }
}

#[test]
fn a_round_asks_twice_while_a_block_in_it_is_on_a_step_of_two_evaluations() {
    let given =
        [("solver", json!("heun")), ("ar_step", json!(1)), ("addnoise_condition", json!(20))];
    let mut sampler = Any::new(options(&given), &request(3, 1, 3)).unwrap();
    let schedule = whole(&sampler);
    // Two moving frames over three steps, of which the last asks once.
    let asked: Vec<u32> = schedule.rounds.iter().map(|round| round.evaluations).collect();
    assert_eq!(asked, [2, 2, 2, 1]);
    let latents = sample_with(&mut sampler, &start(3), frame_local, |_, _, _| ());
    assert_eq!(latents[..2], start(3)[..2]);

    // In the third round the first moving frame has arrived at 0, the second at the last level.
    let (chunk, levels) = (sampler.forcing.chunks.get(0), &schedule.rounds[2].levels);
    let row = chunk.layout.rows(3)[2].clone();
    let arrived = sampler.forcing.seen(&row, &chunk, levels, 1).unwrap();
    let told: Vec<_> = arrived.iter().map(|l| (l.timestep, l.sigma)).collect();
    let last = (schedule.rounds[3].levels[2].timestep, levels[2].sigma_next);
    assert_eq!(told, [(20.0, 0.0), (0.0, 0.0), last]);
}

#[test]
fn noise_of_a_step_is_the_frames_own() {
    for solver in ["euler-ancestral", "dpm++-sde", "lcm"] {
        let run = |frames: u32, more: &[(&str, serde_json::Value)]| {
            let given = [&[("solver", json!(solver))], more].concat();
            let mut sampler = Any::new(options(&given), &request(frames, 0, 4)).unwrap();
            sample_with(&mut sampler, &start(frames), frame_local, |_, _, _| ())
        };
        let (short, long) = (run(4, &[]), run(6, &[]));
        assert_eq!(short[..], long[..8], "{solver}");
        // A window of two frames that slides.
        assert_eq!(run(6, &[("base_num_frames", json!(5)), ("ar_step", json!(2))]), long);
    }
}

#[test]
fn a_schedule_is_run_in_two_parts() {
    let wave = [("ar_step", json!(2)), ("causal_block_size", json!(2))];
    for solver in ["euler", "heun", "euler-ancestral", "lcm"] {
        let run = |part: &[(&str, serde_json::Value)], start: &[f32]| {
            let given = [&wave[..], &[("solver", json!(solver))], part].concat();
            let mut sampler = Any::new(options(&given), &request(6, 0, 5)).unwrap();
            let Schedule { rounds, notices, .. } = whole(&sampler);
            let starts_late = part.first().is_some_and(|(name, _)| *name == "start_step");
            assert_eq!(notices.iter().any(|n| n.contains("latents of that level")), starts_late);
            let end = sample_with(&mut sampler, start, frame_local, |_, _, _| ());
            assert!(sampler.forcing.moving.is_empty());
            (rounds, end)
        };
        let (first, between) = run(&[("end_step", json!(2))], &start(6));
        let (second, end) = run(&[("start_step", json!(2))], &between);
        assert_eq!(end, run(&[], &start(6)).1, "{solver}");
        // Frames that wait stand where they were handed over.
        let (arrived, waiting) = (&first.last().unwrap().levels[0], &second[0].levels[5]);
        assert_eq!(arrived.sigma, second[0].levels[0].sigma);
        assert_eq!((waiting.sigma, waiting.update), (arrived.sigma, false));
        assert_eq!(waiting.timestep, second[0].levels[0].timestep);
    }
    let part = chunked(6, 2, &[("end_step", json!(2))]);
    let refused = Any::new(part, &request(10, 0, 5)).map(|_| ()).unwrap_err();
    assert!(refused.message.contains("leave overlap_history out"), "{refused}");
}

#[test]
fn frames_at_rest_read_as_the_references_have_them() {
    let options = options(&[("ar_step", json!(2)), ("causal_block_size", json!(3))]);
    assert_eq!(options["timesteps"], json!("diffusers"));
    let sampler = Any::new(options, &request(9, 0, 6)).unwrap();
    let schedule = whole(&sampler);
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
        let mut sampler = Any::new(options, &request(3, 1, 4)).unwrap();
        whole(&sampler).check(3, 1).unwrap();
        sample_with(&mut sampler, &start(3), sees_noise, |_, _, _| ())
    };
    let latents = run();
    assert_eq!((&latents[..2], start(3)[..2] == CLEAN), (&CLEAN[..], true));
    assert_eq!(latents, run(), "the noise is not a function of the seed");
}

#[test]
fn attention_is_as_asked() {
    let attention = |given: &[(&str, serde_json::Value)]| {
        Any::new(options(given), &request(6, 0, 4)).map(|s| s.forcing.attention)
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
        Any::new(options(given), &request).map(|_| ()).unwrap_err().message
    };
    let block = ("causal_block_size", json!(4));
    assert!(refused(std::slice::from_ref(&block), request(6, 0, 4)).contains("not a multiple"));
    assert!(refused(&[block], request(8, 1, 4)).contains("whole blocks"));
    assert!(refused(&[], request(6, 6, 4)).contains("nothing is left"));
    let window = ("base_num_frames", json!(9));
    assert!(refused(&[window], request(6, 0, 4)).contains("ar_step 2 or more"));
    let solver = [("solver", json!("euler")), ("order", json!(3))];
    assert!(refused(&solver, request(6, 0, 4)).contains("order 3"));
    assert!(refused(&[], request(6, 0, 0)).contains("steps"));
    let overlap = |base: u32, overlap: u32| {
        [("base_num_frames", json!(base)), ("overlap_history", json!(overlap))]
    };
    assert!(refused(&overlap(0, 5), request(6, 0, 4)).contains("without base_num_frames"));
    assert!(refused(&overlap(9, 9), request(6, 0, 4)).contains("nothing new"));
    assert!(refused(&overlap(9, 1), request(6, 3, 4)).contains("longer base_num_frames"));
    let pairs = |base| [overlap(base, 5).to_vec(), vec![("causal_block_size", json!(2))]].concat();
    let message = refused(&pairs(17), request(8, 0, 4));
    assert!(message.contains("4 (--base_num_frames 13) or 6 (--base_num_frames 21)"), "{message}");
    let message = refused(&pairs(13), request(9, 0, 4));
    assert!(message.contains("3 latent frames of the last chunk"), "{message}");
    assert!(message.contains("give 4 (--num_frames 37), or"), "{message}");
}

#[test]
fn a_window_longer_than_the_video_is_the_video() {
    let long = options(&[("base_num_frames", json!(97))]);
    let sampler = Any::new(long, &request(6, 0, 4)).unwrap();
    assert!(whole(&sampler).rounds.iter().all(|round| round.len() == 6));
}

/// Options of chunks with `base` and `overlap` latent frames.
fn chunked(base: u32, overlap: u32, more: &[(&str, serde_json::Value)]) -> OptionValues {
    let pixels = |latent: u32| json!((4 * latent).saturating_sub(3));
    let given = [("base_num_frames", pixels(base)), ("overlap_history", pixels(overlap))];
    options(&[&given, more].concat())
}

#[test]
fn chunks_are_single_runs_with_the_overlap_as_their_prefix() {
    for (block, ar_step, overlap) in [(1, 0, 2), (2, 2, 2), (2, 0, 3), (2, 3, 3), (1, 1, 3)] {
        let how = [("causal_block_size", json!(block)), ("ar_step", json!(ar_step))];
        let run = |options: OptionValues, frames: u32, prefix: u32, start: &[f32]| {
            let mut sampler = Any::new(options, &request(frames, prefix, 4)).unwrap();
            whole(&sampler).check(frames as usize, prefix as usize).unwrap();
            let latents = sample_with(&mut sampler, start, mixing, |_, _, _| ());
            assert!(
                sampler.forcing.moving.is_empty() && sampler.forcing.context.resampled.is_none()
            );
            latents
        };
        let frames = 12 - overlap; // two chunks of 6
        let together = run(chunked(6, overlap, &how), frames, 0, &start(frames));

        let noise = start(frames);
        let first = run(options(&how), 6, 0, &noise[..12]);
        let (kept, overlap) = (overlap / block * block, overlap as usize);
        let mut second = first[12 - 2 * overlap..].to_vec();
        let mut resampled = VecOps::default();
        resampled.seed = 3;
        let like = resampled.tensor(overlap - kept as usize, &second[2 * kept as usize..]);
        second.truncate(2 * kept as usize);
        second.extend(values(&resampled.noise_like(&like, 1, 1).unwrap()));
        second.extend(&noise[12..]);
        let second = run(options(&how), 6, kept, &second);
        assert_eq!(together, [&first, &second[2 * overlap..]].concat(), "{block} {ar_step}");
    }
}

#[test]
fn chunks_are_measured_in_pixel_frames_of_the_model() {
    let lengths = |temporal_scale| {
        let options = options(&[("base_num_frames", json!(17)), ("overlap_history", json!(9))]);
        let request = SampleRequest { temporal_scale, ..request(7, 0, 2) };
        let chunks = Any::new(options, &request).unwrap().forcing.chunks;
        let chunks = (0..chunks.count).map(|number| chunks.get(number));
        chunks.map(|c| (c.first, c.layout.frames)).collect::<Vec<_>>()
    };
    assert_eq!(lengths(4), [(0, 5), (2, 5)]);
    assert_eq!(lengths(8), [(0, 3), (1, 3), (2, 3), (3, 3), (4, 3)]);
}

#[test]
fn an_overlap_is_shown_with_noise_and_told_of_when_it_is_rounded() {
    let how = [("addnoise_condition", json!(20)), ("causal_block_size", json!(2))];
    let sampler = Any::new(chunked(6, 3, &how), &request(9, 0, 4)).unwrap();
    let Schedule { rounds, notices, .. } = whole(&sampler);
    assert_eq!((rounds.len(), notices.len()), (8, 1));
    assert!(rounds[..4].iter().flat_map(|r| &r.levels).all(|level| level.update));
    let first = &rounds[4].levels;
    let told: Vec<_> = first.iter().map(|l| (l.frame, l.timestep, l.update)).collect();
    let expected = [(3, 20.0), (4, 20.0), (5, 999.0), (6, 999.0), (7, 999.0), (8, 999.0)];
    assert_eq!(told, expected.map(|(frame, t)| (frame, t, frame > 5)));
}

#[test]
fn noise_on_an_overlap_reaches_the_model_and_not_the_latents() {
    /// Blind to timesteps, so that noise alone can make a difference.
    fn mean(x: &[f32], _: &[FrameLevel]) -> Vec<f32> {
        vec![x.iter().sum::<f32>() / x.len() as f32; x.len()]
    }
    let run = |addnoise: u32| {
        let options = chunked(4, 2, &[("addnoise_condition", json!(addnoise))]);
        let mut sampler = Any::new(options, &request(6, 0, 4)).unwrap();
        sample_with(&mut sampler, &start(6), mean, |_, _, _| ())
    };
    let (clean, noisy) = (run(0), run(20));
    assert_eq!(clean[..8], noisy[..8]);
    assert!(clean[8..].iter().zip(&noisy[8..]).all(|(clean, noisy)| clean != noisy));
}

proptest! {
    /// Every frame reaches sigma 0 once, without ever rising or being overtaken, and moves only
    /// when its round says so: with a prefix, a sliding window, chunks.
    #[test]
    fn the_wave_runs_down_to_clean_frames(
        (block, blocks, prefix, base) in (1..4u32, 1..6u32, 0..4u32, 1..6u32),
        (ar_step, steps, solver) in (0..8usize, 1..8u32, 0..SOLVERS.len()),
        (overlap, addnoise) in (0..8u32, 0..2u32),
    ) {
        let base = base * block;
        let options = chunked(base, overlap, &[
            ("causal_block_size", json!(block)),
            ("ar_step", json!(ar_step)),
            ("addnoise_condition", json!(20 * addnoise)),
            ("solver", json!(SOLVERS[solver].id())),
        ]);
        let request = request(blocks * block, prefix.min(blocks - 1) * block, steps);
        let sampler = Any::new(options, &request);
        prop_assume!(sampler.is_ok());
        let mut sampler = sampler.unwrap();
        let schedule = whole(&sampler);
        schedule.check(request.frames as usize, request.prefix_frames as usize).unwrap();
        let mut at = vec![1.0; request.frames as usize];
        at[..request.prefix_frames as usize].fill(0.0);
        let end = sample_with(&mut sampler, &start(request.frames), mixing, |round, old, new| {
            assert!(round.len() as u32 <= base);
            for (place, level) in round.levels.iter().enumerate() {
                let elements = 2 * place..2 * place + 2;
                if level.update {
                    let now = std::mem::replace(&mut at[level.frame as usize], level.sigma_next);
                    assert!(level.sigma <= now && now > 0.0, "frame {} rises", level.frame);
                } else {
                    assert_eq!(old[elements.clone()], new[elements]);
                }
            }
            let sigmas: Vec<f64> = round.levels.iter().map(|l| l.sigma).collect();
            assert!(sigmas.is_sorted(), "a later frame is cleaner: {sigmas:?}");
        });
        let prefix = 2 * request.prefix_frames as usize;
        prop_assert!(at.iter().all(|sigma| *sigma == 0.0));
        prop_assert!(end[..prefix] == start(request.frames)[..prefix]);
        prop_assert!(end.iter().all(|x| x.is_finite()));
        prop_assert!(sampler.forcing.moving.is_empty() && sampler.forcing.context.resampled.is_none());
    }
}
