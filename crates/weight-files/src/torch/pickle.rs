//! A reader of pickled tensors that runs nothing.
//!
//! Python's `pickle.load` runs what a file tells it to. The machine here knows the operations that
//! `torch.save` writes for a dict of tensors (protocol 2), and makes four things: dicts, storages,
//! tensors, parameters. A name that is none of theirs ends the reading where it stands, before
//! anything is done with it.
//!
//! Operations: CPython 3.13, `Lib/pickle.py`; which of them occur, and the arguments of what is
//! called: torch 2.15, `torch/serialization.py` and `torch/_utils.py`.

mod calls;
mod globals;
mod objects;
mod operations;
mod stream;

use objects::{Objects, Span};
pub(super) use objects::{Storage, Tensor, Value};
use operations::Machine;

/// A pickle that was read.
pub(super) struct Pickle<'a> {
    bytes: &'a [u8],
    objects: Objects,
    /// The value that it is of.
    pub(super) top: Value,
}

impl<'a> Pickle<'a> {
    /// Reads a pickle.
    ///
    /// # Errors
    /// With the reason and the place, if it is no pickle of tensors.
    pub(super) fn read(bytes: &'a [u8]) -> Result<Self, String> {
        let (objects, top) = Machine::new(bytes).run()?;
        Ok(Self { bytes, objects, top })
    }

    /// The entries of all dicts: dict, key, value, in the order in which they were set.
    pub(super) fn entries(&self) -> impl Iterator<Item = (u32, Value, Value)> {
        self.objects.entries.iter().map(|entry| (entry.dict, entry.key, entry.value))
    }

    /// The characters of a text; empty for any that is not of this pickle.
    pub(super) fn text(&self, text: Span) -> &'a str {
        let bytes = self.bytes.get(text.range()).unwrap_or_default();
        std::str::from_utf8(bytes).unwrap_or_default()
    }

    /// The numbers of a tuple; none if it holds something else.
    pub(super) fn numbers(&self, tuple: Span) -> Option<Vec<i64>> {
        let number = |item: &Value| match item {
            Value::Integer(number) => Some(*number),
            _ => None,
        };
        self.objects.items(tuple).iter().map(number).collect()
    }

    /// Length of a tuple.
    pub(super) fn length(&self, tuple: Span) -> usize {
        self.objects.items(tuple).len()
    }

    pub(super) fn tensor(&self, number: u32) -> Option<Tensor> {
        self.objects.tensors.get(usize::try_from(number).ok()?).copied()
    }

    pub(super) fn storage(&self, number: u32) -> Option<Storage> {
        self.objects.storages.get(usize::try_from(number).ok()?).copied()
    }
}

#[cfg(test)]
mod tests;
