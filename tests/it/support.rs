//! Where things lie, and short ways to them.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::{Arc, OnceLock};

use candle_core::Device;
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
        cancel: Arc::default(),
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
