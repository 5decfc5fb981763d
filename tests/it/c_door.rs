//! The door in C: plugins in C and C++, and the same strategies through both flavours.

use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::json;
use tempfile::TempDir;
use wan_host::parts::{OpenedPlugin, Registry};
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
    built_with(source, &checkout().join("crates/plugin-api/include"), flags)
}

/// As [`built`], with the header of this folder.
pub(crate) fn built_with(source: &Path, include: &Path, flags: &[&str]) -> Built {
    let name = source.file_stem().unwrap().to_str().unwrap().to_string();
    let built = Built { folder: tempfile::tempdir().unwrap(), name };
    let is_cpp = source.extension().is_some_and(|e| e == "cc");
    let (compiler, standard) = if is_cpp { ("c++", "-std=c++17") } else { ("cc", "-std=c11") };
    let output = Command::new(compiler)
        .args([standard, "-Wall", "-Wextra", "-Werror", "-O1", "-shared", "-fPIC", "-I"])
        .arg(include)
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
        cached("easycache", &[("threshold", json!(0.5)), ("retention", json!(2))]),
        cached("forecast", &[("interval", json!(2)), ("retention", json!(2))]),
        with_cache(forced, choice("first-block", &[("threshold", json!(0.3))])),
    ];
    for request in requests {
        assert!(latent_bits(&c, &request) == latent_bits(&rust, &request), "{request:?}");
    }
}

/// The sampler with one fault, in a folder of its own.
fn bad(fault: &str) -> Built {
    with_fault("bad.c", fault)
}

/// A fixture with one fault, in a folder of its own.
pub(crate) fn with_fault(file: &str, fault: &str) -> Built {
    let source = checkout().join("tests/fixtures/c").join(file);
    let unused = ["parameter", "function", "const-variable"].map(|of| format!("-Wno-unused-{of}"));
    let unused = unused.iter().map(String::as_str);
    let flags: Vec<&str> = unused.chain(["-Wno-return-type", "-pthread", fault]).collect();
    built(&source, &flags)
}

#[test]
fn a_library_whose_tables_do_not_fit_is_refused_in_one_line() {
    for (fault, expected) in [
        ("-DBAD_EPOCH", "bad 0.1.0 was built for plugin interface epoch 99, this host speaks 1"),
        ("-DBAD_FLAVOUR", "is of plugin flavour 4, which is not known yet"),
        ("-DBAD_MANIFEST_SIZE", "its manifest cannot be read"),
        ("-DBAD_MANIFEST_TEXT", "its manifest cannot be read"),
        ("-DBAD_ENTRY", "exports no function wan_plugin_entry"),
        ("-DBAD_PLUGIN", "wan_plugin_entry gave no plugin"),
        ("-DBAD_SIZE", "sampler: its size says 16 bytes, 80 are needed"),
        ("-DBAD_FUNCTION", "sampler bad: its function step is NULL"),
        ("-DBAD_EXTENSION", "sampler bad: its function extension is NULL"),
        ("-DBAD_NO_ID", "id of a sampler: NULL in the place of a text"),
        ("-DBAD_OPTION", "option x: there is no kind 77 of option"),
        ("-DBAD_DEFAULT", "option x: its default 0.5 or so is no JSON"),
    ] {
        let built = bad(fault);
        let said = Registry::default().add_file(&built.path()).unwrap_err().to_string();
        assert!(said.contains(expected), "{fault}: {said}");
        assert!(!said.contains('\n'), "{fault}: {said}");
    }
}

#[test]
fn what_a_step_in_c_does_wrong_is_an_error_that_names_it() {
    for (fault, expected) in [
        ("-DBAD_THREAD", "an operation was called outside of the call, or on another thread"),
        ("-DBAD_REFERENCE", "is no tensor, or one that was released"),
        ("-DBAD_POINTER", "is no tensor, or one that was released"),
        ("-DBAD_NULL", "terms: 2 entries at 0x0"),
        ("-DBAD_ROOM", "room for 1 numbers, 3 come"),
        ("-DBAD_OUT", "noise_like: NULL in the place of its result"),
        ("-DBAD_STREAM", "there is no stream 18446744073709551615 of noise"),
        ("-DBAD_NOTHING", "step of bad: NULL in the place of a tensor"),
        ("-DBAD_MODEL", "NULL in the place of a tensor"),
        ("-DBAD_ROUND", "levels of a round: 3 entries at 0x0"),
        ("-DBAD_ERROR", "xxxx"),
    ] {
        let built = bad(fault);
        let mut registry = registry();
        registry.add_file(&built.path()).unwrap();
        let request = short_request().sample_steps(2).sampler("bad");
        let error = sample(&demo_model_with(registry), &request).map(|_| ()).unwrap_err();
        let said = error.to_string();
        assert!(said.contains(expected) && said.contains("bad"), "{fault}: {said}");
    }
}

/// The program ends with the plugin's code and its name, and leaves no file.
#[test]
fn a_plugin_in_c_that_crashes_leaves_or_never_ends_is_named() {
    for fault in ["-DBAD_SEGFAULT", "-DBAD_ABORT", "-DBAD_LOOP", "-DBAD_EXIT", "-DBAD_FLAG"] {
        let built = bad(fault);
        let video = built.folder().join("out.mp4");
        let flags = ["--frame_num", "5", "--sample_steps", "2", "--sampler", "bad"];
        let place = ["--plugin_dir", built.folder().to_str().unwrap()];
        let wait = ["--plugin_timeout", "2", "--save_file", video.to_str().unwrap()];
        let output = wan(&[&["generate"][..], &flags, &place, &wait].concat());
        let said = error_text(&output);
        assert_eq!(output.status.code(), Some(5), "{fault}: {said}");
        assert!(said.lines().last().unwrap().contains("bad"), "{fault}: {said}");
        assert!(!video.exists(), "{fault}");
    }
}

/// `wan plugins new --lang c`, the compiler that it names, `plugins check`, `generate`.
#[test]
fn a_new_plugin_in_c_goes_from_nothing_to_a_video() {
    for kind in ["sampler", "cache"] {
        let place = tempfile::tempdir().unwrap();
        let (name, folder) = (format!("own-{kind}"), place.path().join("made"));
        let path = folder.to_str().unwrap();
        let output = wan(&["plugins", "new", kind, &name, "--lang", "c", "--path", path]);
        assert!(output.status.success(), "{}", error_text(&output));
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        let command = said.lines().find_map(|line| line.trim().strip_prefix("cd ")).unwrap();
        let (_, command) = command.split_once("&& ").unwrap();
        let words: Vec<&str> = command.split_whitespace().collect();
        let strict = ["-std=c11", "-Wall", "-Wextra", "-Werror"];
        let built = Command::new(words[0])
            .args(&words[1..])
            .args(strict)
            .current_dir(&folder)
            .output()
            .unwrap();
        assert!(built.status.success(), "{}", String::from_utf8_lossy(&built.stderr));
        let library = folder.join(words[words.iter().position(|word| *word == "-o").unwrap() + 1]);
        let output = wan(&["plugins", "check", library.to_str().unwrap(), "--seed", "3"]);
        let report = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(output.status.success() && report.contains("0 warn, 0 fail"), "{report}");
        let video = place.path().join("out.mp4");
        let output = wan(&[
            "generate",
            "--plugin_dir",
            path,
            &format!("--{kind}"),
            &name,
            "--frame_num",
            "5",
            "--sample_steps",
            "2",
            "--save_file",
            video.to_str().unwrap(),
        ]);
        assert!(output.status.success() && video.is_file(), "{}", error_text(&output));
    }
}
