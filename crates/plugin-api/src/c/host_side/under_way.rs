//! The calls into libraries that are under way on a thread: what the functions of `wan_ops` and
//! `wan_model` work on.

use std::cell::RefCell;
use std::marker::PhantomData;

use crate::{Denoise, Error, Result, TensorOps};

/// What a call may use.
#[derive(Clone, Copy)]
struct Call {
    ops: *const dyn TensorOps,
    model: Option<*mut dyn Denoise>,
}

thread_local! {
    static CALLS: RefCell<Vec<Call>> = const { RefCell::new(Vec::new()) };
}

/// A call that is under way until this is dropped.
pub(super) struct UnderWay<'a>(PhantomData<&'a mut dyn TensorOps>);

impl<'a> UnderWay<'a> {
    /// Begins a call that may use these.
    pub(super) fn new(ops: &'a dyn TensorOps, model: Option<&'a mut dyn Denoise>) -> Self {
        let model = model.map(std::ptr::from_mut);
        // SAFETY: what is pointed to lives as long as this guard, which removes the call.
        let call = unsafe {
            Call {
                ops: std::mem::transmute::<*const (dyn TensorOps + 'a), *const dyn TensorOps>(ops),
                model: model.map(|model| {
                    std::mem::transmute::<*mut (dyn Denoise + 'a), *mut dyn Denoise>(model)
                }),
            }
        };
        CALLS.with_borrow_mut(|calls| calls.push(call));
        Self(PhantomData)
    }
}

impl Drop for UnderWay<'_> {
    fn drop(&mut self) {
        CALLS.with_borrow_mut(|calls| calls.pop());
    }
}

fn call() -> Result<Call> {
    let call = CALLS.with_borrow(|calls| calls.last().copied());
    call.ok_or_else(|| {
        Error::failed("an operation was called outside of the call, or on another thread")
    })
}

/// Calls an operation for the library whose call is under way on this thread.
///
/// # Errors
/// `Failed` where none is, and the error of the operation.
pub(super) fn with_ops<T>(body: impl FnOnce(&dyn TensorOps) -> Result<T>) -> Result<T> {
    let call = call()?;
    // SAFETY: the call is under way, so its guard holds what this points to.
    body(unsafe { &*call.ops })
}

/// Calls the model for the library whose call is under way on this thread.
///
/// # Errors
/// `Failed` where none is, or it has no model, and the error of the model.
pub(super) fn with_model<T>(body: impl FnOnce(&mut dyn Denoise) -> Result<T>) -> Result<T> {
    let Some(model) = call()?.model else {
        return Err(Error::failed("the model was called outside of a step"));
    };
    // SAFETY: as above; while the model runs, this library waits for it, and a call into another one
    // is under way in its place.
    body(unsafe { &mut *model })
}
