//! Every byte of every file damaged in turn, and every file cut at every length.

use std::fs;
use std::path::Path;

use super::{file, is_damaged, names, numbers, place, seal_again, write};
use crate::{Error, Mark, RunFolder, list};

/// Calls `act` with a file in every damaged form: each byte changed, in one bit and in all, and
/// each length but its own. Then the file is as it was.
fn every_damage(path: &Path, mut act: impl FnMut(&str)) {
    let good = fs::read(path).unwrap();
    assert!(good.len() > 16);
    for index in 0..good.len() {
        for bits in [1 << (index % 8), 0xff] {
            let mut bytes = good.clone();
            bytes[index] ^= bits;
            fs::write(path, bytes).unwrap();
            act(&format!("byte {index} changed by {bits:#x}"));
        }
        fs::write(path, &good[..index]).unwrap();
        act(&format!("cut to {index}"));
    }
    fs::write(path, [&good[..], b" "].concat()).unwrap();
    act("one byte more");
    fs::write(path, good).unwrap();
}

#[test]
fn a_damaged_checkpoint_is_detected_and_the_one_before_it_used() {
    let (_folder, path) = place();
    let mut run = RunFolder::create(&path, "{}").unwrap();
    (1..=2).for_each(|number| write(&mut run, number));
    let (newest, good) = (file(&path, "round-000002."), run.newest().unwrap());
    assert_eq!(good.checkpoint.unwrap().number, 2);
    drop(run);
    every_damage(&newest, |how| {
        let run = RunFolder::open(&path).unwrap();
        let found = run.newest().unwrap();
        let checkpoint = found.checkpoint.expect("the one before");
        assert_eq!((checkpoint.number, checkpoint.text.as_str()), (1, "[1]"), "{how}");
        assert_eq!(checkpoint.tensors[0].bytes, [1; 4]);
        assert!(found.damaged.len() == 1 && is_damaged(&found.damaged[0], &newest), "{how}");
        let file = &run.checkpoints().unwrap()[0];
        assert!(is_damaged(&file.verify().unwrap_err(), &newest), "{how}");
    });
    assert_eq!(RunFolder::open(&path).unwrap().newest().unwrap().checkpoint.unwrap().number, 2);
}

#[test]
fn a_damaged_recipe_is_named() {
    let (folder, path) = place();
    drop(RunFolder::create(&path, "{\"seed\": 7}").unwrap());
    let recipe = file(&path, "recipe.");
    every_damage(&recipe, |how| {
        assert!(is_damaged(&RunFolder::open(&path).unwrap_err(), &recipe), "{how}");
        let listed = list(folder.path()).unwrap();
        assert!(listed[0].recipe.is_none() && listed[0].damage.len() == 1, "{how}");
        assert!(listed[0].damage[0].contains("damaged"), "{:?}", listed[0].damage);
        let error = RunFolder::create(&path, "{}").unwrap_err();
        assert!(matches!(error, Error::Exists { .. }), "{how}: {error}");
    });
    assert_eq!(RunFolder::open(&path).unwrap().recipe(), "{\"seed\": 7}");
}

#[test]
fn a_damaged_growing_file_is_named_if_it_is_damaged_before_the_mark() {
    let (_folder, path) = place();
    let run = RunFolder::create(&path, "{}").unwrap();
    let mut journal = run.begin_journal("latents").unwrap();
    journal.append(b"one").unwrap();
    journal.append(b"").unwrap();
    let mark = journal.mark().unwrap();
    let file = journal.path().to_path_buf();
    drop(journal);
    every_damage(&file, |how| {
        if how == "one byte more" {
            return assert_eq!(run.read_journal("latents", &mark).unwrap().count(), 2);
        }
        let error = run.go_on_journal("latents", &mark).unwrap_err();
        assert!(is_damaged(&error, &file), "{how}");
        let mut parts: Vec<_> = match run.read_journal("latents", &mark) {
            Ok(parts) => parts.collect(),
            Err(error) => vec![Err(error)],
        };
        let last = parts.pop().expect("parts, or an error").expect_err(how);
        // What comes before the error is good.
        let good: [&[u8]; 2] = [b"one", b""];
        assert!(parts.iter().zip(good).all(|(part, good)| part.as_ref().unwrap() == good), "{how}");
        assert!(parts.len() <= 1, "{how}: {parts:?}");
        assert!(is_damaged(&last, &file), "{how}: {last}");
    });
    let mut journal = run.go_on_journal("latents", &mark).unwrap();
    assert_eq!(journal.mark().unwrap(), mark);
    fs::remove_file(&file).unwrap();
    drop(journal);
    assert!(is_damaged(&run.go_on("latents", &mark).unwrap_err(), &file), "it has gone");
    let of_none = Mark { bytes: 0, ..mark };
    assert!(is_damaged(&run.go_on("latents", &of_none).unwrap_err(), &file));
}

#[test]
fn a_damaged_checkpoint_does_not_take_the_place_of_a_whole_one() {
    let (_folder, path) = place();
    let mut run = RunFolder::create(&path, "{}").unwrap();
    [10, 20].iter().for_each(|number| write(&mut run, *number));
    fs::write(file(&path, "round-000020."), "nothing").unwrap();
    assert_eq!(run.newest().unwrap().checkpoint.unwrap().number, 10);
    // Later than the damaged one.
    write(&mut run, 25);
    assert_eq!(numbers(&run), [25, 10]);
    // A growing file that 25 refers to may be damaged; then the run goes on from 10.
    run.pass_over(25).unwrap();
    assert_eq!(numbers(&run), [25, 10]);
    write(&mut run, 30);
    assert_eq!(numbers(&run), [30, 10]);
    // It goes another way from 10: what is later there is of the way that it has left.
    write(&mut run, 20);
    assert_eq!(numbers(&run), [20, 10]);
    // The same checkpoint once more: damaged ones are written anew.
    fs::write(file(&path, "round-000020."), "nothing").unwrap();
    assert_eq!(run.newest().unwrap().damaged.len(), 1);
    write(&mut run, 20);
    assert_eq!(run.newest().unwrap().checkpoint.unwrap().number, 20);
    write(&mut run, 21);
    assert_eq!(numbers(&run), [21, 20]);
}

#[test]
fn what_a_newer_version_wrote_is_named_and_not_taken_for_damage() {
    let (folder, path) = place();
    let mut run = RunFolder::create(&path, "{}").unwrap();
    (1..=2).for_each(|number| write(&mut run, number));
    let checkpoint = file(&path, "round-000002.");
    let mut bytes = fs::read(&checkpoint).unwrap();
    let version = b"version\\\":1";
    let place = bytes.windows(version.len()).position(|words| words == version).unwrap();
    bytes[place + version.len() - 1] = b'2';
    let checkpoint = seal_again(&checkpoint, &bytes);
    let error = run.newest().unwrap_err();
    assert!(matches!(&error, Error::Newer { file, version: 2, known: 1 } if *file == checkpoint));
    assert!(error.to_string().contains("written by a newer wan"), "{error}");
    drop(run);

    let recipe = seal_again(&file(&path, "recipe."), b"{\"version\":3,\"what\":{}}");
    let error = RunFolder::open(&path).unwrap_err();
    assert!(matches!(&error, Error::Newer { file, version: 3, .. } if *file == recipe), "{error}");
    assert!(list(folder.path()).unwrap()[0].damage[0].contains("newer wan"));
    for text in ["{\"version\":0,\"recipe\":{}}", "{\"recipe\":{}}", "{\"version\":1}", "", "7"] {
        let recipe = seal_again(&file(&path, "recipe."), text.as_bytes());
        assert!(is_damaged(&RunFolder::open(&path).unwrap_err(), &recipe), "{text}");
    }
}

#[test]
fn a_run_without_its_recipe_is_kept() {
    let (_folder, path) = place();
    let mut run = RunFolder::create(&path, "{}").unwrap();
    write(&mut run, 1);
    drop(run);
    let recipe = file(&path, "recipe.");
    let bytes = fs::read(&recipe).unwrap();
    fs::write(path.join(format!("recipe.{}.json", "0".repeat(64))), &bytes).unwrap();
    let error = RunFolder::open(&path).unwrap_err();
    assert!(is_damaged(&error, &path) && error.to_string().contains("2 recipes"), "{error}");
    fs::remove_file(file(&path, "recipe.0000")).unwrap();
    fs::remove_file(&recipe).unwrap();
    assert!(is_damaged(&RunFolder::open(&path).unwrap_err(), &path));
    assert!(is_damaged(&RunFolder::create(&path, "{}").unwrap_err(), &path));
    assert_eq!(names(&path).len(), 2, "checkpoint and lock");
}
