//! A stand-in for the host: its operations on plain vectors, for tests of a plugin.
//!
//! ```
//! use wan_plugin_api::{TensorOps, frame_terms, term};
//! use wan_plugin_kit::{VecOps, values};
//!
//! let ops = VecOps::default();
//! let x = ops.tensor(2, &[1.0, 2.0, 3.0, 4.0]); // two frames of two elements
//! let y = ops.combine(&[term(1.0, &x), frame_terms(&[0.0, 10.0], &x)]).unwrap();
//! assert_eq!(values(&y), [1.0, 2.0, 33.0, 44.0]);
//! ```

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use wan_plugin_api::{
    DType, Denoise, Error, FrameLevel, Place, Result, Tensor, TensorBody, TensorForm, TensorOps,
    Term,
};

/// Operations on vectors of f32, frame after frame. A cast rounds as the host does, but elements
/// stay f32; [`TensorForm::bytes`] is what the host would count.
#[derive(Default)]
pub struct VecOps {
    /// Seed of [`TensorOps::noise_like`].
    pub seed: u64,
    live_bytes: Arc<LiveBytes>,
}

/// Bytes that handles keep alive, per place.
#[derive(Default)]
struct LiveBytes {
    device: AtomicU64,
    host: AtomicU64,
}

impl LiveBytes {
    fn of(&self, place: Place) -> &AtomicU64 {
        if place == Place::Host { &self.host } else { &self.device }
    }
}

struct VecTensor {
    form: TensorForm,
    elements: Vec<f32>,
    /// Number of elements that count as held where rows repeat: each distinct row once.
    held: Option<usize>,
    live_bytes: Arc<LiveBytes>,
}

impl TensorBody for VecTensor {
    fn form(&self) -> TensorForm {
        self.form
    }
}

impl Drop for VecTensor {
    fn drop(&mut self) {
        self.live_bytes.of(self.form.place()).fetch_sub(self.form.bytes, Ordering::Relaxed);
    }
}

/// The elements of a [`VecOps`] tensor.
pub fn values(tensor: &Tensor) -> Vec<f32> {
    tensor.body::<VecTensor>().expect("made by VecOps").elements.clone()
}

impl VecOps {
    /// An f32 tensor on the device, of `frames` equal frames.
    pub fn tensor(&self, frames: usize, elements: &[f32]) -> Tensor {
        self.make(frames, elements.to_vec(), DType::F32, Place::Device)
    }

    /// A time signal in f32: distinct rows of `width` elements, and the row of each entry. Entries
    /// are divided evenly among `frames`. Each distinct row is counted once, as the host does.
    pub fn rows(&self, frames: usize, rows: &[f32], width: usize, index: &[u32]) -> Tensor {
        let row = |at: &u32| rows[*at as usize * width..][..width].iter().copied();
        let elements = index.iter().flat_map(row).collect();
        self.hold(frames, elements, Some(rows.len()), (DType::F32, Place::Device))
    }

    /// Bytes of all tensors that handles keep alive.
    pub fn live_bytes(&self) -> u64 {
        self.live_bytes_in(Place::Device) + self.live_bytes_in(Place::Host)
    }

    /// The part of [`live_bytes`](Self::live_bytes) in `place`.
    pub fn live_bytes_in(&self, place: Place) -> u64 {
        self.live_bytes.of(place).load(Ordering::Relaxed)
    }

    fn make(&self, frames: usize, elements: Vec<f32>, dtype: DType, place: Place) -> Tensor {
        self.hold(frames, elements, None, (dtype, place))
    }

    fn hold(
        &self,
        frames: usize,
        elements: Vec<f32>,
        held: Option<usize>,
        (dtype, place): (DType, Place),
    ) -> Tensor {
        let scales = if dtype == DType::F8E4M3 { 4 * frames as u64 } else { 0 };
        let bytes = held.unwrap_or(elements.len()) as u64 * dtype.bytes() + scales;
        self.live_bytes.of(place).fetch_add(bytes, Ordering::Relaxed);
        let frame_elements = (elements.len() / frames.max(1)) as u64;
        let form = TensorForm::new(frames as u32, frame_elements, dtype, place, bytes);
        Tensor::new(VecTensor { form, elements, held, live_bytes: self.live_bytes.clone() })
    }

    /// Rebuilds a tensor that another `VecOps` had, from its form and elements.
    pub(crate) fn remade(&self, form: TensorForm, elements: Vec<f32>) -> Tensor {
        self.live_bytes.of(form.place()).fetch_add(form.bytes, Ordering::Relaxed);
        let dtype = form.dtype().unwrap_or(DType::F32);
        let held = (form.bytes / dtype.bytes()) as usize;
        let held = Some(held).filter(|held| *held < elements.len());
        Tensor::new(VecTensor { form, elements, held, live_bytes: self.live_bytes.clone() })
    }

    fn sums(&self, a: &VecTensor, at: impl Fn(usize) -> f64) -> Vec<f64> {
        let per_frame = a.form.frame_elements as usize;
        (0..a.form.frames as usize)
            .map(|f| (f * per_frame..(f + 1) * per_frame).map(&at).sum())
            .collect()
    }
}

fn body(tensor: &Tensor) -> Result<&VecTensor> {
    tensor.body::<VecTensor>()
}

/// `value` rounded to bf16, ties to even.
fn to_bf16(value: f32) -> f32 {
    let bits = value.to_bits();
    let rounded = bits.wrapping_add(0x7fff + ((bits >> 16) & 1)) & 0xffff_0000;
    f32::from_bits(rounded)
}

/// Largest finite value of f8 e4m3.
const F8E4M3_MAX: f32 = 448.0;

/// `value` rounded to f8 e4m3 (3 bits of mantissa, steps of 2^-9 below 2^-6), ties to even.
fn to_f8e4m3(value: f32) -> f32 {
    if !value.is_finite() || value == 0.0 {
        return value;
    }
    let exponent = value.abs().log2().floor().max(-6.0);
    let step = (exponent - 3.0).exp2();
    ((value / step).round_ties_even() * step).clamp(-F8E4M3_MAX, F8E4M3_MAX)
}

/// One frame rounded to f8 e4m3, with the scale at which its largest magnitude becomes 448.
fn frame_to_f8e4m3(frame: &[f32]) -> Vec<f32> {
    let largest = frame.iter().fold(0f32, |largest, v| largest.max(v.abs()));
    let scale = if largest > 0.0 { largest / F8E4M3_MAX } else { 1.0 };
    frame.iter().map(|v| to_f8e4m3(v / scale) * scale).collect()
}

impl TensorOps for VecOps {
    fn combine(&self, terms: &[Term<'_>]) -> Result<Tensor> {
        let first = terms.first().ok_or_else(|| Error::failed("combine needs a term"))?;
        let form = first.tensor.form();
        let mut sums = vec![0f64; form.elements() as usize];
        for term in terms {
            term.check()?;
            let tensor = body(term.tensor)?;
            if tensor.elements.len() != sums.len() || tensor.form.frames != form.frames {
                return Err(Error::failed("combine: tensors of different forms"));
            }
            for (i, value) in tensor.elements.iter().enumerate() {
                let coefficient = term.coefficient(i / form.frame_elements as usize);
                if coefficient != 0.0 {
                    sums[i] += coefficient * *value as f64;
                }
            }
        }
        let elements = sums.iter().map(|s| *s as f32).collect();
        Ok(self.make(form.frames as usize, elements, DType::F32, Place::Device))
    }

    fn frame_abs_sums(&self, a: &Tensor) -> Result<Vec<f64>> {
        let a = body(a)?;
        Ok(self.sums(a, |i| a.elements[i].abs() as f64))
    }

    fn frame_abs_diffs(&self, a: &Tensor, b: &Tensor) -> Result<Vec<f64>> {
        let (a, b) = (body(a)?, body(b)?);
        if a.elements.len() != b.elements.len() || a.form.frames != b.form.frames {
            return Err(Error::failed("frame_abs_diffs: tensors of different forms"));
        }
        Ok(self.sums(a, |i| (a.elements[i] as f64 - b.elements[i] as f64).abs()))
    }

    fn noise_like(&self, like: &Tensor, stream: u64, index: u64) -> Result<Tensor> {
        // The host keeps the first of all streams to itself.
        if stream > u64::MAX - (1 << 32) {
            return Err(Error::failed(format!("noise_like: there is no stream {stream}")));
        }
        let form = like.form();
        let mut state = self.seed ^ stream.rotate_left(24) ^ index.rotate_left(48);
        let mut uniform = || {
            // SplitMix64.
            state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
            let mut z = state;
            z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
            ((z ^ (z >> 31)) >> 11) as f64 / (1u64 << 53) as f64
        };
        let mut normal = || {
            let radius = (-2.0 * (1.0 - uniform()).ln()).sqrt();
            (radius * (std::f64::consts::TAU * uniform()).cos()) as f32
        };
        let elements = (0..form.elements()).map(|_| normal()).collect();
        Ok(self.make(form.frames as usize, elements, DType::F32, Place::Device))
    }

    fn narrow_frames(&self, a: &Tensor, start: usize, len: usize) -> Result<Tensor> {
        let a = body(a)?;
        let per_frame = a.form.frame_elements as usize;
        let range = start * per_frame..(start + len) * per_frame;
        let elements = a.elements.get(range).ok_or_else(|| Error::failed("no such frames"))?;
        Ok(self.make(len, elements.to_vec(), DType::F32, Place::Device))
    }

    fn cat_frames(&self, parts: &[&Tensor]) -> Result<Tensor> {
        let mut elements = Vec::new();
        let mut frames = 0;
        for part in parts {
            elements.extend_from_slice(&body(part)?.elements);
            frames += part.form().frames as usize;
        }
        Ok(self.make(frames, elements, DType::F32, Place::Device))
    }

    fn cast(&self, a: &Tensor, dtype: DType) -> Result<Tensor> {
        let tensor = body(a)?;
        if tensor.form.dtype() == Some(dtype) {
            return Ok(a.clone());
        }
        let elements = match dtype {
            DType::F32 => tensor.elements.clone(),
            DType::BF16 => tensor.elements.iter().map(|v| to_bf16(*v)).collect(),
            DType::F8E4M3 => {
                let frames = tensor.elements.chunks(tensor.form.frame_elements as usize);
                frames.flat_map(frame_to_f8e4m3).collect()
            }
            other => return Err(Error::unsupported(format!("VecOps does not cast to {other:?}"))),
        };
        // In f8 equal rows differ by the scale of their frame, so each frame is held.
        let held = tensor.held.filter(|_| dtype != DType::F8E4M3);
        Ok(self.hold(tensor.form.frames as usize, elements, held, (dtype, tensor.form.place())))
    }

    fn move_to(&self, a: &Tensor, place: Place) -> Result<Tensor> {
        let tensor = body(a)?;
        let dtype = tensor.form.dtype().expect("made by VecOps");
        if tensor.form.place() == place {
            return Ok(a.clone());
        }
        let (frames, elements) = (tensor.form.frames as usize, tensor.elements.clone());
        Ok(self.hold(frames, elements, tensor.held, (dtype, place)))
    }

    fn read(&self, a: &Tensor) -> Result<Vec<f32>> {
        Ok(body(a)?.elements.clone())
    }

    fn write_like(&self, like: &Tensor, elements: &[f32]) -> Result<Tensor> {
        if elements.len() as u64 != like.form().elements() {
            return Err(Error::failed("write_like: wrong number of elements"));
        }
        Ok(self.tensor(like.form().frames as usize, elements))
    }

    fn cancelled(&self) -> bool {
        false
    }
}

/// A model given by a function from the sample's elements and the frames' levels to the velocity.
///
/// Frames that are not asked for have what the function gives; a host gives zeros there. So a step that
/// uses what it has not asked for shows.
pub struct ModelFn<'a, F> {
    /// Makes the tensors of the results.
    pub ops: &'a VecOps,
    /// Elements and levels to the elements of the velocity.
    pub velocity: F,
    /// Number of evaluations so far.
    pub evaluations: u32,
}

impl<'a, F: FnMut(&[f32], &[FrameLevel]) -> Vec<f32>> ModelFn<'a, F> {
    /// A model that was not evaluated yet.
    pub fn new(ops: &'a VecOps, velocity: F) -> Self {
        Self { ops, velocity, evaluations: 0 }
    }
}

impl<F: FnMut(&[f32], &[FrameLevel]) -> Vec<f32>> Denoise for ModelFn<'_, F> {
    fn velocity(&mut self, sample: &Tensor, levels: &[FrameLevel]) -> Result<Tensor> {
        self.evaluations += 1;
        let velocity = (self.velocity)(&values(sample), levels);
        Ok(self.ops.tensor(levels.len(), &velocity))
    }
}
