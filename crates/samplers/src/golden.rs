//! What the references' schedulers make of given samples and velocities, step by step
//! (`tools/record_sampler_logs` says how it was recorded).
//!
//! Each step starts from the recorded sample, and histories grow from those; so a difference is the
//! step's own. The reference's noise enters as its factor: what we drew ourselves, times that.

use serde::Deserialize;
use wan_plugin_kit::{VecOps, values};

use crate::noise::FrameNoise;
use crate::{SigmaTable, Solver, SolverOptions};

#[derive(Deserialize)]
struct Recorded {
    cases: Vec<Case>,
}

#[derive(Deserialize)]
struct Case {
    options: SolverOptions,
    steps: u32,
    shift: f64,
    sigmas: Vec<f64>,
    timesteps: Vec<f64>,
    trajectory: Vec<RecordedStep>,
}

#[derive(Deserialize)]
struct RecordedStep {
    sample: Vec<f32>,
    velocity: Vec<f32>,
    /// Where the step ends without its noise.
    moved: Vec<f32>,
    /// What its noise is multiplied by.
    noise: f64,
    #[serde(default)]
    second_velocity: Vec<f32>,
    #[serde(default)]
    corrected: Vec<f32>,
}

/// Frames of every recorded sample.
const FRAMES: usize = 2;

fn near(what: &str, ours: &[f64], recorded: &[f64], tolerance: f64) {
    assert_eq!(ours.len(), recorded.len(), "{what}");
    for (ours, recorded) in ours.iter().zip(recorded) {
        assert!((ours - recorded).abs() < tolerance, "{what}: {ours}, recorded {recorded}");
    }
}

fn wide(values: &[f32]) -> Vec<f64> {
    values.iter().map(|x| f64::from(*x)).collect()
}

impl Case {
    fn name(&self) -> String {
        format!("{:?} in {} steps", self.options, self.steps)
    }

    /// Levels as recorded; timesteps to the last digit of an f32.
    fn compare_table(&self, table: &SigmaTable) {
        let (name, steps) = (self.name(), table.steps());
        near(&format!("sigmas of {name}"), &table.sigmas[..steps], &self.sigmas, 2e-7);
        near(&format!("timesteps of {name}"), &table.timesteps, &self.timesteps, 2e-4);
        assert_eq!(table.sigmas[steps], 0.0);
    }

    fn compare_step(&self, solver: &mut dyn Solver, index: usize) {
        let (name, step) = (format!("step {index} of {}", self.name()), &self.trajectory[index]);
        let ops = VecOps::default();
        let tensor = |elements: &[f32]| ops.tensor(FRAMES, elements);
        let sample = tensor(&step.sample);
        let moved = solver.step(index, &sample, &tensor(&step.velocity), &ops).unwrap();
        let noise = values(&FrameNoise::new(0).draw(index, &sample, &ops).unwrap());
        let expected = step.moved.iter().zip(&noise);
        let expected: Vec<f64> =
            expected.map(|(x, n)| f64::from(*x) + step.noise * f64::from(*n)).collect();
        near(&name, &wide(&values(&moved)), &expected, 1e-5);
        if !step.corrected.is_empty() {
            let velocity = tensor(&step.second_velocity);
            let corrected = solver.correct((index, 1), &moved, &velocity, &ops).unwrap();
            near(&name, &wide(&values(&corrected)), &wide(&step.corrected), 1e-5);
        }
    }
}

#[test]
fn every_step_ends_where_the_reference_s_does() {
    let text = include_str!("golden/trajectories.json");
    let Recorded { cases } = serde_json::from_str(text).unwrap();
    for case in &cases {
        let table = case.options.table(case.steps, case.shift).unwrap();
        case.compare_table(&table);
        assert_eq!(case.trajectory.len(), table.steps());
        let mut solver = case.options.solver(&table, 0).unwrap();
        (0..table.steps()).for_each(|index| case.compare_step(&mut *solver, index));
    }
    let recorded = "deis dpm++-sde euler-ancestral heun lcm res-multistep sa-ode";
    for solver in recorded.split(' ') {
        assert!(cases.iter().any(|case| case.options.solver.id() == solver), "none of {solver}");
    }
}
