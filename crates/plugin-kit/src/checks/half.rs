//! The decisions of a half-width cache, against the full-width one.

use crate::case::{Case, Checked, Verdict, ensure, run_of};
use crate::drive::{self, Entry};

pub(crate) fn decisions(case: &Case<'_>) -> Checked {
    let script = case.script();
    let Some(half_of) = case.plan(&script)?.rule.half_of else { return Ok(Verdict::Unmet) };
    let Some(full_width) = case.cache.full_width() else { return Ok(Verdict::Unmet) };
    if half_of.signals {
        return Ok(Verdict::Unmet);
    }
    let full = run_of(full_width, &case.input.options, &script)?;
    let half = case.run(&script)?;
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
