//! The outer object around the caller's JSON: `{"version":1,...,"NAME":<the caller's text>}`.

use std::path::Path;

use serde::Deserialize;
use serde::de::IgnoredAny;

use crate::error::{Error, Result};

/// The version that is written.
pub(crate) const VERSION: u64 = 1;

/// The text around the caller's JSON in `member`; `number` is that of a checkpoint.
fn around(member: &str, number: Option<u64>) -> String {
    let number = number.map_or(String::new(), |number| format!("\"number\":{number},"));
    format!("{{\"version\":{VERSION},{number}\"{member}\":")
}

/// # Errors
/// Why `text` is no JSON.
pub(crate) fn wrap(
    member: &str,
    number: Option<u64>,
    text: &str,
) -> std::result::Result<String, String> {
    let parsed: std::result::Result<IgnoredAny, _> = serde_json::from_str(text);
    parsed.map_err(|error| format!("the {member} to be written is no JSON: {error}"))?;
    Ok(format!("{}{text}}}", around(member, number)))
}

#[derive(Deserialize)]
struct Version {
    version: u64,
}

/// The caller's text, as it was given, of the whole text of `file`.
///
/// # Errors
/// If a newer version wrote it, or it is not what [`wrap`] makes.
pub(crate) fn unwrap<'a>(
    file: &Path,
    member: &str,
    number: Option<u64>,
    whole: &'a str,
) -> Result<&'a str> {
    let damaged = |why: String| Error::damaged(file, why);
    let found: Version = serde_json::from_str(whole).map_err(|e| damaged(e.to_string()))?;
    match found.version {
        // A later version keeps this reader, and has one more.
        VERSION => {}
        0 => return Err(damaged("it has version 0, which there never was".into())),
        version => return Err(Error::Newer { file: file.into(), version, known: VERSION }),
    }
    let around = around(member, number);
    let inner = whole.strip_prefix(around.as_str()).and_then(|rest| rest.strip_suffix('}'));
    inner.ok_or_else(|| damaged(format!("its text does not begin with {around}")))
}
