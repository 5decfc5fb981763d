//! Generates video with Wan and SkyReels-V2 models through sampler and cache plugins.
//!
//! This crate owns tensors, model and loop. It knows no strategy by name: samplers and caches come
//! from the [`registry`], built in or loaded, through one door. It never reads flags or shows
//! anything on a terminal: the program is `wan-cli`, on top of it. The way of one denoising step is drawn in [`denoiser`] and in ARCHITECTURE.md.

pub mod allow_list;
pub mod cache_schedule;
pub mod cancel;
pub mod checkpoint;
pub mod conditioning;
pub mod conditions;
pub mod decode;
pub mod defaults;
pub mod denoiser;
pub mod denoiser_parts;
pub mod device;
pub mod engine;
mod error;
mod evaluation;
pub mod expert_use;
pub mod experts;
pub mod frame_source;
pub mod generated;
pub mod given;
pub mod handover;
mod host_tensor;
pub mod image_condition;
pub mod latents_file;
pub mod ledger;
pub mod loader;
pub mod model;
mod model_facts;
pub mod noise;
pub mod ops;
pub mod origin;
pub mod pixels;
pub mod plan;
pub mod plugin_folders;
pub mod prompt;
pub mod record;
pub mod registry;
pub mod request;
pub mod run;
pub mod run_spec;
pub mod run_state;
pub mod settings;
mod settle;
pub mod sidecar;
mod stream;
pub mod witness;

pub use engine::{Engine, EngineBuilder};
pub use error::{Error, Result, Turn};
pub use model::Model;
pub use request::Request;
