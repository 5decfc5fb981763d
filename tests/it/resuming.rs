//! A run that is stopped, however, goes on from its folder to the bits that it would have had.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use serde_json::Value;
use sha2::{Digest, Sha256};
use tempfile::TempDir;
use wan_tests::checkout::checkout;

use crate::support::{
    demo_folder, error_text, fixture, is_round, json_file, names_in, program, sidecar, signal,
    wait_for,
};

/// A short run with a cache.
const SHORT: &[&str] = &["--frame_num", "9", "--sample_steps", "6", "--base_seed", "7"];

/// The same, of more rounds than anybody waits for.
const ENDLESS: &[&str] = &["--frame_num", "9", "--sample_steps", "1000", "--cache", "none"];

/// A long video by windows, asynchronously, with a cache.
const WINDOWS: &[&str] = &[
    "--sampler=diffusion-forcing",
    "--frame_num=33",
    "--sample_steps=4",
    "--sampler_option=base_num_frames=9",
    "--sampler_option=overlap_history=5",
    "--sampler_option=ar_step=1",
    "--cache=teacache",
    "--cache_option=threshold=0.3",
];

/// A folder in which runs are begun and gone on with.
struct Place(TempDir);

impl Place {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(program());
        command.args(arguments).current_dir(self.0.path());
        command
    }

    /// Runs the program; gives its exit code and what it said.
    fn run(&self, arguments: &[&str]) -> (i32, String) {
        let output = self.command(arguments).output().unwrap();
        let said = error_text(&output) + &String::from_utf8_lossy(&output.stdout);
        (output.status.code().unwrap(), said)
    }

    fn done(&self, arguments: &[&str]) -> String {
        let (code, said) = self.run(arguments);
        assert_eq!(code, 0, "{arguments:?}: {said}");
        said
    }

    /// Generates `NAME.mp4`.
    fn generate(&self, name: &str, flags: &[&str]) {
        let own = ["generate", "--progress", "quiet", "--save_file", name];
        self.done(&[&own, flags].concat());
    }

    /// Begins a run that says each round on its error stream.
    fn begin(&self, name: &str, flags: &[&str]) -> Child {
        let own = ["generate", "--progress", "json", "--save_file", name];
        let mut command = self.command(&[&own, flags].concat());
        command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap()
    }

    /// Goes on with a run.
    fn resume(&self, name: &str) -> String {
        self.done(&["resume", "--progress", "quiet", name])
    }

    /// Checks that two videos and what is known of them are the same, but for times.
    fn check_equal(&self, a: &str, b: &str) {
        let bytes = [a, b].map(|name| fs::read(self.path(&format!("{name}.mp4"))).unwrap());
        assert!(bytes[0] == bytes[1], "{a}.mp4 and {b}.mp4 differ");
        let [a, b] = [a, b].map(|name| but_for_times(sidecar(&self.path(&format!("{name}.mp4")))));
        assert_eq!(a, b);
    }

    fn runs(&self) -> Vec<Value> {
        let text = self.done(&["runs", "--json"]);
        serde_json::from_str::<Vec<Value>>(&text).unwrap()
    }

    /// Files of a run's folder whose names begin so.
    fn files_of(&self, run: &str, begin: &str) -> Vec<PathBuf> {
        let names = names_in(&self.path(run));
        names.iter().filter(|n| n.starts_with(begin)).map(|n| self.path(run).join(n)).collect()
    }
}

/// A sidecar without what two equal runs do not have in common.
fn but_for_times(mut sidecar: Value) -> Value {
    sidecar["phases"] = Value::Null;
    sidecar["memory"]["peak_resident_bytes"] = Value::Null;
    sidecar
}

#[test]
fn a_run_that_was_stopped_as_asked_goes_on_as_if_nothing_had_been() {
    let place = Place::new();
    for (name, flags) in [("short", SHORT), ("windows", WINDOWS)] {
        place.generate(&format!("{name}.mp4"), flags);
        let other = format!("{name}-2");
        let said = place.done(
            &[&["generate", "--save_file", &format!("{other}.mp4"), "--stop_after", "3"], flags]
                .concat(),
        );
        assert!(said.contains(&format!("wan resume {other}.run")), "{said}");
        assert!(!place.path(&format!("{other}.mp4")).exists());
        // Once more on the way.
        let again = ["resume", "--stop_after", "2", &format!("{other}.run")];
        place.done(&again);
        assert_eq!(place.runs()[0]["done"], 5);
        place.resume(&format!("{other}.run/"));
        place.check_equal(name, &other);
        assert!(!place.path(&format!("{other}.run")).exists(), "the folder goes with the run");
    }
}

#[test]
fn what_a_run_was_begun_with_is_there_at_its_end() {
    let place = Place::new();
    let flags = ["--keep_latents", "--contact_sheet", "sheet.png", "--cache_report"];
    place.generate("a.mp4", &[WINDOWS, &flags].concat());
    let (sheet, latents) = (place.path("sheet.png"), "latents.safetensors");
    let first = fs::read(&sheet).unwrap();
    fs::remove_file(&sheet).unwrap();
    place.generate("b.mp4", &[WINDOWS, &flags, &["--stop_after", "7"]].concat());
    assert!(!sheet.exists());
    let said = place.resume("b.run");
    assert!(said.contains("cache report"), "{said}");
    place.check_equal("a", "b");
    assert_eq!(fs::read(&sheet).unwrap(), first);
    let hash = |name: &str| {
        let bytes = fs::read(place.path(&format!("{name}.{latents}"))).unwrap();
        let length = usize::try_from(u64::from_le_bytes(bytes[..8].try_into().unwrap())).unwrap();
        Sha256::digest(&bytes[8 + length..])
    };
    assert_eq!(hash("a"), hash("b"));
}

#[test]
fn signals_stop_within_a_round_and_nothing_of_it_is_kept() {
    let place = Place::new();
    place.generate("whole.mp4", WINDOWS);
    for (name, code) in [("INT", 130), ("TERM", 143), ("HUP", 129)] {
        let mut child = place.begin("a.mp4", WINDOWS);
        let lines = wait_for(&mut child, is_round(3));
        signal(&child, &format!("-{name}"));
        let said: String = std::io::read_to_string(lines).unwrap();
        assert_eq!(child.wait().unwrap().code(), Some(code), "{said}");
        assert!(said.contains("wan resume a.run"), "{name}: {said}");
        let names = names_in(place.0.path());
        assert_eq!(names.into_iter().collect::<Vec<_>>(), ["a.run", "whole.json", "whole.mp4"]);
        let done = place.runs()[0]["done"].as_u64().unwrap();
        assert!(done >= 3, "{name}: {done}");
        place.resume("a.run");
        place.check_equal("whole", "a");
        fs::remove_file(place.path("a.mp4")).unwrap();
        fs::remove_file(place.path("a.json")).unwrap();
    }
}

#[test]
fn a_run_that_is_killed_while_it_decodes_goes_on_at_a_segments_start() {
    let place = Place::new();
    let flags = ["--frame_num", "65", "--sample_steps", "2", "--cache", "none"];
    place.generate("whole.mp4", &flags);
    let mut child = place.begin("a.mp4", &[&flags[..], &["--checkpoint_every", "round"]].concat());
    // Segments of 32 frames: the first is whole after 9 latent frames.
    drop(wait_for(&mut child, |line| line["phase"] == "decode" && line["done"] == 12));
    child.kill().unwrap();
    child.wait().unwrap();
    let names = names_in(place.0.path());
    assert_eq!(names.into_iter().collect::<Vec<_>>(), ["a.run", "whole.json", "whole.mp4"]);
    assert_eq!(place.runs()[0]["done"], 2);
    let growing = fs::metadata(&place.files_of("a.run", "growing-video")[0]).unwrap();
    assert!(growing.len() > 1000, "a segment is there");
    place.resume("a.run");
    place.check_equal("whole", "a");
}

#[test]
fn a_run_that_has_all_its_rounds_and_its_whole_video_goes_on_too() {
    let place = Place::new();
    let flags = ["--frame_num", "41", "--sample_steps", "2", "--cache", "none"];
    place.generate("whole.mp4", &flags);
    place.generate("a.mp4", &[&flags[..], &["--checkpoint_every=round", "--keep_run"]].concat());
    place.resume("a.run");
    place.check_equal("whole", "a");
    assert!(place.files_of("a.run", "recipe").len() == 1, "it is to stay");
}

#[test]
fn a_damaged_checkpoint_is_passed_over_and_said() {
    let place = Place::new();
    let flags = [WINDOWS, &["--checkpoint_every", "round"]].concat();
    place.generate("whole.mp4", &flags);
    place.generate("a.mp4", &[&flags[..], &["--stop_after", "5"]].concat());
    let newest = place.files_of("a.run", "round-").pop().unwrap();
    let mut bytes = fs::read(&newest).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(&newest, bytes).unwrap();
    let said = place.resume("a.run");
    assert!(said.contains("round-000005") && said.contains("the checkpoint before it"), "{said}");
    place.check_equal("whole", "a");

    // Where none is whole nothing is made up.
    place.generate("b.mp4", &[&flags[..], &["--stop_after", "5"]].concat());
    for file in place.files_of("b.run", "round-") {
        fs::write(file, b"x").unwrap();
    }
    let (code, said) = place.run(&["resume", "b.run"]);
    assert_eq!(code, 2);
    assert!(said.contains("no checkpoint is whole"), "{said}");
}

/// Changes the recipe of a run, whose file has its hash in its name.
fn change_recipe(place: &Place, run: &str, change: impl Fn(&mut Value)) {
    let old = place.files_of(run, "recipe.").pop().unwrap();
    let mut recipe = json_file(&old);
    change(&mut recipe["recipe"]);
    let text = format!("{{\"version\":1,\"recipe\":{}}}", recipe["recipe"]);
    let name = format!("recipe.{}.json", hex::encode(Sha256::digest(&text)));
    fs::remove_file(old).unwrap();
    fs::write(place.path(run).join(name), text).unwrap();
}

#[test]
fn what_has_changed_since_is_refused_by_name_and_said_in_the_sidecar() {
    let place = Place::new();
    place.generate("a.mp4", &[SHORT, &["--stop_after", "2"]].concat());
    type Change = fn(&mut Value);
    let changes: [(&str, Change); 5] = [
        ("is another build", |r| r["program"]["hash"] = "0".into()),
        ("wan 0.0.1 is now", |r| {
            r["sidecar"]["wan"] = "0.0.1".into();
            r["program"]["version"] = "0.0.1".into();
        }),
        ("the processor has", |r| r["processor"] = serde_json::json!(["z80"])),
        ("it was computed on", |r| r["sidecar"]["device"] = "cuda:0 a GPU".into()),
        ("the weights in", |r| r["sidecar"]["model"]["fingerprint"] = "0".into()),
    ];
    for (expected, change) in changes {
        change_recipe(&place, "a.run", change);
        let (code, said) = place.run(&["resume", "a.run"]);
        assert_eq!(code, 2, "{expected}: {said}");
        assert!(said.contains(expected) && said.contains("--allow_changes"), "{expected}: {said}");
    }
    let said = place.done(&["resume", "a.run", "--allow_changes", "--stop_after", "1"]);
    assert!(said.contains("since the run was begun"), "{said}");
    // Allowed once, it need not be said again.
    place.resume("a.run");
    let resumed_with = sidecar(&place.path("a.mp4"))["resumed_with"].clone();
    assert_eq!(resumed_with.as_array().unwrap().len(), 4, "{resumed_with}");
}

/// The folder that the first version of the format had, frozen.
#[test]
fn a_run_of_an_earlier_version_is_listed_and_ended() {
    let place = Place::new();
    copy_folder(&checkout().join("tests/fixtures/runs/v1.run"), &place.path("v1.run"));
    let runs = place.runs();
    assert_eq!((&runs[0]["done"], &runs[0]["rounds"]), (&3.into(), &4.into()));
    assert_eq!(runs[0]["damage"], serde_json::json!([]));
    let demo = demo_folder();
    let flags = ["--ckpt_dir", demo.to_str().unwrap()];
    let (code, said) = place.run(&[&["resume", "v1.run"][..], &flags].concat());
    assert!(code == 2 && said.contains("--allow_changes"), "{said}");
    place.done(&[&["resume", "v1.run", "--allow_changes"][..], &flags].concat());
    let video = place.path("v1.mp4");
    assert_eq!(crate::demo::play(&video).frames, 5);
    assert!(!sidecar(&video)["resumed_with"].as_array().unwrap().is_empty());
}

#[test]
fn unfinished_runs_are_listed_and_given_up() {
    let place = Place::new();
    assert!(place.done(&["runs"]).contains("no unfinished run"));
    place.generate("a.mp4", &[SHORT, &["--stop_after", "2"]].concat());
    let said = place.done(&["runs"]);
    assert!(said.contains("a.run: 2 of 6 rounds done") && said.contains("a big red"), "{said}");
    // A name is not taken twice.
    let (code, said) = place.run(&[&["generate", "--save_file", "a.mp4"], SHORT].concat());
    assert_eq!(code, 2);
    assert!(said.contains("a.run is an unfinished run"), "{said}");
    // One that is worked on is left alone.
    let mut child = place.begin("b.mp4", ENDLESS);
    drop(wait_for(&mut child, is_round(1)));
    let runs = place.runs();
    let of_b = runs.iter().find(|run| run["path"] == "./b.run").unwrap();
    assert_eq!(
        (&of_b["worked_on"], of_b["process"].as_u64()),
        (&true.into(), Some(child.id().into()))
    );
    for command in [&["resume", "b.run"][..], &["runs", "--remove", "b.run"]] {
        let (code, said) = place.run(command);
        assert_eq!(code, 2, "{said}");
        assert!(said.contains(&format!("process {}", child.id())), "{said}");
    }
    child.kill().unwrap();
    child.wait().unwrap();
    for run in ["a.run", "b.run"] {
        assert!(place.done(&["runs", "--remove", run]).contains("removed"));
    }
    assert!(names_in(place.0.path()).is_empty());
    let (code, said) = place.run(&["resume", "a.run"]);
    assert_eq!(code, 2, "{said}");
}

#[test]
fn a_strategy_without_state_is_named_once_and_may_be_refused() {
    let place = Place::new();
    let (plugins, library) = (place.path("plugins"), fixture("spy"));
    fs::create_dir(&plugins).unwrap();
    fs::copy(&library, plugins.join(library.file_name().unwrap())).unwrap();
    let flags = ["--cache", "spy", "--plugin_dir", "plugins"];
    let flags = [SHORT, &flags].concat();
    let generate = |more: &[&str]| {
        place.run(&[&["generate", "--save_file", "a.mp4"], &flags[..], more].concat())
    };
    for more in [&["--require_resume"][..], &["--stop_after", "1"]] {
        let (code, said) = generate(more);
        assert_eq!(code, 2, "{said}");
        assert!(said.contains("spy does not answer wan.state/1"), "{said}");
        assert_eq!(names_in(place.0.path()).len(), 1);
    }
    let (code, said) = generate(&[]);
    assert_eq!((code, said.matches("wan.state/1").count()), (0, 1), "{said}");
}

#[test]
fn a_run_without_checkpoints_leaves_nothing_where_it_is_given_up() {
    let place = Place::new();
    let flags = [ENDLESS, &["--checkpoint_every", "never"]].concat();
    let mut child = place.begin("a.mp4", &flags);
    let lines = wait_for(&mut child, is_round(2));
    signal(&child, "-INT");
    drop(std::io::read_to_string(lines).unwrap());
    assert_eq!(child.wait().unwrap().code(), Some(130));
    assert!(names_in(place.0.path()).is_empty());
    let (code, said) = place.run(
        &[
            &["generate", "--save_file", "a.mp4", "--checkpoint_every", "0", "--stop_after", "1"],
            SHORT,
        ]
        .concat(),
    );
    assert_eq!(code, 2);
    assert!(said.contains("--checkpoint_every"), "{said}");
}

#[test]
fn a_second_process_goes_on_with_the_same_model_folder_elsewhere() {
    let place = Place::new();
    let model = place.path("model");
    copy_folder(&demo_folder(), &model);
    let named = ["--ckpt_dir", model.to_str().unwrap()];
    place.generate("whole.mp4", &[SHORT, &named].concat());
    place.generate("a.mp4", &[SHORT, &named, &["--stop_after", "2"]].concat());
    let moved = place.path("moved");
    fs::rename(&model, &moved).unwrap();
    let (code, said) = place.run(&["resume", "a.run"]);
    assert_eq!(code, 2, "{said}");
    place.done(&["resume", "a.run", "--ckpt_dir", moved.to_str().unwrap()]);
    let bytes = ["whole.mp4", "a.mp4"].map(|name| place.path(name));
    assert_eq!(play_bytes(&bytes[0]), play_bytes(&bytes[1]));
}

fn play_bytes(path: &Path) -> Vec<u8> {
    crate::demo::play(path).rgb
}

fn copy_folder(from: &Path, to: &Path) {
    fs::create_dir(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        match entry.file_type().unwrap().is_dir() {
            true => copy_folder(&entry.path(), &target),
            false => drop(fs::copy(entry.path(), target).unwrap()),
        }
    }
}
