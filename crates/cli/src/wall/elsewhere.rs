//! Where processes have no sockets between them, there is no wall: libraries are opened in this
//! process.

use std::ffi::OsString;
use std::io::Read;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use wan_host::parts::Registry;
use wan_host::{Error, Result};
use wan_plugin_api::library::Border;

use crate::plugins::Found;

/// No process is a child.
pub(crate) enum Inside {}

impl Inside {
    pub(crate) fn border(&self, _: Duration) -> Arc<dyn Border> {
        match *self {}
    }

    pub(crate) fn open(&self, _: &Found, _: &mut Registry) -> Result<()> {
        match *self {}
    }
}

pub(crate) const IS_HERE: bool = false;

pub(crate) fn is_child(_: &[OsString]) -> bool {
    false
}

pub(crate) fn serve(_: impl FnOnce(Vec<OsString>, &Inside) -> u8) -> u8 {
    2
}

/// # Errors
/// Always.
pub(crate) fn run(_: &[OsString], _: bool, (_, foreign): (&Found, &Path)) -> Result<u8> {
    Err(Error::library(foreign.display(), "this system has no wall to open it behind"))
}

/// All text on the user's standard input.
///
/// # Errors
/// Why it cannot be read.
pub(crate) fn standard_input() -> std::result::Result<String, String> {
    let mut text = String::new();
    std::io::stdin().read_to_string(&mut text).map_err(|error| error.to_string())?;
    Ok(text)
}

/// Nobody else has the files.
pub(crate) fn steward() -> Option<Arc<dyn wan_outputs::Steward>> {
    None
}
