//! What samplers, caches and solvers of a library in C have in common.

use std::ffi::c_void;

use super::handles::{Lent, get, references, take};
use super::ops::OPS;
use super::under_way::UnderWay;
use crate::c::convert::{c_text, no_error, outcome};
use crate::c::messages::{Awaited, with_message};
use crate::c::tables::{self, Extension};
use crate::{Error, Message, Result, Tensor, TensorOps};

pub(super) type Destroy = unsafe extern "C" fn(*mut c_void);

/// An object of a library, destroyed with this.
pub(super) struct Object {
    pub(super) id: String,
    pub(super) object: *mut c_void,
    destroy: Destroy,
}

// SAFETY: the header asks a library for objects that can be called from one thread after another.
unsafe impl Send for Object {}

impl Drop for Object {
    fn drop(&mut self) {
        // SAFETY: it is what `create` gave, and it is not used any more.
        unsafe { (self.destroy)(self.object) };
    }
}

impl Object {
    pub(super) fn new(id: &str, (object, destroy): (*mut c_void, Destroy)) -> Self {
        Self { id: id.into(), object, destroy }
    }

    /// Asks an extension.
    pub(super) fn extension(
        &self,
        function: Extension,
        (id, message): (&str, &Message),
        ops: &dyn TensorOps,
    ) -> Result<Message> {
        let Some(function) = function else {
            return Err(Error::unsupported(format!("{} has no extension {id}", self.id)));
        };
        let (mut awaited, mut error, name) = (Awaited::new(get), no_error(), c_text(id));
        let answer = awaited.answer();
        let lent: Vec<Lent> = message.tensors.iter().map(Lent::new).collect();
        let tensors = references(&lent);
        let under_way = UnderWay::new(ops, None);
        // SAFETY: everything lives until it returns.
        let answered = with_message(&message.document, &tensors, |question| unsafe {
            let (answer, ops) = (&raw const answer, &raw const OPS);
            function(self.object, name.as_ptr(), question, answer, ops, &raw mut error)
        });
        drop(under_way);
        outcome(answered, &error)?;
        awaited.take(id)
    }

    /// The tensor that a function of this object has given.
    pub(super) fn given(&self, function: &str, tensor: *mut tables::CTensor) -> Result<Tensor> {
        let named = |why: Error| Error::failed(format!("{function} of {}: {why}", self.id));
        take(tensor).map_err(named)
    }
}
