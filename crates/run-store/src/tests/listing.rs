//! A look at the runs of a folder.

use std::fs;
use std::path::PathBuf;

use super::{file, names, place, write};
use crate::{RunFolder, list};

#[test]
fn unfinished_runs_are_listed_and_stay_as_they_are() {
    let (folder, path) = place();
    let mut run = RunFolder::create(&path, "[7]").unwrap();
    (1..=3).for_each(|number| write(&mut run, number));
    run.begin("video.mp4").unwrap().append(&[0; 1000]).unwrap();
    let second = folder.path().join("b.run");
    drop(RunFolder::create(&second, "{}").unwrap());
    fs::remove_file(second.join("lock")).unwrap();
    fs::create_dir(folder.path().join("c.run")).unwrap();
    drop(RunFolder::create(folder.path().join("not.listed"), "{}").unwrap());
    fs::write(folder.path().join("d.run"), "a file").unwrap();
    fs::write(path.join("note"), "five!").unwrap();

    let before: Vec<Vec<String>> =
        ["a.run", "b.run", "c.run"].map(|name| names(&folder.path().join(name))).into();
    let listed = list(folder.path()).unwrap();
    let paths: Vec<PathBuf> = listed.iter().map(|run| run.path.clone()).collect();
    assert_eq!(paths, ["a.run", "b.run", "c.run"].map(|name| folder.path().join(name)));
    let after: Vec<Vec<String>> = paths.iter().map(|path| names(path)).collect();
    assert_eq!(before, after);

    let a = &listed[0];
    assert_eq!((a.recipe.as_deref(), a.number(), a.checkpoints.len()), (Some("[7]"), Some(3), 2));
    assert_eq!(a.checkpoints[0].text().unwrap(), "[3]");
    let newest = file(&path, "round-000003.").metadata().unwrap();
    assert_eq!(a.modified, Some(newest.modified().unwrap()));
    let sealed = newest.len() + file(&path, "round-000002.").metadata().unwrap().len();
    let recipe = file(&path, "recipe.").metadata().unwrap().len();
    assert_eq!(a.bytes, sealed + recipe + 1000 + 5);
    assert!(a.worker.is_some() && a.damage.is_empty());

    let b = &listed[1];
    assert!(b.recipe.is_some() && b.number().is_none() && b.modified.is_none());
    assert!(b.worker.is_none() && b.damage.is_empty(), "no lock file is no damage: {b:?}");
    let c = &listed[2];
    assert!(c.recipe.is_none() && c.damage[0].contains("never begun"), "{c:?}");
    assert!(list(folder.path().join("nowhere")).is_err());
}

#[test]
#[cfg(target_os = "linux")]
fn a_folder_may_have_a_name_of_odd_bytes() {
    use std::os::unix::ffi::OsStrExt;
    let (folder, _) = place();
    let path = folder.path().join(std::ffi::OsStr::from_bytes(b"\xff \n\x01.run"));
    let mut run = RunFolder::create(&path, "{}").unwrap();
    write(&mut run, 1);
    let error = RunFolder::create(&path, "{}").unwrap_err();
    assert!(matches!(&error, crate::Error::InUse { path: at, .. } if *at == path), "{error}");
    drop(run);
    assert_eq!(list(folder.path()).unwrap()[0].path, path);
    let run = RunFolder::open(&path).unwrap();
    assert_eq!(run.newest().unwrap().checkpoint.unwrap().number, 1);
    assert!(run.remove().unwrap().is_empty());
    assert!(names(folder.path()).is_empty());
}
