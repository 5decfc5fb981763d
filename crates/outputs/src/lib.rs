//! Files that are written: claimed before the work begins, whole or not there, and never somebody
//! else's.
//!
//! [`Outputs`] knows every file that a command will write. It refuses, before anything is computed,
//! a name that the file system does not take, a folder that is not there or cannot be written to,
//! what is no ordinary file, an input of the same command, and a file that this program did not
//! make. What it accepts it gives as a [`Claim`]: a locked temporary file beside the final name, or
//! in another folder of the same file system, which [`Claim::keep`] flushes to the disk and
//! renames. A claim that is dropped leaves nothing.
//!
//! The lock (`flock`) is held while the process lives, so two runs never write one file. A
//! temporary file without its lock is what an ended process left: it is taken over.
//!
//! A process whose code is not all trusted can have another one do this for it ([`Steward`]), and
//! then only writes to temporary files.
//!
//! The crate knows no format and no model, prints nothing, and depends on no other crate of this
//! workspace.

mod claim;
mod error;
mod folder;
mod lock;
mod outputs;
mod space;
mod steward;

pub use claim::{Claim, Claimed, Kept, abandon_all};
pub use error::{Error, Result};
pub use folder::{folder_of, write_new_folder};
pub use lock::{Lock, is_named, lock, lock_shared};
pub use outputs::{Outputs, Wanted, numbered};
pub use space::reserve;
pub use steward::{Entrusted, Steward};
