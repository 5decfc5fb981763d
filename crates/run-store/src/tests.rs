//! Runs that end at every moment, disks that fail at every step, and bytes that change.

mod checkpoints;
mod damage;
mod faults;
mod folders;
mod growing;
mod listing;
mod removal;
mod story;

use std::fs;
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

use crate::{Error, RunFolder, TensorView};

/// An empty folder, and the path of a run in it.
fn place() -> (tempfile::TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.run");
    (folder, path)
}

/// The names in a folder, in order.
fn names(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name());
    let mut names: Vec<String> = entries.map(|n| n.to_string_lossy().into_owned()).collect();
    names.sort();
    names
}

/// The one file in a folder whose name begins so.
fn file(folder: &Path, begin: &str) -> PathBuf {
    let found: Vec<String> =
        names(folder).into_iter().filter(|name| name.starts_with(begin)).collect();
    assert_eq!(found.len(), 1, "{begin} in {found:?}");
    folder.join(&found[0])
}

/// Writes a small checkpoint.
fn write(folder: &mut RunFolder, number: u64) {
    let bytes = [u8::try_from(number % 251).unwrap(); 4];
    let tensor = TensorView { name: "x", dtype: "F16", shape: &[2, 1], bytes: &bytes };
    folder.write_checkpoint(number, &format!("[{number}]"), &[tensor]).unwrap();
}

/// The numbers of the checkpoints of a run.
fn numbers(folder: &RunFolder) -> Vec<u64> {
    folder.checkpoints().unwrap().iter().map(|file| file.number()).collect()
}

/// Gives a sealed file other bytes, and the name that is theirs.
fn seal_again(path: &Path, bytes: &[u8]) -> PathBuf {
    let name = path.file_name().unwrap().to_str().unwrap();
    let (begin, rest) = name.split_once('.').unwrap();
    let (_, end) = rest.split_once('.').unwrap();
    let to = path.with_file_name(format!("{begin}.{}.{end}", hex::encode(Sha256::digest(bytes))));
    fs::remove_file(path).unwrap();
    fs::write(&to, bytes).unwrap();
    to
}

fn is_damaged(error: &Error, path: &Path) -> bool {
    matches!(error, Error::Damaged { file, .. } if file == path)
}
