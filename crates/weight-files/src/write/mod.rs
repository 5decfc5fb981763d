//! Files of tensors, written as they come: nothing but a header is held.

mod gguf;
mod planned;
mod safetensors;
#[cfg(test)]
mod tests;

pub use gguf::GgufWriter;
pub use safetensors::SafetensorsWriter;
