//! The plugin kit, as a third party meets it: from `wan plugins new` to a video, in a folder that
//! knows nothing of this workspace.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use serde_json::Value;

use wan_tests::bad_plugins;
use wan_tests::checkout::checkout;

use crate::support::{error_text, fixture, plugin_folder, profile_folder, program, wan};

/// Settings that make the crate's dependencies those of this workspace, so that they are built
/// once. Nobody else needs them.
const SAME_AS_HERE: [&str; 4] = [
    "profile.dev.opt-level=1",
    "profile.dev.debug=\"line-tables-only\"",
    "profile.dev.package.\"*\".opt-level=3",
    "profile.dev.package.\"*\".debug=false",
];

/// Runs the program, which must succeed.
fn done(arguments: &[&str]) -> Output {
    let output = wan(arguments);
    assert_eq!(output.status.code(), Some(0), "{arguments:?}: {}", error_text(&output));
    output
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

/// Builds a crate that lies anywhere, and gives its library in a folder of its own.
fn build(folder: &Path, name: &str) -> PathBuf {
    // The same versions: others would be built for this crate alone.
    fs::copy(checkout().join("Cargo.lock"), folder.join("Cargo.lock")).unwrap();
    let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    cargo.current_dir(folder).args(["build", "--offline", "--quiet"]);
    SAME_AS_HERE.iter().for_each(|setting| {
        cargo.arg("--config").arg(setting);
    });
    cargo.arg("--target-dir").arg(profile_folder().parent().unwrap());
    let output = cargo.output().unwrap();
    let said = error_text(&output);
    assert!(output.status.success() && !said.contains("warning"), "{said}");
    let [prefix, suffix] = [std::env::consts::DLL_PREFIX, std::env::consts::DLL_SUFFIX];
    let file = format!("{prefix}{}{suffix}", name.replace('-', "_"));
    let libraries = folder.join("libraries");
    fs::create_dir(&libraries).unwrap();
    let library = libraries.join(&file);
    let built = profile_folder().parent().unwrap().join("debug").join(&file);
    fs::copy(&built, &library).unwrap();
    fs::remove_file(built).unwrap();
    library
}

/// `wan plugins new`, `cargo build`, `wan plugins check`, `wan plugins show`, `wan generate`.
fn from_nothing_to_a_video(kind: &str, name: &str) {
    let place = tempfile::tempdir().unwrap();
    let folder = place.path().join(name);
    let output = done(&["plugins", "new", kind, name, "--path", text(&folder)]);
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(said.contains("of the checkout"), "{said}");
    let lines = |file: &str| fs::read_to_string(folder.join(file)).unwrap().lines().count();
    assert!(lines("Cargo.toml") + lines("src/lib.rs") < 80);
    let library = build(&folder, name);

    done(&["plugins", "check", text(&library), "--seed", "3"]);
    let output = done(&["plugins", "show", text(&library), "--json"]);
    let shown: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!((&shown[0]["id"], &shown[0]["kind"]), (&Value::from(name), &Value::from(kind)));
    assert_eq!(shown[0]["epoch"], 1);
    assert_eq!(shown[0]["options"].as_array().unwrap().len(), 1, "{shown:#}");

    let video = place.path().join("out.mp4");
    let mut arguments = vec!["generate", "--plugin-dir", text(library.parent().unwrap())];
    arguments.extend([if kind == "sampler" { "--sampler" } else { "--cache" }, name]);
    arguments.extend(["--frame_num", "9", "--sample_steps", "4", "--progress", "quiet"]);
    done(&[&arguments[..], &["--save_file", text(&video)]].concat());
    let sidecar = fs::read_to_string(video.with_extension("json")).unwrap();
    assert!(sidecar.contains(&format!("\"{name}\"")), "{sidecar}");
    assert!(fs::metadata(&video).unwrap().len() > 1000);
}

#[test]
fn a_new_sampler_goes_from_nothing_to_a_video() {
    from_nothing_to_a_video("sampler", "kit-sampler");
}

#[test]
fn a_new_cache_goes_from_nothing_to_a_video() {
    from_nothing_to_a_video("cache", "kit-cache");
}

#[test]
fn every_bad_plugin_is_caught_for_its_own_reason() {
    let mut lines = Vec::new();
    let outcomes =
        bad_plugins::run(&profile_folder(), &mut |outcome| lines.push(outcome.to_string()))
            .unwrap();
    assert!(outcomes.iter().all(|o| o.wrong.is_none()), "{}", lines.join("\n"));
    assert!(outcomes.len() >= 12, "{}", lines.join("\n"));
}

#[test]
fn every_plugin_of_the_project_passes() {
    for entry in fs::read_dir(plugin_folder()).unwrap() {
        done(&["plugins", "check", text(&entry.unwrap().path()), "--seed", "2"]);
    }
    done(&["plugins", "check", text(&fixture("strategies")), "--seed", "2"]);
}

#[test]
fn a_seed_repeats_a_check() {
    let library = fixture("bad_samplers");
    let once = |seed: &str| {
        let arguments = ["plugins", "check", text(&library), "--only", "sampler-options", "--json"];
        let output = wan(&[&arguments[..], &["--seed", seed]].concat());
        assert_eq!(output.status.code(), Some(5));
        let report: Value = serde_json::from_slice(&output.stdout).unwrap();
        let findings = report["findings"].as_array().unwrap();
        let is_it = |f: &&Value| f["strategy"] == "panics-in-range";
        findings.iter().find(is_it).unwrap()["message"].clone()
    };
    assert_eq!(once("7"), once("7"));
    assert!(once("7").as_str().unwrap().contains("seed 7"));
}

#[test]
fn a_check_says_in_one_line_what_it_cannot_do() {
    let library = fixture("strategies");
    for (arguments, expected) in [
        (
            vec!["check", text(&library), "--only", "sampler-option"],
            "did you mean sampler-options?",
        ),
        (vec!["check", text(&library), "--timeout", "0"], "--timeout 0"),
        (vec!["check", "absent.so"], "absent.so"),
        (vec!["new", "sampler", "My_Sampler"], "did you mean my-sampler?"),
        (vec!["new", "cache", "kit", "--path", "."], "exists already"),
        (vec!["show", "unipcc"], "did you mean unipc?"),
    ] {
        let output = wan(&[&["plugins"], &arguments[..]].concat());
        let said = error_text(&output);
        assert_eq!(output.status.code(), Some(2), "{said}");
        assert_eq!(said.lines().count(), 1, "{said}");
        assert!(said.contains(expected), "{said}");
    }
}

/// The program with homes of its own, and a plugin that lies where `place` says.
fn at_home(place: &str, variable: Option<&str>, arguments: &[&str]) -> Output {
    let home = tempfile::tempdir().unwrap();
    let folder = home.path().join(place);
    fs::create_dir_all(&folder).unwrap();
    let library = fixture("extension");
    fs::copy(&library, folder.join(library.file_name().unwrap())).unwrap();
    let mut command = Command::new(program());
    command.args(arguments).current_dir(&folder);
    command.env_remove("XDG_DATA_HOME").env_remove("XDG_CONFIG_HOME").env("HOME", home.path());
    if let Some(variable) = variable {
        command.env(variable, &folder);
    }
    command.output().unwrap()
}

#[test]
fn plugins_are_found_where_the_guide_says_and_never_in_the_working_directory() {
    let lists_it = |place: &str, variable: Option<&str>| {
        let output = at_home(place, variable, &["plugins", "list"]);
        assert_eq!(output.status.code(), Some(0), "{}", error_text(&output));
        String::from_utf8_lossy(&output.stdout).contains("block-scoped")
    };
    assert!(lists_it("anywhere", Some("WAN_PLUGIN_PATH")));
    if std::env::consts::OS == "linux" {
        assert!(lists_it(".local/share/wan/plugins", None));
    }
    assert!(!lists_it("plugins", None));
}

#[test]
fn with_a_list_only_what_is_listed_is_loaded() {
    let folder = tempfile::tempdir().unwrap();
    let library = fixture("extension");
    fs::copy(&library, folder.path().join(library.file_name().unwrap())).unwrap();
    let output = done(&["plugins", "show", text(&library), "--json"]);
    let shown: Value = serde_json::from_slice(&output.stdout).unwrap();
    let hash = shown[0]["hash"].as_str().unwrap();
    let list = folder.path().join("plugins.allow");
    let run = |lines: &str| {
        fs::write(&list, lines).unwrap();
        let allow = ["--plugin-allow", text(&list)];
        let [there, file] = [text(folder.path()), text(&library)];
        let listed = wan(&[&["plugins", "list", "--plugin-dir", there][..], &allow].concat());
        let checked =
            wan(&[&["plugins", "check", file, "--only", "manifest"][..], &allow].concat());
        [listed, checked]
    };
    for output in run("# nothing yet\n") {
        let said = error_text(&output);
        assert_eq!(output.status.code(), Some(2), "{said}");
        let refusal = said.lines().find(|line| line.starts_with("wan: ")).unwrap();
        assert!(refusal.contains(hash) && refusal.contains("plugins.allow"), "{said}");
    }
    for output in run(&format!("{}  extension # mine\n", hash.to_uppercase())) {
        assert_eq!(output.status.code(), Some(0), "{}", error_text(&output));
    }
    for output in run("12ab\n") {
        assert!(error_text(&output).contains("line 1: 12ab is not a SHA-256"));
    }
}

/// The plugins that the guide writes, as a reader would paste them.
#[test]
fn the_guides_plugins_pass() {
    let guide = include_str!("../../docs/writing-a-plugin.md");
    let blocks = guide.split("```rust,standalone_crate\n").skip(1);
    let plugins: Vec<&str> = blocks.filter_map(|rest| rest.split("```").next()).collect();
    assert_eq!(plugins.len(), 2);
    for (source, (kind, name)) in
        plugins.iter().zip([("sampler", "kit-euler-a"), ("cache", "kit-tea")])
    {
        let place = tempfile::tempdir().unwrap();
        let folder = place.path().join(name);
        done(&["plugins", "new", kind, name, "--path", text(&folder)]);
        // What follows the last line of a plugin is its test.
        let end = source.find("/// In your own tests").unwrap_or(source.len());
        fs::write(folder.join("src/lib.rs"), &source[..end]).unwrap();
        done(&["plugins", "check", text(&build(&folder, name)), "--seed", "4"]);
    }
}
