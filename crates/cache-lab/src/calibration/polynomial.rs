//! A polynomial from the change of a time signal to the change of the residual.

use candle_core::{DType, Tensor};
use nalgebra::{DMatrix, DVector};
use wan_host::{Error, Result};

use super::{Fit, POLYNOMIAL_HELD_OUT_MAX, Polynomial, R_SQUARED_MIN};
use crate::recording::Recording;

/// Degree of the published ones.
const DEGREE: i32 = 4;

/// Coefficients.
const TERMS: usize = 5;

/// Parts that a single recording is held out in.
const FOLDS: usize = 5;

/// Most iterations of a fit; a few dozen do.
const ITERATIONS_MAX: usize = 10_000;

/// A pair of neighbouring evaluations.
#[derive(Clone, Copy)]
struct Point {
    signal: f64,
    residual: f64,
    /// Points of one fold are held out together.
    fold: usize,
}

pub(super) fn fit(recordings: &[Recording], signal: &str) -> Result<(Polynomial, Fit)> {
    let mut points = Vec::new();
    for (number, recording) in recordings.iter().enumerate() {
        let several = recordings.len() > 1;
        let fold = |i: usize| if several { number } else { i % FOLDS };
        points.extend(points_of(recording, signal, &fold)?);
    }
    let coefficients = solve(&points)?;
    let r_squared = r_squared(&points, &coefficients);
    let held_out = held_out(&points)?;
    let fit = Fit {
        what: format!("polynomial of {signal}"),
        points: points.len(),
        r_squared: Some(r_squared),
        held_out,
        recommended: r_squared >= R_SQUARED_MIN && held_out <= POLYNOMIAL_HELD_OUT_MAX,
    };
    Ok((Polynomial { coefficients }, fit))
}

fn points_of(
    recording: &Recording,
    signal: &str,
    fold: &dyn Fn(usize) -> usize,
) -> Result<Vec<Point>> {
    let mut points = Vec::new();
    for number in 1..recording.contents().evaluations.len() {
        let evaluation = &recording.contents().evaluations[number];
        let moving: Vec<usize> =
            (0..evaluation.levels.len()).filter(|f| evaluation.levels[*f].update).collect();
        let now = frame_rows(recording, number, signal)?;
        let before = frame_rows(recording, number - 1, signal)?;
        let (mut difference, mut size) = (0.0, 0.0);
        for frame in &moving {
            difference += sum_abs(&(&now[*frame] - &before[*frame])?)?;
            size += sum_abs(&before[*frame])?;
        }
        for change in &evaluation.branches {
            let changes = moving.iter().filter_map(|f| change.residual_change.get(*f));
            let mean = changes.sum::<f64>() / moving.len() as f64;
            let point = Point { signal: difference / size, residual: mean, fold: fold(number) };
            // Of such numbers no fit comes to an end.
            if !point.signal.is_finite() || !point.residual.is_finite() {
                return Err(Error::invalid(format!(
                    "{}: evaluation {number}: the change of {signal} or of the residual is no \
                     finite number; record it again",
                    recording.path().display()
                )));
            }
            points.push(point);
        }
    }
    Ok(points)
}

/// The signal's row of each frame.
fn frame_rows(recording: &Recording, number: usize, signal: &str) -> Result<Vec<Tensor>> {
    let rows = recording.tensor(number, signal)?;
    let index = &recording.contents().evaluations[number].rows;
    Ok(index.iter().map(|row| rows.get(*row as usize)).collect::<candle_core::Result<_>>()?)
}

fn sum_abs(tensor: &Tensor) -> Result<f64> {
    Ok(tensor.to_dtype(DType::F64)?.abs()?.sum_all()?.to_scalar::<f64>()?)
}

/// Least squares, highest power first.
fn solve(points: &[Point]) -> Result<Vec<f64>> {
    if points.len() < 2 * TERMS {
        return Err(Error::invalid(format!(
            "{} pairs of evaluations are too few for a polynomial of degree {DEGREE}; record more \
             steps or prompts",
            points.len()
        )));
    }
    // Powers of numbers near 1 are told apart; powers of 0.03 are not.
    let scale = points.iter().map(|p| p.signal).fold(f64::MIN_POSITIVE, f64::max);
    let exponents: Vec<i32> = (0..=DEGREE).rev().collect();
    let powers = DMatrix::from_fn(points.len(), TERMS, |row, column| {
        (points[row].signal / scale).powi(exponents[column])
    });
    let values = DVector::from_iterator(points.len(), points.iter().map(|p| p.residual));
    let decomposed = powers.try_svd(true, true, 5.0 * f64::EPSILON, ITERATIONS_MAX);
    let solved = decomposed.ok_or("no fit is found").and_then(|svd| svd.solve(&values, 1e-12));
    let solved = solved.map_err(|why| Error::invalid(format!("polynomial: {why}")))?;
    Ok(solved.iter().zip(&exponents).map(|(c, exponent)| c / scale.powi(*exponent)).collect())
}

fn value(coefficients: &[f64], x: f64) -> f64 {
    coefficients.iter().fold(0.0, |sum, c| sum * x + c)
}

fn r_squared(points: &[Point], coefficients: &[f64]) -> f64 {
    let mean = points.iter().map(|p| p.residual).sum::<f64>() / points.len() as f64;
    let missed: f64 =
        points.iter().map(|p| (p.residual - value(coefficients, p.signal)).powi(2)).sum();
    let spread: f64 = points.iter().map(|p| (p.residual - mean).powi(2)).sum();
    if spread > 0.0 { 1.0 - missed / spread } else { 0.0 }
}

/// Root mean square error over the mean, each fold predicted from the others.
fn held_out(points: &[Point]) -> Result<f64> {
    let folds = points.iter().map(|p| p.fold).max().unwrap_or(0) + 1;
    let mut squares = 0.0;
    for fold in 0..folds {
        let (out, rest): (Vec<Point>, Vec<Point>) = points.iter().partition(|p| p.fold == fold);
        let coefficients = solve(&rest)?;
        squares +=
            out.iter().map(|p| (p.residual - value(&coefficients, p.signal)).powi(2)).sum::<f64>();
    }
    let mean = points.iter().map(|p| p.residual).sum::<f64>() / points.len() as f64;
    Ok((squares / points.len() as f64).sqrt() / mean)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn points(residual: impl Fn(f64) -> f64) -> Vec<Point> {
        let signal = |i: usize| 0.01 + 0.002 * i as f64;
        let point = |i| Point { signal: signal(i), residual: residual(signal(i)), fold: i % FOLDS };
        (0..30).map(point).collect()
    }

    #[test]
    fn a_polynomial_is_found_again() {
        let truth = [2e4, -3e3, 150.0, -1.0, 0.02];
        let points = points(|x| value(&truth, x));
        let found = solve(&points).unwrap();
        for x in [0.012, 0.03, 0.06] {
            assert!((value(&found, x) - value(&truth, x)).abs() < 1e-9);
        }
        assert!(r_squared(&points, &found) > 1.0 - 1e-9);
        assert!(held_out(&points).unwrap() < 1e-6);
    }

    #[test]
    fn what_does_not_depend_on_the_signal_is_not_explained() {
        let points = points(|x| 0.1 + 0.05 * (x * 1e5).sin());
        let found = solve(&points).unwrap();
        assert!(r_squared(&points, &found) < 0.5);
        assert!(held_out(&points).unwrap() > 0.3);
        assert!(solve(&points[..9]).is_err());
        // It ends.
        let nothing = Point { signal: f64::NAN, residual: f64::NAN, fold: 0 };
        let _ = solve(&[&points[..], &[nothing]].concat());
    }
}
