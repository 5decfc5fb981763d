//! Laws that hold for every solver, order and table.

use std::sync::Arc;

use proptest::prelude::*;
use wan_plugin_api::{FrameLevel, Tensor};
use wan_plugin_kit::{VecOps, values};

use crate::{SigmaTable, SolverKind, SolverOptions, SolverType, Spacing, TimestepRule};

mod alone;
mod orders;
mod saved;

/// All solvers, in the order of their names.
const SOLVERS: [SolverKind; 10] = [
    SolverKind::UniPc,
    SolverKind::DpmPlusPlus,
    SolverKind::Euler,
    SolverKind::Heun,
    SolverKind::EulerAncestral,
    SolverKind::DpmPlusPlusSde,
    SolverKind::Deis,
    SolverKind::Lcm,
    SolverKind::ResMultistep,
    SolverKind::SaOde,
];

/// Whether nothing of a step matters to the next.
fn is_memoryless(options: &SolverOptions) -> bool {
    use SolverKind::{Deis, DpmPlusPlus, DpmPlusPlusSde, Euler, EulerAncestral, Heun, Lcm};
    match options.solver {
        Euler | Heun | EulerAncestral | Lcm => true,
        DpmPlusPlus | DpmPlusPlusSde | Deis => options.order == 1,
        _ => false,
    }
}

fn is_stochastic(options: &SolverOptions) -> bool {
    match options.solver {
        SolverKind::Lcm => true,
        SolverKind::EulerAncestral | SolverKind::DpmPlusPlusSde => options.eta > 0.0,
        _ => false,
    }
}

/// Any solver with any setting that it has.
fn any_options() -> impl Strategy<Value = SolverOptions> {
    let wan = any::<bool>().prop_map(|wan| match wan {
        true => TimestepRule::Wan,
        false => TimestepRule::Diffusers,
    });
    (0..SOLVERS.len(), 1..=3u32, any::<bool>(), wan, 0..=2u8).prop_map(
        |(solver, order, heun, timesteps, eta)| {
            use SolverKind::{Deis, DpmPlusPlus, DpmPlusPlusSde, EulerAncestral, SaOde, UniPc};
            let solver = SOLVERS[solver];
            let order = match solver {
                UniPc | DpmPlusPlus | Deis | SaOde => order,
                _ => order.min(2),
            };
            let heun = heun && matches!(solver, DpmPlusPlus | DpmPlusPlusSde);
            let solver_type = if heun { SolverType::Heun } else { SolverType::Midpoint };
            let eta = match solver {
                EulerAncestral | DpmPlusPlusSde => f64::from(eta) / 2.0,
                _ => 1.0,
            };
            SolverOptions { solver, order, solver_type, timesteps, eta, ..Default::default() }
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
    let mut solver = options.solver_from(table, first_frame);
    let ask = |sample: &Tensor, sigma, index| {
        ops.tensor(sample.form().frames as usize, &velocity(&values(sample), sigma, index))
    };
    options.part(table).unwrap().fold(start, |sample, index| {
        let given = ask(&sample, table.sigmas[index], index);
        let moved = solver.step(index, &sample, &given, ops).unwrap();
        if options.solver.evaluations(table, index) == 1 {
            return moved;
        }
        let there = ask(&moved, table.sigmas[index + 1], index);
        solver.correct(&moved, &there, ops).unwrap()
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
    let options = SolverOptions { solver: SolverKind::Euler, ..SolverOptions::default() };
    assert_eq!(options.table(1, 0.3827574632823955).unwrap().sigmas[0], 1.0);
}

proptest! {
    #[test]
    fn a_table_falls_from_noise_to_exactly_zero(
        options in any_options(), steps in 1..200u32, shift in 0.3..20.0f64, spacing in 0..3usize,
    ) {
        let spacing = [Spacing::Uniform, Spacing::Beta, Spacing::BetaComfyui][spacing];
        let timesteps = match spacing {
            Spacing::Uniform => options.timesteps,
            _ => TimestepRule::Diffusers,
        };
        let table = SolverOptions { spacing, timesteps, ..options }.table(steps, shift).unwrap();
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
        prop_assume!(options.solver != SolverKind::Lcm);
        let options = match is_stochastic(&options) {
            true => SolverOptions { eta: 0.0, ..options },
            false => options,
        };
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
        prop_assert_eq!(options.solver.evaluations(&table, at), 1);
        let mut solver = options.solver(&Arc::new(table.clone()));
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
        let first = SolverOptions { end_step: cut, ..options.clone() };
        let second = SolverOptions { start_step: cut, ..options.clone() };
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
    for solver in SOLVERS {
        let eta = match solver {
            SolverKind::EulerAncestral | SolverKind::DpmPlusPlusSde => 0.0,
            _ => 1.0,
        };
        let sigmas = vec![0.75, 0.5, 0.25];
        let options = SolverOptions { solver, sigmas, eta, ..SolverOptions::default() };
        let (ops, table) = (VecOps::default(), options.table(2, 5.0).unwrap());
        let end = walk(&options, (&table, 0), ops.tensor(1, &[1.0]), &ops, |_, _, _| vec![2.0]);
        // Euler's answer for a constant velocity; LCM ends at a quarter of noise.
        let is_exact = (values(&end)[0] - 0.0).abs() < 1e-6;
        assert_eq!(is_exact, solver != SolverKind::Lcm, "{solver:?} {:?}", values(&end));
        let asked = (0..2).map(|index| solver.evaluations(&table, index)).sum::<u32>();
        assert_eq!(asked, if solver == SolverKind::Heun { 4 } else { 2 });
        let level = table.arrived(&FrameLevel::moving(0, 500.0, 0.5, 0.25), 1);
        assert_eq!((level.timestep, level.sigma_next), (250.0, 0.25));
    }
}
