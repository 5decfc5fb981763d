//! Strategies by id, built in or from libraries, by one door: finding libraries, what may be
//! loaded, opening them, and the registry. It knows no strategy by name, and nothing of models.

pub(crate) mod allow_list;
pub(crate) mod choice;
mod elf;
mod folders;
pub(crate) mod kind;
mod lent_solvers;
pub(crate) mod loader;
pub(crate) mod log;
mod own_memory;
mod private_copy;
pub(crate) mod registry;
