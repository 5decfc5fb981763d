//! The crate from outside: what it refuses, what it calls tensors, what a picture becomes, where it
//! stops.

mod configs;
mod files;
mod names;
mod preprocessing;
mod prompts;
mod stopping;
