//! What a flag promises changes the file: every setting once, by a table that fails when a new
//! setting has no row.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use serde_json::Value;
use wan_tests::checkout::checkout;
use wan_tests::tiny_model::TinyModel;

use crate::command_line::check_refused;
use crate::demo::{generate, play};
use crate::latents::LatentsBench;
use crate::support::{error_text, wan};
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
        "vae_tiling",
        "--vae_tiling",
        ["", ""],
        Elsewhere("demo::decoding_in_tiles_changes_little_and_fits_the_same_file"),
    ),
    (
        "cache_device",
        "--cache_device",
        ["main", "host"],
        Elsewhere("streams::a_cache_is_told_where_the_user_wants_what_it_keeps"),
    ),
];

/// What a setting needs, by the name that the table above has it under: flags with which it would have
/// no effect, so that it is refused, or why it always has one.
const NEEDS: &[(&str, Needs)] = &[
    ("prompt", Nothing),
    ("negative_prompt", Refused(&["--negative_prompt", "a box", "--sample_guide_scale", "1"])),
    ("width", Nothing),
    ("height", Nothing),
    ("frame_num", Nothing),
    ("sample_steps", Nothing),
    ("sample_shift", Nothing),
    ("sample_guide_scale", Nothing),
    ("sample_guide_scale_low", Refused(&["--sample_guide_scale_low", "3"])),
    ("base_seed", Nothing),
    ("fps", Nothing),
    ("sampler.id", Nothing),
    ("sampler.options", Refused(&["--sampler", "euler", "--ar_step", "2"])),
    ("cache.id", Nothing),
    ("cache.options", Refused(&["--cache", "none", "--cache_option", "interval=2"])),
    ("given.image", Nothing),
    ("given.last_frame", Nothing),
    ("given.video", Nothing),
    ("given.context_frames", Refused(&["--context_frames", "5"])),
    ("given.latents", Nothing),
    ("precision.dtype", Nothing),
    ("precision.narrow_stream", Refused(&["--narrow_stream"])),
    ("latents_only", Nothing),
    ("vae_tiling", Refused(&["--vae_tiling", "--latents_only"])),
    ("cache_device", Refused(&["--cache_device", "host", "--cache", "none"])),
];

/// The same of flags that are no settings.
const NEEDS_OF_FLAGS: &[&[&str]] = &[
    &["--allow_changes"],
    &["--given_dir", "."],
    &["--cache_report", "--cache", "none"],
    &["--cache_report", "--latents_only"],
    &["--keep_latents", "--latents_only"],
    &["--contact_sheet", "sheet.png", "--latents_only"],
    &["--no_prompt_cache"],
];

/// What a flag needs to have an effect.
enum Needs {
    Nothing,
    /// Not met with these flags, of which the first is the one.
    Refused(&'static [&'static str]),
}

use Needs::{Nothing, Refused};

#[test]
fn a_flag_without_an_effect_is_refused_by_its_name() {
    let settings: Vec<&str> = ROWS.iter().map(|row| row.0).collect();
    let known: Vec<&str> = NEEDS.iter().map(|row| row.0).collect();
    assert_eq!(settings, known);
    for (_, needs) in NEEDS {
        let Refused(flags) = needs else { continue };
        // Of a strategy's options, the option is the one.
        let named =
            if flags[0] == "--sampler" || flags[0] == "--cache" { flags[2] } else { flags[0] };
        check_refused(flags, named);
    }
    for flags in NEEDS_OF_FLAGS {
        check_refused(flags, flags[0]);
    }
    for (command, flags) in [
        ("record", ["--cache", "forecast", "--out", "r.safetensors"]),
        ("record", ["--cache_device", "host", "--out", "r.safetensors"]),
    ] {
        let output = wan(&[&["cache", command], &flags[..]].concat());
        let said = error_text(&output);
        assert_eq!(output.status.code(), Some(2), "{said}");
        assert!(said.contains(flags[0]) && said.contains("without one"), "{said}");
    }
}

/// A run that is as short as can be; later flags win over these by taking their place.
pub(crate) fn run(
    folder: &Path,
    name: &str,
    flags: &[(&str, &str)],
) -> (crate::demo::Played, Value) {
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
    // What the given files hold, which nobody sets.
    names.remove("given.hashes");
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
        let file = checkout().join("tests/it").join(module);
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
    // Of one seed alone either may come out nearer.
    let seeds = ["1", "2", "3", "4"].map(|seed| ["--base_seed", seed]);
    let exact = seeds.map(|seed| bench.run("f32", &seed));
    let away = |name: &str, flags: &[&str]| -> f64 {
        let runs = seeds.iter().zip(&exact).map(|(seed, exact)| {
            bench.run(name, &[&seed[..], flags].concat()).distance_from(exact)
        });
        runs.sum::<f64>() / 4.0
    };
    for dtype in ["bf16", "f16"] {
        let wide = away("wide", &["--dtype", dtype]);
        let narrow = away("narrow", &["--dtype", dtype, "--narrow_stream"]);
        // The demo model's files are in f16, in which the CPU holds matrices and multiplies nothing.
        assert!(if dtype == "f16" { wide == 0. } else { wide > 1e-5 }, "{dtype}: {wide}");
        // It is half precision and no more wrong than that; the narrow stream is worse.
        assert!(narrow < 0.2, "{dtype}: {narrow}");
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
