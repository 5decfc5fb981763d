//! Tensors as a plugin sees them: opaque handles, and the operations that the host offers.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::{Error, Result, epoch1};

pub use crate::epoch1::{TensorBody, TensorForm};

/// A tensor that the host owns.
///
/// Cloning copies the handle, never the elements; dropping the last handle frees them. Every tensor
/// is divided into *latent frames* along one axis, and every operation works frame by frame. The
/// host counts the bytes that a plugin's handles keep alive.
pub struct Tensor(pub(crate) epoch1::TensorHandle);

impl Tensor {
    /// Makes a handle to a tensor of the host, or of a stand-in for the host in tests.
    pub fn new<B: TensorBody + 'static>(body: B) -> Self {
        Self(epoch1::wrap(body))
    }

    /// Frames, elements, number format and place.
    pub fn form(&self) -> TensorForm {
        self.0.form()
    }

    /// The body of a handle that was made by [`new`](Self::new) with a `B`, in this library.
    ///
    /// # Errors
    /// `Failed` for any other handle.
    pub fn body<B: TensorBody + 'static>(&self) -> Result<&B> {
        epoch1::unwrap(&self.0).ok_or_else(|| Error::failed("this tensor is not of this host"))
    }
}

impl Clone for Tensor {
    fn clone(&self) -> Self {
        Self(epoch1::share(&self.0))
    }
}

impl fmt::Debug for Tensor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Tensor({:?})", self.form())
    }
}

/// Number format of a tensor.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[repr(u32)]
pub enum DType {
    /// 32-bit float.
    F32 = 1,
    /// 16-bit float with 8 bits of exponent.
    BF16 = 2,
    /// 16-bit float with 5 bits of exponent.
    F16 = 3,
    /// 8-bit float with 4 bits of exponent; the host keeps one f32 scale per frame beside it.
    F8E4M3 = 4,
}

impl DType {
    /// Bytes of one element.
    pub fn bytes(self) -> u64 {
        match self {
            Self::F32 => 4,
            Self::BF16 | Self::F16 => 2,
            Self::F8E4M3 => 1,
        }
    }

    /// The format with this number.
    pub(crate) fn from_code(code: u32) -> Option<Self> {
        [Self::F32, Self::BF16, Self::F16, Self::F8E4M3].into_iter().find(|d| *d as u32 == code)
    }
}

/// The memory in which a tensor lies.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[repr(u32)]
pub enum Place {
    /// The memory of the model's device.
    Device = 1,
    /// Main memory.
    Host = 2,
}

/// One summand of [`TensorOps::combine`].
#[derive(Clone, Copy)]
pub struct Term<'a> {
    /// The tensor.
    pub tensor: &'a Tensor,
    /// Its factor: one for all frames, or one per frame.
    pub coefficients: Coefficients<'a>,
}

impl Term<'_> {
    /// Checks the number of coefficients. To be called by implementations of [`TensorOps`].
    ///
    /// # Errors
    /// `Failed` unless there is one coefficient, or one per frame.
    pub fn check(&self) -> Result<()> {
        let frames = self.tensor.form().frames as usize;
        match self.coefficients {
            Coefficients::PerFrame(given) if given.len() != frames => Err(Error::failed(format!(
                "{} coefficients for a tensor of {frames} frames",
                given.len()
            ))),
            _ => Ok(()),
        }
    }

    /// The coefficient of one frame.
    pub fn coefficient(&self, frame: usize) -> f64 {
        match self.coefficients {
            Coefficients::All(one) => one,
            Coefficients::PerFrame(many) => many[frame],
        }
    }
}

/// Factors of a [`Term`].
#[derive(Clone, Copy, Debug)]
pub enum Coefficients<'a> {
    /// The same for every frame.
    All(f64),
    /// One per frame.
    PerFrame(&'a [f64]),
}

/// `coefficient * tensor`, the same for every frame.
pub fn term(coefficient: f64, tensor: &Tensor) -> Term<'_> {
    Term { tensor, coefficients: Coefficients::All(coefficient) }
}

/// `coefficients[frame] * tensor[frame]`.
pub fn frame_terms<'a>(coefficients: &'a [f64], tensor: &'a Tensor) -> Term<'a> {
    Term { tensor, coefficients: Coefficients::PerFrame(coefficients) }
}

/// How much a line of the log matters ([`TensorOps::log`]).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u32)]
pub enum LogLevel {
    /// Something went wrong.
    Error = 1,
    /// Something is not as it should be.
    Warn = 2,
    /// What a user may want to know.
    Info = 3,
    /// What the author wants to know.
    Debug = 4,
    /// Every step of it.
    Trace = 5,
}

impl LogLevel {
    /// The level with this number; `Trace` for one that is not known.
    pub(crate) fn from_code(code: u32) -> Self {
        let known = [Self::Error, Self::Warn, Self::Info, Self::Debug];
        known.into_iter().find(|level| *level as u32 == code).unwrap_or(Self::Trace)
    }
}

/// A document and tensors: the question or the answer of an extension.
#[derive(Debug, Default)]
pub struct Message {
    /// JSON, as the extension defines it.
    pub document: String,
    /// Tensors, in the order that the extension defines.
    pub tensors: Vec<Tensor>,
}

/// The tensor operations of the host.
///
/// Valid during the call that it is passed to, on the thread of that call. Every method fails with
/// `Failed` if shapes do not agree or the device fails.
pub trait TensorOps {
    /// The sum of `coefficient * tensor`, accumulated in f64 and rounded once to f32.
    ///
    /// A term with coefficient 0 is skipped, so a frame with coefficients `1, 0, ..` keeps its
    /// bits.
    fn combine(&self, terms: &[Term<'_>]) -> Result<Tensor>;

    /// Sum of `|a|` of each frame, in f64.
    fn frame_abs_sums(&self, a: &Tensor) -> Result<Vec<f64>>;

    /// Sum of `|a - b|` of each frame, in f64, without a temporary of the size of `a`.
    fn frame_abs_diffs(&self, a: &Tensor, b: &Tensor) -> Result<Vec<f64>>;

    /// Standard normal noise, f32, in the shape of `like`: a pure function of the request's seed,
    /// `stream` and `index`.
    fn noise_like(&self, like: &Tensor, stream: u64, index: u64) -> Result<Tensor>;

    /// A copy of frames `start .. start + len`.
    fn narrow_frames(&self, a: &Tensor, start: usize, len: usize) -> Result<Tensor>;

    /// Tensors joined along the frame axis.
    fn cat_frames(&self, parts: &[&Tensor]) -> Result<Tensor>;

    /// The tensor in another number format. For `F8E4M3` each frame is scaled so that its largest
    /// magnitude is the largest of the format; the scale is kept with the tensor and undone when it
    /// is read or cast back.
    fn cast(&self, a: &Tensor, dtype: DType) -> Result<Tensor>;

    /// The tensor in another place; the same handle if it is there already.
    fn move_to(&self, a: &Tensor, place: Place) -> Result<Tensor>;

    /// All elements as f32, frame by frame. Slow: copies them to main memory.
    fn read(&self, a: &Tensor) -> Result<Vec<f32>>;

    /// An f32 tensor in the shape of `like` with these elements, in the order of
    /// [`read`](Self::read). Slow: copies them from main memory.
    fn write_like(&self, like: &Tensor, elements: &[f32]) -> Result<Tensor>;

    /// Whether the user has stopped the run. Long loops should return
    /// [`Error::cancelled`](crate::Error::cancelled) then.
    fn cancelled(&self) -> bool;

    /// Writes a line to the host's log, where `WAN_LOG` or the embedding program lets it through.
    fn log(&self, _level: LogLevel, _text: &str) {}

    /// An operation that was added after the epoch was frozen, by id
    /// ([`REENCODE`](crate::extensions::REENCODE)).
    ///
    /// # Errors
    /// `Unsupported` where the host does not have it.
    fn extension(&self, id: &str, _message: Message) -> Result<Message> {
        Err(Error::unsupported(format!("this host has no extension {id}")))
    }
}
