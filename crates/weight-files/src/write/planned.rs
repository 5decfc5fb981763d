//! The tensors that a header has promised, one after the other.

use std::collections::BTreeSet;
use std::io;

use crate::tensor_info::{TensorInfo, elements};

/// What is to be written yet: names, and how many bytes each tensor has.
pub(super) struct Planned {
    tensors: Vec<(String, u64)>,
    written: usize,
}

impl Planned {
    /// Fails for names that are there twice, and for shapes that no bytes hold.
    pub(super) fn new(tensors: &[TensorInfo]) -> io::Result<Self> {
        let mut names = BTreeSet::new();
        let mut planned = Vec::new();
        for TensorInfo { name, shape, encoding } in tensors {
            if !names.insert(name) {
                return Err(unfit(format!("tensor `{name}` is there twice")));
            }
            let bytes = elements(shape).and_then(|elements| encoding.bytes(elements));
            let bytes = bytes.ok_or_else(|| {
                let encoding = encoding.name();
                unfit(format!("tensor `{name}` of shape {shape:?} cannot be stored as {encoding}"))
            })?;
            planned.push((name.clone(), bytes));
        }
        Ok(Self { tensors: planned, written: 0 })
    }

    /// Bytes of every tensor, in order.
    pub(super) fn sizes(&self) -> impl Iterator<Item = u64> {
        self.tensors.iter().map(|(_, bytes)| *bytes)
    }

    /// Counts the next tensor as written; fails if it is not one of so many bytes.
    pub(super) fn next(&mut self, bytes: usize) -> io::Result<()> {
        let Some((name, expected)) = self.tensors.get(self.written) else {
            let all = self.tensors.len();
            return Err(unfit(format!("all {all} tensors are written, and another one comes")));
        };
        if *expected != bytes as u64 {
            return Err(unfit(format!("tensor `{name}` has {bytes} bytes, expected {expected}")));
        }
        self.written += 1;
        Ok(())
    }

    /// Fails if a tensor is missing.
    pub(super) fn finish(&self) -> io::Result<()> {
        match self.tensors.get(self.written) {
            Some((name, _)) => Err(unfit(format!(
                "{} of {} tensors are written, `{name}` is the next",
                self.written,
                self.tensors.len()
            ))),
            None => Ok(()),
        }
    }
}

/// An error for what a file of this format cannot hold, or what its header did not promise.
pub(super) fn unfit(reason: String) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, reason)
}
