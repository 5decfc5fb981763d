//! Files and folders that need not be there. Absent and unreadable differ: absence alone has a
//! default; what is there and cannot be read, or understood, is an error.

use std::fs;
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};

use wan_border::files::{self, Content};

use crate::error::{Error, Result};

/// The text of a file; none where there is none of this name. A link that leads nowhere is there.
///
/// # Errors
/// If it is there and cannot be read, or is no UTF-8.
pub(crate) fn read_text(path: &Path) -> Result<Option<String>> {
    Ok(files::optional_text(path, Content::Settings)?)
}

/// What lies in a folder, in order of name; nothing where there is no such folder.
///
/// # Errors
/// If it is there and cannot be listed.
pub(crate) fn list_folder(folder: &Path) -> Result<Vec<PathBuf>> {
    match paths_in(folder) {
        Err(e) if e.kind() == ErrorKind::NotFound && !folder.is_symlink() => Ok(Vec::new()),
        paths => paths.map_err(Error::io(folder)),
    }
}

/// What lies in a folder that has to be there, in order of name.
///
/// # Errors
/// If it cannot be listed.
pub(crate) fn paths_in(folder: &Path) -> io::Result<Vec<PathBuf>> {
    let paths = fs::read_dir(folder)?.map(|entry| Ok(entry?.path()));
    let mut paths: Vec<PathBuf> = paths.collect::<io::Result<_>>()?;
    paths.sort();
    Ok(paths)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn absence_alone_has_a_default() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        assert_eq!(read_text(&path("absent")).unwrap(), None);
        assert_eq!(read_text(&path("no/folder")).unwrap(), None);
        assert_eq!(list_folder(&path("absent")).unwrap(), Vec::<PathBuf>::new());

        fs::write(path("file"), "text").unwrap();
        fs::write(path("latin1"), b"\xe9t\xe9").unwrap();
        assert!(read_text(&path("latin1")).unwrap_err().to_string().contains("UTF-8"));
        assert!(read_text(folder.path()).is_err(), "a folder");
        assert!(list_folder(&path("file")).is_err(), "a file");
        #[cfg(unix)]
        {
            std::os::unix::fs::symlink("/nowhere/at/all", path("dangling")).unwrap();
            assert!(read_text(&path("dangling")).is_err());
            assert!(list_folder(&path("dangling")).is_err());
        }
    }
}
