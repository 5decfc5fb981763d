//! Where files and numbers from outside enter.
//!
//! - [`files`]: every file that somebody gives is opened and read here. What is no regular file is
//!   refused before it can block, each kind of file has a most of bytes, and a panic inside a
//!   foreign reader becomes an error.
//! - [`numbers`]: counts and sizes are types. One is made once, with the reason in the error, and
//!   the upper bounds are such that no product that the engine forms of them leaves 63 bits.
//!
//! The crate knows no format but JSON, and depends on no other crate of this workspace.
#![cfg_attr(
    not(test),
    warn(
        clippy::cast_possible_truncation,
        clippy::cast_possible_wrap,
        clippy::cast_sign_loss,
        reason = "numbers from outside are converted with checks"
    )
)]

pub mod files;
pub mod numbers;
