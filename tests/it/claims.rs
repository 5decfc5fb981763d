//! Files are claimed before the work: what is not to be written is refused before anything is
//! computed, nobody else's file is replaced, and two runs never write one.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};

use crate::demo::play;
use crate::support::{demo_folder, error_text, names_in, program, signal, wait_for};

/// Flags of a short run.
const SHORT: [&str; 8] =
    ["--frame_num", "5", "--sample_steps", "2", "--cache", "none", "--progress", "json"];

/// A folder that commands run in, so that names are bare.
struct Place(tempfile::TempDir);

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

    fn wan(&self, arguments: &[&str]) -> Output {
        self.command(arguments).output().unwrap()
    }

    fn generate(&self, flags: &[&str]) -> Output {
        self.wan(&[&["generate"][..], &SHORT, flags].concat())
    }

    fn makes(&self, flags: &[&str]) -> Output {
        let output = self.generate(flags);
        assert_eq!(output.status.code(), Some(0), "{flags:?}: {}", error_text(&output));
        output
    }

    /// The command ends with 2 before anything is computed, its words have all of these, and the
    /// folder is as it was.
    fn refuses(&self, arguments: &[&str], words: &[&str]) {
        let before = self.files();
        let output = self.wan(arguments);
        let said = error_text(&output);
        assert_eq!(output.status.code(), Some(2), "{arguments:?}: {said}");
        assert!(!said.contains("denoise"), "{arguments:?}: refused after the work: {said}");
        for word in words {
            assert!(said.contains(word), "{arguments:?}: no {word}: {said}");
        }
        assert!(self.files() == before, "{arguments:?}: the folder has changed");
    }

    fn refuses_to_generate(&self, flags: &[&str], words: &[&str]) {
        self.refuses(&[&["generate"][..], &SHORT, flags].concat(), words);
    }

    /// All files with what they hold.
    fn files(&self) -> Vec<(String, Option<Vec<u8>>)> {
        let read = |name: String| {
            let path = self.path(&name);
            let is_file = path.symlink_metadata().unwrap().is_file();
            (name, is_file.then(|| fs::read(path).unwrap()))
        };
        names_in(self.0.path()).into_iter().map(read).collect()
    }
}

fn picture(path: &Path) {
    image::RgbImage::from_fn(64, 64, |x, y| image::Rgb([x as u8, y as u8, 9])).save(path).unwrap();
}

#[test]
fn a_name_that_no_file_system_takes_is_shortened_or_refused() {
    let place = Place::new();
    place.makes(&["--prompt", &"长".repeat(300)]);
    let names = names_in(place.0.path());
    assert!(names.iter().all(|name| name.len() < 200 && name.contains('长')), "{names:?}");
    let stem = "x".repeat(247);
    let long = format!("{stem}.mp4");
    for (flags, field) in [
        (vec!["--save_file", long.as_str()], "--save_file"),
        (vec!["--save_file", "a.mp4", "--contact_sheet", long.as_str()], "--contact_sheet"),
    ] {
        place.refuses_to_generate(&flags, &[field, "bytes too long"]);
    }
    // The latents have the longest name.
    let long = format!("{}.mp4", "x".repeat(240));
    let flags = ["--save_file", &long, "--keep_latents"];
    place.refuses_to_generate(&flags, &["--save_file", "latents.safetensors"]);
    let long = format!("{stem}.safetensors");
    let record = [&["cache", "record"][..], &SHORT, &["--out", &long]].concat();
    place.refuses(&record, &["--out", "bytes too long"]);
}

#[test]
fn what_is_no_ordinary_file_is_never_replaced() {
    let place = Place::new();
    let make = |kind: &str, path: &Path| match kind {
        "a folder" => fs::create_dir(path).unwrap(),
        "a link to" => symlink("/nowhere", path).unwrap(),
        _ => {
            let made = Command::new("mkfifo").arg(path).status().unwrap();
            assert!(made.success());
        }
    };
    for kind in ["a folder", "a link to", "a device or pipe"] {
        for (taken, flags) in [
            ("out.mp4", vec![]),
            ("out.json", vec![]),
            ("out.latents.safetensors", vec!["--keep_latents"]),
            ("sheet.png", vec!["--contact_sheet", "sheet.png"]),
            ("out.mp4", vec!["--overwrite"]),
        ] {
            make(kind, &place.path(taken));
            let save = ["--save_file", "out.mp4"];
            place.refuses_to_generate(&[&save[..], &flags].concat(), &[kind, taken]);
            let path = place.path(taken);
            if path.is_dir() { fs::remove_dir(path) } else { fs::remove_file(path) }.unwrap();
        }
    }
    place.refuses_to_generate(&["--save_file", "no/out.mp4"], &["--save_file", "cannot write to"]);
    let sheet = ["--save_file", "out.mp4", "--contact_sheet", "no/sheet.png"];
    place.refuses_to_generate(&sheet, &["--contact_sheet", "cannot write to"]);
}

#[test]
fn files_of_others_stay_unless_they_may_be_overwritten() {
    let place = Place::new();
    let save = ["--save_file", "out.mp4"];
    for (foreign, flags, field) in [
        ("out.mp4", vec![], "--save_file"),
        ("out.json", vec![], "--save_file"),
        ("out.latents.safetensors", vec!["--keep_latents"], "--save_file"),
        ("sheet.png", vec!["--contact_sheet", "sheet.png"], "--contact_sheet"),
    ] {
        fs::write(place.path(foreign), "{\"mine\": 1}").unwrap();
        let flags = [&save[..], &flags].concat();
        place.refuses_to_generate(&flags, &[field, foreign, "--overwrite"]);
        place.makes(&[&flags[..], &["--overwrite"]].concat());
        // What this program made may be made again.
        place.makes(&flags);
        names_in(place.0.path()).iter().for_each(|name| {
            fs::remove_file(place.path(name)).unwrap();
        });
    }
    // The latents that a run needs for a while take another name.
    fs::write(place.path("out.latents.safetensors"), "mine").unwrap();
    place.makes(&save);
    assert_eq!(fs::read(place.path("out.latents.safetensors")).unwrap(), b"mine");
    fs::set_permissions(place.path("out.mp4"), fs::Permissions::from_mode(0o444)).unwrap();
    place.refuses_to_generate(&save, &["--save_file", "read-only"]);

    for (arguments, name) in [
        ([&["cache", "record"][..], &SHORT, &["--out", "r.safetensors"]].concat(), "r.safetensors"),
        (vec!["cache", "calibrate", "x.safetensors", "--out", "c.json"], "c.json"),
    ] {
        fs::write(place.path(name), "mine").unwrap();
        place.refuses(&arguments, &["--out", name, "--overwrite"]);
    }
    fs::create_dir_all(place.path("report")).unwrap();
    fs::write(place.path("report/report.html"), "mine").unwrap();
    let short = &SHORT[..4];
    let compare = ["cache", "compare", "--candidate", "steps=1", "--out", "report"];
    place.refuses(&[&compare[..], short].concat(), &["--out", "report.html", "--overwrite"]);
    fs::create_dir(place.path("my-sampler")).unwrap();
    place.refuses(&["plugins", "new", "sampler", "my-sampler"], &["my-sampler", "--path"]);
}

#[test]
fn an_input_is_never_written_to_by_whatever_name() {
    let place = Place::new();
    picture(&place.path("p.png"));
    place.makes(&["--save_file", "clip.mp4"]);
    let end = ["--sampler_option", "end_step=1", "--latents_only", "--save_file", "first.mp4"];
    place.makes(&end);
    fs::hard_link(place.path("p.png"), place.path("same.png")).unwrap();
    fs::hard_link(place.path("clip.mp4"), place.path("same.mp4")).unwrap();
    fs::write(place.path("job.json"), r#"{"image": "p.png"}"#).unwrap();
    let save = ["--overwrite", "--save_file"];
    let latents = ["--sampler_option", "start_step=1", "--latents", "first.latents.safetensors"];
    for (flags, written) in [
        (vec!["out.mp4", "--image", "p.png", "--contact_sheet", "p.png"], "p.png"),
        (vec!["out.mp4", "--image", "p.png", "--contact_sheet", "same.png"], "same.png"),
        (vec!["out.mp4", "--job", "job.json", "--contact_sheet", "p.png"], "p.png"),
        (vec!["job.mp4", "--job", "job.json"], "job.json"),
        (vec!["clip.mp4", "--video", "clip.mp4", "--context_frames", "1"], "clip.mp4"),
        (vec!["same.mp4", "--video", "clip.mp4", "--context_frames", "1"], "same.mp4"),
        ([&["first.mp4", "--latents_only"][..], &latents].concat(), "first.latents"),
        ([&["first.mp4", "--keep_latents"][..], &latents].concat(), "first.latents"),
    ] {
        place.refuses_to_generate(&[&save[..], &flags].concat(), &[written, "input"]);
    }
    let same = ["out.mp4", "--contact_sheet", "out.mp4"];
    place.refuses_to_generate(&[&save[..], &same].concat(), &["--contact_sheet", "--save_file"]);
    // Under the natural names: what is read stays where it is.
    let before = fs::read(place.path("first.latents.safetensors")).unwrap();
    place.makes(&[&["--save_file", "first.mp4"][..], &latents].concat());
    assert_eq!(fs::read(place.path("first.latents.safetensors")).unwrap(), before);
    assert!(play(&place.path("first.mp4")).frames == 5);
}

#[test]
fn a_second_run_takes_the_next_default_name() {
    let place = Place::new();
    let prompt = ["--prompt", "a big red ball", "--base_seed", "7"];
    place.makes(&prompt);
    place.makes(&prompt);
    let ends = ["_7.mp4", "_7.json", "_7-2.mp4", "_7-2.json"];
    let expected = ends.map(|end| format!("a-big-red-ball{end}"));
    assert_eq!(names_in(place.0.path()), expected.into());
    place.makes(&[&["--keep_latents", "--save_file", "out.mp4"][..], &prompt].concat());
    let decode = ["decode", "out.latents.safetensors", "--progress", "quiet"];
    assert_eq!(place.wan(&decode).status.code(), Some(0));
    assert!(place.path("out-2.mp4").exists(), "{:?}", names_in(place.0.path()));
}

/// A run that goes on until it is stopped, with what it claimed.
fn endless(place: &Place, flags: &[&str]) -> Child {
    let arguments = ["generate", "--frame_num", "33", "--sample_steps", "1000", "--cache", "none"];
    let mut command = place.command(&[&arguments[..], &["--progress", "json"], flags].concat());
    let mut child = command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
    let _lines = wait_for(&mut child, |line| line["done"].as_u64() >= Some(1));
    child
}

#[test]
fn of_two_runs_into_one_name_the_second_is_refused_and_told_by_whom() {
    let place = Place::new();
    let mut first = endless(&place, &["--save_file", "out.mp4"]);
    let process = first.id().to_string();
    let output = place.generate(&["--save_file", "out.mp4"]);
    let said = error_text(&output);
    assert_eq!(output.status.code(), Some(2), "{said}");
    assert!(said.contains("--save_file"), "{said}");
    assert!(said.contains(&format!("process {process} works on this run")), "{said}");
    let mut unnamed = endless(&place, &["--prompt", "a ball"]);
    place.makes(&["--prompt", "a ball"]);
    assert!(place.path("a-ball_42-2.mp4").exists(), "{:?}", names_in(place.0.path()));

    // What a killed run leaves of no use is taken over; what a stopped one leaves can be gone on with.
    signal(&first, "-KILL");
    first.wait().unwrap();
    let left = names_in(place.0.path());
    assert!(left.contains("out.run") && !left.contains("out.mp4"), "{left:?}");
    assert!(left.iter().all(|name| !name.ends_with(".part")), "{left:?}");
    place.makes(&["--save_file", "out.mp4"]);
    signal(&unnamed, "-INT");
    unnamed.wait().unwrap();
    let left = names_in(place.0.path());
    assert!(left.iter().all(|name| !name.ends_with(".part")), "{left:?}");
    assert!(left.contains("a-ball_42.run"), "{left:?}");
}

#[test]
fn a_folder_whose_name_is_no_text_is_as_good_as_any() {
    use std::os::unix::ffi::OsStrExt;
    let place = Place::new();
    let odd = place.0.path().join(std::ffi::OsStr::from_bytes(b"m\xff"));
    let copied = Command::new("cp").arg("-r").arg(demo_folder()).arg(&odd).status().unwrap();
    assert!(copied.success());
    let mut command = place.command(&[&["generate"][..], &SHORT].concat());
    let output = command.arg("--ckpt_dir").arg(&odd).args(["--save_file", "x.mp4"]).output();
    let output = output.unwrap();
    assert_eq!(output.status.code(), Some(0), "{}", error_text(&output));
    assert!(place.path("x.mp4").exists() && place.path("x.json").exists());
}
