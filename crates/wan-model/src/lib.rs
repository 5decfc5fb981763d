//! Wan 2.1 and SkyReels-V2.
mod attention;
mod block;
mod config;
mod embeddings;
mod error;
mod fused;
mod linear;
mod model;
mod observer;
mod rope;
mod rows;
mod threads;
mod timesteps;
pub mod tokenizer;
pub mod umt5;
pub mod vae;
pub mod weights;

pub use attention::Attention;
pub use config::WanConfig;
pub use error::{Error, Result};
pub use model::{Embedded, Observed, TextContext, WanModel};
pub use observer::{BlockPoint, Observer, Point};
pub use rope::{Grid, Rope};
pub use rows::Rows;
pub use timesteps::Timesteps;
