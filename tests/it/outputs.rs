//! What a run writes and says: its files by name, the tags of the container, a contact sheet,
//! progress, a cache report.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::process::Command;

use serde_json::{Value, json};

use crate::demo::{generate, play};
use crate::latents::{Latents, LatentsBench};
use crate::promises::run;
use crate::support::{demo_folder, error_text, names_in, wan};

#[test]
fn the_container_says_what_it_shows_and_how_it_was_made() {
    let folder = tempfile::tempdir().unwrap();
    let prompt = [("--prompt", "a big red ball")];
    let (_, sidecar) = run(folder.path(), "out", &prompt);
    let bytes = fs::read(folder.path().join("out.mp4")).unwrap();
    let text = String::from_utf8_lossy(&bytes);
    assert!(text.contains("a big red ball"));
    let made = format!("made by wan {}", sidecar["wan"].as_str().unwrap());
    assert!(text.contains(&made));
    let hash = sidecar["latents_hash"].as_str().unwrap();
    assert!(text.contains(hash), "the comment holds the sidecar");
}

#[test]
fn the_tags_hold_what_was_asked_for_and_no_path() {
    let folder = tempfile::tempdir().unwrap();
    let picture = folder.path().join("my-picture.png");
    image::RgbImage::from_pixel(64, 64, image::Rgb([200, 30, 30])).save(&picture).unwrap();
    let long = format!("a big red ball {}", "moving right over a meadow ".repeat(150));
    let video = folder.path().join("out.mp4");
    let short = ["--frame_num", "5", "--sample_steps", "1", "--base_seed", "77", "--prompt"];
    let image = ["--image", picture.to_str().unwrap(), "--metadata"];
    let places = [folder.path().to_path_buf(), demo_folder()];
    let places = places.map(|place| place.display().to_string());
    for (metadata, whole, named) in [("none", 0, 0), ("standard", 0, 0), ("full", 1, 1)] {
        generate(&video, &[&short[..], &[&long], &image, &[metadata]].concat());
        let tags = wan_media::read_tags(&video).unwrap();
        let text = [&*tags.title, &tags.comment, &tags.description].join("\n");
        let has = |part: &str| usize::from(text.contains(part));
        assert_eq!(has(&long), whole, "{metadata}");
        assert_eq!(has("my-picture.png"), named, "{metadata}");
        assert!(places.iter().all(|place| has(place) == 0), "{metadata}: {text}");
        if metadata == "none" {
            assert_eq!(text.trim(), "");
            continue;
        }
        let comment: Value = serde_json::from_str(&tags.comment).unwrap();
        assert_eq!(comment["settings"]["base_seed"], 77);
        assert!(comment["latents_hash"].is_string() && comment["model"]["fingerprint"].is_string());
        assert!(tags.comment.len() <= 2048 || metadata == "full", "{}", tags.comment.len());
        assert_eq!(has("[cut]"), 1 - whole);
    }
    let sidecar = fs::read_to_string(video.with_extension("json")).unwrap();
    assert!(sidecar.contains(&long) && sidecar.contains("my-picture.png"), "the sidecar has all");
}

#[test]
fn a_run_leaves_exactly_its_files() {
    let short = ["--frame_num", "5", "--sample_steps", "2"];
    for (more, left) in [
        (vec![], vec!["out.json", "out.mp4"]),
        (vec!["--keep_latents"], vec!["out.json", "out.latents.safetensors", "out.mp4"]),
        (vec!["--latents_only"], vec!["out.latents.safetensors"]),
        (vec!["--contact_sheet", "SHEET"], vec!["out.json", "out.mp4", "sheet.png"]),
    ] {
        let folder = tempfile::tempdir().unwrap();
        let sheet = folder.path().join("sheet.png").display().to_string();
        let more: Vec<&str> =
            more.iter().map(|flag| if *flag == "SHEET" { sheet.as_str() } else { flag }).collect();
        generate(&folder.path().join("out.mp4"), &[&short[..], &more].concat());
        let left: BTreeSet<String> = left.into_iter().map(String::from).collect();
        assert_eq!(names_in(folder.path()), left, "{more:?}");
    }
}

#[test]
fn a_contact_sheet_shows_eight_frames_side_by_side() {
    let folder = tempfile::tempdir().unwrap();
    let sheet = folder.path().join("sheet.png");
    let video = folder.path().join("out.mp4");
    let flags = ["--frame_num", "17", "--sample_steps", "2", "--contact_sheet"];
    generate(&video, &[&flags[..], &[sheet.to_str().unwrap()]].concat());
    let picture = image_of(&sheet);
    let played = play(&video);
    // 64 pixels are shown four times as large, with gaps of four pixels between and around.
    let (width, height) = picture.dimensions();
    let (side, gap) = (256, 4);
    assert_eq!((width, height), (8 * side + 7 * gap, side), "or with a margin: {width}x{height}");
    for shown in 0..8usize {
        let frame = shown * 16 / 7;
        for (x, y) in [(5, 9), (32, 32), (60, 50)] {
            let at = picture.get_pixel((shown as u32) * (side + gap) + 4 * x + 1, 4 * y + 1);
            let start = ((frame * 64 + y as usize) * 64 + x as usize) * 3;
            let near = |(a, b): (&u8, &u8)| a.abs_diff(*b) < 60;
            let frame = &played.rgb[start..start + 3];
            assert!(at.0.iter().zip(frame).all(near), "frame {shown} at {x},{y}: {at:?} {frame:?}");
        }
    }
}

fn image_of(path: &Path) -> image::RgbImage {
    image::open(path).unwrap().to_rgb8()
}

#[test]
fn progress_is_told_as_it_was_asked_for() {
    let folder = tempfile::tempdir().unwrap();
    let video = folder.path().join("out.mp4");
    let short = ["--frame_num", "5", "--sample_steps", "3", "--save_file"];
    let run = |form: &str| {
        let flags = ["generate", "--cache", "none", "--progress", form];
        let output = wan(&[&flags[..], &short, &[video.to_str().unwrap()]].concat());
        assert_eq!(output.status.code(), Some(0), "{}", error_text(&output));
        error_text(&output)
    };
    assert_eq!(run("quiet"), "");
    let json: Vec<Value> =
        run("json").lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert!(json[0]["plan"]["device"]["bytes"].as_u64().unwrap() > 1_000_000, "{}", json[0]);
    let begun: Vec<(&str, u64)> = json[1..]
        .iter()
        .filter(|line| line.get("done").is_none())
        .map(|line| (line["phase"].as_str().unwrap(), line["steps"].as_u64().unwrap()))
        .collect();
    assert_eq!(begun, [("load", 0), ("denoise", 3), ("decode", 2), ("write", 0)]);
    let done: Vec<(&str, u64, u64)> = json
        .iter()
        .filter_map(|l| Some((l["phase"].as_str()?, l["done"].as_u64()?, l["steps"].as_u64()?)))
        .collect();
    let denoised = [("denoise", 1, 3), ("denoise", 2, 3), ("denoise", 3, 3)];
    assert_eq!(done, [&denoised[..], &[("decode", 1, 2), ("decode", 2, 2)]].concat());
    let text = run("auto");
    for phase in ["load", "denoise", "decode", "write"] {
        assert!(text.contains(&format!("{phase} ...")), "{text}");
        assert!(text.lines().any(|l| l.starts_with(&format!("{phase}: "))), "{text}");
    }
}

#[test]
fn a_cache_report_tells_what_the_pixels_tell() {
    let folder = tempfile::tempdir().unwrap();
    let (cached, plain) = (folder.path().join("cached.mp4"), folder.path().join("plain.mp4"));
    let short = ["--frame_num", "9", "--sample_steps", "8"];
    let cache = ["--cache", "forecast", "--cache_option", "interval=2", "--cache_report"];
    let text = generate(&cached, &[&short[..], &cache].concat());
    generate(&plain, &[&short[..], &["--cache", "none"]].concat());
    let line = text.lines().find(|l| l.starts_with("cache report: ")).unwrap();
    let sidecar: Value =
        serde_json::from_slice(&fs::read(cached.with_extension("json")).unwrap()).unwrap();
    let count = |name: &str| sidecar["decisions"][name].as_u64().unwrap() as f64;
    let all = count("computed") + count("reused");
    let share = format!("{:.1} % of {all} block-stack", 100.0 * count("reused") / all);
    assert!(count("reused") > 0.0 && line.contains(&share), "{line}; expected {share}");
    // H.264 loses something on both sides, so only about.
    let said: f64 = line.split("PSNR ").nth(1).unwrap().split(' ').next().unwrap().parse().unwrap();
    let (a, b) = (play(&cached).rgb, play(&plain).rgb);
    let square = |(a, b): (&u8, &u8)| f64::from(a.abs_diff(*b)).powi(2);
    let mean = a.iter().zip(&b).map(square).sum::<f64>() / a.len() as f64;
    let seen = 20.0 * (255.0 / mean.sqrt()).log10();
    assert!((said - seen).abs() < 3.0, "said {said} dB, seen {seen} dB");
}

#[test]
fn without_a_name_the_prompt_and_the_seed_make_one() {
    let folder = tempfile::tempdir().unwrap();
    let output = Command::new(crate::support::program())
        .args(["generate", "--prompt", "A big, RED ball - moving right over a meadow"])
        .args(["--frame_num", "5", "--sample_steps", "1", "--progress", "quiet"])
        .args(["--base_seed", "77", "--ckpt_dir", demo_folder().to_str().unwrap()])
        .current_dir(folder.path())
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(0), "{}", error_text(&output));
    let name = "a-big-red-ball-moving-right_77";
    let expected = ["json", "mp4"].map(|end| format!("{name}.{end}"));
    assert_eq!(names_in(folder.path()), BTreeSet::from(expected));
}

#[test]
fn a_drawn_seed_is_written_down_and_another_each_time() {
    let bench = LatentsBench::new(&["--frame_num", "5", "--sample_steps", "1"]);
    let seed = |name: &str| -> u64 {
        let run: Latents = bench.run(name, &["--base_seed", "-1"]);
        run.report["settings"]["base_seed"].as_u64().unwrap()
    };
    assert_ne!(seed("a"), seed("b"));
    let again = json!(seed("a")).to_string();
    let first = Latents::read(&bench.path("a"));
    assert_eq!(bench.run("c", &["--base_seed", &again]).bits(), first.bits());
}
