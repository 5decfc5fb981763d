//! Tensors as a plugin sees them: a handle, and a handful of operations the host performs.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::{Error, Result, epoch1};

pub use crate::epoch1::{TensorBody, TensorForm};

/// A tensor that the host owns.
///
/// Cloning copies the handle, never the numbers; dropping the last handle frees them. Along one
/// axis every tensor is divided into *latent frames*, and every operation works frame by frame.
/// The host counts the bytes of all handles that a plugin keeps.
pub struct Tensor(pub(crate) epoch1::TensorHandle);

impl Tensor {
    /// Wraps a tensor of the host (or of a test's stand-in for one).
    pub fn new<B: TensorBody + 'static>(body: B) -> Self {
        Self(epoch1::wrap(body))
    }

    /// Frames, elements, number format and place.
    pub fn form(&self) -> TensorForm {
        self.0.form()
    }

    /// The body, if it is of type `B` and was made by this very library.
    ///
    /// # Errors
    /// `Failed` for a handle that someone else made.
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

/// Where a tensor lies.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[repr(u32)]
pub enum Place {
    /// Beside the model (the GPU, where there is one).
    Device = 1,
    /// In the machine's main memory.
    Host = 2,
}

/// One summand of [`TensorOps::combine`].
#[derive(Clone, Copy)]
pub struct Term<'a> {
    /// What is multiplied.
    pub tensor: &'a Tensor,
    /// By what: one number for all frames, or one per frame.
    pub coefficients: Coefficients<'a>,
}

impl Term<'_> {
    /// Checks that there are as many coefficients as frames: for whoever implements [`TensorOps`].
    ///
    /// # Errors
    /// `Failed` where there are more or fewer.
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

/// A document and tensors: what an extension takes and gives.
#[derive(Debug, Default)]
pub struct Message {
    /// JSON, as the extension defines it.
    pub document: String,
    /// Tensors, in the order that the extension defines.
    pub tensors: Vec<Tensor>,
}

/// What the host does with tensors on a plugin's behalf.
///
/// Valid for the duration of the call that it is handed to. Every method may be called from the
/// thread of that call only. Shapes must agree; a mismatch is an error, never undefined.
pub trait TensorOps {
    /// `sum of coefficient * tensor`, accumulated in f64, rounded once to f32.
    ///
    /// A coefficient of exactly 0 is skipped rather than multiplied, so a frame with factors
    /// `1, 0, ..` keeps its bits.
    fn combine(&self, terms: &[Term<'_>]) -> Result<Tensor>;

    /// Sum of `|a|` of each frame, in f64.
    fn frame_abs_sums(&self, a: &Tensor) -> Result<Vec<f64>>;

    /// Sum of `|a - b|` of each frame, in f64, without a temporary of their size.
    fn frame_abs_diffs(&self, a: &Tensor, b: &Tensor) -> Result<Vec<f64>>;

    /// Standard normal noise in the form of `like` (f32), a pure function of the request's seed
    /// and `(stream, index)`: equal arguments give equal bits.
    fn noise_like(&self, like: &Tensor, stream: u64, index: u64) -> Result<Tensor>;

    /// Frames `start .. start + len`, as a copy of their own.
    fn narrow_frames(&self, a: &Tensor, start: usize, len: usize) -> Result<Tensor>;

    /// Tensors joined along the frame axis.
    fn cat_frames(&self, parts: &[&Tensor]) -> Result<Tensor>;

    /// Another number format. To `F8E4M3` each frame is scaled so that its largest element just
    /// fits; the scale travels with the tensor and is undone when it is read or cast back.
    fn cast(&self, a: &Tensor, dtype: DType) -> Result<Tensor>;

    /// Another place. Moving to where it already is shares the handle.
    fn move_to(&self, a: &Tensor, place: Place) -> Result<Tensor>;

    /// All elements as f32, frame by frame. Slow: for the unusual.
    fn read(&self, a: &Tensor) -> Result<Vec<f32>>;

    /// A tensor in the form of `like` (f32) with these elements, in the order of
    /// [`read`](Self::read). Slow: for the unusual.
    fn write_like(&self, like: &Tensor, elements: &[f32]) -> Result<Tensor>;

    /// True once the user has asked to stop; long loops should return
    /// [`Error::cancelled`](crate::Error::cancelled).
    fn cancelled(&self) -> bool;

    /// An operation of a later host, by id (`wan.ops.dot/1`).
    ///
    /// # Errors
    /// `Unsupported` where the host does not have it.
    fn extension(&self, id: &str, _message: Message) -> Result<Message> {
        Err(Error::unsupported(format!("this host has no extension {id}")))
    }
}
