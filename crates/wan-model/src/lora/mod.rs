//! LoRAs: small files that change a transformer's weights.
//!
//! A file is read under every form of keys in circulation (`keys`), fitted to a transformer by its
//! own list of tensors (`targets`), and applied where a loader asks for a weight ([`Patched`]): the
//! weight stays as it is, with the changes beside it. When rows of it are widened to f32, all changes
//! are added in f32, and nothing is rounded back. So files in 8 bits or blocks lose nothing of a change
//! that is smaller than their steps.
//!
//! Sources: PEFT and diffusers 0.42.1 `lora_conversion_utils.py`; kohya and LyCORIS as ComfyUI reads
//! them (`lora.py`, `weight_adapter/*.py`); LightX2V f8aee98 `lora_loader.py`; musubi-tuner 30c658c.

mod change;
mod distilled;
mod file;
mod fitted;
mod header;
mod keys;
mod loaded;
mod patched;
mod targets;

pub use distilled::Distilled;
pub use file::{Lora, LoraFacts};
pub use fitted::{Expert, FittedLora};
pub use patched::Patched;

#[cfg(test)]
mod tests;
