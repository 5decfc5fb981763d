//! Bytes that a cache holds, and their place.

use wan_plugin_api::DType;

use crate::case::{Case, Checked, Verdict, ensure, failed, reuses};
use crate::drive::drive;
use crate::levels::side_by_side;
use crate::vec_ops::VecOps;

pub(crate) fn declared(case: &Case<'_>) -> Checked {
    let script = case.script();
    let declared = case.plan(&script)?.bytes_max;
    let cache = case.create(&script)?;
    let (log, left) = drive(cache, VecOps::default(), &script).map_err(failed)?;
    for (index, entry) in log.iter().enumerate() {
        ensure!(
            entry.held <= declared,
            "{} bytes held after evaluation {index}, declared are {declared}",
            entry.held
        );
    }
    ensure!(left == 0, "{left} bytes held after the end");
    Ok(Verdict::Held)
}

/// Kept evaluations after which a cache is at its fullest.
const KEPT: usize = 4;

pub(crate) fn exact(case: &Case<'_>) -> Checked {
    let mut script = case.script();
    let frames = case.input.frames.len() as u32;
    script.levels = side_by_side(frames, 20, case.input.one_of(&[0.0, 10.0]));
    let declared = case.plan(&script)?.bytes_max;
    let log = case.run(&script)?;
    let kept = log.iter().filter(|e| e.kept).count();
    if kept < KEPT || reuses(&log).next().is_none() {
        return Ok(Verdict::Unmet);
    }
    let most = log.iter().map(|e| e.held).max().unwrap_or(0);
    ensure!(most == declared, "{most} bytes held at most, declared are {declared}");
    Ok(Verdict::Held)
}

pub(crate) fn place(case: &Case<'_>) -> Checked {
    let script = case.script();
    for (index, entry) in case.run(&script)?.iter().enumerate() {
        ensure!(
            entry.misplaced == 0,
            "{} bytes not in {:?} after evaluation {index}",
            entry.misplaced,
            script.model.keep
        );
    }
    Ok(Verdict::Held)
}

pub(crate) fn half_width(case: &Case<'_>) -> Checked {
    let script = case.script();
    let plan = case.plan(&script)?;
    let Some(half_of) = &plan.rule.half_of else { return Ok(Verdict::Unmet) };
    let Some(full_width) = case.cache.full_width() else { return Ok(Verdict::Unmet) };
    if !half_of.computed || !(half_of.signals || plan.reads.is_empty()) {
        return Ok(Verdict::Unmet);
    }
    let context = script.context();
    let full = match full_width.create(&case.input.options, &context) {
        Ok(cache) => cache.plan().bytes_max,
        Err(_) => return Ok(Verdict::Unmet),
    };
    // f8 has an f32 scale per frame and tensor; no cache keeps more than four tensors.
    let scales = if script.model.dtype == DType::F32 { 0 } else { 4 * 4 * context.frames };
    let allowed = full / 2 + u64::from(scales);
    ensure!(plan.bytes_max <= allowed, "{} bytes declared, {full} at full width", plan.bytes_max);
    declared(case)
}
