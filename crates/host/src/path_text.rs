//! Paths as JSON has them: text, with a mark for bytes that are none.

use std::path::{Path, PathBuf};

use serde::{Serialize, Serializer};

/// The path in UTF-8. One that was not leads nowhere afterwards, but whoever reads it knows it again.
pub(crate) fn readable(path: &Path) -> PathBuf {
    path.to_string_lossy().into_owned().into()
}

/// For `serialize_with`.
pub(crate) fn serialize<S: Serializer>(path: &Path, serializer: S) -> Result<S::Ok, S::Error> {
    readable(path).serialize(serializer)
}

/// For `serialize_with`.
pub(crate) fn optional<S: Serializer>(
    path: &Option<PathBuf>,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    path.as_deref().map(readable).serialize(serializer)
}
