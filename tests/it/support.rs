//! Where things lie, and short ways to them.

use std::collections::BTreeSet;
use std::fs;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStderr, Command, Output};
use std::sync::OnceLock;

use candle_core::Device;
use serde_json::Value;
use wan_host::cancel::Cancel;
use wan_host::given::{GivenFiles, GivenFrames};
use wan_host::model_folder::ModelFolder;
use wan_host::noise::Noise;
use wan_host::pipeline::{Pipeline, Surroundings};
use wan_host::registry::Registry;
use wan_host::settings::{Precision, Settings, StrategyChoice};
use wan_plugin_api::Place;
use wan_tests::checkout::{check_built, checkout};

/// Folder of this profile's artefacts. The first call checks that they are what the sources say.
pub(crate) fn profile_folder() -> PathBuf {
    static CHECKED: OnceLock<Result<(), String>> = OnceLock::new();
    let test = std::env::current_exe().expect("a running test has a path");
    let folder = test.ancestors().nth(2).expect("target/PROFILE/deps/it");
    let check = || check_built(&checkout(), folder).map_err(|error| format!("{error:#}"));
    CHECKED.get_or_init(check).as_ref().unwrap_or_else(|stale| panic!("{stale}"));
    folder.to_path_buf()
}

/// Folder of the project's plugins.
pub(crate) fn plugin_folder() -> PathBuf {
    let folder = profile_folder().join("plugins");
    assert!(folder.is_dir(), "{} is missing: run `cargo xtask plugins`", folder.display());
    folder
}

fn library(folder: &Path, name: &str) -> PathBuf {
    let file = format!("{}{name}{}", std::env::consts::DLL_PREFIX, std::env::consts::DLL_SUFFIX);
    let path = folder.join(file);
    assert!(path.exists(), "{} is missing: run `cargo xtask plugins`", path.display());
    path
}

/// A plugin of the project, as `teacache`.
pub(crate) fn plugin(name: &str) -> PathBuf {
    library(&plugin_folder(), &format!("wan_plugin_{}", name.replace('-', "_")))
}

/// A library of `tests/fixtures`.
pub(crate) fn fixture(name: &str) -> PathBuf {
    library(&profile_folder().join("examples"), &format!("fixture_{name}"))
}

/// A registry with the built-in strategies and the project's plugins.
pub(crate) fn registry() -> Registry {
    let mut registry = Registry::built_in().unwrap();
    registry.add_folders(&[plugin_folder()]).unwrap();
    registry
}

/// The demo model's folder.
pub(crate) fn demo_folder() -> PathBuf {
    checkout().join("demo-model")
}

/// The demo model.
pub(crate) fn demo_model() -> Pipeline {
    Pipeline::load(&ModelFolder::open(&demo_folder()).unwrap(), &Device::Cpu, Precision::default())
        .unwrap()
}

/// A short run of the demo model: 9 frames, 6 steps, without a cache.
pub(crate) fn short_settings() -> Settings {
    Settings {
        prompt: "a big red ball moving right over a meadow".into(),
        negative_prompt: String::new(),
        width: 64,
        height: 64,
        frame_num: 9,
        sample_steps: 6,
        sample_shift: 3.0,
        sample_guide_scale: 3.0,
        base_seed: 7,
        fps: 16.0,
        sampler: choice("unipc", &[]),
        cache: None,
        sample_guide_scale_low: None,
        given: GivenFiles::default(),
        precision: Precision::default(),
        latents_only: false,
        cache_device: Place::Device,
    }
}

/// A strategy with options.
pub(crate) fn choice(id: &str, options: &[(&str, serde_json::Value)]) -> StrategyChoice {
    let options = options.iter().map(|(name, value)| (name.to_string(), value.clone())).collect();
    StrategyChoice { id: id.into(), options }
}

/// A registry and noise for `settings`.
pub(crate) fn surroundings<'a>(registry: &'a Registry, settings: &Settings) -> Surroundings<'a> {
    Surroundings {
        registry,
        noise: Noise::new(settings.base_seed),
        cancel: Cancel::default(),
        witness: None,
    }
}

/// Latents of a run, as bits.
pub(crate) fn latent_bits(
    pipeline: &Pipeline,
    registry: &Registry,
    settings: &Settings,
) -> Vec<u32> {
    let sampled = pipeline
        .sample(settings, &GivenFrames::default(), &surroundings(registry, settings), &mut |_| {})
        .unwrap();
    let values = sampled.latents.flatten_all().unwrap().to_vec1::<f32>().unwrap();
    values.into_iter().map(f32::to_bits).collect()
}

/// The program.
pub(crate) fn program() -> PathBuf {
    let program = profile_folder().join("wan");
    assert!(program.exists(), "{} is missing: run `cargo xtask plugins`", program.display());
    program
}

/// Runs the program.
pub(crate) fn wan(arguments: &[&str]) -> Output {
    Command::new(program()).args(arguments).output().unwrap()
}

/// What a program wrote to its error stream.
pub(crate) fn error_text(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// Runs the program, which must succeed; gives what it printed.
pub(crate) fn done(arguments: &[&str]) -> String {
    let output = wan(arguments);
    assert!(output.status.success(), "{arguments:?}: {}", error_text(&output));
    String::from_utf8(output.stdout).unwrap()
}

/// Runs the program, which must refuse and say so.
pub(crate) fn refused(arguments: &[&str], expected: &str) {
    let output = wan(arguments);
    let text = error_text(&output);
    assert_eq!(output.status.code(), Some(2), "{arguments:?}: {text}");
    assert!(text.contains(expected), "{arguments:?}: {text}");
}

/// What a JSON file holds.
pub(crate) fn json_file(path: &Path) -> Value {
    serde_json::from_str(&fs::read_to_string(path).unwrap()).unwrap()
}

/// The sidecar of a video.
pub(crate) fn sidecar(video: &Path) -> Value {
    json_file(&video.with_extension("json"))
}

/// Names of all that lies in a folder.
pub(crate) fn names_in(folder: &Path) -> BTreeSet<String> {
    let entries = fs::read_dir(folder).unwrap();
    entries.map(|e| e.unwrap().file_name().to_string_lossy().into_owned()).collect()
}

/// Waits for a line of progress that fits, of a program that tells it as JSON; the lines after it
/// stay to be read.
pub(crate) fn wait_for(child: &mut Child, fits: impl Fn(&Value) -> bool) -> BufReader<ChildStderr> {
    let mut lines = BufReader::new(child.stderr.take().unwrap());
    let mut line = String::new();
    loop {
        line.clear();
        assert!(lines.read_line(&mut line).unwrap() > 0, "the run ended too early");
        if serde_json::from_str::<Value>(&line).is_ok_and(|value| fits(&value)) {
            return lines;
        }
    }
}

/// Sends a signal, as `-INT`.
pub(crate) fn signal(child: &Child, name: &str) {
    let id = child.id().to_string();
    assert!(Command::new("kill").args([name, &id]).status().unwrap().success());
}
