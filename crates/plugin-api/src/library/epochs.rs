//! The epochs that this crate can open.

use super::held::{Epoch, Library};
use crate::{Plugin, c, epoch1};

/// The current epoch, then the earlier ones; of each, the flavour that is preferred first.
pub const EPOCHS: &[Epoch] = &[c::OPENER, epoch1::OPENER];

impl Library {
    /// A plugin that is linked into this program. It goes through the binary interface too.
    pub fn built_in<P: Plugin>() -> Self {
        Self::new(epoch1::built_in::<P>())
    }
}
