//! The host's table, as this library keeps it, and tensors of the host.

use std::sync::OnceLock;

use crate::c::convert::{form_from_c, size, sized};
use crate::c::tables::{CTensor, Form, Host, OK};
use crate::epoch1::TensorBody;
use crate::{Error, LogLevel, Result, Tensor, TensorForm};

static HOST: OnceLock<Host> = OnceLock::new();

/// Keeps the host's table; false for a host of another epoch, or one that lacks a function.
///
/// # Safety
/// `host` is NULL or a host's table.
pub(super) unsafe fn meet(host: *const Host) -> bool {
    // SAFETY: promised by the caller.
    let Ok(host) = (unsafe { sized(host, "host") }) else { return false };
    let is_whole = host.retain.is_some()
        && host.release.is_some()
        && host.form.is_some()
        && host.log.is_some();
    if host.epoch != super::EPOCH || !is_whole {
        return false;
    }
    HOST.get_or_init(|| host);
    true
}

/// A reference to a tensor of the host.
pub(super) struct Reference {
    number: usize,
    form: TensorForm,
}

impl TensorBody for Reference {
    fn form(&self) -> TensorForm {
        self.form
    }
}

impl Drop for Reference {
    fn drop(&mut self) {
        if let Some(release) = HOST.get().and_then(|host| host.release) {
            // SAFETY: it is one of our references.
            unsafe { release(self.number as *mut CTensor) };
        }
    }
}

/// The tensor of a reference that was given to us.
///
/// # Errors
/// `Failed` for what is no tensor.
pub(super) fn own(reference: *mut CTensor) -> Result<Tensor> {
    let mut form =
        Form { size: size::<Form>(), frames: 0, frame_elements: 0, bytes: 0, dtype: 0, place: 0 };
    let ask = HOST.get().and_then(|host| host.form);
    // SAFETY: the host's own function; it looks the reference up.
    let known = ask.is_some_and(|ask| unsafe { ask(reference, &raw mut form) } == OK);
    if !known {
        return Err(Error::failed("the host gave no tensor"));
    }
    Ok(Tensor::new(Reference { number: reference as usize, form: form_from_c(&form) }))
}

/// A tensor of a reference that is the caller's: with one of our own.
///
/// # Errors
/// `Failed` for what is no tensor.
pub(super) fn share(reference: *const CTensor) -> Result<Tensor> {
    match HOST.get().and_then(|host| host.retain) {
        // SAFETY: the host's own function; it looks the reference up.
        Some(retain) => own(unsafe { retain(reference) }),
        None => Err(Error::failed("there is no host")),
    }
}

/// The reference behind a tensor; valid as long as the tensor.
///
/// # Errors
/// `Failed` for a tensor that is not of the host.
pub(super) fn reference(tensor: &Tensor) -> Result<*const CTensor> {
    tensor.body::<Reference>().map(|reference| reference.number as *const CTensor)
}

/// The references behind tensors; valid as long as those.
///
/// # Errors
/// `Failed` for a tensor that is not of the host.
pub(super) fn references(tensors: &[Tensor]) -> Result<Vec<*const CTensor>> {
    tensors.iter().map(reference).collect()
}

/// A reference for the host, which it releases.
///
/// # Errors
/// `Failed` for a tensor that is not of the host.
pub(super) fn give(tensor: &Tensor) -> Result<*mut CTensor> {
    let reference = reference(tensor)?;
    let retain = HOST.get().and_then(|host| host.retain);
    // SAFETY: the host's own function; it looks the reference up.
    Ok(retain.map_or(std::ptr::null_mut(), |retain| unsafe { retain(reference) }))
}

/// Writes a line to the host's log.
pub(super) fn log(level: LogLevel, line: &str) {
    if let Some(log) = HOST.get().and_then(|host| host.log) {
        let line = crate::c::convert::c_text(line);
        // SAFETY: the host's own function, with a text.
        unsafe { log(level as u32, line.as_ptr()) };
    }
}
