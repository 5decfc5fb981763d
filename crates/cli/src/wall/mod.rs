//! The wall around foreign libraries: they are opened in a child of this program alone.
//!
//! A library can crash, exit, hang or write to the terminal, and no process survives that from
//! inside. So the command is carried out by the same program, started again ([`parent::run`]): it
//! is told the command line through a socket, does the work ([`child::serve`]), and says which
//! plugin it calls, and when it is done. The parent has the terminal: what the child writes comes
//! through pipes. The parent has the files, too ([`files`]): it claims and renames them, and the
//! child writes to temporary ones.
//!
//! A library is ours if it is linked in or lies in the folder beside the program. Commands that
//! open no other one have no child.

#[cfg(unix)]
mod border;
#[cfg(unix)]
mod channel;
#[cfg(unix)]
mod child;
#[cfg(unix)]
mod clean;
#[cfg(not(unix))]
mod elsewhere;
#[cfg(unix)]
mod files;
#[cfg(unix)]
mod parent;

#[cfg(unix)]
pub(crate) use child::{Inside, is_child, serve, standard_input, steward};
#[cfg(not(unix))]
pub(crate) use elsewhere::{IS_HERE, Inside, is_child, run, serve, standard_input, steward};
#[cfg(unix)]
pub(crate) use parent::run;

/// Whether this system has a wall. Without it libraries are opened in this process.
#[cfg(unix)]
pub(crate) const IS_HERE: bool = true;
