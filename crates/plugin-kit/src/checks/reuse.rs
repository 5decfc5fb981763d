//! The form of a decision, and what a reused tensor is.

use wan_plugin_api::{DType, TensorForm};

use crate::case::{Case, Checked, Verdict, ensure, held_if, last_computed, reuses};
use crate::drive::{Entry, Reused, decisions};

pub(crate) fn answers(case: &Case<'_>) -> Checked {
    let script = case.script();
    let measures = case.plan(&script)?.measures;
    let log = case.run(&script)?;
    ensure!(log.len() == script.levels.len(), "{} decisions", log.len());
    for (index, Entry { measured, .. }) in log.iter().enumerate() {
        let counts = measured.is_empty() || measured.len() == measures.len();
        ensure!(counts, "evaluation {index} measured {measured:?}, declared are {measures:?}");
        let finite = measured.iter().all(|m| m.is_finite());
        ensure!(finite, "evaluation {index} measured {measured:?}");
    }
    Ok(Verdict::Held)
}

pub(crate) fn form(case: &Case<'_>) -> Checked {
    let mut script = case.script();
    let at = case.input.index_in(script.levels.len());
    script.model.grown = at..at + usize::from(case.input.variant % 3);
    let log = case.run(&script)?;
    let shape = |form: &TensorForm| (form.frames, form.frame_elements);
    for (index, Entry { reused, computes, .. }) in log.iter().enumerate() {
        let Some(Reused { form, .. }) = reused else { continue };
        ensure!(shape(form) == shape(computes), "evaluation {index}: {form:?} for {computes:?}");
    }
    Ok(held_if(reuses(&log).next().is_some()))
}

pub(crate) fn stored(case: &Case<'_>) -> Checked {
    let log = case.run(&case.script())?;
    for (index, _) in reuses(&log) {
        let kept = last_computed(&log, index).is_some_and(|entry| entry.kept);
        ensure!(kept, "evaluation {index} of {}: nothing was kept before", decisions(&log));
    }
    Ok(held_if(reuses(&log).next().is_some()))
}

pub(crate) fn newest(case: &Case<'_>) -> Checked {
    let log = case.run(&case.script())?;
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

/// Whether `reused` is what `source` computed, rounded to the format of `reused`.
fn is_rounding(reused: &Reused, source: &Entry) -> bool {
    let narrow = reused.form.dtype().unwrap_or(DType::F32);
    let is_same = source.computes.dtype() == Some(narrow);
    let frame_elements = source.computes.frame_elements as usize;
    reused.elements.len() == source.computed.len()
        && reused.elements.chunks(frame_elements).zip(source.computed.chunks(frame_elements)).all(
            |(reused, computed)| {
                let largest = computed.iter().fold(0f32, |largest, v| largest.max(v.abs()));
                reused.iter().zip(computed).all(|(a, b)| {
                    if is_same { a == b } else { (a - b).abs() <= half_unit(narrow, *b, largest) }
                })
            },
        )
}

/// Largest change that rounding makes to `value`. In f8 the scale is `largest / 448`, where
/// `largest` is the largest magnitude of the frame.
fn half_unit(dtype: DType, value: f32, largest: f32) -> f32 {
    let relative = match dtype {
        DType::F32 => 0.0,
        DType::F16 => (-11f32).exp2(),
        DType::BF16 => (-8f32).exp2(),
        DType::F8E4M3 => return (value.abs() / 16.0).max(largest / 448.0 / 1024.0) * 1.0001,
    };
    relative * value.abs()
}
