//! Loaded parts of a model, and the bytes of their weights for as long as they are held.

use std::collections::BTreeMap;
use std::ops::Deref;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};

use candle_core::Device;
use serde::{Deserialize, Serialize};
use wan_model::clip::ClipVision;
use wan_model::inspect::open;
use wan_model::lora::FittedLora;
use wan_model::umt5::Umt5Encoder;
use wan_model::vae::{Half, Vae};
use wan_model::weights::{Held, Scope};
use wan_model::{Arithmetic, WanModel};
use wan_plugin_api::Place;

use super::Checkpoint;
use crate::error::Result;
use crate::ledger::{Entry, Item, Ledger};
use crate::request::precision::{Format, Precision};

const VAE: &str = "vae";

/// A part of a model; its bytes leave the account when it is dropped.
pub(crate) struct Loaded<T> {
    part: T,
    /// Dropped with the part.
    bytes: Entry,
    held: Arc<Ledger>,
    parts: Arc<Mutex<BTreeMap<String, u64>>>,
}

/// Weights of one network of a VAE that stay in memory until this is dropped.
pub(crate) struct HeldHalf<'v> {
    _weights: Held<'v>,
    _bytes: Entry,
}

impl Loaded<Vae> {
    /// Reads the weights of one network, and keeps them until what is given is dropped.
    ///
    /// # Errors
    /// If they cannot be read.
    pub(crate) fn hold(&self, half: Half) -> Result<HeldHalf<'_>> {
        let weights = self.part.hold(half)?;
        let (_, bytes) = self.part.turn_bytes(half);
        let entry = self.held.enter(Item::Weights, Place::Device, bytes);
        self.held.settle();
        let mut parts = self.parts.lock().unwrap_or_else(PoisonError::into_inner);
        let most = parts.entry(VAE.into()).or_default();
        *most = (*most).max(self.bytes() + bytes);
        Ok(HeldHalf { _weights: weights, _bytes: entry })
    }
}

impl<T> Loaded<T> {
    /// Bytes of its weights, without those that come and go.
    pub(crate) fn bytes(&self) -> u64 {
        self.bytes.bytes()
    }
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
    arithmetic: Arithmetic,
    held: Arc<Ledger>,
    parts: Arc<Mutex<BTreeMap<String, u64>>>,
    /// What was held when a sampling ended; 0 before.
    sampling: AtomicU64,
}

/// Bytes of weights, as the sidecar has them.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct WeightMemory {
    /// Every part that was loaded, whether or not it is still held; of the VAE the larger half that
    /// was.
    pub parts: BTreeMap<String, u64>,
    /// Held now: after a sampling, what was held while it ran.
    pub held: u64,
    /// Most that were held at once.
    pub held_max: u64,
}

impl PartLoader {
    /// A loader of this model's parts.
    pub(crate) fn new(checkpoint: Checkpoint, device: &Device, arithmetic: &Arithmetic) -> Self {
        let (held, parts, sampling) = Default::default();
        let (device, arithmetic) = (device.clone(), arithmetic.clone());
        Self { checkpoint, device, arithmetic, held, parts, sampling }
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
        let held = match self.sampling.load(Relaxed) {
            0 => self.held.live(),
            held => held,
        };
        WeightMemory { parts, held, held_max: self.held.peak() }
    }

    /// A sampling has ended; what it needs no more is still held.
    pub(crate) fn end_sampling(&self) {
        self.sampling.store(self.held.live(), Relaxed);
    }

    /// `transformer` or `transformer_2`, of whose blocks so many are read for their turn.
    ///
    /// # Errors
    /// If a file is missing, truncated or does not fit its config.
    pub(crate) fn transformer(
        &self,
        part: &str,
        precision: Precision,
        loras: Vec<Arc<FittedLora>>,
        streamed: usize,
    ) -> Result<Loaded<WanModel>> {
        let config = self.checkpoint.transformer_config(part)?.clone();
        self.load(part, &self.device, |opened| {
            let scope = opened.with_loras(loras).streaming(streamed);
            let model = WanModel::load_with(config, scope, precision.into())?;
            let turns = model.turn_bytes_max();
            Ok((model, turns))
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
        let opened = self.open(part, &self.device)?.with_loras(loras);
        Ok(WanModel::load_without_blocks(config, opened, precision.into())?)
    }

    /// The VAE, without the weights of its layers: those come while they are held
    /// ([`Loaded::hold`]), else for the turn of each layer. On a GPU all of them.
    ///
    /// # Errors
    /// As [`transformer`](Self::transformer).
    pub(crate) fn vae(&self, dtype: Format) -> Result<Loaded<Vae>> {
        let config = self.checkpoint.vae_config()?.clone();
        self.load(VAE, &self.device, |opened| {
            let scope = opened.to_dtype(dtype.into()).streaming(usize::MAX);
            Ok((Vae::load(config, scope)?, 0))
        })
    }

    /// The text encoder, of whose layers so many are read for their turn.
    ///
    /// # Errors
    /// As [`transformer`](Self::transformer).
    pub(crate) fn text_encoder(
        &self,
        dtype: Format,
        device: &Device,
        streamed: usize,
    ) -> Result<Loaded<Umt5Encoder>> {
        let config = self.checkpoint.text_encoder_config()?.clone();
        self.load("text_encoder", device, |opened| {
            let scope = opened.to_dtype(dtype.into()).streaming(streamed);
            let encoder = Umt5Encoder::load(config, scope)?;
            let turns = encoder.turn_bytes_max();
            Ok((encoder, turns))
        })
    }

    /// The image encoder, in f32, of whose layers so many are read for their turn.
    ///
    /// # Errors
    /// As [`transformer`](Self::transformer).
    pub(crate) fn image_encoder(&self, streamed: usize) -> Result<Loaded<ClipVision>> {
        let config = self.checkpoint.image_encoder_config()?.clone();
        self.load("image_encoder", &self.device, |opened| {
            let encoder = ClipVision::load(config, opened.streaming(streamed))?;
            let turns = encoder.turn_bytes_max();
            Ok((encoder, turns))
        })
    }

    /// The weights of a part, as its network asks for them.
    ///
    /// # Errors
    /// If they are not there, or are another network's.
    fn open(&self, part: &str, device: &Device) -> Result<Scope> {
        let (network, weights) = (self.checkpoint.network(part)?, self.checkpoint.weights(part)?);
        Ok(open(network, weights, device)?.computed_with(&self.arithmetic))
    }

    /// Loads a part; `build` also gives the bytes that come and go with its layers' turns.
    fn load<T>(
        &self,
        part: &str,
        device: &Device,
        build: impl FnOnce(&Scope) -> wan_model::Result<(T, u64)>,
    ) -> Result<Loaded<T>> {
        let opened = self.open(part, device)?;
        let (built, turns) = build(&opened)?;
        // What was fingerprinted is what was loaded.
        self.checkpoint.check_same(part)?;
        let bytes = opened.handed_out() + turns;
        let entry = self.held.enter(Item::Weights, Place::Device, bytes);
        let (held, parts) = (self.held.clone(), self.parts.clone());
        let loaded = Loaded { part: built, bytes: entry, held, parts };
        self.held.settle();
        // That one counts when its weights come.
        if part != VAE {
            self.parts.lock().unwrap_or_else(PoisonError::into_inner).insert(part.into(), bytes);
        }
        Ok(loaded)
    }
}

impl Checkpoint {
    /// Loads the VAE alone, in f32, both of its networks.
    ///
    /// # Errors
    /// If a file is missing, truncated or does not fit its config.
    pub fn load_vae(&self, device: &Device) -> Result<impl Deref<Target = Vae> + use<>> {
        let loader = PartLoader::new(self.clone(), device, &Arithmetic::default());
        let config = self.vae_config()?.clone();
        loader.load(VAE, device, |opened| Ok((Vae::load(config, opened.clone())?, 0)))
    }
}
