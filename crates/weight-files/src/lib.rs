//! Tensors in files: names, shapes, number formats, bytes.
//!
//! [`WeightFile::open`] looks at the first bytes of a file, not at its name, and reads what describes
//! the tensors; tensors are read one at a time. [`Encoding`] says how a tensor's numbers are stored,
//! from f32 to Q4_K, and widens them. A container format is one file of this crate that ends in its
//! `READER`, and one word in the list of `weight_file`.
//!
//! What a file says of itself is checked against its length before anything is allocated for it, and
//! nothing in a file is ever run. The crate knows no network: what a name means is its callers'.
#![cfg_attr(
    not(test),
    warn(
        clippy::cast_possible_truncation,
        clippy::cast_possible_wrap,
        clippy::cast_sign_loss,
        reason = "numbers from outside are converted with checks"
    )
)]

mod container;
#[cfg(test)]
mod damage;
mod encoding;
mod error;
mod file_bytes;
mod first_bytes;
mod gguf;
mod safetensors;
mod tensor_info;
#[cfg(test)]
mod testing;
mod torch;
mod weight_file;
mod write;

pub use encoding::Encoding;
pub use error::{Error, Result};
pub use tensor_info::TensorInfo;
pub use weight_file::WeightFile;
pub use write::{GgufWriter, SafetensorsWriter};
