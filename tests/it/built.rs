//! What the tests run is what the sources say, and a checkout is never taken for another.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::{Duration, SystemTime};

use tempfile::TempDir;
use wan_tests::checkout::check_built;

use crate::support::{demo_folder, error_text, profile_folder, program};

/// A checkout with one plugin and one fixture, built and laid out.
struct Tiny {
    _folder: TempDir,
    root: PathBuf,
}

impl Tiny {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let tiny = Self { root: folder.path().join("a checkout"), _folder: folder };
        let [wan, plugin] = ["crates/cli/src/main.rs", "plugins/a-b/src/lib.rs"];
        tiny.write("tests/Cargo.toml", "[[example]]\nname = \"fixture_c\"\n", 0);
        [wan, plugin].iter().for_each(|source| tiny.write(source, "fn main() {}", 1));
        tiny.built("wan", &[wan, plugin]);
        tiny.built("xtask", &[wan]);
        tiny.built("examples/libfixture_c.so", &[wan]);
        tiny.built("libwan_plugin_a_b.so", &[plugin]);
        tiny.write("target/debug/plugins/libwan_plugin_a_b.so", "ELF", 3);
        tiny
    }

    /// Writes a file as if `age` seconds after the first.
    fn write(&self, name: &str, text: &str, age: u64) {
        let path = self.root.join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, text).unwrap();
        let time = SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000 + age);
        fs::File::options().write(true).open(path).unwrap().set_modified(time).unwrap();
    }

    /// Writes an artefact with what cargo writes beside it.
    fn built(&self, name: &str, sources: &[&str]) {
        let path = |name: &str| self.root.join(name).to_str().unwrap().replace(' ', "\\ ");
        let artifact = format!("target/debug/{name}");
        let sources: Vec<String> = sources.iter().map(|source| path(source)).collect();
        let note = Path::new(&artifact).with_extension("d");
        let text = format!("{}: {}\n", path(&artifact), sources.join(" "));
        self.write(&artifact, "ELF", 2);
        self.write(note.to_str().unwrap(), &text, 2);
    }

    fn check(&self) -> Result<(), String> {
        check_built(&self.root, &self.root.join("target/debug")).map_err(|e| format!("{e:#}"))
    }
}

#[cfg(target_os = "linux")] // for the libraries' names
#[test]
fn what_is_older_than_its_sources_is_named() {
    Tiny::new().check().unwrap();
    type Change = fn(&Tiny);
    let cases: [(Change, [&str; 2]); 7] = [
        (|t| t.write("crates/cli/src/main.rs", "", 9), ["debug/wan ", "cli/src/main.rs"]),
        (|t| t.write("plugins/a-b/src/lib.rs", "", 9), ["debug/wan ", "a-b/src/lib.rs"]),
        (
            |t| {
                t.write("plugins/a-b/src/lib.rs", "", 9);
                t.write("target/debug/wan", "", 10);
            },
            ["debug/libwan_plugin_a_b.so ", "a-b/src/lib.rs"],
        ),
        (
            |t| fs::remove_file(t.root.join("plugins/a-b/src/lib.rs")).unwrap(),
            ["wan was built from", "which is gone"],
        ),
        (
            |t| t.write("target/debug/plugins/libwan_plugin_a_b.so", "ELF", 2),
            ["plugins/libwan_plugin_a_b.so", "is not what was built"],
        ),
        (
            |t| t.write("target/debug/plugins/libwan_plugin_a_b.so", "ELF2", 3),
            ["plugins/libwan_plugin_a_b.so", "is not what was built"],
        ),
        (
            |t| fs::remove_file(t.root.join("target/debug/examples/libfixture_c.so")).unwrap(),
            ["examples/libfixture_c.so", "cargo xtask plugins"],
        ),
    ];
    for (change, facts) in cases {
        let tiny = Tiny::new();
        change(&tiny);
        let said = tiny.check().unwrap_err();
        assert!(facts.iter().all(|fact| said.contains(fact)), "{facts:?}: {said}");
        assert!(said.contains("cargo xtask plugins"), "{said}");
    }
}

#[test]
fn what_another_checkout_built_is_refused() {
    let (here, there) = (Tiny::new(), Tiny::new());
    let note = "target/debug/wan.d";
    here.write(note, &fs::read_to_string(there.root.join(note)).unwrap(), 2);
    let said = here.check().unwrap_err();
    let source = there.root.join("crates/cli/src/main.rs");
    assert!(said.contains("in another checkout"), "{said}");
    assert!(said.contains(source.to_str().unwrap()), "{said}");
}

#[test]
fn cargo_names_the_sources_of_all_that_goes_into_an_artefact() {
    let profile = profile_folder();
    for (note, parts) in [
        ("wan.d", ["crates/cli/src/main.rs", "crates/wan-model/src/rope.rs"]),
        ("libwan_plugin_teacache.d", ["plugins/teacache/src/lib.rs", "crates/cache/src/change.rs"]),
        (
            "examples/libfixture_strategies.d",
            ["tests/fixtures/strategies.rs", "plugin-kit/src/vec_ops.rs"],
        ),
    ] {
        let text = fs::read_to_string(profile.join(note)).unwrap();
        assert!(parts.iter().all(|part| text.contains(part)), "{note}: {text}");
    }
}

/// A folder that looks like a checkout, with a copy of `program` in its target folder.
pub(crate) fn copied(program: &Path) -> (TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    for manifest in ["Cargo.toml", "xtask/Cargo.toml", "crates/plugin-api/Cargo.toml"] {
        let path = folder.path().join(manifest);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, "").unwrap();
    }
    fs::create_dir_all(folder.path().join("plugins")).unwrap();
    let debug = folder.path().join("target/debug");
    fs::create_dir_all(&debug).unwrap();
    let copy = debug.join(program.file_name().unwrap());
    fs::copy(program, &copy).unwrap();
    (folder, copy)
}

/// Writes a program that says `line` to the shell.
#[cfg(unix)]
pub(crate) fn write_script(path: &Path, line: &str) {
    use std::os::unix::fs::PermissionsExt;

    fs::write(path, format!("#!/bin/sh\n{line}\n")).unwrap();
    fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
}

#[cfg(unix)]
#[test]
fn a_copied_xtask_runs_cargo_in_its_own_checkout() {
    let (folder, xtask) = copied(&profile_folder().join("xtask"));
    let cargo = folder.path().join("cargo");
    write_script(&cargo, "pwd");
    let root = folder.path().canonicalize().unwrap();
    let named = ("CARGO_MANIFEST_DIR", root.join("xtask"));
    for (variable, place) in [(Some(named), "/"), (None, "crates/plugin-api")] {
        let mut command = Command::new(&xtask);
        command.arg("plugins").env("CARGO", &cargo).env_remove("CARGO_MANIFEST_DIR");
        command.envs(variable).current_dir(root.join(place));
        let output = command.output().unwrap();
        assert_eq!(output.status.code(), Some(0), "{}", error_text(&output));
        assert_eq!(String::from_utf8_lossy(&output.stdout).trim_end(), root.to_str().unwrap());
    }
    let mut outside = Command::new(&xtask);
    let output = outside.arg("plugins").env_remove("CARGO_MANIFEST_DIR").current_dir("/").output();
    let output = output.unwrap();
    assert_eq!(output.status.code(), Some(2));
    assert!(error_text(&output).contains("in no checkout"), "{}", error_text(&output));
}

/// Runs a copy of the program with a plugin path of its own.
fn run(program: &Path, arguments: &[&str]) -> Output {
    let mut command = Command::new(program);
    command.args(arguments).current_dir(program.parent().unwrap());
    command.output().unwrap()
}

#[test]
fn a_copied_program_takes_nothing_from_the_checkout_it_was_built_in() {
    let (folder, wan) = copied(&program());
    let output = run(&wan, &["generate", "--sampler", "euler", "--cache", "none"]);
    let said = error_text(&output);
    assert_eq!(output.status.code(), Some(2), "{said}");
    assert!(said.contains(folder.path().join("demo-model").to_str().unwrap()), "{said}");

    let interface = |program: &Path, name: &str| {
        let place = tempfile::tempdir().unwrap();
        let path = place.path().join(name);
        let output =
            run(program, &["plugins", "new", "cache", name, "--path", path.to_str().unwrap()]);
        assert_eq!(output.status.code(), Some(0), "{}", error_text(&output));
        fs::read_to_string(path.join("Cargo.toml")).unwrap()
    };
    let manifest = interface(&wan, "mine");
    let own = folder.path().join("crates/plugin-api");
    assert!(manifest.contains(own.to_str().unwrap()), "{manifest}");

    // In no checkout, it knows none; a target folder that lies elsewhere says whose it is.
    let elsewhere = tempfile::tempdir().unwrap();
    let program = elsewhere.path().join("wan");
    fs::copy(&wan, &program).unwrap();
    assert!(!interface(&program, "mine").contains("path ="), "{}", interface(&program, "mine"));
    let root = demo_folder().parent().unwrap().to_path_buf();
    fs::write(elsewhere.path().join("wan-checkout"), root.to_str().unwrap()).unwrap();
    let own = root.join("crates/plugin-api");
    assert!(interface(&program, "mine").contains(own.to_str().unwrap()));
}
