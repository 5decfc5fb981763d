//! A disk that is full, or fills up while a run goes on: exit code 4 where something does not fit,
//! nothing partial under a final name, and what was computed is kept and named.
#![cfg(target_os = "linux")]

use std::fs;
use std::io::Write;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use tempfile::TempDir;

use crate::faults::check_whole;
use crate::support::{error_text, names_in, program, wait_for};

/// A file system of its own, of so many KiB.
struct Disk(TempDir);

impl Disk {
    /// None, with a word, where this user cannot mount one.
    fn of(kib: u64) -> Option<Self> {
        let folder = tempfile::tempdir().unwrap();
        let size = format!("size={kib}k");
        let mount = ["-t", "tmpfs", "-o", &size, "tmpfs"];
        let mounted = Command::new("mount").args(mount).arg(folder.path()).output();
        if mounted.is_ok_and(|output| output.status.success()) {
            return Some(Self(folder));
        }
        eprintln!("skipped: this user cannot mount a tmpfs");
        None
    }

    fn path(&self) -> &Path {
        self.0.path()
    }

    fn generate(&self, flags: &[&str]) -> Command {
        let mut command = Command::new(program());
        command.args(["generate", "--save_file", "out.mp4", "--cache", "none"]);
        command.args(["--progress", "json"]).args(flags).current_dir(self.path());
        command
    }

    /// Generates, and fills the disk once the first round is done.
    fn generate_and_fill(&self, flags: &[&str]) -> (i32, String) {
        let mut command = self.generate(flags);
        let mut child = command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
        let lines = wait_for(&mut child, |line| line["done"].as_u64() >= Some(1));
        let mut file = fs::File::create(self.path().join("filler")).unwrap();
        while file.write_all(&[1; 1024]).is_ok() {}
        let said = std::io::read_to_string(lines).unwrap();
        let status = child.wait().unwrap();
        let output = Output { status, stdout: Vec::new(), stderr: said.into_bytes() };
        self.judge(&output, &format!("{flags:?}"))
    }

    /// Exit code and words; whatever has a final name is whole.
    fn judge(&self, output: &Output, about: &str) -> (i32, String) {
        let said = error_text(output);
        let code = output.status.code();
        assert!(matches!(code, Some(0 | 4)), "{about}: {code:?}: {said}");
        assert!(!said.contains("panicked"), "{about}: {said}");
        let own = |name: &&String| !["filler", "out.run"].contains(&name.as_str());
        for name in names_in(self.path()).iter().filter(own) {
            assert!(!name.starts_with('.'), "{about}: {name} is left: {said}");
            check_whole(&self.path().join(name), about);
        }
        (code.unwrap(), said)
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(self.path()).status();
    }
}

const ALL: [&str; 3] = ["--keep_latents", "--contact_sheet", "sheet.png"];
const SMALL: [&str; 4] = ["--frame_num", "5", "--sample_steps", "2"];

#[test]
fn what_does_not_fit_is_refused_before_work_and_the_rest_is_kept() {
    let mut codes = Vec::new();
    for kib in [4, 64, 280, 560, 640, 1024] {
        let Some(disk) = Disk::of(kib) else { return };
        let output = disk.generate(&[&SMALL[..], &ALL].concat()).output().unwrap();
        let (code, said) = disk.judge(&output, &format!("{kib} KiB"));
        codes.push(code);
        if code == 4 {
            // Nothing was computed.
            let is_full = said.contains("bytes, and") || said.contains("No space left");
            assert!(is_full && !said.contains("\"phase\":\"denoise\""), "{kib}: {said}");
            assert_eq!(names_in(disk.path()).len(), 0, "{kib}: {said}");
        } else {
            assert_eq!(names_in(disk.path()).len(), 4, "{kib}: {said}");
        }
    }
    assert!(codes.first() == Some(&4) && codes.last() == Some(&0), "{codes:?}");
}

#[test]
fn a_disk_that_fills_up_during_a_run_takes_nothing_that_was_computed() {
    for (flags, files) in [
        (&ALL[..], &["out.json", "out.latents.safetensors", "out.mp4", "sheet.png"][..]),
        (&["--latents_only"], &["out.latents.safetensors"]),
    ] {
        let Some(disk) = Disk::of(4096) else { return };
        let long = ["--frame_num", "5", "--sample_steps", "60"];
        let (code, said) = disk.generate_and_fill(&[&long[..], flags].concat());
        // Room was taken for all of them at the beginning.
        assert_eq!(code, 0, "{said}");
        let mut names = names_in(disk.path());
        assert!(names.remove("filler"));
        assert!(names.iter().eq(files), "{names:?}");
    }
}

#[test]
fn a_recording_that_does_not_fit_is_refused_before_the_run() {
    let Some(disk) = Disk::of(200) else { return };
    let mut command = Command::new(program());
    command.args(["cache", "record", "--out", "out.safetensors", "--progress", "json"]);
    let output = command.args(SMALL).current_dir(disk.path()).output().unwrap();
    let (code, said) = disk.judge(&output, "a recording");
    assert_eq!(code, 4, "{said}");
    assert!(said.contains("--out") && !said.contains("\"phase\""), "{said}");
    assert!(names_in(disk.path()).is_empty(), "{said}");
}
