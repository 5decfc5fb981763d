//! No code of a library runs that was not asked for: not by a value that looks like a flag, not in
//! the place of what was hashed, not from a file that is no library.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use crate::support::{demo_folder, error_text, fixture, plugin, program};

/// A folder with one library in it, and the program told of it.
struct Place {
    folder: tempfile::TempDir,
}

impl Place {
    /// A user's folder of plugins with a file of these bytes.
    fn new(name: &str, bytes: &[u8]) -> Self {
        let place = Self { folder: tempfile::tempdir().unwrap() };
        fs::create_dir_all(place.plugins()).unwrap();
        fs::write(place.plugins().join(name), bytes).unwrap();
        place
    }

    /// Such a folder with a copy of a library.
    fn of(library: &Path) -> Self {
        Self::new("libcopy.so", &fs::read(library).unwrap())
    }

    fn plugins(&self) -> PathBuf {
        self.folder.path().join("wan/plugins")
    }

    /// The program, with the folder as a standard one.
    fn wan(&self, variable: &str, arguments: &[&str]) -> Output {
        let mut command = Command::new(program());
        command.env("WAN_HOSTILE", variable).env("XDG_DATA_HOME", self.folder.path());
        command.args(arguments).current_dir(self.folder.path()).output().unwrap()
    }

    /// The program, with the folder named.
    fn named(&self, variable: &str, arguments: &[&str]) -> Output {
        let mut command = Command::new(program());
        command.env("WAN_HOSTILE", variable).args(arguments);
        command.arg("--plugin_dir").arg(self.plugins()).output().unwrap()
    }

    /// In the standard folder the file is left out with one line that says `why`, and the rest goes
    /// on; in a named one it is refused in one line.
    fn check(&self, variable: &str, why: &str) {
        self.check_with(&[], variable, why);
    }

    /// As [`check`](Self::check), with these flags.
    fn check_with(&self, flags: &[&str], variable: &str, why: &str) {
        let list = [&["plugins", "list"], flags].concat();
        let output = self.wan(variable, &list);
        let said = error_text(&output);
        assert_eq!(output.status.code(), Some(0), "{variable} {why}: {said}");
        let warnings = said.lines().filter(|line| line.contains("left out")).count();
        assert_eq!((warnings, said.lines().count()), (1, 1), "{variable}: {said}");
        assert!(said.contains(why), "{variable}: {why} in {said}");
        let listed = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(listed.contains("sampler unipc") && listed.contains("cache teacache"), "{listed}");

        let output = self.named(variable, &list);
        let said = error_text(&output);
        assert_eq!(output.status.code(), Some(5), "{variable} {why}: {said}");
        assert_eq!(said.lines().count(), 1, "{variable}: {said}");
        assert!(said.contains(why) && said.starts_with("wan: "), "{variable}: {said}");
    }
}

#[test]
fn a_value_that_looks_like_a_flag_opens_nothing() {
    // A library that cannot be used: the command would say so if it were opened.
    let place = Place::of(&fixture("not_a_plugin"));
    let flag = format!("--plugin_dir={}", place.plugins().display());
    let demo = demo_folder().display().to_string();
    for arguments in [
        &["generate", "--prompt", &flag][..],
        &["generate", "--save_file", &flag],
        &["generate", "--mine", &flag, "--frame_num", "many"],
        &["cache", "plan", "--sampler_option", &flag],
        &["inspect", &demo, "--mine", &flag],
    ] {
        let mut command = Command::new(program());
        let output = command.args(arguments).output().unwrap();
        let said = error_text(&output);
        assert_eq!(output.status.code(), Some(2), "{arguments:?}: {said}");
        assert!(!said.contains("libcopy"), "{arguments:?}: {said}");
    }
}

#[test]
fn a_library_that_is_not_whole_is_refused_before_it_is_opened() {
    let bytes = fs::read(plugin("easycache")).unwrap();
    for len in [bytes.len() - 1, bytes.len() / 2, 100_000, 64] {
        Place::new("libhalf.so", &bytes[..len]).check("", "libhalf.so: is cut short or damaged");
    }
    Place::new("libtext.so", b"no library").check("", "is not a library that can be loaded");
    Place::new("libempty.so", b"").check("", "is not a library that can be loaded");
}

#[cfg(unix)]
#[test]
fn a_pipe_in_the_place_of_a_library_is_not_waited_for() {
    let place = Place::new("libpipe.so", b"");
    let pipe = place.plugins().join("libpipe.so");
    fs::remove_file(&pipe).unwrap();
    assert!(Command::new("mkfifo").arg(&pipe).status().unwrap().success());
    place.check("", "libpipe.so: is no file");
}

#[cfg(unix)]
#[test]
fn a_library_that_ends_or_holds_up_its_process_when_it_is_opened_is_as_one_that_is_refused() {
    let place = Place::of(&fixture("hostile"));
    #[cfg(target_os = "linux")]
    place.check("aborts when opened", "ended the process in the middle of its work (signal: 6");
    let exits = "ended the process in the middle of its work (exit status: 0)";
    place.check("exits when described", exits);
    let short = ["--plugin_timeout", "0.5"];
    let hangs = "one call has taken more than 0.5 s of its own time: an endless loop, or \
                 --plugin_timeout is too short";
    place.check_with(&short, "hangs when described", hangs);

    // Each of several is left out once, with one warning, and the work is done.
    fs::copy(fixture("hostile"), place.plugins().join("libsecond.so")).unwrap();
    fs::write(place.plugins().join("liba.so"), b"no library").unwrap();
    let flags = ["--frame_num", "5", "--sample_steps", "1", "--save_file", "out.mp4"];
    let generate = [&["generate", "--progress", "quiet", "--cache", "none"], &flags[..]].concat();
    let output = place.wan("exits when described", &generate);
    let said = error_text(&output);
    assert_eq!(output.status.code(), Some(0), "{said}");
    for name in ["liba.so: ", "libcopy.so: ", "libsecond.so: "] {
        let lines = said.lines().filter(|line| line.contains(name) && line.contains("left out"));
        assert_eq!(lines.count(), 1, "{name}: {said}");
    }
    assert_eq!(said.lines().count(), 3, "{said}");
    assert!(place.folder.path().join("out.mp4").exists());
}

#[test]
fn a_flag_of_the_program_is_no_strategys() {
    let place = Place::of(&fixture("hostile"));
    for flag in ["prompt", "seed", "plugin_dir", "json", "help", "version", "plugin_timeout"] {
        place.check(&format!("flag {flag}"), "which is the program's own");
    }
    for flag in ["my-flag", "", "a b", "a=b", "\u{1b}[2J", "ä"] {
        place.check(&format!("flag {flag}"), "lower-case letters, digits and `_`");
    }
    let output = place.wan("flag of_mine", &["generate", "--help"]);
    let help = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success() && help.contains("--of_mine"), "{help}");
}

#[test]
fn an_id_that_is_taken_is_left_out_of_a_standard_folder() {
    let place = Place::of(&fixture("strategies"));
    place.check("", "is already provided by");
}

#[cfg(target_os = "linux")]
#[test]
fn what_was_hashed_is_what_is_opened() {
    let place = Place::of(&fixture("extension"));
    let output = place.named("", &["plugins", "list", "--json"]);
    let list: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let file = place.plugins().canonicalize().unwrap().join("libcopy.so");
    let is_it = |entry: &&serde_json::Value| entry["source"]["path"] == file.to_str().unwrap();
    assert!(list.as_array().unwrap().iter().any(|entry| is_it(&entry)), "{list:#}");
    // The file itself is mapped nowhere: nobody can change it under a running program.
    let mut registry = wan_host::parts::Registry::default();
    registry.add_file(&file).unwrap();
    let maps = fs::read_to_string("/proc/self/maps").unwrap();
    assert!(maps.contains("wan-plugin") && !maps.contains("libcopy.so"), "{maps}");
}
