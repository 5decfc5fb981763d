//! Measures step caches: what a cache costs in the picture, and which numbers it needs of a model.
//!
//! [`recording`] keeps every evaluation of a run as tensors, and replays a cache on them without
//! the model; [`calibration`] fits a cache's numbers to recordings; [`compare`] runs prompts with
//! and without caches, and writes a page with pictures, PSNR, SSIM and a verdict.
//!
//! It knows the library (`wan-host`) and looks at evaluations as its witness. It never knows a
//! cache by name, and no run depends on it.
#![cfg_attr(
    not(test),
    warn(
        clippy::cast_possible_truncation,
        clippy::cast_possible_wrap,
        clippy::cast_sign_loss,
        reason = "numbers from outside are converted with checks"
    )
)]

pub mod calibration;
pub mod compare;
pub mod recording;
mod shared;

pub use shared::Shared;
