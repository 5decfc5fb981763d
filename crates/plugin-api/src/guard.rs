//! Runs an author's code and turns a panic into an error.

use std::any::Any;
use std::cell::{Cell, RefCell};
use std::panic::{AssertUnwindSafe, catch_unwind, set_hook, take_hook};
use std::sync::Once;

use crate::{Error, Result};

thread_local! {
    static GUARDED: Cell<bool> = const { Cell::new(false) };
    static PLACE: RefCell<String> = const { RefCell::new(String::new()) };
}

/// Calls `body`. A panic becomes an error of kind `Panicked` with the message and, in a library,
/// the source location.
pub(crate) fn guard<T>(id: &str, body: impl FnOnce() -> Result<T>) -> Result<T> {
    let outer = GUARDED.replace(true);
    let result = catch_unwind(AssertUnwindSafe(body)).unwrap_or_else(|payload| {
        let (place, text) = (PLACE.take(), text(&*payload).to_string());
        discard(payload);
        Err(Error::panicked(match place.as_str() {
            "" => format!("{id} panicked: {text}"),
            place => format!("{id} panicked at {place}: {text}"),
        }))
    });
    GUARDED.set(outer);
    result
}

/// Calls an operation of the host for a plugin. A panic there must not cross into the plugin either,
/// which may be of another compiler: it becomes an error of kind `Failed`.
pub(crate) fn guard_host<T>(operation: &str, body: impl FnOnce() -> Result<T>) -> Result<T> {
    catch_unwind(AssertUnwindSafe(body)).unwrap_or_else(|payload| {
        let text = text(&*payload).to_string();
        discard(payload);
        Err(Error::failed(format!("the host's operation {operation} panicked: {text}")))
    })
}

/// Drops what a panic carried, which may panic too, with another that does the same.
fn discard(payload: Box<dyn Any + Send>) {
    if let Err(another) = catch_unwind(AssertUnwindSafe(|| drop(payload))) {
        std::mem::forget(another);
    }
}

/// Installs a panic hook that prints nothing inside [`guard`]: the error has the message and the
/// location already. Other panics go to the previous hook.
///
/// For a plugin library alone, which has its own standard library, hence its own hook. A strategy
/// that is linked into a program shares the hook of that program, which stays as it is.
pub(crate) fn keep_library_quiet() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let previous = take_hook();
        set_hook(Box::new(move |info| {
            if GUARDED.get() {
                PLACE.set(info.location().map(ToString::to_string).unwrap_or_default());
            } else {
                previous(info);
            }
        }));
    });
}

fn text(payload: &(dyn Any + Send)) -> &str {
    let text = payload.downcast_ref::<&str>().copied();
    text.or_else(|| payload.downcast_ref::<String>().map(String::as_str)).unwrap_or("no message")
}

/// An author's object. A panic while it is dropped is caught as well.
pub(crate) struct Guarded<T>(Option<T>);

impl<T> Guarded<T> {
    pub(crate) fn new(object: T) -> Self {
        Self(Some(object))
    }

    pub(crate) fn get(&self) -> &T {
        self.0.as_ref().expect("taken only when dropped")
    }

    pub(crate) fn get_mut(&mut self) -> &mut T {
        self.0.as_mut().expect("taken only when dropped")
    }
}

impl<T> Drop for Guarded<T> {
    fn drop(&mut self) {
        let object = self.0.take();
        // Nobody receives the error.
        let _ = guard("drop", move || {
            drop(object);
            Ok(())
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ErrorKind;

    #[test]
    fn a_panic_becomes_an_error_and_in_a_library_with_its_place() {
        let panicked = || guard::<()>("me", || panic!("number {}", 7)).unwrap_err();
        // As a strategy that is linked into this program.
        let error = panicked();
        assert_eq!(error.kind, ErrorKind::Panicked);
        assert_eq!(error.message, "me panicked: number 7");
        // As one in a library.
        keep_library_quiet();
        let error = panicked();
        assert_eq!(error.kind, ErrorKind::Panicked);
        assert!(error.message.starts_with("me panicked at "), "{error}");
        assert!(error.message.contains("guard.rs:") && error.message.ends_with(": number 7"));
    }

    /// Panics while it is dropped, with another of its kind.
    struct Bomb;

    impl Drop for Bomb {
        fn drop(&mut self) {
            std::panic::panic_any(Self);
        }
    }

    #[test]
    fn a_payload_that_panics_while_it_is_dropped_goes_no_further() {
        let error = guard::<()>("me", || std::panic::panic_any(Bomb)).unwrap_err();
        assert_eq!(error.message, "me panicked: no message");
        let error = guard_host::<()>("cast", || std::panic::panic_any(Bomb)).unwrap_err();
        assert_eq!(error, Error::failed("the host's operation cast panicked: no message"));
        // A panic while an author's object is dropped reaches nobody.
        drop(Guarded::new(Bomb));
    }

    #[test]
    fn what_does_not_panic_passes_through() {
        assert_eq!(guard("me", || Ok(3)).unwrap(), 3);
        assert_eq!(guard::<()>("me", || Err(Error::cancelled())), Err(Error::cancelled()));
    }
}
