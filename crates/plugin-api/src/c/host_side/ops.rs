//! The host's operations and its model, as a library calls them.

use std::ffi::c_char;

use super::handles::{Lent, get, give, references};
use super::under_way::{with_model, with_ops};
use crate::c::convert::{answered, entries, level_from_c, place, size, text};
use crate::c::messages::{message_from_c, send};
use crate::c::tables::{Answer, CResult, CTensor, ErrorText, Level, Message, Model, Ops, Term};
use crate::guard::guard_host;
use crate::{
    Coefficients, DType, Denoise, Error, FrameLevel, Result, Tensor, TensorOps, Term as PlainTerm,
};

/// The operations.
pub(super) static OPS: Ops = Ops {
    size: size::<Ops>(),
    reserved: 0,
    combine: Some(combine),
    frame_abs_sums: Some(frame_abs_sums),
    frame_abs_diffs: Some(frame_abs_diffs),
    noise_like: Some(noise_like),
    narrow_frames: Some(narrow_frames),
    cat_frames: Some(cat_frames),
    cast: Some(cast),
    move_to: Some(move_to),
    read: Some(read),
    write_like: Some(write_like),
    cancelled: Some(cancelled),
    extension: Some(extension),
};

/// The model.
pub(super) static MODEL: Model =
    Model { size: size::<Model>(), reserved: 0, velocity: Some(velocity) };

/// Calls an operation that gives a tensor.
///
/// # Safety
/// `out` is NULL or a place for a reference, `error` as for [`answered`].
unsafe fn gives(
    name: &str,
    (out, error): (*mut *mut CTensor, *mut ErrorText),
    operation: impl FnOnce(&dyn TensorOps) -> Result<Tensor>,
) -> CResult {
    let made = guard_host(name, || with_ops(operation));
    // SAFETY: promised by the caller.
    unsafe { handed_out(name, (out, error), made) }
}

/// # Safety
/// As [`gives`].
unsafe fn handed_out(
    name: &str,
    (out, error): (*mut *mut CTensor, *mut ErrorText),
    made: Result<Tensor>,
) -> CResult {
    let written = made.and_then(|tensor| {
        if out.is_null() {
            return Err(Error::failed(format!("{name}: NULL in the place of its result")));
        }
        // SAFETY: promised by the caller.
        unsafe { out.write(give(tensor)) };
        Ok(())
    });
    // SAFETY: promised by the caller.
    unsafe { answered(error, written) }
}

/// Calls an operation that gives numbers, at most `room` of them.
///
/// # Safety
/// `out` is NULL or has room for so many numbers, `error` as for [`answered`].
unsafe fn lists<T: Copy>(
    name: &str,
    (out, room, error): (*mut T, u64, *mut ErrorText),
    operation: impl FnOnce(&dyn TensorOps) -> Result<Vec<T>>,
) -> CResult {
    let written = guard_host(name, || with_ops(operation)).and_then(|numbers| {
        if out.is_null() || (numbers.len() as u64) > room {
            let (has, needs) = (if out.is_null() { 0 } else { room }, numbers.len());
            return Err(Error::failed(format!("{name}: room for {has} numbers, {needs} come")));
        }
        // SAFETY: there is room for them.
        unsafe { out.copy_from_nonoverlapping(numbers.as_ptr(), numbers.len()) };
        Ok(())
    });
    // SAFETY: promised by the caller.
    unsafe { answered(error, written) }
}

unsafe extern "C" fn combine(
    terms: *const Term,
    count: u64,
    out: *mut *mut CTensor,
    error: *mut ErrorText,
) -> CResult {
    let operation = |ops: &dyn TensorOps| {
        // SAFETY: the header asks for `count` terms with as many coefficients as they say.
        let terms = unsafe { entries(terms, count, "terms") }?;
        let tensors = terms.iter().map(|term| get(term.tensor)).collect::<Result<Vec<_>>>()?;
        let mut plain = Vec::with_capacity(terms.len());
        for (term, tensor) in terms.iter().zip(&tensors) {
            // SAFETY: as above.
            let coefficients =
                unsafe { entries(term.coefficients, term.coefficient_count, "coefficients") }?;
            let coefficients = match coefficients {
                [one] => Coefficients::All(*one),
                many => Coefficients::PerFrame(many),
            };
            let term = PlainTerm { tensor, coefficients };
            term.check()?;
            plain.push(term);
        }
        ops.combine(&plain)
    };
    // SAFETY: the header asks for these.
    unsafe { gives("combine", (out, error), operation) }
}

unsafe extern "C" fn frame_abs_sums(
    a: *const CTensor,
    sums: *mut f64,
    room: u64,
    error: *mut ErrorText,
) -> CResult {
    // SAFETY: the header asks for these.
    unsafe { lists("frame_abs_sums", (sums, room, error), |ops| ops.frame_abs_sums(&get(a)?)) }
}

unsafe extern "C" fn frame_abs_diffs(
    a: *const CTensor,
    b: *const CTensor,
    sums: *mut f64,
    room: u64,
    error: *mut ErrorText,
) -> CResult {
    let operation = |ops: &dyn TensorOps| ops.frame_abs_diffs(&get(a)?, &get(b)?);
    // SAFETY: the header asks for these.
    unsafe { lists("frame_abs_diffs", (sums, room, error), operation) }
}

unsafe extern "C" fn noise_like(
    like: *const CTensor,
    stream: u64,
    index: u64,
    out: *mut *mut CTensor,
    error: *mut ErrorText,
) -> CResult {
    let operation = |ops: &dyn TensorOps| ops.noise_like(&get(like)?, stream, index);
    // SAFETY: the header asks for these.
    unsafe { gives("noise_like", (out, error), operation) }
}

unsafe extern "C" fn narrow_frames(
    a: *const CTensor,
    start: u32,
    len: u32,
    out: *mut *mut CTensor,
    error: *mut ErrorText,
) -> CResult {
    let operation = |ops: &dyn TensorOps| ops.narrow_frames(&get(a)?, start as usize, len as usize);
    // SAFETY: the header asks for these.
    unsafe { gives("narrow_frames", (out, error), operation) }
}

unsafe extern "C" fn cat_frames(
    parts: *const *const CTensor,
    count: u64,
    out: *mut *mut CTensor,
    error: *mut ErrorText,
) -> CResult {
    let operation = |ops: &dyn TensorOps| {
        // SAFETY: the header asks for `count` references.
        let parts = unsafe { entries(parts, count, "parts") }?;
        let parts = parts.iter().map(|part| get(*part)).collect::<Result<Vec<_>>>()?;
        ops.cat_frames(&parts.iter().collect::<Vec<_>>())
    };
    // SAFETY: the header asks for these.
    unsafe { gives("cat_frames", (out, error), operation) }
}

unsafe extern "C" fn cast(
    a: *const CTensor,
    dtype: u32,
    out: *mut *mut CTensor,
    error: *mut ErrorText,
) -> CResult {
    let operation = |ops: &dyn TensorOps| match DType::from_code(dtype) {
        Some(dtype) => ops.cast(&get(a)?, dtype),
        None => Err(Error::unsupported(format!("no number format {dtype}"))),
    };
    // SAFETY: the header asks for these.
    unsafe { gives("cast", (out, error), operation) }
}

unsafe extern "C" fn move_to(
    a: *const CTensor,
    to: u32,
    out: *mut *mut CTensor,
    error: *mut ErrorText,
) -> CResult {
    let operation = |ops: &dyn TensorOps| match to {
        1 | 2 => ops.move_to(&get(a)?, place(to)),
        other => Err(Error::unsupported(format!("no place {other}"))),
    };
    // SAFETY: the header asks for these.
    unsafe { gives("move_to", (out, error), operation) }
}

unsafe extern "C" fn read(
    a: *const CTensor,
    elements: *mut f32,
    room: u64,
    error: *mut ErrorText,
) -> CResult {
    // SAFETY: the header asks for these.
    unsafe { lists("read", (elements, room, error), |ops| ops.read(&get(a)?)) }
}

unsafe extern "C" fn write_like(
    like: *const CTensor,
    elements: *const f32,
    count: u64,
    out: *mut *mut CTensor,
    error: *mut ErrorText,
) -> CResult {
    let operation = |ops: &dyn TensorOps| {
        // SAFETY: the header asks for `count` elements.
        ops.write_like(&get(like)?, unsafe { entries(elements, count, "elements") }?)
    };
    // SAFETY: the header asks for these.
    unsafe { gives("write_like", (out, error), operation) }
}

unsafe extern "C" fn cancelled() -> u32 {
    guard_host("cancelled", || with_ops(|ops| Ok(ops.cancelled().into()))).unwrap_or(0)
}

unsafe extern "C" fn extension(
    id: *const c_char,
    question: *const Message,
    answer: *const Answer,
    error: *mut ErrorText,
) -> CResult {
    let operation = |ops: &dyn TensorOps| {
        // SAFETY: the header asks for a text and a message.
        let (id, question) = unsafe { (text(id, "id")?, message_from_c(question, get)?) };
        ops.extension(&id, question)
    };
    let sent = guard_host("extension", || with_ops(operation)).and_then(|message| {
        let lent: Vec<Lent> = message.tensors.iter().map(Lent::new).collect();
        // SAFETY: the header asks for an answer, whose function takes it.
        unsafe { send(answer, &message.document, &references(&lent)) }
    });
    // SAFETY: the header asks for it.
    unsafe { answered(error, sent) }
}

unsafe extern "C" fn velocity(
    sample: *const CTensor,
    levels: *const Level,
    count: u64,
    out: *mut *mut CTensor,
    error: *mut ErrorText,
) -> CResult {
    let evaluate = |model: &mut dyn Denoise| {
        // SAFETY: the header asks for `count` levels.
        let levels = unsafe { entries(levels, count, "levels") }?;
        let levels: Vec<FrameLevel> = levels.iter().map(level_from_c).collect();
        model.velocity(&get(sample)?, &levels)
    };
    let made = guard_host("velocity", || with_model(evaluate));
    // SAFETY: the header asks for these.
    unsafe { handed_out("velocity", (out, error), made) }
}
