//! An option out of its range is refused wherever it comes from: a flag, a model folder's
//! `wan.toml`, a sidecar that is reproduced.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use crate::demo::generate;
use crate::latents::LatentsBench;
use crate::support::{demo_folder, error_text, wan};

/// What an option takes, as `wan plugins show` tells.
struct Spec {
    name: String,
    /// Values beyond either end, or of another type.
    wrong: Vec<Value>,
}

fn specs(id: &str) -> Vec<Spec> {
    let output = wan(&["plugins", "show", id, "--json"]);
    assert_eq!(output.status.code(), Some(0), "{}", error_text(&output));
    let shown: Value = serde_json::from_slice(&output.stdout).unwrap();
    let options = shown[0]["options"].as_array().unwrap();
    options.iter().map(spec).collect()
}

fn spec(option: &Value) -> Spec {
    let name = option["name"].as_str().unwrap().to_string();
    let range = &option["range"];
    let wrong = match option["type"].as_str().unwrap() {
        "bool" => vec![json!("perhaps"), json!(2)],
        "int" => {
            let [min, max] = [0, 1].map(|end| range[end].as_i64().unwrap());
            vec![json!(min - 1), json!(max + 1), json!(min as f64 + 0.5)]
        }
        "float" => {
            let [min, max] = [0, 1].map(|end| range[end].as_f64().unwrap());
            let beyond = 1e-3 * (1.0 + max.abs());
            vec![json!(min - beyond), json!(max + beyond)]
        }
        "choice" => vec![json!("no-such-word"), json!(1)],
        "float_list" | "document" => vec![json!("x,y")],
        other => panic!("a new type {other} needs wrong values"),
    };
    Spec { name, wrong }
}

fn written(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), String::from)
}

/// A copy of the demo model without its weights: what is refused is refused before they are read.
fn folder_without_weights(folder: &Path) -> PathBuf {
    let root = folder.join("model");
    for part in ["transformer", "vae", "text_encoder", "tokenizer", "scheduler"] {
        fs::create_dir_all(root.join(part)).unwrap();
        for entry in fs::read_dir(demo_folder().join(part)).unwrap().map(Result::unwrap) {
            std::os::unix::fs::symlink(
                entry.path().canonicalize().unwrap(),
                root.join(part).join(entry.file_name()),
            )
            .unwrap();
        }
    }
    fs::copy(demo_folder().join("model_index.json"), root.join("model_index.json")).unwrap();
    root
}

/// One strategy, with wrong values of all its options from three sides.
fn check(kind: &str, id: &str) {
    let folder = tempfile::tempdir().unwrap();
    let root = folder_without_weights(folder.path());
    let toml = fs::read_to_string(demo_folder().join("wan.toml")).unwrap();
    let toml = toml.split("[sampler_options]").next().unwrap().to_string();
    let toml = toml.replace("sampler = \"diffusion-forcing\"", "sampler = \"SAMPLER\"");
    let toml = match kind {
        "sampler" => {
            toml.replace("SAMPLER", id).replace("cache = \"forecast\"", "cache = \"none\"")
        }
        _ => toml.replace("SAMPLER", "euler").replace("\"forecast\"", &format!("\"{id}\"")),
    };
    let video = folder.path().join("out.mp4");
    let flags = ["--frame_num", "5", "--sample_steps", "2", "--cache", "none"];
    let sidecar = folder.path().join("made.json");
    generate(&folder.path().join("made.mp4"), &flags);
    let honest: Value = serde_json::from_slice(&fs::read(&sidecar).unwrap()).unwrap();
    let refused = |flags: &[&str], name: &str, value: &Value| {
        let base = ["generate", "--progress", "quiet", "--save_file", video.to_str().unwrap()];
        let output = wan(&[&base[..], flags].concat());
        let said = error_text(&output);
        assert_eq!(output.status.code(), Some(2), "{id} {name}={value} by {flags:?}: {said}");
        assert!(said.contains(name), "{id} {name}={value}: {said}");
        assert!(!video.exists(), "{id} {name}={value} by {flags:?}");
    };
    for Spec { name, wrong } in specs(id) {
        for value in &wrong {
            let pair = format!("{name}={}", written(value));
            let option = format!("--{kind}_option");
            refused(&[&format!("--{kind}"), id, &option, &pair], &name, value);
        }
        let value = &wrong[0];
        let line = match value {
            Value::String(text) => format!("\n[{kind}_options]\n{name} = {text:?}\n"),
            number => format!("\n[{kind}_options]\n{name} = {number}\n"),
        };
        fs::write(root.join("wan.toml"), format!("{toml}{line}")).unwrap();
        refused(&["--ckpt_dir", root.to_str().unwrap()], &name, value);
        let mut report = honest.clone();
        report["settings"][kind] = json!({ "id": id, "options": { &name: value } });
        fs::write(&sidecar, report.to_string()).unwrap();
        let reproduce = ["--reproduce", sidecar.to_str().unwrap(), "--allow_changes"];
        refused(&reproduce, &name, value);
    }
}

macro_rules! strategies {
    ($($name:ident: $kind:literal $id:literal;)*) => {
        $(#[test]
        fn $name() {
            check($kind, $id);
        })*
    };
}

strategies! {
    options_of_diffusion_forcing: "sampler" "diffusion-forcing";
    options_of_a_built_in_sampler: "sampler" "unipc";
    options_of_teacache: "cache" "teacache";
    options_of_forecast: "cache" "forecast";
}

/// Numbers of the settings themselves, from each side.
#[test]
fn settings_out_of_range_are_refused_from_every_side() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder_without_weights(folder.path());
    let toml = fs::read_to_string(demo_folder().join("wan.toml")).unwrap();
    let made = folder.path().join("made.mp4");
    generate(&made, &["--frame_num", "5", "--sample_steps", "2", "--cache", "none"]);
    let sidecar = made.with_extension("json");
    let honest: Value = serde_json::from_slice(&fs::read(&sidecar).unwrap()).unwrap();
    let video = folder.path().join("out.mp4");
    let refused = |flags: &[&str], name: &str| {
        let base = ["generate", "--progress", "quiet", "--save_file", video.to_str().unwrap()];
        let output = wan(&[&base[..], flags].concat());
        let said = error_text(&output);
        assert_eq!(output.status.code(), Some(2), "{name}: {said}");
        assert!(said.contains(&format!("--{name}")), "{name}: {said}");
        assert!(!video.exists(), "{name}");
    };
    for (name, old, wrong, ends) in [
        ("sample_steps", "25", ["0", "1001"], ["1", "2"]),
        ("sample_shift", "3.0", ["0.009", "100.5"], ["0.01", "100"]),
        ("sample_guide_scale", "3.0", ["-0.5", "100.5"], ["0", "100"]),
        ("fps", "16", ["0.5", "240.5"], ["1", "240"]),
        ("frame_num", "33", ["0", "32"], ["1", "37"]),
    ] {
        for value in wrong {
            refused(&[&format!("--{name}={value}")], name);
            let line = format!("{name} = {old}");
            assert!(toml.contains(&line), "{line}");
            let changed = toml.replace(&line, &format!("{name} = {value}"));
            fs::write(root.join("wan.toml"), changed).unwrap();
            refused(&["--ckpt_dir", root.to_str().unwrap()], name);
            let mut report = honest.clone();
            report["settings"][name] = serde_json::from_str(value).unwrap();
            fs::write(&sidecar, report.to_string()).unwrap();
            let flags = ["--reproduce", sidecar.to_str().unwrap(), "--allow_changes"];
            refused(&flags, name);
        }
        // The very ends will do.
        let bench = LatentsBench::new(&["--cache", "none"]);
        for value in ends {
            let mut flags = BTreeMap::from([("frame_num", "1"), ("sample_steps", "1")]);
            flags.insert(name, value);
            let flags: Vec<String> = flags.iter().map(|(n, v)| format!("--{n}={v}")).collect();
            bench.run("end", &flags.iter().map(String::as_str).collect::<Vec<_>>());
        }
    }
    // Sizes: multiples of a token's 16 pixels.
    refused(&["--size", "64*60"], "size");
    refused(&["--size", "0*64"], "size");
    refused(&["--sample_guide_scale_low", "101"], "sample_guide_scale_low");
}
