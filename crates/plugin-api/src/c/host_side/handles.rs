//! Tensors that a library refers to: numbers, which are looked up. So a reference that was released
//! already, or never was one, is an error.

use std::cell::RefCell;
use std::collections::HashMap;
use std::ffi::{c_char, c_void};
use std::sync::{LazyLock, Mutex, MutexGuard, PoisonError};

use crate::c::convert::{fill, form_to_c, size, text};
use crate::c::host_side::under_way;
use crate::c::tables::{CResult, CTensor, Form, Host, OK};
use crate::guard::guard_host;
use crate::library::log_line;
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
    /// What the library that is being opened on this thread has logged.
    static SAID: RefCell<Option<Vec<(LogLevel, String)>>> = const { RefCell::new(None) };
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
    let retained = guard_host("retain", || {
        let mut handles = handles();
        let held = handles.held.get_mut(&(reference as usize));
        held.ok_or_else(|| no_tensor(reference))?.references += 1;
        Ok(reference.cast_mut())
    });
    retained.unwrap_or(std::ptr::null_mut())
}

unsafe extern "C" fn release(reference: *mut CTensor) {
    let freed = guard_host("release", || {
        let mut handles = handles();
        let number = reference as usize;
        let Some(held) = handles.held.get_mut(&number) else { return Ok(()) };
        held.references -= 1;
        if held.references > 0 {
            return Ok(());
        }
        let gone = handles.held.remove(&number);
        // What is freed is none of the other threads' business.
        drop(handles);
        drop(gone);
        Ok(())
    });
    drop(freed);
}

unsafe extern "C" fn form(reference: *const CTensor, form: *mut Form) -> CResult {
    let written = guard_host("form", || {
        let found = form_to_c(get(reference)?.form());
        // SAFETY: the library gives a form, with its size, or NULL.
        unsafe { fill(form, &found, "form") }
    });
    written.map_or(ErrorKind::Failed as CResult, |()| OK)
}

/// Where no call is under way on the thread, the line goes to the host's log all the same, but for those
/// of a library that is being opened, which may have to say why it cannot be.
unsafe extern "C" fn log(level: u32, line: *const c_char) {
    let level = LogLevel::from_code(level);
    let logged = guard_host("log", || {
        // SAFETY: a text, as the header says.
        let line = unsafe { text(line, "log") }?;
        let by_call = under_way::with_ops(|ops| {
            ops.log(level, &line);
            Ok(())
        });
        by_call.or_else(|_| {
            let line = SAID.with_borrow_mut(|said| match said {
                Some(said) => {
                    said.push((level, line));
                    None
                }
                None => Some(line),
            });
            line.iter().for_each(|line| log_line(level, line));
            Ok(())
        })
    });
    // A line that cannot be written is nothing that a library could mend.
    drop(logged);
}

/// Opens a library on this thread; gives what it logged meanwhile as well.
pub(super) fn opening<T>(open: impl FnOnce() -> T) -> (T, Vec<(LogLevel, String)>) {
    SAID.set(Some(Vec::new()));
    let opened = open();
    (opened, SAID.take().unwrap_or_default())
}
