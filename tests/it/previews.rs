//! Pictures of runs that are under way.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use tempfile::TempDir;
use wan_host::{Cancel, Model, Request, Run, Settings};
use wan_media::{VideoFrames, psnr, read_image};

use crate::support::{
    choice, demo_model, error_text, is_round, latent_bits, program, short_request, wait_for,
    with_sampler,
};

/// A run of some rounds.
const RUN: &[&str] = &["--frame_num", "17", "--sample_steps", "8", "--cache", "none"];

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
        (output.status.code().unwrap(), error_text(&output))
    }

    fn generate(&self, flags: &[&str]) -> (i32, String) {
        self.run(&[&["generate", "--save_file", "a.mp4", "--progress", "quiet"], flags].concat())
    }
}

fn pixels(path: &Path) -> Vec<u8> {
    read_image(path).unwrap().into_raw()
}

#[test]
fn the_last_preview_shows_the_frames_of_the_video() {
    let place = Place::new();
    let flags = ["--preview", "p.png", "--contact_sheet", "sheet.png"];
    let (code, said) = place.generate(&[RUN, &flags].concat());
    assert_eq!(code, 0, "{said}");
    let [preview, sheet] = ["p.png", "sheet.png"].map(|name| pixels(&place.path(name)));
    // The latents are those that the video is decoded from, and the demo's VAE decodes them.
    assert!(preview == sheet, "{:.1} dB apart", psnr(&preview, &sheet));
    let left = fs::read_dir(place.0.path()).unwrap().count();
    assert_eq!(left, 4, "video, sidecar, sheet and preview alone");
}

#[test]
fn a_run_that_is_gone_on_with_shows_what_is_there_and_has_the_same_bits() {
    let place = Place::new();
    assert_eq!(place.generate(RUN).0, 0);
    let whole = fs::read(place.path("a.mp4")).unwrap();
    fs::remove_file(place.path("a.mp4")).unwrap();
    fs::remove_file(place.path("a.json")).unwrap();
    assert_eq!(place.generate(&[RUN, &["--preview", "p.png", "--stop_after", "2"]].concat()).0, 0);
    let early = pixels(&place.path("p.png"));
    fs::remove_file(place.path("p.png")).unwrap();
    let resume = ["resume", "a.run", "--progress", "quiet", "--preview", "p.png"];
    let (code, said) = place.run(&[&resume[..], &["--stop_after", "4"]].concat());
    assert_eq!(code, 0, "{said}");
    let late = pixels(&place.path("p.png"));
    assert_ne!(early, late);
    let (code, said) = place.run(&resume);
    assert_eq!(code, 0, "{said}");
    let last = pixels(&place.path("p.png"));
    assert!(psnr(&late, &last) > psnr(&early, &last) + 1.0);
    assert!(fs::read(place.path("a.mp4")).unwrap() == whole);
}

#[test]
fn only_previews_of_ours_are_replaced() {
    let place = Place::new();
    let short = ["--frame_num", "5", "--sample_steps", "1", "--cache", "none"];
    let preview = |path: &str| place.generate(&[&short[..], &["--preview", path]].concat());
    let (code, said) = place.generate(&[&short[..], &["--contact_sheet", "sheet.png"]].concat());
    assert_eq!(code, 0, "{said}");
    fs::write(place.path("other.png"), b"mine").unwrap();
    for (path, why) in [
        ("other.png", "did not make it"),
        ("sheet.png", "did not make it"),
        ("a.json", ".png"),
        ("no/p.png", "cannot write to"),
    ] {
        let (code, said) = preview(path);
        assert_eq!(code, 2, "{path}: {said}");
        assert!(said.contains("--preview") && said.contains(why), "{path}: {said}");
    }
    assert_eq!(fs::read(place.path("other.png")).unwrap(), b"mine");
    for _ in 0..2 {
        assert_eq!(preview("p.png"), (0, String::new()));
    }
    let image = ["--image", "p.png", "--preview", "p.png", "--overwrite"];
    let (code, said) = place.generate(&[&short[..], &image].concat());
    assert_eq!(code, 2);
    assert!(said.contains("is an input"), "{said}");
    let both = ["--contact_sheet", "new.png", "--preview", "new.png"];
    let (code, said) = place.generate(&[&short[..], &both].concat());
    assert_eq!(code, 2);
    assert!(said.contains("--contact_sheet") && said.contains("--preview"), "{said}");
}

#[test]
fn a_preview_that_cannot_be_written_is_said_once_and_stops_nothing() {
    let place = Place::new();
    fs::create_dir(place.path("sub")).unwrap();
    let own = ["generate", "--save_file", "a.mp4", "--progress", "json", "--preview", "sub/p.png"];
    let flags = ["--frame_num", "17", "--sample_steps", "40", "--cache", "none"];
    let mut command = place.command(&[&own[..], &flags].concat());
    let mut child = command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
    let lines = wait_for(&mut child, is_round(1));
    fs::rename(place.path("sub"), place.path("gone")).unwrap();
    let said = std::io::read_to_string(lines).unwrap();
    assert!(child.wait().unwrap().success(), "{said}");
    assert_eq!(said.matches("no preview").count(), 1, "{said}");
    assert!(place.path("a.mp4").exists());
}

fn begin(model: &Model, settings: &Settings) -> Run {
    let cancel = Cancel::default();
    let conditions = model.encode(settings, &cancel).unwrap();
    model.run(settings, conditions, &cancel).unwrap()
}

#[test]
fn a_glimpse_comes_closer_to_the_video_with_each_round() {
    let model = demo_model();
    let settings = model.settle(&short_request()).unwrap();
    let mut run = begin(&model, &settings);
    assert!(run.glimpse().unwrap().is_none(), "no round has drawn anything yet");
    let mut seen: Vec<VideoFrames> = Vec::new();
    while run.round().unwrap().is_some() {
        seen.push(model.preview(&run.glimpse().unwrap().unwrap()).unwrap());
    }
    let sampled = run.finish().unwrap();
    let decoding = model.decode(&settings, &sampled.latents, &Cancel::default()).unwrap();
    let frames = decoding.collect_frames().unwrap();
    // Eight of nine.
    let shown: Vec<u8> =
        [0, 1, 2, 3, 4, 5, 6, 8].iter().flat_map(|n| frames.frame(*n)).copied().collect();
    let close: Vec<f64> = seen.iter().map(|seen| psnr(seen.rgb(), &shown)).collect();
    assert!(seen.last().unwrap().rgb() == shown, "the last one is what is decoded");
    // What is predicted, and no noise.
    assert!(close[0] > 12.0, "{close:?}");
    assert!(close.is_sorted(), "{close:?}");
    assert_eq!(latent_bits(&model, &short_request()), crate::support::bits(&sampled.latents));
}

#[test]
fn a_glimpse_of_a_window_draws_no_frame_behind_it() {
    let model = demo_model();
    let options = [("base_num_frames", 9.into()), ("overlap_history", 5.into())];
    let request = Request { frame_num: Some(33), ..short_request() };
    let request = with_sampler(request, choice("diffusion-forcing", &options));
    let settings = model.settle(&request).unwrap();
    let mut run = begin(&model, &settings);
    run.round().unwrap();
    let before = run.state().unwrap().bytes();
    // Three latent frames of nine.
    assert_eq!(run.glimpse().unwrap().unwrap().dims(), [1, 16, 3, 8, 8]);
    assert_eq!(run.state().unwrap().bytes(), before);
}
