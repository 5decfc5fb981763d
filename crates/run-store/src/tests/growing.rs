//! Growing files: marks, and what goes on from one.

use std::fs::{self, OpenOptions};
use std::io::Write;
use std::path::Path;

use proptest::collection::vec;
use proptest::prelude::*;
use sha2::{Digest, Sha256};

use super::place;
use crate::disk::script::{Kind, Plan, Script};
use crate::{Error, Growing, Journal, Mark, Result, RunFolder};

/// What a test does with a growing file.
#[derive(Debug, Clone)]
enum Act {
    Append(Vec<u8>),
    Mark,
    /// The process ends. What it appended since its last mark is there up to this share of 256.
    End(u8),
}

fn acts() -> impl Strategy<Value = Vec<Act>> {
    let act = prop_oneof![
        4 => vec(any::<u8>(), 0..40).prop_map(Act::Append),
        2 => Just(Act::Mark),
        1 => any::<u8>().prop_map(Act::End),
    ];
    vec(act, 1..24)
}

/// A growing file or a journal.
trait File: Sized {
    fn begin(run: &RunFolder) -> Result<Self>;
    fn go_on(run: &RunFolder, mark: &Mark) -> Result<Self>;
    fn append(&mut self, bytes: &[u8]) -> Result<()>;
    fn mark(&mut self) -> Result<Mark>;
    /// What the file has for one `append`.
    fn frame(bytes: &[u8]) -> Vec<u8>;
}

impl File for Growing {
    fn begin(run: &RunFolder) -> Result<Self> {
        run.begin("file")
    }
    fn go_on(run: &RunFolder, mark: &Mark) -> Result<Self> {
        run.go_on("file", mark)
    }
    fn append(&mut self, bytes: &[u8]) -> Result<()> {
        let (at, end) = (bytes.len() / 3, bytes.len() / 2);
        let hidden = [&bytes[..at], &vec![b'?'; end - at], &bytes[end..]].concat();
        self.append_then_name(&hidden, at, &bytes[at..end])
    }
    fn mark(&mut self) -> Result<Mark> {
        self.mark()
    }
    fn frame(bytes: &[u8]) -> Vec<u8> {
        bytes.to_vec()
    }
}

impl File for Journal {
    fn begin(run: &RunFolder) -> Result<Self> {
        run.begin_journal("file")
    }
    fn go_on(run: &RunFolder, mark: &Mark) -> Result<Self> {
        run.go_on_journal("file", mark)
    }
    fn append(&mut self, bytes: &[u8]) -> Result<()> {
        self.append_slices(&[&bytes[..bytes.len() / 2], &bytes[bytes.len() / 2..]])
    }
    fn mark(&mut self) -> Result<Mark> {
        self.mark()
    }
    fn frame(bytes: &[u8]) -> Vec<u8> {
        let length = (bytes.len() as u64).to_le_bytes();
        [&length[..], &Sha256::digest(bytes), bytes].concat()
    }
}

/// Cuts what is behind a mark down to a share of it.
fn tear(path: &Path, mark: &Mark, share: u8) {
    let file = OpenOptions::new().write(true).open(path).unwrap();
    let behind = file.metadata().unwrap().len() - mark.bytes;
    file.set_len(mark.bytes + behind * u64::from(share) / 256).unwrap();
}

/// Does all of it; gives what was appended before the last mark, and the mark.
fn play<F: File>(run: &RunFolder, acts: &[Act]) -> (Vec<Vec<u8>>, Mark) {
    let path = run.path_of("file").unwrap();
    let mut file = F::begin(run).unwrap();
    let (mut parts, mut marked) = (Vec::new(), 0);
    let mut mark = file.mark().unwrap();
    for act in acts {
        match act {
            Act::Append(bytes) => {
                file.append(bytes).unwrap();
                parts.push(bytes.clone());
            }
            Act::Mark => (mark, marked) = (file.mark().unwrap(), parts.len()),
            Act::End(share) => {
                drop(file);
                tear(&path, &mark, *share);
                file = F::go_on(run, &mark).unwrap();
                parts.truncate(marked);
            }
        }
        let all: Vec<u8> = parts.iter().flat_map(|part| F::frame(part)).collect();
        assert_eq!(fs::read(&path).unwrap(), all);
    }
    parts.truncate(marked);
    let all: Vec<u8> = parts.iter().flat_map(|part| F::frame(part)).collect();
    let sha256 = hex::encode(Sha256::digest(&all));
    assert_eq!(mark, Mark { bytes: all.len() as u64, sha256 });
    (parts, mark)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn a_growing_file_goes_on_from_its_mark(acts in acts()) {
        let (_folder, path) = place();
        let run = RunFolder::create(&path, "{}").unwrap();
        play::<Growing>(&run, &acts);
    }

    #[test]
    fn a_journal_goes_on_from_its_mark_and_gives_its_parts(acts in acts()) {
        let (_folder, path) = place();
        let run = RunFolder::create(&path, "{}").unwrap();
        let (parts, mark) = play::<Journal>(&run, &acts);
        let read: Vec<Vec<u8>> =
            run.read_journal("file", &mark).unwrap().map(Result::unwrap).collect();
        prop_assert_eq!(read, parts);
        let text = serde_json::to_string(&mark).unwrap();
        prop_assert_eq!(serde_json::from_str::<Mark>(&text).unwrap(), mark);
    }
}

#[test]
fn a_run_goes_on_from_the_mark_before_the_last() {
    let (_folder, path) = place();
    let run = RunFolder::create(&path, "{}").unwrap();
    let mut file = run.begin("video.mp4").unwrap();
    file.append(b"one").unwrap();
    let first = file.mark().unwrap();
    file.append(b"two").unwrap();
    let second = file.mark().unwrap();
    drop(file);
    let wrong = Mark { sha256: second.sha256.clone(), ..first };
    let error = run.go_on("video.mp4", &wrong).unwrap_err();
    assert!(matches!(error, Error::Damaged { .. }), "{error}");
    assert_eq!(fs::read(run.path_of("video.mp4").unwrap()).unwrap(), b"onetwo", "nothing was cut");
    let mut file = run.go_on("video.mp4", &first).unwrap();
    file.write_all(b"2").unwrap();
    assert_eq!((file.bytes(), fs::read(file.path()).unwrap()), (4, b"one2".to_vec()));
    drop(file);
    let error = run.go_on("video.mp4", &second).unwrap_err();
    assert!(error.to_string().contains("has 4 bytes, and 6 were written"), "{error}");
}

#[test]
fn a_mark_waits_for_the_disk_only_for_what_is_new() {
    let (_folder, path) = place();
    let run = RunFolder::create(&path, "{}").unwrap();
    let mut file = run.begin("latents").unwrap();
    let fsyncs = |act: &mut dyn FnMut()| {
        let before = run.written().fsyncs;
        act();
        run.written().fsyncs - before
    };
    assert_eq!(fsyncs(&mut || drop(file.mark().unwrap())), 0, "nothing was appended");
    assert_eq!(fsyncs(&mut || file.append(b"one").unwrap()), 0);
    assert_eq!(fsyncs(&mut || drop(file.mark().unwrap())), 1);
    assert_eq!(fsyncs(&mut || drop(file.mark().unwrap())), 0);
    drop(file);
}

#[test]
fn a_growing_file_has_one_writer_and_a_plain_name() {
    let (_folder, path) = place();
    let run = RunFolder::create(&path, "{}").unwrap();
    let mut file = run.begin("latents").unwrap();
    let mark = file.mark().unwrap();
    for error in [run.begin("latents").unwrap_err(), run.go_on("latents", &mark).unwrap_err()] {
        assert!(matches!(error, Error::Open { .. }), "{error}");
    }
    drop(file);
    run.go_on("latents", &mark).unwrap();
    let long = "a".repeat(65);
    for name in ["", "../a", "a/b", "a b", "ä", "a\0", "a\n", &long] {
        let error = run.begin(name).unwrap_err();
        assert!(matches!(error, Error::Refused { .. }), "{name:?}: {error}");
    }
    for name in ["lock", "recipe.part", "..", "A-z_0.mp4"] {
        run.begin(name).unwrap().append(b"1").unwrap();
    }
    assert_eq!(run.recipe(), "{}");
    drop(run);
    RunFolder::open(&path).unwrap();
}

#[test]
fn after_a_flush_that_fails_a_file_takes_nothing_more() {
    let (_folder, path) = place();
    // The flushes of the recipe, its folder, the folder around it, and the new file's folder.
    let (disk, script) = Script::disk(Plan::Nth { kind: Kind::Flush, number: 5 }, false);
    let run = RunFolder::create_on(disk, &path, "{}").unwrap();
    let mut file = run.begin("latents").unwrap();
    file.append(b"one").unwrap();
    let mark = file.mark().unwrap();
    file.append(b"two").unwrap();
    assert!(file.mark().unwrap_err().is_no_room());
    assert!(script.has_failed());
    // The system may say now that all is well.
    for error in [file.mark().unwrap_err(), file.append(b"3").unwrap_err()] {
        assert!(error.to_string().contains("go on from the last mark"), "{error}");
    }
    drop(file);
    let mut file = run.go_on("latents", &mark).unwrap();
    file.append(b"two").unwrap();
    assert_eq!(file.mark().unwrap().bytes, 6);
}

#[test]
fn what_could_not_be_appended_can_be_tried_again() {
    for number in 1..=2 {
        let (_folder, path) = place();
        // The recipe is one write, the head of a part two, its bytes one.
        let (disk, script) = Script::disk(Plan::Nth { kind: Kind::Write, number }, true);
        let run = RunFolder::create_on(disk, &path, "{}").unwrap();
        let mut journal = run.begin_journal("latents").unwrap();
        assert!(journal.append(b"one part").unwrap_err().is_no_room());
        assert!(script.has_failed());
        assert_eq!(journal.bytes(), 0);
        journal.append(b"one part").unwrap();
        let mark = journal.mark().unwrap();
        let parts: Vec<_> =
            run.read_journal("latents", &mark).unwrap().map(Result::unwrap).collect();
        assert_eq!(parts, [b"one part"]);
    }
}

#[test]
fn a_part_that_says_it_is_longer_than_the_file_is_refused() {
    let (_folder, path) = place();
    let run = RunFolder::create(&path, "{}").unwrap();
    for length in [u64::MAX, u64::MAX - 40, 1 << 40, 9] {
        let mut file = run.begin("latents").unwrap();
        file.append(&length.to_le_bytes()).unwrap();
        file.append(&[0; 32 + 8]).unwrap();
        let mark = file.mark().unwrap();
        let mut parts = run.read_journal("latents", &mark).unwrap();
        let error = parts.next().unwrap().unwrap_err();
        assert!(error.to_string().contains("8 are left"), "{error}");
        assert!(parts.next().is_none());
    }
    let mut file = run.begin("short").unwrap();
    file.append(&[0; 39]).unwrap();
    let mark = file.mark().unwrap();
    let error = run.read_journal("short", &mark).unwrap().next().unwrap().unwrap_err();
    assert!(error.to_string().contains("no head"), "{error}");
}

#[test]
fn whole_parts_of_another_journal_are_not_taken_for_the_marked_ones() {
    let (_folder, path) = place();
    let run = RunFolder::create(&path, "{}").unwrap();
    let marks = ["ours", "mine"].map(|part| {
        let mut journal = run.begin_journal(part).unwrap();
        journal.append(part.as_bytes()).unwrap();
        journal.mark().unwrap()
    });
    assert_eq!(marks[0].bytes, marks[1].bytes);
    let mut parts = run.read_journal("ours", &marks[1]).unwrap();
    assert_eq!(parts.next().unwrap().unwrap(), b"ours");
    assert!(matches!(parts.next(), Some(Err(Error::Damaged { .. }))));
    assert!(parts.next().is_none());
}

#[test]
fn what_is_appended_is_named_when_all_of_it_is_there() {
    // The recipe is one write, the head of the file another.
    for (number, tears, expected) in [
        (2, false, "head"),
        (2, true, "head..hid"),
        (3, false, "head..hidden.."),
        (3, true, "head..SHdden.."),
        (4, true, "head..SHOWen.."),
    ] {
        let (_folder, path) = place();
        let (disk, script) = Script::disk(Plan::Nth { kind: Kind::Write, number }, tears);
        let run = RunFolder::create_on(disk, &path, "{}").unwrap();
        let mut file = run.begin("video.mp4").unwrap();
        file.append(b"head").unwrap();
        let mark = file.mark().unwrap();
        let named = file.append_then_name(b"..hidden..", 2, b"SHOW");
        assert_eq!((named.is_ok(), script.has_failed()), (number == 4, number != 4));
        assert_eq!(fs::read(file.path()).unwrap(), expected.as_bytes());
        if number < 4 {
            // It is tried again, and something else in a later process.
            file.append_then_name(b"..hidden..", 2, b"SHOW").unwrap();
            assert_eq!(fs::read(file.path()).unwrap(), b"head..SHOWen..");
            drop(file);
            file = run.go_on("video.mp4", &mark).unwrap();
            file.append_then_name(b"+hidden", 1, b"SHOWED").unwrap();
            let mark = file.mark().unwrap();
            assert_eq!(fs::read(file.path()).unwrap(), b"head+SHOWED");
            assert_eq!(mark.sha256, hex::encode(Sha256::digest(b"head+SHOWED")));
        }
    }
}

#[test]
fn a_name_lies_in_what_is_appended() {
    let (_folder, path) = place();
    let run = RunFolder::create(&path, "{}").unwrap();
    let mut file = run.begin("video.mp4").unwrap();
    for (at, name) in [(1, "34"), (3, ""), (usize::MAX, "3")] {
        let error = file.append_then_name(b"12", at, name.as_bytes()).unwrap_err();
        assert!(matches!(error, Error::Refused { .. }), "{error}");
    }
    file.append_then_name(b"12", 2, b"").unwrap();
    file.append_then_name(b"34", 0, b"43").unwrap();
    assert_eq!(fs::read(file.path()).unwrap(), b"1243");
}
