//! A cache at half width, beside the one at full width.

use wan_plugin_api::DType;

use super::memory;
use crate::drive::{self, Entry};
use crate::trial::{Checked, Trial, Verdict, ensure, run_of};

pub(crate) fn decisions(trial: &Trial<'_>) -> Checked {
    let script = trial.script();
    let Some(half_of) = trial.plan(&script)?.rule.half_of else { return Ok(Verdict::Unmet) };
    let Some(original) = trial.subject.original() else { return Ok(Verdict::Unmet) };
    if half_of.signals {
        return Ok(Verdict::Unmet);
    }
    let full = run_of(original, &trial.input.options, &script)?;
    let half = trial.run(&script)?;
    let decided =
        |log: &[Entry]| -> Vec<_> { log.iter().map(|e| (e.choice, e.measured.clone())).collect() };
    ensure!(
        decided(&full) == decided(&half),
        "{} at full width, {} at half",
        drive::decisions(&full),
        drive::decisions(&half)
    );
    Ok(Verdict::Held)
}

pub(crate) fn bytes(trial: &Trial<'_>) -> Checked {
    let script = trial.script();
    let plan = trial.plan(&script)?;
    let Some(half_of) = &plan.rule.half_of else { return Ok(Verdict::Unmet) };
    let Some(original) = trial.subject.original() else { return Ok(Verdict::Unmet) };
    if !half_of.computed || !(half_of.signals || plan.reads.is_empty()) {
        return Ok(Verdict::Unmet);
    }
    let context = script.context();
    let full = match original.create(&trial.input.options, &context) {
        Ok(cache) => cache.plan().bytes_max,
        Err(_) => return Ok(Verdict::Unmet),
    };
    // A scale per frame and tensor; no cache keeps more than four.
    let scales = if script.world.dtype == DType::F32 { 0 } else { 4 * 4 * context.frames };
    let allowed = full / 2 + u64::from(scales);
    ensure!(plan.bytes_max <= allowed, "{} bytes declared, {full} at full width", plan.bytes_max);
    memory::declared(trial)
}
