//! Laws that hold for every solver, order and table.

use std::sync::Arc;

use proptest::prelude::*;
use wan_plugin_api::testkit::{ModelFn, VecOps, values};
use wan_plugin_api::{ErrorKind, SampleRequest, Sampler, Step, Tensor};

use crate::{
    DpmMultistep, Euler, SigmaTable, SolverKind, SolverOptions, SolverType, StandAlone,
    TimestepRule, UniPc, Uniform,
};

fn any_options() -> impl Strategy<Value = SolverOptions> {
    let solver = prop_oneof![
        Just(SolverKind::Euler),
        Just(SolverKind::UniPc),
        Just(SolverKind::DpmPlusPlus)
    ];
    let timesteps = prop_oneof![Just(TimestepRule::Diffusers), Just(TimestepRule::Wan)];
    (solver, 1..=3u32, any::<bool>(), timesteps).prop_map(|(solver, order, heun, timesteps)| {
        let order = if solver == SolverKind::Euler { 1 } else { order };
        let heun = heun && solver == SolverKind::DpmPlusPlus;
        let solver_type = if heun { SolverType::Heun } else { SolverType::Midpoint };
        SolverOptions { solver, order, solver_type, timesteps, ..SolverOptions::default() }
    })
}

/// Down the whole table, with a velocity that depends on a frame's own elements and step alone.
fn run(options: SolverOptions, table: &Arc<SigmaTable>, ops: &VecOps, start: Tensor) -> Tensor {
    let mut solver = options.solver(table);
    (0..table.steps()).fold(start, |sample, index| {
        let velocity: Vec<f32> =
            values(&sample).iter().map(|x| 0.4 * x - 0.1 * index as f32 / 7.0).collect();
        let velocity = ops.tensor(sample.form().frames as usize, &velocity);
        solver.step(index, &sample, &velocity, ops).unwrap()
    })
}

/// Found by the property below: f32 carried the first sigma of this shift to 1.0000001.
#[test]
fn no_shift_makes_more_than_pure_noise() {
    let options = SolverOptions { solver: SolverKind::Euler, ..SolverOptions::default() };
    assert_eq!(options.table(1, 0.3827574632823955).unwrap().sigmas[0], 1.0);
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..Default::default() })]

    #[test]
    fn a_table_falls_from_noise_to_exactly_zero(
        options in any_options(), steps in 1..200u32, shift in 0.3..20.0f64,
    ) {
        let table = options.table(steps, shift).unwrap();
        prop_assert_eq!(table.sigmas.len(), table.timesteps.len() + 1);
        prop_assert_eq!(table.sigmas[table.steps()], 0.0);
        prop_assert!(table.sigmas[0] <= 1.0);
        prop_assert!(table.sigmas[..table.steps()].iter().all(|s| *s > 0.0));
        prop_assert!(table.sigmas.is_sorted_by(|a, b| a >= b));
        prop_assert!(table.timesteps.is_sorted_by(|a, b| a >= b));
        let mut pairs = table.timesteps.iter().zip(&table.sigmas);
        prop_assert!(pairs.all(|(t, s)| (1000.0 * s - t).abs() < 1.1));
    }

    #[test]
    fn a_constant_velocity_is_followed_exactly(
        options in any_options(), steps in 1..60u32, shift in 0.5..12.0f64,
    ) {
        let (ops, table) = (VecOps::default(), options.table(steps, shift).unwrap());
        let (start, velocity) = ([0.3f32, -1.5, 2.0], [1.1f32, 0.2, -0.7]);
        let velocity_tensor = ops.tensor(1, &velocity);
        let mut solver = options.solver(&table);
        let end = (0..table.steps()).fold(ops.tensor(1, &start), |sample, index| {
            solver.step(index, &sample, &velocity_tensor, &ops).unwrap()
        });
        for ((end, x), v) in values(&end).iter().zip(start).zip(velocity) {
            let exact = f64::from(x) - table.sigmas[0] * f64::from(v);
            prop_assert!((f64::from(*end) - exact).abs() < 2e-5, "{end}, not {exact}");
        }
    }

    #[test]
    fn frames_moved_together_have_the_bits_of_each_alone(
        options in any_options(), steps in 1..12u32,
        frames in prop::collection::vec(-2.0..2.0f32, 1..5),
    ) {
        let (ops, table) = (VecOps::default(), options.table(steps, 5.0).unwrap());
        let together = values(&run(options, &table, &ops, ops.tensor(frames.len(), &frames)));
        for (frame, end) in frames.iter().zip(together) {
            let alone = values(&run(options, &table, &ops, ops.tensor(1, &[*frame])));
            prop_assert_eq!(alone[0].to_bits(), end.to_bits());
        }
    }

    #[test]
    fn a_step_between_equal_sigmas_keeps_bits_and_history(
        options in any_options(), steps in 2..12u32, at in 0..11usize,
    ) {
        let ops = VecOps::default();
        let mut table = SigmaTable::clone(&options.table(steps, 5.0).unwrap());
        let at = at.min(table.steps() - 1);
        table.sigmas.insert(at, table.sigmas[at]);
        table.timesteps.insert(at, table.timesteps[at]);
        let mut solver = options.solver(&Arc::new(table.clone()));
        let mut sample = ops.tensor(1, &[0.1, -0.7]);
        for index in 0..table.steps() {
            let velocity = ops.tensor(1, &[index as f32, 0.3]);
            let moved = solver.step(index, &sample, &velocity, &ops).unwrap();
            let (before, after) = (values(&sample), values(&moved));
            prop_assert!(after.iter().all(|x| x.is_finite()));
            prop_assert!(index != at || before == after);
            sample = moved;
        }
        prop_assert!(solver.step(table.steps(), &sample, &sample, &ops).is_err());
    }
}

/// A linear flow, `dx/dsigma = 2.5 * x - 0.4`, whose solution is known.
fn exact(sigma: f64) -> f64 {
    0.7 * (2.5 * sigma).exp() + 0.16
}

/// Error after `steps` equal steps in lambda from -1.5 to 1.5.
///
/// The first steps are given exact samples, so that the low orders at the start do not show; 15
/// steps more would follow, so that those at the end do not either.
fn error_after(options: SolverOptions, steps: usize) -> f64 {
    let sigma = |i| 1.0 / (1.0 + (3.0 * i as f64 / steps as f64 - 1.5).exp());
    let sigmas: Vec<f64> = (0..=steps + 15).map(sigma).collect();
    let table = Arc::new(SigmaTable { timesteps: vec![0.0; steps + 15], sigmas });
    let (ops, mut solver) = (VecOps::default(), options.solver(&table));
    let mut sample = ops.tensor(1, &[0.0]);
    for index in 0..steps {
        if index < options.order as usize {
            sample = ops.tensor(1, &[exact(table.sigmas[index]) as f32]);
        }
        let velocity = ops.tensor(1, &[2.5 * values(&sample)[0] - 0.4]);
        sample = solver.step(index, &sample, &velocity, &ops).unwrap();
    }
    (f64::from(values(&sample)[0]) - exact(table.sigmas[steps])).abs()
}

#[test]
fn every_solver_has_the_order_it_claims() {
    let of = |solver, order| SolverOptions { solver, order, ..SolverOptions::default() };
    let mut all = vec![of(SolverKind::Euler, 1)];
    for order in 1..=3 {
        all.push(of(SolverKind::UniPc, order));
        all.push(of(SolverKind::DpmPlusPlus, order));
    }
    all.push(SolverOptions { solver_type: SolverType::Heun, ..of(SolverKind::DpmPlusPlus, 2) });
    for options in all {
        let rate = (error_after(options, 24) / error_after(options, 48)).log2();
        let order = match (options.solver, options.order) {
            (SolverKind::UniPc, order) => order + 1, // what the corrector is for
            // The published third-order form has half of the D2 term that order 3 needs.
            (SolverKind::DpmPlusPlus, 3) => 2,
            (_, order) => order,
        };
        let order = f64::from(order);
        assert!((rate - order).abs() < 0.35, "{options:?}: order {rate}, not {order}");
    }
}

/// A multistep solver in its first step, and in its last, is the first-order one.
#[test]
fn orders_rise_from_one_and_fall_to_one() {
    let ops = VecOps::default();
    let step = |solver, order, steps: u32, inputs: &[(usize, f32)]| {
        let options = SolverOptions { solver, order, ..SolverOptions::default() };
        let table = options.table(steps, 3.0).unwrap();
        let mut solver = options.solver(&table);
        let mut end = 0.0;
        for (index, velocity) in inputs {
            let (x, v) = (ops.tensor(1, &[0.5]), ops.tensor(1, &[*velocity]));
            end = values(&solver.step(*index, &x, &v, &ops).unwrap())[0];
        }
        end
    };
    let whole: Vec<(usize, f32)> = (0..6).map(|i| (i, 1.0 - 0.3 * i as f32)).collect();
    for solver in [SolverKind::UniPc, SolverKind::DpmPlusPlus] {
        for order in [2, 3] {
            let (first, last) = (&whole[..1], &whole[5..]);
            assert_eq!(step(solver, order, 6, first), step(solver, 1, 6, first));
            // The last step ends at the prediction made there, whatever came before.
            assert_eq!(step(solver, order, 6, &whole), step(solver, 1, 6, last));
            // The second step has two predictions to work with; the third may have three.
            assert_eq!(step(solver, order, 6, &whole[..2]), step(solver, 2, 6, &whole[..2]));
            let third = [step(solver, order, 6, &whole[..3]), step(solver, 2, 6, &whole[..3])];
            assert_eq!(third[0] == third[1], order == 2);
        }
    }
}

fn request(prefix_frames: u32) -> SampleRequest {
    SampleRequest {
        frames: 3,
        window_frames: 3,
        prefix_frames,
        steps: 4,
        shift: 3.0,
        temporal_scale: 4,
    }
}

fn stand_alone<S: StandAlone>() {
    let options = SolverOptions::default();
    let error = Uniform::<S>::new(options, &request(1)).map(|_| ()).unwrap_err();
    assert_eq!(error.kind, ErrorKind::Invalid);
    assert!(error.message.contains("diffusion-forcing"), "{error}");

    let mut sampler = Uniform::<S>::new(options, &request(0)).unwrap();
    let schedule = sampler.schedule().unwrap();
    schedule.check(3, 0).unwrap();
    assert_eq!((schedule.rounds.len(), schedule.evaluations()), (4, 4));
    let ops = VecOps::default();
    let mut model = ModelFn::new(&ops, |x: &[f32], _: &_| x.iter().map(|x| 0.5 * x).collect());
    let mut sample = ops.tensor(3, &[1.0, -1.0, 0.5]);
    for (index, round) in schedule.rounds.iter().enumerate() {
        let left = 4 - index as u32;
        let step = Step { index, evaluation: index as u32, evaluations_left: left, round };
        sample = sampler.step(&sample, &step, &mut model, &ops).unwrap();
    }
    assert_eq!(model.evaluations, 4);
    let expected = (-0.5 * schedule.rounds[0].levels[0].sigma).exp();
    for (end, start) in values(&sample).iter().zip([1.0, -1.0, 0.5]) {
        assert!((f64::from(*end) - start * expected).abs() < 0.1, "{end}");
    }
}

#[test]
fn each_solver_is_a_sampler_that_refuses_a_prefix() {
    stand_alone::<Euler>();
    stand_alone::<UniPc>();
    stand_alone::<DpmMultistep>();
}
