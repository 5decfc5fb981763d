//! Solvers of an author's: with evaluations inside a step, and more than two of them.

use wan_plugin_api::state::{load, save};
use wan_plugin_api::{ErrorKind, Result, SampleRequest, Sampler, Schedule, Step, TensorOps, term};
use wan_plugin_kit::ModelFn;

use super::*;
use crate::{LevelOptions, Memory, NamedSolver, NoOptions, Solver, Uniform};

/// The classical Runge-Kutta method: two evaluations in the middle of a step, one at its end.
struct RungeKutta {
    table: Arc<SigmaTable>,
    /// Start of the step, and the velocities so far.
    begun: Vec<Tensor>,
}

impl RungeKutta {
    fn length(&self, index: usize) -> f64 {
        self.table.sigmas[index + 1] - self.table.sigmas[index]
    }
}

impl Solver for RungeKutta {
    fn evaluations(&self, index: usize) -> u32 {
        if self.length(index) < 0.0 { 4 } else { 1 }
    }

    fn level(&self, index: usize, evaluation: u32) -> Result<Option<(f64, f64)>> {
        let middle = self.table.sigmas[index] + self.length(index) / 2.0;
        Ok((evaluation < 3).then_some((1000.0 * middle, middle)))
    }

    fn step(
        &mut self,
        index: usize,
        sample: &Tensor,
        velocity: &Tensor,
        ops: &dyn TensorOps,
    ) -> Result<Tensor> {
        if self.evaluations(index) == 1 {
            return Ok(sample.clone());
        }
        self.begun = vec![sample.clone(), velocity.clone()];
        ops.combine(&[term(1.0, sample), term(self.length(index) / 2.0, velocity)])
    }

    fn correct(
        &mut self,
        (index, evaluation): (usize, u32),
        _: &Tensor,
        velocity: &Tensor,
        ops: &dyn TensorOps,
    ) -> Result<Tensor> {
        self.begun.push(velocity.clone());
        let length = self.length(index);
        let along = |factor: f64, i: usize| term(factor * length, &self.begun[i]);
        let start = term(1.0, &self.begun[0]);
        match evaluation {
            1 => ops.combine(&[start, along(0.5, 2)]),
            2 => ops.combine(&[start, along(1.0, 3)]),
            _ => {
                let (sixth, third) = (1.0 / 6.0, 1.0 / 3.0);
                let terms = [along(sixth, 1), along(third, 2), along(third, 3), along(sixth, 4)];
                let moved = ops.combine(&[&[start][..], &terms].concat())?;
                self.begun.clear();
                Ok(moved)
            }
        }
    }
}

impl NamedSolver for RungeKutta {
    type Options = NoOptions;
    const ID: &'static str = "runge-kutta";
    const DOC: &'static str = "four evaluations a step";

    fn new(_: &NoOptions, table: Arc<SigmaTable>, _: u32) -> Result<Self> {
        Ok(Self { table, begun: Vec::new() })
    }
}

fn request(steps: u32) -> SampleRequest {
    SampleRequest { frames: 2, prefix_frames: 0, steps, shift: 1.0, temporal_scale: 4 }
}

/// Where `dx/dsigma = 6 x` ends from 0.01 in so many equal steps, and what the model was told.
fn sampled(steps: u32) -> (f64, Vec<(f64, f64)>) {
    let sigmas: Vec<f64> = (0..=steps).map(|i| 1.0 - f64::from(i) / f64::from(steps)).collect();
    let options = given(&[("sigmas", json!(sigmas))]);
    let mut sampler = Uniform::<RungeKutta>::new(options, &request(steps)).unwrap();
    let Schedule { rounds, .. } = sampler.schedule().unwrap();
    let (ops, mut told) = (VecOps::default(), Vec::new());
    let mut model = ModelFn::new(&ops, |x: &[f32], levels: &[FrameLevel]| {
        let FrameLevel { timestep, sigma, sigma_next, .. } = levels[1];
        assert!(sigma_next <= sigma);
        told.push((timestep, sigma));
        x.iter().map(|x| 6.0 * x).collect()
    });
    let mut sample = ops.tensor(2, &[400.0, -400.0]);
    for (index, round) in rounds.iter().enumerate() {
        let step = Step { index, evaluation: 0, evaluations_left: 0, round };
        sample = sampler.step(&sample, &step, &mut model, &ops).unwrap();
    }
    let end = values(&sample);
    assert_eq!(end[0], -end[1]);
    (f64::from(end[0]), told)
}

#[test]
fn a_solver_with_evaluations_inside_a_step_has_its_order() {
    let exact = 400.0 * (-6.0f64).exp();
    let error = |steps| (sampled(steps).0 - exact).abs();
    let rate = (error(12) / error(24)).log2();
    assert!((rate - 4.0).abs() < 0.4, "order {rate}");
}

#[test]
fn the_model_is_told_where_it_is_asked() {
    let (_, told) = sampled(2);
    let expected = [1.0, 0.75, 0.75, 0.5, 0.5, 0.25, 0.25, 0.0];
    assert_eq!(told.iter().map(|(_, sigma)| *sigma).collect::<Vec<_>>(), expected);
    assert!(told.iter().all(|(timestep, sigma)| *timestep == 1000.0 * sigma));
}

#[test]
fn it_is_a_sampler_with_all_that_others_have() {
    assert_eq!(Uniform::<RungeKutta>::DOC, "four evaluations a step, all frames together");
    assert_eq!(Uniform::<RungeKutta>::options(), LevelOptions::specs());
    let mut sampler = Uniform::<RungeKutta>::new(given(&[]), &request(3)).unwrap();
    assert!(sampler.schedule().unwrap().rounds.iter().all(|round| round.evaluations == 4));
    let ops = VecOps::default();
    let saved = save(|id, message| sampler.extension(id, message, &ops)).unwrap();
    load(saved, |id, message| sampler.extension(id, message, &ops)).unwrap();
    let one = given(&[("sigmas", json!([0.5, 0.25]))]);
    assert!(Uniform::<RungeKutta>::new(one, &request(3)).is_err());
}

/// A solver that says it is asked somewhere else.
struct Lost(f64);

impl Solver for Lost {
    fn evaluations(&self, _: usize) -> u32 {
        2
    }

    fn level(&self, _: usize, _: u32) -> Result<Option<(f64, f64)>> {
        Ok(Some((500.0, self.0)))
    }

    fn step(&mut self, _: usize, x: &Tensor, _: &Tensor, _: &dyn TensorOps) -> Result<Tensor> {
        Ok(x.clone())
    }

    fn load(&mut self, memory: Memory) -> Result<()> {
        memory.check(0, false)
    }
}

#[test]
fn a_level_that_is_none_is_refused() {
    for sigma in [f64::NAN, -0.1, 1.5] {
        let table = of("euler").table(4, 3.0).unwrap();
        let levels = LevelOptions::default();
        let descent = crate::Descent::new(table, &levels, move |_, _| Ok(Lost(sigma))).unwrap();
        let error = descent.seen(&FrameLevel::moving(0, 1000.0, 1.0, 0.5), 0, 1).unwrap_err();
        assert_eq!(error.kind, ErrorKind::Failed);
        assert!(error.message.contains(&format!("sigma {sigma}")), "{error}");
    }
}
