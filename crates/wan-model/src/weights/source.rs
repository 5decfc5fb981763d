//! Where the layers of a network get their weights from.

use std::collections::HashMap;
use std::fmt::Display;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use candle_core::{DType, Device, Shape, Tensor};

use super::weight::Weight;
use crate::error::{Error, Result};

/// Weights by the names of diffusers and transformers.
pub trait Source: Send + Sync {
    /// The weight `name` of this shape, in the format that it has there.
    ///
    /// # Errors
    /// [`Error::MissingTensor`], [`Error::WrongShape`], and errors of reading.
    fn get(&self, name: &str, shape: &[usize]) -> Result<Weight>;

    /// Whether there is a weight of this name.
    fn has(&self, name: &str) -> bool;
}

/// Tensors in memory.
impl Source for HashMap<String, Tensor> {
    fn get(&self, name: &str, shape: &[usize]) -> Result<Weight> {
        const ORIGIN: &str = "the given weights";
        let missing = || Error::MissingTensor { origin: ORIGIN.to_owned(), name: name.to_owned() };
        let tensor = HashMap::get(self, name).ok_or_else(missing)?;
        if tensor.dims() != shape {
            return Err(Error::WrongShape {
                origin: ORIGIN.to_owned(),
                name: name.to_owned(),
                expected: shape.to_owned(),
                found: tensor.dims().to_owned(),
            });
        }
        Ok(Weight::Dense(tensor.clone()))
    }

    fn has(&self, name: &str) -> bool {
        self.contains_key(name)
    }
}

/// A source, the part of a network whose weights are asked for, and the format and device that they
/// are wanted in. Cheap to clone.
#[derive(Clone)]
pub struct Scope {
    source: Arc<dyn Source>,
    /// Empty, or ends with a dot.
    prefix: String,
    dtype: DType,
    device: Device,
    handed_out: Arc<AtomicU64>,
}

impl Scope {
    /// The whole of `source`, in `dtype` on `device`.
    pub fn new(source: impl Source + 'static, dtype: DType, device: &Device) -> Self {
        Self::shared(Arc::new(source), dtype, device)
    }

    /// The same for a source that others hold too.
    pub fn shared(source: Arc<dyn Source>, dtype: DType, device: &Device) -> Self {
        let (prefix, handed_out) = Default::default();
        Self { source, prefix, dtype, device: device.clone(), handed_out }
    }

    /// The same part of another source, made of this one.
    pub(crate) fn map(&self, of: impl FnOnce(Arc<dyn Source>) -> Arc<dyn Source>) -> Self {
        Self { source: of(self.source.clone()), ..self.clone() }
    }

    /// The part of this name.
    #[must_use]
    pub fn pp(&self, part: impl Display) -> Self {
        Self { prefix: format!("{}{part}.", self.prefix), ..self.clone() }
    }

    /// The same weights in another format.
    #[must_use]
    pub fn to_dtype(&self, dtype: DType) -> Self {
        Self { dtype, ..self.clone() }
    }

    /// The format that weights are wanted in.
    pub fn dtype(&self) -> DType {
        self.dtype
    }

    /// The device that they are wanted on.
    pub fn device(&self) -> &Device {
        &self.device
    }

    /// The weight `name` as the source has it.
    ///
    /// # Errors
    /// As [`Source::get`].
    pub fn weight(&self, shape: impl Into<Shape>, name: &str) -> Result<Weight> {
        self.source.get(&format!("{}{name}", self.prefix), shape.into().dims())
    }

    /// The weight `name`, in this format on this device.
    ///
    /// # Errors
    /// As [`Source::get`].
    pub fn get(&self, shape: impl Into<Shape>, name: &str) -> Result<Tensor> {
        self.tensor(&self.weight(shape, name)?)
    }

    /// A weight of the source in this format on this device. It counts as handed out.
    ///
    /// # Errors
    /// As [`Weight::wide`].
    pub fn tensor(&self, weight: &Weight) -> Result<Tensor> {
        let tensor = weight.to_tensor(self.dtype, &self.device)?;
        let bytes = tensor.elem_count() * self.dtype.size_in_bytes();
        self.handed_out.fetch_add(bytes as u64, Relaxed);
        Ok(tensor)
    }

    /// Whether there is a weight of this name.
    pub fn contains_tensor(&self, name: &str) -> bool {
        self.source.has(&format!("{}{name}", self.prefix))
    }

    /// Bytes of all tensors handed out so far, in the formats that they were wanted in. After
    /// loading, this is what the network holds.
    pub fn handed_out(&self) -> u64 {
        self.handed_out.load(Relaxed)
    }
}
