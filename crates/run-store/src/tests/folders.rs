//! Who may work on a folder, and which can become a run's.

use std::fs;
use std::sync::Barrier;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;

use sha2::{Digest, Sha256};

use super::{file, names, numbers, place, write};
use crate::disk::script::{Kind, Plan, Script};
use crate::{Error, RunFolder, list, remove};

#[test]
fn one_at_a_time_works_on_a_run() {
    let (folder, path) = place();
    let mut run = RunFolder::create(&path, "{}").unwrap();
    write(&mut run, 1);
    let is_used = |error: Error| {
        assert!(matches!(&error, Error::InUse { path: at, .. } if *at == path), "{error}");
        let Error::InUse { by, .. } = error else { unreachable!() };
        assert!(by == Some(std::process::id()) || !cfg!(target_os = "linux"), "{by:?}");
    };
    let look = || list(folder.path()).unwrap()[0].worker;
    let growing = run.begin("video.mp4").unwrap();
    for _ in 0..2 {
        is_used(RunFolder::open(&path).unwrap_err());
        is_used(RunFolder::create(&path, "{}").unwrap_err());
        is_used(remove(&path).unwrap_err());
        assert!(look().is_some());
        if numbers(&run) == [1] {
            write(&mut run, 2);
        }
    }
    // A growing file holds the run, too.
    drop(run);
    is_used(RunFolder::open(&path).unwrap_err());
    drop(growing);
    assert!(look().is_none());
    let run = RunFolder::open(&path).unwrap();
    assert_eq!((run.recipe(), numbers(&run)), ("{}", vec![2, 1]));
    assert!(!run.is_without_lock());
}

#[test]
fn of_many_that_create_a_run_at_once_one_does() {
    const MANY: usize = 6;
    for _ in 0..5 {
        let (_folder, path) = place();
        let (start, end) = (Barrier::new(MANY), Barrier::new(MANY));
        let outcomes: Vec<Result<(), Error>> = thread::scope(|scope| {
            let create = |_| {
                scope.spawn(|| {
                    start.wait();
                    let run = RunFolder::create(&path, "{}");
                    end.wait();
                    run.map(drop)
                })
            };
            let threads: Vec<_> = (0..MANY).map(create).collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).collect()
        });
        assert_eq!(outcomes.iter().filter(|outcome| outcome.is_ok()).count(), 1, "{outcomes:?}");
        for error in outcomes.into_iter().filter_map(Result::err) {
            assert!(matches!(error, Error::InUse { .. } | Error::Exists { .. }), "{error}");
        }
        assert_eq!(RunFolder::open(&path).unwrap().recipe(), "{}");
    }
}

#[test]
fn a_look_keeps_nobody_from_a_run() {
    let (folder, path) = place();
    drop(RunFolder::create(&path, "{}").unwrap());
    let is_over = AtomicBool::new(false);
    let look = || list(folder.path()).unwrap().len();
    thread::scope(|scope| {
        let looks = scope.spawn(|| {
            while !is_over.load(Ordering::Relaxed) {
                assert_eq!(look(), 1);
            }
        });
        let opened = (0..200).try_for_each(|_| RunFolder::open(&path).map(drop));
        is_over.store(true, Ordering::Relaxed);
        looks.join().unwrap();
        opened.unwrap();
    });
}

#[test]
fn an_unfinished_run_is_not_written_over() {
    let (_folder, path) = place();
    drop(RunFolder::create(&path, "[1]").unwrap());
    let error = RunFolder::create(&path, "[2]").unwrap_err();
    assert!(matches!(&error, Error::Exists { path: at } if *at == path), "{error}");
    assert_eq!(RunFolder::open(&path).unwrap().recipe(), "[1]");
}

#[test]
fn what_is_no_run_is_left_as_it_is() {
    let (folder, path) = place();
    let no_run = |error: Error| assert!(matches!(error, Error::NoRun { .. }), "{error}");
    no_run(RunFolder::open(&path).unwrap_err());
    no_run(remove(&path).unwrap_err());
    fs::create_dir(&path).unwrap();
    fs::write(path.join("photo.jpg"), "mine").unwrap();
    no_run(RunFolder::open(&path).unwrap_err());
    no_run(remove(&path).unwrap_err());
    let error = RunFolder::create(&path, "{}").unwrap_err();
    assert!(matches!(&error, Error::Foreign { file, .. } if file.ends_with("photo.jpg")));
    assert_eq!(names(&path), ["photo.jpg"]);
    let plain = folder.path().join("b.run");
    fs::write(&plain, "mine").unwrap();
    no_run(RunFolder::open(&plain).unwrap_err());
    let error = RunFolder::create(&plain, "{}").unwrap_err();
    assert!(matches!(error, Error::Foreign { .. }), "{error}");
    assert_eq!(fs::read(&plain).unwrap(), b"mine");
    let error = RunFolder::create(folder.path().join("no/where.run"), "{}").unwrap_err();
    assert!(matches!(error, Error::Io { .. }), "{error}");
    let error = RunFolder::create(folder.path().join("c.run"), "no JSON").unwrap_err();
    assert!(matches!(error, Error::Refused { .. }), "{error}");
    assert_eq!(names(folder.path()), ["a.run", "b.run"]);
    // An empty folder is anybody's.
    fs::remove_file(path.join("photo.jpg")).unwrap();
    RunFolder::create(&path, "{}").unwrap();
}

#[test]
fn creation_that_fails_leaves_nothing_and_one_that_ends_leaves_no_run() {
    for number in 0.. {
        let (folder, path) = place();
        let (disk, script) = Script::disk(Plan::Nth { kind: Kind::Any, number }, true);
        let run = RunFolder::create_on(disk, &path, "{}");
        if !script.has_failed() {
            assert!(number > 5 && run.is_ok(), "{number}");
            break;
        }
        assert!(run.is_ok() || names(folder.path()).is_empty(), "step {number}");

        let (folder, path) = place();
        let (disk, script) = Script::disk(Plan::EndAt { number }, true);
        RunFolder::create_on(disk, &path, "{}").unwrap_err();
        script.lose_power();
        match RunFolder::open(&path) {
            Ok(run) => assert_eq!(run.recipe(), "{}"),
            Err(Error::NoRun { .. }) => {
                drop(RunFolder::create(&path, "[2]").unwrap());
                assert_eq!(names(&path).len(), 2, "lock and recipe");
            }
            Err(error) => panic!("step {number}: {error}"),
        }
        assert_eq!(names(folder.path()), ["a.run"]);
    }
}

#[test]
fn a_recipe_is_given_back_as_it_was_and_other_tools_read_it() {
    let (_folder, path) = place();
    let text = "  {\"b\": 1.50, \"a\": [1e400, \"\\u00e4\"]}\n";
    assert_eq!(RunFolder::create(&path, text).unwrap().recipe(), text);
    assert_eq!(RunFolder::open(&path).unwrap().recipe(), text);
    let whole = fs::read_to_string(file(&path, "recipe.")).unwrap();
    assert_eq!(whole, format!("{{\"version\":1,\"recipe\":{text}}}"));
    assert_eq!(names(&path).len(), 2);
}

#[test]
#[cfg(unix)]
fn links_and_pipes_with_our_names_are_not_ours() {
    use rustix::fs::{CWD, FileType, Mode, mknodat};
    use std::os::unix::fs::symlink;
    let (folder, path) = place();
    let mut run = RunFolder::create(&path, "{}").unwrap();
    write(&mut run, 1);
    let kept = folder.path().join("kept");
    fs::write(&kept, "mine").unwrap();
    let link = path.join(format!("round-000002.{}.safetensors", "0".repeat(64)));
    symlink(&kept, &link).unwrap();
    symlink(&kept, path.join("growing-latents")).unwrap();
    mknodat(CWD, path.join("growing-pipe"), FileType::Fifo, Mode::RUSR, 0).unwrap();
    assert_eq!(numbers(&run), [1]);
    let mark = crate::Mark { bytes: 2, sha256: hex::encode(Sha256::digest(b"mi")) };
    run.go_on("latents", &mark).unwrap_err();
    run.read_journal("pipe", &mark).unwrap_err();
    // Begun anew it is a file of its own.
    run.begin("latents").unwrap().append(b"ours").unwrap();
    assert_eq!(fs::read(&kept).unwrap(), b"mine");
    let left = run.remove().unwrap();
    assert_eq!(left, [path.join("growing-pipe"), link]);
}

#[test]
fn a_place_that_runs_come_and_go_in_has_one_at_a_time() {
    let (folder, path) = place();
    let (at_work, begun) = (AtomicUsize::new(0), AtomicUsize::new(0));
    let work = || {
        for _ in 0..60 {
            let run = match RunFolder::create(&path, "{}") {
                Ok(run) => run,
                Err(Error::InUse { .. } | Error::Exists { .. }) => continue,
                Err(error) => panic!("{error}"),
            };
            assert_eq!(at_work.fetch_add(1, Ordering::SeqCst), 0);
            begun.fetch_add(1, Ordering::SeqCst);
            run.begin("latents").unwrap().append(b"1").unwrap();
            at_work.fetch_sub(1, Ordering::SeqCst);
            // Somebody may have taken the place over before the folder was gone.
            run.remove().unwrap();
        }
    };
    thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(work);
        }
    });
    assert_eq!(names(folder.path()), Vec::<String>::new());
    assert!(begun.into_inner() > 4);
}
