//! The door: loaded strategies equal built-in ones, and nothing that comes through it can take the
//! host down.

use serde_json::json;
use wan_host::Turn;
use wan_host::parts::Registry;
use wan_plugin_api::manifest::{FLAVOUR_C, FLAVOUR_RUST};
use wan_plugin_api::{CacheContext, ModelIdentity};
use wan_plugin_kit::small_context;

use crate::support::{
    choice, demo_model_with, error_text, fixture, latent_bits, plugin, registry, sample,
    short_request, wan, with_cache, with_sampler,
};

wan_plugin_api::plugin! {
    struct AlsoBuiltIn {
        samplers: [
            wan_samplers::Uniform<wan_samplers::UniPc>,
            wan_samplers::Uniform<wan_samplers::Heun>,
        ],
        caches: [wan_cache::TeaCache, wan_cache::EasyCache, wan_cache::Forecast],
    }
}

pub(crate) fn context(evaluations: u32) -> CacheContext {
    let small = small_context(evaluations);
    CacheContext {
        model: ModelIdentity { dim: 4, ..small.model },
        frames: 3,
        frame_tokens: 2,
        timesteps_max: 3,
        frame_output_elements: 8,
        ..small
    }
}

#[test]
fn built_in_and_loaded_strategies_give_equal_bits_through_both_flavours() {
    let mut built_in = Registry::default();
    built_in.add_built_in::<AlsoBuiltIn>().unwrap();
    let loaded = |flavour: u32| {
        let mut registry = Registry::default();
        registry.prefer(flavour);
        registry.add_file(&fixture("strategies")).unwrap();
        assert!(registry.plugins().next().unwrap().source.hash.is_some());
        demo_model_with(registry)
    };
    let (built_in, c, rust) = (demo_model_with(built_in), loaded(FLAVOUR_C), loaded(FLAVOUR_RUST));
    let caches = [
        choice("teacache", &[("threshold", json!(0.3)), ("retention", json!(1))]),
        choice("easycache", &[("threshold", json!(0.5)), ("retention", json!(2))]),
        choice("forecast", &[("interval", json!(2)), ("retention", json!(2))]),
    ];
    for sampler in ["unipc", "heun"] {
        let plain = short_request().sampler(sampler);
        let without = latent_bits(&built_in, &plain);
        for cache in &caches {
            let cached = with_cache(plain.clone(), cache.clone());
            let bits = latent_bits(&built_in, &cached);
            assert!(bits == latent_bits(&c, &cached), "in C: {sampler} {cache:?}");
            assert!(bits == latent_bits(&rust, &cached), "abi_stable: {sampler} {cache:?}");
            assert!(bits != without, "the cache had no effect: {sampler} {cache:?}");
        }
    }
}

/// Loads a library and gives the one line that refuses it.
fn check_refusal(path: &std::path::Path, expected: &str) {
    let error = Registry::default().add_file(path).unwrap_err();
    let text = error.to_string();
    assert!(text.contains(expected), "{text}");
    assert!(!text.contains('\n'), "more than one line: {text}");
    let is_absent = text.contains("No such file");
    assert_eq!(error.turn(), if is_absent { Turn::Caller } else { Turn::Strategy }, "{text}");
}

#[test]
fn what_is_no_plugin_of_this_epoch_is_refused_in_one_line() {
    check_refusal(&fixture("wrong_epoch"), "built for plugin interface epoch 99");
    check_refusal(&fixture("changed_layout"), "its layout differs from this host's");
    check_refusal(&fixture("aborts_on_panic"), "panic = \"abort\"");
    check_refusal(&fixture("not_a_plugin"), "is not a wan plugin");
    check_refusal(&fixture("strategies").with_file_name("absent.so"), "No such file");
    let text = tempfile::Builder::new().suffix(".so").tempfile().unwrap();
    std::fs::write(text.path(), "no library at all").unwrap();
    check_refusal(text.path(), "is not a library that can be loaded");
}

#[test]
fn the_program_refuses_a_bad_plugin_with_exit_code_5() {
    for name in ["wrong_epoch", "changed_layout", "aborts_on_panic", "not_a_plugin"] {
        let folder = tempfile::tempdir().unwrap();
        let library = fixture(name);
        std::fs::copy(&library, folder.path().join(library.file_name().unwrap())).unwrap();
        let folder = folder.path().to_str().unwrap();
        let output = wan(&["plugins", "list", "--plugin-dir", folder]);
        let text = error_text(&output);
        assert_eq!(output.status.code(), Some(5), "{name}: {text}");
        assert_eq!(text.lines().count(), 1, "{name}: {text}");
    }
}

#[test]
fn an_id_can_be_provided_once() {
    let mut registry = Registry::default();
    registry.add_file(&fixture("strategies")).unwrap();
    let error = registry.add_file(&plugin("teacache")).unwrap_err();
    assert!(error.to_string().contains("cache teacache is already provided by"), "{error}");
    assert_eq!(error.turn(), Turn::Strategy);
}

#[test]
fn a_panic_anywhere_in_a_plugin_becomes_an_error() {
    let mut registry = registry();
    registry.add_file(&fixture("panics")).unwrap();
    let model = demo_model_with(registry);
    let run = |sampler: Option<&str>, cache: Option<&str>| {
        let mut request = short_request();
        if let Some(at) = sampler {
            request = with_sampler(request, choice("panicking-sampler", &[("at", json!(at))]));
        }
        if let Some(at) = cache {
            request = with_cache(request, choice("panicking-cache", &[("at", json!(at))]));
        }
        sample(&model, &request).err()
    };
    for at in ["new", "schedule", "step"] {
        let text = run(Some(at), None).expect(at).to_string();
        assert!(text.contains(&format!("as told, at {at}")), "{text}");
    }
    for at in ["new", "plan", "decide", "store"] {
        let text = run(None, Some(at)).expect(at).to_string();
        assert!(text.contains(&format!("as told, at {at}")), "{text}");
    }
    assert!(run(Some("drop"), None).is_none(), "a panic while dropping reaches nobody");
}

#[test]
fn the_program_survives_a_panic_with_one_line_and_leaves_no_file() {
    let folder = tempfile::tempdir().unwrap();
    let library = fixture("panics");
    std::fs::copy(&library, folder.path().join(library.file_name().unwrap())).unwrap();
    let out = tempfile::tempdir().unwrap();
    let video = out.path().join("out.mp4");
    let output = wan(&[
        "generate",
        "--plugin-dir",
        folder.path().to_str().unwrap(),
        "--sampler",
        "panicking-sampler",
        "--cache",
        "none",
        "--progress",
        "quiet",
        "--save_file",
        video.to_str().unwrap(),
    ]);
    let text = error_text(&output);
    assert_eq!(output.status.code(), Some(5), "{text}");
    assert_eq!(text.lines().count(), 1, "{text}");
    assert!(text.contains("panics.rs:") && text.contains("as told, at step"), "{text}");
    assert!(std::fs::read_dir(out.path()).unwrap().next().is_none());
}
