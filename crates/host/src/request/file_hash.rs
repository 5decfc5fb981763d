//! Files are known by what they hold: the hash of one is of the very bytes that are read of it.

use std::path::Path;

use sha2::{Digest, Sha256};
use wan_border::files::{self, OpenFile};

/// SHA-256 of a file.
///
/// # Errors
/// If it cannot be read.
pub(crate) fn sha256(file: &mut OpenFile) -> files::Result<String> {
    let mut hash = Sha256::new();
    file.pass(|bytes| hash.update(bytes))?;
    Ok(hex::encode(hash.finalize()))
}

/// What `read` makes of a file, and its SHA-256.
///
/// # Errors
/// Of `read`; if the file cannot be read, or is written to meanwhile.
pub(crate) fn hashed<T, E: From<files::Error>>(
    path: &Path,
    read: impl FnOnce(&mut OpenFile) -> Result<T, E>,
) -> Result<(T, String), E> {
    let mut file = OpenFile::open(path)?;
    let hash = sha256(&mut file)?;
    let read = read(&mut file)?;
    file.check_unwritten()?;
    Ok((read, hash))
}
