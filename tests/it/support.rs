//! Where things lie, and short ways to them.

use std::collections::BTreeSet;
use std::fs;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStderr, Command, Output};
use std::sync::OnceLock;

use candle_core::Tensor;
use serde_json::Value;
use wan_host::parts::{Registry, RunContext};
use wan_host::{DeviceChoice, Engine, Model, Request, Sampled, StrategyChoice};
use wan_plugin_api::manifest::{FLAVOUR_C, FLAVOUR_RUST};
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

/// The demo model with the strategies of the fixture `extension`, through each flavour of the door.
pub(crate) fn extended_models() -> [(&'static str, Model); 2] {
    [("in C", FLAVOUR_C), ("abi_stable", FLAVOUR_RUST)].map(|(name, flavour)| {
        let mut registry = registry();
        registry.prefer(flavour);
        registry.add_file(&fixture("extension")).unwrap();
        (name, demo_model_with(registry))
    })
}

/// The demo model's folder.
pub(crate) fn demo_folder() -> PathBuf {
    checkout().join("demo-model")
}

/// The demo model, with these strategies.
pub(crate) fn demo_model_with(registry: Registry) -> Model {
    let engine = Engine::builder().registry(registry).device(DeviceChoice::Cpu).build().unwrap();
    engine.open(demo_folder()).unwrap()
}

/// The demo model, with the built-in strategies and the project's plugins.
pub(crate) fn demo_model() -> Model {
    demo_model_with(registry())
}

/// A short run of the demo model: 9 frames, 6 steps, without a cache.
pub(crate) fn short_request() -> Request {
    Request {
        negative_prompt: Some(String::new()),
        sample_shift: Some(3.0),
        sample_guide_scale: Some(3.0),
        ..Request::new("a big red ball moving right over a meadow")
            .size(64, 64)
            .frame_num(9)
            .sample_steps(6)
            .base_seed(7)
            .sampler("unipc")
            .cache("none")
    }
}

/// A strategy with options.
pub(crate) fn choice(id: &str, options: &[(&str, Value)]) -> StrategyChoice {
    let options = options.iter().map(|(name, value)| (name.to_string(), value.clone())).collect();
    StrategyChoice { id: id.into(), options }
}

/// The request with another sampler.
pub(crate) fn with_sampler(request: Request, sampler: StrategyChoice) -> Request {
    Request { sampler_options: sampler.options, ..request.sampler(sampler.id) }
}

/// The request with another cache.
pub(crate) fn with_cache(request: Request, cache: StrategyChoice) -> Request {
    Request { cache_options: cache.options, ..request.cache(cache.id) }
}

/// What a request samples.
pub(crate) fn sample(model: &Model, request: &Request) -> wan_host::Result<Sampled> {
    model.sample(&model.settle(request)?, &RunContext::default())
}

/// Latents `[1, C, F, H, W]` as bits.
pub(crate) fn bits(latents: &Tensor) -> Vec<u32> {
    let values = latents.flatten_all().unwrap().to_vec1::<f32>().unwrap();
    values.into_iter().map(f32::to_bits).collect()
}

/// Latents of a run, as bits.
pub(crate) fn latent_bits(model: &Model, request: &Request) -> Vec<u32> {
    bits(&sample(model, request).unwrap().latents)
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

/// Runs an ignored test of this binary in a process of its own, and checks that it passes and that
/// nothing but the harness prints.
pub(crate) fn passes_alone_and_in_silence(test: &str) {
    let mut child = Command::new(std::env::current_exe().unwrap());
    let output = child.args(["--exact", test, "--ignored", "--nocapture"]).output().unwrap();
    let (errors, printed) = (error_text(&output), String::from_utf8_lossy(&output.stdout));
    assert!(output.status.success(), "{test}: {errors}\n{printed}");
    assert_eq!(errors, "", "{test} writes to standard error");
    let lines: Vec<&str> = printed.lines().filter(|line| !line.is_empty()).collect();
    let [running, passed, result] = lines[..] else { panic!("{test} prints: {printed}") };
    assert_eq!((running, passed), ("running 1 test", format!("test {test} ... ok").as_str()));
    assert!(result.starts_with("test result: ok. 1 passed; 0 failed;"), "{result}");
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

/// Whether a line of progress says that so many rounds are done.
pub(crate) fn is_round(number: u64) -> impl Fn(&Value) -> bool {
    move |line| line["phase"] == "denoise" && line["done"] == number
}
