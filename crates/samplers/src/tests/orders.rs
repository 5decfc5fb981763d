//! Orders of convergence, and what stochastic steps converge to.

use std::sync::Arc;

use serde_json::json;
use wan_plugin_kit::{VecOps, values};

use super::{is_stochastic, of, order, seeded, walk, without_noise};
use crate::{Entry, SOLVERS, SigmaTable, SolverOptions};

/// A linear flow, `dx/dsigma = 6 * x - 0.4`, whose solution is known.
fn exact(sigma: f64) -> f64 {
    0.7 * (6.0 * sigma).exp() + 0.4 / 6.0
}

/// Error after `steps` equal steps in lambda from -1.5 to 1.5.
///
/// The first steps are given exact samples, so that the low orders at the start do not show; 15
/// steps more would follow, so that those at the end do not either.
fn error_after(options: &SolverOptions, steps: usize) -> f64 {
    let sigma = |i| 1.0 / (1.0 + (3.0 * i as f64 / steps as f64 - 1.5).exp());
    let sigmas: Vec<f64> = (0..=steps + 15).map(sigma).collect();
    let table = Arc::new(SigmaTable { timesteps: vec![0.0; steps + 15], sigmas });
    let (ops, mut solver) = (VecOps::default(), options.solver(&table, 0).unwrap());
    let mut sample = ops.tensor(1, &[0.0]);
    for index in 0..steps {
        if index < order(options).max(3) as usize {
            sample = ops.tensor(1, &[exact(table.sigmas[index]) as f32]);
        }
        let velocity = ops.tensor(1, &[6.0 * values(&sample)[0] - 0.4]);
        sample = solver.step(index, &sample, &velocity, &ops).unwrap();
        for evaluation in 1..solver.evaluations(index) {
            let velocity = ops.tensor(1, &[6.0 * values(&sample)[0] - 0.4]);
            sample = solver.correct((index, evaluation), &sample, &velocity, &ops).unwrap();
        }
    }
    (f64::from(values(&sample)[0]) - exact(table.sigmas[steps])).abs()
}

/// A solver of this order, without noise.
fn of_order(solver: &str, order: u64) -> SolverOptions {
    let mut options = without_noise(of(solver));
    options.own.insert("order".into(), json!(order));
    options
}

/// The same in another form of the second-order update.
fn heun(mut options: SolverOptions) -> SolverOptions {
    options.own.insert("solver_type".into(), json!("heun"));
    options
}

#[test]
fn every_solver_has_the_order_it_claims() {
    let mut all = vec![];
    all.extend(["euler", "euler-ancestral"].map(|solver| (without_noise(of(solver)), 1)));
    all.extend(["heun", "res-multistep"].map(|solver| (of(solver), 2)));
    for order in 1..=3 {
        all.extend(["deis", "sa-ode"].map(|solver| (of_order(solver, order), order)));
        all.push((of_order("unipc", order), order + 1)); // what the corrector is for
        // The published third-order form has half of the D2 term that order 3 needs.
        all.push((of_order("dpm++", order), order.min(2)));
    }
    all.extend([1, 2].map(|order| (of_order("dpm++-sde", order), order)));
    all.push((without_noise(of("dpm++-3m-sde")), 2)); // the same form
    all.extend(["dpm++", "dpm++-sde"].map(|solver| (heun(of_order(solver, 2)), 2)));
    for entry in SOLVERS.iter().filter(|entry| entry.id() != "lcm") {
        assert!(all.iter().any(|(options, _)| options.solver == *entry), "{entry:?}");
    }
    for (options, expected) in all {
        // High orders are lost in f32 where steps are small, low ones show where they are.
        let (few, many) = if expected > 2 { (12, 48) } else { (128, 256) };
        let ratio = error_after(&options, few) / error_after(&options, many);
        let rate = ratio.log2() / f64::from(many as u32 / few as u32).log2();
        println!("{:?} {:?}: {rate:.2}", options.solver, options.own);
        let away = (rate - expected as f64).abs();
        assert!(away < 0.2, "{options:?}: order {rate}, not {expected}");
    }
}

/// The whole way, in runs that are not short.
#[test]
fn the_solver_of_three_predictions_is_the_third_order_form_where_no_noise_is_renewed() {
    let ops = VecOps::default();
    for (steps, shift) in [(16, 3.0), (40, 8.0)] {
        let end = |options: &SolverOptions| {
            let table = options.table(steps, shift).unwrap();
            values(&walk(options, (&table, 0), ops.tensor(1, &[0.3, -1.2]), &ops, super::own))
        };
        let [ours, other] =
            [without_noise(of("dpm++-3m-sde")), heun(of_order("dpm++", 3))].map(|o| end(&o));
        for (ours, other) in ours.iter().zip(other) {
            assert!((ours - other).abs() < 1e-5, "{ours}, {other}");
        }
        assert_ne!(end(&of("dpm++-3m-sde")), ours);
    }
}

/// A multistep solver in its first step, and in its last, is the first-order one.
#[test]
fn orders_rise_from_one_and_fall_to_one() {
    let ops = VecOps::default();
    let step = |solver: &str, order, steps: u32, inputs: &[(usize, f32)]| {
        let options = of_order(solver, order);
        let table = options.table(steps, 3.0).unwrap();
        let mut solver = options.solver(&table, 0).unwrap();
        let mut end = 0.0;
        for (index, velocity) in inputs {
            let (x, v) = (ops.tensor(1, &[0.5]), ops.tensor(1, &[*velocity]));
            end = values(&solver.step(*index, &x, &v, &ops).unwrap())[0];
        }
        end
    };
    let whole: Vec<(usize, f32)> = (0..6).map(|i| (i, 1.0 - 0.3 * i as f32)).collect();
    for solver in ["unipc", "dpm++", "deis", "sa-ode"] {
        for order in [2, 3] {
            let (first, last) = (&whole[..1], &whole[5..]);
            assert_eq!(step(solver, order, 6, first), step(solver, 1, 6, first));
            // The last step ends at the prediction made there, whatever came before.
            assert_eq!(step(solver, order, 6, &whole), step(solver, 1, 6, last));
            if solver != "sa-ode" {
                // The second step has two predictions to work with; the third may have three.
                assert_eq!(step(solver, order, 6, &whole[..2]), step(solver, 2, 6, &whole[..2]));
            }
            let third = [step(solver, order, 6, &whole[..3]), step(solver, 2, 6, &whole[..3])];
            assert_eq!(third[0] == third[1], order == 2);
        }
    }
}

/// Mean and deviation of the clean samples that the Gaussian model below was made for.
const CLEAN: (f64, f64) = (0.6, 0.5);

/// The velocity that a perfect model of normally distributed clean samples has: with
/// `var = alpha^2 d^2 + sigma^2`, both predictions are linear in the sample.
fn gaussian(sample: &[f32], sigma: f64, _: usize) -> Vec<f32> {
    let ((mean, deviation), alpha) = (CLEAN, 1.0 - sigma);
    let variance = (alpha * deviation).powi(2) + sigma * sigma;
    let velocity = |x: &f32| {
        let away = (f64::from(*x) - alpha * mean) / variance;
        (sigma * away - (mean + alpha * deviation * deviation * away)) as f32
    };
    sample.iter().map(velocity).collect()
}

/// Every solver carries noise to clean samples of the right distribution; the noise that a
/// stochastic one takes out and puts in keeps it. (LCM's steps ask for a distilled model.)
#[test]
fn noise_becomes_the_distribution_that_the_model_knows() {
    for solver in SOLVERS.iter().map(Entry::id).filter(|solver| *solver != "lcm") {
        let options = of(solver);
        let (ops, table) = (seeded(11), options.table(240, 3.0).unwrap());
        let elements = 20_000;
        let like = ops.tensor(1, &vec![0.0; elements]);
        let noise = wan_plugin_api::TensorOps::noise_like(&ops, &like, 0, 0).unwrap();
        let end = values(&walk(&options, (&table, 0), noise, &ops, gaussian));
        let mean = end.iter().map(|x| f64::from(*x)).sum::<f64>() / elements as f64;
        let square = |x: &f32| (f64::from(*x) - mean).powi(2);
        let deviation = (end.iter().map(square).sum::<f64>() / elements as f64).sqrt();
        println!("{solver} {}: {mean:.4} {deviation:.4}", is_stochastic(&options));
        assert!((mean - CLEAN.0).abs() < 0.02, "{solver}: mean {mean}");
        assert!((deviation - CLEAN.1).abs() < 0.03, "{solver}: deviation {deviation}");
    }
}
