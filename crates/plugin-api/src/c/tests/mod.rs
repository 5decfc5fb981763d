//! The header and `tables.rs` say the same, structs grow both ways, and no panic of the host leaves it.

mod growth;
mod guarded;
mod header;
