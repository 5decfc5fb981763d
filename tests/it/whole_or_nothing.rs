//! What is left when a run does not end as it should: whole files or none, the latents before any
//! pixel, and the documented exit code.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use serde_json::{Value, json};

use crate::demo::{generate, play};
use crate::latents::Latents;
use crate::support::{demo_folder, error_text, names_in, program, signal, wait_for, wan};

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

/// A run that tells its progress as JSON.
fn start(video: &Path, flags: &[&str]) -> Child {
    let save = ["generate", "--progress", "json", "--cache", "none", "--save_file", text(video)];
    let mut command = Command::new(program());
    command.args(save).args(flags).stdout(Stdio::null()).stderr(Stdio::piped());
    command.spawn().unwrap()
}

#[test]
fn an_interrupt_ends_the_run_with_130_and_leaves_what_to_go_on_from() {
    let folder = tempfile::tempdir().unwrap();
    let video = folder.path().join("out.mp4");
    let mut child = start(&video, &["--frame_num", "33", "--sample_steps", "1000"]);
    let mut lines = wait_for(&mut child, |line| line["done"].as_u64() >= Some(2));
    signal(&child, "-INT");
    let mut rest = String::new();
    std::io::Read::read_to_string(&mut lines, &mut rest).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(130), "{rest}");
    assert_eq!(rest.lines().last(), Some("wan: stopped"), "{rest}");
    // It stops between evaluations, not at the end.
    assert!(!rest.contains("\"done\":1000"), "{rest}");
    assert_eq!(names_in(folder.path()), BTreeSet::from(["out.run".to_string()]));
}

/// Runs `wan` where no file may grow beyond `blocks` of 512 bytes.
fn with_small_files(blocks: u32, arguments: &[&str]) -> (Option<i32>, String) {
    // The signal would end the process; ignored, a write fails as on a full disk.
    let script = format!("trap '' XFSZ; ulimit -f {blocks}; exec \"$@\"");
    let mut command = Command::new("sh");
    command.args(["-c", &script, "sh", text(&program())]).args(arguments);
    let output = command.output().unwrap();
    (output.status.code(), error_text(&output))
}

#[test]
fn a_write_that_fails_half_way_leaves_nothing_under_the_final_name() {
    let folder = tempfile::tempdir().unwrap();
    let video = folder.path().join("out.mp4");
    let flags = ["--frame_num", "33", "--sample_steps", "1", "--cache", "none"];
    let save = ["generate", "--progress", "quiet", "--save_file", text(&video)];
    let run = [&save[..], &flags].concat();
    // Latents of 36 kB do not fit into 8.
    let (code, said) = with_small_files(16, &run);
    assert_eq!(code, Some(4), "{said}");
    assert!(said.contains("growing-latents"), "{said}");
    assert!(names_in(folder.path()).is_empty(), "{:?}", names_in(folder.path()));

    // Neither does the video into 4, where the latents are there already.
    generate(&video, &[&flags[..], &["--keep_latents"]].concat());
    let old = [&video, &video.with_extension("json")].map(|path| fs::read(path).unwrap());
    assert!(old[0].len() > 4096, "{} bytes", old[0].len());
    let before = names_in(folder.path());
    let latents = folder.path().join("out.latents.safetensors");
    let decode = ["decode", text(&latents), "--progress", "quiet", "--save_file", text(&video)];
    let (code, said) = with_small_files(8, &decode);
    assert_eq!(code, Some(4), "{said}");
    assert!(said.contains("cannot write") && said.contains("out.json"), "{said}");
    let now = [&video, &video.with_extension("json")].map(|path| fs::read(path).unwrap());
    assert!(now == old, "what was there before is whole");
    assert_eq!(names_in(folder.path()), before);

    let recording = folder.path().join("run.safetensors");
    let record = ["cache", "record", "--frame_num", "9", "--sample_steps", "2", "--progress"];
    let (code, said) =
        with_small_files(64, &[&record[..], &["quiet", "--out", text(&recording)]].concat());
    assert!(code.is_some_and(|code| code != 0), "{said}");
    assert!(!recording.exists() && said.contains("run.safetensors"), "{said}");
    assert_eq!(names_in(folder.path()), before, "no part of it either");
}

#[test]
fn other_latents_than_the_recorded_ones_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let (video, again) = (folder.path().join("out.mp4"), folder.path().join("again.mp4"));
    generate(&video, &["--frame_num", "5", "--sample_steps", "2"]);
    let sidecar = video.with_extension("json");
    let honest = fs::read_to_string(&sidecar).unwrap();
    let mut report: Value = serde_json::from_str(&honest).unwrap();
    // One digit of the hash.
    let hash = report["latents_hash"].as_str().unwrap().to_string();
    let digit = if hash.starts_with('0') { "1" } else { "0" };
    report["latents_hash"] = json!(format!("{digit}{}", &hash[1..]));
    fs::write(&sidecar, report.to_string()).unwrap();
    let reproduce = |flags: &[&str]| {
        let base = ["generate", "--progress", "quiet", "--reproduce", text(&sidecar)];
        wan(&[&base[..], &["--save_file", text(&again)], flags].concat())
    };
    let output = reproduce(&[]);
    let said = error_text(&output);
    assert_eq!(output.status.code(), Some(2), "{said}");
    assert!(said.contains("differ from the recorded ones"), "{said}");
    assert!(!again.exists() && !again.with_extension("json").exists());
    // All is done but the writing.
    let run = again.with_extension("run");
    let output = wan(&["resume", text(&run), "--allow_changes", "--progress", "quiet"]);
    assert_eq!(output.status.code(), Some(0), "{}", error_text(&output));
    assert!(error_text(&output).contains("latents differ"), "{}", error_text(&output));
    assert!(again.exists());

    // What made it is compared part by part, and each is named.
    for (pointer, names) in [
        ("/wan", "wan 0.0.1 is now"),
        ("/sampler/hash", "diffusion-forcing"),
        ("/sampler/version", "diffusion-forcing"),
        ("/cache/plugin", "forecast"),
    ] {
        let mut report: Value = serde_json::from_str(&honest).unwrap();
        *report.pointer_mut(pointer).unwrap() = json!("0.0.1");
        fs::write(&sidecar, report.to_string()).unwrap();
        let said = error_text(&reproduce(&[]));
        assert!(said.contains("cannot reproduce") && said.contains(names), "{pointer}: {said}");
    }
    let mut report: Value = serde_json::from_str(&honest).unwrap();
    report["schema"] = json!(2);
    fs::write(&sidecar, report.to_string()).unwrap();
    let said = error_text(&reproduce(&[]));
    assert!(said.contains("schema 2, this program reads 1"), "{said}");
}

/// A copy of the demo model whose transformer is another one.
fn other_weights(folder: &Path) -> std::path::PathBuf {
    let root = folder.join("model");
    for part in ["transformer", "vae", "text_encoder", "tokenizer", "scheduler"] {
        fs::create_dir_all(root.join(part)).unwrap();
        for entry in fs::read_dir(demo_folder().join(part)).unwrap().map(Result::unwrap) {
            fs::copy(entry.path(), root.join(part).join(entry.file_name())).unwrap();
        }
    }
    for file in ["model_index.json", "wan.toml"] {
        fs::copy(demo_folder().join(file), root.join(file)).unwrap();
    }
    let file = root.join("vae/diffusion_pytorch_model.safetensors");
    let mut bytes = fs::read(&file).unwrap();
    let last = bytes.len() - 1;
    bytes[last] ^= 1;
    fs::write(&file, bytes).unwrap();
    root
}

#[test]
fn decode_gives_the_runs_own_video_with_what_was_given_in_front() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    let (clip, longer, again) = (path("clip.mp4"), path("longer.mp4"), path("again.mp4"));
    let short = ["--sample_steps", "2", "--cache", "none"];
    generate(&clip, &[&short[..], &["--frame_num", "13"]].concat());
    let flags = ["--frame_num", "9", "--video", text(&clip), "--context_frames", "5"];
    generate(&longer, &[&short[..], &flags, &["--keep_latents"]].concat());
    let latents = path("longer.latents.safetensors");
    let decode = |flags: &[&str]| {
        let base = ["decode", text(&latents), "--progress", "quiet", "--save_file", text(&again)];
        wan(&[&base[..], flags].concat())
    };
    let output = decode(&[]);
    assert_eq!(output.status.code(), Some(0), "{}", error_text(&output));
    let (whole, decoded) = (play(&longer), play(&again));
    assert_eq!((whole.frames, decoded.frames), (13 + 4, 13 + 4));
    assert_eq!(whole.rgb, decoded.rgb);
    let report = Latents::read(&latents).report;
    let sidecar: Value =
        serde_json::from_slice(&fs::read(again.with_extension("json")).unwrap()).unwrap();
    assert_eq!(sidecar["latents_hash"], report["latents_hash"]);
    let phases = sidecar["phases"].as_array().unwrap().iter();
    let phases: Vec<&str> = phases.map(|p| p["name"].as_str().unwrap()).collect();
    assert_eq!(phases, ["load", "denoise", "decode", "load", "decode"]);

    // Other weights than those that the latents were made with.
    fs::remove_file(&again).unwrap();
    let other = other_weights(folder.path());
    let output = decode(&["--ckpt_dir", text(&other)]);
    assert_eq!(output.status.code(), Some(2), "{}", error_text(&output));
    assert!(error_text(&output).contains("other weights"), "{}", error_text(&output));
    assert!(!again.exists());
    // The same weights in another place will do.
    let output = decode(&["--ckpt_dir", text(&demo_folder())]);
    assert_eq!(output.status.code(), Some(0), "{}", error_text(&output));

    // Without the clip what was generated is still shown, and the loss is said.
    fs::remove_file(&clip).unwrap();
    let output = decode(&[]);
    assert_eq!(output.status.code(), Some(0), "{}", error_text(&output));
    assert!(error_text(&output).contains("cannot be put in front"), "{}", error_text(&output));
    assert_eq!(play(&again).frames, 9);

    // Nor is another clip put in its place.
    generate(&clip, &[&short[..], &["--frame_num", "13", "--base_seed", "5"]].concat());
    let output = decode(&[]);
    assert_eq!(output.status.code(), Some(0), "{}", error_text(&output));
    assert!(error_text(&output).contains("is another file than"), "{}", error_text(&output));
    assert_eq!(play(&again).frames, 9);
}

#[test]
fn where_the_video_goes_is_checked_before_any_work() {
    let folder = tempfile::tempdir().unwrap();
    let check = |save: &Path, says: &str| {
        let output = wan(&["generate", "--progress", "json", "--save_file", text(save)]);
        let said = error_text(&output);
        assert_eq!(output.status.code(), Some(2), "{said}");
        assert!(said.contains(says) && said.lines().count() == 1, "{said}");
    };
    check(&folder.path().join("out.avi"), "must end in .mp4");
    check(&folder.path().join("out"), "must end in .mp4");
    fs::create_dir(folder.path().join("folder.mp4")).unwrap();
    check(&folder.path().join("folder.mp4"), "is a folder");
    check(&folder.path().join("nowhere/out.mp4"), "cannot write to");
    assert_eq!(names_in(folder.path()), BTreeSet::from(["folder.mp4".to_string()]));
}
