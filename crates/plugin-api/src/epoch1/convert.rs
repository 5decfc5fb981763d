//! Conversions between plain Rust types and those of the binary interface.

use abi_stable::std_types::{RErr, ROk};

use super::*;
use crate::{DType, Error, ErrorKind, Message, Place, Result, Tensor};

impl TensorForm {
    /// A form; `bytes` is what the handle keeps alive, which may differ from the elements
    /// times their size (repeated rows are held once).
    pub fn new(frames: u32, frame_elements: u64, dtype: DType, place: Place, bytes: u64) -> Self {
        Self { frames, frame_elements, bytes, dtype: dtype as u32, place: place as u32 }
    }

    /// Number format; `None` for one of a later epoch.
    pub fn dtype(&self) -> Option<DType> {
        DType::from_code(self.dtype)
    }

    /// Where it lies.
    pub fn place(&self) -> Place {
        if self.place == Place::Host as u32 { Place::Host } else { Place::Device }
    }

    /// Whether a tensor has as many frames, and as many elements in each.
    pub fn same_shape(&self, other: Self) -> bool {
        (self.frames, self.frame_elements) == (other.frames, other.frame_elements)
    }

    /// Elements of all frames.
    pub fn elements(&self) -> u64 {
        self.frames as u64 * self.frame_elements
    }
}

impl From<Error> for AbiError {
    fn from(error: Error) -> Self {
        Self { kind: error.kind as u32, message: error.message.into() }
    }
}

impl From<AbiError> for Error {
    fn from(error: AbiError) -> Self {
        Self { kind: ErrorKind::from_code(error.kind), message: error.message.into() }
    }
}

pub(super) fn to_abi<T, U>(result: Result<T>, map: impl FnOnce(T) -> U) -> AbiResult<U> {
    match result {
        Ok(value) => ROk(map(value)),
        Err(error) => RErr(error.into()),
    }
}

pub(super) fn from_abi<T>(result: AbiResult<T>) -> Result<T> {
    result.into_result().map_err(Error::from)
}

pub(super) fn handle(tensor: Tensor) -> TensorHandle {
    tensor.0
}

pub(super) fn message_to_abi(message: Message) -> AbiMessage {
    AbiMessage {
        document: message.document.into(),
        tensors: message.tensors.into_iter().map(handle).collect(),
    }
}

pub(super) fn message_from_abi(message: AbiMessage) -> Message {
    Message {
        document: message.document.into(),
        tensors: message.tensors.into_iter().map(Tensor).collect(),
    }
}

pub(super) fn to_json<T: Serialize>(value: &T) -> Result<RString> {
    serde_json::to_string(value)
        .map(RString::from)
        .map_err(|e| Error::failed(format!("cannot be written as JSON: {e}")))
}

pub(super) fn from_json<T: serde::de::DeserializeOwned>(what: &str, text: &str) -> Result<T> {
    serde_json::from_str(text).map_err(|e| Error::invalid(format!("{what}: {e}")))
}

pub(super) fn opaque<T>(value: &mut T) -> RMut<'_, T> {
    RMut::new(value)
}

pub(super) const BORROWED: TD_Opaque = TD_Opaque;
