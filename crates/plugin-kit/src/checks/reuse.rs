//! What an answer looks like, and what a reuse is.

use wan_plugin_api::{DType, TensorForm};

use crate::drive::{Entry, Reused, decisions};
use crate::trial::{Checked, Trial, Verdict, ensure, held_if, last_computed, reuses};

pub(crate) fn answers(trial: &Trial<'_>) -> Checked {
    let script = trial.script();
    let measures = trial.plan(&script)?.measures;
    let log = trial.run(&script)?;
    ensure!(log.len() == script.levels.len(), "{} decisions", log.len());
    for (index, Entry { measured, .. }) in log.iter().enumerate() {
        let counts = measured.is_empty() || measured.len() == measures.len();
        ensure!(counts, "evaluation {index} measured {measured:?}, declared are {measures:?}");
        let finite = measured.iter().all(|m| m.is_finite());
        ensure!(finite, "evaluation {index} measured {measured:?}");
    }
    Ok(Verdict::Held)
}

pub(crate) fn form(trial: &Trial<'_>) -> Checked {
    let mut script = trial.script();
    let at = trial.input.index_in(script.levels.len());
    script.world.grown = at..at + usize::from(trial.input.variant % 3);
    let log = trial.run(&script)?;
    let shape = |form: &TensorForm| (form.frames, form.frame_elements);
    for (index, Entry { reused, computes, .. }) in log.iter().enumerate() {
        let Some(Reused { form, .. }) = reused else { continue };
        ensure!(shape(form) == shape(computes), "evaluation {index}: {form:?} for {computes:?}");
    }
    Ok(held_if(reuses(&log).next().is_some()))
}

pub(crate) fn stored(trial: &Trial<'_>) -> Checked {
    let log = trial.run(&trial.script())?;
    for (index, _) in reuses(&log) {
        let kept = last_computed(&log, index).is_some_and(|entry| entry.kept);
        ensure!(kept, "evaluation {index} of {}: nothing was kept before", decisions(&log));
    }
    Ok(held_if(reuses(&log).next().is_some()))
}

pub(crate) fn newest(trial: &Trial<'_>) -> Checked {
    let log = trial.run(&trial.script())?;
    let mut seen = false;
    for (index, entry) in reuses(&log) {
        let (Some(reused), Some(source)) = (&entry.reused, last_computed(&log, index)) else {
            continue;
        };
        ensure!(
            is_rounding(reused, source),
            "evaluation {index} of {}: {:?} stood in, {:?} was computed last",
            decisions(&log),
            reused.elements,
            source.computed
        );
        seen = true;
    }
    Ok(held_if(seen))
}

/// Whether `reused` is what `source` computed, in its own format.
fn is_rounding(reused: &Reused, source: &Entry) -> bool {
    let narrow = reused.form.dtype().unwrap_or(DType::F32);
    let is_same = source.computes.dtype() == Some(narrow);
    let frame_elements = source.computes.frame_elements as usize;
    reused.elements.len() == source.computed.len()
        && reused.elements.chunks(frame_elements).zip(source.computed.chunks(frame_elements)).all(
            |(reused, computed)| {
                let largest = computed.iter().fold(0f32, |largest, v| largest.max(v.abs()));
                reused.iter().zip(computed).all(|(a, b)| match is_same {
                    true => a == b,
                    false => (a - b).abs() <= half_unit(narrow, *b, largest),
                })
            },
        )
}

/// Most that rounding a value changes it; f8 is scaled by the largest of its frame.
fn half_unit(dtype: DType, value: f32, largest: f32) -> f32 {
    let relative = match dtype {
        DType::F32 => 0.0,
        DType::F16 => (-11f32).exp2(),
        DType::BF16 => (-8f32).exp2(),
        DType::F8E4M3 => return (value.abs() / 16.0).max(largest / 448.0 / 1024.0) * 1.0001,
    };
    relative * value.abs()
}
