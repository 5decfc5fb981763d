//! The checkout that is tested, and whether what was built is what its sources say.
//!
//! Cargo builds a test and what it links. It builds neither the program that a test starts nor the
//! libraries that the program loads, so these may be of another day, or of another checkout where a
//! target folder was copied along or is shared. Beside each of them cargo writes which sources it
//! was built from; [`check_built`] compares.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use anyhow::{Context, Result, bail, ensure};

/// What to do about a stale artefact.
const BUILD: &str = "run `cargo xtask plugins`";

/// The root of the checkout that this runs in.
///
/// # Panics
/// If it runs in none.
#[expect(clippy::disallowed_methods, reason = "cargo says in the environment what it runs")]
pub fn checkout() -> PathBuf {
    let named = std::env::var_os("CARGO_MANIFEST_DIR").map(PathBuf::from);
    let starts = [named, std::env::current_exe().ok(), std::env::current_dir().ok()];
    let is_root = |folder: &&Path| folder.join("xtask/Cargo.toml").is_file();
    let root = starts.iter().flatten().find_map(|start| start.ancestors().find(is_root));
    root.expect("runs in a checkout of wan").to_path_buf()
}

/// Checks that the program and the libraries in the folder `profile` were built from the sources
/// of `checkout` as they are now, and that the plugins were laid out since.
///
/// # Errors
/// The first artefact that is missing or stale, with the source that is newer.
pub fn check_built(checkout: &Path, profile: &Path) -> Result<()> {
    for name in ["wan", "xtask"] {
        check_artifact(checkout, profile, Path::new(name))?;
    }
    for fixture in fixtures(checkout)? {
        check_artifact(checkout, profile, &Path::new("examples").join(library(&fixture)))?;
    }
    for plugin in plugins(checkout)? {
        let file = library(&plugin);
        check_artifact(checkout, profile, Path::new(&file))?;
        let (built, copy) = (profile.join(&file), profile.join("plugins").join(&file));
        let same = copy.is_file() && fs::metadata(&copy)?.len() == fs::metadata(&built)?.len();
        let is_newer = same && modified(&copy)? > modified(&built)?;
        ensure!(is_newer, "{} is not what was built: {BUILD}", copy.display());
    }
    Ok(())
}

/// Names of the fixture libraries.
fn fixtures(checkout: &Path) -> Result<Vec<String>> {
    let manifest = fs::read_to_string(checkout.join("tests/Cargo.toml"))?;
    let names = manifest.lines().filter_map(|line| line.strip_prefix("name = \"fixture_"));
    Ok(names.map(|rest| format!("fixture_{}", rest.trim_end_matches('"'))).collect())
}

/// Names of the plugins' libraries.
fn plugins(checkout: &Path) -> Result<Vec<String>> {
    let folders = fs::read_dir(checkout.join("plugins"))?;
    let name = |folder: fs::DirEntry| folder.file_name().to_string_lossy().replace('-', "_");
    folders.map(|folder| Ok(format!("wan_plugin_{}", name(folder?)))).collect()
}

fn library(name: &str) -> String {
    format!("{}{name}{}", std::env::consts::DLL_PREFIX, std::env::consts::DLL_SUFFIX)
}

/// Checks one program or library by what cargo wrote beside it.
fn check_artifact(checkout: &Path, profile: &Path, name: &Path) -> Result<()> {
    let (artifact, note) = (profile.join(name), profile.join(name).with_extension("d"));
    let text = fs::read_to_string(&note)
        .with_context(|| format!("{} is missing: {BUILD}", note.display()))?;
    let built = modified(&artifact).with_context(|| BUILD)?;
    let sources = sources(&text);
    ensure!(!sources.is_empty(), "{} names no source: {BUILD}", note.display());
    for source in sources {
        // What a build script wrote lies in the target folder.
        if !source.starts_with(checkout) && !source.starts_with(profile) {
            bail!("{} was built in another checkout, from {}", artifact.display(), source.display())
        }
        let changed = match modified(&source) {
            Ok(time) => time,
            Err(_) => bail!("{} was built from {source:?}, which is gone: {BUILD}", name.display()),
        };
        if changed > built {
            bail!("{} is older than {}: {BUILD}", artifact.display(), source.display())
        }
    }
    Ok(())
}

/// The sources that a dependency file names: `ARTEFACT: SOURCE SOURCE`, with `\` before a space.
fn sources(text: &str) -> Vec<PathBuf> {
    let Some((_, sources)) = text.lines().next().and_then(|line| line.split_once(": ")) else {
        return Vec::new();
    };
    let whole = sources.replace("\\ ", "\0");
    whole.split_whitespace().map(|source| source.replace('\0', " ").into()).collect()
}

fn modified(path: &Path) -> Result<SystemTime> {
    let of = |path: &Path| fs::metadata(path)?.modified();
    of(path).with_context(|| path.display().to_string())
}
