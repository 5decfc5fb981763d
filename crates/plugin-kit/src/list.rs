//! The list of properties.

use crate::capability::Capability::*;
use crate::checks::{bounds, frames, half, independence, memory, reuse, state, trouble};
use crate::property::Property;

macro_rules! properties {
    ($(
        $name:literal, $check:path,
        $statement:literal,
        $premise:literal, [$($exempt:ident),*];
    )*) => {
        /// Every property, in the order of the documentation.
        pub const PROPERTIES: &[Property] = &[$(Property {
            name: $name,
            statement: $statement,
            premise: $premise,
            exempt: &[$($exempt),*],
            check: $check,
        }),*];
    };
}

properties! {
    "off", bounds::off,
        "A threshold of 0 computes every evaluation, keeps none and holds nothing.",
        "there is an option `threshold` that may be 0", [];
    "first", bounds::first,
        "The first evaluation computes.",
        "", [];
    "limits", bounds::limits,
        "The first and last protected evaluations compute, and no more are reused in a row than \
         may be; the options `retention`, `last` and `max_skips` mean what is declared.",
        "evaluations are protected, by declaration or by option", [];
    "gate", bounds::gate,
        "Between two computed evaluations the number that allows a reuse is the sum of its steps, \
         and below its limit.",
        "something is reused", [NoGate];
    "monotone", bounds::monotone,
        "A larger threshold never computes more often.",
        "increments are not negative and between consecutive signals: the cache declares it",
        [NotMonotone];
    "answers", reuse::answers,
        "Every evaluation is decided once, with the declared measures or none, all of them finite.",
        "", [];
    "form", reuse::form,
        "A reuse has the form of what it stands in for.",
        "something is reused", [];
    "stored", reuse::stored,
        "A reuse comes after a computed evaluation that was kept.",
        "something is reused", [];
    "newest", reuse::newest,
        "A reuse is what was computed last, or its rounding to a narrower format, within half a \
         unit.",
        "something is reused", [Forecasts];
    "repeats", independence::repeats,
        "A fresh object repeats what a fresh object did.",
        "", [];
    "interleaved", independence::interleaved,
        "Two streams, a turn each in any order, go as each goes alone.",
        "", [];
    "state", state::saved_and_loaded,
        "Saved after any evaluation and loaded into a fresh object, it goes on to the bit as if it \
         had not been interrupted.",
        "the extension `wan.state/1` is listed", [];
    "schedule-only", independence::schedule_only,
        "Decisions do not depend on latents, prompt or residuals.",
        "", [DecidesByContents];
    "branches", independence::branches,
        "Both guidance branches decide alike.",
        "no leader is followed", [DecidesByContents, CalibratedPerBranch];
    "own-numbers", independence::own_numbers,
        "A branch that is said to have numbers of its own measures by them.",
        "at least five evaluations measure something", [NotCalibratedPerBranch];
    "scale", independence::scale,
        "All signals and residuals times a power of two decide alike.",
        "", [];
    "follower", independence::follower,
        "A branch that follows computes where its leader did, and reuses where it did as soon as it \
         can.",
        "", [DecidesPerBranch];
    "prefix", frames::prefix,
        "Clean frames in front change no decision.",
        "", [CountsAllFrames];
    "resting", frames::resting,
        "Frames that do not move any more do not matter to a decision.",
        "", [CountsAllFrames];
    "equal-levels", frames::equal_levels,
        "Equal frames at equal levels decide as one frame does.",
        "", [];
    "rows", frames::rows,
        "A row per distinct timestep decides as a row per token.",
        "no measured number falls on its limit", [ReadsNoTimeSignal];
    "shape", trouble::shape,
        "Tensors of another shape compute, there and back.",
        "", [];
    "spoilt", trouble::spoilt,
        "A signal that is not a number, infinite or zero computes.",
        "", [ReadsNothing];
    "recovers", trouble::recovers,
        "After a spoilt signal the cache reuses again.",
        "a stream that begins after it reuses often", [ReadsNothing];
    "declared", memory::declared,
        "No more is held than was declared, and nothing once the object is gone.",
        "", [];
    "exact", memory::exact,
        "At its fullest exactly the declared bytes are held.",
        "every evaluation has equally many timesteps; four are kept and one is reused", [];
    "place", memory::place,
        "What is kept lies where it is wanted.",
        "", [];
    "half-decisions", half::decisions,
        "With a halved residual the decisions are those of the cache at full width.",
        "signals are not halved", [FullWidth, DecidesByContents];
    "half-bytes", memory::half_width,
        "Half the bytes of the cache at full width are declared and held, and a scale per frame in \
         f8.",
        "all that is kept is halved", [FullWidth];
}
