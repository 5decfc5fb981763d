//! How the residual's size changes from step to step.

use candle_core::{D, DType, Tensor};
use wan_host::Result;

use super::{Fit, RATIO_HELD_OUT_MAX};
use crate::recording::Recording;

/// Ratios of a branch, one a step, the first being 1.
pub(super) fn table(recordings: &[Recording], branch: &str) -> Result<(Vec<f64>, Fit)> {
    let measured = recordings.iter().map(|r| ratios(r, branch)).collect::<Result<Vec<_>>>()?;
    let steps = measured[0].len();
    let mean = |of: &[&Vec<Ratio>], step: usize| {
        of.iter().map(|ratios| ratios[step].mean).sum::<f64>() / of.len() as f64
    };
    let all: Vec<&Vec<Ratio>> = measured.iter().collect();
    let table: Vec<f64> = (0..steps).map(|step| mean(&all, step)).collect();
    let mut misses = Vec::new();
    for (number, own) in measured.iter().enumerate() {
        let others: Vec<&Vec<Ratio>> =
            measured.iter().enumerate().filter(|(i, _)| *i != number).map(|(_, r)| r).collect();
        // Alone, a recording is held against the spread of its own tokens.
        misses.extend((1..steps).map(|step| match others.is_empty() {
            true => own[step].spread,
            false => (own[step].mean - mean(&others, step)).abs(),
        }));
    }
    let held_out = misses.iter().sum::<f64>() / misses.len().max(1) as f64;
    let fit = Fit {
        what: format!("ratios of {branch}"),
        points: misses.len(),
        r_squared: None,
        held_out,
        recommended: held_out <= RATIO_HELD_OUT_MAX,
    };
    Ok((table, fit))
}

/// `|r| / |r before|` over the tokens of the updated frames.
struct Ratio {
    mean: f64,
    spread: f64,
}

fn ratios(recording: &Recording, branch: &str) -> Result<Vec<Ratio>> {
    let evaluations = &recording.contents().evaluations;
    let mut before: Option<Tensor> = None;
    let mut ratios = Vec::with_capacity(evaluations.len());
    for (number, evaluation) in evaluations.iter().enumerate() {
        let residual = recording.tensor(number, &format!("{branch}.residual"))?;
        let squares = residual.to_dtype(DType::F64)?.sqr()?;
        let norms = squares.sum(D::Minus1)?.sqrt()?.squeeze(0)?; // [L]
        let frame_tokens = norms.dims()[0] / evaluation.levels.len();
        let ratio = match &before {
            None => Ratio { mean: 1.0, spread: 0.0 },
            Some(before) => {
                let all = norms.div(before)?.to_vec1::<f64>()?;
                let moving = all.chunks(frame_tokens).zip(&evaluation.levels);
                let moving = moving.filter(|(_, level)| level.update).flat_map(|(t, _)| t);
                spread(&moving.copied().collect::<Vec<f64>>())
            }
        };
        ratios.push(ratio);
        before = Some(norms);
    }
    Ok(ratios)
}

fn spread(ratios: &[f64]) -> Ratio {
    let count = ratios.len().max(1) as f64;
    let mean = ratios.iter().sum::<f64>() / count;
    let squares = ratios.iter().map(|r| (r - mean).powi(2)).sum::<f64>();
    Ratio { mean, spread: (squares / count).sqrt() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mean_and_spread() {
        let ratio = spread(&[0.9, 1.1]);
        assert!((ratio.mean - 1.0).abs() < 1e-12 && (ratio.spread - 0.1).abs() < 1e-12);
    }
}
