//! The crate from outside: what it refuses, what it calls tensors, what a picture becomes.

mod configs;
mod files;
mod names;
mod preprocessing;
mod prompts;
