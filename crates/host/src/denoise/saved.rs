//! State of strategies as plain values: a document, and tensors as bytes in the format, with the
//! scales and for the place that they had. Strategies give theirs by the extension [`STATE`].

use candle_core::{DType as CandleDType, Device, Tensor as CandleTensor};
use safetensors::View;
use wan_plugin_api::extensions::STATE;
use wan_plugin_api::{Message, Place, Result as PluginResult, Tensor, state};

use crate::denoise::host_tensor::{HostTensor, place_of};
use crate::denoise::ops::HostOps;
use crate::denoise::stream::Stream;
use crate::error::{Error, Result};
use crate::ledger::Item;
use crate::plugins::registry::Chosen;

/// A stream of evaluations, and its caches, one for each branch.
#[derive(Debug, Clone)]
pub(crate) struct StreamState {
    pub(crate) stream: Stream,
    pub(crate) caches: Vec<Option<StrategyState>>,
}

/// A tensor's numbers in their own format, little endian.
#[derive(Debug, Clone)]
pub(crate) struct TensorBytes {
    dtype: CandleDType,
    shape: Vec<usize>,
    bytes: Vec<u8>,
}

impl TensorBytes {
    pub(crate) fn of(tensor: &CandleTensor) -> Result<Self> {
        let own = tensor.to_device(&Device::Cpu)?.contiguous()?;
        let bytes = View::data(&&own).into_owned();
        Ok(Self { dtype: own.dtype(), shape: own.dims().to_vec(), bytes })
    }

    pub(crate) fn tensor(&self, device: &Device) -> Result<CandleTensor> {
        let Self { dtype, shape, bytes } = self;
        Ok(CandleTensor::from_raw_buffer(bytes, *dtype, shape, &Device::Cpu)?.to_device(device)?)
    }
}

/// What a strategy says of its state.
#[derive(Debug, Clone)]
pub(crate) struct StrategyState {
    document: String,
    /// Each tensor once.
    tensors: Vec<HandleState>,
    /// Which of them each handle is.
    handles: Vec<usize>,
}

/// A tensor as a plugin has it.
#[derive(Debug, Clone)]
struct HandleState {
    tensor: TensorBytes,
    frame_axis: usize,
    frames: usize,
    rows: Option<Vec<u32>>,
    scales: Option<Vec<f32>>,
    place: Place,
    item: Item,
}

impl HandleState {
    fn of(body: &HostTensor) -> Result<Self> {
        Ok(Self {
            tensor: TensorBytes::of(&body.tensor)?,
            frame_axis: body.frame_axis,
            frames: body.frames,
            rows: body.rows.clone(),
            scales: body.scales.clone(),
            place: place_of(&body.tensor),
            item: body.entry.item(),
        })
    }

    fn handle(&self, ops: &HostOps) -> Result<Tensor> {
        let device = if self.place == Place::Host { &Device::Cpu } else { ops.device() };
        let tensor = self.tensor.tensor(device)?;
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

impl StrategyState {
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
                tensors.push(HandleState::of(body)?);
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
        let tensors = self.handles.iter().map(|number| tensors[*number].clone()).collect();
        let message = Message { document: self.document.clone(), tensors };
        state::load(message, extension).map_err(Error::strategy(&chosen.strategy.id))
    }
}
