//! Tensors that a library refers to: numbers, which are looked up. So a reference that was released
//! already, or never was one, is an error.

use std::cell::Cell;
use std::collections::HashMap;
use std::ffi::{c_char, c_void};
use std::sync::{LazyLock, Mutex, MutexGuard, PoisonError};

use crate::c::convert::{form_to_c, size, sized, text};
use crate::c::host_side::under_way;
use crate::c::tables::{CResult, CTensor, Form, Host, OK};
use crate::guard::guard_host;
use crate::{Error, ErrorKind, LogLevel, Result, Tensor, epoch1};

/// A tensor, and how many references there are.
struct Held {
    tensor: Tensor,
    references: usize,
}

#[derive(Default)]
struct Handles {
    held: HashMap<usize, Held>,
    last: usize,
}

thread_local! {
    static SAID: Cell<String> = const { Cell::new(String::new()) };
}

static HANDLES: LazyLock<Mutex<Handles>> = LazyLock::new(Mutex::default);

fn handles() -> MutexGuard<'static, Handles> {
    HANDLES.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The tables that every library is given.
pub(super) static HOST: Host = Host {
    size: size::<Host>(),
    epoch: epoch1::NUMBER,
    retain: Some(retain),
    release: Some(release),
    form: Some(form),
    log: Some(log),
};

/// A reference for the library, which releases it.
pub(super) fn give(tensor: Tensor) -> *mut CTensor {
    let mut handles = handles();
    handles.last += 1;
    let number = handles.last;
    handles.held.insert(number, Held { tensor, references: 1 });
    number as *mut c_void
}

/// The tensor that a library refers to.
///
/// # Errors
/// `Failed` for what is no reference.
pub(super) fn get(reference: *const CTensor) -> Result<Tensor> {
    let held = handles();
    match held.held.get(&(reference as usize)) {
        Some(held) => Ok(held.tensor.clone()),
        None => Err(no_tensor(reference)),
    }
}

/// The tensor that a library hands over with its reference.
///
/// # Errors
/// `Failed` for what is no reference.
pub(super) fn take(reference: *mut CTensor) -> Result<Tensor> {
    let tensor = get(reference)?;
    // SAFETY: it is a number, which is looked up.
    unsafe { release(reference) };
    Ok(tensor)
}

fn no_tensor(reference: *const CTensor) -> Error {
    Error::failed(match reference.is_null() {
        true => "NULL in the place of a tensor".into(),
        false => format!("{reference:p} is no tensor, or one that was released"),
    })
}

/// A reference that lasts for a call.
pub(super) struct Lent(*mut CTensor);

impl Lent {
    pub(super) fn new(tensor: &Tensor) -> Self {
        Self(give(tensor.clone()))
    }

    pub(super) fn get(&self) -> *const CTensor {
        self.0
    }
}

/// The references of tensors that are lent.
pub(super) fn references(lent: &[Lent]) -> Vec<*const CTensor> {
    lent.iter().map(Lent::get).collect()
}

impl Drop for Lent {
    fn drop(&mut self) {
        // SAFETY: it is a number, which is looked up.
        unsafe { release(self.0) };
    }
}

unsafe extern "C" fn retain(reference: *const CTensor) -> *mut CTensor {
    let mut handles = handles();
    match handles.held.get_mut(&(reference as usize)) {
        Some(held) => held.references += 1,
        None => return std::ptr::null_mut(),
    }
    reference.cast_mut()
}

unsafe extern "C" fn release(reference: *mut CTensor) {
    let mut handles = handles();
    let number = reference as usize;
    let Some(held) = handles.held.get_mut(&number) else { return };
    held.references -= 1;
    if held.references > 0 {
        return;
    }
    let gone = handles.held.remove(&number);
    // What is freed is none of the other threads' business.
    drop(handles);
    let freed = guard_host("release", || {
        drop(gone);
        Ok(())
    });
    drop(freed);
}

unsafe extern "C" fn form(reference: *const CTensor, form: *mut Form) -> CResult {
    // SAFETY: the library gives a form, with its size, or NULL.
    let fits = unsafe { sized(form.cast_const(), "form") }.is_ok();
    match guard_host("form", || get(reference).map(|tensor| tensor.form())) {
        Ok(found) if fits => {
            // SAFETY: it has all members.
            unsafe { form.write(form_to_c(found)) };
            OK
        }
        _ => ErrorKind::Failed as CResult,
    }
}

unsafe extern "C" fn log(level: u32, line: *const c_char) {
    // SAFETY: a text, as the header says.
    let Ok(line) = (unsafe { text(line, "log") }) else { return };
    // A panic of the host's log must not reach the library either.
    let logged = guard_host("log", || {
        under_way::with_ops(|ops| {
            ops.log(LogLevel::from_code(level), &line);
            Ok(())
        })
    });
    if logged.is_err() {
        SAID.set(line);
    }
}

/// What the library that is being opened on this thread has logged last.
pub(super) fn said() -> String {
    SAID.take()
}
