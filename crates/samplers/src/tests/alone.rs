//! Each solver as a sampler of its own.

use wan_plugin_api::library::{Library, SamplerInstance};
use wan_plugin_api::options::complete;
use wan_plugin_api::{ErrorKind, Result, Round, SampleRequest, Schedule, Step};
use wan_plugin_kit::ModelFn;

use super::*;
use crate::BuiltIn;

fn request(prefix_frames: u32) -> SampleRequest {
    SampleRequest { frames: 3, prefix_frames, steps: 4, shift: 3.0, temporal_scale: 4 }
}

/// The sampler of a solver, as the host has it.
struct Made(SamplerInstance);

impl Made {
    fn try_new(id: &str, values: &[(&str, Value)], request: &SampleRequest) -> Result<Self> {
        let library = Library::built_in::<BuiltIn>();
        let description = library.describe().unwrap();
        let strategy = description.samplers.iter().find(|sampler| sampler.id == id).unwrap();
        let values = complete(id, &strategy.options, &given(values)).unwrap();
        Ok(Self(library.create_sampler(id, &values, request)?))
    }

    fn new(id: &str, values: &[(&str, Value)], request: &SampleRequest) -> Self {
        Self::try_new(id, values, request).unwrap()
    }

    fn rounds(&self) -> Vec<Round> {
        self.0.schedule_from(0).unwrap().rounds
    }
}

/// Runs the sampler; the levels that the model was asked at, and where the frames end.
fn sampled(id: &str, values: &[(&str, Value)]) -> (Vec<(f64, f64)>, Vec<f32>) {
    let mut sampler = Made::new(id, values, &request(0));
    let rounds = sampler.rounds();
    let (ops, mut asked) = (VecOps::default(), Vec::new());
    let mut model = ModelFn::new(&ops, |x: &[f32], levels: &[FrameLevel]| {
        asked.push((levels[0].timestep, levels[0].sigma));
        x.iter().map(|x| 0.5 * x).collect()
    });
    let mut sample = ops.tensor(3, &[1.0, -1.0, 0.5]);
    for (index, round) in rounds.iter().enumerate() {
        let left = 4 - index as u32;
        let step = Step { index, evaluation: index as u32, evaluations_left: left, round };
        sample = sampler.0.step(&sample, &step, &mut model, &ops).unwrap();
    }
    assert_eq!(model.evaluations, Schedule::from(rounds).evaluations());
    (asked, wan_plugin_kit::values(&sample))
}

#[test]
fn each_solver_is_a_sampler_that_refuses_a_prefix() {
    let samplers = Library::built_in::<BuiltIn>().describe().unwrap().samplers;
    let of_solvers: Vec<&str> = SOLVERS.iter().map(Entry::id).collect();
    assert_eq!(samplers.iter().map(|s| s.id.as_str()).collect::<Vec<_>>(), of_solvers);
    for sampler in samplers {
        let id = sampler.id.as_str();
        let error = Made::try_new(id, &[], &request(1)).map(|_| ()).unwrap_err();
        assert_eq!(error.kind, ErrorKind::Invalid);
        assert!(error.message.contains("diffusion-forcing"), "{error}");
        assert!(sampler.doc.len() < 80 && sampler.doc.ends_with("all frames together"));

        let schedule = Schedule::from(Made::new(id, &[], &request(0)).rounds());
        schedule.check(3, 0).unwrap();
        assert_eq!(schedule.rounds.len(), 4);
        assert_eq!(schedule.evaluations(), if id == "heun" { 7 } else { 4 });
        if ["lcm", "euler-ancestral"].contains(&id) {
            continue; // where they end is a matter of the noise
        }
        let has_eta = sampler.options.iter().any(|spec| spec.name == "eta");
        let eta = [("eta", json!(0.0))];
        let (_, end) = sampled(id, if has_eta { &eta } else { &[] });
        let expected = (-0.5 * schedule.rounds[0].levels[0].sigma).exp();
        for (end, start) in end.iter().zip([1.0, -1.0, 0.5]) {
            let exact = start * expected;
            assert!((f64::from(*end) - exact).abs() < 0.1, "{id}: {end}, not {exact}");
        }
    }
}

#[test]
fn a_second_evaluation_is_told_the_level_at_the_end_of_the_step() {
    let (asked, _) = sampled("heun", &[("sigmas", json!([0.8, 0.6, 0.5, 0.25, 0.0]))]);
    let sigmas: Vec<f32> = asked.iter().map(|(_, sigma)| *sigma as f32).collect();
    assert_eq!(sigmas, [0.8, 0.6, 0.6, 0.5, 0.5, 0.25, 0.25]);
    assert!(asked.iter().all(|(timestep, sigma)| (timestep - 1000.0 * sigma).abs() < 1e-3));
}

#[test]
fn a_part_of_a_schedule_is_run() {
    let values = [("start_step", json!(1)), ("end_step", json!(3))];
    let whole = Made::new("unipc", &[], &request(0)).rounds();
    assert_eq!(Made::new("unipc", &values, &request(0)).rounds(), whole[1..3]);
    let (asked, _) = sampled("unipc", &values);
    assert_eq!(asked[0].1, whole[1].levels[0].sigma);
}

/// Most samples that a sampler with these options keeps between two of twenty steps.
fn samples_held(id: &str, values: &[(&str, Value)]) -> u64 {
    let request = SampleRequest { steps: 20, ..request(0) };
    let mut sampler = Made::new(id, values, &request);
    let ops = VecOps::default();
    let mut model = ModelFn::new(&ops, |x: &[f32], _: &[FrameLevel]| x.to_vec());
    let (mut sample, mut most) = (ops.tensor(3, &[1.0, -1.0, 0.5]), 0);
    for (index, round) in sampler.rounds().iter().enumerate() {
        let left = 20 - index as u32;
        let step = Step { index, evaluation: index as u32, evaluations_left: left, round };
        sample = sampler.0.step(&sample, &step, &mut model, &ops).unwrap();
        let kept = ops.live_bytes() - sample.form().bytes;
        assert_eq!(kept % sample.form().bytes, 0);
        most = most.max(kept / sample.form().bytes);
    }
    most
}

#[test]
fn a_multistep_solver_keeps_as_many_predictions_as_its_order_has() {
    let held = |id: &str, order: u64| samples_held(id, &[("order", json!(order))]);
    for order in 1..=3 {
        assert_eq!(held("deis", order), order - 1, "order {order}");
        // A corrector goes back to the last step: its sample, and the prediction made there.
        assert_eq!(held("unipc", order), order + 1, "order {order}");
        assert_eq!(held("sa-ode", order), order + 1, "order {order}");
    }
    for order in 2..=3 {
        assert_eq!(held("dpm++", order), order, "order {order}");
    }
    assert_eq!(samples_held("dpm++-3m-sde", &[]), 3);
    assert_eq!(samples_held("euler", &[]), 0);
    assert_eq!(samples_held("heun", &[]), 0);
}
