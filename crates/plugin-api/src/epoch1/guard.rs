//! Runs an author's code so that a panic becomes an error instead of the end of the process.

use std::any::Any;
use std::cell::{Cell, RefCell};
use std::panic::{AssertUnwindSafe, catch_unwind, set_hook, take_hook};
use std::sync::Once;

use crate::{Error, Result};

thread_local! {
    static GUARDED: Cell<bool> = const { Cell::new(false) };
    static PLACE: RefCell<String> = const { RefCell::new(String::new()) };
}

/// Calls `body`; a panic in it becomes an error that says what, and in a library also where.
pub(super) fn guard<T>(id: &str, body: impl FnOnce() -> Result<T>) -> Result<T> {
    let outer = GUARDED.replace(true);
    let result = catch_unwind(AssertUnwindSafe(body));
    GUARDED.set(outer);
    result.unwrap_or_else(|payload| {
        let (place, text) = (PLACE.take(), text(&*payload));
        Err(Error::panicked(match place.as_str() {
            "" => format!("{id} panicked: {text}"),
            place => format!("{id} panicked at {place}: {text}"),
        }))
    })
}

/// Sets a panic hook that notes the place of a guarded panic and prints nothing: the error says
/// everything, and a report on the terminal would bury it. Other panics go to the hook before it.
///
/// For a library alone, which has a standard library of its own and so a hook of its own. A
/// strategy that is linked into a program shares that program's hook, which is not ours to set.
pub(super) fn keep_library_quiet() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let previous = take_hook();
        set_hook(Box::new(move |info| {
            if !GUARDED.get() {
                return previous(info);
            }
            let place = info.location().map(ToString::to_string);
            PLACE.set(place.unwrap_or_default());
        }));
    });
}

fn text(payload: &(dyn Any + Send)) -> &str {
    let text = payload.downcast_ref::<&str>().copied();
    text.or_else(|| payload.downcast_ref::<String>().map(String::as_str)).unwrap_or("no message")
}

/// An author's object; dropping it cannot panic either.
pub(super) struct Guarded<T>(Option<T>);

impl<T> Guarded<T> {
    pub(super) fn new(object: T) -> Self {
        Self(Some(object))
    }

    pub(super) fn get(&self) -> &T {
        self.0.as_ref().expect("taken only when dropped")
    }

    pub(super) fn get_mut(&mut self) -> &mut T {
        self.0.as_mut().expect("taken only when dropped")
    }
}

impl<T> Drop for Guarded<T> {
    fn drop(&mut self) {
        let object = self.0.take();
        // Nobody is left to tell.
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

    #[test]
    fn what_does_not_panic_passes_through() {
        assert_eq!(guard("me", || Ok(3)).unwrap(), 3);
        assert_eq!(guard::<()>("me", || Err(Error::cancelled())), Err(Error::cancelled()));
    }
}
