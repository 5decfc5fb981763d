//! Tensor operations for plugins, over candle.
//!
//! Every operation works on runs of latent frames, so a temporary is never larger than one run,
//! and sums are taken in f64 whatever the device.

use std::sync::Arc;

use candle_core::{DType as CandleDType, Device, Tensor as CandleTensor};
use wan_plugin_api::extensions::{ATTENTION, REENCODE};
use wan_plugin_api::{
    Coefficients, DType, Error, ErrorKind, LogLevel, Message, Place, Result, Tensor, TensorOps,
    Term,
};

use crate::cancel::Cancel;
use crate::denoise::host_tensor::{HostTensor, candle_dtype, cast, dtype_of, place_of};
use crate::denoise::noise::Noise;
use crate::denoise::reencode::Reencode;
use crate::error::Error as HostError;
use crate::latents::LATENT_FRAME_AXIS;
use crate::ledger::{Item, Ledger};
use crate::plugins::log;

/// Largest finite value of f8 e4m3.
const F8E4M3_MAX: f32 = 448.0;

fn failed(error: candle_core::Error) -> Error {
    Error::failed(error.to_string())
}

/// The operations that one owner (a cache object, a sampler) is given.
#[derive(Clone)]
pub struct HostOps {
    device: Device,
    noise: Noise,
    cancel: Cancel,
    ledger: Arc<Ledger>,
    reencode: Option<Arc<dyn Reencode + Send + Sync>>,
}

impl HostOps {
    /// Axis of the latent frames in latents, `[1, C, F, H, W]`.
    pub const LATENT_FRAME_AXIS: usize = LATENT_FRAME_AXIS;

    /// Axis of the tokens, frame after frame, in hidden states, `[1, L, D]`.
    pub const TOKEN_AXIS: usize = 1;

    /// Operations on `device`; handles are counted in a ledger of their own.
    pub fn new(device: Device, noise: Noise, cancel: Cancel) -> Self {
        Self { device, noise, cancel, ledger: Arc::default(), reencode: None }
    }

    /// The same operations for another owner, with a ledger of its own.
    pub fn sibling(&self) -> Self {
        Self { ledger: Arc::default(), ..self.clone() }
    }

    /// The same operations with a VAE for [`REENCODE`].
    #[must_use]
    pub(crate) fn with_reencode(self, reencode: Arc<dyn Reencode + Send + Sync>) -> Self {
        Self { reencode: Some(reencode), ..self }
    }

    /// Stops what they are used for.
    pub(crate) fn cancel(&self) -> &Cancel {
        &self.cancel
    }

    /// What noise is drawn from.
    pub(crate) fn noise(&self) -> &Noise {
        &self.noise
    }

    /// Where its tensors are made.
    pub fn device(&self) -> &Device {
        &self.device
    }

    /// What the owner's handles keep alive.
    pub fn ledger(&self) -> &Arc<Ledger> {
        &self.ledger
    }

    /// A handle to a tensor divided into `frames` along `frame_axis`.
    ///
    /// # Errors
    /// If the axis cannot be divided so.
    pub fn wrap(
        &self,
        item: Item,
        tensor: CandleTensor,
        frame_axis: usize,
        frames: usize,
    ) -> Result<Tensor> {
        let along = tensor.dims().get(frame_axis).copied().unwrap_or(0);
        if frames == 0 || along == 0 || along % frames != 0 {
            return Err(Error::failed(format!(
                "{:?} cannot be divided into {frames} frames along axis {frame_axis}",
                tensor.dims()
            )));
        }
        Ok(self.make(item, tensor, frame_axis, frames, None))
    }

    /// A handle to a time signal: `rows` `[K, ..]` and the row of each entry.
    ///
    /// # Errors
    /// If the entries cannot be divided into `frames`.
    pub fn wrap_rows(
        &self,
        item: Item,
        rows: CandleTensor,
        index: Vec<u32>,
        frames: usize,
    ) -> Result<Tensor> {
        let entries = if index.len() == 1 { vec![index[0]; frames] } else { index };
        if frames == 0 || entries.len() % frames != 0 {
            return Err(Error::failed(format!("{} entries, {frames} frames", entries.len())));
        }
        let bytes = (rows.elem_count() * rows.dtype().size_in_bytes()) as u64;
        let entry = self.ledger.enter(item, place_of(&rows), bytes);
        let rows = HostTensor {
            tensor: rows,
            frame_axis: 0,
            frames,
            rows: Some(entries),
            scales: None,
            entry,
        };
        Ok(Tensor::new(rows))
    }

    /// The candle tensor behind a handle, in f32.
    ///
    /// # Errors
    /// If the handle is not of this host.
    pub fn unwrap(&self, tensor: &Tensor) -> Result<CandleTensor> {
        let body = tensor.body::<HostTensor>()?;
        body.to_f32().and_then(|t| t.to_device(&self.device)).map_err(failed)
    }

    pub(crate) fn make(
        &self,
        item: Item,
        tensor: CandleTensor,
        frame_axis: usize,
        frames: usize,
        scales: Option<Vec<f32>>,
    ) -> Tensor {
        let elements = tensor.elem_count() * tensor.dtype().size_in_bytes();
        let bytes = elements + scales.as_ref().map_or(0, |s| 4 * s.len());
        let entry = self.ledger.enter(item, place_of(&tensor), bytes as u64);
        Tensor::new(HostTensor { tensor, frame_axis, frames, rows: None, scales, entry })
    }

    /// `like` with other elements.
    fn make_like(&self, like: &HostTensor, tensor: CandleTensor) -> Tensor {
        self.make(like.entry.item(), tensor, like.axis(), like.frames, None)
    }

    fn frame_sums(
        &self,
        frames: usize,
        frame: impl Fn(usize) -> candle_core::Result<CandleTensor>,
    ) -> Result<Vec<f64>> {
        let sum = |f| frame(f)?.to_dtype(CandleDType::F64)?.abs()?.sum_all();
        let sums = (0..frames).map(sum).collect::<candle_core::Result<Vec<_>>>();
        // Read together: a GPU is waited for once, not for every frame.
        sums.and_then(|sums| CandleTensor::stack(&sums, 0)?.to_vec1()).map_err(failed)
    }
}

/// Runs of frames whose coefficients are the same in every term: `(start, len)`.
fn equal_runs(terms: &[Term<'_>], frames: usize) -> Vec<(usize, usize)> {
    let uniform = terms.iter().all(|t| matches!(t.coefficients, Coefficients::All(_)));
    if uniform {
        return vec![(0, frames)];
    }
    let same = |a, b| terms.iter().all(|t| t.coefficient(a) == t.coefficient(b));
    let mut runs: Vec<(usize, usize)> = Vec::new();
    for frame in 0..frames {
        match runs.last_mut() {
            Some((start, len)) if same(*start, frame) => *len += 1,
            _ => runs.push((frame, 1)),
        }
    }
    runs
}

/// `sum of coefficient * tensor` over frames `start .. start + len`.
fn combine_run(
    terms: &[(&HostTensor, Term<'_>)],
    start: usize,
    len: usize,
) -> candle_core::Result<CandleTensor> {
    let device = terms[0].0.tensor.device();
    // What a cache keeps may lie elsewhere.
    let part = |body: &HostTensor| body.frames_f32(start, len)?.to_device(device);
    let wanted: Vec<(f64, &HostTensor)> = terms
        .iter()
        .map(|(body, term)| (term.coefficient(start), *body))
        .filter(|(coefficient, _)| *coefficient != 0.0)
        .collect();
    match wanted.as_slice() {
        [] => part(terms[0].0)?.zeros_like(),
        // A frame that nothing is added to keeps its bits.
        [(1.0, only)] => part(only),
        [first, rest @ ..] => {
            let scaled = |(c, body): &(f64, &HostTensor)| {
                part(body)?.to_dtype(CandleDType::F64)?.affine(*c, 0.0)
            };
            let mut sum = scaled(first)?;
            for term in rest {
                sum = (sum + scaled(term)?)?;
            }
            sum.to_dtype(CandleDType::F32)
        }
    }
}

impl TensorOps for HostOps {
    fn combine(&self, terms: &[Term<'_>]) -> Result<Tensor> {
        let bodies = terms
            .iter()
            .map(|t| Ok((t.tensor.body::<HostTensor>()?, *t)))
            .collect::<Result<Vec<_>>>()?;
        let first = bodies.first().ok_or_else(|| Error::failed("combine needs a term"))?.0;
        for (body, _) in &bodies {
            first.same_form(body, "combine")?;
        }
        let axis = first.axis();
        let runs = equal_runs(terms, first.frames)
            .into_iter()
            .map(|(start, len)| combine_run(&bodies, start, len))
            .collect::<candle_core::Result<Vec<_>>>()
            .and_then(|runs| match runs.as_slice() {
                [one] => one.force_contiguous(),
                many => CandleTensor::cat(many, axis),
            });
        Ok(self.make_like(first, runs.map_err(failed)?))
    }

    fn frame_abs_sums(&self, a: &Tensor) -> Result<Vec<f64>> {
        let a = a.body::<HostTensor>()?;
        self.frame_sums(a.frames, |f| a.frames_f32(f, 1))
    }

    fn frame_abs_diffs(&self, a: &Tensor, b: &Tensor) -> Result<Vec<f64>> {
        let (a, b) = (a.body::<HostTensor>()?, b.body::<HostTensor>()?);
        a.same_form(b, "frame_abs_diffs")?;
        self.frame_sums(a.frames, |f| {
            let x = a.frames_f32(f, 1)?.to_dtype(CandleDType::F64)?;
            let y = b.frames_f32(f, 1)?.to_device(x.device())?.to_dtype(CandleDType::F64)?;
            &x - y.reshape(x.shape())?
        })
    }

    fn noise_like(&self, like: &Tensor, stream: u64, index: u64) -> Result<Tensor> {
        let body = like.body::<HostTensor>()?;
        let shape = body.shape_f32();
        let own = Noise::PLUGIN_STREAMS.checked_add(stream);
        let own = own.ok_or_else(|| {
            let last = u64::MAX - Noise::PLUGIN_STREAMS;
            Error::failed(format!("there is no stream {stream} of noise; the last is {last}"))
        })?;
        let drawn = self.noise.draw(own, index, &shape, &self.device);
        Ok(self.make_like(body, drawn.map_err(failed)?))
    }

    fn narrow_frames(&self, a: &Tensor, start: usize, len: usize) -> Result<Tensor> {
        let body = a.body::<HostTensor>()?;
        if len == 0 || start.checked_add(len).is_none_or(|end| end > body.frames) {
            let frames = body.frames;
            return Err(Error::failed(format!("{len} frames from frame {start} on, of {frames}")));
        }
        // A copy: a view would keep the whole tensor alive and make the ledger lie.
        let part = body.frames_f32(start, len).and_then(|t| t.force_contiguous());
        Ok(self.make(body.entry.item(), part.map_err(failed)?, body.axis(), len, None))
    }

    fn cat_frames(&self, parts: &[&Tensor]) -> Result<Tensor> {
        let bodies =
            parts.iter().map(|p| p.body::<HostTensor>()).collect::<Result<Vec<&HostTensor>>>()?;
        let first = bodies.first().ok_or_else(|| Error::failed("cat_frames needs a part"))?;
        let axis = first.axis();
        let frames = bodies.iter().map(|b| b.frames).sum();
        let joined = bodies
            .iter()
            .map(|b| b.to_f32()?.to_device(first.tensor.device()))
            .collect::<candle_core::Result<Vec<_>>>()
            .and_then(|all| CandleTensor::cat(&all, axis));
        Ok(self.make(first.entry.item(), joined.map_err(failed)?, axis, frames, None))
    }

    fn cast(&self, a: &Tensor, dtype: DType) -> Result<Tensor> {
        let body = a.body::<HostTensor>()?;
        if dtype_of(body.tensor.dtype()) == dtype {
            return Ok(a.clone());
        }
        if let (Some(rows), false) = (&body.rows, dtype == DType::F8E4M3) {
            let cast = cast(&body.tensor, candle_dtype(dtype)).map_err(failed)?;
            return self.wrap_rows(body.entry.item(), cast, rows.clone(), body.frames);
        }
        self.cast_frames(body, dtype).map_err(failed)
    }

    fn move_to(&self, a: &Tensor, place: Place) -> Result<Tensor> {
        let body = a.body::<HostTensor>()?;
        let device = if place == Place::Host { &Device::Cpu } else { &self.device };
        if body.tensor.device().same_device(device) {
            return Ok(a.clone());
        }
        let moved = body.tensor.to_device(device).map_err(failed)?;
        let (item, frames) = (body.entry.item(), body.frames);
        match &body.rows {
            Some(rows) => self.wrap_rows(item, moved, rows.clone(), frames),
            None => Ok(self.make(item, moved, body.frame_axis, frames, body.scales.clone())),
        }
    }

    fn read(&self, a: &Tensor) -> Result<Vec<f32>> {
        let body = a.body::<HostTensor>()?;
        let frames = (0..body.frames)
            .map(|f| body.frames_f32(f, 1)?.flatten_all()?.to_vec1::<f32>())
            .collect::<candle_core::Result<Vec<_>>>();
        Ok(frames.map_err(failed)?.concat())
    }

    fn write_like(&self, like: &Tensor, elements: &[f32]) -> Result<Tensor> {
        let body = like.body::<HostTensor>()?;
        if elements.len() as u64 != like.form().elements() {
            return Err(Error::failed(format!(
                "{} elements for a tensor of {}",
                elements.len(),
                like.form().elements()
            )));
        }
        let mut frame_shape = body.shape_f32();
        frame_shape[body.axis()] /= body.frames;
        let written = elements
            .chunks(elements.len() / body.frames)
            .map(|chunk| CandleTensor::from_slice(chunk, frame_shape.as_slice(), &self.device))
            .collect::<candle_core::Result<Vec<_>>>()
            .and_then(|frames| CandleTensor::cat(&frames, body.axis()));
        Ok(self.make_like(body, written.map_err(failed)?))
    }

    fn cancelled(&self) -> bool {
        self.cancel.is_cancelled()
    }

    fn log(&self, level: LogLevel, text: &str) {
        log::write(level, text);
    }

    fn extension(&self, id: &str, message: Message) -> Result<Message> {
        match id {
            REENCODE => self.reencoded(&message.tensors),
            ATTENTION => self.without_a_store(&message.document),
            _ => Err(Error::unsupported(format!("this host has no extension {id}"))),
        }
    }
}

impl HostOps {
    /// For `map_err` on calls of a strategy that has these operations: it may say that the run was stopped
    /// where it was.
    pub(crate) fn error_of(&self, id: &str) -> impl FnOnce(Error) -> HostError + use<> {
        let (id, cancel) = (id.to_string(), self.cancel.clone());
        move |error| match error.kind {
            ErrorKind::Cancelled if cancel.is_cancelled() => HostError::Cancelled,
            _ => HostError::strategy(&id)(error),
        }
    }

    /// Casts frame by frame; to f8 each frame is first divided by its largest element over 448.
    fn cast_frames(&self, body: &HostTensor, dtype: DType) -> candle_core::Result<Tensor> {
        if dtype != DType::F8E4M3 {
            let cast = body.to_f32()?.to_dtype(candle_dtype(dtype))?;
            return Ok(self.make_like(body, cast));
        }
        let mut scales = Vec::with_capacity(body.frames);
        let mut frames = Vec::with_capacity(body.frames);
        for f in 0..body.frames {
            let frame = body.frames_f32(f, 1)?;
            let largest = frame.abs()?.max_all()?.to_scalar::<f32>()?;
            let scale = if largest > 0.0 { largest / F8E4M3_MAX } else { 1.0 };
            frames.push(cast(&frame.affine(1.0 / scale as f64, 0.0)?, CandleDType::F8E4M3)?);
            scales.push(scale);
        }
        let cast = CandleTensor::cat(&frames, body.axis())?;
        Ok(self.make(body.entry.item(), cast, body.axis(), body.frames, Some(scales)))
    }
}

mod by_frame;
mod extensions;
#[cfg(test)]
mod tests;
