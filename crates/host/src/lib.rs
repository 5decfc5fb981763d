//! Generates video with Wan and SkyReels-V2 models, through sampler and cache plugins.
//!
//! ```
//! use wan_host::{Engine, Request};
//!
//! // A strategy that is linked into this program; `plugin_dir("plugins")` loads libraries instead.
//! wan_plugin_api::plugin! { struct Linked { samplers: [], caches: [wan_cache::TeaCache] } }
//!
//! # fn main() -> wan_host::Result<()> {
//! # let (demo_model, folder) = ("../../demo-model", std::env::temp_dir());
//! # let ball = folder.join(format!("wan-doctest-{}.mp4", std::process::id()));
//! let engine = Engine::builder().plugin::<Linked>().build()?;
//! let model = engine.open(demo_model)?; // reads headers only
//! let request = Request::new("a big red ball moving right over a meadow").frame_num(9);
//! let video = model.generate(&request.sampler("unipc").sample_steps(8).cache("teacache"))?;
//! assert_eq!((video.frames.frames(), video.frames.width()), (9, 64));
//! video.save(&ball)?; // and its sidecar, which says how it was made
//! # for name in [ball.with_extension("json"), ball] {
//! #     std::fs::remove_file(name).expect("both were written");
//! # }
//! # Ok(())
//! # }
//! ```
//!
//! # In steps
//!
//! [`Model::generate`] is these, and whoever shows progress, saves runs or has several at once
//! takes them one by one:
//!
//! | step | gives | costs |
//! |---|---|---|
//! | [`Model::settle`] | [`Settings`]: all values, and the [`Origin`] of each | reads given files |
//! | [`Model::plan`] | [`Plan`]: work and bytes | nothing is loaded |
//! | [`Model::encode`] | [`Conditions`] | the encoders, one after the other |
//! | [`Model::run`] | a [`Run`], stepped by [`Run::round`] | the transformers, at the first round |
//! | [`Run::finish`] | [`Sampled`]: latents, and what their making took | |
//! | [`Model::decode`] | [`Decoding`]: frames, one latent frame's at a time | the VAE |
//!
//! An [`Engine`] and a [`Model`] are `Send + Sync` and cheap to clone; several runs go on at once
//! on one model, with the bits that they would have alone. A [`Run`] is `Send`, owns what it needs,
//! and can be saved between two rounds ([`Run::state`], [`Model::resume`]).
//!
//! # In your program
//!
//! The library changes nothing of the process: no environment variable, panic hook, signal handler,
//! working directory or global subscriber, and it prints nothing. Progress is what [`Run::round`]
//! and [`Decoding`] return; notices are values; `tracing` has the details.
//!
//! A plugin runs in your process: a panic in it is an error, but one that crashes, exits or never
//! comes back takes your program along. The program `wan` opens plugins that did not come with it
//! in a child of its own.
//!
//! A reader of pictures, clips or tokenizers that panics on a damaged file gives an error. Rust's own
//! panic hook prints the panic all the same; a program that wants silence asks in its hook whether
//! [`wan_border::files::is_foreign_reader_at_work`].
//!
//! Cargo takes profiles from the workspace that builds, not from this one. **Copy the lines
//! `[profile.dev.package...]` of this workspace's `Cargo.toml` into yours**, or build with
//! `--release`: without either a run takes many times longer.
//!
//! # How it is built
//!
//! Folders, each knowing those before it alone: `plugins` (strategies by id, built in or from
//! libraries, by one door), `request` (what is asked for), `checkpoint` (files to parts), `inputs`
//! (prompts and given frames to conditions), `denoise` (one evaluation of the model, its caches and
//! its account of bytes), `run` (rounds), `output` (frames and sidecar), `model` (the door). No
//! strategy is known here by name.
#![cfg_attr(
    not(test),
    warn(
        clippy::cast_possible_truncation,
        clippy::cast_possible_wrap,
        clippy::cast_sign_loss,
        reason = "numbers from outside are converted with checks"
    )
)]

mod cancel;
mod checkpoint;
mod denoise;
mod device;
mod error;
mod inputs;
mod kept;
mod latents;
mod ledger;
mod model;
mod numbers;
mod optional_file;
mod output;
pub mod parts;
mod path_text;
mod plugins;
mod request;
mod run;
mod tensor_bytes;
mod user_folders;

pub use cancel::Cancel;
pub use checkpoint::Checkpoint;
pub use device::DeviceChoice;
pub use device::speed::MeasuredSpeed;
pub use error::{Error, Result, Turn};
pub use inputs::conditions::Conditions;
pub use inputs::prompt_cache::PromptCache;
pub use kept::{
    CheckpointEvery, Ended, Keeper, KeptLatents, KeptRun, Recipe, UnfinishedRun, unfinished_runs,
};
pub use model::Model;
pub use model::engine::{Engine, EngineBuilder};
pub use model::plan::{Plan, PlannedLine, PlannedPhase, TimeEstimate};
pub use model::settings::Settings;
pub use output::container_tags::Metadata;
pub use output::decoding::{Decoding, FrameDecoder};
pub use output::generated::Generated;
pub use output::sidecar::{KernelReport, Sidecar};
pub use output::video_writer::VideoWriter;
pub use plugins::allow_list::AllowList;
pub use plugins::choice::StrategyChoice;
pub use request::Request;
pub use request::frame_source::FrameSource;
pub use request::lora::{LoraRequest, NoiseHalf};
pub use request::memory::{Bytes, EncoderPlace, Fit};
pub use request::on_nan::OnNan;
pub use request::origin::Origin;
pub use request::precision::Format;
pub use request::residency::{DecodingTime, Residency};
pub use request::settings::SettingValues;
pub use run::handing_out::HandedOut;
pub use run::state::RunState;
pub use run::{RoundDone, Run, Sampled};
pub use wan_model::{KernelPath, Kernels};
