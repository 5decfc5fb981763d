//! A state that is saved and goes on in a fresh object.

use wan_plugin_api::extensions::STATE;
use wan_plugin_api::{TensorForm, state};

use crate::drive::{Entry, Reused, Script, decisions};
use crate::levels::falling;
use crate::saved::SavedBytes;
use crate::trial::{Checked, Stop, Trial, Verdict, ensure, failed};

/// Both branches are saved before either is loaded, so that a state is known to be its own.
pub(crate) fn saved_and_loaded(trial: &Trial<'_>) -> Checked {
    if !trial.subject.extensions().iter().any(|id| id == STATE) {
        return Ok(Verdict::Unmet);
    }
    let first = trial.script();
    let first_alone = trial.run(&first)?;
    let mut second = Script { branch: "uncond", ..first.clone() };
    second.world.seed = !first.world.seed;
    match trial.plan(&first)?.shared_decision {
        true => second.leaders = first_alone.iter().map(|e| e.choice).collect(),
        false => second.levels = falling(&trial.input.other),
    }
    let second_alone = trial.run(&second)?;
    let first_saved = saved(trial, &first)?;
    let second_saved = saved(trial, &second)?;
    for (script, alone, saved) in
        [(&first, first_alone, first_saved), (&second, second_alone, second_saved)]
    {
        goes_on(trial, script, &alone, saved)?;
    }
    Ok(Verdict::Held)
}

/// What came of a stream up to somewhere, and what its cache saved there; all else is gone.
fn saved(trial: &Trial<'_>, script: &Script) -> Result<(Vec<Entry>, SavedBytes), Stop> {
    let mut stream = trial.stream(script)?;
    for _ in 0..trial.input.index_in(script.levels.len()) {
        stream.evaluate().map_err(failed)?;
    }
    let bytes = SavedBytes::save(|id, message| stream.extension(id, message));
    Ok((stream.end().0, bytes.map_err(failed)?))
}

/// Breaks unless a fresh cache goes on from there as the stream did `alone`.
fn goes_on(
    trial: &Trial<'_>,
    script: &Script,
    alone: &[Entry],
    (before, bytes): (Vec<Entry>, SavedBytes),
) -> Result<(), Stop> {
    let at = before.len();
    let mut stream = trial.stream(script)?;
    let message = bytes.message(stream.ground()).map_err(failed)?;
    state::load(message, |id, message| stream.extension(id, message)).map_err(failed)?;
    stream.log = before;
    let log = stream.run().map_err(failed)?.end().0;
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

/// What is measured and what stands in, to the bit.
fn bits(entry: &Entry) -> (Vec<u64>, Option<(Vec<u32>, TensorForm)>) {
    let of = |reused: &Reused| (reused.elements.iter().map(|e| e.to_bits()).collect(), reused.form);
    (entry.measured.iter().map(|m| m.to_bits()).collect(), entry.reused.as_ref().map(of))
}
