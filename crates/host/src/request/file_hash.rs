//! Files are known by what they hold: the hash of one is of the very bytes that are read of it.

use std::path::Path;

use sha2::{Digest, Sha256};
use wan_border::files::{self, OpenFile};
use wan_model::weights::{FileError, WeightFile};

/// Bytes of a weight file that are hashed at a time.
const BLOCK: u64 = 1 << 20;

/// SHA-256 of a weight file, as it was opened.
///
/// # Errors
/// If it cannot be read.
pub(crate) fn sha256_of_weights(file: &WeightFile) -> Result<String, FileError> {
    let (mut hash, mut place) = (Sha256::new(), 0);
    while place < file.length() {
        hash.update(file.bytes_at(place, BLOCK)?);
        place += BLOCK;
    }
    Ok(hex::encode(hash.finalize()))
}

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
