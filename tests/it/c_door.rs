//! The door in C: plugins in C and C++, and the same strategies through both flavours.

use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::json;
use tempfile::TempDir;
use wan_host::parts::OpenedPlugin;
use wan_plugin_api::manifest::{FLAVOUR_C, FLAVOUR_RUST};
use wan_plugin_kit::{CacheUnderTest, Config, check};
use wan_tests::checkout::checkout;

use crate::support::{
    choice, demo_model_with, error_text, fixture, latent_bits, registry, sample, short_request,
    wan, with_cache, with_sampler,
};

/// A library that is gone with this.
pub(crate) struct Built {
    folder: TempDir,
    name: String,
}

impl Built {
    pub(crate) fn path(&self) -> PathBuf {
        self.folder.path().join(format!("{}.{}", self.name, std::env::consts::DLL_EXTENSION))
    }

    pub(crate) fn folder(&self) -> &Path {
        self.folder.path()
    }
}

/// Builds a source with what a C author has: a compiler and the header.
pub(crate) fn built(source: &Path, flags: &[&str]) -> Built {
    let name = source.file_stem().unwrap().to_str().unwrap().to_string();
    let built = Built { folder: tempfile::tempdir().unwrap(), name };
    let is_cpp = source.extension().is_some_and(|e| e == "cc");
    let (compiler, standard) = if is_cpp { ("c++", "-std=c++17") } else { ("cc", "-std=c11") };
    let output = Command::new(compiler)
        .args([standard, "-Wall", "-Wextra", "-Werror", "-O1", "-shared", "-fPIC", "-I"])
        .arg(checkout().join("crates/plugin-api/include"))
        .args(flags)
        .arg(source)
        .arg("-o")
        .arg(built.path())
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    built
}

pub(crate) fn c_fixture(file: &str) -> Built {
    built(&checkout().join("tests/fixtures/c").join(file), &[])
}

#[test]
fn the_header_alone_compiles_as_c_and_as_cpp() {
    let folder = tempfile::tempdir().unwrap();
    for name in ["alone.c", "alone.cc"] {
        let source = folder.path().join(name);
        std::fs::write(&source, "#include \"wan_plugin.h\"\n").unwrap();
        built(&source, &["-Wpedantic"]);
    }
}

#[test]
fn a_sampler_in_c_makes_the_latents_of_the_one_in_rust() {
    let built = c_fixture("euler.c");
    let mut registry = registry();
    registry.add_file(&built.path()).unwrap();
    registry.add_file(&fixture("extension")).unwrap();
    let model = demo_model_with(registry);
    let bits = |sampler: &str| latent_bits(&model, &short_request().sampler(sampler));
    assert!(bits("c-euler") == bits("day"));
    let ends = with_sampler(short_request(), choice("c-euler", &[("until", json!(0.5))]));
    let said = sample(&model, &ends).map(|_| ()).unwrap_err().to_string();
    assert!(said.contains("leaves frame 0 at sigma 0.5"), "{said}");
}

#[test]
fn caches_in_c_and_cpp_decide_and_are_accounted_for() {
    for (file, id) in [("steady.c", "c-steady"), ("alternate.cc", "cc-alternate")] {
        let built = c_fixture(file);
        let mut registry = registry();
        registry.add_file(&built.path()).unwrap();
        let sampled = sample(&demo_model_with(registry), &short_request().cache(id)).unwrap();
        let reused = sampled.records.iter().filter(|r| r.choice == wan_plugin_api::Choice::Reuse);
        assert!(reused.count() >= 2, "{id}");
        let memory = &sampled.cache_memory;
        assert!(memory.held_max > 0 && memory.held_max <= memory.declared_max, "{id}: {memory:?}");
        assert_eq!(memory.leaked, 0, "{id}");
    }
}

#[test]
fn caches_in_c_keep_every_property() {
    for (file, id) in [("steady.c", "c-steady"), ("alternate.cc", "cc-alternate")] {
        let built = c_fixture(file);
        let library = OpenedPlugin::open(&built.path(), None).unwrap().library;
        let report = check(&CacheUnderTest::new(library, id).unwrap(), &Config::default());
        assert!(report.is_whole(), "{report}");
    }
}

#[test]
fn what_is_written_in_c_is_listed_shown_checked_and_generates() {
    for (file, id, kind) in [("euler.c", "c-euler", "sampler"), ("steady.c", "c-steady", "cache")] {
        let built = c_fixture(file);
        let folder = built.folder().to_str().unwrap();
        let done = |arguments: &[&str]| {
            let output = wan(&[arguments, &["--plugin_dir", folder]].concat());
            assert!(output.status.success(), "{arguments:?}: {}", error_text(&output));
            String::from_utf8_lossy(&output.stdout).into_owned()
        };
        assert!(done(&["plugins", "list"]).contains(id));
        assert!(done(&["plugins", "show", id]).contains(id));
        let video = built.folder().join("out.mp4");
        let flag = format!("--{kind}");
        let base = ["generate", "--frame_num", "5", "--sample_steps", "2"];
        done(&[&base[..], &["--save_file", video.to_str().unwrap(), &flag, id]].concat());
        assert!(video.is_file());
        let library = built.path();
        let output = wan(&["plugins", "check", library.to_str().unwrap(), "--json"]);
        let report: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
        let bad: Vec<_> = report["findings"]
            .as_array()
            .unwrap()
            .iter()
            .filter(|finding| finding["status"] == "fail")
            .collect();
        assert!(output.status.success() && bad.is_empty(), "{bad:#?}");
    }
}

#[test]
fn both_flavours_of_a_strategy_give_equal_bits() {
    let of = |flavour: u32| {
        let mut registry = registry();
        registry.prefer(flavour);
        let mut again = registry.emptied();
        again.add_built_in::<wan_samplers::BuiltIn>().unwrap();
        again.add_folders(&[crate::support::plugin_folder()]).unwrap();
        demo_model_with(again)
    };
    let (c, rust) = (of(FLAVOUR_C), of(FLAVOUR_RUST));
    let forced = with_sampler(
        short_request(),
        choice("diffusion-forcing", &[("ar_step", json!(2)), ("solver", json!("unipc"))]),
    );
    let cached = |id: &str, options: &[(&str, serde_json::Value)]| {
        with_cache(short_request(), choice(id, options))
    };
    let requests = [
        forced.clone(),
        cached("teacache", &[("threshold", json!(0.3)), ("retention", json!(1))]),
        cached("easycache", &[("threshold", json!(0.5))]),
        cached("forecast", &[]),
        with_cache(forced, choice("first-block", &[("threshold", json!(0.3))])),
    ];
    for request in requests {
        assert!(latent_bits(&c, &request) == latent_bits(&rust, &request), "{request:?}");
    }
}
