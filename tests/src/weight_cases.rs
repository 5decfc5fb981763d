//! Cases of weight files: folders of a file, what has to come of it, and the tensors or the forward
//! pass that it has to give.
//!
//! A case is a folder with a `case.json`, and the folder of a set has an `index.json` that names
//! them. Every case goes through the program: `wan convert` in a process with limits of time and
//! memory, `wan inspect --forward` where a forward pass was recorded, `wan inspect --tokens` for
//! the tokenizer. What the program writes is read with another reader of safetensors than ours.
#![allow(clippy::disallowed_methods, reason = "starts the program under test")]

mod bounded;
mod case;
mod command_line;
mod compared;
mod judged;
mod numbers;
mod options;
mod set;
mod tokens;

pub use options::Options;
pub use set::{Totals, run};

/// The project's own set of cases, in a checkout.
pub const OWN: &str = "tests/weight-files";
