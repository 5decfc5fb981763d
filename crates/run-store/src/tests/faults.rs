//! Every step on the disk fails in turn, and every step is a run's last.

use std::path::Path;
use std::sync::Arc;

use super::story::{END, Story, end, hold};
use super::{numbers, place, write};
use crate::disk::script::{Kind, Plan, Script};
use crate::{Error, RunFolder, TensorView};

const VIEW: TensorView<'_> = TensorView { name: "x", dtype: "U8", shape: &[1], bytes: &[7] };

/// A run until something fails: the last checkpoint that it reported, and what failed.
fn lead(path: &Path, plan: Plan, tears: bool) -> (Arc<Script>, u64, Option<Error>) {
    let (disk, script) = Script::disk(plan, tears);
    match Story::begin(disk, path) {
        Err(error) => (script, 0, Some(error)),
        Ok(mut story) => {
            let error = story.go_on().err();
            (script, story.done, error)
        }
    }
}

/// How many steps of a kind a whole run takes.
fn steps(kind: Kind) -> usize {
    let (_folder, path) = place();
    let (script, done, error) = lead(&path, Plan::Quiet, false);
    assert!(error.is_none() && done == END, "{error:?}");
    script.count(kind)
}

#[test]
fn a_step_that_fails_loses_no_checkpoint_and_the_run_goes_on() {
    for kind in [Kind::Write, Kind::Flush, Kind::Rename, Kind::Any] {
        let steps = steps(kind);
        assert!(steps > 4, "{kind:?}: {steps}");
        for (number, tears) in (0..steps).flat_map(|number| [(number, false), (number, true)]) {
            let (_folder, path) = place();
            let (script, done, error) = lead(&path, Plan::Nth { kind, number }, tears);
            assert!(script.has_failed(), "{kind:?} {number}");
            if kind != Kind::Any {
                assert!(error.expect("an error").is_no_room(), "{kind:?} {number}");
            }
            hold(&path, done);
        }
    }
}

#[test]
fn after_a_step_that_fails_the_same_process_goes_on() {
    for number in 0..steps(Kind::Any) {
        for tears in [false, true] {
            let (_folder, path) = place();
            let (disk, script) = Script::disk(Plan::Nth { kind: Kind::Any, number }, tears);
            let mut story = Story::begin(disk.clone(), &path)
                .or_else(|_| Story::begin(disk, &path))
                .expect("it fails once");
            if story.go_on().is_err() {
                let done = story.done;
                story.go_back().unwrap();
                assert_eq!(story.done, done, "step {number}");
                story.go_on().unwrap();
            }
            assert!(script.has_failed());
            drop(story);
            end(&path);
        }
    }
}

#[test]
fn a_run_that_ends_at_any_step_is_resumed_without_loss() {
    for number in 0..steps(Kind::Any) {
        for tears in [false, true] {
            let (_folder, path) = place();
            let (_, done, error) = lead(&path, Plan::EndAt { number }, tears);
            assert!(error.is_some() || done == END, "step {number}");
            hold(&path, done);
        }
    }
}

#[test]
fn a_power_cut_at_any_step_loses_no_completed_checkpoint() {
    for number in 0..=steps(Kind::Any) {
        for tears in [false, true] {
            let (_folder, path) = place();
            let (script, done, _) = lead(&path, Plan::EndAt { number }, tears);
            script.lose_power();
            hold(&path, done);
        }
    }
}

#[test]
fn a_resumed_run_that_ends_at_any_step_is_resumed_again() {
    let total = steps(Kind::Any);
    for first in [total / 4, total / 2, total * 3 / 4] {
        for second in 0.. {
            let (_folder, path) = place();
            let (_, done, _) = lead(&path, Plan::EndAt { number: first }, true);
            let (disk, script) = Script::disk(Plan::EndAt { number: second }, true);
            let done_again = Story::resume(disk, &path).map_or(done, |mut story| {
                assert!(story.done >= done);
                let _ = story.go_on();
                story.done
            });
            script.lose_power();
            hold(&path, done.max(done_again));
            if !script.has_failed() {
                assert!(second > 3, "{second}");
                break;
            }
        }
    }
}

#[test]
fn a_checkpoint_that_was_not_reported_does_not_take_the_place_of_one_that_was() {
    let begin = |plan| {
        let (folder, path) = place();
        let (disk, script) = Script::disk(plan, false);
        let mut run = RunFolder::create_on(disk, &path, "{}").unwrap();
        (1..=2).for_each(|number| write(&mut run, number));
        (folder, run, script)
    };
    let (_folder, _run, script) = begin(Plan::Quiet);
    // An old temporary file removed, one made, header, bytes, flush, name: then the folder's flush
    // fails, and the removal of what may not be on the disk.
    let number = script.count(Kind::Any) + 6;
    let (_folder, mut run, script) = begin(Plan::Two { number });
    let error = run.write_checkpoint(3, "{}", &[VIEW]).unwrap_err();
    assert!(error.is_no_room() && script.has_failed());
    assert_eq!(numbers(&run), [3, 2, 1]);
    write(&mut run, 4);
    assert_eq!(numbers(&run), [4, 2]);
}
