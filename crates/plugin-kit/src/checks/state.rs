//! A state is saved, loaded into a fresh object, and the stream goes on.

use wan_plugin_api::extensions::STATE;
use wan_plugin_api::{TensorForm, state};

use crate::case::{Case, Checked, Stop, Verdict, ensure, failed};
use crate::drive::{Driver, Entry, Reused, decisions};
use crate::saved::SavedBytes;
use crate::script::Script;
use crate::vec_ops::VecOps;

/// Saves both branches before it loads either, to catch state that two objects share.
pub(crate) fn saved_and_loaded(case: &Case<'_>) -> Checked {
    if !case.cache.extensions().iter().any(|id| id == STATE) {
        return Ok(Verdict::Unmet);
    }
    let first = case.script();
    let first_alone = case.run(&first)?;
    let second = case.other_branch(&first, &first_alone)?;
    let second_alone = case.run(&second)?;
    let first_saved = saved(case, &first)?;
    let second_saved = saved(case, &second)?;
    for (script, alone, saved) in
        [(&first, first_alone, first_saved), (&second, second_alone, second_saved)]
    {
        goes_on(case, script, &alone, saved)?;
    }
    Ok(Verdict::Held)
}

/// Drives part of a script. Returns the log and the saved state; the cache and its tensors are
/// dropped.
fn saved(case: &Case<'_>, script: &Script) -> Result<(Vec<Entry>, SavedBytes), Stop> {
    let mut driver = case.driver(script)?;
    for _ in 0..case.input.index_in(script.levels.len()) {
        driver.evaluate().map_err(failed)?;
    }
    let bytes = SavedBytes::save(|id, message| driver.extension(id, message));
    Ok((driver.end().0, bytes.map_err(failed)?))
}

/// `Stop::Broken` unless a fresh cache, loaded with the state, goes on exactly as `alone` did.
fn goes_on(
    case: &Case<'_>,
    script: &Script,
    alone: &[Entry],
    (before, bytes): (Vec<Entry>, SavedBytes),
) -> Result<(), Stop> {
    let at = before.len();
    let mut driver = Driver::after(before, case.create(script)?, VecOps::default(), script);
    let message = bytes.message(driver.backend()).map_err(failed)?;
    state::load(message, |id, message| driver.extension(id, message)).map_err(failed)?;
    driver.run().map_err(failed)?;
    let (log, _) = driver.end();
    for (index, (entry, expected)) in log.iter().zip(alone).enumerate().skip(at) {
        let place = || format!("evaluation {index} of {}, saved before {at}", decisions(alone));
        ensure!(entry.choice == expected.choice, "{}: {:?}", place(), entry.choice);
        ensure!(
            bits(entry) == bits(expected),
            "{}: measured {:?} and reused {:?}, uninterrupted {:?} and {:?}",
            place(),
            entry.measured,
            entry.reused,
            expected.measured,
            expected.reused
        );
        let held = [entry, expected].map(|e| (e.kept, e.held, e.misplaced));
        ensure!(
            held[0] == held[1],
            "{}: (kept, held, misplaced) {:?}, uninterrupted {:?}",
            place(),
            held[0],
            held[1]
        );
    }
    Ok(())
}

/// Bits of the measured numbers, and bits and form of the reused tensor.
fn bits(entry: &Entry) -> (Vec<u64>, Option<(Vec<u32>, TensorForm)>) {
    let of = |reused: &Reused| (reused.elements.iter().map(|e| e.to_bits()).collect(), reused.form);
    (entry.measured.iter().map(|m| m.to_bits()).collect(), entry.reused.as_ref().map(of))
}
