//! The host's operations and its model, seen from the plugin.

use std::ptr::null_mut;

use super::host::{log, own, reference, references, share};
use crate::c::convert::{c_text, levels_to_c, no_error, outcome, sized};
use crate::c::messages::{Awaited, with_message};
use crate::c::tables::{CResult, CTensor, ErrorText, Model, Ops, Term};
use crate::{
    Coefficients, DType, Denoise, Error, FrameLevel, LogLevel, Message, Place, Result, Tensor,
    TensorOps, Term as PlainTerm,
};

/// The operations of a call.
pub(super) struct HostOps(Ops);

/// The model of a step.
pub(super) struct HostModel(Model);

impl HostOps {
    /// # Safety
    /// `ops` is NULL or the host's table.
    pub(super) unsafe fn new(ops: *const Ops) -> Result<Self> {
        // SAFETY: promised by the caller.
        unsafe { sized(ops, "ops") }.map(Self)
    }
}

impl HostModel {
    /// # Safety
    /// `model` is NULL or the host's table.
    pub(super) unsafe fn new(model: *const Model) -> Result<Self> {
        // SAFETY: promised by the caller.
        unsafe { sized(model, "model") }.map(Self)
    }
}

fn missing(name: &str) -> Error {
    Error::unsupported(format!("this host has no operation {name}"))
}

/// Calls a function that gives a tensor.
fn tensor(call: impl FnOnce(*mut *mut CTensor, *mut ErrorText) -> CResult) -> Result<Tensor> {
    let (mut out, mut error) = (null_mut(), no_error());
    outcome(call(&raw mut out, &raw mut error), &error)?;
    own(out)
}

/// Calls a function that gives so many numbers.
fn numbers<T: Copy + Default>(
    count: u64,
    call: impl FnOnce(*mut T, u64, *mut ErrorText) -> CResult,
) -> Result<Vec<T>> {
    let room = usize::try_from(count).map_err(|_| Error::failed(format!("{count} numbers")))?;
    let (mut numbers, mut error) = (vec![T::default(); room], no_error());
    outcome(call(numbers.as_mut_ptr(), count, &raw mut error), &error)?;
    Ok(numbers)
}

fn frames_of(count: usize, of: &Tensor) -> Result<u32> {
    u32::try_from(count).map_err(|_| {
        let frames = of.form().frames;
        Error::failed(format!("narrow_frames: {count} of {frames} frames"))
    })
}

impl TensorOps for HostOps {
    fn combine(&self, terms: &[PlainTerm<'_>]) -> Result<Tensor> {
        let function = self.0.combine.ok_or_else(|| missing("combine"))?;
        terms.iter().try_for_each(PlainTerm::check)?;
        let term = |term: &PlainTerm<'_>| {
            let coefficients = match &term.coefficients {
                Coefficients::All(one) => std::slice::from_ref(one),
                Coefficients::PerFrame(many) => many,
            };
            Ok(Term {
                tensor: reference(term.tensor)?,
                coefficients: coefficients.as_ptr(),
                coefficient_count: coefficients.len() as u64,
            })
        };
        let terms = terms.iter().map(term).collect::<Result<Vec<_>>>()?;
        // SAFETY: everything lives until it returns; so in all functions here.
        tensor(|out, error| unsafe { function(terms.as_ptr(), terms.len() as u64, out, error) })
    }

    fn frame_abs_sums(&self, a: &Tensor) -> Result<Vec<f64>> {
        let function = self.0.frame_abs_sums.ok_or_else(|| missing("frame_abs_sums"))?;
        let of = reference(a)?;
        // SAFETY: as above.
        numbers(a.form().frames.into(), |out, room, error| unsafe {
            function(of, out, room, error)
        })
    }

    fn frame_abs_diffs(&self, a: &Tensor, b: &Tensor) -> Result<Vec<f64>> {
        let function = self.0.frame_abs_diffs.ok_or_else(|| missing("frame_abs_diffs"))?;
        let (x, y) = (reference(a)?, reference(b)?);
        numbers(a.form().frames.into(), |out, room, error| {
            // SAFETY: as above.
            unsafe { function(x, y, out, room, error) }
        })
    }

    fn noise_like(&self, like: &Tensor, stream: u64, index: u64) -> Result<Tensor> {
        let function = self.0.noise_like.ok_or_else(|| missing("noise_like"))?;
        let like = reference(like)?;
        // SAFETY: as above.
        tensor(|out, error| unsafe { function(like, stream, index, out, error) })
    }

    fn narrow_frames(&self, a: &Tensor, start: usize, len: usize) -> Result<Tensor> {
        let function = self.0.narrow_frames.ok_or_else(|| missing("narrow_frames"))?;
        let (start, len, of) = (frames_of(start, a)?, frames_of(len, a)?, reference(a)?);
        // SAFETY: as above.
        tensor(|out, error| unsafe { function(of, start, len, out, error) })
    }

    fn cat_frames(&self, parts: &[&Tensor]) -> Result<Tensor> {
        let function = self.0.cat_frames.ok_or_else(|| missing("cat_frames"))?;
        let parts = parts.iter().map(|part| reference(part)).collect::<Result<Vec<_>>>()?;
        // SAFETY: as above.
        tensor(|out, error| unsafe { function(parts.as_ptr(), parts.len() as u64, out, error) })
    }

    fn cast(&self, a: &Tensor, dtype: DType) -> Result<Tensor> {
        let function = self.0.cast.ok_or_else(|| missing("cast"))?;
        let of = reference(a)?;
        // SAFETY: as above.
        tensor(|out, error| unsafe { function(of, dtype as u32, out, error) })
    }

    fn move_to(&self, a: &Tensor, place: Place) -> Result<Tensor> {
        let function = self.0.move_to.ok_or_else(|| missing("move_to"))?;
        let of = reference(a)?;
        // SAFETY: as above.
        tensor(|out, error| unsafe { function(of, place as u32, out, error) })
    }

    fn read(&self, a: &Tensor) -> Result<Vec<f32>> {
        let function = self.0.read.ok_or_else(|| missing("read"))?;
        let of = reference(a)?;
        // SAFETY: as above.
        numbers(a.form().elements(), |out, room, error| unsafe { function(of, out, room, error) })
    }

    fn write_like(&self, like: &Tensor, elements: &[f32]) -> Result<Tensor> {
        let function = self.0.write_like.ok_or_else(|| missing("write_like"))?;
        let (like, count) = (reference(like)?, elements.len() as u64);
        // SAFETY: as above.
        tensor(|out, error| unsafe { function(like, elements.as_ptr(), count, out, error) })
    }

    fn cancelled(&self) -> bool {
        // SAFETY: as above.
        self.0.cancelled.is_some_and(|function| unsafe { function() } != 0)
    }

    fn log(&self, level: LogLevel, text: &str) {
        log(level, text);
    }

    fn extension(&self, id: &str, message: Message) -> Result<Message> {
        let function = self.0.extension.ok_or_else(|| missing("extension"))?;
        let (mut awaited, mut error, name) = (Awaited::new(share), no_error(), c_text(id));
        let answer = awaited.answer();
        let tensors = references(&message.tensors)?;
        let answered = with_message(&message.document, &tensors, |question| {
            // SAFETY: as above.
            unsafe { function(name.as_ptr(), question, &raw const answer, &raw mut error) }
        });
        outcome(answered, &error)?;
        awaited.take(id)
    }
}

impl Denoise for HostModel {
    fn velocity(&mut self, sample: &Tensor, levels: &[FrameLevel]) -> Result<Tensor> {
        let function = self.0.velocity.ok_or_else(|| missing("velocity"))?;
        let (sample, levels) = (reference(sample)?, levels_to_c(levels));
        let count = levels.len() as u64;
        // SAFETY: as above.
        tensor(|out, error| unsafe { function(sample, levels.as_ptr(), count, out, error) })
    }
}
