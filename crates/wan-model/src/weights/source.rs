//! Where the layers of a network get their weights from.

use std::collections::HashMap;
use std::fmt::Display;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use candle_core::{DType, Device, Shape, Tensor};
use wan_kernels::packed_words;
use wan_weight_files::Encoding;

use super::turns::{Turn, Turns};
use super::weight::{Changed, Weight};
use crate::arithmetic::{self, Arithmetic};
use crate::error::{Error, Result};

/// Weights by the names of diffusers and transformers.
pub trait Source: Send + Sync {
    /// The weight `name` of this shape, in the format that it has there.
    ///
    /// # Errors
    /// [`Error::MissingTensor`], [`Error::WrongShape`], and errors of reading.
    fn get(&self, name: &str, shape: &[usize]) -> Result<Weight>;

    /// What [`get`](Self::get) would give, by what is known without reading numbers.
    ///
    /// # Errors
    /// As [`get`](Self::get).
    fn at_rest(&self, name: &str, shape: &[usize]) -> Result<AtRest> {
        AtRest::of(&self.get(name, shape)?)
    }

    /// Whether there is a weight of this name.
    fn has(&self, name: &str) -> bool;
}

/// A weight in memory, in the format of its file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AtRest {
    /// The format of its numbers.
    pub encoding: Encoding,
    /// Rows and columns, as of a matrix: the first axis, and all others together.
    pub shape: (usize, usize),
    /// Bytes of what is beside them: factors, LoRAs.
    pub beside: u64,
}

impl AtRest {
    fn of(weight: &Weight) -> Result<Self> {
        let shape = weight.matrix_shape();
        let (encoding, beside) = match weight {
            Weight::Dense(tensor) => (encoding_of(tensor.dtype()), 0),
            Weight::Scaled(scaled) => (scaled.encoding, 4 * scaled.factors.len() as u64),
            Weight::Quantised(blocks) => (blocks.encoding, 0),
            Weight::Changed(Changed { base, changes }) => {
                let base = Self::of(base)?;
                let bytes: u64 = changes.iter().map(|change| change.bytes()).sum();
                (base.encoding, base.beside + bytes)
            }
        };
        Ok(Self { encoding, shape, beside })
    }

    /// Whether any rows of it can be widened for themselves: they are whole blocks.
    pub(crate) fn has_whole_rows(&self) -> bool {
        self.shape.1.is_multiple_of(self.encoding.block())
    }

    /// Bytes that it is held in by a layer whose products are computed in `compute`: in the format of
    /// the file, or in `compute` where the file has wider floats, or blocks across the ends of rows. On
    /// the CPU floats that are packed for products have rows in panels of 32.
    pub fn bytes(&self, compute: DType) -> u64 {
        match self.is_packed(compute) {
            true => {
                let precision = arithmetic::precision(compute);
                4 * packed_words([self.shape.0, self.shape.1], precision) as u64
            }
            false => self.unpacked_bytes(compute),
        }
    }

    /// Whether a layer on the CPU keeps it as products in `compute` read it.
    pub(crate) fn is_packed(&self, compute: DType) -> bool {
        self.dtype().is_some_and(|dtype| arithmetic::is_packed(dtype, compute))
    }

    /// candle's format of the same numbers.
    pub(crate) fn dtype(&self) -> Option<DType> {
        super::dtype_of(self.encoding)
    }

    /// As [`bytes`](Self::bytes), of what is not packed.
    pub(crate) fn unpacked_bytes(&self, compute: DType) -> u64 {
        let (rows, columns) = self.shape;
        let computed = rows * columns * compute.size_in_bytes();
        let is_wider = self.encoding.is_wide_float()
            && self.encoding.block_bits() > 8 * compute.size_in_bytes();
        let is_held = !is_wider && self.has_whole_rows();
        match self.encoding.bytes(rows * columns) {
            Some(bytes) if is_held => bytes + self.beside,
            _ => computed as u64 + self.beside,
        }
    }
}

/// The format of a tensor's numbers, as files name it.
fn encoding_of(dtype: DType) -> Encoding {
    match dtype {
        DType::F64 => Encoding::F64,
        DType::F16 => Encoding::F16,
        DType::BF16 => Encoding::BF16,
        DType::F32 => Encoding::F32,
        DType::I64 => Encoding::I64,
        DType::U8 => Encoding::U8,
        other => Encoding::Other(8 * other.size_in_bytes()),
    }
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
    arithmetic: Arithmetic,
    handed_out: Arc<AtomicU64>,
    /// Layers of a network that are read for their turns.
    streamed: usize,
    /// The layer that is being built, if it is one of those.
    turn: Option<Turn>,
}

impl Scope {
    /// The whole of `source`, in `dtype` on `device`.
    pub fn new(source: impl Source + 'static, dtype: DType, device: &Device) -> Self {
        Self::shared(Arc::new(source), dtype, device)
    }

    /// The same for a source that others hold too.
    pub fn shared(source: Arc<dyn Source>, dtype: DType, device: &Device) -> Self {
        let (prefix, arithmetic, device) = (String::new(), Arithmetic::default(), device.clone());
        let handed_out = Arc::default();
        Self { source, prefix, dtype, device, arithmetic, handed_out, streamed: 0, turn: None }
    }

    /// The same weights for layers that compute with these kernels, where they compute on the CPU.
    #[must_use]
    pub fn computed_with(&self, arithmetic: &Arithmetic) -> Self {
        Self { arithmetic: arithmetic.clone(), ..self.clone() }
    }

    /// What layers compute with on the CPU.
    pub(crate) fn arithmetic(&self) -> &Arithmetic {
        &self.arithmetic
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

    /// The same weights, but `layers` of the network's layers are in memory for their turn alone.
    #[must_use]
    pub fn streaming(&self, layers: usize) -> Self {
        Self { streamed: layers, ..self.clone() }
    }

    /// The turns of a network of `count` layers.
    ///
    /// # Errors
    /// As [`Turns::new`].
    pub(crate) fn turns(&self, count: usize) -> Result<Turns> {
        Turns::new(count, self.streamed)
    }

    /// The same weights for layer `number` of `turns`.
    pub(crate) fn in_turn(&self, turns: &Turns, number: usize) -> Self {
        Self { turn: turns.of(number).cloned(), ..self.clone() }
    }

    /// The same weights, read when they are asked for.
    pub(crate) fn out_of_turn(&self) -> Self {
        Self { turn: None, ..self.clone() }
    }

    /// The turn that matrices are read for.
    pub(crate) fn turn(&self) -> Option<&Turn> {
        self.turn.as_ref()
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

    /// What [`weight`](Self::weight) would give.
    ///
    /// # Errors
    /// As [`Source::at_rest`].
    pub fn at_rest(&self, shape: impl Into<Shape>, name: &str) -> Result<AtRest> {
        self.source.at_rest(&format!("{}{name}", self.prefix), shape.into().dims())
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
        self.count((tensor.elem_count() * self.dtype.size_in_bytes()) as u64);
        Ok(tensor)
    }

    /// Counts bytes as handed out.
    pub(crate) fn count(&self, bytes: u64) {
        self.handed_out.fetch_add(bytes, Relaxed);
    }

    /// Whether there is a weight of this name.
    pub fn contains_tensor(&self, name: &str) -> bool {
        self.source.has(&format!("{}{name}", self.prefix))
    }

    /// Bytes of all weights handed out so far, in the formats that they are held in. After loading,
    /// this is what the network holds.
    pub fn handed_out(&self) -> u64 {
        self.handed_out.load(Relaxed)
    }
}
