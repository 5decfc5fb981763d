//! What samplers and caches have in common: texts and options that stay for ever, and their objects.

use std::ffi::{c_char, c_void};
use std::ptr::null;

use serde::de::DeserializeOwned;

use super::host::{references, share};
use super::list;
use super::ops::HostOps;
use crate::c::convert::{answered, c_text, size, sized, text};
use crate::c::messages::{message_from_c, send};
use crate::c::tables::{
    self, Answer, CResult, CTensor, DeclaredOption, ErrorText, List, Message, Ops, Options,
};
use crate::guard::{Guarded, guard};
use crate::{Error, Message as PlainMessage, OptionKind, OptionSpec, Result, Tensor};

/// A text that stays for ever.
pub(super) fn leaked(text: &str) -> *const c_char {
    c_text(text).into_raw()
}

/// Texts that stay for ever.
pub(super) fn leaked_list(texts: &[String]) -> List<c_char> {
    list(texts.iter().map(|text| leaked(text)).collect())
}

/// Options that stay for ever.
pub(super) fn declared(specs: &[OptionSpec]) -> List<DeclaredOption> {
    list(specs.iter().map(|spec| std::ptr::from_ref(Box::leak(Box::new(option(spec))))).collect())
}

fn option(spec: &OptionSpec) -> DeclaredOption {
    let (kind, min, max) = match &spec.kind {
        OptionKind::Bool => (tables::BOOL, 0.0, 0.0),
        #[allow(clippy::cast_precision_loss, reason = "ranges of options are far below 2^53")]
        OptionKind::Int { min, max } => (tables::INT, *min as f64, *max as f64),
        OptionKind::Float { min, max } => (tables::FLOAT, *min, *max),
        OptionKind::Choice(_) => (tables::CHOICE, 0.0, 0.0),
        OptionKind::FloatList => (tables::FLOAT_LIST, 0.0, 0.0),
        OptionKind::Document => (tables::DOCUMENT, 0.0, 0.0),
    };
    let choices = match &spec.kind {
        OptionKind::Choice(words) => leaked_list(words),
        _ => null(),
    };
    DeclaredOption {
        size: size::<DeclaredOption>(),
        kind,
        name: leaked(&spec.name),
        doc: leaked(&spec.doc),
        flag: spec.flag.as_deref().map_or(null(), leaked),
        min,
        max,
        choices,
        initial: leaked(&spec.default.to_string()),
    }
}

/// An author's options.
///
/// # Safety
/// `options` is NULL or the host's.
pub(super) unsafe fn read_options<T: DeserializeOwned>(
    id: &str,
    options: *const Options,
) -> Result<T> {
    // SAFETY: promised by the caller.
    let json = unsafe { text(sized(options, "options")?.json, "options") }?;
    serde_json::from_str(&json).map_err(|e| Error::invalid(format!("{id}: {e}")))
}

/// Makes an object and hands it to the host.
///
/// # Safety
/// `object` is NULL or a place for a pointer, `error` NULL or the host's.
pub(super) unsafe fn make<T>(
    id: &str,
    (object, error): (*mut *mut c_void, *mut ErrorText),
    new: impl FnOnce() -> Result<T>,
) -> CResult {
    let made = guard(id, new).and_then(|made| {
        if object.is_null() {
            return Err(Error::failed("create: NULL in the place of the object"));
        }
        // SAFETY: promised by the caller.
        unsafe { object.write(Box::into_raw(Box::new(Guarded::new(made))).cast()) };
        Ok(())
    });
    // SAFETY: promised by the caller.
    unsafe { answered(error, made) }
}

/// Calls a method of an object.
///
/// # Safety
/// `object` is what [`make`] gave out for a `T`, not in use; `error` is NULL or the host's.
pub(super) unsafe fn call<T>(
    id: &str,
    (object, error): (*mut c_void, *mut ErrorText),
    method: impl FnOnce(&mut T) -> Result<()>,
) -> CResult {
    // SAFETY: promised by the caller.
    let object = unsafe { &mut *object.cast::<Guarded<T>>() };
    let done = guard(id, || method(object.get_mut()));
    // SAFETY: promised by the caller.
    unsafe { answered(error, done) }
}

/// Answers an extension by an object's method.
///
/// # Safety
/// `id`, `question`, `ops` and `answer` are NULL or the host's.
pub(super) unsafe fn answer_extension(
    (id, question, ops): (*const c_char, *const Message, *const Ops),
    answer: *const Answer,
    extension: impl FnOnce(&str, PlainMessage, &HostOps) -> Result<PlainMessage>,
) -> Result<()> {
    // SAFETY: promised by the caller.
    let (id, question, ops) =
        unsafe { (text(id, "id")?, message_from_c(question, share)?, HostOps::new(ops)?) };
    let said = extension(&id, question, &ops)?;
    // SAFETY: promised by the caller.
    unsafe { send(answer, &said.document, &references(&said.tensors)?) }
}

/// Gives a tensor to the host.
///
/// # Safety
/// `out` is NULL or a place for a reference.
pub(super) unsafe fn hand_over(out: *mut *mut CTensor, tensor: &Tensor) -> Result<()> {
    if out.is_null() {
        return Err(Error::failed("NULL in the place of a tensor"));
    }
    // SAFETY: promised by the caller.
    unsafe { out.write(super::host::give(tensor)?) };
    Ok(())
}

/// Ends an object.
///
/// # Safety
/// `object` is what [`make`] gave out for a `T`; it is not used any more.
pub(super) unsafe extern "C" fn destroy<T>(object: *mut c_void) {
    // SAFETY: promised by the caller.
    drop(unsafe { Box::from_raw(object.cast::<Guarded<T>>()) });
}
