//! Builds the workspace, and lays the plugins out where the program finds them.

use std::fs;
use std::path::{Path, PathBuf};

use crate::{Done, cargo, execute, root};

/// Everything in one invocation: other package sets would resolve other features, and the
/// dependencies would be built again for each.
pub(crate) fn everything() -> Done {
    execute(cargo().args(["build", "--workspace", "--lib", "--bins", "--examples", "--quiet"]))?;
    lay_out(&profile_folder())
}

/// A program or library of this profile.
pub(crate) fn artifact(name: &str) -> PathBuf {
    profile_folder().join(name)
}

/// Where cargo puts what it builds: this very program lies there.
fn profile_folder() -> PathBuf {
    let program = std::env::current_exe().expect("a running program has a path");
    program.parent().expect("a program lies in a folder").to_path_buf()
}

/// Puts the libraries of the checkout's plugins, which were built in `from`, into `plugins` in it,
/// where the program looks for them, and takes out what is none of them.
pub(crate) fn lay_out(from: &Path) -> Done {
    let to = from.join("plugins");
    let result = fs::create_dir_all(&to).and_then(|()| {
        let names = plugins()?;
        for entry in fs::read_dir(&to)? {
            let old = entry?;
            if !names.iter().any(|name| old.file_name() == name.as_str()) {
                fs::remove_file(old.path())?;
            }
        }
        names.iter().try_for_each(|name| copy(&from.join(name), &to.join(name)))?;
        name_checkout(from)
    });
    result.map_err(|error| {
        eprintln!("xtask: {}: {error}", to.display());
        1
    })
}

/// Files of the libraries of all plugins. By the folders of the sources: the target folder may have
/// libraries of plugins that are gone.
fn plugins() -> std::io::Result<Vec<String>> {
    let mut names = Vec::new();
    for entry in fs::read_dir(root().join("plugins"))? {
        let name = entry?.file_name().to_string_lossy().replace('-', "_");
        let [prefix, suffix] = [std::env::consts::DLL_PREFIX, std::env::consts::DLL_SUFFIX];
        names.push(format!("{prefix}wan_plugin_{name}{suffix}"));
    }
    Ok(names)
}

/// Copies by rename: a running program may have the old file mapped.
fn copy(library: &Path, to: &Path) -> std::io::Result<()> {
    if is_copy(library, to)? {
        return Ok(());
    }
    let new = to.with_extension("new");
    fs::copy(library, &new)?;
    fs::rename(new, to)
}

/// Whether `to` was copied after `library` was built.
fn is_copy(library: &Path, to: &Path) -> std::io::Result<bool> {
    let built = fs::metadata(library)?;
    let Ok(copied) = fs::metadata(to) else { return Ok(false) };
    Ok(copied.len() == built.len() && copied.modified()? > built.modified()?)
}

/// Tells a program which checkout it belongs to, where it does not lie in it.
fn name_checkout(profile: &Path) -> std::io::Result<()> {
    let (root, note) = (root(), profile.join("wan-checkout"));
    match profile.starts_with(&root) {
        true if note.exists() => fs::remove_file(note),
        true => Ok(()),
        false => fs::write(note, root.to_string_lossy().as_bytes()),
    }
}
