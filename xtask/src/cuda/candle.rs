//! candle-core with another way to its CUDA libraries.
//!
//! As published it links them, so that a program does not start where they are missing; cudarc can
//! load them when they are first used instead. A feature cannot be taken back from outside, so two
//! words of candle-core's manifest are changed in a copy under `target`.

use std::fs;
use std::path::{Path, PathBuf};

use super::fail;
use crate::{cargo, execute};

/// The copy of a version of candle-core, for a toolkit of version `cuda`, as `13.0`.
pub(super) fn patched(folder: &Path, cuda: &str, version: &str) -> Result<PathBuf, u8> {
    let feature = feature(cuda);
    let name = format!("candle-core-{version}");
    let copy = folder.join(format!("{name}-{feature}"));
    if copy.is_dir() {
        return Ok(copy);
    }
    execute(cargo().args(["fetch", "--quiet"]))?;
    let source = published(&name)?;
    // Under its name only once it is whole.
    let new = copy.with_extension("new");
    let _ = fs::remove_dir_all(&new);
    copy_folder(&source, &new).or_else(|error| fail(&new, error))?;
    let manifest = new.join("Cargo.toml");
    let mut text = fs::read_to_string(&manifest).or_else(|error| fail(&manifest, error))?;
    for (published, ours) in [
        ("\"dynamic-linking\"", "\"fallback-dynamic-loading\""),
        ("\"cuda-version-from-build-system\"", &format!("\"{feature}\"")),
    ] {
        if !text.contains(published) {
            eprintln!("xtask: {name} no longer asks cudarc for {published}; look at {}", file!());
            return Err(1);
        }
        text = text.replace(published, ours);
    }
    fs::write(&manifest, text).or_else(|error| fail(&manifest, error))?;
    fs::rename(&new, &copy).or_else(|error| fail(&copy, error))?;
    Ok(copy)
}

/// cudarc's feature for a version: `13.0` is `cuda-13000`.
fn feature(cuda: &str) -> String {
    let (major, minor) = cuda.split_once('.').unwrap_or((cuda, "0"));
    format!("cuda-{major}{minor:0>2}0")
}

/// Where cargo keeps the sources of a package.
fn published(name: &str) -> Result<PathBuf, u8> {
    let home = std::env::var_os("CARGO_HOME").map(PathBuf::from);
    let home = home.or_else(|| Some(std::env::home_dir()?.join(".cargo"))).unwrap_or_default();
    let sources = home.join("registry/src");
    let registries = fs::read_dir(&sources).or_else(|error| fail(&sources, error))?;
    let mut folders = registries.flatten().map(|registry| registry.path().join(name));
    folders.find(|folder| folder.is_dir()).ok_or_else(|| {
        eprintln!("xtask: {}: there is no {name}; `cargo fetch` puts it there", sources.display());
        1
    })
}

fn copy_folder(from: &Path, to: &Path) -> std::io::Result<()> {
    fs::create_dir_all(to)?;
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let to = to.join(entry.file_name());
        match entry.file_type()?.is_dir() {
            true => copy_folder(&entry.path(), &to)?,
            false => fs::copy(entry.path(), to).map(|_| ())?,
        }
    }
    Ok(())
}
