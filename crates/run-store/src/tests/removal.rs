//! The end of a run.

use std::ffi::OsString;
use std::fs;
use std::io::Write;
use std::path::PathBuf;

use wan_outputs::{Claim, Claimed};

use super::{file, names, numbers, place, write};
use crate::disk::script::{Plan, Script};
use crate::remove::remove_on;
use crate::{Error, RunFolder, list, remove};

/// A run with something of each kind.
fn run(path: &std::path::Path) -> RunFolder {
    let mut run = RunFolder::create(path, "{}").unwrap();
    (1..=2).for_each(|number| write(&mut run, number));
    run.begin("video.mp4").unwrap().append(b"frames").unwrap();
    fs::write(path.join("round-000003.part"), "half").unwrap();
    fs::write(path.join(".a.mp4.part"), "half").unwrap();
    run
}

/// Names that nobody would give.
fn odd_names() -> Vec<OsString> {
    let names = [
        "notes.txt",
        ".part",
        "a.part",
        "growing-ä",
        "round-1.part",
        "recipe.json",
        "a\nb",
        "lock ",
    ];
    let mut names: Vec<OsString> = names.iter().map(OsString::from).collect();
    #[cfg(target_os = "linux")]
    names.push(std::os::unix::ffi::OsStringExt::from_vec(b"growing-\xff\xfe".to_vec()));
    names.push(format!("round-00000001.{}.safetensors", "0".repeat(64)).into());
    names.push(format!("round-000001.{}.safetensors", "A".repeat(64)).into());
    names.push(format!("round-000001.{}.safetensors", "0".repeat(63)).into());
    names.sort();
    names
}

#[test]
fn removal_takes_what_is_ours_and_reports_the_rest() {
    let (folder, path) = place();
    assert_eq!(run(&path).remove().unwrap(), Vec::<PathBuf>::new());
    assert!(names(folder.path()).is_empty());

    let run = run(&path);
    for name in odd_names() {
        fs::write(path.join(name), "mine").unwrap();
    }
    fs::create_dir(path.join("zz")).unwrap();
    assert_eq!(numbers(&run), [2, 1]);
    drop(run);
    let run = RunFolder::open(&path).unwrap();
    let mut left: Vec<PathBuf> = odd_names().iter().map(|name| path.join(name)).collect();
    left.push(path.join("zz"));
    left.sort();
    assert_eq!(run.remove().unwrap(), left);
    assert_eq!(names(&path).len(), left.len());
    assert_eq!(fs::read(&left[0]).unwrap(), b"mine");
    assert!(matches!(RunFolder::open(&path).unwrap_err(), Error::NoRun { .. }));
    assert!(matches!(RunFolder::create(&path, "{}").unwrap_err(), Error::Foreign { .. }));
    assert!(matches!(remove(&path).unwrap_err(), Error::NoRun { .. }));
}

#[test]
fn a_run_is_not_removed_while_a_file_of_it_grows() {
    let (_folder, path) = place();
    let run = run(&path);
    let _growing = run.begin("latents").unwrap();
    let error = run.remove().unwrap_err();
    assert!(matches!(&error, Error::Open { file } if file.ends_with("growing-latents")), "{error}");
    assert_eq!(names(&path).len(), 8);
}

#[test]
fn damaged_runs_are_removed_too() {
    let (folder, path) = place();
    drop(run(&path));
    fs::write(file(&path, "recipe."), "nothing").unwrap();
    fs::write(file(&path, "round-000001."), "nothing").unwrap();
    assert!(remove(&path).unwrap().is_empty());
    drop(run(&path));
    fs::remove_file(file(&path, "recipe.")).unwrap();
    assert!(remove(&path).unwrap().is_empty());
    assert!(names(folder.path()).is_empty());
}

#[test]
fn removal_that_ends_at_any_step_leaves_a_whole_run_or_none() {
    for number in 0.. {
        let (folder, path) = place();
        drop(run(&path));
        let (disk, script) = Script::disk(Plan::EndAt { number }, false);
        let outcome = remove_on(&disk, &path);
        if !script.has_failed() {
            assert!(number > 8 && outcome.unwrap().is_empty());
            break;
        }
        outcome.unwrap_err();
        match RunFolder::open(&path) {
            Ok(run) => assert_eq!((run.recipe(), numbers(&run)), ("{}", vec![2, 1])),
            Err(Error::NoRun { .. }) => {
                for listed in list(folder.path()).unwrap() {
                    assert!(listed.recipe.is_none() && !listed.damage.is_empty(), "{listed:?}");
                }
                if number % 2 == 0 && path.exists() && !names(&path).is_empty() {
                    assert!(remove(&path).unwrap().is_empty(), "step {number}");
                }
                // And its place is free.
                let run = RunFolder::create(&path, "[2]").unwrap();
                assert!(numbers(&run).is_empty());
                assert_eq!(names(&path).len(), 2, "step {number}");
            }
            Err(error) => panic!("step {number}: {error}"),
        }
    }
}

#[test]
fn files_that_get_their_names_elsewhere_are_removed_if_nobody_holds_them() {
    let (folder, path) = place();
    drop(run(&path));
    let claim = |name: &str| match Claim::of(&folder.path().join(name), Some(&path)).unwrap() {
        Claimed::Ours { claim, .. } => claim,
        Claimed::Taken { by } => panic!("{by:?} has it"),
    };
    let mut odd = vec![OsString::from(".b.json.part")];
    #[cfg(target_os = "linux")]
    odd.push(std::os::unix::ffi::OsStringExt::from_vec(b".\xff.part".to_vec()));
    odd.iter().for_each(|name| fs::write(path.join(name), "half").unwrap());
    let mut held = claim("a.mp4");
    held.file().write_all(b"frames").unwrap();
    let run = RunFolder::open(&path).unwrap();
    let hidden = |names: Vec<String>| names.into_iter().filter(|name| name.starts_with('.'));
    assert_eq!(hidden(names(&path)).collect::<Vec<_>>(), [".a.mp4.part"]);
    assert_eq!(run.remove().unwrap(), [path.join(".a.mp4.part")]);
    assert_eq!(names(&path), [".a.mp4.part"], "its owner is at it");
    assert!(matches!(remove(&path).unwrap_err(), Error::NoRun { .. }));
    let kept = held.keep().unwrap();
    assert_eq!(fs::read(kept.path()).unwrap(), b"frames");
    assert!(names(&path).is_empty());
    RunFolder::create(&path, "{}").unwrap();
}
