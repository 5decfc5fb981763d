//! `--reproduce`: files are known by what they hold, and named settings may be changed.

use std::fs;
use std::path::Path;
use std::process::{Command, Output};

use serde_json::{Value, json};

use crate::demo::generate;
use crate::support::{error_text, program, sidecar};

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

fn reproduce(folder: &Path, name: &str, flags: &[&str]) -> (Option<i32>, String) {
    let base = ["generate", "--progress", "quiet", "--reproduce", name];
    let mut command = Command::new(program());
    let output: Output = command.args(base).args(flags).current_dir(folder).output().unwrap();
    (output.status.code(), error_text(&output))
}

#[test]
fn given_files_are_found_by_their_hash_from_any_folder() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    for name in ["made", "elsewhere", "pictures", "pictures/of/mine"] {
        fs::create_dir_all(path(name)).unwrap();
    }
    let picture = path("made/p.png");
    let red = image::RgbImage::from_pixel(64, 64, image::Rgb([200, 30, 30]));
    red.save(&picture).unwrap();
    let short = ["--frame_num", "5", "--sample_steps", "2", "--image", text(&picture)];
    generate(&path("made/out.mp4"), &short);
    let report = sidecar(&path("made/out.mp4"));
    assert!(report["settings"]["given"]["hashes"]["image"].is_string());

    // Beside the sidecar, whatever folder the command runs in.
    fs::rename(path("made"), path("moved")).unwrap();
    let (code, said) = reproduce(&path("elsewhere"), "../moved/out.json", &[]);
    assert_eq!(code, Some(0), "{said}");
    assert!(said.contains("equal the recorded ones bit for bit"), "{said}");

    // By its hash, under another name, in a folder that is named.
    fs::rename(path("moved/p.png"), path("pictures/of/mine/ball.png")).unwrap();
    let blue = image::RgbImage::from_pixel(64, 64, image::Rgb([30, 30, 200]));
    blue.save(path("pictures/another.png")).unwrap();
    let (code, said) = reproduce(&path("elsewhere"), "../moved/out.json", &[]);
    assert_eq!(code, Some(2), "{said}");
    assert!(said.contains("--image") && said.contains("--given_dir"), "{said}");
    let given = ["--given_dir", "../pictures"];
    let (code, said) = reproduce(&path("elsewhere"), "../moved/out.json", &given);
    assert_eq!(code, Some(0), "{said}");

    // Another picture in its place is said to be one.
    blue.save(path("moved/p.png")).unwrap();
    let (code, said) = reproduce(&path("elsewhere"), "../moved/out.json", &[]);
    assert_eq!(code, Some(2), "{said}");
    assert!(said.contains("is another file by now"), "{said}");
}

#[test]
fn named_settings_are_changed_and_the_new_sidecar_says_so() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    let short = ["--frame_num", "5", "--cache", "none"];
    let more = ["--sample_steps", "2", "--sampler_option", "timesteps=diffusers"];
    generate(&path("out.mp4"), &[&short[..], &more].concat());
    let changes = ["--base_seed", "5", "--sample_steps", "3", "--save_file", "other.mp4"];
    let (code, said) = reproduce(folder.path(), "out.json", &changes);
    assert_eq!(code, Some(0), "{said}");
    let (recorded, changed) = (sidecar(&path("out.mp4")), sidecar(&path("other.mp4")));
    let expected = json!({
        "sidecar": "out.json", "latents_hash": recorded["latents_hash"],
        "changed": ["base_seed", "sample_steps"],
    });
    let mut origin: Value = changed["changed_from"].clone();
    origin["changed"].as_array_mut().unwrap().sort_by_key(Value::to_string);
    assert_eq!(origin, expected);
    let options = ["--sampler_option", "timesteps=diffusers", "--base_seed", "5"];
    generate(&path("direct.mp4"), &[&short[..], &["--sample_steps", "3"], &options].concat());
    assert_eq!(changed["latents_hash"], sidecar(&path("direct.mp4"))["latents_hash"]);
    // The model is the recorded one.
    let (code, said) = reproduce(folder.path(), "out.json", &["--task", "t2v-14B"]);
    assert_eq!(code, Some(2), "{said}");
    assert!(said.contains("--task"), "{said}");
}
