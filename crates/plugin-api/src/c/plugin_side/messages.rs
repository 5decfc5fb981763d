//! Messages, from the host and to it.

use std::ffi::c_void;

use super::host::{reference, share};
use crate::c::convert::{c_text, entries, optional_text, size, sized};
use crate::c::tables::{Answer, CTensor, Message};
use crate::{Error, Message as PlainMessage, Result};

/// A copy of a message.
///
/// # Safety
/// `message` is NULL or a message, with as many tensors as it says.
pub(super) unsafe fn message_from_c(message: *const Message) -> Result<PlainMessage> {
    // SAFETY: promised by the caller, as are the others.
    let message = unsafe { sized(message, "message") }?;
    // SAFETY: as above.
    let document = unsafe { optional_text(message.document, "document") }?.unwrap_or_default();
    let tensors =
        // SAFETY: as above.
        unsafe { entries(message.tensors, message.tensor_count.into(), "tensors of a message") }?;
    let tensors = tensors.iter().map(|tensor| share(*tensor)).collect::<Result<_>>()?;
    Ok(PlainMessage { document, tensors })
}

/// Calls `with` with a message of the header that lasts for the call.
///
/// # Errors
/// `Failed` for a tensor that is not of the host.
pub(super) fn with_message<T>(
    message: &PlainMessage,
    with: impl FnOnce(&Message) -> T,
) -> Result<T> {
    let document = c_text(&message.document);
    let tensors = message.tensors.iter().map(reference);
    let tensors: Vec<*const CTensor> = tensors.collect::<Result<_>>()?;
    Ok(with(&Message {
        size: size::<Message>(),
        tensor_count: u32::try_from(tensors.len()).unwrap_or(u32::MAX),
        document: document.as_ptr(),
        tensors: tensors.as_ptr(),
    }))
}

/// Gives the host the answer that it waits for.
///
/// # Safety
/// `answer` is NULL or an answer, whose function takes a message.
pub(super) unsafe fn send(answer: *const Answer, message: &PlainMessage) -> Result<()> {
    // SAFETY: promised by the caller.
    let answer = unsafe { sized(answer, "answer") }?;
    let give = answer.give.ok_or_else(|| Error::failed("answer: NULL in the place of `give`"))?;
    // SAFETY: promised by the caller.
    with_message(message, |message| unsafe { give(answer.self_, message) })
}

/// Waits for the answer of the host.
#[derive(Default)]
pub(super) struct Awaited(Option<Result<PlainMessage>>);

impl Awaited {
    /// What the host calls; this must stay where it is until then.
    pub(super) fn answer(&mut self) -> Answer {
        Answer {
            size: size::<Answer>(),
            reserved: 0,
            self_: std::ptr::from_mut(self).cast(),
            give: Some(receive),
        }
    }

    /// What came.
    pub(super) fn take(self, id: &str) -> Result<PlainMessage> {
        let none = || Err(Error::failed(format!("{id}: no answer came")));
        self.0.unwrap_or_else(none)
    }
}

unsafe extern "C" fn receive(awaited: *mut c_void, message: *const Message) {
    // SAFETY: it is what `answer` gave out, and the host is still in its call.
    let awaited = unsafe { &mut *awaited.cast::<Awaited>() };
    // SAFETY: the header asks for a message.
    awaited.0 = Some(unsafe { message_from_c(message) });
}
