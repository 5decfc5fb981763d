//! State of strategies as plain values: a document, and tensors in the format, with the scales and
//! for the place that they had. Strategies give theirs by the extension [`STATE`]. Tensors do not
//! change, so a state shares their numbers with the strategy; it is no entry in a ledger.

use candle_core::{Device, Tensor as CandleTensor};
use serde::{Deserialize, Serialize};
use wan_plugin_api::extensions::STATE;
use wan_plugin_api::{Message, Place, Result as PluginResult, Tensor, state};

use crate::denoise::host_tensor::{HostTensor, place_of};
use crate::denoise::ops::HostOps;
use crate::denoise::stream::Stream;
use crate::error::{Error, Result};
use crate::ledger::Item;
use crate::plugins::registry::Chosen;

/// A stream of evaluations, and its caches, one for each branch. `T` is what stands for a tensor: the
/// tensor itself, or its number in a file.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct StreamState<T> {
    pub(crate) stream: Stream,
    pub(crate) caches: Vec<Option<StrategyState<T>>>,
}

impl<T> StreamState<T> {
    /// The same with something else for each tensor.
    pub(crate) fn map<U>(self, of: &mut impl FnMut(T) -> Result<U>) -> Result<StreamState<U>> {
        let caches = self.caches.into_iter().map(|cache| cache.map(|c| c.map(of)).transpose());
        Ok(StreamState { stream: self.stream, caches: caches.collect::<Result<_>>()? })
    }
}

/// What a strategy says of its state.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct StrategyState<T> {
    document: String,
    /// Each tensor once.
    tensors: Vec<HandleState<T>>,
    /// Which of them each handle is.
    handles: Vec<usize>,
}

/// A tensor as a plugin has it.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct HandleState<T> {
    /// In its own format.
    tensor: T,
    frame_axis: usize,
    frames: usize,
    rows: Option<Vec<u32>>,
    scales: Option<Vec<f32>>,
    place: Place,
    item: Item,
}

impl HandleState<CandleTensor> {
    fn of(body: &HostTensor) -> Self {
        Self {
            tensor: body.tensor.clone(),
            frame_axis: body.frame_axis,
            frames: body.frames,
            rows: body.rows.clone(),
            scales: body.scales.clone(),
            place: place_of(&body.tensor),
            item: body.entry.item(),
        }
    }

    fn handle(&self, ops: &HostOps) -> Result<Tensor> {
        let device = if self.place == Place::Host { &Device::Cpu } else { ops.device() };
        let tensor = self.tensor.to_device(device)?;
        let wrapped = match &self.rows {
            Some(rows) => ops.wrap_rows(self.item, tensor, rows.clone(), self.frames),
            None => {
                let scales = self.scales.clone();
                Ok(ops.make(self.item, tensor, self.frame_axis, self.frames, scales))
            }
        };
        wrapped.map_err(Error::strategy("saved state"))
    }
}

/// Refuses a strategy that cannot be saved.
pub(crate) fn check_keeps_state(chosen: &Chosen) -> Result<()> {
    let strategy = &chosen.strategy;
    if strategy.extensions.iter().any(|id| id == STATE) {
        return Ok(());
    }
    Err(Error::invalid(format!(
        "{} does not answer {STATE}: a run with it cannot be saved and resumed",
        strategy.id
    )))
}

impl<T> StrategyState<T> {
    /// The same with something else for each tensor.
    pub(crate) fn map<U>(self, of: &mut impl FnMut(T) -> Result<U>) -> Result<StrategyState<U>> {
        let handle = |state: HandleState<T>| {
            let HandleState { tensor, frame_axis, frames, rows, scales, place, item } = state;
            let tensor = of(tensor)?;
            Ok(HandleState { tensor, frame_axis, frames, rows, scales, place, item })
        };
        Ok(StrategyState {
            document: self.document,
            tensors: self.tensors.into_iter().map(handle).collect::<Result<_>>()?,
            handles: self.handles,
        })
    }
}

impl StrategyState<CandleTensor> {
    /// Asks an object, by its method `extension`.
    pub(crate) fn of(
        chosen: &Chosen,
        extension: impl FnMut(&str, Message) -> PluginResult<Message>,
    ) -> Result<Self> {
        check_keeps_state(chosen)?;
        let id = &chosen.strategy.id;
        let message = state::save(extension).map_err(Error::strategy(id))?;
        let (mut known, mut tensors, mut handles) = (Vec::new(), Vec::new(), Vec::new());
        for handle in &message.tensors {
            let body = handle.body::<HostTensor>().map_err(Error::strategy(id))?;
            let number = known.iter().position(|other| std::ptr::eq(*other, body));
            handles.push(number.unwrap_or(tensors.len()));
            if number.is_none() {
                known.push(body);
                tensors.push(HandleState::of(body));
            }
        }
        Ok(Self { document: message.document, tensors, handles })
    }

    /// Hands it to a fresh object, by its method `extension`; tensors are made by `ops`.
    pub(crate) fn load(
        &self,
        chosen: &Chosen,
        ops: &HostOps,
        extension: impl FnMut(&str, Message) -> PluginResult<Message>,
    ) -> Result<()> {
        let tensors = self.tensors.iter().map(|tensor| tensor.handle(ops));
        let tensors = tensors.collect::<Result<Vec<_>>>()?;
        let handle = |number: &usize| {
            tensors.get(*number).cloned().ok_or_else(|| {
                Error::invalid(format!("a saved state has no tensor of number {number}"))
            })
        };
        let tensors = self.handles.iter().map(handle).collect::<Result<_>>()?;
        let message = Message { document: self.document.clone(), tensors };
        state::load(message, extension).map_err(Error::strategy(&chosen.strategy.id))
    }
}
