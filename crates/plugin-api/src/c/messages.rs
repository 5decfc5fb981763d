//! Messages, from the other side and to it. The two sides differ in how a tensor is found.

use std::ffi::c_void;

use super::convert::{c_text, entries, optional_text, size, sized};
use super::tables::{Answer, CTensor, Message};
use crate::guard::guard_host;
use crate::{Error, Message as PlainMessage, Result, Tensor};

/// Finds the tensor of a reference that is the sender's.
pub(super) type Find = fn(*const CTensor) -> Result<Tensor>;

/// A copy of a message.
///
/// # Safety
/// `message` is NULL or a message, with as many tensors as it says.
pub(super) unsafe fn message_from_c(message: *const Message, find: Find) -> Result<PlainMessage> {
    // SAFETY: promised by the caller, as are the others.
    let message = unsafe { sized(message, "message") }?;
    // SAFETY: as above.
    let document = unsafe { optional_text(message.document, "document") }?.unwrap_or_default();
    let tensors =
        // SAFETY: as above.
        unsafe { entries(message.tensors, message.tensor_count.into(), "tensors of a message") }?;
    let tensors = tensors.iter().map(|tensor| find(*tensor)).collect::<Result<_>>()?;
    Ok(PlainMessage { document, tensors })
}

/// Calls `with` with a message of the header that lasts for the call, as do the references.
pub(super) fn with_message<T>(
    document: &str,
    tensors: &[*const CTensor],
    with: impl FnOnce(&Message) -> T,
) -> T {
    let document = c_text(document);
    with(&Message {
        size: size::<Message>(),
        tensor_count: u32::try_from(tensors.len()).unwrap_or(u32::MAX),
        document: document.as_ptr(),
        tensors: tensors.as_ptr(),
    })
}

/// Gives the other side the answer that it waits for.
///
/// # Safety
/// `answer` is NULL or an answer, whose function takes a message.
pub(super) unsafe fn send(
    answer: *const Answer,
    document: &str,
    tensors: &[*const CTensor],
) -> Result<()> {
    // SAFETY: promised by the caller.
    let answer = unsafe { sized(answer, "answer") }?;
    let give = answer.give.ok_or_else(|| Error::failed("answer: NULL in the place of `give`"))?;
    // SAFETY: promised by the caller.
    with_message(document, tensors, |message| unsafe { give(answer.self_, message) });
    Ok(())
}

/// Waits for the answer of the other side.
pub(super) struct Awaited {
    find: Find,
    came: Option<Result<PlainMessage>>,
}

impl Awaited {
    pub(super) fn new(find: Find) -> Self {
        Self { find, came: None }
    }

    /// What the other side calls; this must stay where it is until then.
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
        self.came.unwrap_or_else(|| Err(Error::failed(format!("{id}: no answer came"))))
    }
}

unsafe extern "C" fn receive(awaited: *mut c_void, message: *const Message) {
    // SAFETY: it is what `answer` gave out, and the other side is still in its call.
    let awaited = unsafe { &mut *awaited.cast::<Awaited>() };
    // SAFETY: the header asks for a message.
    let came = guard_host("give", || unsafe { message_from_c(message, awaited.find) });
    awaited.came = Some(came);
}
