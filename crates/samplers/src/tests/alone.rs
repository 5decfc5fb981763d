//! Each solver as a sampler of its own.

use wan_plugin_api::{ErrorKind, SampleRequest, Sampler, Step};
use wan_plugin_kit::{ModelFn, VecOps, values};

use crate::*;

fn request(prefix_frames: u32) -> SampleRequest {
    SampleRequest { frames: 3, prefix_frames, steps: 4, shift: 3.0, temporal_scale: 4 }
}

/// Runs the sampler; the levels that the model was asked at, and where the frames end.
fn sampled<S: StandAlone>(options: SolverOptions) -> (Vec<(f64, f64)>, Vec<f32>) {
    let mut sampler = Uniform::<S>::new(options, &request(0)).unwrap();
    let schedule = sampler.schedule().unwrap();
    let (ops, mut asked) = (VecOps::default(), Vec::new());
    let mut model = ModelFn::new(&ops, |x: &[f32], levels: &[wan_plugin_api::FrameLevel]| {
        asked.push((levels[0].timestep, levels[0].sigma));
        x.iter().map(|x| 0.5 * x).collect()
    });
    let mut sample = ops.tensor(3, &[1.0, -1.0, 0.5]);
    for (index, round) in schedule.rounds.iter().enumerate() {
        let left = 4 - index as u32;
        let step = Step { index, evaluation: index as u32, evaluations_left: left, round };
        sample = sampler.step(&sample, &step, &mut model, &ops).unwrap();
    }
    assert_eq!(model.evaluations, schedule.evaluations());
    (asked, values(&sample))
}

fn stand_alone<S: StandAlone>() {
    let options = SolverOptions::default();
    let error = Uniform::<S>::new(options.clone(), &request(1)).map(|_| ()).unwrap_err();
    assert_eq!(error.kind, ErrorKind::Invalid);
    assert!(error.message.contains("diffusion-forcing"), "{error}");
    assert_eq!((S::SOLVER.name(), S::DOC.len() < 80), (S::ID, true));

    let sampler = Uniform::<S>::new(options.clone(), &request(0)).unwrap();
    let schedule = sampler.schedule().unwrap();
    schedule.check(3, 0).unwrap();
    assert_eq!(schedule.rounds.len(), 4);
    let twice = S::SOLVER == SolverKind::Heun;
    assert_eq!(schedule.evaluations(), if twice { 7 } else { 4 });
    if matches!(S::SOLVER, SolverKind::Lcm | SolverKind::EulerAncestral) {
        return; // where they end is a matter of the noise
    }
    let eta = if S::SOLVER == SolverKind::DpmPlusPlusSde { 0.0 } else { 1.0 };
    let expected = (-0.5 * schedule.rounds[0].levels[0].sigma).exp();
    let (_, end) = sampled::<S>(SolverOptions { eta, ..options });
    for (end, start) in end.iter().zip([1.0, -1.0, 0.5]) {
        let exact = start * expected;
        assert!((f64::from(*end) - exact).abs() < 0.1, "{}: {end}, not {exact}", S::ID);
    }
}

#[test]
fn each_solver_is_a_sampler_that_refuses_a_prefix() {
    stand_alone::<Euler>();
    stand_alone::<UniPc>();
    stand_alone::<DpmMultistep>();
    stand_alone::<Heun>();
    stand_alone::<EulerAncestral>();
    stand_alone::<DpmSde>();
    stand_alone::<Deis>();
    stand_alone::<Lcm>();
    stand_alone::<ResMultistep>();
    stand_alone::<SaOde>();
}

#[test]
fn a_second_evaluation_is_told_the_level_at_the_end_of_the_step() {
    let sigmas = vec![0.8, 0.6, 0.5, 0.25, 0.0];
    let (asked, _) = sampled::<Heun>(SolverOptions { sigmas, ..SolverOptions::default() });
    let sigmas: Vec<f32> = asked.iter().map(|(_, sigma)| *sigma as f32).collect();
    assert_eq!(sigmas, [0.8, 0.6, 0.6, 0.5, 0.5, 0.25, 0.25]);
    assert!(asked.iter().all(|(timestep, sigma)| (timestep - 1000.0 * sigma).abs() < 1e-3));
}

#[test]
fn a_part_of_a_schedule_is_run() {
    let options = SolverOptions { start_step: 1, end_step: 3, ..SolverOptions::default() };
    let whole = Uniform::<UniPc>::new(SolverOptions::default(), &request(0)).unwrap();
    let part = Uniform::<UniPc>::new(options.clone(), &request(0)).unwrap();
    assert_eq!(part.schedule().unwrap().rounds, whole.schedule().unwrap().rounds[1..3]);
    let (asked, _) = sampled::<UniPc>(options);
    assert_eq!(asked[0].1, whole.schedule().unwrap().rounds[1].levels[0].sigma);
}

/// Most samples that a sampler of this order keeps between two of twenty steps.
fn samples_held<S: StandAlone>(order: u32) -> u64 {
    let options = SolverOptions { order, ..SolverOptions::default() };
    let request = SampleRequest { steps: 20, ..request(0) };
    let mut sampler = Uniform::<S>::new(options, &request).unwrap();
    let schedule = sampler.schedule().unwrap();
    let ops = VecOps::default();
    let mut model = ModelFn::new(&ops, |x: &[f32], _: &[wan_plugin_api::FrameLevel]| x.to_vec());
    let (mut sample, mut most) = (ops.tensor(3, &[1.0, -1.0, 0.5]), 0);
    for (index, round) in schedule.rounds.iter().enumerate() {
        let left = 20 - index as u32;
        let step = Step { index, evaluation: index as u32, evaluations_left: left, round };
        sample = sampler.step(&sample, &step, &mut model, &ops).unwrap();
        let kept = ops.live_bytes() - sample.form().bytes;
        assert_eq!(kept % sample.form().bytes, 0);
        most = most.max(kept / sample.form().bytes);
    }
    most
}

#[test]
fn a_multistep_solver_keeps_as_many_predictions_as_its_order_has() {
    for order in 1..=3 {
        let earlier = u64::from(order) - 1;
        assert_eq!(samples_held::<Deis>(order), earlier, "order {order}");
        // A corrector goes back to the last step: its sample, and the prediction made there.
        assert_eq!(samples_held::<UniPc>(order), earlier + 2, "order {order}");
        assert_eq!(samples_held::<SaOde>(order), earlier + 2, "order {order}");
    }
    for order in 2..=3 {
        assert_eq!(samples_held::<DpmMultistep>(order), u64::from(order), "order {order}");
    }
    assert_eq!(samples_held::<Euler>(2), 0);
    assert_eq!(samples_held::<Heun>(2), 0);
}
