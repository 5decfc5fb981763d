//! Loaded parts of a model, and the bytes of their weights for as long as they are held.

use std::collections::BTreeMap;
use std::ops::Deref;
use std::sync::{Arc, Mutex, PoisonError};

use candle_core::Device;
use serde::{Deserialize, Serialize};
use wan_model::WanModel;
use wan_model::clip::ClipVision;
use wan_model::inspect::open;
use wan_model::lora::FittedLora;
use wan_model::umt5::Umt5Encoder;
use wan_model::vae::Vae;
use wan_model::weights::Scope;
use wan_plugin_api::Place;

use super::Checkpoint;
use crate::device::room;
use crate::error::Result;
use crate::ledger::{Entry, Item, Ledger};
use crate::request::precision::{Format, Precision};

/// Bytes of a number.
const F32: usize = 4;

const MORE_MEMORY: &str = "close other programs, or take a machine with more";

/// A part of a model; its bytes leave the account when it is dropped.
pub(crate) struct Loaded<T> {
    part: T,
    /// Dropped with the part.
    _bytes: Entry,
}

impl<T> Deref for Loaded<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.part
    }
}

/// Loads the parts of a model and keeps account of what they hold.
pub(crate) struct PartLoader {
    checkpoint: Checkpoint,
    device: Device,
    held: Arc<Ledger>,
    parts: Mutex<BTreeMap<String, u64>>,
}

/// Bytes of weights, as the sidecar has them.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct WeightMemory {
    /// Every part that was loaded, whether or not it is still held.
    pub parts: BTreeMap<String, u64>,
    /// Held now: after a sampling, what was held while it ran.
    pub held: u64,
    /// Most that were held at once.
    pub held_max: u64,
}

impl PartLoader {
    /// A loader of this model's parts.
    pub(crate) fn new(checkpoint: Checkpoint, device: Device) -> Self {
        Self { checkpoint, device, held: Arc::default(), parts: Mutex::default() }
    }

    /// The model on disk.
    pub(crate) fn checkpoint(&self) -> &Checkpoint {
        &self.checkpoint
    }

    /// Where tensors are made.
    pub(crate) fn device(&self) -> &Device {
        &self.device
    }

    /// What the parts held and hold.
    pub(crate) fn memory(&self) -> WeightMemory {
        let parts = self.parts.lock().unwrap_or_else(PoisonError::into_inner).clone();
        WeightMemory { parts, held: self.held.live(), held_max: self.held.peak() }
    }

    /// `transformer` or `transformer_2`.
    ///
    /// # Errors
    /// If a file is missing, truncated or does not fit its config.
    pub(crate) fn transformer(
        &self,
        part: &str,
        precision: Precision,
        loras: Vec<Arc<FittedLora>>,
    ) -> Result<Loaded<WanModel>> {
        let config = self.checkpoint.transformer_config(part)?.clone();
        let width = if precision.dtype == Format::F32 { 4 } else { 2 };
        self.check_room(part, width, "take `dtype` bf16, or a smaller model")?;
        self.load(part, |opened| {
            WanModel::load_with(config, opened.with_loras(loras), precision.into())
        })
    }

    /// The same without its blocks: what planning needs.
    ///
    /// # Errors
    /// As [`transformer`](Self::transformer).
    pub(crate) fn transformer_without_blocks(
        &self,
        part: &str,
        precision: Precision,
        loras: Vec<Arc<FittedLora>>,
    ) -> Result<WanModel> {
        let config = self.checkpoint.transformer_config(part)?.clone();
        let opened = self.open(part)?.with_loras(loras);
        Ok(WanModel::load_without_blocks(config, opened, precision.into())?)
    }

    /// The VAE, in f32.
    ///
    /// # Errors
    /// As [`transformer`](Self::transformer).
    pub(crate) fn vae(&self) -> Result<Loaded<Vae>> {
        let config = self.checkpoint.vae_config()?.clone();
        self.check_room("vae", F32, MORE_MEMORY)?;
        self.load("vae", |opened| Vae::load(config, opened.clone()))
    }

    /// The text encoder, in f32.
    ///
    /// # Errors
    /// As [`transformer`](Self::transformer).
    pub(crate) fn text_encoder(&self) -> Result<Loaded<Umt5Encoder>> {
        let config = self.checkpoint.text_encoder_config()?.clone();
        self.check_room("text_encoder", F32, MORE_MEMORY)?;
        self.load("text_encoder", |opened| Umt5Encoder::load(config, opened.clone()))
    }

    /// The image encoder, in f32.
    ///
    /// # Errors
    /// As [`transformer`](Self::transformer).
    pub(crate) fn image_encoder(&self) -> Result<Loaded<ClipVision>> {
        let config = self.checkpoint.image_encoder_config()?.clone();
        self.check_room("image_encoder", F32, MORE_MEMORY)?;
        self.load("image_encoder", |opened| ClipVision::load(config, opened.clone()))
    }

    /// Refuses to load a part into main memory that cannot hold it, in a number format of so many
    /// bytes.
    fn check_room(&self, part: &str, width: usize, helps: &str) -> Result<()> {
        if !self.device.is_cpu() {
            return Ok(());
        }
        let weights = self.checkpoint.weights(part)?;
        let elements = |name: &&str| weights.shape(name).map(|s| s.iter().product::<usize>());
        let all: usize = weights.names().iter().filter_map(elements).sum();
        room::check(&format!("{part}: to load it"), (all * width) as u64, helps)
    }

    fn open(&self, part: &str) -> Result<Scope> {
        let (network, weights) = (self.checkpoint.network(part)?, self.checkpoint.weights(part)?);
        Ok(open(network, weights, &self.device)?)
    }

    fn load<T>(
        &self,
        part: &str,
        build: impl FnOnce(&Scope) -> wan_model::Result<T>,
    ) -> Result<Loaded<T>> {
        let opened = self.open(part)?;
        let built = build(&opened)?;
        // What was fingerprinted is what was loaded.
        self.checkpoint.check_same(part)?;
        let bytes = opened.handed_out();
        let loaded =
            Loaded { part: built, _bytes: self.held.enter(Item::Weights, Place::Device, bytes) };
        self.held.settle();
        self.parts.lock().unwrap_or_else(PoisonError::into_inner).insert(part.into(), bytes);
        Ok(loaded)
    }
}

impl Checkpoint {
    /// Loads the VAE alone, in f32.
    ///
    /// # Errors
    /// If a file is missing, truncated or does not fit its config.
    pub fn load_vae(&self, device: &Device) -> Result<impl Deref<Target = Vae> + use<>> {
        PartLoader::new(self.clone(), device.clone()).vae()
    }
}
