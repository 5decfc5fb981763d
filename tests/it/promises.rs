//! What a flag promises changes the file: every setting once, by a table that fails when a new setting
//! has no row.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;
use std::process::Command;

use serde_json::{Value, json};
use wan_tests::tiny_model::TinyModel;

use crate::demo::{generate, play};
use crate::latents::{Latents, LatentsBench};
use crate::support::{demo_folder, error_text, wan};
use crate::tiny_bench::Bench;

/// What another value of a setting must change.
#[derive(Clone, Copy, Debug)]
enum Effect {
    /// The pixels.
    Picture,
    /// The size or the number of the frames.
    Shape,
    /// When frames are shown.
    Rate,
    /// The latents, on a model that has what it takes; tested by itself, under this name.
    Elsewhere(&'static str),
}

use Effect::{Elsewhere, Picture, Rate, Shape};

/// Setting, flag, one value, another.
const ROWS: &[(&str, &str, [&str; 2], Effect)] = &[
    ("prompt", "--prompt", ["a big red ball", "a small blue box"], Picture),
    ("negative_prompt", "--negative_prompt", ["", "a small red box"], Picture),
    ("width", "--size", ["64*64", "80*64"], Shape),
    ("height", "--size", ["64*64", "64*80"], Shape),
    ("frame_num", "--frame_num", ["5", "9"], Shape),
    ("sample_steps", "--sample_steps", ["3", "4"], Picture),
    ("sample_shift", "--sample_shift", ["3", "5"], Picture),
    ("sample_guide_scale", "--sample_guide_scale", ["3", "6"], Picture),
    (
        "sample_guide_scale_low",
        "--sample_guide_scale_low",
        ["3", "6"],
        Elsewhere("model_families::wan_22_t2v_a14b_changes_experts_at_its_boundary"),
    ),
    ("base_seed", "--base_seed", ["5", "6"], Picture),
    ("fps", "--fps", ["16", "24"], Rate),
    ("sampler.id", "--sampler", ["euler", "heun"], Picture),
    ("sampler.options", "--sampler_option", ["timesteps=wan", "timesteps=diffusers"], Picture),
    ("cache.id", "--cache", ["none", "any"], Picture),
    ("cache.options", "--cache_option", ["interval=0", "interval=2"], Picture),
    ("given.image", "--image", ["a.png", "b.png"], Picture),
    (
        "given.last_frame",
        "--last_frame",
        ["a.png", "b.png"],
        Elsewhere("model_families::wan_21_flf2v_lies_between_two_pictures"),
    ),
    ("given.video", "--video", ["a.mp4", "b.mp4"], Picture),
    ("given.context_frames", "--context_frames", ["5", "9"], Shape),
    (
        "given.latents",
        "--latents",
        ["a", "b"],
        Elsewhere("handover::two_runs_give_the_bits_of_one"),
    ),
    (
        "precision.dtype",
        "--dtype",
        ["f32", "bf16"],
        Elsewhere("promises::half_precision_with_the_stream_in_f32_is_nearer_to_f32"),
    ),
    (
        "precision.narrow_stream",
        "--narrow_stream",
        ["", ""],
        Elsewhere("promises::half_precision_with_the_stream_in_f32_is_nearer_to_f32"),
    ),
    (
        "latents_only",
        "--latents_only",
        ["", ""],
        Elsewhere("handover::two_runs_give_the_bits_of_one"),
    ),
    (
        "cache_device",
        "--cache_device",
        ["main", "host"],
        Elsewhere("streams::a_cache_is_told_where_the_user_wants_what_it_keeps"),
    ),
];

/// A run that is as short as can be; later flags win over these by taking their place.
fn run(folder: &Path, name: &str, flags: &[(&str, &str)]) -> (crate::demo::Played, Value) {
    let mut all: BTreeMap<&str, &str> =
        [("--frame_num", "5"), ("--sample_steps", "3"), ("--base_seed", "5"), ("--cache", "none")]
            .into();
    all.extend(flags.iter().copied());
    let flags: Vec<&str> = all.iter().flat_map(|(flag, value)| [*flag, *value]).collect();
    let video = folder.join(name).with_extension("mp4");
    generate(&video, &flags);
    let sidecar = fs::read(video.with_extension("json")).unwrap();
    (play(&video), serde_json::from_slice(&sidecar).unwrap())
}

/// Names of all settings of a sidecar; of strategies id and options, of groups their members.
fn names(settings: &Value) -> BTreeSet<String> {
    let mut names = BTreeSet::new();
    for (name, value) in settings.as_object().unwrap() {
        match value.as_object() {
            Some(group) => names.extend(group.keys().map(|member| format!("{name}.{member}"))),
            None => drop(names.insert(name.clone())),
        }
    }
    names
}

#[test]
fn every_setting_has_a_row() {
    let folder = tempfile::tempdir().unwrap();
    let first = generate_latents(folder.path());
    let from = [("--latents", first.as_str()), ("--sampler", "euler")];
    let start = [("--sampler_option", "start_step=1"), ("--cache", "teacache")];
    let (_, sidecar) = run(folder.path(), "all", &[from, start].concat());
    let known: BTreeSet<String> = ROWS.iter().map(|row| row.0.to_string()).collect();
    assert_eq!(names(&sidecar["settings"]), known);
    for (setting, .., effect) in ROWS {
        let Elsewhere(test) = effect else { continue };
        let (module, name) = test.split_once("::").unwrap();
        let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("it").join(module);
        let source = fs::read_to_string(file.with_extension("rs")).unwrap();
        assert!(source.contains(&format!("fn {name}(")), "{setting}: there is no test {test}");
    }
}

/// Latents of a run that ends after its first step.
fn generate_latents(folder: &Path) -> String {
    let bench = LatentsBench::new(&["--frame_num", "5", "--sample_steps", "3", "--cache", "none"]);
    bench.run("first", &["--sampler", "euler", "--sampler_option", "end_step=1"]);
    let path = folder.join("first.latents.safetensors");
    fs::copy(bench.path("first"), &path).unwrap();
    path.display().to_string()
}

/// Two pictures and two clips that differ.
fn given(folder: &Path) -> [(String, String); 2] {
    let bench = Bench::new(TinyModel::t2v(), &[]);
    [("a", 250, "5"), ("b", 10, "6")].map(|(name, shade, seed)| {
        let picture = folder.join(name).with_extension("png");
        fs::copy(bench.picture(name, shade), &picture).unwrap();
        let clip = folder.join(name).with_extension("mp4");
        run(folder, name, &[("--frame_num", "9"), ("--base_seed", seed)]);
        (picture.display().to_string(), clip.display().to_string())
    })
}

#[test]
fn another_value_of_a_setting_gives_another_file() {
    let folder = tempfile::tempdir().unwrap();
    let given = given(folder.path());
    for (setting, flag, values, effect) in ROWS {
        if matches!(effect, Elsewhere(_)) {
            continue;
        }
        let of = |value: usize| {
            let written = match (*setting, values[value]) {
                ("given.image", _) => given[value].0.clone(),
                ("given.video", _) => given[value].1.clone(),
                ("cache.id", "any") => "forecast".into(),
                (_, other) => other.to_string(),
            };
            let mut flags = vec![(*flag, written.as_str())];
            flags.extend(match *setting {
                "cache.id" => vec![("--cache_option", "interval=2")],
                "cache.options" => vec![("--cache", "forecast")],
                "given.video" => vec![("--context_frames", "5")],
                "given.context_frames" => vec![("--video", given[0].1.as_str())],
                _ => vec![],
            });
            if (*setting, values[value]) == ("cache.id", "none") {
                flags.truncate(1);
            }
            if flags.iter().any(|(flag, _)| *flag == "--video") {
                flags.push(("--frame_num", "13"));
            }
            if setting.starts_with("cache.") {
                flags.push(("--sample_steps", "8"));
            }
            run(folder.path(), "out", &flags)
        };
        let (one, other) = (of(0), of(1));
        let said = |of: &Value| {
            let pointer = format!("/settings/{}", setting.replace('.', "/"));
            of.pointer(&pointer).cloned()
        };
        assert_ne!(said(&one.1), said(&other.1), "{setting} is not in the sidecar");
        check_effect(setting, *effect, (&one.0, &one.1), (&other.0, &other.1));
    }
}

fn check_effect(
    setting: &str,
    effect: Effect,
    (one, _): (&crate::demo::Played, &Value),
    (other, said): (&crate::demo::Played, &Value),
) {
    let shape = |p: &crate::demo::Played| (p.frames, p.width, p.height);
    match effect {
        Picture => {
            let frames = shape(one).0.min(shape(other).0) * 64 * 64 * 3;
            assert_ne!(one.rgb[..frames], other.rgb[..frames], "{setting} has no effect");
        }
        Shape => {
            assert_ne!(shape(one), shape(other), "{setting}");
            let settings = &said["settings"];
            if settings["given"]["video"].is_null() {
                let asked = ["frame_num", "width", "height"].map(|n| settings[n].as_u64().unwrap());
                assert_eq!(shape(other), (asked[0] as usize, asked[1] as usize, asked[2] as usize));
            } else {
                // Nine given frames; what is generated goes on from those that are context.
                let context = settings["given"]["context_frames"].as_u64().unwrap() as usize;
                assert_eq!(other.frames, 9 + 13 - context);
            }
        }
        Rate => {
            assert_eq!(one.rgb, other.rgb, "the demo model has no frame rate");
            for (played, fps) in [(one, 16.0), (other, 24.0)] {
                let seconds = played.frames as f64 / fps;
                assert!((played.seconds - seconds).abs() < 0.5 / fps, "{} s", played.seconds);
            }
        }
        Elsewhere(_) => {}
    }
}

#[test]
fn half_precision_with_the_stream_in_f32_is_nearer_to_f32() {
    let bench = LatentsBench::new(&["--frame_num", "9", "--sample_steps", "6", "--cache", "none"]);
    let exact = bench.run("f32", &[]);
    let away = |name: &str, flags: &[&str]| bench.run(name, flags).distance_from(&exact);
    for dtype in ["bf16", "f16"] {
        let wide = away("wide", &["--dtype", dtype]);
        let narrow = away("narrow", &["--dtype", dtype, "--narrow_stream"]);
        // Both are half precision and no more wrong than that; the narrow stream is worse.
        assert!(wide > 1e-5 && narrow < 0.2, "{dtype}: {wide} and {narrow}");
        assert!(wide < narrow, "{dtype}: {wide} with the stream in f32, {narrow} without");
    }
    let [bf16, f16] = ["bf16", "f16"].map(|dtype| away("half", &["--dtype", dtype]));
    assert!(f16 < bf16, "f16 has three bits more: {f16} and {bf16}");
}

/// A SkyReels model whose two frame-rate classes have weights of their own.
fn frame_rates() -> (LatentsBench, std::path::PathBuf) {
    let bench = LatentsBench::new(&[]);
    let root = bench.folder().join("model");
    TinyModel::sky_df().write(&root).unwrap();
    let model = ["--ckpt_dir", root.to_str().unwrap(), "--task", "df-1.3B"];
    let run = ["--prompt", "a red ball", "--negative_prompt", "a box", "--size", "64*64"];
    let short = ["--frame_num", "5", "--sample_steps", "2"];
    (bench.with_flags(&[&model[..], &run, &short].concat()), root)
}

#[test]
fn sixteen_frames_a_second_are_one_class_and_all_others_the_other() {
    let (bench, root) = frame_rates();
    let of = |bench: &LatentsBench, fps: &str| bench.run("run", &["--fps", fps]).bits();
    let [sixteen, almost, twenty_four, thirty] =
        ["16", "16.4", "24", "30"].map(|fps| of(&bench, fps));
    assert_eq!(sixteen, almost, "rounded to whole frames");
    assert_eq!(twenty_four, thirty);
    assert_ne!(sixteen, twenty_four);
    // With the rows of the embedding changed over, each gives what the other gave.
    let file = root.join("transformer/diffusion_pytorch_model.safetensors");
    let mut tensors = candle_core::safetensors::load(&file, &candle_core::Device::Cpu).unwrap();
    let name = "fps_embedding.weight";
    let rows = tensors[name].clone();
    assert_eq!(rows.dims()[0], 2);
    let other: Vec<_> = [1, 0].map(|row| rows.narrow(0, row, 1).unwrap()).into();
    tensors.insert(name.into(), candle_core::Tensor::cat(&other, 0).unwrap());
    candle_core::safetensors::save(&tensors, &file).unwrap();
    assert_eq!(of(&bench, "16"), twenty_four);
    assert_eq!(of(&bench, "30"), sixteen);
}

/// What `ffprobe`-like readers see: the tags of the container.
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

fn folder_names(folder: &Path) -> BTreeSet<String> {
    let entries = fs::read_dir(folder).unwrap();
    entries.map(|e| e.unwrap().file_name().to_string_lossy().into_owned()).collect()
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
        assert_eq!(folder_names(folder.path()), left, "{more:?}");
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
    let begun: Vec<(&str, u64)> = json
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
    assert_eq!(folder_names(folder.path()), BTreeSet::from(expected));
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
