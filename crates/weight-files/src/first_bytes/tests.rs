//! Files that are something else.

use crate::testing::{refused, refused_named};

/// Fails if a word of another format is in the refusal.
#[track_caller]
fn lacks(text: &str, words: &[&str]) {
    for word in words {
        assert!(!text.contains(word), "{word:?} is in: {text}");
    }
}

#[test]
fn a_pointer_of_git_lfs_says_what_is_missing() {
    let pointer = "version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 5676070424\n";
    let text =
        refused(pointer.as_bytes(), &["Git LFS", "5676070424 bytes missing", "git lfs pull"]);
    lacks(&text, &["safetensors", "GGUF", "JSON"]);
    let endless = format!("version https://git-lfs\nsize {}", "9".repeat(900));
    assert!(refused(endless.as_bytes(), &["Git LFS"]).len() < 400);
}

#[test]
fn pages_and_answers_are_quoted() {
    let page = "<!DOCTYPE html>\n<html><head><title>Log in</title>";
    lacks(&refused(page.as_bytes(), &["web page", "HTML", "DOCTYPE"]), &["safetensors", "Log in"]);
    let answer = r#"{"error":"Repository not found"}"#;
    lacks(&refused(answer.as_bytes(), &["JSON", "Repository not found"]), &["safetensors"]);
    refused(b"\xef\xbb\xbf  Not Found\r\nmore", &["text that begins", "\"Not Found\""]);
    let long = format!("{}é", "x".repeat(1023));
    assert!(refused(long.as_bytes(), &["text", "x…"]).len() < 400);
}

#[test]
fn empty_files_and_zeros_are_downloads() {
    refused(b"", &["empty", "0 bytes"]);
    refused(&[0; 3], &["first 3 bytes are zeros", "has not finished"]);
    refused(&[0; 5000], &["zeros", "has not finished"]);
    refused_named("wan.safetensors.part", &[7; 40], &["by its name", "has not finished"]);
    refused_named("Unconfirmed 7.crdownload", &[7; 40], &["by its name"]);
}

#[test]
fn archives_are_to_be_unpacked() {
    lacks(&refused(b"\x1f\x8b\x08\0\0\0", &["gzip", "unpack"]), &["safetensors"]);
    refused(b"\x80\x04\x95\0", &["pickle"]);
    refused(b"tjgg\x03\0\0\0", &["before GGUF"]);
}

#[test]
fn a_header_that_the_file_does_not_hold_is_a_cut() {
    let cut = [&5000u64.to_le_bytes()[..], br#"{"a":{"dtype":"F32","#].concat();
    lacks(&refused(&cut, &["cut short", "5000 bytes", "28 bytes"]), &["GGUF"]);
    let like_gzip = [&0x8b1fu64.to_le_bytes()[..], br#"{"a":{"dtype":"F32","#].concat();
    lacks(&refused(&like_gzip, &["cut short", "35615 bytes"]), &["gzip"]);
    let huge = [&u64::MAX.to_le_bytes()[..], b"{\""].concat();
    refused(&huge, &["cut short or damaged", "18446744073709551615"]);
}

#[test]
fn anything_else_is_shown() {
    refused(&[1, 2, 255], &["3 bytes", "01 02 ff", "are read"]);
    refused(&[200; 2000], &["c8 c8", "2000 bytes"]);
}
