//! The copy of the checkout that the mutants live in.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use anyhow::{Context, Result, bail};
use serde_json::Value;
use sha2::{Digest, Sha256};

use crate::groups::GROUPS;
use crate::tree::{Planted, files_under, relative};

/// Where the copy lies, from the root of the checkout.
const PLACE: &str = "target/mutants/checkout";

/// The copy.
pub(crate) struct Workshop {
    root: PathBuf,
    /// SHA-256 of all its sources.
    pub(crate) fingerprint: String,
}

impl Workshop {
    /// Writes the copy; what has not changed is not touched, so that cargo does not build it again.
    pub(crate) fn lay_out(original: &Path, planted: &Planted) -> Result<Self> {
        let root = original.join(PLACE);
        let mut hash = Sha256::new();
        let mut names = BTreeSet::new();
        for path in files_under(original)? {
            let name = relative(original, &path);
            let bytes = match planted.files.get(&name) {
                Some(text) => text.clone().into_bytes(),
                None => fs::read(&path).with_context(|| name.clone())?,
            };
            let bytes = match name.as_str() {
                "Cargo.toml" => without_warnings(&bytes)?,
                name if is_mutated_manifest(name) => with_switch(&root, &bytes)?,
                _ => bytes,
            };
            // What the list says of a mutant changes nothing that is built.
            if !name.starts_with("tests/audit/") {
                hash.update(name.as_bytes());
                hash.update(&bytes);
            }
            write_if_changed(&root.join(&name), &bytes)?;
            names.insert(name);
        }
        for (name, text) in [
            ("crates/mutant-switch/Cargo.toml", include_str!("../switch/Cargo.toml.in")),
            ("crates/mutant-switch/src/lib.rs", include_str!("../switch/lib.rs")),
        ] {
            write_if_changed(&root.join(name), text.as_bytes())?;
            names.insert(name.into());
        }
        for path in files_under(&root)? {
            if !names.contains(&relative(&root, &path)) {
                fs::remove_file(path)?;
            }
        }
        let fingerprint = hash.finalize().iter().map(|b| format!("{b:02x}")).collect();
        let workshop = Self { root, fingerprint };
        workshop.take_dependencies(original)?;
        Ok(workshop)
    }

    /// Crates from the registry that are built already need not be built again.
    fn take_dependencies(&self, original: &Path) -> Result<()> {
        let (from, to) = (original.join("target/debug"), self.root.join("target/debug"));
        if to.exists() {
            return Ok(());
        }
        for folder in ["deps", "build", ".fingerprint"] {
            if from.join(folder).is_dir() {
                copy_folder(&from.join(folder), &to.join(folder))?;
            }
        }
        Ok(())
    }

    pub(crate) fn cargo(&self) -> Command {
        let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
        cargo.current_dir(&self.root).env_remove("CARGO_TARGET_DIR");
        // Set by the cargo that runs this program, and true of that one alone.
        cargo.env_remove("CARGO_MANIFEST_DIR");
        cargo
    }

    /// Errors of the compiler: file, bytes, message.
    pub(crate) fn compile_errors(&self) -> Result<Vec<CompileError>> {
        let mut check = self.cargo();
        check.args(["check", "--workspace", "--lib", "--bins", "--keep-going", "--quiet"]);
        let output = check.arg("--message-format=json").stderr(Stdio::null()).output()?;
        let mut errors = Vec::new();
        for line in String::from_utf8_lossy(&output.stdout).lines() {
            let message: Value = serde_json::from_str(line)?;
            if message["message"]["level"] == "error" {
                errors.extend(CompileError::of(&message["message"]));
            }
        }
        match output.status.success() || !errors.is_empty() {
            true => Ok(errors),
            false => bail!("cargo check failed without an error that has a place"),
        }
    }

    /// Builds everything, or the unit tests of some packages; gives the test binaries with the
    /// folders of their packages.
    pub(crate) fn build(&self, packages: &[&str]) -> Result<Vec<(PathBuf, PathBuf)>> {
        let mut cargo = self.cargo();
        cargo.args(["test", "--no-run", "--quiet", "--message-format=json"]);
        if packages.is_empty() {
            // What `cargo xtask` lays out, and the tests themselves.
            self.built(&self.cargo().args(["xtask", "plugins"]).output()?)?;
            cargo.args(["--workspace", "--lib", "--bins", "--tests"]);
        } else {
            cargo.arg("--lib").args(packages.iter().flat_map(|name| ["--package", name]));
        }
        let output = cargo.output()?;
        self.built(&output)?;
        let mut binaries = Vec::new();
        for line in String::from_utf8_lossy(&output.stdout).lines() {
            let message: Value = serde_json::from_str(line)?;
            let (executable, manifest) = (&message["executable"], &message["manifest_path"]);
            if message["profile"]["test"] != true {
                continue;
            }
            if let (Some(executable), Some(manifest)) = (executable.as_str(), manifest.as_str()) {
                let folder = Path::new(manifest).parent().context("a manifest in a folder")?;
                binaries.push((executable.into(), folder.into()));
            }
        }
        Ok(binaries)
    }
}

impl Workshop {
    /// Switches make warnings, which nobody needs to see unless the build fails.
    fn built(&self, output: &Output) -> Result<()> {
        if output.status.success() {
            return Ok(());
        }
        let said = String::from_utf8_lossy(&output.stderr);
        bail!("{said}\nthe copy in {} cannot be built", self.root.display());
    }
}

/// An error of the compiler.
pub(crate) struct CompileError {
    /// Files and bytes that it is about.
    pub(crate) spans: Vec<(String, usize, usize)>,
    pub(crate) message: String,
}

impl CompileError {
    fn of(message: &Value) -> Option<Self> {
        let spans = message["spans"].as_array()?;
        let spans: Vec<_> = spans
            .iter()
            .filter_map(|span| {
                let at = |name: &str| Some(span[name].as_u64()? as usize);
                Some((span["file_name"].as_str()?.into(), at("byte_start")?, at("byte_end")?))
            })
            .collect();
        let text = message["rendered"].as_str().unwrap_or_default().into();
        (!spans.is_empty()).then_some(Self { spans, message: text })
    }
}

fn write_if_changed(path: &Path, bytes: &[u8]) -> Result<()> {
    if fs::read(path).is_ok_and(|old| old == bytes) {
        return Ok(());
    }
    fs::create_dir_all(path.parent().context("a file in a folder")?)?;
    fs::write(path, bytes).with_context(|| path.display().to_string())
}

fn is_mutated_manifest(name: &str) -> bool {
    let folder = name.strip_suffix("/Cargo.toml").map(|folder| format!("{folder}/src"));
    folder.is_some_and(|f| GROUPS.iter().any(|g| g.folders.contains(&f.as_str())))
}

/// The workspace's manifest, which lets pass what switches look like.
fn without_warnings(manifest: &[u8]) -> Result<Vec<u8>> {
    let text = std::str::from_utf8(manifest)?;
    let lints = "[workspace.lints.rust]\n";
    let more = "unused_parens = \"allow\"\nunused_comparisons = \"allow\"\n";
    Ok(text.replacen(lints, &format!("{lints}{more}"), 1).into_bytes())
}

/// A manifest that also depends on the switch.
fn with_switch(root: &Path, manifest: &[u8]) -> Result<Vec<u8>> {
    let text = std::str::from_utf8(manifest)?;
    let path = root.join("crates/mutant-switch");
    let line = format!("[dependencies]\nwan-mutant-switch = {{ path = {:?} }}\n", path);
    if !text.contains("[dependencies]\n") {
        bail!("a manifest without dependencies");
    }
    Ok(text.replacen("[dependencies]\n", &line, 1).into_bytes())
}

/// Copies a folder, times too: cargo compares them. Linked files would not do, since cargo writes
/// into some of them, and two checkouts would take each other's word.
fn copy_folder(from: &Path, to: &Path) -> Result<()> {
    fs::create_dir_all(to)?;
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let target = to.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            copy_folder(&entry.path(), &target)?;
            continue;
        }
        fs::copy(entry.path(), &target)?;
        let copy = fs::File::options().write(true).open(&target);
        // What is not to be written to has no time that matters.
        if let Ok(copy) = copy {
            copy.set_modified(entry.metadata()?.modified()?)?;
        }
    }
    Ok(())
}
