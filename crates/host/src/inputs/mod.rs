//! From what somebody gives to what the model takes: prompts, pictures and clips become
//! [`Conditions`](conditions::Conditions). It knows checkpoints and requests, and nothing of
//! sampling.

pub(crate) mod conditions;
pub(crate) mod encoders;
pub(crate) mod given;
mod pictures;
mod pixels;
pub(crate) mod prompt;
pub(crate) mod prompt_cache;
mod prompt_file;
mod prompt_key;
