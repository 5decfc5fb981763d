//! Laws that hold for every solver, order and table.

use std::sync::Arc;

use proptest::prelude::*;
use serde_json::{Value, json};
use wan_plugin_api::{FrameLevel, OptionValues, Tensor};
use wan_plugin_kit::{VecOps, values};

use crate::{Entry, SOLVERS, SigmaTable, SolverOptions, Spacing, TimestepRule};

mod alone;
mod between;
mod orders;
mod saved;

/// Solvers of which no step matters to the next, whatever their options.
const ONE_STEP: [&str; 4] = ["euler", "heun", "euler-ancestral", "lcm"];

fn given(values: &[(&str, Value)]) -> OptionValues {
    values.iter().map(|(name, value)| (name.to_string(), value.clone())).collect()
}

/// These options of a choice, the others at their defaults.
fn options(values: &[(&str, Value)]) -> SolverOptions {
    SolverOptions::read(&given(values)).unwrap()
}

fn of(solver: &str) -> SolverOptions {
    options(&[("solver", json!(solver))])
}

/// The same, without noise that is renewed where the solver can do without.
fn without_noise(mut options: SolverOptions) -> SolverOptions {
    if has(&options, "eta") {
        options.own.insert("eta".into(), json!(0.0));
    }
    options
}

fn has(options: &SolverOptions, name: &str) -> bool {
    options.solver.options_in_forcing().iter().any(|spec| spec.name == name)
}

fn order(options: &SolverOptions) -> u64 {
    options.own["order"].as_u64().unwrap()
}

/// Whether nothing of a step matters to the next.
fn is_memoryless(options: &SolverOptions) -> bool {
    let solver = options.solver.id();
    let keeps_earlier_ones_alone = ["dpm++", "dpm++-sde", "deis"].contains(&solver);
    ONE_STEP.contains(&solver) || keeps_earlier_ones_alone && order(options) == 1
}

fn is_stochastic(options: &SolverOptions) -> bool {
    let renews = has(options, "eta") && options.own["eta"] != json!(0.0);
    renews || options.solver.id() == "lcm"
}

/// Any solver with any setting that it has.
fn any_options() -> impl Strategy<Value = SolverOptions> {
    (0..SOLVERS.len(), 1..=3u32, any::<bool>(), any::<bool>(), 0..=2u8).prop_map(
        |(solver, order, heun, wan, eta)| {
            let mut options = of(SOLVERS[solver].id());
            let order_max = if options.solver.id() == "dpm++-sde" { 2 } else { 3 };
            for (name, value) in [
                ("order", json!(order.min(order_max))),
                ("solver_type", json!(if heun { "heun" } else { "midpoint" })),
                ("eta", json!(f64::from(eta) / 2.0)),
            ] {
                if has(&options, name) {
                    options.own.insert(name.into(), value);
                }
            }
            let rule = if wan { "wan" } else { "diffusers" };
            options.levels.timesteps = serde_json::from_value(json!(rule)).unwrap();
            options
        },
    )
}

/// Down the steps of a table that are taken, for frames from `first_frame` on. `velocity` sees the
/// sample, the noise level and the step.
fn walk(
    options: &SolverOptions,
    (table, first_frame): (&Arc<SigmaTable>, u32),
    start: Tensor,
    ops: &VecOps,
    velocity: impl Fn(&[f32], f64, usize) -> Vec<f32>,
) -> Tensor {
    let mut solver = options.solver(table, first_frame).unwrap();
    let ask = |sample: &Tensor, sigma, index| {
        ops.tensor(sample.form().frames as usize, &velocity(&values(sample), sigma, index))
    };
    options.levels.part(table).unwrap().fold(start, |sample, index| {
        let velocity = ask(&sample, table.sigmas[index], index);
        let mut moved = solver.step(index, &sample, &velocity, ops).unwrap();
        for evaluation in 1..solver.evaluations(index) {
            let level = solver.level(index, evaluation).unwrap();
            let sigma = level.map_or(table.sigmas[index + 1], |(_, sigma)| sigma);
            let velocity = ask(&moved, sigma, index);
            moved = solver.correct((index, evaluation), &moved, &velocity, ops).unwrap();
        }
        moved
    })
}

/// A velocity that depends on a frame's own elements and step alone.
fn own(sample: &[f32], sigma: f64, index: usize) -> Vec<f32> {
    sample.iter().map(|x| 0.4 * x - 0.1 * index as f32 / 7.0 + 0.1 * sigma as f32).collect()
}

fn bits(tensor: &Tensor) -> Vec<u32> {
    values(tensor).iter().map(|x| x.to_bits()).collect()
}

fn seeded(seed: u64) -> VecOps {
    let mut ops = VecOps::default();
    ops.seed = seed;
    ops
}

/// Found by the property below: f32 carried the first sigma of this shift to 1.0000001.
#[test]
fn no_shift_makes_more_than_pure_noise() {
    assert_eq!(of("euler").table(1, 0.3827574632823955).unwrap().sigmas[0], 1.0);
}

proptest! {
    #[test]
    fn a_table_falls_from_noise_to_exactly_zero(
        options in any_options(), steps in 1..200u32, shift in 0.3..20.0f64, spacing in 0..3usize,
    ) {
        let mut options = options;
        options.levels.spacing = [Spacing::Uniform, Spacing::Beta, Spacing::BetaComfyui][spacing];
        if spacing > 0 {
            options.levels.timesteps = TimestepRule::Diffusers;
        }
        let table = options.table(steps, shift).unwrap();
        prop_assert_eq!(table.sigmas.len(), table.timesteps.len() + 1);
        prop_assert_eq!(table.sigmas[table.steps()], 0.0);
        prop_assert!(table.sigmas[0] <= 1.0);
        prop_assert!(table.sigmas[..table.steps()].iter().all(|s| *s > 0.0));
        prop_assert!(table.sigmas.is_sorted_by(|a, b| a >= b));
        prop_assert!(table.timesteps.is_sorted_by(|a, b| a >= b));
        let mut pairs = table.timesteps.iter().zip(&table.sigmas);
        prop_assert!(pairs.all(|(t, s)| (1000.0 * s - t).abs() < 1.1));
        let last = table.arrived(&FrameLevel::frozen(0, 999.0, 1.0), table.steps() - 1);
        prop_assert_eq!((last.timestep, last.sigma, last.sigma_next), (0.0, 0.0, 0.0));
    }

    /// Without noise, that is; what LCM renews is all noise.
    #[test]
    fn a_constant_velocity_is_followed_exactly(
        options in any_options(), steps in 1..60u32, shift in 0.5..12.0f64,
    ) {
        prop_assume!(options.solver.id() != "lcm");
        let options = without_noise(options);
        let (ops, table) = (VecOps::default(), options.table(steps, shift).unwrap());
        let (start, velocity) = ([0.3f32, -1.5, 2.0], [1.1f32, 0.2, -0.7]);
        let constant = |_: &[f32], _, _| velocity.to_vec();
        let end = walk(&options, (&table, 0), ops.tensor(1, &start), &ops, constant);
        for ((end, x), v) in values(&end).iter().zip(start).zip(velocity) {
            let exact = f64::from(x) - table.sigmas[0] * f64::from(v);
            prop_assert!((f64::from(*end) - exact).abs() < 2e-5, "{end}, not {exact}");
        }
    }

    /// A model that always predicts one clean sample is followed to it, whatever the noise.
    #[test]
    fn a_sure_prediction_is_where_it_ends(
        options in any_options(), steps in 1..30u32, shift in 0.5..12.0f64, seed in 0..9u64,
    ) {
        let (ops, table) = (seeded(seed), options.table(steps, shift).unwrap());
        let clean = [0.4f32, -1.2];
        let to_clean = |sample: &[f32], sigma: f64, _| {
            sample.iter().zip(clean).map(|(x, m)| (x - m) / sigma as f32).collect()
        };
        let end = walk(&options, (&table, 0), ops.tensor(1, &[0.9, -0.2]), &ops, to_clean);
        for (end, clean) in values(&end).iter().zip(clean) {
            prop_assert!((end - clean).abs() < 2e-5, "{end}, not {clean}");
        }
    }

    #[test]
    fn frames_moved_together_have_the_bits_of_each_alone(
        options in any_options(), steps in 1..12u32,
        frames in prop::collection::vec(-2.0..2.0f32, 1..5),
    ) {
        let (ops, table) = (seeded(5), options.table(steps, 5.0).unwrap());
        let run = |first, frames: &[f32]| {
            bits(&walk(&options, (&table, first), ops.tensor(frames.len(), frames), &ops, own))
        };
        let together = run(3, &frames);
        for (number, frame) in frames.iter().enumerate() {
            prop_assert_eq!(run(3 + number as u32, &[*frame])[0], together[number]);
        }
    }

    #[test]
    fn noise_is_of_the_seed_alone(options in any_options(), steps in 2..12u32) {
        let table = options.table(steps, 5.0).unwrap();
        let run = |seed| {
            let ops = seeded(seed);
            bits(&walk(&options, (&table, 0), ops.tensor(2, &[0.3, -0.8]), &ops, own))
        };
        prop_assert_eq!(run(1), run(1));
        prop_assert_eq!(run(1) == run(2), !is_stochastic(&options));
    }

    #[test]
    fn a_step_between_equal_sigmas_keeps_bits_and_history(
        options in any_options(), steps in 2..12u32, at in 0..11usize,
    ) {
        let ops = VecOps::default();
        let whole = options.table(steps, 5.0).unwrap();
        let mut table = SigmaTable::clone(&whole);
        let at = at.min(table.steps() - 1);
        table.sigmas.insert(at, table.sigmas[at]);
        table.timesteps.insert(at, table.timesteps[at]);
        let mut solver = options.solver(&Arc::new(table.clone()), 0).unwrap();
        prop_assert_eq!(solver.evaluations(at), 1);
        let mut sample = ops.tensor(1, &[0.1, -0.7]);
        for index in 0..table.steps() {
            let velocity = ops.tensor(1, &[index as f32, 0.3]);
            let moved = solver.step(index, &sample, &velocity, &ops).unwrap();
            prop_assert!(values(&moved).iter().all(|x| x.is_finite()));
            prop_assert!(index != at || bits(&sample) == bits(&moved));
            sample = moved;
        }
        prop_assert!(solver.step(table.steps(), &sample, &sample, &ops).is_err());
    }

    /// Two runs of parts of a schedule, the noisy sample handed over between them. The second
    /// begins with an empty history, which a constant velocity has no need of.
    #[test]
    fn a_schedule_can_be_run_in_two_parts(
        options in any_options(), steps in 2..12u32, cut in 1..11u32,
    ) {
        let (ops, cut) = (seeded(7), cut.min(steps - 1));
        let table = options.table(steps, 5.0).unwrap();
        prop_assume!(is_memoryless(&options) || !is_stochastic(&options));
        let run = |options: &SolverOptions, start: Tensor| {
            let velocity = |sample: &[f32], sigma, index| match is_memoryless(options) {
                true => own(sample, sigma, index),
                false => vec![0.7, -0.4],
            };
            walk(options, (&table, 0), start, &ops, velocity)
        };
        let whole = run(&options, ops.tensor(2, &[0.3, -0.8]));
        let (mut first, mut second) = (options.clone(), options.clone());
        (first.levels.end_step, second.levels.start_step) = (cut, cut);
        let end = run(&second, run(&first, ops.tensor(2, &[0.3, -0.8])));
        if is_memoryless(&options) {
            prop_assert_eq!(bits(&end), bits(&whole));
        }
        for (end, whole) in values(&end).iter().zip(values(&whole)) {
            prop_assert!((end - whole).abs() < 2e-5, "{end}, in one run {whole}");
        }
    }
}

/// Lists that do not begin at pure noise or end at 0.
#[test]
fn a_list_of_levels_is_gone_down_from_its_first_to_its_last() {
    for solver in SOLVERS.iter().map(Entry::id) {
        let mut options = without_noise(of(solver));
        options.levels.sigmas = vec![0.75, 0.5, 0.25];
        let (ops, table) = (VecOps::default(), options.table(2, 5.0).unwrap());
        let end = walk(&options, (&table, 0), ops.tensor(1, &[1.0]), &ops, |_, _, _| vec![2.0]);
        // Euler's answer for a constant velocity; LCM ends at a quarter of noise.
        let is_exact = (values(&end)[0] - 0.0).abs() < 1e-6;
        assert_eq!(is_exact, solver != "lcm", "{solver} {:?}", values(&end));
        let made = options.solver(&table, 0).unwrap();
        let asked = (0..2).map(|index| made.evaluations(index)).sum::<u32>();
        assert_eq!(asked, if solver == "heun" { 4 } else { 2 });
        let level = table.arrived(&FrameLevel::moving(0, 500.0, 0.5, 0.25), 1);
        assert_eq!((level.timestep, level.sigma_next), (250.0, 0.25));
    }
}
