//! A run that goes on in a fresh object after every round.

use wan_plugin_api::extensions::STATE;

use super::run::{FRAME_ELEMENTS, bits, smooth};
use super::scene::{Scene, scenes};
use crate::outcome::{Checked, Failed, Outcome, ensure};
use crate::subject::Subject;

pub(super) fn state(subject: &Subject) -> Checked {
    if !subject.strategy.extensions.iter().any(|id| id == STATE) {
        return Ok(Outcome::skipped(format!("it does not list {STATE}")));
    }
    let mut saves = 0;
    for scene in scenes(subject)? {
        saves += in_pieces(subject, &scene)?;
    }
    Ok(Outcome::pass(format!("goes on from {saves} states")))
}

/// Runs a scene as a whole and, beside it, with a fresh object for every round; how many states
/// were handed on.
fn in_pieces(subject: &Subject, scene: &Scene) -> Checked<usize> {
    let Some(mut whole) = scene.start(subject, FRAME_ELEMENTS)? else { return Ok(0) };
    let Some(mut pieces) = scene.start(subject, FRAME_ELEMENTS)? else { return Ok(0) };
    let mut saves = 0;
    while !whole.is_over() {
        let index = whole.rounds_done();
        let expected = scene.round(&mut whole, &mut smooth)?;
        let moved = scene.round(&mut pieces, &mut smooth)?;
        ensure!(
            bits(&moved.after) == bits(&expected.after),
            "saved after round {}, round {index} of a fresh object has other bits than without; \
             {scene}",
            index.saturating_sub(1)
        );
        if !whole.is_over() {
            let fresh = subject.sampler_with(&scene.options, &scene.request)?;
            pieces = pieces
                .resumed(fresh)
                .map_err(|error| Failed(format!("saved after round {index}: {error}; {scene}")))?;
            saves += 1;
        }
    }
    Ok(saves)
}
