//! Files for tests: bytes that are opened, and refusals with their words.

use std::fs;

use crate::{Result, WeightFile};

/// Opens a file of these bytes. It stays readable when its folder is gone.
pub(crate) fn open(bytes: &[u8]) -> Result<WeightFile> {
    open_named("weights", bytes)
}

/// Opens a file of these bytes and this name.
pub(crate) fn open_named(name: &str, bytes: &[u8]) -> Result<WeightFile> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join(name);
    fs::write(&path, bytes).unwrap();
    WeightFile::open(&path)
}

/// Fails unless a file of these bytes is refused, in one line with all these words.
#[track_caller]
pub(crate) fn refused(bytes: &[u8], words: &[&str]) -> String {
    refused_named("weights", bytes, words)
}

/// As [`refused`], for a file of this name.
#[track_caller]
pub(crate) fn refused_named(name: &str, bytes: &[u8], words: &[&str]) -> String {
    let Err(error) = open_named(name, bytes) else { panic!("it was read; refused for {words:?}") };
    let text = error.to_string();
    for word in words {
        assert!(text.contains(word), "{word:?} is not in: {text}");
    }
    assert!(!text.chars().any(char::is_control), "{text:?}");
    text
}
