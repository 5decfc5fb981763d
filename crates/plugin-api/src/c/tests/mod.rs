//! The header and `tables.rs` say the same, structs grow both ways, and no panic of the host leaves it.

mod growth;
mod guarded;
mod header;

/// A path of this crate's folder, where the test runs.
#[allow(clippy::disallowed_methods, reason = "cargo says it to a test by the environment alone")]
fn own(path: &str) -> std::path::PathBuf {
    let folder =
        std::env::var_os("CARGO_MANIFEST_DIR").expect("cargo says where a test's crate is");
    std::path::PathBuf::from(folder).join(path)
}
