use std::fs;
use std::path::Path;

use super::*;
use crate::write_new_folder;

fn wanted(path: &Path) -> Wanted {
    let (field, path) = ("out".into(), path.into());
    Wanted { field, path, is_ours: |_| false, bytes: 0, temporary_in: None }
}

#[test]
fn what_is_too_large_for_the_disk_is_refused_with_all_that_was_claimed() {
    let folder = tempfile::tempdir().unwrap();
    let mut outputs = Outputs::default();
    let sized = |name, bytes| Wanted { bytes, ..wanted(&folder.path().join(name)) };
    let first = outputs.claim(&sized("a", 1 << 20)).unwrap();
    for bytes in [free_bytes(folder.path()).unwrap() + (1 << 40), u64::MAX] {
        let error = outputs.claim(&sized("b", bytes)).unwrap_err();
        assert!(matches!(error, Error::NoRoom { .. }), "{error}");
    }
    drop(first);
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0, "nothing is left");
}

#[cfg(target_os = "linux")]
#[test]
fn room_is_taken_with_the_claim_and_what_is_not_needed_is_given_back() {
    use std::os::unix::fs::MetadataExt;
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a");
    let claim = Outputs::default().claim(&Wanted { bytes: 1 << 20, ..wanted(&path) }).unwrap();
    let about = fs::metadata(temporary_name(&path, None)).unwrap();
    // Where the file system cannot, it takes none.
    let reserved = 512 * about.blocks();
    assert!(about.len() == 0 && (reserved == 0 || reserved >= 1 << 20), "{reserved}");
    claim.write(b"short").unwrap();
    let about = fs::metadata(&path).unwrap();
    assert!(about.len() == 5 && 512 * about.blocks() < 1 << 18, "{}", about.blocks());
}

#[test]
fn a_claim_that_is_dropped_leaves_nothing_and_one_that_is_kept_is_whole() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a");
    let mut outputs = Outputs::default();
    drop(outputs.claim(&wanted(&path)).unwrap());
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
    let claim = Outputs::default().claim(&wanted(&path)).unwrap();
    assert!(!path.exists());
    let kept = claim.write(b"whole").unwrap();
    assert_eq!(fs::read(kept.path()).unwrap(), b"whole");
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    kept.remove().unwrap();
    assert!(!path.exists());
}

#[test]
fn what_took_its_name_is_not_removed() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a");
    let kept = Outputs::default().claim(&wanted(&path)).unwrap().write(b"ours").unwrap();
    fs::write(folder.path().join("b"), b"another's").unwrap();
    fs::rename(folder.path().join("b"), &path).unwrap();
    kept.remove().unwrap();
    assert_eq!(fs::read(&path).unwrap(), b"another's");

    // Nor is a temporary file that is not the one that was locked.
    let claim = Outputs::new(true).claim(&wanted(&path)).unwrap();
    let temporary = temporary_name(&path, None);
    fs::remove_file(&temporary).unwrap();
    fs::write(&temporary, b"another's").unwrap();
    assert!(claim.write(b"ours").is_err());
    assert_eq!(fs::read(&temporary).unwrap(), b"another's");
    assert_eq!(fs::read(&path).unwrap(), b"another's");
}

#[test]
fn names_are_numbered_until_one_is_free() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    fs::write(at("a-2.json"), "").unwrap();
    let named =
        |number| ["mp4", "json"].map(|end| wanted(&at(&numbered("a", number, end)))).to_vec();
    let mut outputs = Outputs::default();
    for expected in ["a.mp4", "a-3.mp4"] {
        for claim in outputs.claim_free(named).unwrap() {
            claim.write(b"").unwrap();
        }
        assert!(at(expected).exists(), "{expected}");
    }
}

#[test]
fn a_new_folder_is_whole_or_not_there() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("new");
    let files = [("a.txt", "a".to_string()), ("in/b.txt", "b".to_string())];
    write_new_folder("path", &path, &files).unwrap();
    assert_eq!(fs::read_to_string(path.join("in/b.txt")).unwrap(), "b");
    let error = write_new_folder("path", &path, &files).unwrap_err().to_string();
    assert!(error.contains("exists already"), "{error}");
    let twice = [("a.txt", String::new()), ("a.txt", String::new())];
    assert!(write_new_folder("path", &folder.path().join("other"), &twice).is_err());
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1, "nothing is left");
}

#[test]
fn a_file_may_lie_in_another_folder_until_it_is_whole() {
    let (folder, run) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let (path, temporary) = (folder.path().join("a"), run.path().join(".a.part"));
    let names = |folder: &tempfile::TempDir| fs::read_dir(folder.path()).unwrap().count();
    let within = |path| Wanted { temporary_in: Some(run.path().into()), ..wanted(path) };
    let mut outputs = Outputs::default();
    let claim = outputs.claim(&within(&path)).unwrap();
    assert_eq!((claim.temporary(), claim.path()), (&*temporary, &*path));
    claim.scratch().unwrap();
    assert_eq!((names(&folder), names(&run)), (0, 1));
    let error = Outputs::default().claim(&within(&path)).unwrap_err();
    assert!(error.to_string().contains("is writing it"), "{error}");
    // The same command knows it by its name, wherever it lies now.
    for wanted in [wanted(&path), within(&path)] {
        let error = outputs.claim(&wanted).unwrap_err();
        assert!(error.to_string().contains("is the file of `out` too"), "{error}");
    }
    drop(claim);
    assert_eq!((names(&folder), names(&run)), (0, 0), "dropped, it leaves nothing");
    fs::write(&temporary, "what an ended process left").unwrap();
    let claim = outputs.claim(&within(&path)).unwrap();
    assert!(outputs.take_notices()[0].contains("has left"));
    let kept = claim.write(b"whole").unwrap();
    assert_eq!((names(&folder), names(&run)), (1, 0));
    assert_eq!(fs::read(kept.path()).unwrap(), b"whole");
    kept.remove().unwrap();

    let claim = outputs.claim(&within(&path)).unwrap();
    crate::abandon_all();
    assert_eq!((names(&folder), names(&run)), (0, 0), "a process that ends leaves nothing");
    drop(claim);
    let nowhere = Wanted { temporary_in: Some(run.path().join("no")), ..wanted(&path) };
    assert!(matches!(outputs.claim(&nowhere).unwrap_err(), Error::Refused { .. }));
}

#[test]
#[cfg(target_os = "linux")]
fn a_file_is_not_written_on_another_file_system() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a");
    let elsewhere = Wanted { temporary_in: Some("/proc".into()), ..wanted(&path) };
    let error = Outputs::default().claim(&elsewhere).unwrap_err().to_string();
    assert!(error.contains("another file system than /proc"), "{error}");
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
}
